"""Everything that acts on the probe particle, and its equilibrium."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from twinscope.kernels._spring import Spring
from twinscope.kernels._symmetric import solve
from twinscope.kernels._terms import Hessian, Term, Vector
from twinscope.kernels._vectors import add, scaled

Lateral = tuple[jax.Array, jax.Array]
"""x and y of the anchor, in Å, each of shape (n,)."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ForceField:
    """Sample and springs."""

    sample: Term
    spring: Spring

    def probe(self, lateral: Lateral, z: jax.Array, displacement: Vector) -> jax.Array:
        """Positions of the probe (3, n), in Å, for anchors at `lateral` and `z` (a number or (n,))."""
        ux, uy, uz = displacement
        x0, y0, z0 = self.spring.rest
        return jnp.stack([lateral[0] + x0 + ux, lateral[1] + y0 + uy, z + z0 + uz])

    def force(self, lateral: Lateral, z: jax.Array, displacement: Vector) -> Vector:
        """Total force on the probe, in eV/Å; zero in equilibrium."""
        pull, _ = self.sample.force_and_hessian(self.probe(lateral, z, displacement))
        spring, _ = self.spring.force_and_hessian(displacement)
        return add(pull, spring)

    def evaluate(self, lateral: Lateral, z: jax.Array, displacement: Vector) -> tuple[Vector, Hessian, Vector]:
        """Total force, total Hessian, and d(displacement)/dz along the branch of equilibria."""
        pull, curvature = self.sample.force_and_hessian(self.probe(lateral, z, displacement))
        spring, stiffness = self.spring.force_and_hessian(displacement)
        force, hessian = add(pull, spring), add(curvature, stiffness)
        # Equilibrium at every height: (H_sample + K) du = -H_sample e_z dz.
        slope = scaled(solve(hessian, (curvature[2], curvature[4], curvature[5])), -1)
        return force, hessian, slope
