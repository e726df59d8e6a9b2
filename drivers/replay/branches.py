"""Recorded sweeps in pieces that go one way: a loop comes back on another branch than it went out."""

import itertools
from dataclasses import dataclass

import numpy as np

from twinscope.requests import Sweep

# The end of a loop and its beginning are one piece when they are not farther apart than so many usual steps.
_CLOSED = 2.5
# Of a sweep, to be within its recorded range in spite of rounding.
_ROUNDING = 1e-9
# Values closer to a recorded point than this part of a step are that point.
_SAME = 1e-6


@dataclass(frozen=True)
class Branch:
    """A part of a recorded sweep that goes one way.

    Attributes
    ----------
    rises
        Whether its values do.
    values
        Of what was swept, rising, shape (k,).
    indices
        Points of the recorded sweep that they are, shape (k,).
    """

    rises: bool
    values: np.ndarray
    indices: np.ndarray

    def __str__(self) -> str:
        ends = self.values[[0, -1]] if self.rises else self.values[[-1, 0]]
        return f"from {ends[0]:.6g} to {ends[1]:.6g}"

    def covers(self, sweep: Sweep) -> bool:
        """Whether a sweep stays within it."""
        margin = _ROUNDING * (self.values[-1] - self.values[0])
        low, high = sorted((sweep.start, sweep.stop))
        return bool(self.values[0] - margin <= low and high <= self.values[-1] + margin)

    def along(self, curves: np.ndarray, sweep: Sweep) -> np.ndarray:
        """Interpolate recorded curves (..., points) along a sweep, linearly; NaN spreads to what lies beside it."""
        at = np.interp(sweep.values(), self.values, np.arange(len(self.values)))
        whole = np.rint(at)
        at = np.where(abs(at - whole) < _SAME, whole, at)
        first = np.minimum(at.astype(int), len(self.values) - 2)
        rest = at - first
        before, behind = curves[..., self.indices[first]], curves[..., self.indices[first + 1]]
        # A point that does not count must not spread what it does not know.
        return np.asarray(np.where(rest == 1, 0.0, before * (1 - rest)) + np.where(rest == 0, 0.0, behind * rest))


def branches_of(values: np.ndarray) -> list[Branch]:
    """Cut a sweep where it turns; where a loop ends near its beginning, and in the same way, the two are one branch."""
    steps = np.sign(np.diff(values))
    moving = np.flatnonzero(steps)
    if len(moving) == 0:
        return []
    # A step that stands still belongs to the part before it.
    steps = steps[moving[np.maximum(np.searchsorted(moving, np.arange(len(steps)), side="right") - 1, 0)]]
    turns = np.flatnonzero(np.diff(steps)) + 1
    ends = [0, *turns.tolist(), len(values) - 1]
    pieces = [np.arange(first, last + 1) for first, last in itertools.pairwise(ends)]
    rises = [bool(steps[first] > 0) for first in ends[:-1]]
    gap = (values[0] - values[-1]) * (1 if rises[0] else -1)
    if len(pieces) > 2 and rises[0] == rises[-1] and 0 <= gap <= _CLOSED * np.median(abs(np.diff(values))[moving]):
        pieces[0] = np.concatenate([pieces.pop(), pieces[0]])
    return [_branch(values, piece, way) for piece, way in zip(pieces, rises, strict=False)]


def _branch(values: np.ndarray, piece: np.ndarray, rises: bool) -> Branch:
    different, first = np.unique(values[piece], return_index=True)
    return Branch(rises, different, piece[first])
