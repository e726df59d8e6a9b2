"""Relaxation of the probe particle while the tip comes down: Newton continuation in z.

For every lateral position the tip starts far away and comes nearer slice by slice. Each slice starts from a prediction
out of the two slices before and takes one Newton step for all positions at once; the few that did not settle (the probe
is about to snap, or a far start) are gathered and relaxed further by Levenberg steps, with the Hessian lifted until it
is positive definite. The path follows the physical branch: the minimum that is connected to the probe's rest position
far away.

On the PTCDA of the reference data (20 slices of 0.1 Å, down to 3 Å) this takes 1.5 to 1.8 evaluations of force and
Hessian per slice; FIRE, as the reference codes use it, takes 24 to 92 of forces alone.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._spring import Spring
from twinscope.kernels._symmetric import add, is_positive_definite, shifted, smallest_eigenvalue, solve
from twinscope.kernels._terms import Hessian, Term, Vector

# The farthest that one step of a descent may move the probe, in Å, and the least radius that a step is cut down to.
_LONGEST_STEP = 0.12
_SHORTEST_RADIUS = 1e-4
# Forces below this many units in the last place of 1 eV/Å are zero.
_VANISHING = 10
# A prediction that Newton wants to correct by more than this (Å) is not trusted.
_LONGEST_CORRECTION = 0.03
# Eigenvalues below this (eV/Å²) count as a lost minimum; the softest spring in use is fifty times stiffer.
_SOFTEST = 3e-4
# Positions that descend together, steps per round, and rounds until a slice is given up.
_GROUP = 512
_STEPS_PER_ROUND = 2
_ROUNDS = 100


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ForceField:
    """Everything that acts on the probe particle."""

    sample: Term
    spring: Spring


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Branch:
    """One settled slice: its height, the displacements (3, n) and their derivatives with respect to z."""

    z: jax.Array
    displacement: jax.Array
    slope: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Descent:
    """Positions on their way to a minimum: where they are, the branch's slope there, the last step and its limit."""

    displacement: jax.Array
    slope: jax.Array
    step: jax.Array
    radius: jax.Array
    settled: jax.Array


def step_tolerance(dtype: jnp.dtype) -> float:
    """Length of a Newton step, in Å, under which a position counts as settled *after* the step.

    Newton's error after a step is of the order of the step squared.
    """
    return 1e-3 if dtype == jnp.float32 else 1e-6


@partial(jax.jit, static_argnames="tolerance")
def approach(
    field: ForceField, lateral: jax.Array, heights: jax.Array, tolerance: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Bring the tip down over n lateral positions.

    Parameters
    ----------
    field
        What acts on the probe.
    lateral
        x and y of the anchor, in Å, shape (2, n).
    heights
        z of the anchor, in Å, shape (nz,), from far to near. Equal neighbours are allowed; each costs one evaluation.
    tolerance
        See :func:`step_tolerance`.

    Returns
    -------
    force_z
        Force of the sample, in eV/Å, shape (nz, n).
    displacement
        From the rest position, in Å, shape (nz, 3, n).
    converged
        Shape (nz, n).
    """
    nowhere = jnp.zeros((3, lateral.shape[1]), lateral.dtype)
    start = _Branch(heights[0] + 1, nowhere, nowhere)

    def slice_(
        branches: tuple[_Branch, _Branch], z: jax.Array
    ) -> tuple[tuple[_Branch, _Branch], tuple[jax.Array, jax.Array, jax.Array]]:
        before, last = branches
        guess = _predicted(before, last, z)
        displacement, slope, settled = _settle(field, lateral, z, guess, last.displacement, tolerance)
        (_, _, force_z), _ = field.spring.force_and_hessian(displacement)
        # In equilibrium the sample pulls as hard as the spring, which is known without another sum over atoms.
        return (last, _Branch(z, displacement, slope)), (-force_z, displacement, settled)

    _, slices = jax.lax.scan(slice_, (start, start), heights)
    return slices


def _predicted(before: _Branch, last: _Branch, z: jax.Array) -> jax.Array:
    """Extrapolate the cubic Hermite polynomial through two slices to the height z."""
    spacing = last.z - before.z
    known = spacing != 0
    s = jnp.where(known, (z - before.z) / jnp.where(known, spacing, 1), 1)
    cubic = (
        (1 + 2 * s) * (1 - s) ** 2 * before.displacement
        + s * (1 - s) ** 2 * spacing * before.slope
        + s * s * (3 - 2 * s) * last.displacement
        + s * s * (s - 1) * spacing * last.slope
    )
    # A prediction from across a snap of the probe leads astray.
    change = cubic - last.displacement
    sane = jnp.sum(change * change, axis=0) < _LONGEST_STEP**2
    return jnp.where(sane, cubic, last.displacement)


def _settle(
    field: ForceField, lateral: jax.Array, z: jax.Array, guess: jax.Array, last: jax.Array, tolerance: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Relax all positions of one slice; returns displacement, slope and a flag for each."""
    force, hessian, slope = _evaluate(field, lateral, z, guess)
    step = jnp.stack(solve(hessian, force))
    length = _length(step)
    # Where the prediction fails the probe starts from where it was, or it could land in another minimum.
    sound = is_positive_definite(hessian, _SOFTEST) & (length < _LONGEST_CORRECTION)
    displacement = jnp.where(sound, guess + step, last)
    settled = sound & (length < tolerance)

    count = guess.shape[1]
    group = min(_GROUP, count)
    descent = _Descent(
        displacement,
        jnp.where(sound, slope, 0),
        jnp.zeros_like(guess),
        jnp.full(count, _LONGEST_STEP, guess.dtype),
        settled,
    )

    def unfinished(state: tuple[_Descent, jax.Array]) -> jax.Array:
        descent, rounds = state
        return ~jnp.all(descent.settled) & (rounds < _ROUNDS)

    def round_(state: tuple[_Descent, jax.Array]) -> tuple[_Descent, jax.Array]:
        descent, rounds = state
        # Places that are left over point past the end: read as the last column, dropped when written.
        chosen = jnp.nonzero(~descent.settled, size=group, fill_value=count)[0]
        column = jnp.minimum(chosen, count - 1)
        part = jax.tree.map(lambda values: values[..., column], descent)
        for _ in range(_STEPS_PER_ROUND):
            part = _descend(field, lateral[:, column], z, part, tolerance)
        merged = jax.tree.map(lambda all_, some: all_.at[..., chosen].set(some, mode="drop"), descent, part)
        return merged, rounds + 1

    descent, _ = jax.lax.while_loop(unfinished, round_, (descent, jnp.zeros((), int)))
    return descent.displacement, descent.slope, descent.settled


def _evaluate(
    field: ForceField, lateral: jax.Array, z: jax.Array, displacement: jax.Array
) -> tuple[Vector, Hessian, jax.Array]:
    """Total force, total Hessian, and d(displacement)/dz along the branch, at given displacements."""
    anchor = jnp.stack([lateral[0], lateral[1], jnp.broadcast_to(z, lateral[0].shape)])
    pull, curvature = field.sample.force_and_hessian(anchor + field.spring.rest[:, None] + displacement)
    spring, stiffness = field.spring.force_and_hessian(displacement)
    force, hessian = add(pull, spring), add(curvature, stiffness)
    # Equilibrium at every height: (H_sample + K) du = -H_sample e_z dz.
    slope = -jnp.stack(solve(hessian, (curvature[2], curvature[4], curvature[5])))
    return force, hessian, slope


def _descend(field: ForceField, lateral: jax.Array, z: jax.Array, descent: _Descent, tolerance: float) -> _Descent:
    """Take one Levenberg step: Newton with the Hessian lifted to be positive definite, no longer than the radius."""
    force, hessian, slope = _evaluate(field, lateral, z, descent.displacement)
    softness = smallest_eigenvalue(hessian)
    lift = jnp.maximum(0, _SOFTEST - softness)
    step = jnp.stack(solve(shifted(hessian, lift), force))
    length = _length(step)
    # The force points back along the last step: that step went past the minimum, so trust less of the next one.
    overshot = jnp.sum(jnp.stack(force) * descent.step, axis=0) < 0
    radius = jnp.where(overshot, 0.4, 1.5) * descent.radius
    radius = jnp.clip(radius, _SHORTEST_RADIUS, _LONGEST_STEP)
    scale = jnp.minimum(1, radius / jnp.maximum(length, _SHORTEST_RADIUS))
    step = jnp.where(jnp.isfinite(length), jnp.nan_to_num(step) * scale, 0)
    # On a lifted Hessian a short step proves nothing; but where the minimum is so flat that the force is lost in its
    # own rounding, no step would ever be short.
    unlifted = lift == 0
    vanished = (softness > 0) & (_length(jnp.stack(force)) < _VANISHING * np.finfo(step.dtype).eps)
    return _Descent(
        descent.displacement + step,
        jnp.where(unlifted, slope, 0),
        step,
        radius,
        (unlifted & (length < tolerance)) | vanished,
    )


def _length(vectors: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(vectors * vectors, axis=0))
