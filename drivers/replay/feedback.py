"""What a z-controller with limited gains makes of a recorded topography."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from twinscope import _checks
from twinscope._plain import PlainData, set_field
from twinscope.errors import ConfigurationError, InvalidRequestError

# Whoever wants to stop it is looked at once in so many steps.
_STEPS_BETWEEN_LOOKS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback(PlainData):
    """A digital PI loop that holds a tip at a height over a topography, which it cannot enter.

    In each step the tip is moved by ``-proportional e - integral Σ e``, where e is how much too high it was, and the
    sum goes over the last `memory` steps.

    Attributes
    ----------
    proportional, integral
        Gains: parts of the error, and of the sum of errors, per step. DTMicroscope's ``I`` is 10 000 times as large.
    memory
        Steps that the sum goes over.
    offset
        Height above the topography that the loop holds, in m.
    rate
        Steps per second.
    """

    proportional: float = 0.0
    integral: float = 1e-3
    memory: int = 40
    offset: float = 0.0
    rate: float = 2000.0

    def __post_init__(self) -> None:
        try:
            for name in ("proportional", "integral"):
                set_field(self, name, _checks.not_negative(name, getattr(self, name)))
            set_field(self, "memory", _checks.count("memory", self.memory))
            set_field(self, "offset", _checks.finite("offset", self.offset))
            set_field(self, "rate", _checks.positive("rate", self.rate))
        except InvalidRequestError as exc:
            raise ConfigurationError(f"feedback: {exc.message}", name="feedback") from exc

    def steps(self, duration: float) -> int:
        """Return the steps in a trace that lasts so long, in s."""
        return max(round(duration * self.rate), 1)


def follow(ground: np.ndarray, loop: Feedback, stopped: Callable[[], bool] = lambda: False) -> np.ndarray:
    """Follow topographies, side by side, step by step; each begins with the tip on it.

    Parameters
    ----------
    ground
        What is under the tip in each step, in m, shape (traces, steps). Over NaN the tip stays at its height.
    loop
        The controller.
    stopped
        Whether to give up; what is left is NaN then.

    Returns
    -------
    numpy.ndarray
        Height of the tip, in m, shape (traces, steps); NaN where the ground is.
    """
    # One row per step: what is needed together lies together.
    ground = np.ascontiguousarray(ground.T, float)
    heights = np.full(ground.shape, np.nan)
    unknown = np.isnan(ground)
    holes = bool(unknown.any())
    z = _first_known(ground)
    heights[0] = z
    errors = np.zeros((loop.memory, ground.shape[1]))
    total = np.zeros(ground.shape[1])
    for step in range(len(ground) - 1):
        if step % _STEPS_BETWEEN_LOOKS == 0 and stopped():
            break
        error = z - ground[step] - loop.offset
        if holes:
            # There is nothing that the tip could be too high over.
            error[unknown[step]] = 0.0
        oldest = errors[step % loop.memory]
        total += error - oldest
        oldest[:] = error
        wanted = z - loop.proportional * error - loop.integral * total
        # fmax takes the number where the other is NaN.
        z = np.fmax(ground[step + 1], wanted)
        heights[step + 1] = z
    heights[unknown] = np.nan
    return heights.T


def _first_known(ground: np.ndarray) -> np.ndarray:
    """Return the first number of each column, 0 where there is none."""
    known = ~np.isnan(ground)
    first = ground[known.argmax(axis=0), np.arange(ground.shape[1])]
    return np.where(known.any(axis=0), first, 0.0)


def places_of_steps(places: np.ndarray, steps: int) -> np.ndarray:
    """Spread places of samples (traces, n) over the steps of a loop in the same time; shape (traces, steps).

    A sample is in the middle of its time; before the first and after the last the tip stands still.
    """
    count = places.shape[1]
    at = np.clip((np.arange(steps) + 0.5) * count / steps - 0.5, 0, count - 1)
    first = np.minimum(at.astype(int), max(count - 2, 0))
    rest = at - first
    return np.asarray(places[:, first] * (1 - rest) + places[:, np.minimum(first + 1, count - 1)] * rest)


def means_of_samples(values: np.ndarray, count: int) -> np.ndarray:
    """Average what a loop did in its steps (traces, steps) over `count` samples in the same time.

    A sample that is shorter than a step has the value of its step.
    """
    steps = values.shape[1]
    edges = np.arange(count + 1) * steps / count
    first = np.minimum(edges.astype(int), steps - 1)
    sums = np.concatenate([np.zeros((len(values), 1)), np.cumsum(np.nan_to_num(values), axis=1)], axis=1)
    means = np.diff(sums[:, first] + (edges - first) * np.nan_to_num(values[:, first]), axis=1) * count / steps
    unknown = np.isnan(values)
    if unknown.any():
        middles = np.minimum(((np.arange(count) + 0.5) * steps / count).astype(int), steps - 1)
        lost = means_of_samples(unknown.astype(float), count)
        means = np.where(unknown[:, middles], np.nan, means / np.maximum(1 - lost, 1e-12))
    return np.asarray(means)
