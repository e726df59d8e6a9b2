"""Closed-form algebra of many symmetric 3 x 3 matrices, stored as ``(xx, xy, xz, yy, yz, zz)``."""

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._terms import Hessian, Vector


def solve(matrix: Hessian, right: Vector) -> Vector:
    """Solve ``matrix @ x = right`` by the adjugate."""
    a, b, c, d, e, f = matrix
    aa, ab, ac = d * f - e * e, c * e - b * f, b * e - c * d
    bb, bc, cc = a * f - c * c, b * c - a * e, a * d - b * b
    inverse = 1 / (a * aa + b * ab + c * ac)
    x, y, z = right
    return (
        (aa * x + ab * y + ac * z) * inverse,
        (ab * x + bb * y + bc * z) * inverse,
        (ac * x + bc * y + cc * z) * inverse,
    )


def is_positive_definite(matrix: Hessian, floor: float) -> jax.Array:
    """Tell whether every eigenvalue is above `floor`, by the leading minors."""
    a, b, c, d, e, f = matrix
    a, d, f = a - floor, d - floor, f - floor
    minor = a * d - b * b
    determinant = a * (d * f - e * e) - b * (b * f - c * e) + c * (b * e - c * d)
    return (a > 0) & (minor > 0) & (determinant > 0)


def smallest_eigenvalue(matrix: Hessian) -> jax.Array:
    """Smallest eigenvalue, by the trigonometric solution of the characteristic cubic (Smith, CACM 4, 168 (1961))."""
    a, b, c, d, e, f = matrix
    mean = (a + d + f) / 3
    a, d, f = a - mean, d - mean, f - mean
    spread = jnp.sqrt((a * a + d * d + f * f + 2 * (b * b + c * c + e * e)) / 6)
    determinant = a * (d * f - e * e) - b * (b * f - c * e) + c * (b * e - c * d)
    tiny = np.finfo(spread.dtype).tiny
    cosine = jnp.clip(determinant / (2 * spread**3 + tiny), -1, 1)
    return mean + 2 * spread * jnp.cos((jnp.arccos(cosine) + 2 * jnp.pi) / 3)


def shifted(matrix: Hessian, shift: jax.Array) -> Hessian:
    """Add `shift` to the diagonal."""
    a, b, c, d, e, f = matrix
    return a + shift, b, c, d + shift, e, f + shift
