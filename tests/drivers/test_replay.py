"""The replay driver: what it can do, how it moves, takes time, plays series and spectra, and what it refuses."""

import json
import re
import subprocess
import sys
import threading
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.drivers._acquiring import Sink, acquire, start
from tests.drivers._replayed import image, places, ramps, recording, replay, replay_files, spectra
from twinscope.drivers.base import Driver
from twinscope.drivers.registry import create
from twinscope.drivers.replay import Replay
from twinscope.drivers.replay.branches import branches_of
from twinscope.drivers.replay.feedback import Feedback
from twinscope.drivers.replay.overlay import APPLIED
from twinscope.drivers.replay.recording import Recording
from twinscope.drivers.replay.tip import TipShape
from twinscope.errors import (
    ConfigurationError,
    DriverError,
    InterlockError,
    InvalidRequestError,
    MissingPackageError,
    OutOfRangeError,
    UnknownChannelError,
)
from twinscope.requests import PathRequest, ScanFrame, ScanRequest, SpectroscopyRequest, Sweep
from twinscope.state import TipState

FRAME = ScanFrame(size=(2e-6, 1e-6))
SHAPE = (20, 40)
SMALL = ScanFrame(size=(1e-6, 5e-7))


def scan(**change: Any) -> ScanRequest:
    return ScanRequest(**({"frame": SMALL, "pixels": (8, 6), "channels": ("at_x",)} | change))


def spectroscopy(start: float, stop: float, points: int = 5, **change: Any) -> SpectroscopyRequest:
    wanted = {
        "swept": "bias",
        "positions": ((0.0, 0.0),),
        "sweep": Sweep(start=start, stop=stop, points=points),
        "channels": ("response",),
    }
    return SpectroscopyRequest(**(wanted | change))


# ---------------------------------------------------------------------- what it is


def test_it_is_a_driver_with_what_the_recording_has() -> None:
    driver = replay(ramps(FRAME, SHAPE))
    assert isinstance(driver, Driver)
    can = driver.capabilities()
    assert [(channel.name, channel.unit) for channel in can.channels] == [("at_x", "m"), ("at_y", "m")]
    assert can.signals == can.channels
    assert can.simulated
    assert can.traits == ("scan", "path")
    assert can.settings["sha256"] == ["0" * 64]
    assert can.settings["warnings"] == ["it was made for a test"]
    json.dumps(can.to_dict(), allow_nan=False)


def test_it_does_without_jax_unless_it_is_asked_to_be_imperfect(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom twinscope.drivers.replay import Replay\n"
        "assert not {'jax', 'scipy', 'twinscope.kernels'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_reads_the_present_place() -> None:
    driver = replay(ramps(FRAME, SHAPE))
    driver.open()
    driver.move_to(3e-7, -2e-7, 0.0)
    reading = driver.read()
    assert reading.position.x == 3e-7
    assert reading.signals == pytest.approx({"at_x": 3e-7, "at_y": -2e-7})
    driver.withdraw()
    reading = driver.read()
    assert (reading.tip, reading.position.z) == (TipState.WITHDRAWN, 1e-6)
    assert np.isnan(list(reading.signals.values())).all()
    driver.approach()
    assert (driver.read().tip, driver.read().position.z) == (TipState.IN_RANGE, 0.0)
    driver.close()
    driver.close()


def test_its_page_has_every_option_with_its_default() -> None:
    page = (Path(__file__).resolve().parent.parent.parent / "docs" / "replay.md").read_text()
    table = {row[0]: row[1] for row in re.findall(r"^\| `(\w+)`[^|]*\| ?([^|]*?) ?\|", page, re.MULTILINE)}
    for option in Replay.options_type.describe():
        assert f"`{option.name}`" in page, option.name
        default = {None: "none", 2**30: "1 GiB"}.get(option.default, str(option.default))
        # Both speeds stand in one row.
        row = "lateral_speed" if option.name == "vertical_speed" else option.name
        assert option.required or default in table[row], f"{option.name}: {default}"
    for cls in (TipShape, Feedback):
        assert {field.name for field in fields(cls)} <= set(table)
    assert all(f"`{name}`" in page for name in APPLIED)


# ---------------------------------------------------------------------- time


def test_lines_and_ways_take_their_time() -> None:
    driver = replay(ramps(FRAME, SHAPE), lateral_speed=1e-7)
    # From the middle to the first pixel.
    way = np.hypot(*(np.array(SMALL.size) / 2 - np.array(SMALL.size) / (16, 12))) / 1e-7
    acquire(driver, scan(line_time=0.5, direction="both"))
    # The turn to the next line takes less than a pixel at this speed.
    lines = 6 * 2 * 0.5 + 5 * max(SMALL.size[1] / 6 / 1e-7 - 0.5 / 8, 0)
    assert driver.read().time == pytest.approx(way + lines, rel=1e-6)


def test_a_real_clock_gives_line_by_line() -> None:
    driver = replay(ramps(FRAME, SHAPE), clock=1.0)
    sink = start(driver, scan(line_time=0.1))
    begin = time.monotonic()
    assert driver.poll()
    assert len(sink.traces) == 1
    assert driver.poll()
    assert len(sink.traces) == 2
    assert time.monotonic() - begin > 0.15


def test_an_accelerated_clock_gives_many_lines_at_once() -> None:
    driver = replay(ramps(FRAME, SHAPE))
    sink = start(driver, scan(pixels=(64, 128)))
    assert driver.poll()
    # As many as can be made in a moment.
    assert len(sink.traces) > 1
    while driver.poll():
        pass
    assert len(sink.traces) == 128


@pytest.mark.parametrize("what", ["scan", "path", "move"])
def test_a_stop_from_another_thread_ends_a_minute_of_work_at_once(what: str) -> None:
    driver = replay(ramps(FRAME, SHAPE), clock="realtime", lateral_speed=1e-8)
    driver.open()
    timer = threading.Timer(0.3, driver.stop)
    begin = time.monotonic()
    if what == "move":
        timer.start()
        driver.move_to(9e-7, 0.0, 0.0)
        assert 0 < driver.read().position.x < 9e-7
    else:
        center = ScanFrame(size=(1e-9, 1e-9))
        request = scan(frame=center, line_time=60.0)
        if what == "path":
            request = PathRequest(positions=((0.0, 0.0),) * 100, channels=("at_x",), point_time=1.0)
        sink = start(driver, request)
        timer.start()
        assert not driver.poll()
        assert not sink.traces
        # It is over; the next one begins anew.
        with pytest.raises(DriverError, match="no acquisition"):
            driver.poll()
    assert time.monotonic() - begin < 5


def test_a_command_ends_the_acquisition() -> None:
    driver = replay(ramps(FRAME, SHAPE))
    start(driver, scan())
    driver.move_to(0.0, 0.0, 0.0)
    with pytest.raises(DriverError, match="no acquisition"):
        driver.poll()


# ---------------------------------------------------------------------- refused, with nothing moved


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (scan(channels=("response",)), UnknownChannelError, "no images of the channel 'response'.*at_x"),
        (scan(heights=(0.0, 1e-9)), InterlockError, r"1e-09 m above the height of the recording"),
        (scan(frame=ScanFrame(size=(3e-6, 1e-7))), OutOfRangeError, "outside the recording of at_x"),
        (
            PathRequest(positions=((0.0, 0.0),), channels=("at_x",), height=1e-9),
            InterlockError,
            "1e-09 m above the height",
        ),
        (spectroscopy(0.0, 1.0, channels=("at_x",)), UnknownChannelError, "no spectra of the channel 'at_x'"),
        (spectroscopy(0.0, 2.5), OutOfRangeError, "rises from 0 to 2.5.*recorded ones go from -2 to 2"),
        (spectroscopy(0.0, 1.0, height=1e-9), InterlockError, "1e-09 m above the height"),
        (spectroscopy(0.0, 1.0, positions=((9e-7, 0.0),)), OutOfRangeError, "outside the recorded spectra"),
        (spectroscopy(0.0, 1e-9, swept="z"), InvalidRequestError, "not recorded together over z"),
    ],
)
def test_what_was_not_recorded_is_refused(request_: Any, error: type[Exception], message: str) -> None:
    curve = spectra(np.linspace(-2, 2, 9), np.ones((2, 9)), [(0.0, 0.0), (1e-7, 0.0)])
    driver = replay(ramps(FRAME, SHAPE), [curve])
    before = driver.read()
    with pytest.raises(error, match=message):
        start(driver, request_)
    assert driver.read() == before


def test_nothing_is_measured_away_from_the_height_of_the_recording() -> None:
    driver = replay(ramps(FRAME, SHAPE), [spectra([0.0, 1.0], np.ones((1, 2)), [(0.0, 0.0)])])
    driver.withdraw()
    for request in (scan(), PathRequest(positions=((0.0, 0.0),), channels=("at_x",)), spectroscopy(0.0, 1.0)):
        with pytest.raises(InterlockError, match=r"1e-06 m above the height of the recording.*approach first"):
            start(driver, request)
    driver.approach()
    assert len(acquire(driver, scan(heights=(0.0,)))[0]) == 6
    # To other heights only a withdrawal goes.
    assert abs(driver.capabilities().limits["z"].high) < 2e-12


def test_away_from_the_height_of_the_recording_is_nan_when_that_is_asked_for() -> None:
    curve = spectra([0.0, 1.0], np.ones((1, 2)), [(0.0, 0.0)])
    driver = replay(ramps(FRAME, SHAPE), [curve], outside="nan")
    assert driver.capabilities().limits["z"].high == 1e-6
    traces, sink = acquire(driver, scan(heights=(1e-9, 0.0)))
    np.testing.assert_array_equal(np.isnan(traces[:, 0, 0]), [True] * 6 + [False] * 6)
    assert "nothing was recorded at 48 points: they are NaN" in sink.warnings
    assert driver.read().position.z == 0.0
    driver.move_to(0.0, 0.0, 1e-9)
    assert np.isnan(acquire(driver, spectroscopy(0.0, 1.0))[0]).all()
    assert np.isfinite(acquire(driver, spectroscopy(0.0, 1.0, height=0.0))[0]).all()
    assert driver.read().position.z == 1e-9


def test_what_is_closed_says_so() -> None:
    driver = replay(ramps(FRAME, SHAPE))
    driver.close()
    for use in (driver.read, driver.approach, driver.poll, lambda: start(driver, scan())):
        with pytest.raises(DriverError):
            use()
    driver.open()
    driver.read()


def test_channels_of_different_frames_cannot_be_measured_together() -> None:
    other = ScanFrame(size=(1e-6, 1e-6), center=(5e-6, 0.0))
    driver = replay([*ramps(FRAME, SHAPE), image("phase", np.ones((4, 4)), other, unit="deg")])
    with pytest.raises(InvalidRequestError, match="at_x, phase were not recorded over the same frame"):
        start(driver, scan(channels=("at_x", "phase")))


def test_settings_cannot_be_set() -> None:
    driver = replay(ramps(FRAME, SHAPE))
    driver.set_feedback("off")
    with pytest.raises(DriverError, match="bias cannot be set"):
        driver.write("bias", 1.0)
    with pytest.raises(DriverError, match="cannot be switched to constant_current"):
        driver.set_feedback("constant_current")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clock": "slow"}, "clock is 'slow'"),
        ({"interpolation": "spline"}, "interpolation is 'spline'.*'nearest', 'linear', 'cubic'"),
        ({"outside": "clamp"}, "outside is 'clamp'"),
        ({"margin": 1e-6}, "margin is 1e-06 m but nothing beyond the recording is allowed"),
        ({"seed": -1}, "seed is -1"),
        ({"lateral_speed": 0}, "lateral_speed is 0.0.*above 0"),
        ({"noise": {"at_x": -1.0}}, "noise has -1.0 for at_x"),
        ({"noise": {"phase": 1.0}}, "noise is for 'phase'.*at_x, at_y"),
        ({"realism": "perfect"}, "realism is 'perfect'"),
        ({"tip": {"radius": 1e-8}}, "tip and feedback need a topography.*at_x, at_y"),
        ({"topography": "at_z"}, "topography is 'at_z'.*at_x, at_y"),
        ({"topography": "at_x", "tip": {"shape": "pyramid"}}, "tip: shape is 'pyramid'"),
        ({"topography": "at_x", "tip": {"radius": 0}}, "tip: radius is 0"),
        ({"topography": "at_x", "tip": {"shape": "cone", "half_angle": 90}}, "half_angle is 90.0"),
        ({"topography": "at_x", "tip": {"size": 1}}, "unknown key 'size'"),
        ({"topography": "at_x", "feedback": {"memory": 0}}, "feedback: memory is 0"),
        ({"topography": "at_x", "feedback": {"rate": -1.0}}, "feedback: rate is -1.0"),
        ({"topography": "at_x", "feedback": {"gain": 1.0}}, "unknown key 'gain'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        replay(ramps(FRAME, SHAPE), **options)


def test_files_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="the option file is missing"):
        Replay()
    with pytest.raises(ConfigurationError, match="there are none"):
        Replay(file=tmp_path)
    with pytest.raises(ConfigurationError, match="nothing"):
        create("replay", file=str(tmp_path / "nothing.sxm"))
    (tmp_path / "notes.txt").write_text("no recording")
    with pytest.raises(ConfigurationError, match=r"there are none: notes.txt are none"):
        Replay(file=tmp_path)
    (tmp_path / "large.sxm").write_bytes(b":NANONIS_VERSION:" + b"0" * 1000)
    with pytest.raises(ConfigurationError, match="has 1017 bytes: expected at most 1000"):
        Replay(file=tmp_path / "large.sxm", largest_file=1000)
    with pytest.raises(ConfigurationError, match=r"large.sxm"):
        Replay(file=[tmp_path / "large.sxm"])


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    (tmp_path / "readme.txt").write_text("how it was made")
    (tmp_path / "older").mkdir()
    for number in (2, 0, 1):
        tifffile.imwrite(tmp_path / f"frame{number}.tif", np.full((4, 4), number, np.float32))
    scale = {"size": 1e-6, "channel": "number"}
    driver = Replay(file=tmp_path, scale=scale, series_interval=2.0)
    assert driver.capabilities().settings["file"] == ["frame0.tif", "frame1.tif", "frame2.tif"]
    assert "readme.txt is left out: it is none of the formats" in str(driver.capabilities().settings["warnings"])
    assert numbers(driver, 7, 1.0) == [0, 0, 1, 1, 2, 2, 0]


def test_recordings_of_one_frame_follow_each_other() -> None:
    def part(*values: float) -> Recording:
        return recording(
            image("number", np.full((4, 4), value), FRAME, unit="1", time=time, line_time=0.25)
            for time, value in enumerate(values)
        )

    assert numbers(replay_files([part(0, 1), part(2, 3, 4)]), 6, 1.0) == [0, 1, 2, 3, 4, 0]


def test_files_that_do_not_belong_together_are_refused() -> None:
    images = [image("phase", np.ones((4, 4)), FRAME, unit=unit) for unit in ("deg", "V")]
    with pytest.raises(ConfigurationError, match="phase is in deg and in V"):
        replay(images)


def test_spectra_of_something_else_are_left_out() -> None:
    with pytest.raises(ConfigurationError, match="there are none"):
        replay([], [spectra([1.0, 2.0], np.ones((1, 2)), [(0.0, 0.0)], swept="frequency")])


# ---------------------------------------------------------------------- one direction only, and time series


def test_where_only_one_direction_was_recorded_the_other_is_the_same_and_says_so() -> None:
    driver = replay([one for one in ramps(FRAME, SHAPE) if one.direction == "forward"])
    traces, sink = acquire(driver, scan(direction="both"))
    np.testing.assert_array_equal(traces[::2], traces[1::2])
    assert "at_x was not recorded backward: it is that of the other direction" in sink.warnings
    assert "it was made for a test" in sink.warnings


def series(*times: float, **options: Any) -> Replay:
    """Images that are 0, 1, 2, ... everywhere, and take 2 s each."""
    images = [
        image("number", np.full((4, 4), float(k)), FRAME, unit="1", time=time, line_time=0.25)
        for k, time in enumerate(times)
    ]
    return replay(images, **options)


def numbers(driver: Replay, lines: int, line_time: float) -> list[int]:
    request = scan(channels=("number",), frame=ScanFrame(size=(1e-12, 1e-12)), pixels=(2, lines), line_time=line_time)
    return [int(trace[0, 0]) for trace in acquire(driver, request)[0]]


def test_a_time_series_is_played_by_instrument_time() -> None:
    # The last one is there for the mean of 3 s; the first begins at zero.
    assert numbers(series(10.0, 12.0, 16.0), 14, 1.0) == [0, 0, 1, 1, 1, 1, 2, 2, 2, 0, 0, 1, 1, 1]
    assert numbers(series(10.0, 12.0, 16.0, series="hold"), 14, 1.0) == [0, 0, 1, 1, 1, 1] + [2] * 8
    assert numbers(series(0.0, 2.0, 6.0, series_interval=1.0), 6, 1.0) == [0, 1, 2, 0, 1, 2]


def test_without_times_each_image_is_there_as_long_as_it_took() -> None:
    assert numbers(series(0.0, 0.0, 0.0), 7, 1.0) == [0, 0, 1, 1, 2, 2, 0]


# ---------------------------------------------------------------------- spectra

LOOP = np.concatenate([np.arange(0, 8), np.arange(8, -8, -1), np.arange(-8, 0)]) / 4.0


def test_a_loop_has_two_branches_that_are_closed_where_it_begins() -> None:
    rising, falling = branches_of(LOOP)
    assert (rising.rises, falling.rises) == (True, False)
    for branch in (rising, falling):
        np.testing.assert_array_equal(branch.values, np.arange(-8, 9) / 4)
        np.testing.assert_array_equal(LOOP[branch.indices], branch.values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 1, 2], [(True, 0, 2)]),
        ([2, 1, 0], [(False, 0, 2)]),
        ([0, 0, 1, 1, 2, 2], [(True, 0, 2)]),
        ([0, 1, 2, 2, 1, 0], [(True, 0, 2), (False, 0, 2)]),
        # It ends far from where it begins: nothing is known in between.
        ([0, 1, 2, 1, 0, -1, -2, -3, -4, -5, -4], [(True, 0, 2), (False, -5, 2), (True, -5, -4)]),
        ([3, 3, 3], []),
    ],
)
def test_sweeps_are_cut_where_they_turn(values: list[float], expected: list[tuple[bool, float, float]]) -> None:
    found = branches_of(np.array(values, float))
    assert [(one.rises, one.values[0], one.values[-1]) for one in found] == expected


def grid_of_loops(**options: Any) -> Replay:
    """Spectra on a grid: x + 10 y + the bias, plus 100 on the falling branch; lengths in 100 nm."""
    x, y = places(ScanFrame(size=(5e-7, 4e-7)), (4, 5))
    rising = np.concatenate([np.diff(LOOP) > 0, [True]])
    at = (x / 1e-7 + 10 * y / 1e-7).ravel()[:, None]
    return replay([], [spectra(LOOP, at + LOOP + 100 * ~rising, np.stack([x.ravel(), y.ravel()], axis=-1))], **options)


def test_the_direction_of_a_sweep_chooses_the_branch() -> None:
    driver = grid_of_loops()
    assert driver.capabilities().traits == ("spectroscopy", "sweep_bias")
    # Where the loop turns there is one point for both.
    up, _ = acquire(driver, spectroscopy(-1.7, 1.6, 8, positions=((0.0, 5e-8),)))
    down, _ = acquire(driver, spectroscopy(1.6, -1.7, 8, positions=((0.0, 5e-8),)))
    swept = np.linspace(-1.7, 1.6, 8)
    np.testing.assert_allclose(up[0, 0], 5 + swept, atol=1e-9)
    np.testing.assert_allclose(down[0, 0], 5 + 100 + swept[::-1], atol=1e-9)


def test_a_spectrum_is_the_nearest_or_one_between() -> None:
    place = (1.3e-7, -0.8e-7)
    for option, expected in (("nearest", 1.0 - 5.0), ("linear", 1.3 - 8.0)):
        traces, _ = acquire(grid_of_loops(spectra=option), spectroscopy(0.0, 1.0, positions=(place, place)))
        assert traces.shape == (2, 1, 5)
        np.testing.assert_allclose(traces[:, 0], expected + np.broadcast_to(np.linspace(0, 1, 5), (2, 5)), atol=1e-6)
    # In the outer half of the outer cells nothing is around it: the nearest one.
    edge = (2.4e-7, 0.0)
    traces, _ = acquire(grid_of_loops(spectra="linear"), spectroscopy(0.0, 1.0, positions=(edge,)))
    assert traces[0, 0, 0] in (2.0 - 5.0, 2.0 + 5.0)


def test_spectra_of_several_files_are_one_set() -> None:
    parts = [
        spectra(np.linspace(-1, 1, points), np.full((1, points), float(x)), [(x * 1e-9, 0.0)])
        for x, points in ((0, 9), (1, 7), (2, 5))
    ]
    wide = spectra(np.linspace(-5, 5, 9), np.full((1, 9), 9.0), [(3e-9, 0.0)])
    driver = replay([], [*parts, wide])
    positions = tuple((x * 1e-9, 0.0) for x in (0.4, 2.1, 0.6, 3.0))
    traces, _ = acquire(driver, spectroscopy(-1.0, 1.0, positions=positions))
    assert traces[:, 0, 0].tolist() == [0.0, 2.0, 1.0, 9.0]
    # Where the sweep is wider, only one has it.
    traces, _ = acquire(driver, spectroscopy(-2.0, 1.0, positions=positions[:1]))
    assert traces[0, 0].tolist() == [9.0] * 5


def test_what_interpolation_needs_is_asked_for_when_the_driver_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.spatial", None)
    with pytest.raises(MissingPackageError, match=r"spectra = 'linear' needs the package 'scipy'.*twinscope\[replay\]"):
        grid_of_loops(spectra="linear")


def test_nothing_can_be_interpolated_on_a_line() -> None:
    driver = replay([], [spectra([0, 1], np.ones((3, 2)), [(0, 0), (1e-9, 0), (2e-9, 0)])], spectra="linear")
    with pytest.raises(InvalidRequestError, match="on a line"):
        start(driver, spectroscopy(0.0, 1.0))


def test_one_way_sweeps_are_played_both_ways_with_a_warning() -> None:
    driver = replay([], [spectra([3.0, 2.0, 1.0, 0.0], [[3.0, np.nan, 1.0, 0.0]], [(0.0, 0.0)])])
    traces, sink = acquire(driver, spectroscopy(0.0, 1.0, 3))
    np.testing.assert_allclose(traces[0, 0], [0.0, 0.5, 1.0])
    assert "the spectra were recorded with falling bias only: the other way is the same" in sink.warnings
    traces, sink = acquire(driver, spectroscopy(3.0, 0.0, 7))
    np.testing.assert_array_equal(np.isnan(traces[0, 0]), [False, True, True, True, False, False, False])
    assert "nothing was recorded at 3 points: they are NaN" in sink.warnings


def test_a_sweep_of_z_ends_at_the_height_of_the_recording() -> None:
    values = np.linspace(-1e-9, 3e-9, 9)
    driver = replay(ramps(FRAME, SHAPE), [spectra(values, values[None] * 1e9, [(0.0, 0.0)], swept="z")])
    assert driver.capabilities().limits["z"].low == -1e-9
    begin = driver.read().time
    traces, _ = acquire(driver, spectroscopy(2e-9, -1e-9, 7, swept="z", point_time=0.1))
    np.testing.assert_allclose(traces[0, 0], np.linspace(2, -1, 7))
    assert driver.read().position.z == 0.0
    assert driver.read().time - begin > 0.7
    start(driver, scan())


def test_many_spectra_come_in_blocks_and_each_takes_its_time() -> None:
    driver = grid_of_loops()
    positions = tuple((x, 0.0) for x in np.linspace(-2e-7, 2e-7, 300).tolist())
    request = spectroscopy(-1.0, 1.0, 200, positions=positions, point_time=0.01)
    sink = Sink()
    driver.start_spectroscopy(request, sink)
    polls = 0
    while driver.poll():
        polls += 1
    assert len(sink.traces) == 300
    assert 2 <= polls < 20
    assert driver.read().time > 300 * 200 * 0.01


def test_the_loops_of_dtmicroscope_keep_their_branches(shared: Path) -> None:
    driver = Replay(file=shared / "dtmicroscope" / "BEPS_PTO_50x50.h5")
    (channel,) = driver.capabilities().channels
    request = spectroscopy(-8.5, 8.5, 33, positions=((1e-6, 1e-6),), channels=(channel.name,))
    up, _ = acquire(driver, request)
    down, _ = acquire(driver, spectroscopy(8.5, -8.5, 33, positions=((1e-6, 1e-6),), channels=(channel.name,)))
    assert np.isfinite(up).all()
    # Hysteresis: both ends are the same point of the loop, in between the branches differ.
    loop = np.stack([up[0, 0], down[0, 0, ::-1]])
    np.testing.assert_allclose(loop[0, -1], loop[1, -1])
    np.testing.assert_allclose(loop[0, 0], loop[1, 0])
    assert abs(loop[0] - loop[1]).max() > 0.3 * np.ptp(loop)
