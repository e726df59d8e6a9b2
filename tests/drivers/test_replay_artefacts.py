"""What a replayed instrument adds to a recording: blunt and double tips, a slow z-controller, imperfections."""

import itertools
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.drivers._acquiring import acquire, start
from tests.drivers._replayed import image, places, ramps, replay
from twinscope.drivers.replay import Replay
from twinscope.drivers.replay.feedback import Feedback, follow, means_of_samples, places_of_steps
from twinscope.drivers.replay.sampling import sample
from twinscope.drivers.replay.tip import TipShape, dilated
from twinscope.errors import ConfigurationError, OutOfRangeError
from twinscope.requests import PathRequest, ScanFrame, ScanRequest

FRAME = ScanFrame(size=(2e-6, 1e-6))
SHAPE = (20, 40)


def scan(**change: Any) -> ScanRequest:
    wanted = {"frame": ScanFrame(size=(1e-6, 5e-7)), "pixels": (8, 6), "channels": ("at_x",)}
    return ScanRequest(**(wanted | change))


def rough(shape: tuple[int, int], seed: int = 1) -> np.ndarray:
    """A topography with everything from pixels to the whole image, about 20 nm high."""
    rng = np.random.default_rng(seed)
    return 5e-9 * (rng.normal(size=shape) + np.cumsum(rng.normal(size=shape), axis=1) / 3)


# ---------------------------------------------------------------------- tips


def touched(heights: np.ndarray, pixel: tuple[float, float], tip: TipShape, angle: float = 0.0) -> np.ndarray:
    """Lower the tip onto every pixel, until one of its apices touches something: slowly, from its definition."""
    ny, nx = heights.shape
    result = np.full(heights.shape, -np.inf)
    rows, columns = np.indices(heights.shape)
    offsets = [((0.0, 0.0), 0.0)]
    if tip.second_offset is not None:
        turn = np.exp(-1j * math.radians(angle)) * complex(*tip.second_offset)
        offsets.append(((turn.real, turn.imag), tip.second_height))
    for i in range(ny):
        for j in range(nx):
            for (x, y), lift in offsets:
                distance = np.hypot((columns - j) * pixel[0] - x, (rows - i) * pixel[1] - y)
                result[i, j] = max(result[i, j], np.nanmax(heights - tip.profile(distance) - lift))
    return np.where(np.isnan(heights), np.nan, result)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.sampled_from(["parabola", "cone"]),
    radius=st.floats(1e-10, 5e-8),
    half_angle=st.floats(5, 60),
    second=st.one_of(st.none(), st.tuples(st.floats(-3e-8, 3e-8), st.floats(-3e-8, 3e-8))),
    higher=st.floats(0, 1e-8),
    angle=st.floats(-180, 180),
    hole=st.booleans(),
)
def test_a_tip_is_lowered_until_it_touches(shape, radius, half_angle, second, higher, angle, hole) -> None:
    tip = TipShape(
        shape=shape, radius=radius, half_angle=half_angle, second_offset=second, second_height=higher if second else 0
    )
    heights = rough((7, 9))
    if hole:
        heights[3, 4] = np.nan
    pixel = (8e-9, 5e-9)
    np.testing.assert_allclose(dilated(heights, pixel, tip, angle), touched(heights, pixel, tip, angle), atol=1e-15)


def test_a_sharp_step_gets_the_shape_of_the_tip() -> None:
    heights = np.zeros((1, 41))
    heights[0, 20:] = 1e-8
    tip = TipShape(shape="cone", radius=0.0, half_angle=45.0)
    measured = dilated(heights, (1e-9, 1e-9), tip)[0]
    np.testing.assert_allclose(measured, np.clip((np.arange(41) - 20 + 10) * 1e-9, 0, 1e-8), atol=1e-20)


@pytest.mark.parametrize("half_angle", [10.0, 40.0, 80.0])
def test_a_round_cone_has_no_kink_where_its_sphere_ends(half_angle: float) -> None:
    tip = TipShape(shape="cone", radius=2e-8, half_angle=half_angle)
    distance = np.linspace(0, 6e-8, 6001)
    slope = np.diff(tip.profile(distance)) / np.diff(distance)
    assert abs(np.diff(slope)).max() < 0.02 * max(1, slope.max())
    assert slope[-1] == pytest.approx(1 / math.tan(math.radians(half_angle)))
    for height in (1e-9, 1e-8, 5e-8):
        assert tip.profile(np.array(tip.width(height))) == pytest.approx(height)


def test_nothing_touches_a_tip_over_an_image_of_holes() -> None:
    heights = np.full((3, 3), np.nan)
    assert np.isnan(dilated(heights, (1.0, 1.0), TipShape(radius=1e-8))).all()


def test_a_very_blunt_cone_is_refused() -> None:
    heights = np.zeros((1500, 1500))
    heights[0, 0] = 1e-6
    with pytest.raises(ConfigurationError, match="give a sharper one"):
        dilated(heights, (1e-9, 1e-9), TipShape(shape="cone", radius=1e-6, half_angle=80.0))


def test_the_driver_convolves_the_topography_and_nothing_else() -> None:
    data = rough(SHAPE)
    images = [
        image("topography", data, FRAME),
        image("topography", data + 1e-8, FRAME, direction="backward"),
        image("phase", data, FRAME, unit="deg"),
    ]
    tip = {"radius": 3e-7, "second_offset": [2e-7, 0.0], "second_height": 2e-9}
    request = ScanRequest(
        frame=FRAME, pixels=(40, 20), channels=("topography", "phase"), direction="both", slow_direction="up"
    )
    traces, _ = acquire(replay(images, tip=tip), request)
    expected = dilated(data, (5e-8, 5e-8), TipShape.from_dict(tip))
    assert (expected >= data).all()
    assert (expected > data + 1e-10).any()
    np.testing.assert_allclose(traces[::2, 0], expected, atol=1e-20)
    np.testing.assert_allclose(traces[1::2, 0], expected + 1e-8, atol=1e-20)
    np.testing.assert_allclose(traces[::2, 1], data)


# ---------------------------------------------------------------------- the z-controller


def plain_loop(trace: np.ndarray, proportional: float, integral: float, memory: int, offset: float) -> np.ndarray:
    """One trace behind DTMicroscope's controller, as its documentation describes it: one step after the other."""
    heights = [trace[0]]
    errors = [0.0] * memory
    for now, following in itertools.pairwise(trace):
        error = heights[-1] - now - offset
        errors = [*errors[1:], error]
        heights.append(max(following, heights[-1] - proportional * error - integral * sum(errors)))
    return np.array(heights)


@settings(max_examples=20, deadline=None)
@given(
    proportional=st.floats(0, 0.5),
    integral=st.floats(0, 3e-3),
    memory=st.integers(1, 60),
    offset=st.floats(-1e-9, 5e-9),
)
def test_the_loop_is_that_of_dtmicroscope(proportional: float, integral: float, memory: int, offset: float) -> None:
    ground = rough((3, 200))
    loop = Feedback(proportional=proportional, integral=integral, memory=memory, offset=offset)
    expected = [plain_loop(trace, proportional, integral, memory, offset) for trace in ground]
    np.testing.assert_allclose(follow(ground, loop), expected, atol=1e-18)


def fourier_resampled(traces: np.ndarray, count: int) -> np.ndarray:
    """Resample periodic series (traces, n) with as many of their frequencies as both have."""
    spectrum = np.fft.rfft(traces, axis=1)
    kept = np.zeros((len(traces), count // 2 + 1), complex)
    common = min(spectrum.shape[1], kept.shape[1])
    kept[:, :common] = spectrum[:, :common]
    # The highest frequency of the shorter series stands for itself and for its negative.
    kept[:, common - 1] *= 0.5 if count > traces.shape[1] else 2
    return np.fft.irfft(kept, count, axis=1) * count / traces.shape[1]


def test_an_image_behind_the_loop_is_that_of_dtmicroscope_to_one_percent(shared: Path) -> None:
    """It resamples each line of the image to 2 kHz with periodic waves, which ring at both ends of a line."""
    path = shared / "dtmicroscope" / "PTO_Funakubo0001.h5"
    gains = {"proportional": 1e-3, "integral": 2e-4, "memory": 40, "rate": 2000.0}
    driver = Replay(file=path, feedback=gains)
    name = driver.capabilities().settings["topography"]
    frame = ScanFrame(**driver.capabilities().settings["frames"][0])
    request = ScanRequest(frame=frame, pixels=(256, 256), channels=(name,), line_time=2.0)
    recorded, measured = (acquire(one, request)[0][:, 0] for one in (Replay(file=path), driver))
    rows = np.arange(0, 256, 40)
    fine = fourier_resampled(recorded[rows], 4000)
    reference = fourier_resampled(np.array([plain_loop(line, 1e-3, 2e-4, 40, 0.0) for line in fine]), 256)
    span, inner = np.ptp(recorded), slice(12, -12)
    # The loop does something, and ours the same.
    assert abs(reference - recorded[rows])[:, inner].max() > 0.08 * span
    deviation = abs(measured[rows] - reference)[:, inner] / span
    assert np.sqrt((deviation**2).mean()) < 0.002
    assert np.quantile(deviation, 0.999) < 0.01


def test_a_fast_loop_follows_everything_and_none_holds_the_highest() -> None:
    data = rough((20, 40))
    images = [image("topography", data, FRAME)]
    request = scan(frame=FRAME, pixels=(40, 20), channels=("topography",))

    def behind(**loop: float) -> np.ndarray:
        return acquire(replay(images, feedback=loop), request)[0][:, 0]

    perfect = behind(proportional=1.0, integral=0.0, rate=20_000.0)
    # A pixel is the mean over its time.
    expected = means_of_samples(places_of_steps(data, 20_000), 40)
    np.testing.assert_allclose(perfect, expected, atol=0.01 * np.std(data))
    held = behind(proportional=0.0, integral=0.0, rate=20_000.0)
    assert (np.diff(held, axis=1) >= -1e-15).all()
    # A peak is a pixel: a step goes by it at most half a step away.
    np.testing.assert_allclose(held[:, -1], data.max(axis=1), atol=0.1 * np.std(data))


def test_a_slow_loop_lags_behind_in_the_direction_of_the_scan() -> None:
    x, _ = places(FRAME, SHAPE)
    step = np.where(x > 0, -1e-8, 0.0)
    request = scan(frame=FRAME, pixels=(40, 4), channels=("topography",), direction="both")
    loop = {"proportional": 0.0, "integral": 1e-3, "rate": 1000.0}
    traces, _ = acquire(replay([image("topography", step, FRAME)], feedback=loop), request)
    forward, backward = traces[0, 0], traces[1, 0]
    # Forward it comes down behind the step, backward it is lifted at once.
    assert forward[20] > -0.8e-8
    assert backward[21:].max() < -0.99e-8
    assert (forward >= step[0] - 1e-12)[np.r_[0:19, 21:40]].all()


def test_over_a_hole_the_loop_waits() -> None:
    ground = np.array([[0.0, 1.0, np.nan, np.nan, 0.5, 0.4], [np.nan] * 6, [np.nan, 2.0, 1.0, 1.0, 1.0, 1.0]])
    heights = follow(ground, Feedback(proportional=1.0, integral=0.0))
    np.testing.assert_array_equal(np.isnan(heights), np.isnan(ground))
    np.testing.assert_allclose(heights[0, [1, 4, 5]], [1.0, 1.0, 0.5])
    np.testing.assert_allclose(heights[2, 1:], [2.0, 2.0, 1.0, 1.0, 1.0])


@settings(deadline=None)
@given(samples=st.integers(1, 30), steps=st.integers(1, 90))
def test_steps_and_samples_share_the_same_time(samples: int, steps: int) -> None:
    line = np.linspace(0, 1, samples)[None]
    spread = places_of_steps(line, steps)
    assert spread.shape == (1, steps)
    assert spread.min() >= 0
    assert spread.max() <= 1
    back = means_of_samples(spread, samples)
    # A step may last for several samples, a sample for several steps.
    np.testing.assert_allclose(back, line, atol=max(0.5 / samples, 0.51 / steps) * 2)
    np.testing.assert_allclose(means_of_samples(np.full((2, steps), 3.0), samples), 3.0)
    assert means_of_samples(spread, samples).mean() == pytest.approx(spread.mean())


def test_a_loop_can_be_stopped() -> None:
    heights = follow(np.ones((1, 1000)), Feedback(), stopped=lambda: True)
    assert np.isnan(heights[0, 1:]).all()


def test_a_line_with_more_steps_than_fit_into_the_memory_is_refused_before_anything_moves() -> None:
    driver = replay([image("topography", np.zeros(SHAPE), FRAME)], feedback={"rate": 1e6})
    before = driver.read().position
    with pytest.raises(OutOfRangeError, match=r"a trace of 1e\+09 s has 1000000000000000 steps"):
        acquire(driver, scan(frame=FRAME, pixels=(4, 4), channels=("topography",), line_time=1e9))
    assert driver.read().position == before


# ---------------------------------------------------------------------- imperfections


def test_noise_is_as_strong_as_asked_for_and_comes_from_the_seed() -> None:
    images = [image("phase", np.zeros(SHAPE), FRAME, unit="deg"), image("current", np.zeros(SHAPE), FRAME, unit="A")]
    request = scan(channels=("phase", "current"), pixels=(100, 40), line_time=1.0)

    def noisy(seed: int, **options: Any) -> np.ndarray:
        driver = replay(images, seed=seed, **options)
        return np.concatenate([acquire(driver, request)[0] for _ in range(2)])

    both = {"noise": {"phase": 3.0}, "realism": {"current_noise": 1e-14}}
    traces = noisy(1, **both)
    assert traces[:, 0].std() == pytest.approx(3.0, rel=0.05)
    # Of a sample of 10 ms: 50 Hz of white noise.
    assert traces[:, 1].std() == pytest.approx(1e-14 * math.sqrt(50), rel=0.05)
    np.testing.assert_array_equal(traces, noisy(1, **both))
    assert abs(traces - noisy(2, **both)).max() > 1
    # Two acquisitions, two lines and two channels are independent.
    for one, other in ((traces[:40, 0], traces[40:, 0]), (traces[0, 0], traces[1, 0])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.3
    assert not noisy(1).any()


def test_noise_does_not_depend_on_how_many_traces_are_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"noise": {"at_x": 1e-9}, "realism": {"drift_velocity": (1e-9, 0, 0), "creep": 0.03, "hysteresis": 0.1}}
    whole, _ = acquire(replay(ramps(FRAME, SHAPE), **options), scan())
    monkeypatch.setattr("twinscope.drivers.replay.acquiring._SAMPLES", 10)
    one_by_one, _ = acquire(replay(ramps(FRAME, SHAPE), **options), scan())
    np.testing.assert_array_equal(one_by_one, whole)


def test_drift_moves_the_tip_over_the_recording() -> None:
    driver = replay(ramps(FRAME, SHAPE), realism={"drift_velocity": (2e-9, -1e-9, 0.0)})
    request = PathRequest(positions=((0.0, 0.0),), channels=("at_x", "at_y"), passes=11, separate=True, point_time=10.0)
    traces, _ = acquire(driver, request)
    times = np.arange(1, 12) * 10.0
    np.testing.assert_allclose(traces[0], [2e-9 * times, -1e-9 * times], rtol=1e-4)
    signals = driver.read().signals
    assert (signals["at_x"], signals["at_y"]) == pytest.approx((2.2e-7, -1.1e-7), rel=1e-4)


def test_a_tip_that_drifts_out_of_the_recording_measures_nan() -> None:
    driver = replay(ramps(FRAME, SHAPE), realism={"drift_velocity": (1e-8, 0.0, 0.0)})
    request = PathRequest(positions=((9.45e-7, 0.0),), channels=("at_x",), passes=10, separate=True, point_time=1.0)
    traces, sink = acquire(driver, request)
    np.testing.assert_array_equal(np.isnan(traces[0, 0]), np.arange(1, 11) > 5)
    assert "nothing was recorded at 5 points: they are NaN" in sink.warnings


def test_hysteresis_and_creep_part_forward_and_backward() -> None:
    images = [one for one in ramps(FRAME, SHAPE) if one.direction == "forward"]
    for realism in ({"hysteresis": 0.1}, {"creep": 0.03}):
        traces, _ = acquire(replay(images, realism=realism), scan(direction="both"))
        apart = traces[-2, 0] - traces[-1, 0]
        # In the middle forward lags behind backward, as a part of the line.
        assert -0.1 < apart[4] / 1e-6 < -0.005, realism


def test_tilt_and_vertical_drift_are_in_the_topography() -> None:
    images = [image("topography", np.zeros(SHAPE), FRAME), image("phase", np.zeros(SHAPE), FRAME, unit="deg")]
    driver = replay(images, realism={"tilt": (1.0, 0.0), "drift_velocity": (0.0, 0.0, 1e-9)})
    request = scan(channels=("topography", "phase"))
    traces, _ = acquire(driver, request)
    # The tip drifts away, so the z-controller comes down.
    times = (np.arange(6)[:, None] + (np.arange(8) + 1) / 8) * 1.0
    slope = request.offsets()[0] * math.tan(math.radians(1.0))
    measured = traces[:, 0] + 1e-9 * times - slope
    np.testing.assert_allclose(measured, np.broadcast_to(measured[0, 0], (6, 8)), atol=2e-11)
    assert not traces[:, 1].any()


def test_hum_is_in_the_channels_in_hertz() -> None:
    images = [
        image("frequency_shift", np.zeros(SHAPE), FRAME, unit="Hz"),
        image("current", np.zeros(SHAPE), FRAME, "A"),
    ]
    driver = replay(images, realism={"hum": (0.5,), "mains_frequency": 50.0})
    request = PathRequest(
        positions=((0.0, 0.0),),
        channels=("frequency_shift", "current"),
        passes=1000,
        separate=True,
        point_time=1e-3,
    )
    (trace,), _ = acquire(driver, request)
    power = abs(np.fft.rfft(trace[0])) / 500
    assert np.argmax(power) == 50
    assert power[50] == pytest.approx(0.5, rel=0.02)
    assert not trace[1].any()


def test_what_a_recording_cannot_have_is_not_among_its_settings() -> None:
    settings_ = replay(ramps(FRAME, SHAPE), realism="room_temperature").capabilities().settings
    assert settings_["realism"]["creep"] == 0.02
    assert "tip_change_rate" not in settings_["realism"]


def test_a_stop_does_not_wait_for_what_is_calculated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that is compiled for a new number of pixels may take seconds."""
    driver = replay(ramps(FRAME, SHAPE))
    released = threading.Event()
    sink = start(driver, scan())
    source = driver._acquisition.source
    plan = source.plan

    def slow(*arguments: Any) -> Any:
        released.wait(60)
        return plan(*arguments)

    monkeypatch.setattr(source, "plan", slow)
    threading.Timer(0.1, driver.stop).start()
    assert not driver.poll()
    assert not released.is_set()
    assert not sink.traces
    released.set()
    assert len(acquire(driver, scan())[0]) == 6


def test_a_convolved_image_is_sampled_as_any_other() -> None:
    data = rough(SHAPE)
    tip = {"shape": "cone", "radius": 1e-7, "half_angle": 30.0}
    driver = replay([image("topography", data, FRAME)], tip=tip, interpolation="cubic")
    request = scan(frame=ScanFrame(size=(4e-7, 3e-7), angle=40.0), channels=("topography",))
    traces, _ = acquire(driver, request)
    convolved = dilated(data, (5e-8, 5e-8), TipShape.from_dict(tip))
    x, y = zip(*(request.row_positions(row) for row in range(6)), strict=True)
    expected = sample(FRAME, [convolved], np.ravel(x), np.ravel(y), "cubic")[0].reshape(6, 8)
    np.testing.assert_allclose(traces[:, 0], expected, atol=1e-20)
