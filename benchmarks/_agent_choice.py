"""What the agent's choice of slices and lines is worth: the same molecules, measured in different orders."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from _discovery_data import ALIGNED, NOISE, imaged, test_molecules
from _report import Figure, Report

from twinscope.agents.structure_discovery.agent import DiscoveryOptions
from twinscope.agents.structure_discovery.agent.completing import completed
from twinscope.agents.structure_discovery.agent.planning import best_candidate
from twinscope.agents.structure_discovery.agent.recorder import Recorder
from twinscope.agents.structure_discovery.prediction import DESCRIPTORS, Prediction
from twinscope.agents.structure_discovery.predictor import Predictor
from twinscope.agents.structure_discovery.stack import PUBLISHED_GRID, ImageStack

# So much of a stack may the agent measure, in slices of all lines.
_AFFORDED = 5
_LINES = PUBLISHED_GRID.pixels
_MAPS = ("vdw_spheres", "height_map")
_CHANNELS = {name: list(DESCRIPTORS).index(name) for name in _MAPS}


@dataclass(frozen=True)
class Step:
    """A state of a measurement: how many lines were measured, and the mean squared errors of the maps, in Å²."""

    lines: int
    errors: tuple[float, ...]


def report_choice(report: Report, predictor: Predictor, count: int, seed: int) -> None:
    """Compare, on molecules that nobody trained with, what is known after as much instrument time.

    Parameters
    ----------
    report
        To which the rows are added.
    predictor
        Whose opinion chooses.
    count
        Molecules.
    seed
        Of orientations and noise.
    """
    options = DiscoveryOptions()
    samples = imaged(test_molecules(count), ALIGNED, seed)
    stacks, truths = list(samples.stacks(NOISE)), np.asarray(samples.batch.maps)
    everything = _errors_of(predictor, stacks, truths, range(PUBLISHED_GRID.slices))
    even = _errors_of(predictor, stacks, truths, range(1, PUBLISHED_GRID.slices, 2))
    chosen = {
        "whole slices": [list(_measure(predictor, *one, options, None)) for one in zip(stacks, truths, strict=True)],
        "bands of lines": [
            list(_measure(predictor, *one, options, options.target_sigma * 1e10))
            for one in zip(stacks, truths, strict=True)
        ],
    }
    for number, name in enumerate(_MAPS):
        what = f"squared error of {name.replace('_', ' ')}"
        peer = f"all {PUBLISHED_GRID.slices} slices", Figure((float(everything[:, number].mean()),), "Å²")
        report.add(f"{what}, every second slice", Figure((float(even[:, number].mean()),), "Å²"), peer=peer)
        for how, runs in chosen.items():
            for slices in range(len(options.first_slices), _AFFORDED + 1):
                error = np.mean([_at(run, slices * _LINES).errors[number] for run in runs])
                row = f"{what}, chosen {how}, time of {slices} slices"
                report.add(row, Figure((float(error),), "Å²"), peer=peer)
    for how, runs in chosen.items():
        lines = np.array([_lines_until(run, wanted) for run, wanted in zip(runs, everything, strict=True)])
        reached = np.isfinite(lines)
        report.notes.append(
            f"chosen {how}: {reached.mean():.0%} of {count} molecules reach the errors of all slices within the time of"
            f" {_AFFORDED}" + (f", after {np.median(lines[reached]):.0f} lines in the median" if reached.any() else "")
        )


def _errors_of(
    predictor: Predictor, stacks: Sequence[ImageStack], truths: np.ndarray, layers: Sequence[int]
) -> np.ndarray:
    """Errors (n, maps) after some whole slices."""
    every = []
    for stack, truth in zip(stacks, truths, strict=True):
        recorder = _recorder(stack)
        for layer in layers:
            _put(recorder, stack, layer, (0, _LINES))
        every.append(_errors(predictor.predict(completed(recorder.stack())), truth))
    return np.array(every)


def _measure(
    predictor: Predictor, stack: ImageStack, truth: np.ndarray, options: DiscoveryOptions, target: float | None
) -> Iterator[Step]:
    """Measure as the agent does; yield what is known after each measurement."""
    recorder, lines = _recorder(stack), 0
    for layer in options.first_slices:
        lines += _put(recorder, stack, layer, (0, _LINES))
    while True:
        prediction = predictor.predict(completed(recorder.stack()))
        yield Step(lines, _errors(prediction, truth))
        layers = range(PUBLISHED_GRID.slices)
        best = best_candidate(recorder, prediction, predictor, layers, 1.0, target)
        if best is None or lines + best.rows[1] - best.rows[0] > _AFFORDED * _LINES:
            return
        lines += _put(recorder, stack, best.layer, best.rows)


def _recorder(stack: ImageStack) -> Recorder:
    return Recorder(PUBLISHED_GRID, 0.0, 0.0, 0.0, stack.cantilever, stack.tip)


def _put(recorder: Recorder, stack: ImageStack, layer: int, rows: tuple[int, int]) -> int:
    """Measure lines of a slice; return how many."""
    for row in range(*rows):
        recorder.put(layer, row, stack.frequency_shift[layer, row])
    return rows[1] - rows[0]


def _errors(prediction: Prediction, truth: np.ndarray) -> tuple[float, ...]:
    return tuple(float(np.mean((prediction.maps[name].values - truth[_CHANNELS[name]]) ** 2)) for name in _MAPS)


def _at(run: Sequence[Step], lines: int) -> Step:
    """Return what was known after so many lines."""
    return [step for step in run if step.lines <= lines][-1]


def _lines_until(run: Sequence[Step], wanted: np.ndarray) -> float:
    """Lines after which all errors were as small as wanted; NaN when they never were."""
    return next((float(step.lines) for step in run if (np.array(step.errors) <= wanted).all()), np.nan)
