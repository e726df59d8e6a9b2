"""Many small non-linear fits at once: Levenberg-Marquardt for each curve of a map."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_FIRST_DAMPING, _LESS, _MORE = 1e-2, 0.3, 5.0
_LEAST_DAMPING, _MOST_DAMPING = 1e-9, 1e9
# A step that lowers the squared error by less than this part of it is the last but few.
_SETTLED = 1e-6
_QUIET_STEPS = 3
_STEPS_TOGETHER = 25
_TINY = 1e-12

Model = Callable[[jax.Array, jax.Array], jax.Array]
"""From parameters (p,) and places (..., m) to values (m,); the same function each time, or it is compiled anew."""


class Fits(NamedTuple):
    """What :func:`fit_many` finds.

    Attributes
    ----------
    parameters
        Shape (n, p).
    sigma
        Standard deviations of these, from the noise that is left and the curvature there, shape (n, p).
    residual
        Root mean square of what is left, shape (n,).
    converged
        Whether steps lowered the error no more before there were too many, shape (n,).
    """

    parameters: np.ndarray
    sigma: np.ndarray
    residual: np.ndarray
    converged: np.ndarray


class _State(NamedTuple):
    parameters: jax.Array
    error: jax.Array
    damping: jax.Array
    quiet: jax.Array


def fit_many(
    model: Model,
    places: np.ndarray,
    values: np.ndarray,
    start: np.ndarray,
    counted: np.ndarray | None = None,
    most_steps: int = 200,
) -> Fits:
    """Fit a model to many curves over the same places.

    Parameters
    ----------
    model
        Differentiable by JAX. Parameters should be of the order of one.
    places
        What the model needs to know of each value, shape (..., m).
    values
        Shape (n, m).
    start
        Parameters to begin with, shape (n, p).
    counted
        Which values count, shape (n, m); all unless given.
    most_steps
        Of each fit.
    """
    weights = np.ones(values.shape) if counted is None else counted
    where, curves, now = (np.asarray(part, np.float32) for part in (places, np.stack([values, weights], 1), start))
    found = [np.array(part) for part in _fit(model, _STEPS_TOGETHER, where, curves, now)]
    for _ in range(_STEPS_TOGETHER, most_steps, _STEPS_TOGETHER):
        # Those that have settled need not wait for the others; sizes are few, so that few are compiled.
        left = np.flatnonzero(~found[-1])
        if not len(left):
            break
        rows = np.resize(left, 2 ** int(np.ceil(np.log2(len(left)))))[: max(len(curves), len(left))]
        again = _fit(model, _STEPS_TOGETHER, where, curves[rows], found[0][rows])
        for part, new in zip(found, again, strict=True):
            part[rows] = np.asarray(new)
    return Fits(*found)


@partial(jax.jit, static_argnums=(0, 1))
def _fit(
    model: Model, most_steps: int, places: jax.Array, values: jax.Array, start: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    def left(parameters: jax.Array, curve: jax.Array) -> jax.Array:
        return (model(parameters, places) - curve[0]) * curve[1]

    def error(parameters: jax.Array, curve: jax.Array) -> jax.Array:
        return (left(parameters, curve) ** 2).sum()

    def normal(parameters: jax.Array, curve: jax.Array) -> tuple[jax.Array, jax.Array]:
        slopes = jax.jacfwd(left)(parameters, curve)
        return slopes.T @ slopes, slopes.T @ left(parameters, curve)

    def step(state: _State) -> _State:
        curvature, gradient = jax.vmap(normal)(state.parameters, values)
        diagonal = jnp.diagonal(curvature, axis1=1, axis2=2)
        scale = jnp.maximum(diagonal, _TINY + 1e-6 * diagonal.max(axis=1, keepdims=True))
        damped = curvature + jax.vmap(jnp.diag)(state.damping[:, None] * scale)
        factor = jnp.linalg.cholesky(damped)
        moved = state.parameters - jax.vmap(_solved)(factor, gradient)
        now = jax.vmap(error)(moved, values)
        better = now < state.error
        gain = jnp.where(better, (state.error - now) / jnp.maximum(state.error, _TINY**2), 0.0)
        # A refused step says that the damping was too small, not that there is nothing to gain.
        stuck = ~better & (state.damping > 1.0)
        quiet = jnp.where((better & (gain < _SETTLED)) | stuck, state.quiet + 1, jnp.where(better, 0, state.quiet))
        damping = jnp.clip(state.damping * jnp.where(better, _LESS, _MORE), _LEAST_DAMPING, _MOST_DAMPING)
        done = state.quiet >= _QUIET_STEPS
        kept = jnp.where((better & ~done)[:, None], moved, state.parameters)
        return _State(kept, jnp.where(better & ~done, now, state.error), damping, quiet)

    def unfinished(carry: tuple[jax.Array, _State]) -> jax.Array:
        count, state = carry
        return (count < most_steps) & jnp.any(state.quiet < _QUIET_STEPS)

    first = jax.vmap(error)(start, values)
    begin = _State(start, first, jnp.full(len(start), _FIRST_DAMPING), jnp.zeros(len(start), jnp.int32))
    _, end = jax.lax.while_loop(unfinished, lambda carry: (carry[0] + 1, step(carry[1])), (jnp.int32(0), begin))
    curvature, _ = jax.vmap(normal)(end.parameters, values)
    size = start.shape[1]
    count = jnp.maximum(values[:, 1].sum(axis=1), 1.0)
    variance = end.error / jnp.maximum(count - size, 1.0)
    ridge = 1e-7 * jnp.trace(curvature, axis1=1, axis2=2)[:, None, None] * jnp.eye(size)
    spread = jnp.diagonal(jnp.linalg.inv(curvature + ridge), axis1=1, axis2=2)
    sigma = jnp.sqrt(jnp.maximum(variance[:, None] * spread, 0.0))
    return end.parameters, sigma, jnp.sqrt(end.error / count), end.quiet >= _QUIET_STEPS


def _solved(factor: jax.Array, gradient: jax.Array) -> jax.Array:
    return jax.scipy.linalg.cho_solve((factor, True), gradient)
