"""Tunnelling current of an s-wave tip, from decay lengths alone."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._images import namespace, precision, sites_of
from twinscope.kernels._pairs import squared_distances
from twinscope.kernels._plane import Plane
from twinscope.kernels._terraces import Terraces
from twinscope.kernels._types import ArrayLike, Atoms
from twinscope.kernels._volume import is_known

CONDUCTANCE_QUANTUM = 7.748091729e-5
"""2 e² / h, in S (CODATA 2018; exact)."""

# sqrt(2 m_e eV) / hbar, in 1/Å.
_DECAY = 0.512316722
# Points evaluated together: the pairs of a tile with a thousand atoms are 16 MB.
_TILE = 4096


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TunnelSites:
    """What electrons tunnel into: atoms, and a metal surface below them.

    Attributes
    ----------
    positions
        Å, shape (m, 3).
    weights
        Of each atom, shape (m,): 1 for one that carries a conductance quantum when the tip touches it, far less for
        atoms of a molecule without a level near the Fermi energy, 0 for none.
    contact
        Distance (Å) between an atom and the tip at which they touch.
    surface
        A :class:`Plane` or :class:`Terraces`, whose weight is 1; None for atoms alone.
    surface_contact
        Height (Å) over the surface at which the tip touches it.
    """

    positions: ArrayLike
    weights: ArrayLike
    contact: ArrayLike = 2.5
    surface: Plane | Terraces | None = None
    surface_contact: ArrayLike = 1.2

    @classmethod
    def of(cls, atoms: Atoms, weights: ArrayLike, surface: Plane | Terraces | None = None) -> "TunnelSites":
        """Sites of a sample with all its periodic images, filled up to a bucket size.

        Raises
        ------
        ValueError
            When there is not one weight >= 0 for each atom.
        """
        count = np.shape(atoms.numbers)[0]
        if np.shape(weights) != (count,):
            raise ValueError(f"weights have shape {np.shape(weights)}: expected ({count},), one for each atom")
        if is_known(weights) and not (np.isfinite(weights).all() and (np.asarray(weights) >= 0).all()):
            raise ValueError(f"weights have the values {np.unique(weights)}: expected finite numbers >= 0")
        positions, filled = sites_of(atoms, namespace(weights).asarray(weights, precision(atoms)))
        return cls(positions, filled, surface=surface)


def decay_constant(work_function: ArrayLike) -> ArrayLike:
    """Decay constant kappa of a wave function into the vacuum, in 1/Å, from the work function in eV.

    Raises
    ------
    ValueError
        When the work function is not positive.
    """
    if is_known(work_function) and not (np.isfinite(work_function) and work_function > 0):
        raise ValueError(f"work_function is {work_function} eV: expected a positive number, such as 4.7")
    return _DECAY * work_function**0.5


def tersoff_hamann(points: ArrayLike, bias: ArrayLike, sites: TunnelSites, work_function: ArrayLike = 4.7) -> jax.Array:
    """Tunnelling current of an s-wave tip at many points.

    Tersoff and Hamann (Phys. Rev. B 31, 805 (1985)): at a small bias the current is proportional to the density of
    states at the tip. That of each atom, and of the metal, is taken to fall off by the work function alone::

        I = G0 V [sum_i w_i exp(-2 kappa (|r - r_i| - contact)) + exp(-2 kappa (z - H(x, y) - surface_contact))]

    with ``kappa = sqrt(2 m work_function) / hbar`` and the conductance quantum ``G0 = 2 e² / h``, so that a tip that
    touches the metal has the conductance of one channel. There are no orbitals: molecules are smooth bumps, whatever
    the bias; see :func:`tunnelling_image` for their lobes and nodes.

    Parameters
    ----------
    points
        Where electrons tunnel from, the apex of the tip or the probe on it, in Å, shape (n, 3).
    bias
        V.
    sites
        Atoms and surface.
    work_function
        Mean of those of sample and tip, in eV.

    Returns
    -------
    jax.Array
        A, with the sign of the bias, shape (n,).

    Raises
    ------
    ValueError
        When shapes do not fit or the work function is not positive.
    """
    return CONDUCTANCE_QUANTUM * bias * jnp.exp(log_transmission(points, sites, work_function))


def log_transmission(points: ArrayLike, sites: TunnelSites, work_function: ArrayLike = 4.7) -> jax.Array:
    """Natural logarithm of the sum in :func:`tersoff_hamann`, which does not underflow far away, shape (n,).

    Parameters, errors
        As there.
    """
    if np.ndim(points) != 2 or np.shape(points)[1] != 3:
        raise ValueError(f"points have shape {np.shape(points)}: expected (n, 3)")
    return _log_transmission(jnp.asarray(points), sites, decay_constant(work_function))


@jax.jit
def _log_transmission(points: jax.Array, sites: TunnelSites, kappa: jax.Array) -> jax.Array:
    count = len(points)
    size = min(_TILE, count)
    tiles = jnp.pad(points, ((0, -count % size), (0, 0)), mode="edge").reshape(-1, size, 3).swapaxes(1, 2)

    def of_tile(tile: jax.Array) -> jax.Array:
        distances = jnp.sqrt(squared_distances(tile, sites.positions))
        exponents = -2 * kappa * (distances - sites.contact)
        weights = jnp.broadcast_to(jnp.asarray(sites.weights)[:, None], exponents.shape)
        if sites.surface is not None:
            over = -2 * kappa * (tile[2] - _height(sites.surface, tile) - sites.surface_contact)
            exponents = jnp.concatenate([exponents, over[None]])
            weights = jnp.concatenate([weights, jnp.ones_like(over)[None]])
        return jax.scipy.special.logsumexp(exponents, axis=0, b=weights)

    return jax.lax.map(of_tile, tiles).reshape(-1)[:count]


def _height(surface: Plane | Terraces, points: jax.Array) -> jax.Array:
    return surface.height(points[0], points[1]) if isinstance(surface, Terraces) else jnp.asarray(surface.height)
