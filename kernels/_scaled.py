"""A term of the force field, times a number."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from twinscope.kernels._terms import Hessian, Term, Vector
from twinscope.kernels._types import ArrayLike


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Scaled:
    """A term times a factor.

    Forces that depend on the bias are sums of these: what the polarisation of sample and tip adds per volt, times the
    bias. The factor is data, not structure, so a series of voltages compiles once.

    Attributes
    ----------
    term
        Any term, a :class:`~twinscope.kernels.TermSum` included.
    factor
        A number.
    """

    term: Term
    factor: ArrayLike

    def energy(self, points: jax.Array) -> jax.Array:
        """See :class:`~twinscope.kernels.Term`."""
        # A NumPy number of 64 bits would raise the precision of everything behind it.
        return jnp.asarray(self.factor, points.dtype) * self.term.energy(points)

    def force_and_hessian(self, points: jax.Array) -> tuple[Vector, Hessian]:
        """See :class:`~twinscope.kernels.Term`."""
        factor = jnp.asarray(self.factor, points.dtype)
        force, hessian = self.term.force_and_hessian(points)
        return jax.tree.map(lambda part: factor * part, (force, hessian))
