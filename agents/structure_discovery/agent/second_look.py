"""A molecule once more, with something else at the end of the tip: what differs tells the charges."""

import logging
from dataclasses import replace

import numpy as np

from twinscope.agents.structure_discovery.agent.approach import approach_region
from twinscope.agents.structure_discovery.agent.completing import completed
from twinscope.agents.structure_discovery.agent.equipment import Equipment, LiveProgress
from twinscope.agents.structure_discovery.agent.investigation import same_atoms
from twinscope.agents.structure_discovery.agent.operator import ANGSTROM
from twinscope.agents.structure_discovery.agent.overview import take_overview
from twinscope.agents.structure_discovery.agent.planning import doubt, field_doubt
from twinscope.agents.structure_discovery.agent.record import Action, MoleculeRecord
from twinscope.agents.structure_discovery.agent.recorder import Recorder
from twinscope.agents.structure_discovery.agent.registration import displacement
from twinscope.agents.structure_discovery.agent.slicing import Band, Slicing
from twinscope.agents.structure_discovery.prediction import Prediction
from twinscope.agents.structure_discovery.stack import ImageStack
from twinscope.agents.structure_discovery.structure import Structure
from twinscope.errors import AcquisitionError

log = logging.getLogger(__name__)

# Side of the area (m) in which a molecule is looked for again.
_AROUND = 3e-9
# The frame stays where the molecule is no farther off than this, in Å; it is laid so many times.
_CLOSE, _MOST_FRAMES = 0.25, 4


class SecondLook:
    """Measures molecules again that another tip has shown.

    A new tip is longer or shorter than the one before, and leans another way: each molecule is looked for and
    approached as if nothing were known of heights, and its frame is laid as it was.

    Parameters
    ----------
    equipment
        What it is done with: the operator has the new tip.
    deadline
        Instrument time at which the budget ends, in s.
    """

    def __init__(self, equipment: Equipment, deadline: float) -> None:
        self._equipment, self._deadline = equipment, deadline
        self._operator, self._options, self._grid = equipment.operator, equipment.options, equipment.grid

    def measure(self, molecule: MoleculeRecord, number: int) -> MoleculeRecord:
        """Measure a molecule until its charges are known well enough; return the record with what was found.

        Parameters
        ----------
        molecule
            With what the first tip has shown.
        number
            Of it, from 0.

        Raises
        ------
        AcquisitionError
            When it is not there, or nothing can be measured.
        """
        first, prediction = molecule.stack, molecule.prediction
        if first is None or prediction is None:
            raise AcquisitionError("the first tip has shown nothing with which another one could be compared")
        recorder, slicing = self._frame(molecule, prediction.structure)
        actions: list[Action] = []
        for layer in self._options.second_slices:
            rows = self._whole(layer).rows
            # The slice by which the frame was laid is there already.
            if not recorder.missing[layer].all():
                repeated = 0
            elif self._possible(slicing, layer):
                repeated = slicing.measure(self._whole(layer))
            else:
                continue
            prediction = self._equipment.predictor.predict(completed(first), completed(recorder.stack()))
            told, now = (doubt(prediction), field_doubt(prediction)), self._operator.time
            actions.append(Action(recorder.tip, layer, rows, repeated, now, *told, np.nan))
            log.info("slice %d with %s: doubt about the field %.3g V/m", layer, recorder.tip, told[1])
            if self._equipment.on_update is not None:
                self._equipment.on_update(
                    prediction, LiveProgress(number, layer, self._grid.pixels, self._grid.pixels, now)
                )
            if told[1] < self._options.target_field_sigma:
                break
        return replace(
            self._refined(molecule, first, prediction),
            prediction=prediction,
            others=(recorder.stack(),),
            actions=(*molecule.actions, *actions),
            end=self._operator.time,
        )

    def _frame(self, molecule: MoleculeRecord, structure: Structure) -> tuple[Recorder, Slicing]:
        """Find the molecule, approach it, and lay the frame as it was with the first tip, by the first slice."""
        x, y = molecule.center
        around = take_overview(self._operator, replace(self._options, center=(x, y), size=(_AROUND, _AROUND)))
        if not around.molecules:
            raise AcquisitionError(
                f"with the second tip no molecule was seen at ({x:.4g}, {y:.4g}) m: is it still there?"
            )
        region = min(around.molecules, key=lambda one: np.hypot(one.x - x / ANGSTROM, one.y - y / ANGSTROM))
        size, line_time = self._equipment.frame_size, self._options.coarse_line_time
        framed = approach_region(self._operator, around, region, size, line_time)
        place, sensor, layer = framed.place, framed.images[0], self._options.second_slices[0]
        for _ in range(_MOST_FRAMES):
            recorder = Recorder(self._grid, place.x, place.y, framed.lowest, sensor.cantilever, sensor.tip)
            slicing = Slicing(self._operator, self._options, recorder, self._deadline)
            if not self._possible(slicing, layer):
                raise AcquisitionError("limits, interlocks or the budget do not allow the first slice of this tip")
            slicing.measure(self._whole(layer))
            across, up = displacement(structure, recorder.stack())
            log.info("with %s the molecule is (%.2f, %.2f) Å off", recorder.tip, across, up)
            if np.hypot(across, up) <= _CLOSE:
                break
            place = replace(place, x=place.x + across, y=place.y + up)
        else:
            raise AcquisitionError(
                f"after {_MOST_FRAMES} frames the molecule is ({across:.2f}, {up:.2f}) Å off: does it drift?"
            )
        return recorder, slicing

    def _refined(self, molecule: MoleculeRecord, stack: ImageStack, prediction: Prediction) -> MoleculeRecord:
        """Fit the structure again when both tips show another one than the first alone."""
        before, refiner = molecule.prediction, self._equipment.refiner
        known = molecule.refined is None or before is None or same_atoms(before.structure, prediction.structure)
        if known or refiner is None or not len(prediction.structure):
            return molecule
        refined = refiner(stack, prediction.structure, conditions=prediction.conditions)
        return replace(molecule, refined=refined, note=refined.reason)

    def _whole(self, layer: int) -> Band:
        return Band(layer, (0, self._grid.pixels))

    def _possible(self, slicing: Slicing, layer: int) -> bool:
        """Whether tip, limits, interlocks and budget allow a slice."""
        return slicing.allowed(layer) and self._operator.time + slicing.seconds(self._grid.pixels) <= self._deadline
