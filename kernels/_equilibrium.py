"""Derivatives of the relaxed probe, by the implicit function theorem.

In equilibrium the force F(u, theta) on the probe vanishes, so that a change of the parameters theta moves it by
``du = H^-1 (dF / dtheta) dtheta``, where H is the Hessian of the energy. The iterations that found u do not matter and
are not differentiated: neither time nor memory of a derivative depend on their number.
"""

from typing import Any

import jax
import jax.numpy as jnp

from twinscope.kernels._force_field import ForceField, Lateral
from twinscope.kernels._relax import Approach, Route, approach
from twinscope.kernels._symmetric import solve
from twinscope.kernels._terms import Vector
from twinscope.kernels._vectors import choose, zeros


@jax.custom_jvp
def equilibrium(field: ForceField, lateral: Lateral, route: Route, start: Vector) -> Approach:
    """Do the :func:`approach`; displacements can be differentiated with respect to field, positions and heights.

    Where the probe did not converge the derivative is zero.
    """
    return approach(field, lateral, route, start)


@equilibrium.defjvp
def _derivative(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Approach, Approach]:
    field, lateral, route, _ = primals
    d_field, d_lateral, d_route, _ = tangents
    path = equilibrium(*primals)

    # Nothing of a slice but its displacements is kept for the way back.
    @jax.checkpoint
    def slice_(values: tuple[Any, ...]) -> Vector:
        z, d_z, displacement, converged = values
        # Infinite forces are infinite in a derivative even when it is multiplied by zero: where the probe did not
        # converge, a place where it did is looked at instead.
        column = jnp.where(converged, jnp.arange(len(converged)), jnp.argmax(converged))
        anchor, moved, d_anchor = jax.tree.map(lambda array: array[column], (lateral, displacement, d_lateral))
        _, hessian, _ = field.evaluate(anchor, z, moved)

        def force(field: ForceField, anchor: Lateral, z: jax.Array) -> Vector:
            return field.force(anchor, z, moved)

        _, change = jax.jvp(force, (field, anchor, z), (d_field, d_anchor, d_z))
        return choose(converged, solve(hessian, change), zeros(len(converged), z.dtype))

    moved = jax.lax.map(slice_, (route.heights, d_route.heights, path.displacement, path.converged))
    nothing = jax.tree.map(lambda values: jnp.zeros(values.shape, jax.dtypes.float0), path)
    return path, Approach(moved, nothing.converged, nothing.snapped, nothing.evaluations)
