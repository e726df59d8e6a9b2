"""Lennard-Jones and point charges: the pair interactions of the plain probe-particle model."""

from dataclasses import dataclass
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._constants import COULOMB
from twinscope.kernels._mixing import lennard_jones_coefficients
from twinscope.kernels._pairs import NOWHERE, bucket, squared_distances, sum_over_sites
from twinscope.kernels._terms import Hessian, Term, TermSum, Vector
from twinscope.kernels._types import ArrayLike, Atoms, Tip


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

    positions: ArrayLike
    c6: ArrayLike
    c12: ArrayLike
    coulomb: ArrayLike

    def energy(self, points: jax.Array) -> jax.Array:
        """Sum over all sites; see :class:`~twinscope.kernels.Term`."""
        u = 1 / squared_distances(points, self.positions)
        u3 = u * u * u
        c6, c12, coulomb = self.c6[:, None], self.c12[:, None], self.coulomb[:, None]
        return jnp.sum((c12 * u3 - c6) * u3 + coulomb * jnp.sqrt(u), axis=0)

    def force_and_hessian(self, points: jax.Array) -> tuple[Vector, Hessian]:
        """Sum over all sites; see :class:`~twinscope.kernels.Term`."""
        return sum_over_sites(points, self.positions, (self.c12 != 0) | (self.coulomb != 0), self._radial)

    def _radial(self, s: jax.Array) -> tuple[jax.Array, jax.Array]:
        u = 1 / s
        u3 = u * u * u
        dispersion = self.c6[:, None] * u3
        repulsion = self.c12[:, None] * u3 * u3
        charge = self.coulomb[:, None] * jnp.sqrt(u)
        g = u * (6 * dispersion - 12 * repulsion - charge)
        h = u * u * (168 * repulsion - 48 * dispersion + 3 * charge)
        return g, h


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ChargeSites:
    """Sites with the pair energy ``coulomb / r``.

    Attributes
    ----------
    positions
        Å, shape (m, 3).
    coulomb
        eV Å, shape (m,).
    """

    positions: ArrayLike
    coulomb: ArrayLike

    def energy(self, points: jax.Array) -> jax.Array:
        """Sum over all sites; see :class:`~twinscope.kernels.Term`."""
        return jnp.sum(self.coulomb[:, None] * jax.lax.rsqrt(squared_distances(points, self.positions)), axis=0)

    def force_and_hessian(self, points: jax.Array) -> tuple[Vector, Hessian]:
        """Sum over all sites; see :class:`~twinscope.kernels.Term`."""
        return sum_over_sites(points, self.positions, self.coulomb != 0, self._radial)

    def _radial(self, s: jax.Array) -> tuple[jax.Array, jax.Array]:
        u = 1 / s
        charge = self.coulomb[:, None] * jnp.sqrt(u) * u
        return -charge, 3 * u * charge


def pair_terms(atoms: Atoms, tip: Tip, *, lennard_jones: bool = True) -> TermSum:
    """List the pair interactions between a sample and the probe particle.

    Periodic images are written out. A tip charge at the height z below or above the probe is the same as a charge on
    the probe and all sample charges moved by -z, so each such charge adds one more copy of the charged atoms. Lists
    are filled up to a bucket size, so that samples of similar size share one compilation.

    Parameters
    ----------
    atoms, tip
        Sample and probe.
    lennard_jones
        False for the charges alone.

    Returns
    -------
    TermSum
        :class:`PairSites`, the atoms with what acts on the probe itself, and :class:`ChargeSites` when tip charges sit
        above or below the probe.
    """
    np_ = _namespace(atoms.positions, atoms.charges, atoms.lennard_jones, atoms.cell, tip)
    dtype = jnp.result_type(atoms.positions, jnp.float32)
    shifts = _image_shifts(atoms, np_)
    positions = (np_.asarray(atoms.positions)[None] + shifts[:, None, :]).reshape(-1, 3)
    count = len(positions)

    def of_every_image(values: ArrayLike) -> ArrayLike:
        return np_.tile(np_.asarray(values), len(shifts))

    nothing = np_.zeros(count)
    charges = None if atoms.charges is None or not tip.charges else of_every_image(atoms.charges)
    terms: list[Term] = []
    on_probe = [charge for charge, height in tip.charges if _is_zero(height)]
    beside = [(charge, height) for charge, height in tip.charges if not _is_zero(height)]
    if lennard_jones or (on_probe and charges is not None):
        c6 = c12 = nothing
        if lennard_jones:
            c6, c12 = map(of_every_image, lennard_jones_coefficients(atoms, tip))
        coulomb = nothing if charges is None or not on_probe else COULOMB * charges * sum(on_probe)
        terms.append(PairSites(*_filled_up(np_, dtype, positions, c6, c12, coulomb)))
    if beside and charges is not None:
        moved = np_.concatenate([positions - np_.asarray((0, 0, 1)) * height for _, height in beside])
        coulomb = np_.concatenate([COULOMB * charge * charges for charge, _ in beside])
        terms.append(ChargeSites(*_filled_up(np_, dtype, moved, coulomb)))
    return TermSum(tuple(terms))


def _namespace(*values: ArrayLike) -> ModuleType:
    """NumPy for what is known, which saves the launch of many small computations; JAX for the rest."""
    return jnp if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(values)) else np


def _is_zero(height: ArrayLike) -> bool:
    # A traced height is not known: it gets copies of its own, which is right for zero as well.
    return not isinstance(height, jax.core.Tracer) and height == 0


def _image_shifts(atoms: Atoms, np_: ModuleType) -> ArrayLike:
    """Return the translations (m, 3) of the periodic images, in Å, the cell itself included."""
    if atoms.cell is None:
        return np.zeros((1, 3))
    ranges = [np.arange(-n, n + 1) for n in atoms.periodic_images]
    counts = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    return counts @ np_.asarray(atoms.cell)


def _filled_up(np_: ModuleType, dtype: jnp.dtype, positions: ArrayLike, *values: ArrayLike) -> list[ArrayLike]:
    missing = bucket(len(positions)) - len(positions)
    nowhere = np.broadcast_to(np.asarray(NOWHERE), (missing, 3))
    filled = [np_.concatenate([positions, nowhere]), *(np_.pad(value, (0, missing)) for value in values)]
    return [np_.asarray(value, dtype) for value in filled]
