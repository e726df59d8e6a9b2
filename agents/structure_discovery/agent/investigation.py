"""One molecule: the way down to it, and slice after slice until it is known."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from twinscope.agents.structure_discovery.agent.approach import Framed, approach_molecule
from twinscope.agents.structure_discovery.agent.completing import completed
from twinscope.agents.structure_discovery.agent.operator import ANGSTROM, Operator
from twinscope.agents.structure_discovery.agent.options import DiscoveryOptions
from twinscope.agents.structure_discovery.agent.overview import Overview
from twinscope.agents.structure_discovery.agent.planning import (
    Candidate,
    StackPredictor,
    best_candidate,
    doubt,
    field_doubt,
)
from twinscope.agents.structure_discovery.agent.record import (
    COMPLETE,
    CONFIDENT,
    OUT_OF_BUDGET,
    SATURATED,
    Action,
    MoleculeRecord,
)
from twinscope.agents.structure_discovery.agent.recorder import Recorder
from twinscope.agents.structure_discovery.agent.segmentation import Region
from twinscope.agents.structure_discovery.agent.slicing import Band, Slicing
from twinscope.agents.structure_discovery.graph.matching import compare
from twinscope.agents.structure_discovery.prediction import Prediction
from twinscope.agents.structure_discovery.refinement import Refined
from twinscope.agents.structure_discovery.stack import ImageStack, StackGrid
from twinscope.agents.structure_discovery.structure import Structure
from twinscope.agents.structure_discovery.training_data.recipe import PUBLISHED, probe_radius
from twinscope.errors import AcquisitionError
from twinscope.kernels import ELEMENTS, Tip

log = logging.getLogger(__name__)

# Above everything that was seen, in Å: to go from place to place, and to begin an approach over one molecule.
_TRAVEL_CLEARANCE = 5.0
_APPROACH_CLEARANCE = 0.5
# The network's own opinion of the height counts when it is this sure, and this far off, in Å.
_SURE, _FAR_OFF = 0.15, 0.3
_CARBON = 6
# A measurement that is expected to remove less than the first part of the doubt is not made, unless the last one has
# removed more than the second: what is foreseen is filled in from what is known, and brings less than what is measured.
_WORTH_WHILE, _STILL_LEARNING = 0.005, 0.02


class Refiner(Protocol):
    """Fits a structure to a stack, such as :func:`~twinscope.agents.structure_discovery.refinement.refine`."""

    def __call__(
        self, stack: ImageStack, structure: Structure, *, conditions: Mapping[str, tuple[float, float]]
    ) -> Refined:
        """Return what was found, beginning with the conditions of the prediction."""


@dataclass(frozen=True, slots=True)
class LiveProgress:
    """How far the measurement of a molecule is.

    Attributes
    ----------
    molecule
        Number of the molecule, from 0.
    layer
        The slice in progress, from far to near.
    lines, total
        Lines of it that are done, and all.
    time
        Instrument time at the end of the measurement before, in s.
    """

    molecule: int
    layer: int
    lines: int
    total: int
    time: float


OnUpdate = Callable[[Prediction, LiveProgress], None]


class Investigation:
    """The work on one molecule; what was found up to now is kept whatever happens.

    Parameters
    ----------
    operator
        Of the microscope.
    predictor, refiner
        Make molecules of stacks, and fit them.
    options
        What is asked for.
    grid
        Of the predictor.
    on_update
        Called with each prediction.
    number, region
        Of the molecule.
    deadline
        Instrument time at which the budget ends, in s.
    """

    def __init__(
        self,
        operator: Operator,
        predictor: StackPredictor,
        refiner: Refiner | None,
        options: DiscoveryOptions,
        grid: StackGrid,
        on_update: OnUpdate | None,
        number: int,
        region: Region,
        deadline: float,
    ) -> None:
        self._operator, self._predictor, self._refiner = operator, predictor, refiner
        self._options, self._grid, self._on_update = options, grid, on_update
        self._number, self._region, self._deadline = number, region, deadline
        self._begin = self._now = operator.time
        self._framed: Framed | None = None
        self._recorder: Recorder | None = None
        self._prediction: Prediction | None = None
        self._refined: Refined | None = None
        self._actions: list[Action] = []
        self._stable = False

    def run(self, overview: Overview) -> tuple[str, str]:
        """Measure the molecule until it is known; return how it ended, and a note."""
        recorder = self._approach(overview)
        slicing = Slicing(self._operator, self._options, recorder, self._deadline)
        for layer in self._options.first_slices:
            first = Candidate(layer, (0, self._grid.pixels), np.nan, slicing.seconds(self._grid.pixels))
            if first.seconds <= self._left and slicing.allowed(layer):
                self._measure(recorder, slicing, first)
        if self._prediction is None:
            raise AcquisitionError("limits, interlocks or the budget allow none of the first slices of the molecule")
        if slicing.unhindered:
            self._correct_height(recorder, self._prediction)
        ended = self._improve(recorder, slicing, self._prediction)
        if self._options.refine and self._refiner is not None and len(self._prediction.structure):
            prediction = self._prediction
            self._refined = self._refiner(recorder.stack(), prediction.structure, conditions=prediction.conditions)
            return ended, self._refined.reason
        return ended, ""

    def record(self, ended: str, note: str, end: float) -> MoleculeRecord:
        """Return what was found."""
        recorder = self._recorder
        return MoleculeRecord(
            self._region,
            self._framed,
            None if recorder is None or recorder.empty else recorder.stack(),
            self._prediction,
            self._refined,
            tuple(self._actions),
            ended,
            note,
            self._begin,
            end,
        )

    def _approach(self, overview: Overview) -> Recorder:
        """Go to the molecule and down to it."""
        x, y, size = self._region.x, self._region.y, self._grid.pixels * self._grid.pitch
        start = start_over(self._operator, overview, self._region, size)
        self._framed = approach_molecule(self._operator, x, y, start, size, self._options.coarse_line_time)
        self._now = self._operator.time
        place, sensor = self._framed.place, self._framed.images[0]
        self._recorder = Recorder(self._grid, place.x, place.y, self._framed.lowest, sensor.cantilever, sensor.tip)
        return self._recorder

    def _correct_height(self, recorder: Recorder, prediction: Prediction) -> None:
        """Move the slices when the network is sure that they are too high or too low for it."""
        height, sigma = prediction.conditions.get("height", (np.nan, np.nan))
        atoms = prediction.structure
        top = int(atoms.numbers[np.argmax(atoms.positions[:, 2])]) if len(atoms) else _CARBON
        off = height - (ELEMENTS[top - 1].radius + probe_radius(Tip()) + float(np.mean(PUBLISHED.clearance)))
        if sigma <= _SURE and abs(off) >= _FAR_OFF:
            log.info("the network finds the slices %.2f Å too high: they are moved", off)
            recorder.shift(round(off / self._grid.spacing))

    def _improve(self, recorder: Recorder, slicing: Slicing, prediction: Prediction) -> str:
        """Measure what brings most until it is enough; return how it ended."""
        while not (self._stable and doubt(prediction) < self._options.target_sigma / ANGSTROM):
            layers = [layer for layer in range(self._grid.slices) if slicing.allowed(layer)]
            target = self._options.target_sigma / ANGSTROM if self._options.bands else None
            chosen = best_candidate(recorder, prediction, self._predictor, layers, slicing.seconds(1), target)
            if chosen is None:
                return COMPLETE
            if chosen.gain < _WORTH_WHILE * doubt(prediction) and not self._learning(prediction):
                return SATURATED
            if chosen.seconds > self._left:
                return OUT_OF_BUDGET
            prediction = self._measure(recorder, slicing, chosen)
        return CONFIDENT

    def _learning(self, prediction: Prediction) -> bool:
        """Whether the last measurement has told much."""
        if len(self._actions) < 2:
            return False
        before = self._actions[-2].doubt
        return bool(before - doubt(prediction) > _STILL_LEARNING * before)

    def _measure(self, recorder: Recorder, slicing: Slicing, candidate: Candidate) -> Prediction:
        """Measure lines of a slice and predict."""

        def on_lines(count: int, total: int) -> None:
            if self._on_update is not None and count % self._options.update_lines == 0 and count < total:
                self._tell(self._predictor.predict(recorder.stack()), candidate, count)

        repeated = slicing.measure(Band(candidate.layer, candidate.rows), on_lines)
        before, now = self._prediction, self._predictor.predict(completed(recorder.stack()))
        self._prediction = now
        self._now = self._operator.time
        self._stable = before is not None and same_atoms(before.structure, now.structure)
        expected = np.nan if before is None else doubt(before) - candidate.gain
        told = repeated, self._now, doubt(now), field_doubt(now), expected
        self._actions.append(Action(recorder.tip, candidate.layer, candidate.rows, *told))
        log.info("slice %d, lines %s: doubt %.4f Å", candidate.layer, candidate.rows, doubt(now))
        first, end = candidate.rows
        self._tell(now, candidate, end - first)
        return now

    def _tell(self, prediction: Prediction, candidate: Candidate, lines: int) -> None:
        if self._on_update is not None:
            first, end = candidate.rows
            self._on_update(prediction, LiveProgress(self._number, candidate.layer, lines, end - first, self._now))

    @property
    def _left(self) -> float:
        """Budget that is left, in s."""
        return self._deadline - self._now


def start_over(operator: Operator, overview: Overview, region: Region, size: float) -> float:
    """Go to where something was seen, high above all, and return a height in Å at which an approach can begin there.

    Parameters
    ----------
    operator
        Of the microscope.
    overview, region
        What was seen, and which of it.
    size
        Of the frame that shall be safe at this height, in Å.
    """
    operator.travel(region.x, region.y, overview.highest + _TRAVEL_CLEARANCE)
    return overview.height_near(region.x, region.y, size / 2) + _APPROACH_CLEARANCE


def same_atoms(one: Structure, other: Structure) -> bool:
    """Whether two structures have the same atoms at the same places."""
    comparison = compare(one, other, metric="lateral")
    elements = comparison.confusion
    return not len(comparison.missing) and not len(comparison.extra) and elements.sum() == np.trace(elements)
