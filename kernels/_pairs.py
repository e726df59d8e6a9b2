"""Pair interactions: sums over atoms of a function of the distance.

With s = r² and a pair energy E(s), force and Hessian need only the two radial arrays g = 2 E'(s) and h = 4 E''(s). All
nine sums over sites are then two matrix products of g and h with the monomials of the site coordinates. Written as
nine sums, XLA would evaluate the radial function nine times.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from twinscope.kernels._terms import Hessian, Vector

# Sites that only fill an array up to its bucket stand here (Å) with all coefficients zero.
NOWHERE = (0.0, 0.0, -1000.0)

Radial = Callable[[jax.Array], tuple[jax.Array, jax.Array]]
"""From squared distances (m, n) in Å² to ``2 E'(s)`` and ``4 E''(s)``, in eV/Å² and eV/Å⁴."""


def squared_distances(points: jax.Array, positions: jax.Array) -> jax.Array:
    """Squares (m, n), in Å², of the distances between sites (m, 3) and points (3, n)."""
    x, y, z = points
    sx, sy, sz = positions[:, 0, None], positions[:, 1, None], positions[:, 2, None]
    return (x - sx) ** 2 + (y - sy) ** 2 + (z - sz) ** 2


def sum_over_sites(
    points: jax.Array, positions: jax.Array, acting: jax.Array, radial: Radial
) -> tuple[Vector, Hessian]:
    """Force and Hessian of the pair energies of all sites.

    Parameters
    ----------
    points
        Å, shape (3, n).
    positions
        Of the sites, in Å, shape (m, 3).
    acting
        Shape (m,). False for sites that only fill the array up.
    radial
        Derivatives of the pair energy; see :data:`Radial`.

    Returns
    -------
    force, hessian
        As in :class:`~twinscope.kernels.Term`.
    """
    # Monomials of coordinates lose digits far from the origin, so it is moved to the middle of the sites: points far
    # from there feel next to nothing.
    origin = jnp.sum(jnp.where(acting[:, None], positions, 0), axis=0) / jnp.maximum(jnp.sum(acting), 1)
    x, y, z = local = points - origin[:, None]
    sites = positions - origin
    sx, sy, sz = sites[:, 0], sites[:, 1], sites[:, 2]
    g, h = radial(squared_distances(local, sites))

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


def radial_of_fraction(numerator: jax.Array, denominator: Callable[[jax.Array], jax.Array]) -> Radial:
    """Differentiate the pair energy ``numerator / denominator(s)``.

    The order of the products neither overflows nor loses digits in single precision, however far away a site is.
    """

    def slope(s: jax.Array) -> jax.Array:
        return jax.jvp(denominator, (s,), (jnp.ones_like(s),))[1]

    def radial(s: jax.Array) -> tuple[jax.Array, jax.Array]:
        first, second = jax.jvp(slope, (s,), (jnp.ones_like(s),))
        inverse = 1 / denominator(s)
        energy, decay = numerator * inverse, inverse * first
        return -2 * energy * decay, 4 * energy * (2 * decay * decay - inverse * second)

    return radial


def bucket(count: int, smallest: int = 16) -> int:
    """Round a count up to 16, 20, 24, 28, 32, 40, 48, ...: few sizes, and at most a fifth is waste."""
    if count <= smallest:
        return smallest
    quarter = 2 ** ((count - 1).bit_length() - 3)
    return -(-count // quarter) * quarter
