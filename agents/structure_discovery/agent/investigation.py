"""One molecule: the way down to it, and slice after slice until it is known."""

import logging

import numpy as np

from twinscope.agents.structure_discovery.agent.approach import Framed, approach_region
from twinscope.agents.structure_discovery.agent.completing import completed
from twinscope.agents.structure_discovery.agent.equipment import Equipment, LiveProgress
from twinscope.agents.structure_discovery.agent.operator import ANGSTROM
from twinscope.agents.structure_discovery.agent.overview import Overview
from twinscope.agents.structure_discovery.agent.planning import Candidate, best_candidate, doubt, field_doubt
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
from twinscope.agents.structure_discovery.structure import Structure
from twinscope.agents.structure_discovery.training_data.recipe import PUBLISHED, lowest_height
from twinscope.errors import AcquisitionError
from twinscope.kernels import Tip

log = logging.getLogger(__name__)

# The network's own opinion of the height counts when it is this sure, and this far off, in Å.
_SURE, _FAR_OFF = 0.15, 0.3
_CARBON = 6
# A measurement that is expected to remove less than the first part of the doubt is not made, unless the last one has
# removed more than the second: what is foreseen is filled in from what is known, and brings less than what is measured.
_WORTH_WHILE, _STILL_LEARNING = 0.005, 0.02


class Investigation:
    """The work on one molecule; what was found up to now is kept whatever happens.

    Parameters
    ----------
    equipment
        What it is done with.
    number, region
        Of the molecule.
    deadline
        Instrument time at which the budget ends, in s.
    """

    def __init__(self, equipment: Equipment, number: int, region: Region, deadline: float) -> None:
        self._equipment = equipment
        self._operator, self._predictor = equipment.operator, equipment.predictor
        self._options, self._grid = equipment.options, equipment.grid
        self._number, self._region, self._deadline = number, region, deadline
        self._begin = self._now = self._operator.time
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
        refiner, prediction = self._equipment.refiner, self._prediction
        if self._options.refine and refiner is not None and len(prediction.structure):
            self._refined = refiner(recorder.stack(), prediction.structure, conditions=prediction.conditions)
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
        size, line_time = self._equipment.frame_size, self._options.coarse_line_time
        self._framed = approach_region(self._operator, overview, self._region, size, line_time)
        self._now = self._operator.time
        place, sensor = self._framed.place, self._framed.images[0]
        self._recorder = Recorder(self._grid, place.x, place.y, self._framed.lowest, sensor.cantilever, sensor.tip)
        return self._recorder

    def _correct_height(self, recorder: Recorder, prediction: Prediction) -> None:
        """Move the slices when the network is sure that they are too high or too low for it."""
        height, sigma = prediction.conditions.get("height", (np.nan, np.nan))
        atoms = prediction.structure if len(prediction.structure) else Structure.known([_CARBON], [[0.0, 0.0, 0.0]])
        off = height - lowest_height(atoms.numbers, atoms.positions[:, 2], Tip(), float(np.mean(PUBLISHED.clearance)))
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
            if self._equipment.on_update is not None and count % self._options.update_lines == 0 and count < total:
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
        if self._equipment.on_update is not None:
            first, end = candidate.rows
            self._equipment.on_update(
                prediction, LiveProgress(self._number, candidate.layer, lines, end - first, self._now)
            )

    @property
    def _left(self) -> float:
        """Budget that is left, in s."""
        return self._deadline - self._now


def same_atoms(one: Structure, other: Structure) -> bool:
    """Whether two structures have the same atoms at the same places."""
    return compare(one, other, metric="lateral").same_atoms
