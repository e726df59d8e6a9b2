"""The Nanonis driver on a scripted controller: scans, spectra and paths."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.drivers._acquiring import Sink
from tests.drivers._nanonis_controller import ScriptedController, acquire
from twinscope.drivers.nanonis import Nanonis
from twinscope.drivers.nanonis.frame_rows import FrameRows
from twinscope.errors import DriverError
from twinscope.requests import PathRequest, ScanFrame, ScanRequest, SpectroscopyRequest, Sweep

FRAME = ScanFrame(size=(10e-9, 8e-9), center=(3e-9, -2e-9), angle=30.0)
SCAN = ScanRequest(frame=FRAME, pixels=(16, 3), channels=("current", "frequency_shift"), line_time=0.004)
# Of the channels of the scan, in the list of the controller.
CURRENT, FREQUENCY_SHIFT = 0, 5


# ---------------------------------------------------------------------- scans


def expected(request: ScanRequest, scan: int) -> np.ndarray:
    """Return what the scripted controller measures in its scans from this number on, (traces, channels, pixels)."""
    traces = []
    for trace in range(request.trace_count):
        address = request.address(trace)
        line = address.row if request.slow_direction == "up" else request.pixels[1] - 1 - address.row
        in_time = (scan + address.layer) * 1000 + 10 * line + np.arange(request.pixels[0])
        values = in_time if address.direction == "forward" else in_time[::-1]
        forward = int(address.direction == "forward")
        traces.append([values + index * 1e5 + forward for index in (CURRENT, FREQUENCY_SHIFT)])
    return np.array(traces, np.float32)


@pytest.mark.parametrize("slow_direction", ["up", "down"])
@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_a_scan_is_in_its_order(
    driver: Nanonis, controller: ScriptedController, direction: str, slow_direction: str
) -> None:
    request = replace(SCAN, direction=direction, slow_direction=slow_direction, heights=(60e-9, 50e-9))
    np.testing.assert_array_equal(acquire(driver, request), expected(request, 1))
    assert controller.last("Scan.FrameSet") == {
        "center_x": np.float32(3e-9),
        "center_y": np.float32(-2e-9),
        "width": np.float32(10e-9),
        "height": np.float32(8e-9),
        # The controller counts clockwise.
        "angle": -30.0,
    }
    buffer = controller.last("Scan.BufferSet")
    assert (buffer["channel_indexes"].tolist(), buffer["pixels"], buffer["lines"]) == (
        [CURRENT, FREQUENCY_SHIFT],
        16,
        3,
    )
    starts = [given["scan_direction"] for name, given in controller.log if name == "Scan.Action"]
    assert starts == [int(slow_direction == "up")] * 2


def test_lines_are_handed_over_while_the_scan_runs(driver: Nanonis, controller: ScriptedController) -> None:
    sink = Sink()
    driver.start_scan(SCAN, sink)
    seen = []
    while driver.poll():
        seen.append((len(sink.traces), controller.line))
    assert [done for done, _ in seen] == [1, 2, 3]
    assert seen[0][1] < 3


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_a_buffer_that_keeps_the_scan_before_is_not_taken_for_the_new_one(
    driver: Nanonis, controller: ScriptedController, direction: str
) -> None:
    controller.keeps_rows = True
    request = replace(SCAN, direction=direction)
    for scan in (1, 2, 3):
        np.testing.assert_array_equal(acquire(driver, request), expected(request, scan))


def test_data_in_the_order_of_positions_are_not_turned_round(
    make: Callable[..., Nanonis], controller: ScriptedController
) -> None:
    driver = make(frame_order="position")
    request = replace(SCAN, direction="backward")
    traces = acquire(driver, request)
    np.testing.assert_array_equal(traces, expected(request, 1)[:, :, ::-1])


def test_a_scan_that_somebody_else_has_begun_is_ended_first(driver: Nanonis, controller: ScriptedController) -> None:
    controller.values |= {"lines": 500, "pixels": 16}
    controller.do_Scan_Action(0, 1)
    np.testing.assert_array_equal(acquire(driver, SCAN), expected(SCAN, 2))
    assert [given["scan_action"] for name, given in controller.log if name == "Scan.Action"] == [1, 0]


def test_a_scan_that_ends_early_is_an_error(driver: Nanonis, controller: ScriptedController) -> None:
    sink = Sink()
    controller.ends_after = 2
    driver.start_scan(SCAN, sink)
    with pytest.raises(DriverError, match="the scan has ended after 2 of 3 lines"):
        while driver.poll():
            pass
    assert len(sink.traces) == 2
    # It is over for the driver, too.
    with pytest.raises(DriverError, match="no acquisition"):
        driver.poll()


def test_a_scan_that_does_not_begin_is_an_error(
    make: Callable[..., Nanonis], controller: ScriptedController, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = make(timeout=0.2)
    acquire(driver, SCAN)
    # The buffer is full of the scan before.
    controller.keeps_rows = True
    monkeypatch.setattr(controller, "do_Scan_StatusGet", lambda: {"scan_status": 0})
    with pytest.raises(DriverError, match="the scan was started, but it does not run"):
        acquire(driver, SCAN)


@pytest.mark.parametrize(("status", "why"), [(1, "is it paused"), (5, "Safe Tip has withdrawn the tip")])
def test_a_scan_that_rests_for_too_long_is_an_error(
    make: Callable[..., Nanonis],
    controller: ScriptedController,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    why: str,
) -> None:
    driver = make(line_timeout=0.1)
    # It runs, and nothing comes.
    monkeypatch.setattr(controller, "do_Scan_StatusGet", lambda: {"scan_status": controller.scans})
    monkeypatch.setattr(controller, "do_ZCtrl_StatusGet", lambda: {"z_controller_status": status}, raising=False)
    with pytest.raises(DriverError, match=rf"no line of the scan has come for 0\.\d+ s: {why}"):
        acquire(driver, SCAN)
    assert controller.last("Scan.Action")["scan_action"] == 1


def test_whole_turns_of_a_frame_make_no_difference(
    driver: Nanonis, controller: ScriptedController, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller, "do_Scan_FrameGet", lambda: controller.values["frame"] | {"angle": 690.0})
    acquire(driver, SCAN)


def test_a_stopped_scan_is_over(driver: Nanonis, controller: ScriptedController) -> None:
    sink = Sink()
    driver.start_scan(replace(SCAN, pixels=(16, 50)), sink)
    assert driver.poll()
    driver.stop()
    assert controller.last("Scan.Action")["scan_action"] == 1
    known = len(sink.traces)
    assert driver.poll() is False
    assert len(sink.traces) == known < 50


@pytest.mark.parametrize(
    ("command", "told", "complaint"),
    [
        ("Scan_BufferGet", {"channel_indexes": [0, 5], "pixels": 32, "lines": 3}, "32 x 3 pixels where 16 x 3"),
        ("Scan_BufferGet", {"channel_indexes": [0], "pixels": 16, "lines": 3}, r"records the signals \[0\]: expected"),
        ("Scan_FrameGet", dict.fromkeys(("center_x", "center_y", "width", "height", "angle"), 0.0), "has made the"),
        ("Scan_SpeedGet", {"forward_time_per_line": 0.5, "backward_time_per_line": 0.5}, "a line forward takes 0.5 s"),
    ],
)
def test_what_the_controller_makes_of_a_scan_is_checked_before_it_starts(
    driver: Nanonis,
    controller: ScriptedController,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    told: dict[str, Any],
    complaint: str,
) -> None:
    monkeypatch.setattr(controller, f"do_{command}", lambda: told)
    with pytest.raises(DriverError, match=complaint):
        acquire(driver, SCAN)
    assert controller.scans == 0


def test_a_frame_of_another_shape_is_refused(
    driver: Nanonis, controller: ScriptedController, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller, "do_Scan_FrameDataGrab", lambda **_: {"scan_data": np.zeros((4, 16), np.float32)})
    with pytest.raises(DriverError, match="a frame of 16 x 4 pixels where 16 x 3 are scanned"):
        acquire(driver, SCAN)


def test_a_frame_of_another_shape_of_another_channel_is_refused(
    driver: Nanonis, controller: ScriptedController, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = controller.do_Scan_FrameDataGrab

    def grab(channel_index: int, data_direction: int) -> dict[str, Any]:
        told = whole(channel_index, data_direction)
        return told if channel_index == CURRENT else {"scan_data": told["scan_data"][:1]}

    monkeypatch.setattr(controller, "do_Scan_FrameDataGrab", grab)
    with pytest.raises(DriverError, match="a frame of 16 x 1 pixels where 16 x 3 are scanned"):
        acquire(driver, SCAN)


def test_a_path_with_too_few_values_is_refused(
    driver: Nanonis, controller: ScriptedController, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller, "do_Signals_ValsGet", lambda **_: {"signals_values": [1.0]})
    with pytest.raises(DriverError, match="gives 1 values of 2 signals"):
        acquire(driver, PathRequest(positions=((0, 0),), channels=("current", "z")))


def test_a_scan_with_the_z_controller(driver: Nanonis, controller: ScriptedController) -> None:
    acquire(driver, replace(SCAN, z_mode="constant_frequency_shift", setpoint=-3.0))
    assert (controller.values["on"], controller.values["active"]) == (1, 1)
    assert controller.values["setpoints"] == [1e-11, -3.0]
    acquire(driver, SCAN)
    assert controller.values["on"] == 0


@pytest.mark.parametrize(
    ("release", "missing"),
    [(11000, ("modules_names", "autopaste")), (13742, ("autopaste",)), (0, ("autopaste",)), (15000, ())],
)
def test_the_properties_of_a_scan_are_set_as_the_release_takes_them(
    make: Callable[..., Nanonis],
    controller: ScriptedController,
    monkeypatch: pytest.MonkeyPatch,
    release: int,
    missing: tuple[str, ...],
) -> None:
    monkeypatch.setattr(controller, "do_Util_VersionGet", lambda: {"rt_engine_release": release})
    acquire(make(), SCAN)
    given = controller.last("Scan.PropsSet")
    assert tuple(name for name, value in given.items() if value is None) == missing
    assert (given["continuous_scan"], given["bouncy_scan"], given["autosave"]) == (2, 2, 0)


# ---------------------------------------------------------------------- spectra and paths


@pytest.mark.parametrize("swept", ["z", "bias"])
def test_spectra(driver: Nanonis, controller: ScriptedController, swept: str) -> None:
    sweep = Sweep(start=50e-9, stop=40e-9, points=5) if swept == "z" else Sweep(start=-1, stop=1, points=5)
    request = SpectroscopyRequest(
        swept=swept,
        positions=((1e-9, 0), (0, 1e-9)),
        sweep=sweep,
        channels=("current", "frequency_shift"),
        point_time=0.1,
    )
    traces = acquire(driver, request)
    axis = sweep.values() - (sweep.start if swept == "z" else 0)
    wanted = np.array([[CURRENT + axis, FREQUENCY_SHIFT + axis]] * 2, np.float32)
    np.testing.assert_allclose(traces, wanted, rtol=1e-6)
    module = "ZSpectr" if swept == "z" else "BiasSpectr"
    timing = controller.last(f"{module}.TimingSet")
    assert timing["settling_time"] + timing["integration_time"] == pytest.approx(0.1)
    moves = [(given["x"], given["y"]) for name, given in controller.log if name == "FolMe.XYPosSet"]
    assert moves == [(1e-9, 0.0), (0.0, 1e-9)]


def test_what_the_controller_has_told_goes_back_as_it_was(
    driver: Nanonis, controller: ScriptedController, monkeypatch: pytest.MonkeyPatch
) -> None:
    timing = {"maximum_slew_rate": np.inf, "z_averaging_time": 0.5}
    monkeypatch.setattr(controller, "do_Spectr_TimingGet", lambda: timing, raising=False)
    request = SpectroscopyRequest(
        swept="bias", positions=((0, 0),), sweep=Sweep(start=-1, stop=1, points=5), channels=("current",)
    )
    acquire(driver, request)
    given = controller.last("BiasSpectr.TimingSet")
    assert {name: given[name] for name in timing} == timing


def test_a_sweep_the_wrong_way_round_is_an_error(make: Callable[..., Nanonis], controller: ScriptedController) -> None:
    driver = make(z_sweep_sign=-1)
    request = SpectroscopyRequest(
        swept="z", positions=((0, 0),), sweep=Sweep(start=50e-9, stop=40e-9, points=5), channels=("current",)
    )
    with pytest.raises(DriverError, match="look at the option z_sweep_sign"):
        acquire(driver, request)
    assert controller.last("ZSpectr.RangeSet")["z_sweep_distance"] == pytest.approx(10e-9)


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        ({}, r"\(0, 0\) values for 0 channels"),
        ({"channels_names": ("Bias (V)", "Current (A)"), "data": np.zeros((2, 4))}, r"\(2, 4\) values for 2 channels"),
        (
            {"channels_names": ("Bias (V)", "Luck (A)"), "data": np.array([np.linspace(-1, 1, 5)] * 2)},
            "not recorded Curr",
        ),
        ({"channels_names": ("Bias (V)", "Current (A)"), "data": np.full((2, 5), np.nan)}, "was swept by nan"),
    ],
)
def test_spectra_that_are_not_what_was_asked_for_are_refused(
    driver: Nanonis,
    controller: ScriptedController,
    monkeypatch: pytest.MonkeyPatch,
    told: dict[str, Any],
    complaint: str,
) -> None:
    monkeypatch.setattr(controller, "do_Spectr_Start", lambda **_: told)
    request = SpectroscopyRequest(
        swept="bias", positions=((0, 0),), sweep=Sweep(start=-1, stop=1, points=5), channels=("current",)
    )
    with pytest.raises(DriverError, match=complaint):
        acquire(driver, request)


def test_another_number_of_points_is_refused(
    driver: Nanonis, controller: ScriptedController, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controller, "do_Spectr_PropsGet", lambda: {"number_of_points": 4})
    request = SpectroscopyRequest(
        swept="bias", positions=((0, 0),), sweep=Sweep(start=-1, stop=1, points=5), channels=("current",)
    )
    with pytest.raises(DriverError, match="sweeps 4 points where 5"):
        acquire(driver, request)
    assert not controller.count("BiasSpectr.Start")


def test_a_path(driver: Nanonis) -> None:
    positions = ((0.0, 0.0), (1e-9, 0.0), (1e-9, 2e-9))
    request = PathRequest(
        positions=positions, channels=("x_position", "y_position"), passes=2, point_time=2e-3, height=55e-9
    )
    np.testing.assert_allclose(acquire(driver, request), [np.array(positions).T] * 2, rtol=1e-6)


def test_separate_points_are_reached_from_above(driver: Nanonis, controller: ScriptedController) -> None:
    request = PathRequest(
        positions=((0, 0), (1e-9, 0)),
        channels=("x_position", "z"),
        separate=True,
        lift=10e-9,
        passes=2,
        point_time=1e-3,
        height=55e-9,
    )
    traces = acquire(driver, request)
    np.testing.assert_allclose(traces[:, 0], [[0, 0], [1e-9, 1e-9]], rtol=1e-6)
    np.testing.assert_allclose(traces[:, 1], 55e-9, rtol=1e-6)
    highest = max(given["z_position"] for name, given in controller.log if name == "ZCtrl.ZPosSet")
    assert highest == pytest.approx(65e-9)


def test_separate_points_with_the_z_controller(driver: Nanonis, controller: ScriptedController) -> None:
    request = PathRequest(
        positions=((0, 0), (1e-9, 0)),
        channels=("current",),
        separate=True,
        lift=10e-9,
        point_time=1e-3,
        z_mode="constant_current",
    )
    assert acquire(driver, request).shape == (2, 1, 1)
    assert controller.values["on"] == 1
    switched = [given["z_controller_status"] for name, given in controller.log if name == "ZCtrl.OnOffSet"]
    assert switched == [1, 0, 1]


# ---------------------------------------------------------------------- which rows are new


def test_rows_of_a_cleared_buffer_are_new_when_they_are_whole() -> None:
    rows = FrameRows(np.full((3, 2), np.nan, np.float32), (2, 3))
    assert (rows.last_begun, rows.complete()) == (-1, 0)
    buffer = np.full((3, 2), np.nan, np.float32)
    buffer[0] = 1
    rows.look(buffer.copy())
    assert (rows.last_begun, rows.complete()) == (0, 1)
    buffer[1, 0] = 1
    rows.look(buffer.copy())
    assert (rows.last_begun, rows.complete()) == (1, 1)
    # Values that are missing in a line that was measured do not hold up the next.
    buffer[2] = 1
    rows.look(buffer.copy())
    assert (rows.last_begun, rows.complete()) == (2, 3)


def test_rows_of_a_full_buffer_are_new_when_the_next_one_has_changed() -> None:
    before = np.arange(6, dtype=np.float32).reshape(3, 2)
    rows = FrameRows(before, (2, 3))
    buffer = before.copy()
    buffer[0] += 1
    rows.look(buffer.copy())
    # Pixels come in packets: this one may go on.
    assert (rows.last_begun, rows.complete()) == (0, 0)
    buffer[1, 0] += 1
    rows.look(buffer.copy())
    assert (rows.last_begun, rows.complete()) == (1, 1)
