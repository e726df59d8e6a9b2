"""The terms of the force field: each gives force and Hessian at many points at once.

A *term* is a pytree with one method, ``force_and_hessian(points)``. Points are (3, n) arrays; a
Hessian is a tuple of its six independent components ``(xx, xy, xz, yy, yz, zz)``, each of shape (n,). Separate
components instead of one (n, 3, 3) array are what XLA turns into fast code on CPU.
"""

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._constants import COULOMB
from twinscope.kernels._elements import atomic_number, mixed_coefficients
from twinscope.kernels._types import Atoms, Tip

Vector = tuple[jax.Array, jax.Array, jax.Array]
Hessian = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]

# Sites that only fill an array up to its bucket stand here (Å) with all coefficients zero.
_NOWHERE = (0.0, 0.0, -1000.0)


class Term(Protocol):
    """Anything that pulls at the probe particle."""

    def force_and_hessian(self, points: jax.Array) -> tuple[Vector, Hessian]:
        """Force on the probe (eV/Å) and Hessian of the energy (eV/Å²) at points (3, n) in Å."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PairSites:
    """Sites with the pair energy ``c12 / r**12 - c6 / r**6 + coulomb / r``.

    Attributes
    ----------
    positions
        Å, shape (m, 3).
    c6, c12, coulomb
        eV Å⁶, eV Å¹² and eV Å, shape (m,).
    """

    positions: jax.Array
    c6: jax.Array
    c12: jax.Array
    coulomb: jax.Array

    def force_and_hessian(self, points: jax.Array) -> tuple[Vector, Hessian]:
        """Sum over all sites; see :class:`Term`.

        With s = r² and E(s), force and Hessian need only the two radial arrays g = 2 E'(s) and h = 4 E''(s). All
        nine sums over sites are then two matrix products of g and h with the monomials of the site coordinates.
        Written as nine sums, XLA would evaluate the radial function nine times.
        """
        # Monomials of coordinates lose digits far from the origin, so it is moved to the middle of the sites: points
        # far from there feel next to nothing. Sites that only fill the array up do not count.
        acting = (self.c12 != 0) | (self.coulomb != 0)
        origin = jnp.sum(jnp.where(acting[:, None], self.positions, 0), axis=0) / jnp.maximum(jnp.sum(acting), 1)
        x, y, z = points - origin[:, None]
        sites = self.positions - origin
        sx, sy, sz = sites[:, 0], sites[:, 1], sites[:, 2]

        s = (x - sx[:, None]) ** 2 + (y - sy[:, None]) ** 2 + (z - sz[:, None]) ** 2
        u = 1 / s
        u3 = u * u * u
        dispersion = self.c6[:, None] * u3
        repulsion = self.c12[:, None] * u3 * u3
        charge = self.coulomb[:, None] * jnp.sqrt(u)
        g = u * (6 * dispersion - 12 * repulsion - charge)
        h = u * u * (168 * repulsion - 48 * dispersion + 3 * charge)

        one = jnp.ones_like(sx)
        monomials = jnp.stack([one, sx, sy, sz, sx * sx, sx * sy, sx * sz, sy * sy, sy * sz, sz * sz])
        # The highest precision keeps TF32 out: three digits would ruin an image.
        highest = jax.lax.Precision.HIGHEST
        g0, gx, gy, gz = jnp.matmul(monomials[:4], g, precision=highest)
        h0, hx, hy, hz, hxx, hxy, hxz, hyy, hyz, hzz = jnp.matmul(monomials, h, precision=highest)

        force = (gx - x * g0, gy - y * g0, gz - z * g0)
        hessian = (
            x * (x * h0 - 2 * hx) + hxx + g0,
            x * (y * h0 - hy) - y * hx + hxy,
            x * (z * h0 - hz) - z * hx + hxz,
            y * (y * h0 - 2 * hy) + hyy + g0,
            y * (z * h0 - hz) - z * hy + hyz,
            z * (z * h0 - 2 * hz) + hzz + g0,
        )
        return force, hessian


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Plane:
    """A flat surface, filled with Lennard-Jones atoms from its height down: the "9-3" wall.

    The pair energy ``c12 / r**12 - c6 / r**6`` summed over a half-space of number density n gives
    ``pi n (c12 / (45 h**9) - c6 / (6 h**3))`` at the height h above it (Israelachvili, Intermolecular and Surface
    Forces, 3rd ed., sec. 11.1; Steele, Surf. Sci. 36, 317 (1973)).

    Attributes
    ----------
    height
        z of the surface, in Å.
    c3, c9
        eV Å³ and eV Å⁹ in ``E = c9 / h**9 - c3 / h**3``.
    """

    height: jax.Array | float
    c3: jax.Array | float
    c9: jax.Array | float

    @classmethod
    def of(cls, element: int | str, density: float, height: float, probe: int | str) -> "Plane":
        """Surface of an element with `density` atoms per Å³ below `height` (Å), seen by a probe particle.

        Raises
        ------
        ValueError
            When an element is unknown or the density is not positive.
        """
        if not density > 0:
            raise ValueError(f"surface density is {density!r} atoms per Å³: expected a positive number")
        c6, c12 = mixed_coefficients(np.array([atomic_number(element)]), atomic_number(probe))
        return cls(height, float(np.pi * density * c6[0] / 6), float(np.pi * density * c12[0] / 45))

    def force_and_hessian(self, points: jax.Array) -> tuple[Vector, Hessian]:
        """See :class:`Term`."""
        u = 1 / (points[2] - self.height)
        u3 = u * u * u
        nothing = jnp.zeros_like(u)
        force_z = u * (9 * self.c9 * u3 * u3 * u3 - 3 * self.c3 * u3)
        curvature = u * u * (90 * self.c9 * u3 * u3 * u3 - 12 * self.c3 * u3)
        return (nothing, nothing, force_z), (nothing,) * 5 + (curvature,)


def pair_sites(atoms: Atoms, tip: Tip) -> PairSites:
    """List every pair interaction between a sample and the probe particle, as sites around the probe.

    Periodic images are written out. A tip charge at the height z below or above the probe is the same as a charge on
    the probe and all sample charges moved by -z, so each such charge adds one more copy of the charged atoms. The list
    is filled up to a bucket size, so that samples of similar size share one compilation.
    """
    dtype = jnp.result_type(atoms.positions, jnp.float32)
    numbers = np.asarray(atoms.numbers)
    positions = jnp.asarray(atoms.positions, dtype)
    charges = jnp.zeros(len(numbers), dtype) if atoms.charges is None else jnp.asarray(atoms.charges, dtype)
    c6, c12 = mixed_coefficients(numbers, atomic_number(tip.element))

    shifts = _image_shifts(atoms)
    positions = (positions + jnp.asarray(shifts, dtype)[:, None, :]).reshape(-1, 3)
    charges = jnp.tile(charges, len(shifts))
    c6, c12 = np.tile(c6, len(shifts)), np.tile(c12, len(shifts))

    nothing = jnp.zeros_like(charges)
    on_probe = [charge for charge, height in tip.charges if height == 0]
    coulomb = COULOMB * charges * sum(on_probe) if on_probe else nothing
    blocks = [PairSites(positions, jnp.asarray(c6, dtype), jnp.asarray(c12, dtype), coulomb)]
    if atoms.charges is not None:
        for charge, height in tip.charges:
            if height != 0:
                moved = positions - jnp.asarray((0, 0, height), dtype)
                blocks.append(PairSites(moved, nothing, nothing, COULOMB * charge * charges))
    joined = jax.tree.map(lambda *parts: jnp.concatenate(parts), *blocks)
    return _filled_up(joined, bucket(len(joined.c6)))


def bucket(count: int, smallest: int = 16) -> int:
    """Round a count up to 16, 24, 32, 48, 64, 96, ...: few sizes, and at most a third is waste."""
    size = smallest
    while size < count:
        size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
    return size


def _image_shifts(atoms: Atoms) -> np.ndarray:
    """Return the translations (m, 3) of the periodic images, in Å, the cell itself included."""
    if atoms.cell is None:
        return np.zeros((1, 3))
    ranges = [np.arange(-n, n + 1) for n in atoms.periodic_images]
    counts = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    return counts @ np.asarray(atoms.cell, dtype=float)


def _filled_up(sites: PairSites, size: int) -> PairSites:
    missing = size - len(sites.c6)
    nowhere = jnp.broadcast_to(jnp.asarray(_NOWHERE, sites.positions.dtype), (missing, 3))
    return PairSites(
        jnp.concatenate([sites.positions, nowhere]),
        *(jnp.pad(values, (0, missing)) for values in (sites.c6, sites.c12, sites.coulomb)),
    )
