"""What to measure next: where the network is unsure, and what it would tell per second of instrument time.

A measurement that was not made cannot tell what it will show, but what the network makes of it can be foreseen: it is
filled in as the neighbouring slices suggest, as a "fantasy" (Ginsbourger et al., Kriging is well-suited to parallelize
optimization, 2010), and the network says how sure it would be.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from twinscope.agents.structure_discovery.agent.recorder import Recorder
from twinscope.agents.structure_discovery.prediction import Prediction
from twinscope.agents.structure_discovery.stack import ImageStack

# Maps whose standard deviations, in Å, say how well a molecule is known.
_MAPS = ("vdw_spheres", "height_map")
# Where these are above this part of their highest value is the molecule.
_MOLECULE = 0.1
# Of all doubt about the molecule, a band of lines has to hold this part to be worth a measurement of its own, and it
# ends at a multiple of so many lines.
_WITHIN_BAND = 0.9
_BAND_STEP = 8


class StackPredictor(Protocol):
    """Whatever makes a molecule of a stack: :class:`~twinscope.agents.structure_discovery.predictor.Predictor`."""

    def predict(self, stack: ImageStack) -> Prediction:
        """Tell what molecule a stack shows; lines and slices that are NaN count as not measured."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that can be measured next.

    Attributes
    ----------
    layer
        Slice, from far to near.
    rows
        The first line and the one after the last.
    gain
        By how much the doubt, in Å, would fall; NaN where the network does not tell.
    seconds
        Instrument time.
    """

    layer: int
    rows: tuple[int, int]
    gain: float
    seconds: float

    @property
    def rate(self) -> float:
        """Gain per second."""
        return self.gain / self.seconds


def doubt(prediction: Prediction) -> float:
    """Mean standard deviation over the molecule, in Å; NaN where the network does not tell."""
    values = [np.mean(sigma[inside]) for sigma, inside in _sigmas(prediction) if inside.any()]
    return float(np.mean(values)) if values else np.nan


def best_candidate(
    recorder: Recorder,
    prediction: Prediction,
    predictor: StackPredictor,
    allowed: Sequence[int],
    seconds_per_line: float,
) -> Candidate | None:
    """Choose the measurement with the highest gain per second; None when nothing is left to be measured.

    Where the network does not tell how sure it is, the slice farthest from all others is next.

    Parameters
    ----------
    recorder
        What was measured up to now.
    prediction
        From that.
    predictor
        Tells what more would bring.
    allowed
        Slices that may be measured.
    seconds_per_line
        Instrument time of a line, the way back included.
    """
    now = doubt(prediction)
    stack = recorder.stack()
    found = []
    for layer, rows in _choices(recorder, prediction):
        if layer in allowed:
            then = doubt(predictor.predict(_imagined(stack, layer, rows))) if np.isfinite(now) else np.nan
            found.append(Candidate(layer, rows, now - then, (rows[1] - rows[0]) * seconds_per_line))
    if not found:
        return None
    if not np.isfinite(now):
        known = np.flatnonzero(recorder.measured.any(axis=1))
        return max(found, key=lambda one: (_distance(known, one.layer), one.layer))
    return max(found, key=lambda one: one.rate)


def _choices(recorder: Recorder, prediction: Prediction) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield what is missing of each slice: runs of lines, and of a slice without any the band that holds the doubt."""
    band = _band(prediction)
    for layer, lines in enumerate(recorder.measured):
        missing = np.flatnonzero(~lines)
        for run in np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1):
            if len(run):
                yield layer, (int(run[0]), int(run[-1]) + 1)
        if len(missing) == len(lines) and band[1] - band[0] < len(lines):
            yield layer, band


def _band(prediction: Prediction) -> tuple[int, int]:
    """Lines of the molecule that hold most of the doubt."""
    lines = sum((np.where(inside, sigma, 0.0).sum(axis=1) for sigma, inside in _sigmas(prediction)), np.zeros(1))
    if lines.sum() <= 0:
        return 0, len(prediction.y)
    share = np.cumsum(lines) / lines.sum()
    tail = (1 - _WITHIN_BAND) / 2
    first, end = int(np.searchsorted(share, tail)), int(np.searchsorted(share, 1 - tail)) + 1
    return first // _BAND_STEP * _BAND_STEP, min(-(-end // _BAND_STEP) * _BAND_STEP, len(lines))


def _sigmas(prediction: Prediction) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield standard deviations, in Å, and where the molecule is, of each map that tells."""
    for name in _MAPS:
        if name in prediction.maps:
            one = prediction.maps[name]
            inside = one.values > _MOLECULE * np.nanmax(one.values)
            if np.isfinite(one.sigma).all():
                yield one.sigma, inside


def _imagined(stack: ImageStack, layer: int, rows: tuple[int, int]) -> ImageStack:
    """Fill lines of a slice in, each linear between the slices above and below it where it was measured."""
    values = np.array(stack.frequency_shift)
    for row in range(*rows):
        known = np.flatnonzero(stack.measured[:, row].all(axis=-1))
        if layer not in known and len(known):
            values[layer, row] = _between(known, values[known, row], layer)
    return replace(stack, frequency_shift=values)


def _between(known: np.ndarray, lines: np.ndarray, layer: int) -> np.ndarray:
    """Interpolate lines (k, nx) of known slices to another one; at the ends the slope goes on."""
    if len(known) == 1:
        return lines[0]
    after = int(np.clip(np.searchsorted(known, layer), 1, len(known) - 1))
    share = (layer - known[after - 1]) / (known[after] - known[after - 1])
    line: np.ndarray = lines[after - 1] + share * (lines[after] - lines[after - 1])
    return line


def _distance(known: np.ndarray, layer: int) -> int:
    """Slices from one to the nearest that was measured."""
    return int(np.abs(known - layer).min(initial=len(known) + layer))
