import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.agents._surface_driver import SurfaceDriver
from tests.agents._thresholding import Thresholding
from tests.conftest import until
from twinscope import Microscope
from twinscope.agents.structure_discovery.agent import (
    DiscoveryOptions,
    DiscoveryRecord,
    LiveProgress,
    StructureDiscoveryAgent,
    run_discovery,
)
from twinscope.agents.structure_discovery.agent.approach import approach_molecule
from twinscope.agents.structure_discovery.agent.operator import Operator
from twinscope.agents.structure_discovery.prediction import Prediction
from twinscope.agents.structure_discovery.stack import ImageStack, StackGrid
from twinscope.errors import AcquisitionError, InvalidRequestError, LeaseError
from twinscope.local import LocalTransport
from twinscope.state import TipState

GRID = StackGrid(pixels=24, pitch=14 / 24, slices=10, spacing=0.1)
WIDE = StackGrid(pixels=48, pitch=0.5, slices=10, spacing=0.1)
SMALL = DiscoveryOptions(size=(3e-9, 3e-9), margin=0.0, overview_pitch=1.5e-10, update_lines=8, shortest=3e-10)
PLACE = (2.0, -3.0)

Start = Callable[..., Microscope]


@pytest.fixture
def over(instrument: Callable[..., Any]) -> Start:
    """Start a microscope with a driver."""
    return lambda driver, **rules: Microscope(transport=LocalTransport(instrument(driver, **rules)))


def discover(scope: Microscope, options: DiscoveryOptions = SMALL, **parameters: Any) -> DiscoveryRecord:
    predictor = parameters.pop("predictor", Thresholding())
    with scope.control():
        return StructureDiscoveryAgent(scope, predictor, options, **{"grid": GRID, **parameters}).run()


@pytest.mark.parametrize("modes", [(), ("constant_current",)])
def test_a_molecule_is_found_framed_and_measured_and_the_tip_withdrawn(over: Start, modes: tuple[str, ...]) -> None:
    scope = over(SurfaceDriver(PLACE, modes=modes))
    record = discover(scope)
    (molecule,) = record.molecules
    assert (record.ended, molecule.ended, record.tip) == ("done", "complete", "withdrawn")
    assert np.allclose(np.array(molecule.center) * 1e10, PLACE, atol=0.8)
    assert molecule.stack is not None
    assert molecule.stack.measured.all()
    assert scope.state().tip is TipState.WITHDRAWN
    assert record.overview is not None
    assert record.overview.z_mode == (modes or ("constant_height",))[0]
    assert record.instrument_time == pytest.approx(scope.state().time, abs=1e-6)


def test_the_same_surface_gives_the_same_run(over: Start) -> None:
    first, second = (discover(over(SurfaceDriver(PLACE))).to_dict() for _ in range(2))
    assert first == second


def test_a_target_ends_the_measurement_before_all_slices_are_there(over: Start) -> None:
    record = discover(over(SurfaceDriver(PLACE)), DiscoveryOptions(**_changed(target_sigma=2.6e-11)))
    (molecule,) = record.molecules
    assert molecule.ended == "confident"
    assert molecule.actions[-1].doubt < 0.26
    assert molecule.stack is not None
    assert not molecule.stack.measured.all()


class Surprised(Thresholding):
    """Is as sure as there are slices that do not follow from others: what is filled in seems to tell it nothing."""

    def __init__(self, *, learns: bool) -> None:
        super().__init__()
        self.learns = learns

    def predict(self, stack: ImageStack, *others: ImageStack) -> Prediction:
        prediction = super().predict(stack)
        known = stack.frequency_shift[np.all(stack.measured, axis=(1, 2))]
        slices = np.linalg.matrix_rank(known.reshape(len(known), -1), tol=1e-3) if self.learns else 1
        sigma = np.full(known.shape[1:], 0.5 / np.sqrt(1 + slices))
        return replace(prediction, maps={name: replace(one, sigma=sigma) for name, one in prediction.maps.items()})


@pytest.mark.parametrize(("learns", "ended"), [(True, "complete"), (False, "saturated")])
def test_measuring_goes_on_while_it_tells_more_than_was_foreseen(over: Start, learns: bool, ended: str) -> None:
    options = DiscoveryOptions(**_changed(bands=False))
    (molecule,) = discover(over(SurfaceDriver(PLACE)), options, predictor=Surprised(learns=learns)).molecules
    assert molecule.ended == ended
    assert len(molecule.actions) == (GRID.slices if learns else 2)


def test_the_budget_is_kept(over: Start) -> None:
    record = discover(over(SurfaceDriver(PLACE)), DiscoveryOptions(**_changed(budget=250.0)))
    assert record.molecules[0].ended == "out_of_budget"
    assert 0 < len(record.molecules[0].actions) < GRID.slices
    assert record.instrument_time < 260.0


def test_a_network_that_does_not_tell_how_sure_it_is_gets_slices_far_apart_first(over: Start) -> None:
    (molecule,) = discover(over(SurfaceDriver(PLACE)), predictor=Thresholding(tells=False)).molecules
    assert molecule.ended == "complete"
    assert [action.layer for action in molecule.actions][:4] == [2, 6, 9, 4]


def test_predictions_come_while_lines_arrive(over: Start) -> None:
    seen: list[tuple[Prediction, LiveProgress]] = []
    discover(over(SurfaceDriver(PLACE)), on_update=lambda *update: seen.append(update))
    assert [progress.lines for _, progress in seen[:4]] == [8, 16, 24, 8]
    assert seen[0][1].total == GRID.pixels
    # After a third of the first slice the network knows a third of it.
    finite = [np.isfinite(prediction.maps["vdw_spheres"].sigma).all() for prediction, _ in seen]
    assert all(finite)
    sigmas = [prediction.maps["vdw_spheres"].sigma.mean() for prediction, _ in seen]
    assert sigmas == sorted(sigmas, reverse=True)


def test_two_molecules_are_solved_one_after_the_other(over: Start) -> None:
    scope = over(SurfaceDriver((-9.0, -8.0), (9.0, 8.0)))
    record = discover(scope, DiscoveryOptions(**_changed(molecules=3, size=(4e-9, 4e-9))))
    assert len(record.molecules) == 2
    assert "1 molecules fewer" in record.note


def test_the_approach_stops_where_the_first_place_turns_repulsive(over: Start) -> None:
    driver = SurfaceDriver(PLACE, noise=0.0)
    scope = over(driver)
    with scope.control():
        framed = approach_molecule(Operator(scope), 1.0, -2.0, 6.0, 14.0, 0.1)
    assert framed.lowest == pytest.approx(framed.turning - 0.71)
    # One image was taken below the turning point, and none lower.
    assert framed.turning - 0.2 <= driver.lowest <= framed.turning
    last, minimum = framed.images[-1].frequency_shift[0], np.min([i.frequency_shift[0] for i in framed.images], axis=0)
    assert (last - minimum).max() > 0.5


def test_an_interlock_ends_the_approach_and_the_lower_slices_are_left_out(over: Start) -> None:
    driver = SurfaceDriver(PLACE)
    record = discover(over(driver, least_scan_height=4.4e-10))
    (molecule,) = record.molecules
    assert molecule.framed is not None
    assert "interlocks" in molecule.framed.note
    assert driver.lowest >= 4.4
    assert molecule.ended == "complete"


def test_without_a_molecule_the_approach_gives_up(over: Start) -> None:
    scope = over(SurfaceDriver((200.0, 200.0)))
    with scope.control(), pytest.raises(AcquisitionError, match="no molecule was seen"):
        approach_molecule(Operator(scope), 0.0, 0.0, 6.0, 14.0, 0.1)


def test_a_slice_that_is_too_near_ends_and_lower_ones_are_not_tried(over: Start) -> None:
    record = discover(over(SurfaceDriver(PLACE)), DiscoveryOptions(**_changed(highest_frequency_shift=0.2)))
    (molecule,) = record.molecules
    assert molecule.stack is not None
    assert not molecule.stack.measured[-1].any()
    assert molecule.ended == "complete"


class Glitching(SurfaceDriver):
    """Each whole slice has a line that went wrong, and, unless that is over, a place that never gives a value."""

    dead: float | None = None

    def trace(self, index: int) -> dict[str, np.ndarray]:
        found = super().trace(index)
        if self.request.pixels == (GRID.pixels, GRID.pixels) and index == 7:
            found["frequency_shift"] = found["frequency_shift"] + 30.0
        if self.dead is not None and self.request.pixels[0] == GRID.pixels:
            y = super(SurfaceDriver, self).trace(index)["at_y"][0] * 1e10
            if abs(y - self.dead) < GRID.pitch / 2:
                found["frequency_shift"] = found["frequency_shift"] * np.nan
        return found


def test_a_spoiled_line_is_measured_once_more(over: Start) -> None:
    clean, record = (
        discover(over(driver(PLACE, noise=0.0)), DiscoveryOptions(**_changed(bands=False)))
        for driver in (SurfaceDriver, Glitching)
    )
    (molecule,), (expected,) = record.molecules, clean.molecules
    assert [action.repeated for action in molecule.actions] == [1] * GRID.slices
    assert molecule.stack is not None
    assert expected.stack is not None
    assert np.allclose(molecule.stack.frequency_shift, expected.stack.frequency_shift, atol=1e-3)
    # The line takes its time, and the way back.
    lines = record.instrument_time - clean.instrument_time
    assert lines == pytest.approx(GRID.slices * SMALL.line_time, rel=0.5)
    assert record.scanned > clean.scanned


def test_a_line_that_cannot_be_measured_is_tried_twice_and_then_left_out(over: Start) -> None:
    driver = Glitching(PLACE)
    driver.dead = PLACE[1] - 3.0
    (molecule,) = discover(over(driver)).molecules
    assert molecule.ended == "complete"
    assert molecule.stack is not None
    dead = np.flatnonzero(~molecule.stack.measured[-1].all(axis=-1))
    assert len(dead) == 1
    assert np.isfinite(np.delete(molecule.stack.frequency_shift, dead, axis=1)).all()


def test_bands_of_lines_take_less_time_to_the_same_certainty(over: Start) -> None:
    target = _changed(target_sigma=2.2e-11)
    whole, banded = (
        discover(over(SurfaceDriver(PLACE)), DiscoveryOptions(**target | {"bands": bands}), grid=WIDE)
        for bands in (False, True)
    )
    assert [one.molecules[0].ended for one in (whole, banded)] == ["confident", "confident"]
    assert {action.rows for action in whole.molecules[0].actions} == {(0, WIDE.pixels)}
    assert banded.instrument_time < whole.instrument_time
    assert banded.scanned < whole.scanned
    # What was measured where is told.
    assert any(action.rows != (0, WIDE.pixels) for action in banded.molecules[0].actions)
    assert banded.to_dict()["molecules"][0]["actions"][-1]["rows"] == list(banded.molecules[0].actions[-1].rows)


def test_a_trip_gives_up_the_molecule_and_keeps_its_data(over: Start) -> None:
    scope = over(SurfaceDriver(PLACE), trips={"frequency_shift": [-50.0, 0.0]})
    record = discover(scope)
    (molecule,) = record.molecules
    assert (record.ended, molecule.ended) == ("done", "trip")
    assert molecule.stack is not None
    assert molecule.stack.measured.any()
    assert scope.state().tip is TipState.WITHDRAWN


@pytest.mark.parametrize("disturb", [Microscope.break_control, Microscope.emergency_stop])
def test_whoever_takes_over_ends_the_run(over: Start, disturb: Callable[[Microscope], None]) -> None:
    disturbed: list[None] = []
    second_slice = threading.Event()

    class Waiting(SurfaceDriver):
        """Its second slice is not over before somebody has taken over, however slow the agent is."""

        def poll(self) -> bool:
            if second_slice.is_set() and not disturbed and self.index > SMALL.update_lines:
                time.sleep(0.005)
                return not self.stopped.is_set()
            return super().poll()

    scope = over(Waiting(PLACE))

    def on_update(_prediction: Prediction, progress: LiveProgress) -> None:
        if progress.layer == 2 and progress.lines == progress.total:
            second_slice.set()
        if progress.layer == 6 and not disturbed:
            disturbed.append(disturb(scope))

    record = discover(scope, on_update=on_update)
    assert record.ended == "aborted"
    (molecule,) = record.molecules
    assert molecule.prediction is not None
    assert molecule.stack is not None
    assert molecule.stack.measured[2].all()
    # Without control the agent cannot withdraw the tip itself: the instrument does, as it was told to for this case.
    until(lambda: scope.state().tip is TipState.WITHDRAWN)


def test_a_stop_between_two_slices_is_no_end_of_the_work(over: Start) -> None:
    scope = over(SurfaceDriver(PLACE))

    def on_update(_prediction: Prediction, progress: LiveProgress) -> None:
        if progress.layer == 6 and progress.lines == progress.total:
            scope.emergency_stop()

    record = discover(scope, on_update=on_update)
    assert record.ended == "aborted"
    assert "was stopped" in record.note
    assert not record.succeeded
    assert scope.state().tip is TipState.WITHDRAWN


def test_a_whole_run_writes_its_report(over: Start, tmp_path: Any) -> None:
    scope = over(SurfaceDriver(PLACE, modes=("constant_current",)))
    options = DiscoveryOptions(**_changed(first_slices=(4,), budget=300.0))
    record = run_discovery(scope, Thresholding(), options, tmp_path / "report")
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names >= {"report.html", "report.pdf", "record.json"}
    stored = json.loads((tmp_path / "report" / "record.json").read_text())
    assert stored["ended"] == record.ended
    with pytest.raises(LeaseError), scope.control():
        run_discovery(scope, Thresholding(), options)


@pytest.mark.parametrize(
    "wrong",
    [{"budget": 0.0}, {"size": (1e-9, -1e-9)}, {"first_slices": ()}, {"z_mode": "guess"}, {"shortest": 3e-9}],
)
def test_options_that_make_no_sense_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=next(iter(wrong))):
        DiscoveryOptions(**wrong)


def _changed(**changes: Any) -> dict[str, Any]:
    return {name: getattr(SMALL, name) for name in SMALL.__slots__} | changes
