"""Relaxation of the probe at one height: Newton where it is safe, Levenberg steps where it is not."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._force_field import ForceField, Lateral
from twinscope.kernels._symmetric import is_positive_definite, shifted, smallest_eigenvalue, solve
from twinscope.kernels._terms import Vector
from twinscope.kernels._vectors import add, choose, dot, length, scaled, zeros

# The farthest that one step of a descent may move the probe, in Å: in a minimum, and out of one that is being lost,
# where the probe creeps downhill. No step is cut down to less than the least radius.
_LONGEST_STEP = 0.4
_LONGEST_CREEP = 0.12
_SHORTEST_RADIUS = 1e-4
# Forces below this many units in the last place of 1 eV/Å are zero.
_VANISHING = 10
# A prediction that Newton wants to correct by more than this (Å) is not trusted.
_LONGEST_CORRECTION = 0.03
# Eigenvalues below this (eV/Å²) count as a lost minimum; the softest spring in use is fifty times stiffer.
_SOFTEST = 3e-4
# Newton's error after a step grows as the minimum gets softer; below this (eV/Å²) only shorter steps are trusted.
_SOFT = 3e-3
_TRUST_WHERE_SOFT = 0.25
# First Newton steps that are tolerated where slices are interpolated, which is 64 times better: the change of the
# springs' force (eV/Å), the distance (Å), and what they are multiplied by in double precision.
_FORCE = 4e-4
_DISTANCE = 1e-2
_DOUBLE = 1e-3
# Where the force vanishes on a saddle nothing tells the probe where to fall: this does (Å).
_NUDGE = (1e-3, 6e-4, 0.0)
# A probe that went over a lost minimum and farther than this (Å) has snapped to another one.
_SNAP = 0.1
# Positions that descend together, steps per round, and steps until a position is given up.
_GROUP = 256
_STEPS_PER_ROUND = 8
_MOST_STEPS = 150


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Branch:
    """Equilibria at one height: z in Å, the displacements in Å and their derivatives with respect to z."""

    z: jax.Array
    displacement: Vector
    slope: Vector


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Settled:
    """Positions relaxed at one height.

    Attributes
    ----------
    branch
        Where the probe is.
    converged
        Shape (n,).
    snapped
        The minimum before was lost and the probe went to another one; shape (n,).
    evaluations
        Of force and Hessian, shape (n,).
    correction
        The largest first Newton step of all positions, in units of what is tolerated where slices are interpolated;
        infinite when a position could not take it.
    """

    branch: Branch
    converged: jax.Array
    snapped: jax.Array
    evaluations: jax.Array
    correction: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Descent:
    """Positions on their way to a minimum.

    How many small steps of z are still before them, where they are, the branch's slope there, the last step and its
    limit, whether they are done, whether they are given up, whether they came through a saddle, and how many steps they
    took.
    """

    ahead: jax.Array
    displacement: Vector
    slope: Vector
    step: Vector
    radius: jax.Array
    settled: jax.Array
    hopeless: jax.Array
    lost: jax.Array
    steps: jax.Array

    @property
    def active(self) -> jax.Array:
        return ~self.settled & ~self.hopeless & (self.steps < _MOST_STEPS)


def step_tolerance(dtype: jnp.dtype) -> float:
    """Length of a Newton step, in Å, under which a position counts as settled *after* the step.

    Newton's error after a step is of the order of the step squared.
    """
    return 3e-3 if dtype == jnp.float32 else 1e-6


def settle(
    field: ForceField,
    lateral: Lateral,
    z: jax.Array,
    guess: Vector,
    last: Branch,
    substeps: jax.Array,
    limit: jax.Array | float,
) -> Settled:
    """Relax the probe at all positions.

    Parameters
    ----------
    field
        What acts on the probe.
    lateral
        x and y of the anchor.
    z
        Height of the anchor, in Å.
    guess
        Displacements to begin with, in Å.
    last
        The height before: from there the probe begins if the guess is no good.
    substeps
        In how many steps of z it then comes here.
    limit
        The largest correction with which the caller is content: with a larger one this stops after its first step.
        May be infinite.
    """
    tolerance = step_tolerance(guess[0].dtype)
    force, hessian, slope = field.evaluate(lateral, z, guess)
    step = solve(hessian, force)
    distance = length(step)
    # Where the prediction fails the probe starts from where it was, or it could land in another minimum.
    small = (z - last.z) / substeps
    begins = small == 0
    sound = is_positive_definite(hessian, _SOFTEST) & (distance < jnp.where(begins, _LONGEST_STEP, _LONGEST_CORRECTION))
    count = len(guess[0])
    descent = _Descent(
        jnp.where(sound | begins, 0, substeps - 1).astype(jnp.int16),
        choose(sound, add(guess, step), _onward(last.displacement, last.slope, jnp.where(substeps > 1, small, 0))),
        choose(sound, slope, zeros(count, guess[0].dtype)),
        zeros(count, guess[0].dtype),
        jnp.full(count, _LONGEST_STEP, guess[0].dtype),
        sound & _is_short(distance, is_positive_definite(hessian, _SOFT), tolerance),
        jnp.zeros(count, bool),
        jnp.zeros(count, bool),
        jnp.ones(count, jnp.int16),
    )
    # Many at once are faster without gathering them.
    group = min(_GROUP, count)
    correction = jnp.max(jnp.where(sound, _correction(field, guess, step), jnp.inf))
    content = correction <= limit
    descent = jax.lax.while_loop(
        lambda state: content & (jnp.sum(state.active) > count // 4),
        partial(_descend_all, field, lateral, z, small, tolerance),
        descent,
    )
    descent = jax.lax.while_loop(
        lambda state: content & jnp.any(state.active),
        partial(_descend_some, field, lateral, z, small, tolerance, group),
        descent,
    )
    branch = Branch(z, descent.displacement, descent.slope)
    return Settled(
        branch,
        descent.settled,
        ~begins & _has_snapped(last, branch, descent.lost, ~sound & (substeps == 1)),
        descent.steps,
        correction,
    )


def _descend_all(
    field: ForceField, lateral: Lateral, z: jax.Array, small: jax.Array, tolerance: float, descent: _Descent
) -> _Descent:
    """Let every active position take a step."""
    moved = _descend(field, lateral, z, small, tolerance, descent)
    return jax.tree.map(lambda new, old: jnp.where(descent.active, new, old), moved, descent)


def _descend_some(
    field: ForceField,
    lateral: Lateral,
    z: jax.Array,
    small: jax.Array,
    tolerance: float,
    group: int,
    descent: _Descent,
) -> _Descent:
    """Gather some of the active positions, let them take steps, and put them back."""
    count = len(lateral[0])
    # Places that are left over point past the end: read as the last column, dropped when written.
    chosen = jnp.nonzero(descent.active, size=group, fill_value=count)[0]
    column = jnp.minimum(chosen, count - 1)
    part = jax.tree.map(lambda values: values[column], descent)
    least = jnp.min(jnp.where(part.active, part.steps, _MOST_STEPS))
    part = jax.lax.while_loop(
        lambda state: jnp.any(state.active & (state.steps < least + _STEPS_PER_ROUND)),
        partial(_descend_all, field, (lateral[0][column], lateral[1][column]), z, small, tolerance),
        part,
    )
    return jax.tree.map(lambda all_, some: all_.at[chosen].set(some, mode="drop"), descent, part)


def _descend(
    field: ForceField, lateral: Lateral, z: jax.Array, small: jax.Array, tolerance: float, descent: _Descent
) -> _Descent:
    """Take one Levenberg step: Newton with the Hessian lifted to be positive definite, no longer than the radius.

    A position that settles at a height on the way goes on to the next, along the tangent of its branch.
    """
    force, hessian, slope = field.evaluate(lateral, z - descent.ahead * small, descent.displacement)
    softness = smallest_eigenvalue(hessian)
    lift = jnp.maximum(0, _SOFTEST - softness)
    step = solve(shifted(hessian, lift), force)
    distance = length(step)
    # The force points back along the last step: that step went past the minimum, so trust less of the next one.
    overshot = dot(force, descent.step) < 0
    radius = jnp.where(overshot, 0.4, 1.5) * descent.radius
    radius = jnp.clip(radius, _SHORTEST_RADIUS, jnp.where(softness > _SOFT, _LONGEST_STEP, _LONGEST_CREEP))
    scale = jnp.minimum(1, radius / jnp.maximum(distance, _SHORTEST_RADIUS))
    finite = jnp.isfinite(distance)
    nowhere = zeros(len(distance), distance.dtype)
    step = choose(finite, scaled(step, scale), nowhere)
    # On a lifted Hessian a short step proves nothing; but where the minimum is so flat that the force is lost in its
    # own rounding, no step would ever be short.
    unlifted = lift == 0
    vanished = length(force) < _VANISHING * np.finfo(distance.dtype).eps
    settled = (unlifted & _is_short(distance, softness > _SOFT, tolerance)) | (vanished & (softness > 0))
    on_saddle = vanished & (softness < 0)
    nx, ny, nz = _NUDGE
    step = (jnp.where(on_saddle, nx, step[0]), jnp.where(on_saddle, ny, step[1]), jnp.where(on_saddle, nz, step[2]))

    onward = settled & (descent.ahead > 0)
    slope = choose(unlifted, slope, nowhere)
    return _Descent(
        descent.ahead - onward.astype(descent.ahead.dtype),
        _onward(add(descent.displacement, step), slope, jnp.where(onward, small, 0)),
        slope,
        choose(onward, nowhere, step),
        jnp.where(onward, _LONGEST_STEP, radius),
        settled & ~onward,
        # No step leads on from where there is no force.
        ~finite,
        descent.lost | (softness < 0),
        descent.steps + 1,
    )


def _has_snapped(last: Branch, now: Branch, lost: jax.Array, blind: jax.Array) -> jax.Array:
    """Tell where the probe left its branch: it moved, and either came through a place without a minimum or jumped over.

    One who descends blindly, after a single step of z, may well jump over. Then the slopes at both ends do not account
    for the way between.
    """
    moved = length(jax.tree.map(jnp.subtract, now.displacement, last.displacement))
    along = length(scaled(add(last.slope, now.slope), (now.z - last.z) / 2))
    return (moved > _SNAP) & (lost | (blind & (along < moved / 2)))


def _onward(displacement: Vector, slope: Vector, small: jax.Array) -> Vector:
    """Follow the tangent of the branch for a small step of z, but not where it leads far: the branch bends there."""
    tangent = scaled(slope, small)
    return choose(length(tangent) < _LONGEST_CORRECTION, add(displacement, tangent), displacement)


def _is_short(distance: jax.Array, stiff: jax.Array, tolerance: float) -> jax.Array:
    """Tell where a Newton step was so short that the position is settled after it."""
    return distance < tolerance * jnp.where(stiff, 1, _TRUST_WHERE_SOFT)


def _correction(field: ForceField, displacement: Vector, step: Vector) -> jax.Array:
    """Measure a step by what the springs feel of it and by its length, each in units of what is tolerated."""
    spring, dtype = field.spring, step[0].dtype
    x0, y0, z0 = spring.rest
    from_anchor = add((x0, y0, z0), displacement)
    radial = spring.radial * jnp.abs(dot(step, from_anchor)) / length(from_anchor)
    kx, ky, kz = spring.stiffness
    felt = radial + length((kx * step[0], ky * step[1], kz * step[2]))
    single = dtype == jnp.float32
    force, distance = (_FORCE, _DISTANCE) if single else (_FORCE * _DOUBLE, _DISTANCE * _DOUBLE)
    return jnp.maximum(felt / force, length(step) / distance)
