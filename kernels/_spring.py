"""The springs that hold the probe particle to the tip."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from twinscope.kernels._constants import NEWTON_PER_METRE
from twinscope.kernels._images import namespace
from twinscope.kernels._terms import Hessian, Vector
from twinscope.kernels._types import ArrayLike, Tip
from twinscope.kernels._vectors import add, dot, length


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Spring:
    """Lateral and radial spring of a tip, in eV/Å².

    ``F = -k (d - r0) - k_radial (|d| - R) d / |d|`` with d from the anchor to the probe and the rest position r0 with
    ``|r0| = R`` (Hapala et al., Phys. Rev. B 90, 085421 (2014)).
    """

    rest: ArrayLike
    length: ArrayLike
    stiffness: ArrayLike
    radial: ArrayLike
    rigid: bool = field(default=False, metadata={"static": True})

    @classmethod
    def of(cls, tip: Tip, dtype: jnp.dtype) -> "Spring":
        """Take the springs of a tip, converted from N/m."""
        np_ = namespace(tip.rest, tip.stiffness)
        x0, y0, length = (np_.asarray(value) for value in tip.rest)
        stiffness = np_.stack([np_.asarray(value) for value in tip.stiffness]) * NEWTON_PER_METRE
        rest = np_.stack([x0, y0, -np_.sqrt(length**2 - x0**2 - y0**2)])
        values = (rest, length, stiffness[:3], stiffness[3])
        rest, length, lateral, radial = (np_.asarray(value, dtype) for value in values)
        return cls(rest, length, lateral, radial, tip.rigid)

    def energy(self, displacement: Vector) -> jax.Array:
        """Energy of the springs (eV) for displacements of the probe from its rest position, in Å."""
        elongation, _ = self._elongation(displacement)
        kx, ky, kz = self.stiffness
        ux, uy, uz = displacement
        return (kx * ux**2 + ky * uy**2 + kz * uz**2 + self.radial * elongation**2) / 2

    def force_and_hessian(self, displacement: Vector) -> tuple[Vector, Hessian]:
        """Spring force (eV/Å) and Hessian (eV/Å²) for displacements of the probe from its rest position, in Å.

        The displacement, not the distance to the anchor, is the variable: ``|d| - R`` would lose its digits.
        """
        ux, uy, uz = displacement
        elongation, distance = self._elongation(displacement)
        nx, ny, nz = ((rest + moved) / distance for rest, moved in zip(self.rest, displacement, strict=True))

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

    def _elongation(self, displacement: Vector) -> tuple[jax.Array, jax.Array]:
        """Elongation of the radial spring and distance to the anchor, in Å."""
        rest = (self.rest[0], self.rest[1], self.rest[2])
        from_anchor = add(rest, displacement)
        distance = length(from_anchor)
        # |d|² - R², of which no digits are lost.
        difference = dot(displacement, add(rest, from_anchor))
        return difference / (distance + self.length), distance
