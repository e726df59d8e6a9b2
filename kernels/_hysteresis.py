"""Hysteresis of a piezo: forward and backward it goes along different curves, however slowly."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._parameters import check_positive
from twinscope.kernels._types import ArrayLike
from twinscope.kernels._volume import is_known

_PLAYS = 12
_UNROLL = 4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HysteresisState:
    """What a piezo remembers of its turning points.

    Attributes
    ----------
    home
        Where it began, shape (...); the unit of length is that of the caller.
    plays
        Where each play operator stands, shape (k, ...).
    """

    home: jax.Array
    plays: jax.Array

    @classmethod
    def fresh(cls, position: ArrayLike) -> "HysteresisState":
        """Return the state of a piezo at a position (...) that was never moved."""
        position = jnp.asarray(position, jnp.result_type(jnp.asarray(position), jnp.float32))
        return cls(position, jnp.broadcast_to(position, (_PLAYS, *position.shape)))


def hysteresis(
    commanded: ArrayLike, state: HysteresisState, width: ArrayLike, reach: ArrayLike
) -> tuple[jax.Array, HysteresisState]:
    """Position of a piezo with hysteresis: a Prandtl-Ishlinskii operator.

    A sum of 12 play operators (Kuhnen, Eur. J. Control 9, 407 (2003)) with equal weights and with thresholds up to
    half of `reach`. A command that goes to and fro over `reach` gives a loop as long as the command, whose branches are
    ``width reach`` apart in the middle; over a smaller way it is narrower, as the square of the way, and shorter. Time
    does not matter.

    Parameters
    ----------
    commanded
        Positions, shape (n, ...), so dense that no turning point is left out.
    state
        :meth:`HysteresisState.fresh`, or that at the end of the line before.
    width
        From 0 to below 0.5; 0.05 to 0.15 for a tube without charge control. Zero returns the command.
    reach
        The way at which the loop is that wide, in the unit of `commanded`: the size of the largest scan.

    Returns
    -------
    position
        Shape (n, ...).
    state
        For the line that follows.

    Raises
    ------
    ValueError
        When `width` is not in its range, or `reach` is not positive.
    """
    check_positive(reach=reach)
    if is_known(width) and not (np.ndim(width) == 0 and 0 <= width < 0.5):
        raise ValueError(f"width is {width}: expected a number from 0 to below 0.5, as a part of reach")
    dtype = state.plays.dtype
    return _followed(*(jnp.asarray(value, dtype) for value in (commanded, width, reach)), state)


@jax.jit
def _followed(
    commanded: jax.Array, width: jax.Array, reach: jax.Array, state: HysteresisState
) -> tuple[jax.Array, HysteresisState]:
    # Twice the thresholds, as parts of the reach.
    gaps = jnp.arange(1, _PLAYS + 1, dtype=commanded.dtype) / (_PLAYS + 1)
    weight = width / jnp.sum(jnp.minimum(gaps, 1 - gaps))
    thresholds = (reach * gaps / 2).reshape(-1, *[1] * (commanded.ndim - 1))

    def step(plays: jax.Array, position: jax.Array) -> tuple[jax.Array, jax.Array]:
        plays = jnp.clip(plays, position - thresholds, position + thresholds)
        return plays, jnp.sum(plays - position, axis=0)

    plays, behind = jax.lax.scan(step, state.plays, commanded, unroll=_UNROLL)
    # The end points of the loop stay where the command has them: what the plays take off there is given back.
    position = commanded + weight * (behind + jnp.sum(gaps) * (commanded - state.home))
    return position, HysteresisState(state.home, plays)
