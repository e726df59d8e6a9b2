"""Plans of bluesky that are paused, ended, or fail: what becomes of the frame and the tip."""

import time
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky.utils import FailedStatus, RunEngineInterrupted

from tests.conftest import until
from tests.twin._bluesky import LONG, REQUEST, SPECTRUM, HeldDriver, in_thread, is_free, made
from tests.twin._bluesky import documents as documents
from tests.twin._bluesky import engine as engine
from tests.twin._bluesky import held as held
from tests.twin._bluesky import microscope as microscope
from twinscope.bluesky import SpmLink, SpmScan, SpmSignals, SpmSpectroscopy, SpmStage
from twinscope.errors import AbortedError, DriverError, InvalidRequestError, TripError


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
