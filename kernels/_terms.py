"""What a term of the force field is: energy, force and Hessian at many points at once.

Points are (3, n) arrays; a Hessian is a tuple of its six independent components ``(xx, xy, xz, yy, yz, zz)``, each of
shape (n,). Separate components instead of one (n, 3, 3) array are what XLA turns into fast code on CPU.
"""

from dataclasses import dataclass
from typing import Protocol

import jax
import jax.numpy as jnp

Vector = tuple[jax.Array, jax.Array, jax.Array]
Hessian = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]


class Term(Protocol):
    """Anything that pulls at the probe particle. A term is a pytree: a frozen dataclass that is registered with JAX."""

    def energy(self, points: jax.Array) -> jax.Array:
        """Energy of the probe (eV), shape (n,), at points (3, n) in Å; zero infinitely far away."""
        ...

    def force_and_hessian(self, points: jax.Array) -> tuple[Vector, Hessian]:
        """Force on the probe (eV/Å) and Hessian of the energy (eV/Å²) at points (3, n) in Å."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TermSum:
    """Several terms, taken together as one."""

    terms: tuple[Term, ...]

    def energy(self, points: jax.Array) -> jax.Array:
        """See :class:`Term`."""
        return sum((term.energy(points) for term in self.terms), start=jnp.zeros_like(points[0]))

    def force_and_hessian(self, points: jax.Array) -> tuple[Vector, Hessian]:
        """See :class:`Term`."""
        nothing = jnp.zeros_like(points[0])
        total = ((nothing,) * 3, (nothing,) * 6)
        for term in self.terms:
            total = jax.tree.map(jnp.add, total, term.force_and_hessian(points))
        return total
