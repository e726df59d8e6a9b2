"""The springs that hold the probe particle to the tip."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from twinscope.kernels._constants import NEWTON_PER_METRE
from twinscope.kernels._terms import Hessian, Vector
from twinscope.kernels._types import Tip


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Spring:
    """Lateral and radial spring of a tip, in eV/Å².

    ``F = -k (d - r0) - k_radial (|d| - R) d / |d|`` with d from the anchor to the probe and the rest position r0 with
    ``|r0| = R`` (Hapala et al., Phys. Rev. B 90, 085421 (2014)).
    """

    rest: jax.Array
    length: jax.Array
    stiffness: jax.Array
    radial: jax.Array

    @classmethod
    def of(cls, tip: Tip, dtype: jnp.dtype) -> "Spring":
        """Take the springs of a tip, converted from N/m."""
        x0, y0, length = (jnp.asarray(value, dtype) for value in tip.rest)
        stiffness = jnp.stack([jnp.asarray(value, dtype) for value in tip.stiffness]) * NEWTON_PER_METRE
        rest = jnp.stack([x0, y0, -jnp.sqrt(length**2 - x0**2 - y0**2)])
        return cls(rest, length, stiffness[:3], stiffness[3])

    def energy(self, displacement: jax.Array) -> jax.Array:
        """Energy of the springs (eV) for displacements (3, n) of the probe from its rest position, in Å."""
        elongation, _ = self._elongation(displacement)
        squares = displacement * displacement
        return (self.stiffness @ squares + self.radial * elongation**2) / 2

    def force_and_hessian(self, displacement: jax.Array) -> tuple[Vector, Hessian]:
        """Spring force (eV/Å) and Hessian (eV/Å²) for displacements (3, n) of the probe from its rest position, in Å.

        The displacement, not the distance to the anchor, is the variable: ``|d| - R`` would lose its digits.
        """
        ux, uy, uz = displacement
        elongation, distance = self._elongation(displacement)
        nx, ny, nz = (displacement + self.rest[:, None]) / distance

        kx, ky, kz = self.stiffness
        tension = self.radial * elongation
        force = (-kx * ux - tension * nx, -ky * uy - tension * ny, -kz * uz - tension * nz)

        across = tension / distance
        along = self.radial - across
        hessian = (
            kx + across + along * nx * nx,
            along * nx * ny,
            along * nx * nz,
            ky + across + along * ny * ny,
            along * ny * nz,
            kz + across + along * nz * nz,
        )
        return force, hessian

    def _elongation(self, displacement: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Elongation of the radial spring and distance to the anchor, in Å."""
        ux, uy, uz = displacement
        x, y, z = displacement + self.rest[:, None]
        distance = jnp.sqrt(x * x + y * y + z * z)
        moved = ux * (2 * self.rest[0] + ux) + uy * (2 * self.rest[1] + uy) + uz * (2 * self.rest[2] + uz)
        return moved / (distance + self.length), distance
