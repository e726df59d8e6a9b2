"""Morse potential between the atoms of a sample and the probe particle."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._images import sites_of
from twinscope.kernels._mixing import mixed_parameters
from twinscope.kernels._pairs import squared_distances, sum_over_sites
from twinscope.kernels._terms import Hessian, Vector
from twinscope.kernels._types import ArrayLike, Atoms, Tip


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MorseSites:
    """Sites with the pair energy ``depth (x**2 - 2 x)`` with ``x = exp(-alpha (r - radius))``.

    Attributes
    ----------
    positions
        Å, shape (m, 3).
    radius, depth
        Distance and depth of the minimum, in Å and eV, shape (m,).
    alpha
        Decay of the attraction, in 1/Å; the repulsion decays twice as fast.
    """

    positions: ArrayLike
    radius: ArrayLike
    depth: ArrayLike
    alpha: ArrayLike

    def energy(self, points: jax.Array) -> jax.Array:
        """Sum over all sites; see :class:`~twinscope.kernels.Term`."""
        x = self._decay(jnp.sqrt(squared_distances(points, self.positions)))
        return jnp.sum(self.depth[:, None] * x * (x - 2), axis=0)

    def force_and_hessian(self, points: jax.Array) -> tuple[Vector, Hessian]:
        """Sum over all sites; see :class:`~twinscope.kernels.Term`."""
        return sum_over_sites(points, self.positions, self.depth != 0, self._radial)

    def _decay(self, r: jax.Array) -> jax.Array:
        return jnp.exp(-self.alpha * (r - self.radius[:, None]))

    def _radial(self, s: jax.Array) -> tuple[jax.Array, jax.Array]:
        r = jnp.sqrt(s)
        x = self._decay(r)
        strength = 2 * self.alpha * self.depth[:, None] * x
        g = strength * (1 - x) / r
        h = (self.alpha * strength * (2 * x - 1) - g) / s
        return g, h


def morse(atoms: Atoms, tip: Tip, alpha: ArrayLike = 1.6) -> MorseSites:
    """Morse potential between a sample and the probe particle, in place of Lennard-Jones.

    Minima are where those of Lennard-Jones are, see :func:`mixed_parameters`; the wall is softer, and the attraction
    ends sooner. Give the term to :func:`simulate` together with ``lennard_jones=False``.

    Parameters
    ----------
    atoms, tip
        Sample and probe. Periodic images are written out.
    alpha
        Decay of the attraction, in 1/Å. The default is that of the reference code ``ppafm`` 0.4.1 (``aMorse``).

    Returns
    -------
    MorseSites
        A term of the force field.

    Raises
    ------
    ValueError
        When an element is unknown or `alpha` is not positive.

    References
    ----------
    Morse, Phys. Rev. 34, 57 (1929).
    """
    if not isinstance(alpha, jax.core.Tracer) and not (np.ndim(alpha) == 0 and 0 < alpha < np.inf):
        raise ValueError(f"alpha is {alpha} 1/Å: expected one positive number")
    positions, radius, depth = sites_of(atoms, *mixed_parameters(atoms, tip))
    return MorseSites(positions, radius, depth, alpha)
