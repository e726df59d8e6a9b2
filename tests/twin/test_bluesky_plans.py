"""The microscope as devices of bluesky: stock plans in a real RunEngine, and what their documents say."""

import asyncio
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky.utils import FailedStatus

import twinscope
from tests.conftest import RampDriver, until
from tests.twin._bluesky import REQUEST, SPECTRUM, is_free, made
from tests.twin._bluesky import documents as documents
from tests.twin._bluesky import engine as engine
from tests.twin._bluesky import held as held
from tests.twin._bluesky import link as link
from tests.twin._bluesky import microscope as microscope
from twinscope.bluesky import SpmLink, SpmScan, SpmSignals, SpmSpectroscopy, SpmStage
from twinscope.bluesky._backend import StateBackend
from twinscope.errors import InvalidRequestError, OutOfRangeError

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


def test_a_mistake_while_a_value_is_watched_is_logged_and_ends_the_watching(link, caplog) -> None:
    values, seen = [0.1], []
    backend = StateBackend(link, float, "signals/odd", lambda _: values.pop())

    async def watch() -> None:
        backend.set_callback(seen.append)
        while "signals/odd is watched no longer" not in caplog.text:
            await asyncio.sleep(0.01)
        backend.set_callback(None)

    asyncio.run(asyncio.wait_for(watch(), 10))
    assert "IndexError" in caplog.text
    assert [reading["value"] for reading in seen] == [0.1]


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
