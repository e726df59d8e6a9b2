"""What to measure next: where the network is unsure, and what it would tell per second of instrument time.

A measurement that was not made cannot tell what it will show, but what the network makes of it can be foreseen: it is
filled in as the neighbouring slices suggest, as a "fantasy" (Ginsbourger et al., Kriging is well-suited to parallelize
optimization, 2010), and the network says how sure it would be.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from twinscope.agents.structure_discovery.agent.completing import completed
from twinscope.agents.structure_discovery.agent.operator import ANGSTROM
from twinscope.agents.structure_discovery.agent.recorder import Recorder
from twinscope.agents.structure_discovery.agent.spoiled import runs
from twinscope.agents.structure_discovery.prediction import DescriptorMap, Prediction
from twinscope.agents.structure_discovery.stack import ImageStack

# Maps whose standard deviations, in Å, say how well a molecule is known.
_MAPS = ("vdw_spheres", "height_map")
# Where these are above this part of their highest value is the molecule.
_MOLECULE = 0.1
# Of the doubt that is too much, this part lies between the first and the last line of a band, to which this much (Å) is
# added on either side: without it a network makes more errors, with it as many as with the whole slice. It ends at a
# multiple of so many lines, and has at least this part of all lines: networks have not seen narrower ones.
_WITHIN_BAND = 0.9
_BESIDE_BAND = 2.0
_BAND_STEP = 8
_NARROWEST_BAND = 0.25


class StackPredictor(Protocol):
    """Whatever makes a molecule of a stack: :class:`~twinscope.agents.structure_discovery.predictor.Predictor`."""

    def predict(self, stack: ImageStack, *others: ImageStack) -> Prediction:
        """Tell what molecule a stack shows, and others of further tips; lines that are NaN count as not measured."""


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


def field_doubt(prediction: Prediction) -> float:
    """Mean standard deviation of the electrostatic map over the molecule, in V/m; NaN where there is none."""
    field, spheres = (prediction.maps.get(name) for name in ("electrostatic_map", "vdw_spheres"))
    if field is None or spheres is None:
        return np.nan
    inside = _inside(spheres)
    return float(np.mean(field.sigma[inside])) / ANGSTROM if inside.any() else np.nan


def best_candidate(
    recorder: Recorder,
    prediction: Prediction,
    predictor: StackPredictor,
    allowed: Sequence[int],
    seconds_per_line: float,
    target: float | None = 0.0,
) -> Candidate | None:
    """Choose the measurement with the highest gain per second; None when nothing is left to be measured.

    Lines are worth measuring where the molecule is less certain than asked for: of each slice, the missing ones in that
    band; and all that are missing only when there are none. Where the network does not tell how sure it is, the slice
    farthest from all others is next.

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
    target
        Å: the standard deviation that is asked for; None to measure whole slices only.
    """
    now = doubt(prediction)
    stack = recorder.stack()
    band = (0, recorder.grid.pixels) if target is None else doubtful_band(prediction, target)
    found = []
    for layer, rows in _choices(recorder, allowed, band):
        then = doubt(predictor.predict(_imagined(stack, layer, rows))) if np.isfinite(now) else np.nan
        found.append(Candidate(layer, rows, now - then, (rows[1] - rows[0]) * seconds_per_line))
    if not found:
        return None
    if not np.isfinite(now):
        known = np.flatnonzero(recorder.measured.any(axis=1))
        return max(found, key=lambda one: (_distance(known, one.layer), one.layer))
    return max(found, key=lambda one: one.rate)


def _choices(
    recorder: Recorder, allowed: Sequence[int], band: tuple[int, int]
) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield runs of lines that are missing: those in the band, or all when nothing is missing there."""
    missing = np.zeros_like(recorder.missing)
    missing[list(allowed)] = recorder.missing[list(allowed)]
    inside = np.zeros_like(missing)
    inside[:, slice(*band)] = missing[:, slice(*band)]
    for layer, lines in enumerate(inside if inside.any() else missing):
        for run in runs(lines):
            yield layer, run


def doubtful_band(prediction: Prediction, target: float) -> tuple[int, int]:
    """Return the lines in which the molecule is less certain than asked for.

    Parameters
    ----------
    prediction
        From what was measured up to now.
    target
        Å: the standard deviation that is asked for. Where the maps are nowhere worse, all doubt counts.

    Returns
    -------
    tuple of int
        The first line and the one after the last; all lines where the network does not tell.
    """
    count = len(prediction.y)
    lines = _doubt_by_line(prediction, target)
    if not lines.any():
        lines = _doubt_by_line(prediction, 0.0)
    if not lines.any():
        return 0, count
    share = np.cumsum(lines) / lines.sum()
    tail = (1 - _WITHIN_BAND) / 2
    first, end = int(np.searchsorted(share, tail)), int(np.searchsorted(share, 1 - tail)) + 1
    beside = round(_BESIDE_BAND / float(prediction.y[1] - prediction.y[0]))
    first, end = max(first - beside, 0), min(end + beside, count)
    lacking = max(round(_NARROWEST_BAND * count) - (end - first), 0)
    first, end = max(first - lacking // 2, 0), min(end + lacking // 2, count)
    return first // _BAND_STEP * _BAND_STEP, min(-(-end // _BAND_STEP) * _BAND_STEP, count)


def _doubt_by_line(prediction: Prediction, target: float) -> np.ndarray:
    """Sum, over the molecule, what standard deviations are above the target: shape (ny,)."""
    excess = [np.where(inside, np.maximum(sigma - target, 0.0), 0.0) for sigma, inside in _sigmas(prediction)]
    return np.sum(excess, axis=(0, 2)) if excess else np.zeros(len(prediction.y))


def _sigmas(prediction: Prediction) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield standard deviations, in Å, and where the molecule is, of each map that tells."""
    for name in _MAPS:
        if name in prediction.maps:
            one = prediction.maps[name]
            if np.isfinite(one.sigma).all():
                yield one.sigma, _inside(one)


def _inside(one: DescriptorMap) -> np.ndarray:
    """Tell where the molecule is: shape (ny, nx)."""
    return np.asarray(one.values > _MOLECULE * np.nanmax(one.values))


def _imagined(stack: ImageStack, layer: int, rows: tuple[int, int]) -> ImageStack:
    """Fill lines of a slice in as if they had been measured, and with them the rest of the slice."""
    chosen = np.zeros(len(stack.z), bool)
    chosen[layer] = True
    whole = completed(stack, chosen)
    values = np.array(stack.frequency_shift)
    values[layer, slice(*rows)] = whole.frequency_shift[layer, slice(*rows)]
    return completed(replace(stack, frequency_shift=values))


def _distance(known: np.ndarray, layer: int) -> int:
    """Slices from one to the nearest that was measured."""
    return int(np.abs(known - layer).min(initial=len(known) + layer))
