"""Creep of a piezo: after every move it goes on, by the same amount in each decade of time."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._parameters import check_not_negative
from twinscope.kernels._types import ArrayLike
from twinscope.kernels._volume import is_known

# Two relaxation times in each decade make a straight line of log t, within 1e-3 of a decade.
_PER_DECADE = 2
_RELAXATION_TIMES = 10.0 ** np.arange(-1.5, 5.01, 1 / _PER_DECADE)
_REFERENCE = 0.1  # s, the time at which the logarithmic law has the commanded position
_UNROLL = 4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class CreepState:
    """What a piezo remembers.

    Attributes
    ----------
    home
        Where it had come to rest, shape (...); the unit of length is that of the caller.
    commanded
        The last commanded position, shape (...).
    lags
        How far each relaxing element is behind the command, shape (k, ...).
    """

    home: jax.Array
    commanded: jax.Array
    lags: jax.Array

    @classmethod
    def resting(cls, position: ArrayLike) -> "CreepState":
        """Return the state of a piezo that has stood at a position (...) for very long."""
        position = jnp.asarray(position, jnp.result_type(jnp.asarray(position), jnp.float32))
        return cls(position, position, jnp.zeros((len(_RELAXATION_TIMES), *position.shape), position.dtype))


def creep(
    commanded: ArrayLike, interval: ArrayLike, state: CreepState, per_decade: ArrayLike
) -> tuple[jax.Array, CreepState]:
    """Position of a piezo that creeps after its command.

    After a step D from rest it is at D [1 + g log10(t / 0.1 s)] (Vieira, IBM J. Res. Dev. 30, 553 (1986)), within
    0.005 g D from 0.1 s to 1000 s: a sum of elements that relax with time constants from 0.03 s to 1e5 s, two in each
    decade (Krejci and Kuhnen, IEE Proc. Control Theory Appl. 148, 185 (2001)). So it is linear, and remembers all
    moves. Earlier than 0.03 s it is the instantaneous part, later than a day it comes to an end.

    Parameters
    ----------
    commanded
        Positions, shape (n, ...). Between two of them the command is a straight line in time.
    interval
        s before each of them, a number or shape (n,); zero for a jump.
    state
        :meth:`CreepState.resting`, or that at the end of the line before.
    per_decade
        The part g of a step that is added per decade of time: 0.01 to 0.03 for a tube. Zero returns the command.

    Returns
    -------
    position
        Shape (n, ...).
    state
        For the line that follows.

    Raises
    ------
    ValueError
        When `per_decade` or an interval is negative.
    """
    check_not_negative(per_decade=per_decade)
    if is_known(interval) and not (np.isfinite(interval).all() and (np.asarray(interval) >= 0).all()):
        raise ValueError(f"interval is {interval} s: expected finite numbers >= 0")
    dtype = state.lags.dtype
    positions = jnp.asarray(commanded, dtype)
    intervals = jnp.broadcast_to(jnp.asarray(interval, dtype), positions.shape[:1])
    return _crept(positions, intervals, state, jnp.asarray(per_decade, dtype))


@jax.jit
def _crept(
    commanded: jax.Array, intervals: jax.Array, state: CreepState, per_decade: jax.Array
) -> tuple[jax.Array, CreepState]:
    elapsed = intervals[:, None] / jnp.asarray(_RELAXATION_TIMES, commanded.dtype)
    decay = jnp.exp(-elapsed)
    # The lag left by a straight move of length one; after a jump it is all of it.
    left = jnp.where(elapsed > 0, -jnp.expm1(-elapsed) / jnp.where(elapsed > 0, elapsed, 1), 1)
    moves = jnp.diff(commanded, axis=0, prepend=state.commanded[None])

    def step(lags: jax.Array, now: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        decay, left, move = now
        lags = _column(decay, lags) * lags + _column(left, lags) * move
        return lags, jnp.sum(lags, axis=0)

    lags, behind = jax.lax.scan(step, state.lags, (decay, left, moves), unroll=_UNROLL)
    reached = jnp.asarray(_gained(), commanded.dtype) * (commanded - state.home) - behind / _PER_DECADE
    return commanded + per_decade * reached, CreepState(state.home, commanded[-1], lags)


def _column(values: jax.Array, like: jax.Array) -> jax.Array:
    return values.reshape(-1, *[1] * (like.ndim - 1))


def _gained() -> float:
    """Creep of a unit step from 0.1 s until its end, for g = 1."""
    return float(np.sum(np.exp(-_REFERENCE / _RELAXATION_TIMES))) / _PER_DECADE
