"""Where a replayed recording is measured: every frame, angle, direction and interpolation, edges and holes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.drivers._acquiring import acquire
from tests.drivers._replayed import image, places, ramps, replay
from twinscope.drivers.replay.sampling import INTERPOLATIONS, is_inside, sample
from twinscope.errors import OutOfRangeError
from twinscope.requests import PathRequest, ScanFrame, ScanRequest

# Not at the origin, not square, turned, with pixels that are not square.
FRAME = ScanFrame(size=(2e-6, 1.2e-6), center=(3e-7, -5e-7), angle=25.0)
SHAPE = (48, 64)
PIXEL = 2e-6 / 64

angles = st.floats(-400, 400)
parts = st.floats(-0.3, 0.3)


@pytest.fixture(scope="module")
def ramp():
    return replay(ramps(FRAME, SHAPE))


def frame_inside(angle: float, along: float, across: float) -> ScanFrame:
    """A frame that lies in the middle of the recording, away from the edges."""
    x, y = FRAME.to_sample(np.array([along * 0.8e-6]), np.array([across * 0.5e-6]))
    return ScanFrame(size=(4e-7, 2.5e-7), center=(float(x[0]), float(y[0])), angle=angle)


@settings(max_examples=60, deadline=None)
@given(
    angle=angles,
    along=parts,
    across=parts,
    nx=st.integers(1, 9),
    ny=st.integers(1, 7),
    direction=st.sampled_from(["forward", "backward", "both"]),
    slow=st.sampled_from(["up", "down"]),
)
def test_a_ramp_tells_the_place_of_every_pixel(ramp, angle, along, across, nx, ny, direction, slow) -> None:
    request = ScanRequest(
        frame=frame_inside(angle, along, across),
        pixels=(nx, ny),
        channels=("at_y", "at_x"),
        direction=direction,
        slow_direction=slow,
    )
    traces, _ = acquire(ramp, request)
    assert traces.shape == (request.trace_count, 2, nx)
    for number, trace in enumerate(traces):
        address = request.address(number)
        x, y = request.row_positions(address.row)
        # Backward lines have values of their own, in the same order of positions.
        extra = 1.0 if address.direction == "backward" else 0.0
        np.testing.assert_allclose(trace, np.stack([y, x]) + extra, atol=1e-15)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_the_frame_of_the_recording_gives_its_pixels(interpolation: str) -> None:
    rng = np.random.default_rng(1)
    data = rng.normal(size=SHAPE)
    driver = replay([image("topography", data, FRAME)], interpolation=interpolation)
    traces, _ = acquire(driver, ScanRequest(frame=FRAME, pixels=(64, 48), channels=("topography",)))
    np.testing.assert_allclose(traces[:, 0], data, rtol=1e-12)


@settings(deadline=None)
@given(
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    x=st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=20),
    slope=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
    interpolation=st.sampled_from(["linear", "cubic"]),
)
def test_a_plane_stays_a_plane_up_to_the_middles_of_the_outer_pixels(shape, x, slope, interpolation) -> None:
    frame = ScanFrame(size=(3.0, 2.0), center=(1.0, -1.0), angle=33.0)
    px, py = places(frame, shape)
    # Along the axes of the frame, because beyond the outermost middles the value stays.
    along, across = np.array(x) * 3.0, np.array(x)[::-1] * 2.0
    limits = 3.0 * (0.5 - 0.5 / shape[1]), 2.0 * (0.5 - 0.5 / shape[0])
    nearest = [np.clip(part, -limit, limit) for part, limit in zip((along, across), limits, strict=True)]
    at, held = frame.to_sample(along, across), frame.to_sample(*nearest)
    measured = sample(frame, [slope[0] * px + slope[1] * py], *at, interpolation)[0]
    # Within a millionth of a pixel nothing is interpolated.
    np.testing.assert_allclose(measured, slope[0] * held[0] + slope[1] * held[1], atol=2e-5)


def test_cubic_is_closer_to_a_wave_than_linear_and_linear_than_nearest() -> None:
    frame = ScanFrame(size=(1.0, 1.0))
    px, py = places(frame, (40, 40))
    x, y = (np.random.default_rng(k).uniform(-0.4, 0.4, 500) for k in (1, 2))
    errors = [
        abs(sample(frame, [np.sin(9 * px) * np.cos(7 * py)], x, y, way)[0] - np.sin(9 * x) * np.cos(7 * y)).max()
        for way in INTERPOLATIONS
    ]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]


@pytest.mark.parametrize(("interpolation", "spread"), [("nearest", 0.5), ("linear", 1.0), ("cubic", 2.0)])
def test_a_hole_spreads_as_far_as_the_interpolation_reaches(interpolation: str, spread: float) -> None:
    data = np.ones((21, 21))
    data[10, 10] = np.nan
    frame = ScanFrame(size=(21.0, 21.0))
    # In pixels from the hole, not on the borders of its reach.
    x, y = np.meshgrid(np.arange(-3, 3.01, 0.25) + 0.01, np.arange(-3, 3.01, 0.25) + 0.01)
    measured = sample(frame, [data], x.ravel(), y.ravel(), interpolation)[0].reshape(x.shape)
    np.testing.assert_array_equal(np.isnan(measured), np.maximum(abs(x), abs(y)) < spread)
    # In the middles of pixels nothing but the pixel counts, in spite of rounding.
    exact = sample(frame, [data], np.arange(-3.0, 4) * (1 + 1e-12), np.zeros(7), interpolation)[0]
    np.testing.assert_array_equal(np.isnan(exact), np.arange(-3, 4) == 0)


def test_more_pixels_than_a_block_are_the_same(monkeypatch) -> None:
    frame = ScanFrame(size=(1.0, 1.0))
    data = np.random.default_rng(3).normal(size=(9, 7))
    x, y = np.random.default_rng(4).uniform(-0.6, 0.6, (2, 100))
    whole = sample(frame, [data, data + 1], x, y, "cubic")
    monkeypatch.setattr("twinscope.drivers.replay.sampling._BLOCK", 7)
    np.testing.assert_array_equal(sample(frame, [data, data + 1], x, y, "cubic"), whole)


# ---------------------------------------------------------------------- outside


def turned(angle: float) -> ScanFrame:
    """A frame that just fits into the recording when it is not turned against it."""
    return ScanFrame(size=FRAME.size, center=FRAME.center, angle=FRAME.angle + angle)


def test_a_frame_whose_corners_are_outside_is_refused_before_anything_moves() -> None:
    driver = replay(ramps(FRAME, SHAPE))
    before = driver.read()
    request = ScanRequest(frame=turned(3), pixels=(4, 4), channels=("at_x",))
    # Its pixels are inside, its corners are not.
    assert is_inside(FRAME, *map(np.ravel, places(turned(3), (4, 4)))).all()
    with pytest.raises(OutOfRangeError, match=r"scan frame .* outside the recording of at_x.*nothing was moved"):
        driver.start_scan(request, None)
    assert driver.read() == before
    assert acquire(driver, ScanRequest(frame=turned(0), pixels=(4, 4), channels=("at_x",)))[0].shape == (4, 1, 4)


def test_the_whole_recording_can_be_asked_for_in_spite_of_rounding() -> None:
    for size in np.linspace(1e-9, 1e-6, 50).tolist():
        for middle in (0.0, 0.5 * size, 1 / 3):
            frame = ScanFrame(size=(size, size), center=(middle, -middle))
            driver = replay(ramps(frame, (2, 2)))
            request = ScanRequest(frame=frame, pixels=(2, 2), channels=("at_x",))
            driver.capabilities().check_request(request)
            assert np.isfinite(acquire(driver, request)[0]).all()


def test_a_path_outside_is_refused_before_anything_moves() -> None:
    driver = replay(ramps(FRAME, SHAPE))
    before = driver.read()
    corner = FRAME.corners()[0]
    beyond = corner + 0.01 * (corner - np.array(FRAME.center))
    with pytest.raises(OutOfRangeError, match="the path reaches"):
        driver.start_path(PathRequest(positions=(FRAME.center, tuple(beyond)), channels=("at_x",)), None)
    assert driver.read() == before


def test_outside_is_nan_when_it_is_asked_for() -> None:
    driver = replay(ramps(FRAME, SHAPE), outside="nan")
    frame = ScanFrame(size=(3e-6, 3e-6), center=FRAME.center, angle=-10)
    request = ScanRequest(frame=frame, pixels=(24, 24), channels=("at_x",))
    traces, sink = acquire(driver, request)
    x, y = places(frame, (24, 24))
    inside = is_inside(FRAME, x, y)
    assert 0 < inside.sum() < inside.size
    np.testing.assert_array_equal(np.isnan(traces[:, 0]), ~inside)
    np.testing.assert_allclose(traces[:, 0][inside], x[inside], atol=0.51 * PIXEL)
    assert f"nothing was recorded at {(~inside).sum()} points: they are NaN" in sink.warnings


def test_the_limits_are_the_rectangle_around_the_recording_and_the_margin() -> None:
    low, high = FRAME.corners().min(axis=0), FRAME.corners().max(axis=0)
    for options, margin in (
        ({}, 0.0),
        ({"outside": "nan"}, max(high - low)),
        ({"outside": "nan", "margin": 1e-7}, 1e-7),
    ):
        limits = replay(ramps(FRAME, SHAPE), **options).capabilities().limits
        found = [limits["x"].low, limits["y"].low, limits["x"].high, limits["y"].high]
        np.testing.assert_allclose(found, [*(low - margin), *(high + margin)])


@settings(deadline=None)
@given(angle=angles, along=st.floats(-2, 2), across=st.floats(-2, 2))
def test_inside_is_what_turned_coordinates_say(angle: float, along: float, across: float) -> None:
    frame = ScanFrame(size=(2.0, 1.0), center=(5.0, 7.0), angle=angle)
    if min(abs(abs(along) - 1), abs(abs(across) - 0.5)) < 1e-6:
        return
    x, y = frame.to_sample(np.array([along]), np.array([across]))
    assert is_inside(frame, x, y)[0] == (abs(along) < 1 and abs(across) < 0.5)


# ---------------------------------------------------------------------- several recordings


def test_the_finest_recording_that_has_everything_is_measured() -> None:
    wide, narrow = ScanFrame(size=(2.0, 2.0)), ScanFrame(size=(1.0, 1.0), center=(0.3, 0.0))
    images = [
        image("topography", np.full((8, 8), 1.0), wide),
        image("topography", np.full((8, 8), 2.0), narrow),
        image("phase", np.full((8, 8), 3.0), wide, unit="deg"),
    ]
    driver = replay(images)

    def look(size: float, channels: tuple[str, ...] = ("topography",)) -> list[float]:
        frame = ScanFrame(size=(size, size), center=(0.3, 0.0))
        return acquire(driver, ScanRequest(frame=frame, pixels=(2, 2), channels=channels))[0][0, :, 0].tolist()

    assert look(0.9) == [2.0]
    assert look(1.3) == [1.0]
    # All channels come from one recording.
    assert look(0.9, ("topography", "phase")) == [1.0, 3.0]
    assert driver.read().signals == {"topography": 2.0, "phase": 3.0}


def test_paths_and_separate_points_are_where_they_should_be(ramp) -> None:
    rng = np.random.default_rng(5)
    points = FRAME.to_sample(*(rng.uniform(-0.4, 0.4, (2, 11)) * np.array(FRAME.size)[:, None]))
    positions = tuple(zip(*(axis.tolist() for axis in points), strict=True))
    path, _ = acquire(ramp, PathRequest(positions=positions, channels=("at_x", "at_y"), passes=3))
    assert path.shape == (3, 2, 11)
    np.testing.assert_allclose(path, np.broadcast_to(np.array(points), (3, 2, 11)), atol=1e-15)
    request = PathRequest(positions=positions, channels=("at_x", "at_y"), passes=4, separate=True, lift=1e-8)
    sparse, _ = acquire(ramp, request)
    assert sparse.shape == (11, 2, 4)
    np.testing.assert_allclose(sparse[:, :, 0].T, points, atol=1e-15)
    assert math.isclose(ramp.read().position.x, positions[-1][0])
