"""Bond-resolved STM: tunnelling through a probe particle that moves, by Chen's derivative rules."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf

from twinscope.kernels._checks import check_displacement, check_grid, check_tip
from twinscope.kernels._grid_energy import check_reach
from twinscope.kernels._orbitals import GridOrbitals, Orbitals
from twinscope.kernels._spring import Spring
from twinscope.kernels._types import ArrayLike, ScanGrid, Tip
from twinscope.kernels._volume import is_known

# Points evaluated together: all orbitals of a tile fit into memory many times.
_TILE = 4096


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TipOrbitals:
    """What electrons tunnel through on the probe; the parts of the current add up.

    Attributes
    ----------
    s, p, pz
        Weights of the s orbital, of each lateral p orbital (p_x and p_y, the pi orbitals of CO), and of p_z. The
        default is s alone. Krejčí et al. describe CO by some s and more p.
    decay
        1/Å, of the orbitals of the tip into the vacuum; it makes p of the same kind as s.
    """

    s: ArrayLike = 1.0
    p: ArrayLike = 0.0
    pz: ArrayLike = 0.0
    decay: ArrayLike = 1.0


def orbital_weights(
    energies: ArrayLike,
    bias: ArrayLike,
    width: ArrayLike = 0.1,
    *,
    signal: Literal["current", "conductance"] = "current",
    line: Literal["lorentzian", "gaussian"] = "lorentzian",
) -> jax.Array:
    """How much every orbital takes part, shape (m,), at a bias in V.

    For the differential conductance it is the orbital's line at the bias, in 1/eV: half of its full width at half
    maximum (Lorentzian) or its standard deviation (Gaussian) is `width`, in eV. For the current it is the part of the
    line between the Fermi level and the bias; negative where the bias is.

    Raises
    ------
    ValueError
        When the width is not positive, or a name is unknown.
    """
    if is_known(width) and not (np.isfinite(width) and width > 0):
        raise ValueError(f"width is {width} eV: expected a positive number")
    if (signal, line) not in _LINES:
        raise ValueError(f"signal={signal!r} and line={line!r}: expected one of {sorted(_LINES)}")
    energies = jnp.asarray(energies, jnp.result_type(jnp.asarray(energies), jnp.float32))
    return _LINES[signal, line](energies, bias, width)


_LINES: dict[tuple[str, str], Callable[[jax.Array, ArrayLike, ArrayLike], jax.Array]] = {
    ("conductance", "lorentzian"): lambda e, v, w: w / jnp.pi / ((v - e) ** 2 + w**2),
    ("conductance", "gaussian"): lambda e, v, w: jnp.exp(-(((v - e) / w) ** 2) / 2) / (w * np.sqrt(2 * np.pi)),
    ("current", "lorentzian"): lambda e, v, w: (jnp.arctan((v - e) / w) + jnp.arctan(e / w)) / jnp.pi,
    ("current", "gaussian"): lambda e, v, w: (erf((v - e) / w / np.sqrt(2)) + erf(e / w / np.sqrt(2))) / 2,
}


def tunnelling_image(
    orbitals: Orbitals, weights: ArrayLike, through: TipOrbitals, tip: Tip, grid: ScanGrid, displacement: ArrayLike
) -> jax.Array:
    """Tunnelling signal through the relaxed probe.

    Chen's rules (Phys. Rev. B 42, 8841 (1990)) give each channel's matrix element as the orbital, or its derivative, at
    the probe; used on a relaxed probe particle as by Krejčí et al., Phys. Rev. B 95, 045407 (2017)::

        sum_i w_i (s |psi_i|² + p (|d psi_i/dx|² + |d psi_i/dy|²) / decay² + pz |d psi_i/dz|² / decay²)

    With s alone it is the local density of states of Tersoff and Hamann. The probe's orbitals do not turn with it.

    Parameters
    ----------
    orbitals
        :class:`GridOrbitals` or :class:`PiOrbitals`.
    weights
        Of the orbitals, shape (m,), from :func:`orbital_weights`.
    through
        What electrons tunnel through on the probe.
    tip, grid
        As for :func:`~twinscope.kernels.simulate`.
    displacement
        Of the probe from its rest position, in Å, shape (nz, ny, nx, 3), as :func:`~twinscope.kernels.simulate` gives
        it. Zeros are the image of a stiff tip.

    Returns
    -------
    jax.Array
        In the unit of the weights times that of the orbitals squared, shape (nz, ny, nx).

    Raises
    ------
    ValueError
        When the probe leaves the grid of the orbitals or shapes do not fit.
    """
    check_tip(tip)
    check_grid(grid)
    shape = (len(grid.z), len(grid.y), len(grid.x))
    check_displacement(displacement, (*shape, 3))
    if np.shape(weights) != np.shape(orbitals.energies):
        raise ValueError(
            f"weights have shape {np.shape(weights)} for orbitals of {np.shape(orbitals.energies)}: expected one each"
        )
    displacement = jnp.asarray(displacement)
    dtype = jnp.result_type(displacement, jnp.float32)
    rest = Spring.of(tip, dtype).rest
    z, y, x = jnp.meshgrid(*(jnp.asarray(axis, dtype) for axis in (grid.z, grid.y, grid.x)), indexing="ij")
    points = jnp.stack([part + rest[i] + displacement[..., i] for i, part in enumerate((x, y, z))]).reshape(3, -1)
    if isinstance(orbitals, GridOrbitals) and is_known(points):
        check_reach(orbitals.grid, points.min(axis=1), points.max(axis=1))
    return _signal(orbitals, jnp.asarray(weights, dtype), through, points).reshape(shape)


@jax.jit
def _signal(orbitals: Orbitals, weights: jax.Array, through: TipOrbitals, points: jax.Array) -> jax.Array:
    count = points.shape[1]
    size = min(_TILE, count)
    tiles = jnp.pad(points, ((0, 0), (0, -count % size)), mode="edge").reshape(3, -1, size).swapaxes(0, 1)
    p, pz = through.p / through.decay**2, through.pz / through.decay**2
    channels = jnp.stack([jnp.asarray(weight, points.dtype) for weight in (through.s, p, p, pz)])

    def of_tile(tile: jax.Array) -> jax.Array:
        return jnp.einsum(
            "k,m,kmn->n", channels, weights, orbitals.amplitudes(tile) ** 2, precision=jax.lax.Precision.HIGHEST
        )

    return jax.lax.map(of_tile, tiles).reshape(-1)[:count]
