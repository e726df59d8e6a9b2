"""Lennard-Jones and point charges: the pair interactions of the plain probe-particle model."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._constants import COULOMB
from twinscope.kernels._images import filled_up, image_shifts, namespace, precision
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
        root = jax.lax.rsqrt(s)
        u = root * root
        u3 = u * u * u
        dispersion = self.c6[:, None] * u3
        repulsion = self.c12[:, None] * u3 * u3
        charge = self.coulomb[:, None] * root
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
        root = jax.lax.rsqrt(s)
        u = root * root
        charge = self.coulomb[:, None] * root * u
        return -charge, 3 * u * charge


_Sites = PairSites | ChargeSites


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
    np_ = namespace(atoms.positions, atoms.charges, atoms.lennard_jones, atoms.cell, tip)
    dtype = precision(atoms)
    shifts = image_shifts(atoms, np_)
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
        terms.append(PairSites(*filled_up(np_, dtype, positions, c6, c12, coulomb)))
    if beside and charges is not None:
        moved = np_.concatenate([positions - np_.asarray((0, 0, 1)) * height for _, height in beside])
        coulomb = np_.concatenate([COULOMB * charge * charges for charge, _ in beside])
        terms.append(ChargeSites(*filled_up(np_, dtype, moved, coulomb)))
    return TermSum(tuple(terms))


def within_reach(pairs: TermSum, tiles: np.ndarray, reach: float) -> TermSum:
    """Keep, for each tile (tiles, n, 2) of positions, the sites that are laterally nearer to it than `reach` (Å).

    Returns
    -------
    TermSum
        With a leading axis for the tiles, all with as many sites as the one that needs most.
    """
    low, high = tiles.min(axis=1), tiles.max(axis=1)
    sites = (term for term in pairs.terms if isinstance(term, PairSites | ChargeSites))
    return TermSum(tuple(_sites_within_reach(one, low - reach, high + reach) for one in sites))


def _sites_within_reach(sites: _Sites, low: np.ndarray, high: np.ndarray) -> _Sites:
    lateral = np.asarray(sites.positions)[:, :2]
    # Nowhere is below the origin, which may well be within reach.
    acting = np.asarray(sites.positions)[:, 2] != np.asarray(NOWHERE[2], lateral.dtype)
    near = [
        np.flatnonzero(((lateral >= a) & (lateral <= b)).all(axis=1) & acting) for a, b in zip(low, high, strict=True)
    ]
    size = bucket(max(map(len, near)))
    return jax.tree.map(lambda values: np.stack([_filled(np.asarray(values)[chosen], size) for chosen in near]), sites)


def _filled(values: np.ndarray, size: int) -> np.ndarray:
    missing = size - len(values)
    if values.ndim == 1:
        return np.pad(values, (0, missing))
    return np.concatenate([values, np.broadcast_to(np.asarray(NOWHERE, values.dtype), (missing, 3))])


def _is_zero(height: ArrayLike) -> bool:
    # A traced height is not known: it gets copies of its own, which is right for zero as well.
    return not isinstance(height, jax.core.Tracer) and height == 0
