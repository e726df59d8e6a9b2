"""Many vectors at once, as a tuple of their components, each of shape (n,).

One (3, n) array would be put together and taken apart again within XLA's loops, element by element.
"""

from typing import TypeVar

import jax
import jax.numpy as jnp

from twinscope.kernels._terms import Hessian, Vector

_Components = TypeVar("_Components", Vector, Hessian)


def add(first: _Components, second: _Components) -> _Components:
    """Add component by component."""
    return jax.tree.map(jnp.add, first, second)


def scaled(vector: Vector, factor: jax.Array | float) -> Vector:
    """Multiply by a number, or by one for each vector."""
    return vector[0] * factor, vector[1] * factor, vector[2] * factor


def dot(first: Vector, second: Vector) -> jax.Array:
    """Scalar products."""
    return first[0] * second[0] + first[1] * second[1] + first[2] * second[2]


def length(vector: Vector) -> jax.Array:
    """Lengths."""
    return jnp.sqrt(dot(vector, vector))


def choose(condition: jax.Array, first: Vector, second: Vector) -> Vector:
    """Take a vector from the first where the condition holds, else from the second."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), first, second)


def zeros(count: int, dtype: jnp.dtype) -> Vector:
    """Return `count` vectors of zeros."""
    nothing = jnp.zeros(count, dtype)
    return nothing, nothing, nothing
