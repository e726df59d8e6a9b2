"""Relaxation of the probe particle while the tip comes down: Newton continuation in z.

For every lateral position the tip starts far away and comes nearer slice by slice. Each slice starts from a prediction
out of the two before and takes one Newton step for all positions at once; the few that did not settle (the probe is
about to snap, or a far start) are gathered and relaxed further. The path follows the physical branch: the minimum that
is connected to the probe's rest position far away.

Where the prediction is so good that slices could be interpolated, they are: the next slice to be relaxed is two, four
or eight farther down, and those between are the cubic Hermite polynomial of their neighbours. Its error is 1/64 of the
correction that Newton's step made to the same polynomial when it was extrapolated, which is held below a limit.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from twinscope.kernels._force_field import ForceField, Lateral
from twinscope.kernels._settle import Branch, settle
from twinscope.kernels._terms import Vector
from twinscope.kernels._types import ArrayLike
from twinscope.kernels._vectors import choose, dot, zeros

# A prediction that moves the probe farther than this (Å) is none.
_LONGEST_MOVE = 0.5
# Slices between two that are relaxed.
_LONGEST_STRIDE = 8
# The prediction's error grows with the fourth power of the stride; a little is kept in hand.
_GROWTH = 20.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Route:
    """The way of the tip along z.

    Attributes
    ----------
    heights
        z of the anchor, in Å, shape (nz,), in the order of the movement.
    levels
        How many of the heights are to be done; the others only fill the array up.
    substeps
        In how many steps the tip goes from one height to the next where the probe cannot be predicted.
    """

    heights: ArrayLike
    levels: ArrayLike
    substeps: ArrayLike


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Approach:
    """The probe on its way along z.

    Attributes
    ----------
    displacement
        From the rest position, in Å; components of shape (nz, n).
    converged, snapped
        Shape (nz, n): the probe settled; it lost its minimum on the way from the slice before.
    evaluations
        Of force and Hessian for this slice, shape (nz, n); zero where it was interpolated.
    """

    displacement: Vector
    converged: jax.Array
    snapped: jax.Array
    evaluations: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _March:
    """How far the approach has come: the last slice, the next stride, the two branches there, and what is known."""

    last: jax.Array
    stride: jax.Array
    before: Branch
    now: Branch
    path: Approach
    slope: Vector
    relaxed: jax.Array


@jax.jit
def approach(field: ForceField, lateral: Lateral, route: Route, start: Vector) -> Approach:
    """Bring the tip down, or up, over n lateral positions.

    Parameters
    ----------
    field
        What acts on the probe.
    lateral
        x and y of the anchor.
    route
        Where the tip goes.
    start
        Displacements from which the probe begins at the first height, in Å.
    """
    heights, levels = route.heights, route.levels
    count = len(lateral[0])
    dtype = lateral[0].dtype
    nothing = jnp.zeros((len(heights), count), bool)
    nowhere = (jnp.zeros((len(heights), count), dtype),) * 3
    path = Approach(nowhere, nothing, nothing, jnp.zeros_like(nothing, jnp.int16))
    origin = Branch(heights[0], start, zeros(count, dtype))

    def slice_(march: _March) -> _March:
        index = jnp.minimum(march.last + march.stride, levels - 1)
        stride = index - march.last
        z = heights[index]
        guess = _extrapolated(march.before, march.now, z)
        settled = settle(field, lateral, z, guess, march.now, route.substeps, jnp.where(stride == 1, jnp.inf, 1))
        accepted = (stride == 1) | (settled.correction <= 1)

        # What is not accepted is written as well: relaxing this slice again overwrites it, or the interpolation does.
        path = Approach(
            _written(march.path.displacement, index, settled.branch.displacement),
            march.path.converged.at[index].set(settled.converged),
            march.path.snapped.at[index].set(settled.snapped),
            march.path.evaluations.at[index].add(settled.evaluations),
        )
        before, now = jax.tree.map(
            lambda new, old: jnp.where(accepted, new, old), (march.now, settled.branch), (march.before, march.now)
        )
        longer = jnp.where(settled.correction * _GROWTH < 1, 2 * stride, stride)
        return _March(
            jnp.where(accepted, index, march.last),
            jnp.where(accepted, jnp.minimum(longer, _LONGEST_STRIDE), jnp.maximum(stride // 2, 1)),
            before,
            now,
            path,
            _written(march.slope, index, settled.branch.slope),
            march.relaxed.at[index].set(accepted),
        )

    begin = _March(
        jnp.array(-1),
        jnp.array(1),
        origin,
        origin,
        path,
        nowhere,
        jnp.zeros(len(heights), bool),
    )
    march = jax.lax.while_loop(lambda march: march.last < levels - 1, slice_, begin)
    return _filled_in(march, heights)


def _written(slices: Vector, index: jax.Array, one: Vector) -> Vector:
    return jax.tree.map(lambda all_, new: all_.at[index].set(new), slices, one)


def _filled_in(march: _March, heights: jax.Array) -> Approach:
    """Interpolate the slices between those that were relaxed."""
    path, slices = march.path, jnp.arange(len(heights))
    above = jax.lax.cummax(jnp.where(march.relaxed, slices, 0))
    below = jax.lax.cummin(jnp.where(march.relaxed, slices, march.last), reverse=True)

    def slice_(index: jax.Array) -> tuple[Vector, jax.Array, jax.Array]:
        first, second = (
            jax.tree.map(lambda values: values[node], Branch(heights, path.displacement, march.slope))  # noqa: B023
            for node in (above[index], below[index])
        )
        converged = path.converged[above[index]] & path.converged[below[index]]
        return _hermite(first, second, heights[index]), converged, path.snapped[index] & march.relaxed[index]

    displacement, converged, snapped = jax.lax.map(slice_, slices)
    return Approach(displacement, converged, snapped, path.evaluations)


def _hermite(first: Branch, second: Branch, z: jax.Array) -> Vector:
    """Displacements at the height z on the cubic polynomial through two slices; on a line if they are one."""
    spacing = second.z - first.z
    known = spacing != 0
    s = jnp.where(known, (z - first.z) / jnp.where(known, spacing, 1), 0)
    # The weights of both values and of both slopes.
    weights = (
        jnp.where(known, (1 + 2 * s) * (1 - s) ** 2, 0),
        jnp.where(known, s * s * (3 - 2 * s), 1),
        s * (1 - s) ** 2 * spacing,
        jnp.where(known, s * s * (s - 1) * spacing, z - second.z),
    )
    values = (first.displacement, second.displacement, first.slope, second.slope)
    return jax.tree.map(lambda *parts: sum(w * part for w, part in zip(weights, parts, strict=True)), *values)


def _extrapolated(before: Branch, now: Branch, z: jax.Array) -> Vector:
    """Predict the displacements at the next height."""
    guess = _hermite(before, now, z)
    # A prediction from across a snap of the probe leads astray.
    change = jax.tree.map(jnp.subtract, guess, now.displacement)
    return choose(dot(change, change) < _LONGEST_MOVE**2, guess, now.displacement)
