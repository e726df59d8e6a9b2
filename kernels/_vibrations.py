"""How the probe vibrates where it rests: stiffness, energies of its modes, inelastic tunnelling."""

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._constants import NEWTON_PER_METRE
from twinscope.kernels._types import ArrayLike
from twinscope.kernels._volume import is_known

# hbar² / u in eV² per eV/Å², of CODATA 2018: 1.054571817e-34 J s, 1.66053906660e-27 kg, 1.602176634e-19 J/eV.
_QUANTUM = 4.180159e-3
# u: the mass that the probe-particle literature gives to the oxygen of CO.
OXYGEN_MASS = 16.0


def stiffness_eigenvalues(hessian: ArrayLike) -> jax.Array:
    """Principal stiffnesses of the probe.

    Parameters
    ----------
    hessian
        Second derivatives of the energy, in eV/Å², shape (..., 3, 3), as
        :func:`~twinscope.kernels.probe_properties` gives them. Only the symmetric part counts.

    Returns
    -------
    jax.Array
        Eigenvalues in eV/Å², ascending, shape (..., 3): two soft lateral modes and the stiff one along the bond. One
        below zero says that the probe does not rest in a minimum.

    Raises
    ------
    ValueError
        When `hessian` has another shape.
    """
    return jnp.linalg.eigvalsh(_checked(hessian))


def vibration_energies(hessian: ArrayLike, mass: ArrayLike = OXYGEN_MASS) -> jax.Array:
    """Quanta of the probe's three vibrations, ``E = hbar sqrt(K / mass)``.

    Parameters
    ----------
    hessian
        As for :func:`stiffness_eigenvalues`.
    mass
        Of what vibrates, in u. The default is the oxygen of CO; a frustrated translation of the whole molecule has 28.

    Returns
    -------
    jax.Array
        eV, ascending, shape (..., 3). NaN where a stiffness is negative: no vibration is bound there.

    Raises
    ------
    ValueError
        When `hessian` has another shape or the mass is not positive.
    """
    if is_known(mass) and not (np.isfinite(mass) & (np.asarray(mass) > 0)).all():
        raise ValueError(f"mass is {mass} u: expected a positive number")
    stiffness = stiffness_eigenvalues(hessian)
    return jnp.sqrt(_QUANTUM * stiffness / mass)


def inelastic_signal(energies: ArrayLike, bias: ArrayLike, width: float = 0.001) -> jax.Array:
    """Inelastic electron tunnelling spectrum d²I/dV² of the probe's vibrations.

    Every mode adds a peak at the bias that starts to excite it, and a dip at the opposite bias
    (Hapala et al., Phys. Rev. Lett. 113, 226101 (2014))::

        signal(V) = sum_i G(E_i - e V) - G(E_i + e V)      G(x) = exp(-x² / (2 width²))

    Parameters
    ----------
    energies
        Quanta of the modes, in eV, shape (..., modes), as :func:`vibration_energies` gives them.
    bias
        V, a number or shape (nv,).
    width
        Standard deviation of a peak, in eV.

    Returns
    -------
    jax.Array
        In units of one mode's peak, shape (...) or (nv, ...). NaN where an energy is.

    Raises
    ------
    ValueError
        When the bias has more than one axis, `energies` has none, or the width is not positive.
    """
    if is_known(width) and not (np.isfinite(width) and width > 0):
        raise ValueError(f"width is {width} eV: expected a positive number")
    if np.ndim(bias) > 1:
        raise ValueError(f"bias has shape {np.shape(bias)}: expected a number or (nv,)")
    if np.ndim(energies) == 0:
        raise ValueError("energies is a single number: expected shape (..., modes)")
    energies = jnp.asarray(energies)

    def at(voltage: jax.Array) -> jax.Array:
        peaks = jnp.exp(-(((energies - voltage) / width) ** 2) / 2)
        dips = jnp.exp(-(((energies + voltage) / width) ** 2) / 2)
        return jnp.sum(peaks - dips, axis=-1)

    bias = jnp.asarray(bias, jnp.result_type(energies, jnp.float32))
    # One voltage after the other: a spectrum over a large image would not fit into memory three times over.
    return at(bias) if bias.ndim == 0 else jax.lax.map(at, bias)


def lateral_stiffness(hessian: ArrayLike) -> jax.Array:
    """Effective stiffness against a slow sideways pull, while the probe is free to follow along z.

    Energy that has been minimised over z has the Schur complement of the zz component as its Hessian,
    ``H_ij - H_iz H_zj / H_zz`` with i, j = x, y. Its eigenvalues are what a lateral force works against; they are never
    above those of the plain xy block, which would hold for a probe that is fixed in z.

    Parameters
    ----------
    hessian
        As for :func:`stiffness_eigenvalues`.

    Returns
    -------
    jax.Array
        N/m, as spring constants are quoted, ascending, shape (..., 2). NaN where the probe is not stable along z.

    Raises
    ------
    ValueError
        When `hessian` has another shape.
    """
    hessian = _checked(hessian)
    hessian = (hessian + jnp.swapaxes(hessian, -1, -2)) / 2
    along = hessian[..., 2, 2]
    stable = along > 0
    coupling = hessian[..., :2, 2]
    followed = coupling[..., :, None] * coupling[..., None, :] / jnp.where(stable, along, 1)[..., None, None]
    eigenvalues = jnp.linalg.eigvalsh(hessian[..., :2, :2] - followed)
    return jnp.where(stable[..., None], eigenvalues, jnp.nan) / NEWTON_PER_METRE


def _checked(hessian: ArrayLike) -> jax.Array:
    if np.shape(hessian)[-2:] != (3, 3):
        raise ValueError(f"hessian has shape {np.shape(hessian)}: expected (..., 3, 3)")
    return jnp.asarray(hessian)
