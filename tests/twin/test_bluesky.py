"""The microscope as devices of bluesky: stock plans in a real RunEngine, and what their documents say."""

import asyncio
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import event_model
import h5py
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.utils import FailedStatus, RunEngineInterrupted
from ophyd_async.core import NotConnectedError, init_devices

import twinscope
from tests.conftest import RampDriver, until
from twinscope import ScanFrame, ScanRequest, SpectroscopyRequest, Sweep
from twinscope.bluesky import SpmLink, SpmScan, SpmSignals, SpmSpectroscopy, SpmStage
from twinscope.bluesky._documents import file_uri
from twinscope.errors import (
    AbortedError,
    DriverError,
    InvalidRequestError,
    LeaseError,
    MissingPackageError,
    OutOfRangeError,
    TripError,
)
from twinscope.local import LocalTransport

REQUEST = ScanRequest(frame=ScanFrame(size=(2e-9, 1e-9)), pixels=(4, 3), channels=("at_x", "at_y"), line_time=0.01)
SPECTRUM = SpectroscopyRequest(
    swept="z", positions=[(0.0, 0.0)], sweep=Sweep(start=2e-9, stop=1e-9, points=5), channels=("at_x", "at_z")
)


class HeldDriver(RampDriver):
    """Measures until the test holds it: in the frame and before the line of `holds_at`; a move takes `move_time` s."""

    move_time = 0.0
    holds_at: tuple[int, int] | None = None
    fails_at: int | None = None

    @property
    def frames(self) -> int:
        """How many were begun."""
        return [call[0] for call in self.calls].count("start")

    @property
    def is_holding(self) -> bool:
        return self.frames > 0 and self.holds_at == (self.frames, self.index)

    def move_to(self, x: float, y: float, z: float, speed: float | None = None) -> None:
        self.calls.append(("move_to", x, y, z, speed))
        self.stopped.clear()
        if not self.stopped.wait(self.move_time):
            self.position = twinscope.Position(x, y, z)

    def poll(self) -> bool:
        if self.index == self.fails_at:
            raise DriverError("the cable is out")
        if self.is_holding and not self.stopped.is_set():
            time.sleep(0.005)
            return True
        more = super().poll()
        if self.request.kind == "scan":
            # As a real one, it leaves the tip where the frame ends.
            x, y = self.request.row_positions(min(self.index, self.request.pixels[1] - 1))
            self.position = twinscope.Position(x[-1], y[-1], self.position.z)
        return more


class Documents(event_model.DocumentRouter):
    """Everything that a RunEngine emits, each checked against its schema, and whether what it refers to came before."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, document: dict[str, Any], validate: bool = False) -> None:
        event_model.schema_validators[event_model.DocumentNames[name]].validate(document)
        known = {one["uid"] for _, one in self.all}
        for reference in ("run_start", "descriptor", "stream_resource"):
            assert document.get(reference) in {None, *known}
        super().__call__(name, document)
        self.all.append((name, document))

    def of(self, name: str) -> list[dict[str, Any]]:
        return [document for kind, document in self.all if kind == name]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event["data"] for event in self.of("event")]

    def arrays(self, key: str) -> list[np.ndarray]:
        """Read the data of a data key as a consumer does who knows nothing but the documents: one array per event."""
        descriptor = self.of("descriptor")[-1]["data_keys"][key]
        resources = {one["uid"]: one for one in self.of("stream_resource") if one["data_key"] == key}
        found = []
        for datum in self.of("stream_datum"):
            if datum["stream_resource"] not in resources:
                continue
            resource = resources[datum["stream_resource"]]
            assert resource["mimetype"] == "application/x-hdf5"
            assert datum["indices"] == {"start": len(found), "stop": len(found) + 1}
            assert datum["seq_nums"] == {"start": len(found) + 1, "stop": len(found) + 2}
            parameters = resource["parameters"]
            path = urllib.parse.unquote(urllib.parse.urlparse(resource["uri"]).path)
            with h5py.File(path, "r", swmr=parameters["swmr"]) as file:
                dataset = file[parameters["dataset"]]
                assert list(dataset.shape) == descriptor["shape"] == list(parameters["chunk_shape"])
                assert dataset.dtype.str == descriptor["dtype_numpy"]
                assert dataset.attrs["units"] == descriptor["units"]
                found.append(dataset[...])
        return found


@pytest.fixture(scope="module")
def engine() -> RunEngine:
    RE = RunEngine(call_returns_result=True, context_managers=[])
    RE.pause_msg = ""
    return RE


@pytest.fixture
def documents(engine: RunEngine) -> Iterator[Documents]:
    seen = Documents()
    token = engine.subscribe(seen)
    yield seen
    engine.unsubscribe(token)


@pytest.fixture
def microscope(instrument: Callable[..., Any]) -> Callable[..., twinscope.Microscope]:
    """Make a microscope in this process with a driver."""
    return lambda driver=None, **rules: twinscope.Microscope(transport=LocalTransport(instrument(driver, **rules)))


@pytest.fixture
def link(engine: RunEngine, microscope: Callable[..., twinscope.Microscope]) -> SpmLink:
    return SpmLink(microscope())


@pytest.fixture
def held(engine: RunEngine, microscope: Callable[..., twinscope.Microscope]) -> Iterator[tuple[SpmLink, HeldDriver]]:
    driver = HeldDriver()
    driver.holds_at = (1, 5)
    yield SpmLink(microscope(driver)), driver
    driver.move_time = 0.0


def made(device: Any, name: str) -> Any:
    """Connect a device, as init_devices does."""
    with init_devices():
        device.set_name(name)
        found = device
    assert found.name == name
    return found


def in_thread(engine: RunEngine, plan: Any) -> tuple[threading.Thread, list[BaseException]]:
    """Run a plan beside the test."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            engine(plan)
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, errors


def is_free(link: SpmLink) -> bool:
    state = link.microscope.state()
    return state.status == "idle" and state.job is None and state.lease is None


# ---------------------------------------------------------------------- stock plans, and their documents


def test_count_points_at_the_files_of_its_frames(engine, documents, link) -> None:
    scan = made(SpmScan(link, REQUEST), "scan")
    engine(bp.count([scan], 2))
    assert [event["scan-center_x"] for event in documents.events] == [0.0, 0.0]
    for key in ("at_x", "at_y"):
        arrays = documents.arrays(f"scan-{key}")
        assert len(arrays) == 2
        for event, array in zip(documents.events, arrays, strict=True):
            result = link.microscope.acquisition(event["scan-acquisition"]).result()
            np.testing.assert_array_equal(array, result[key].values)
    assert len({event["scan-acquisition"] for event in documents.events}) == 2
    assert documents.of("stop")[0]["exit_status"] == "success"
    assert is_free(link)


def test_both_directions_and_stacks_have_datasets_of_their_own(engine, documents, link) -> None:
    scan = made(SpmScan(link, REQUEST), "scan")

    def plan() -> Any:
        yield from bps.prepare(scan, {"direction": "both", "heights": [1e-9, 2e-9], "channels": ["at_z"]}, wait=True)
        yield from bp.count([scan])

    engine(plan())
    keys = documents.of("descriptor")[0]["data_keys"]
    assert keys["scan-at_z_backward"]["dims"] == ["height", "y", "x"]
    assert keys["scan-at_z_backward"]["units"] == "m"
    for key in ("at_z", "at_z_backward"):
        np.testing.assert_allclose(documents.arrays(f"scan-{key}")[0][:, 1, 1], [1e-9, 2e-9])
    configuration = documents.of("descriptor")[0]["configuration"]["scan"]
    assert configuration["data"]["scan-direction"] == "both"
    assert configuration["data"]["scan-heights"] == [1e-9, 2e-9]
    assert configuration["data_keys"]["scan-heights"]["units"] == "m"
    assert "scan-setpoint" not in configuration["data"]


def grid(stage: SpmStage) -> tuple[Any, list[tuple[float, float]]]:
    places = [(x, y) for y in (-1e-8, 1e-8) for x in (0.0, 2e-8, 4e-8)]
    return (lambda detectors: bp.grid_scan(detectors, stage.y, -1e-8, 1e-8, 2, stage.x, 0, 4e-8, 3)), places


def along(stage: SpmStage) -> tuple[Any, list[tuple[float, float]]]:
    return (lambda detectors: bp.scan(detectors, stage.x, -1e-8, 1e-8, 3)), [(-1e-8, 0.0), (0.0, 0.0), (1e-8, 0.0)]


def listed(stage: SpmStage) -> tuple[Any, list[tuple[float, float]]]:
    places = [(3e-8, 0.0), (1e-8, 2e-8)]
    x, y = zip(*places, strict=True)
    return (lambda detectors: bp.list_scan(detectors, stage.x, x, stage.y, y)), places


@pytest.mark.parametrize("kind", [grid, along, listed])
def test_frames_follow_the_stage(kind, engine, documents, link) -> None:
    stage = made(SpmStage(link), "stage")
    scan = made(SpmScan(link, REQUEST, follow=True), "scan")
    plan, places = kind(stage)
    engine(plan([scan]))
    assert [(event["scan-center_x"], event["scan-center_y"]) for event in documents.events] == places
    for axis, event_key in ((0, "stage-x"), (1, "stage-y")):
        if event_key in documents.events[0]:
            assert [event[event_key] for event in documents.events] == [place[axis] for place in places]
    along_x = np.array([-0.75e-9, -0.25e-9, 0.25e-9, 0.75e-9])
    for (x, _), array in zip(places, documents.arrays("scan-at_x"), strict=True):
        np.testing.assert_allclose(array, np.tile(x + along_x, (3, 1)), rtol=1e-5)
    assert is_free(link)


def test_a_relative_scan_begins_where_the_tip_is_and_ends_there(engine, documents, link) -> None:
    stage = made(SpmStage(link), "stage")
    scan = made(SpmScan(link, REQUEST, follow=True), "scan")
    with link.microscope.control():
        link.microscope.move_to(x=5e-8)
    engine(bp.rel_scan([scan], stage.x, -1e-8, 1e-8, 3))
    assert [event["stage-x"] for event in documents.events] == pytest.approx([4e-8, 5e-8, 6e-8])
    assert link.microscope.state().position.x == pytest.approx(5e-8)
    assert is_free(link)


def test_spectra_stand_in_the_events_and_wait_for_the_scan(engine, documents, held) -> None:
    """Two detectors that are triggered at once measure one after the other, at the same place."""
    link, driver = held
    driver.holds_at = None
    stage = made(SpmStage(link), "stage")
    scan = made(SpmScan(link, REQUEST, follow=True), "scan")
    spectra = made(SpmSpectroscopy(link, SPECTRUM, follow=True), "spectra")
    engine(bp.scan([scan, spectra], stage.x, 0, 1e-8, 2))
    second = documents.events[1]
    assert np.shape(second["spectra-at_z"]) == (1, 5)
    np.testing.assert_allclose(second["spectra-at_z"][0], np.linspace(2e-9, 1e-9, 5), rtol=1e-6)
    np.testing.assert_array_equal(second["spectra-height"], SPECTRUM.sweep.values())
    np.testing.assert_allclose(second["spectra-at_x"], np.full((1, 5), 1e-8), rtol=1e-6)
    assert second["spectra-x"] == [1e-8]
    # The scan has left the tip elsewhere.
    assert second["stage-x"] == driver.position.x == 1e-8
    keys = documents.of("descriptor")[0]["data_keys"]
    assert keys["spectra-at_z"]["dims"] == ["position", "height"]
    assert keys["spectra-height"]["units"] == "m"
    assert "external" not in keys["spectra-at_z"]


def test_signals_have_units_and_limits_and_can_be_scanned(engine, documents, link) -> None:
    signals = made(SpmSignals(link, rates={"bias": 5.0}), "signals")
    engine(bp.list_scan([signals.current], signals.bias, [0.5, 1.0]))
    assert [event["signals-bias"] for event in documents.events] == [0.5, 1.0]
    key = documents.of("descriptor")[0]["data_keys"]["signals-bias"]
    assert key["units"] == "V"
    assert key["limits"]["control"] == {"low": -10, "high": 10}
    assert key["precision"] == 5
    engine(bps.mv(signals.feedback, "constant_current"))
    assert link.microscope.state().feedback == "constant_current"
    assert not hasattr(signals.current, "set")
    engine(bp.count([signals]))
    last = documents.events[-1]
    assert (last["signals-feedback"], last["signals-tip"], last["signals-bias"]) == ("constant_current", "in_range", 1)
    assert documents.of("descriptor")[-1]["data_keys"]["signals-feedback"]["choices"] == ["off", "constant_current"]
    for signal, value in ((signals.bias, 11.0), (signals.bias, float("nan")), (signals.feedback, "constant_mood")):
        with pytest.raises(FailedStatus) as failed:
            engine(bps.mv(signal, value))
        assert isinstance(failed.value.__cause__, InvalidRequestError)
    assert link.microscope.state().signals["bias"] == 1.0
    with pytest.raises(InvalidRequestError, match=r"'current'.*bias, setpoint_current"):
        SpmSignals(link, rates={"current": 1.0})


def test_a_rate_is_handed_on(engine, microscope) -> None:
    driver = RampDriver()
    signals = made(SpmSignals(SpmLink(microscope(driver)), rates={"bias": 5.0}), "signals")
    engine(bps.mv(signals.bias, 1.0, signals.setpoint_current, 1e-10))
    assert ("write", "bias", 1.0, 5.0) in driver.calls
    assert ("write", "setpoint_current", 1e-10, None) in driver.calls


def test_a_watched_signal_reports_its_changes(engine, documents, link) -> None:
    signals = made(SpmSignals(link), "signals")

    def plan() -> Any:
        yield from bps.mv(signals.bias, 0.7)
        yield from bps.sleep(0.3)

    engine(bpp.monitor_during_wrapper(bpp.run_wrapper(plan()), [signals.bias]))
    assert [event["signals-bias"] for event in documents.events] == [0.1, 0.7]


# ---------------------------------------------------------------------- moving


def test_an_axis_tells_its_limits_and_goes_nowhere_beyond(engine, documents, link) -> None:
    stage = made(SpmStage(link), "stage")
    with pytest.raises(FailedStatus) as failed:
        engine(bp.scan([], stage.x, 0, 2e-6, 3))
    assert isinstance(failed.value.__cause__, OutOfRangeError)
    assert "was not clamped" in str(failed.value.__cause__)
    assert link.microscope.state().position.x == 1e-6
    assert documents.of("stop")[0]["exit_status"] == "fail"
    assert is_free(link)
    key = documents.of("descriptor")[0]["data_keys"]["stage-x"]
    assert (key["units"], key["precision"]) == ("m", 12)
    assert key["limits"]["control"] == {"low": -1e-6, "high": 1e-6}
    for value in (float("nan"), "here", True):
        with pytest.raises(InvalidRequestError, match="x is"):
            asyncio.run(stage.x.check_value(value))


def test_an_interlock_holds_for_plans_too(engine, microscope) -> None:
    link = SpmLink(microscope(signals={"x": {"max_step": 1e-9}}))
    stage = made(SpmStage(link), "stage")
    with pytest.raises(FailedStatus) as failed:
        engine(bps.mv(stage.x, 5e-9))
    assert isinstance(failed.value.__cause__, twinscope.errors.InterlockError)
    assert link.microscope.state().position.x == 0


def test_axes_moved_at_once_both_arrive_and_progress_is_told(engine, held) -> None:
    link, driver = held
    driver.move_time = 0.4
    stage = made(SpmStage(link), "stage")
    updates: list[dict[str, Any]] = []

    def plan() -> Any:
        status = yield from bps.abs_set(stage.x, 3e-9, group="g")
        status.watch(lambda **update: updates.append(update))
        yield from bps.abs_set(stage.y, 4e-9, group="g")
        yield from bps.wait("g")
        return (yield from bps.locate(stage.x))

    located = engine(plan()).plan_result
    assert (driver.position.x, driver.position.y) == (3e-9, 4e-9)
    assert updates[0]["name"] == "stage-x"
    assert (updates[0]["initial"], updates[0]["target"], updates[0]["unit"]) == (0.0, 3e-9, "m")
    assert located["readback"] == 3e-9
    assert is_free(link)


def test_the_setpoint_is_where_the_tip_was_told_to_be_while_control_is_held(engine, held) -> None:
    link, driver = held
    stage = made(SpmStage(link), "stage")

    @bpp.stage_decorator([stage])
    def plan() -> Any:
        before = yield from bps.locate(stage.x)
        yield from bps.mv(stage.x, 1e-9, stage.z, 2e-9)
        driver.position = twinscope.Position(1.01e-9, 0.0, 3e-9)
        until(lambda: link.microscope.state().position == driver.position)
        return before, (yield from bps.locate(stage.x)), (yield from bps.locate(stage.z))

    before, x, z = engine(plan()).plan_result
    assert before == {"setpoint": 0.0, "readback": 0.0}
    assert x == {"setpoint": 1e-9, "readback": 1.01e-9}
    # z may have been moved by the z-controller: going on from an old target could crash the tip.
    assert z == {"setpoint": 3e-9, "readback": 3e-9}
    # Others have moved it since.
    with link.microscope.control():
        link.microscope.move_to(x=7e-9)
    assert engine(bps.locate(stage.x)).plan_result == {"setpoint": 7e-9, "readback": 7e-9}


def test_a_move_that_is_stopped_or_takes_too_long_stops_the_tip(engine, held) -> None:
    link, driver = held
    driver.move_time = 60.0
    stage = made(SpmStage(link), "stage")

    def stop_it() -> Any:
        status = yield from bps.abs_set(stage.x, 3e-9)
        yield from bps.sleep(0.1)
        yield from bps.stop(stage.x)
        while not status.done:
            yield from bps.sleep(0.05)
        return status

    with pytest.raises(FailedStatus, match="stopped"):
        engine(stop_it())
    assert is_free(link)

    def limited() -> Any:
        yield from bps.abs_set(stage.x, 3e-9, wait=True, timeout=0.2)

    with pytest.raises(FailedStatus) as failed:
        engine(limited())
    assert "stage-x was not at 3e-09 m within 0.2 s: the tip was stopped" in str(failed.value.__cause__)
    assert is_free(link)
    assert driver.position.x == 0


def test_a_move_that_is_stopped_without_control_is_waited_for(engine, held, caplog) -> None:
    link, driver = held
    driver.move_time = 0.6
    stage = made(SpmStage(link), "stage")

    def lose_it() -> Any:
        status = yield from bps.abs_set(stage.x, 3e-9)
        while not [call for call in driver.calls if call[0] == "move_to"]:
            yield from bps.sleep(0.01)
        link.microscope.break_control()
        yield from bps.stop(stage.x)
        while not status.done:
            yield from bps.sleep(0.05)
        return status

    with pytest.raises(FailedStatus):
        engine(lose_it())
    assert "cannot be stopped from here" in caplog.text
    until(lambda: link.microscope.state().job is None)


def test_commands_bring_the_tip_away_and_back(engine, link) -> None:
    stage = made(SpmStage(link), "stage")
    engine(bps.trigger(stage.withdraw, wait=True))
    assert link.microscope.state().tip == "withdrawn"
    engine(bps.trigger(stage.approach, wait=True))
    assert link.microscope.state().tip == "in_range"
    assert is_free(link)


# ---------------------------------------------------------------------- pause, abort, failure


def test_a_frame_tells_how_far_it_is(engine, held) -> None:
    link, driver = held
    scan = made(SpmScan(link, LONG), "scan")
    updates: list[dict[str, Any]] = []

    def watch(**update: Any) -> None:
        updates.append(update)
        if update["current"] == 5:
            driver.holds_at = None

    @bpp.stage_decorator([scan])
    def plan() -> Any:
        status = yield from bps.trigger(scan, group="frame")
        status.watch(watch)
        yield from bps.wait("frame")

    engine(plan())
    assert {(update["name"], update["initial"], update["target"]) for update in updates} == {("scan", 0, 10)}
    assert {5, 10} <= {update["current"] for update in updates}
    assert updates[-1]["fraction"] == 1.0


LONG = ScanRequest(frame=ScanFrame(size=(2e-9, 1e-9)), pixels=(4, 10), channels=("at_x",), line_time=0.01)


def test_a_pause_of_the_engine_pauses_the_frame_which_then_goes_on(engine, documents, held) -> None:
    link, driver = held
    stage = made(SpmStage(link), "stage")
    signals = made(SpmSignals(link), "signals")
    scan = made(SpmScan(link, LONG, follow=True), "scan")
    thread, errors = in_thread(engine, bp.scan([scan], stage.x, 1e-9, 2e-9, signals.bias, 0.5, 1.0, 2))
    until(lambda: driver.is_holding, 10)
    engine.request_pause()
    thread.join()
    assert isinstance(errors[0], RunEngineInterrupted)
    until(lambda: link.microscope.state().status == "paused")
    driver.holds_at = None
    time.sleep(0.2)
    assert link.microscope.current_acquisition().progress().done == 5
    assert link.microscope.state().lease is not None
    engine.resume()
    assert len(documents.events) == 2
    # Nothing was moved, set or measured twice.
    assert [call[1] for call in driver.calls if call[0] == "start"] == ["scan", "scan"]
    assert [call[1:] for call in driver.calls if call[0] == "write"] == [("bias", 0.5, None), ("bias", 1.0, None)]
    arrays = documents.arrays("scan-at_x")
    assert [array.mean() for array in arrays] == pytest.approx([1e-9, 2e-9], rel=1e-3)
    assert not np.isnan(arrays).any()
    assert is_free(link)


@pytest.mark.parametrize("changed", ["place", "request"])
def test_after_a_pause_a_frame_of_other_settings_is_taken_anew(changed, engine, documents, held) -> None:
    """Between two checkpoints there are two frames: going back to the first, that one is measured again."""
    link, driver = held
    stage = made(SpmStage(link), "stage")
    scan = made(SpmScan(link, LONG, follow=True), "scan")

    @bpp.stage_decorator([scan, stage])
    @bpp.run_decorator()
    def plan() -> Any:
        yield from bps.checkpoint()
        for number in (1, 2):
            if changed == "place":
                yield from bps.mv(stage.x, number * 1e-9)
            else:
                yield from bps.prepare(scan, {"frame": {"size": (1e-9, 1e-9), "center": (number * 1e-9, 0)}}, wait=True)
            yield from bps.trigger(scan, wait=True)
        yield from bps.create()
        yield from bps.read(scan)
        yield from bps.save()

    driver.holds_at = (2, 5)
    thread, _ = in_thread(engine, plan())
    until(lambda: driver.is_holding, 10)
    engine.request_pause()
    thread.join()
    driver.holds_at = None
    engine.resume()
    assert driver.frames == 4
    if changed == "place":
        kinds = [call[1] for call in driver.calls if call[0] in ("move_to", "start")]
        assert kinds == [step for x in (1e-9, 2e-9, 1e-9, 2e-9) for step in (x, "scan", x)]
    assert documents.arrays("scan-at_x")[0].mean() == pytest.approx(2e-9, rel=1e-3)


@pytest.mark.parametrize("ending", ["abort", "stop", "halt"])
@pytest.mark.parametrize("paused", [False, True])
def test_a_plan_that_is_ended_leaves_the_tip_safe_and_the_instrument_free(
    ending, paused, engine, documents, held
) -> None:
    link, driver = held
    stage = made(SpmStage(link), "stage")
    scan = made(SpmScan(link, LONG, follow=True), "scan")
    thread, _ = in_thread(engine, bp.scan([scan], stage.x, 1e-9, 2e-9, 2))
    until(lambda: driver.is_holding, 10)
    identifier = link.microscope.state().acquisition
    if paused:
        engine.request_pause()
        thread.join()
    getattr(engine, ending)()
    thread.join()
    assert engine.state == "idle"
    if ending == "halt":
        # The engine does not wait for its devices then, but the next plan does.
        engine(bpp.stage_wrapper(bps.null(), [scan, stage]))
    assert is_free(link)
    assert link.microscope.state().tip == "withdrawn"
    assert link.microscope.acquisition(identifier).progress().state == "aborted"
    assert documents.events == []
    assert documents.of("stop")[0]["exit_status"] == ("success" if ending == "stop" else "abort")
    engine(bps.trigger(stage.approach, wait=True))
    engine(bp.count([made(SpmScan(link, REQUEST), "next")]))
    assert len(documents.events) == 1


def test_the_tip_can_be_told_to_stay(engine, held) -> None:
    link, driver = held
    scan = made(SpmScan(link, LONG, on_abort="stay"), "scan")
    thread, _ = in_thread(engine, bp.count([scan]))
    until(lambda: driver.is_holding, 10)
    engine.abort()
    thread.join()
    assert link.microscope.current_acquisition().progress().state == "aborted"
    assert link.microscope.state().tip == "in_range"
    assert is_free(link)
    with pytest.raises(InvalidRequestError, match="on_abort is 'fly'"):
        SpmScan(link, LONG, on_abort="fly")


def test_a_frame_that_waits_for_its_turn_is_given_up_before_it_begins(engine, held) -> None:
    link, driver = held
    scan = made(SpmScan(link, LONG), "scan")
    spectra = made(SpmSpectroscopy(link, SPECTRUM), "spectra")
    thread, _ = in_thread(engine, bp.count([scan, spectra]))
    until(lambda: driver.is_holding, 10)
    engine.abort()
    thread.join()
    assert is_free(link)
    assert [call[1] for call in driver.calls if call[0] == "start"] == ["scan"]


def test_what_goes_wrong_with_a_frame_is_what_the_plan_fails_with(engine, documents, held) -> None:
    link, driver = held
    driver.fails_at = 2
    with pytest.raises(FailedStatus) as failed:
        engine(bp.count([made(SpmScan(link, REQUEST), "scan")]))
    assert isinstance(failed.value.__cause__, DriverError)
    assert "the cable is out" in str(failed.value.__cause__)
    assert documents.of("stop")[0]["exit_status"] == "fail"
    until(lambda: is_free(link))


def test_a_trip_fails_the_plan(engine, microscope) -> None:
    driver = HeldDriver()
    driver.holds_at = (1, 5)
    link = SpmLink(microscope(driver, trips={"current": (-1e-9, 1e-9)}))
    scan = made(SpmScan(link, LONG), "scan")
    thread, errors = in_thread(engine, bp.count([scan]))
    until(lambda: driver.is_holding, 10)
    driver.signals["current"] = 1e-6
    thread.join()
    assert isinstance(errors[0].__cause__, TripError)
    assert link.microscope.state().lease is None


def test_one_that_is_aborted_by_somebody_else_is_no_success(engine, held) -> None:
    link, driver = held
    thread, errors = in_thread(engine, bp.count([made(SpmScan(link, LONG), "scan")]))
    until(lambda: driver.is_holding, 10)
    link.microscope.stop()
    thread.join()
    assert isinstance(errors[0].__cause__, AbortedError)
    assert is_free(link)
    # There is nothing to stop now: nobody needs control for that.
    link.microscope.stop()


# ---------------------------------------------------------------------- control


def test_control_is_had_from_stage_to_unstage_and_shared_by_devices(engine, link) -> None:
    stage = made(SpmStage(link), "stage")
    scan = made(SpmScan(link, REQUEST), "scan")
    held = []

    def look(*_: Any) -> None:
        held.append(link.microscope.state().lease)

    def plan() -> Any:
        yield from bps.stage_all(scan, stage)
        look()
        yield from bps.unstage(scan, wait=True)
        look()
        yield from bps.mv(stage.x, 1e-9)
        yield from bps.unstage(stage, wait=True)
        look()

    engine(plan())
    assert [lease is not None for lease in held] == [True, True, False]
    assert held[0]["purpose"] == "bluesky"
    assert held[0]["number"] == held[1]["number"]


def test_a_plan_that_fails_gives_control_back(engine, link) -> None:
    scan = made(SpmScan(link, REQUEST), "scan")

    @bpp.stage_decorator([scan])
    def plan() -> Any:
        yield from bps.null()
        raise KeyError("a mistake in the plan")

    with pytest.raises(KeyError):
        engine(plan())
    assert is_free(link)


def test_a_trigger_without_stage_is_refused(engine, link) -> None:
    scan = made(SpmScan(link, REQUEST), "scan")
    with pytest.raises(FailedStatus) as failed:
        engine(bps.trigger(scan, wait=True))
    assert isinstance(failed.value.__cause__, LeaseError)
    assert "scan is not staged" in str(failed.value.__cause__)


@pytest.mark.parametrize(("on_lease_loss", "state"), [("abort_and_withdraw", "aborted"), ("continue", "running")])
def test_one_that_loses_control_leaves_the_tip_to_the_server(on_lease_loss, state, engine, held, caplog) -> None:
    link, driver = held
    scan = made(SpmScan(link, LONG, on_lease_loss=on_lease_loss), "scan")
    thread, errors = in_thread(engine, bp.count([scan]))
    until(lambda: driver.is_holding, 10)
    link.microscope.break_control()
    if state == "running":
        engine.abort()
        thread.join()
        assert "could not be aborted" in caplog.text
    else:
        thread.join()
        assert isinstance(errors[0].__cause__, AbortedError)
        assert link.microscope.state().tip == "withdrawn"
    assert link.microscope.current_acquisition().progress().state == state
    assert link.microscope.state().lease is None


# ---------------------------------------------------------------------- configuring


def test_a_request_that_cannot_be_carried_out_changes_nothing(engine, link) -> None:
    scan = made(SpmScan(link, REQUEST), "scan")
    for wrong in (
        {"pixels": (0, 3)},
        {"channels": ["taste"]},
        {"speed": 1},
        {"frame": {"size": (1e-3, 1e-3)}},
        SPECTRUM,
    ):
        with pytest.raises(FailedStatus) as failed:
            engine(bps.prepare(scan, wrong, wait=True))
        assert isinstance(failed.value.__cause__, InvalidRequestError)
    assert scan.request == REQUEST
    with pytest.raises(InvalidRequestError, match="'taste'"):
        SpmScan(link, replace(REQUEST, channels=("taste",)), follow=True)
    with pytest.raises(InvalidRequestError, match="expected a SpectroscopyRequest"):
        SpmSpectroscopy(link, REQUEST)
    with pytest.raises(InvalidRequestError, match="nothing to read"):
        asyncio.run(scan.read())


def test_mocks_leave_the_instrument_alone(engine, link) -> None:
    with init_devices(mock=True):
        stage = SpmStage(link)
        scan = SpmScan(link, REQUEST)
    engine(bps.mv(stage.x, 5e-9))
    assert engine(bps.rd(stage.x)).plan_result == 5e-9
    engine(bps.trigger(stage.withdraw, wait=True))
    with pytest.raises(FailedStatus) as failed:
        engine(bp.count([scan]))
    assert "connected as a mock" in str(failed.value.__cause__)
    state = link.microscope.state()
    assert (state.position.x, state.tip, state.lease) == (0.0, "in_range", None)


@pytest.mark.parametrize(
    ("path", "root_map", "uri"),
    [
        ("/srv/spm/a b.h5", {}, "file://localhost/srv/spm/a%20b.h5"),
        ("/srv/spm/a.h5", {"/srv/spm": "/mnt/lab/"}, "file://localhost/mnt/lab/a.h5"),
        ("/srv/spm2/a.h5", {"/srv/spm": "/mnt/lab"}, "file://localhost/srv/spm2/a.h5"),
        (r"D:\data\a.h5", {}, "file://localhost/D:/data/a.h5"),
        (r"D:\data\x\a.h5", {"D:\\data": "/mnt"}, "file://localhost/mnt/x/a.h5"),
    ],
)
def test_the_folders_of_the_server_are_named_as_the_readers_know_them(path, root_map, uri) -> None:
    assert file_uri(path, root_map) == uri


# ---------------------------------------------------------------------- over the network


@pytest.fixture
def ramp_server(serve: Callable[..., Any]) -> Any:
    root = str(Path(__file__).resolve().parent.parent.parent)
    return serve("--driver", "tests.conftest:RampDriver", PYTHONPATH=root)


def test_of_two_engines_at_a_server_one_has_the_instrument(engine, documents, ramp_server) -> None:
    mine, theirs = SpmLink(ramp_server.uri, purpose="grid"), SpmLink(twinscope.connect(ramp_server.uri))
    stage = made(SpmStage(mine), "stage")
    scan = made(SpmScan(mine, REQUEST, follow=True), "scan")
    other = made(SpmScan(theirs, REQUEST), "other")
    second_engine = RunEngine(context_managers=[])
    tried = threading.Event()

    def plan() -> Any:
        while not tried.is_set():
            yield from bps.sleep(0.01)
        yield from bps.null()

    try:
        thread, errors = in_thread(engine, bpp.stage_wrapper(plan(), [scan, stage]))
        until(lambda: theirs.microscope.state().lease is not None)
        with pytest.raises(FailedStatus) as failed:
            second_engine(bp.count([other]))
        tried.set()
        thread.join()
        assert isinstance(failed.value.__cause__, LeaseError)
        assert "(grid)" in str(failed.value.__cause__)
        assert not errors
        engine(bp.grid_scan([scan], stage.y, 0, 1e-8, 2, stage.x, 0, 1e-8, 2, snake_axes=True))
        assert len(documents.arrays("scan-at_x")) == 4
        second_engine(bp.count([other]))
        assert is_free(mine)
    finally:
        tried.set()
        mine.close()
        theirs.close()


def test_an_instrument_that_does_not_answer_is_not_connected(engine, ramp_server) -> None:
    link = SpmLink(twinscope.Microscope(transport=twinscope.connect(ramp_server.uri)._transport))
    link.microscope._transport._timeout = 0.2
    ramp_server.kill()
    with pytest.raises(NotConnectedError, match="no server answers"):
        made(SpmStage(link), "stage")


# ---------------------------------------------------------------------- the package


def test_nobody_who_does_not_want_it_loads_bluesky() -> None:
    code = "import twinscope, twinscope.microscope, twinscope.bluesky, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "twinscope.bluesky" in loaded
    assert not {"bluesky", "ophyd_async", "event_model"} & set(loaded)


def test_without_the_packages_the_error_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    import twinscope.bluesky

    monkeypatch.setitem(sys.modules, "ophyd_async", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'twinscope\[bluesky\]'"):
        twinscope.bluesky.SpmStage  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'SpmLaser'"):
        twinscope.bluesky.SpmLaser  # noqa: B018
