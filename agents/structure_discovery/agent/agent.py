"""The agent: it looks around, and goes from molecule to molecule until it knows as many as it was asked for."""

import logging
from dataclasses import replace

from twinscope.agents.structure_discovery.agent.equipment import Equipment, OnUpdate, Refiner
from twinscope.agents.structure_discovery.agent.investigation import Investigation
from twinscope.agents.structure_discovery.agent.operator import ANGSTROM, Operator
from twinscope.agents.structure_discovery.agent.options import DiscoveryOptions
from twinscope.agents.structure_discovery.agent.overview import Overview, take_overview
from twinscope.agents.structure_discovery.agent.planning import StackPredictor, field_doubt
from twinscope.agents.structure_discovery.agent.record import DONE, OUT_OF_BUDGET, DiscoveryRecord, MoleculeRecord
from twinscope.agents.structure_discovery.agent.second_look import SecondLook
from twinscope.agents.structure_discovery.agent.segmentation import Region
from twinscope.agents.structure_discovery.stack import PUBLISHED_GRID, StackGrid
from twinscope.errors import AbortedError, InterlockError, LeaseError, RemoteError, TripError, TwinscopeError
from twinscope.microscope import Microscope
from twinscope.state import TipState

log = logging.getLogger(__name__)

# Errors after which there is no use in another molecule.
_FINAL = (AbortedError, LeaseError, RemoteError)
_LOST = (TipState.CRASHED, TipState.UNKNOWN)


class StructureDiscoveryAgent:
    """Finds molecules on a surface that it does not know, and tells what they are.

    It uses what every microscope of this package has: scans, limits, the state. Nothing in it is random: on a simulated
    world the same seed and network give the same run.

    Parameters
    ----------
    scope
        The microscope, whose control the caller holds: ``with scope.control("structure discovery"): agent.run()``.
    predictor
        Makes molecules of stacks.
    options
        What is asked for.
    refiner
        Fits the structure to the stack; None to leave it as predicted.
    on_update
        Called with a prediction while lines arrive, and after every measurement.
    grid
        Of the predictor.
    """

    def __init__(
        self,
        scope: Microscope,
        predictor: StackPredictor,
        options: DiscoveryOptions | None = None,
        *,
        refiner: Refiner | None = None,
        on_update: OnUpdate | None = None,
        grid: StackGrid = PUBLISHED_GRID,
    ) -> None:
        self.options = options or DiscoveryOptions()
        self._operator = Operator(scope)
        self._equipment = Equipment(self._operator, predictor, refiner, self.options, grid, on_update)
        self._begin = self._now = 0.0

    def run(self) -> DiscoveryRecord:
        """Do everything; errors of the instrument end the run, with the tip withdrawn, and stand in the record."""
        self._begin = self._now = surveyed = self._operator.time
        overview: Overview | None = None
        molecules: list[MoleculeRecord] = []
        try:
            if self.options.second_tip is not None:
                self._operator.check_exchange(self.options.second_tip)
            overview = take_overview(self._operator, self.options)
            surveyed = self._tick()
            ended, note = self._solve_all(overview, molecules)
            if self.options.second_tip is not None:
                self._look_again(self.options.second_tip, molecules)
        except TwinscopeError as exc:
            log.warning("the run ends: %s", exc)
            ended, note = exc.code, exc.message
        trouble = self._operator.withdraw()
        return DiscoveryRecord(
            self._operator.capabilities.instrument,
            self.options,
            overview,
            tuple(molecules),
            ended,
            note,
            "withdrawn" if trouble is None else f"not withdrawn: {trouble}",
            self._begin,
            surveyed,
            self._tick(),
            self._operator.scanned * ANGSTROM**2,
        )

    def _solve_all(self, overview: Overview, molecules: list[MoleculeRecord]) -> tuple[str, str]:
        """Solve one molecule after the other; return how it ended, and a note."""
        solved = 0
        for region in overview.ranked():
            if solved == self.options.molecules:
                break
            if self._now - self._begin >= self.options.budget:
                return OUT_OF_BUDGET, f"{solved} of {self.options.molecules} molecules were solved"
            solved += self._solve(region, overview, molecules)
        missing = self.options.molecules - solved
        return DONE, f"{missing} molecules fewer than asked for: there are no more in the area" if missing else ""

    def _look_again(self, probe: str, molecules: list[MoleculeRecord]) -> None:
        """Measure molecules whose charges are doubtful with another tip, and keep what was found whatever happens."""
        target, deadline = self.options.target_field_sigma, self._begin + self.options.budget
        doubtful = [
            number
            for number, one in enumerate(molecules)
            if one.prediction is not None and not field_doubt(one.prediction) <= target
        ]
        if not doubtful:
            return
        if self._tick() + self.options.exchange_time > deadline:
            for number in doubtful:
                molecules[number] = _noted(molecules[number], f"no time was left for {probe} at the tip")
            return
        self._operator.exchange(probe)
        look = SecondLook(self._equipment, deadline)
        for number in doubtful:
            try:
                molecules[number] = look.measure(molecules[number], number)
            except TwinscopeError as exc:
                log.warning("molecule %d is not measured with %s: %s", number, probe, exc)
                molecules[number] = _noted(molecules[number], f"not measured with {probe}: {exc.message}")
                self._check_going_on(exc)

    def _solve(self, region: Region, overview: Overview, molecules: list[MoleculeRecord]) -> bool:
        """Solve a molecule, and keep what was found whatever happens; False when it was given up."""
        work = Investigation(self._equipment, len(molecules), region, self._begin + self.options.budget)
        try:
            ended, note = work.run(overview)
        except TwinscopeError as exc:
            log.warning("molecule %d is given up: %s", len(molecules), exc)
            molecules.append(work.record(exc.code, exc.message, self._tick()))
            self._check_going_on(exc)
            return False
        molecules.append(work.record(ended, note, self._tick()))
        return True

    def _check_going_on(self, error: TwinscopeError) -> None:
        """Raise an error again when there is no use in another molecule."""
        blocked = isinstance(error, InterlockError) and not isinstance(error, TripError)
        if blocked or isinstance(error, _FINAL) or self._operator.scope.state().tip in _LOST:
            raise error

    def _tick(self) -> float:
        """Look at the instrument's clock; where there is no answer, the time of the last look is kept."""
        try:
            self._now = self._operator.time
        except TwinscopeError as exc:
            log.warning("the instrument time is not known: %s", exc)
        return self._now


def _noted(molecule: MoleculeRecord, note: str) -> MoleculeRecord:
    return replace(molecule, note="; ".join(filter(None, (molecule.note, note))))
