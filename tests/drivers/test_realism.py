"""Each imperfection alone, in what the simulated microscope measures."""

import json
from typing import Any

import jax
import numpy as np
import pytest

from tests.drivers._acquiring import acquire, line, start
from twinscope.drivers.simulator import Simulator
from twinscope.drivers.simulator.imaging import Imaging
from twinscope.drivers.simulator.sample import load_sample
from twinscope.errors import ConfigurationError
from twinscope.kernels import (
    Cantilever,
    HysteresisState,
    Tip,
    frequency_noise,
    hysteresis,
    kelvin_parabola,
    phase_locked_loop,
)
from twinscope.requests import PathRequest, ScanFrame, ScanRequest, SpectroscopyRequest, Sweep

# Its time is that of compiling.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

HEIGHT = 3.6e-10
# Where nothing is interpolated.
RUNG = 3.3e-10
POINTS = 64
# A line over the whole of benzene.
LEFT, RIGHT = (-1e-9, 0.0), (1e-9, 0.0)
# Far from the molecule there is no signal but noise.
NOWHERE = (20e-9, 0.0)


def benzene(**realism: Any) -> Simulator:
    return Simulator(sample="benzene", realism=realism)


def exact(x: np.ndarray, z: float = HEIGHT) -> np.ndarray:
    """Frequency shift over benzene at x (m), y = 0, as the kernels have it."""
    imaging = Imaging(load_sample("benzene", Tip()), Tip(), Cantilever())
    positions = np.stack([x, np.zeros_like(x)], axis=-1)
    return imaging.measure(positions, np.array([z]), ("frequency_shift",))[0, 0]


def wait(driver: Simulator, seconds: float) -> None:
    """Let time pass, with a ramp that changes nothing that these tests look at."""
    before = driver.read().signals["setpoint_current"]
    driver.write("setpoint_current", 2e-11 if before < 1.5e-11 else 1e-11, rate=1e-11 / seconds)


def place(driver: Simulator) -> np.ndarray:
    """Where the tip really is, in m."""
    return np.array(list(driver.truth((-1e-9, -1e-9), (1e-9, 1e-9))["position"].values()))


def shift_between(one: np.ndarray, other: np.ndarray, pixel: float) -> float:
    """By how much, in m, `other` has to be moved along its axis to be like `one`."""
    axis = np.arange(len(one)) * pixel
    trials = np.linspace(-4e-10, 4e-10, 801)
    inner = slice(len(one) // 4, -len(one) // 4)
    misfit = [np.sum((one - np.interp(axis - trial, axis, other))[inner] ** 2) for trial in trials]
    return float(trials[np.argmin(misfit)])


def quiet_line(driver: Simulator, samples: int, interval: float) -> np.ndarray:
    """Frequency shift, in Hz, where there is nothing."""
    return line(driver, NOWHERE, NOWHERE, samples, height=2e-9, point_time=interval)[0, 0]


# ---------------------------------------------------------------------- nothing imperfect


def test_a_clean_microscope_measures_what_the_kernels_say_bit_for_bit() -> None:
    measured = line(benzene(), LEFT, RIGHT, POINTS, height=HEIGHT)[0, 0]
    np.testing.assert_array_equal(measured, exact(np.linspace(-1e-9, 1e-9, POINTS)))


def test_looking_up_heights_costs_no_accuracy() -> None:
    """An imperfection that is too small to be seen takes the way of all others; half-way between two rungs."""
    measured = line(benzene(hum=[1e-12]), LEFT, RIGHT, POINTS, height=HEIGHT)[0, 0]
    clean = exact(np.linspace(-1e-9, 1e-9, POINTS))
    assert np.sqrt(np.mean((measured - clean) ** 2)) < 1e-3 * np.ptp(clean)


# ---------------------------------------------------------------------- where the tip is


def test_what_drifts_is_found_elsewhere_later() -> None:
    velocity = 1.2e-11
    driver = benzene(drift_velocity=[velocity, 0, 0])
    passes = line(driver, LEFT, RIGHT, POINTS, height=HEIGHT, passes=20)[:, 0]
    period = POINTS * 0.01 + 2e-9 / 20e-9 - 0.01
    # The tip is farther along x than it was sent, so things appear at smaller x.
    moved = shift_between(passes[0], passes[19], 2e-9 / (POINTS - 1))
    assert moved == pytest.approx(19 * period * velocity, rel=0.05)


def test_the_truth_knows_of_the_drift() -> None:
    driver = benzene(drift_velocity=[1e-12, -2e-12, 0], drift_relaxing=[0, 0, 1e-10], drift_time=100.0)
    before, began = place(driver), driver.read().time
    wait(driver, 100.0)
    now = driver.read().time
    relaxed = 1e-10 * (np.exp(-began / 100) - np.exp(-now / 100))
    np.testing.assert_allclose(place(driver) - before, [1e-10, -2e-10, relaxed], atol=1e-14)


def test_over_a_tilted_sample_the_tip_comes_nearer_along_the_slope() -> None:
    angle = 3.0
    measured = line(benzene(tilt=[angle, 0]), LEFT, RIGHT, POINTS, height=HEIGHT)[0, 0]
    x = np.linspace(-1e-9, 1e-9, POINTS)
    for i in range(8, POINTS, 12):
        (expected,) = exact(x[i : i + 1], HEIGHT - x[i] * np.tan(np.radians(angle)))
        assert measured[i] == pytest.approx(expected, abs=0.1)


def test_after_a_move_the_piezo_creeps_by_the_same_way_in_each_decade() -> None:
    driver = benzene(creep=0.02)
    driver.move_to(20e-9, 0.0, driver.read().position.z)
    # The move itself takes a second.
    places = []
    for seconds in (10, 90, 900):
        wait(driver, seconds)
        places.append(place(driver)[0])
    np.testing.assert_allclose(np.diff(places), 0.02 * 20e-9, rtol=0.05)


def test_forward_and_backward_lines_are_apart_by_the_hysteresis() -> None:
    driver = Simulator(sample="benzene", lateral_range=2e-9, realism={"hysteresis": 0.2})
    frame = ScanFrame(size=(2e-9, 1e-11))
    request = ScanRequest(
        frame=frame, pixels=(POINTS, 3), channels=("frequency_shift",), heights=(HEIGHT,), direction="both"
    )
    traces, _ = acquire(driver, request)
    along = request.offsets()[0] * 1e10
    way = np.concatenate([[0.0], np.tile(np.concatenate([along, along[::-1]]), 3)])
    reached = np.asarray(hysteresis(way, HysteresisState.fresh(0.0), 0.2, 40.0)[0])[-2 * POINTS :]
    gap = reached[:POINTS] - reached[: POINTS - 1 : -1]
    expected = -gap[POINTS // 2] * 1e-10
    assert abs(expected) > 5e-11
    assert shift_between(traces[-2, 0], traces[-1, 0], 2e-9 / POINTS) == pytest.approx(expected, rel=0.2)


def test_vibrations_are_as_wide_as_asked_for() -> None:
    driver = benzene(vibration=5e-12)
    heights = []
    for _ in range(300):
        wait(driver, 1.03)
        heights.append(place(driver)[2])
    assert np.std(heights) == pytest.approx(5e-12, rel=0.2)


# ---------------------------------------------------------------------- what is detected


def test_the_phase_locked_loop_filters_the_line_in_the_order_of_time() -> None:
    interval, bandwidth = 2e-3, 40.0
    driver = benzene(pll_bandwidth=bandwidth)
    request = ScanRequest(
        frame=ScanFrame(size=(2e-9, 1e-12)),
        pixels=(POINTS, 1),
        channels=("frequency_shift",),
        heights=(RUNG,),
        direction="both",
        line_time=interval * POINTS,
    )
    (forward, backward), _ = acquire(driver, request)
    true = exact(request.offsets()[0], RUNG)
    # A sample is the mean of four parts of its interval.
    loop = phase_locked_loop(bandwidth, interval / 4)
    filtered, _ = loop.apply(np.repeat(np.concatenate([true, true[::-1]]), 4), loop.settled(true[0]))
    expected = np.asarray(filtered).reshape(-1, 4).mean(axis=1)
    np.testing.assert_allclose(forward[0], expected[:POINTS], atol=2e-3)
    np.testing.assert_allclose(backward[0], expected[: POINTS - 1 : -1], atol=2e-3)
    assert abs(forward[0] - backward[0]).max() > 0.1


def test_thermal_noise_is_that_of_the_kernels_behind_the_loop() -> None:
    bandwidth, interval = 30.0, 2e-3
    driver = benzene(temperature=300.0, quality=3e3, detector_noise=1e-13, pll_bandwidth=bandwidth)
    measured = quiet_line(driver, 8192, interval)
    frequencies = np.linspace(0.01, 1000, 20000)
    # Response to a sine, of the continuous loop, and of the mean over a sample.
    half = 1 + 2 * 0.5
    natural = 2 * np.pi * bandwidth / np.sqrt(half + np.sqrt(half**2 + 1))
    s = 2j * np.pi * frequencies / natural
    response = (2 * np.sqrt(0.5) * s + 1) / (s**2 + 2 * np.sqrt(0.5) * s + 1) * np.sinc(frequencies * interval)
    density = frequency_noise(Cantilever(), 3e3, 300.0, 1e-3).density(frequencies)
    expected = np.sqrt(np.trapezoid(np.asarray(density) * abs(response) ** 2, frequencies))
    assert measured.std() == pytest.approx(expected, rel=0.1)


def test_the_mains_stand_in_the_spectrum() -> None:
    interval = 2e-3
    measured = quiet_line(benzene(hum=[0.5, 0.0, 0.2]), 1000, interval)
    spectrum = abs(np.fft.rfft(measured)) * 2 / len(measured)
    frequencies = np.fft.rfftfreq(len(measured), interval)
    peaks = {f: spectrum[np.argmin(abs(frequencies - f))] for f in (50, 100, 150)}
    # A sample is a mean over its interval.
    assert peaks[50] == pytest.approx(0.5 * np.sinc(50 * interval), rel=0.03)
    assert peaks[150] == pytest.approx(0.2 * np.sinc(150 * interval), rel=0.06)
    assert peaks[100] < 0.01


def test_flicker_falls_by_a_decade_in_each_decade() -> None:
    measured = np.concatenate([quiet_line(benzene(flicker=0.1), 4096, 0.02)])
    power = abs(np.fft.rfft(measured - measured.mean())) ** 2 * 2 * 0.02 / len(measured)
    frequencies = np.fft.rfftfreq(len(measured), 0.02)
    for low, high in ((0.1, 0.5), (1.0, 5.0)):
        band = (frequencies > low) & (frequencies < high)
        assert np.mean(power[band] * frequencies[band]) == pytest.approx(0.01, rel=0.4)


def test_noise_of_the_current_is_white() -> None:
    driver = benzene(current_noise=1e-13)
    current = line(driver, NOWHERE, NOWHERE, 4096, channels=("current",), height=2e-9, point_time=5e-3)[0, 0]
    assert current.std() == pytest.approx(1e-13 * np.sqrt(1 / (2 * 5e-3)), rel=0.05)


# ---------------------------------------------------------------------- bias


def test_a_bias_spectrum_has_its_vertex_at_the_contact_potential() -> None:
    driver = Simulator(sample="benzene", surface="Au", realism={"tip_radius": 5e-9, "contact_potential": 0.3})
    sweep = Sweep(start=-1.0, stop=1.0, points=21)
    request = SpectroscopyRequest(
        swept="bias", positions=((0, 0), (5e-10, 0)), sweep=sweep, channels=("frequency_shift", "current"), height=4e-10
    )
    traces, _ = acquire(driver, request)
    fit = kelvin_parabola(traces[:, 0].T, sweep.values())
    np.testing.assert_allclose(fit.contact_potential, 0.3, atol=5e-3)
    assert (np.asarray(fit.curvature) < 0).all()
    for current in traces[:, 1]:
        np.testing.assert_allclose(current, current[-1] * sweep.values(), rtol=1e-4, atol=1e-18)
    assert traces[0, 1, -1] > 0


# ---------------------------------------------------------------------- the tip


def test_a_tip_that_grows_is_nearer_to_the_sample_by_as_much() -> None:
    driver = benzene(tip_change_rate=0.4, tip_change_tilt=0, tip_change_charge=0, tip_loss=0, tip_change_jump=2e-11)
    measured = line(driver, (0, 0), (0, 0), POINTS, height=4.5e-10, point_time=0.3)[0, 0]
    tip = driver.truth((-1e-9, -1e-9), (1e-9, 1e-9))["tip"]
    # It has changed within the line, and is another one from the very sample on.
    assert tip["changes"] >= 2
    assert len(np.unique(measured)) <= tip["changes"] + 1
    (expected,) = exact(np.zeros(1), 4.5e-10 - tip["jump"])
    assert measured[-1] == pytest.approx(expected, abs=2e-3)
    assert abs(measured[-1] - measured[0]) > 0.01


def test_shaping_mends_a_tip_sooner_or_later() -> None:
    driver = benzene(tip_loss=0.5)
    intact = driver.truth((-1e-9, -1e-9), (1e-9, 1e-9))["tip"]
    histories = []
    for _ in range(30):
        driver.shape_tip(8e-10, 0.0)
        histories.append(driver.truth((-1e-9, -1e-9), (1e-9, 1e-9))["tip"])
    mended = [one["rest"] == intact["rest"] and not one["lost"] for one in histories]
    assert any(one["lost"] for one in histories)
    # The best dip mends half of the tips.
    assert 6 < sum(mended) < 24


def test_a_lost_molecule_is_a_bare_tip() -> None:
    driver = benzene(tip_loss=1.0)
    driver.shape_tip(4e-9, 0.0)
    lost = driver.truth((-1e-9, -1e-9), (1e-9, 1e-9))["tip"]
    assert (lost["element"], lost["rigid"], lost["lost"]) == ("Cu", True, True)


# ---------------------------------------------------------------------- repeatability, time and cost


def test_the_same_seed_gives_the_same_bytes_whoever_looks_in_between() -> None:
    request = ScanRequest(
        frame=ScanFrame(size=(1e-9, 1e-9)), pixels=(16, 4), channels=("frequency_shift", "current"), direction="both"
    )

    def measured(seed: int, *, looking: bool) -> np.ndarray:
        driver = Simulator(sample="benzene", realism="low_temperature", seed=seed)
        sink = start(driver, request)
        while driver.poll():
            if looking:
                place(driver)
                driver.read()
        return np.array(sink.traces)

    once = measured(1, looking=False)
    np.testing.assert_array_equal(once, measured(1, looking=True))
    assert abs(once - measured(2, looking=False)).max() > 1e-3


def test_a_bias_that_is_set_in_between_holds_from_the_next_trace_on() -> None:
    driver = Simulator(sample="benzene", surface="Au")
    request = PathRequest(positions=((0.0, 0.0),), channels=("current",), passes=4, height=4e-10)
    sink = start(driver, request)
    driver.poll()
    driver.poll()
    driver.write("bias", -0.2)
    while driver.poll():
        pass
    current = np.array(sink.traces)[:, 0, 0]
    np.testing.assert_allclose(current / current[0], [1, 1, -2, -2], rtol=1e-4)


def test_ways_between_traces_take_time() -> None:
    driver = Simulator(sample="benzene")
    points = PathRequest(
        positions=((0.0, 0.0), (10e-9, 0.0)), channels=("z",), separate=True, passes=2, lift=1e-9, point_time=0.1
    )
    began = driver.read().time
    acquire(driver, points)
    # 4 samples, 10 nm with 20 nm/s, up and down by 1 nm with 10 nm/s; less the interval before a sample.
    assert driver.read().time - began == pytest.approx(0.4 + 0.5 + 0.2 - 0.1, abs=1e-3)


def test_few_shapes_are_compiled_in_a_session() -> None:
    compiled: list[str] = []

    def count(event: str, *_: Any, **__: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    driver = Simulator(
        sample="benzene", realism={"creep": 0.01, "hysteresis": 0.05, "drift_velocity": [1e-13, 0, 1e-13]}
    )
    jax.monitoring.register_event_duration_secs_listener(count)
    counts = []
    for step, x in enumerate((0.0, 3.3e-9, -1.7e-9, 0.4e-9, 8e-9)):
        driver.move_to(x, 1e-10 * step, driver.read().position.z)
        line(driver, (x, 0.0), (x + 1e-9, 1e-10 * step), 32, height=3.5e-10 + 2e-11 * step)
        driver.read()
        counts.append(len(compiled))
    assert counts[-1] == counts[1]


# ---------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("realism", "message"),
    [
        ("perfect", "realism is 'perfect': expected clean, low_temperature, room_temperature"),
        ({"profile": "hot"}, "'hot'"),
        ({"temprature": 4}, "temprature"),
        ({"temperature": -4}, "temperature is -4"),
        ({"tilt": [1]}, r"tilt is \[1\]: expected 2 numbers"),
        ({"hum": 0.1}, "hum is 0.1"),
        ({"hysteresis": 0.6}, "hysteresis is 0.6"),
        (4, "realism is 4"),
    ],
)
def test_a_wrong_imperfection_is_named(realism: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Simulator(sample="benzene", realism=realism)


def test_a_profile_can_be_changed_and_stands_in_the_data_as_plain_numbers() -> None:
    driver = Simulator(sample="benzene", realism={"profile": "low_temperature", "tilt": [0, 0], "temperature": 77})
    settings = json.loads(json.dumps(driver.capabilities().settings))["realism"]
    assert (settings["temperature"], settings["tilt"], settings["creep"]) == (77, [0, 0], 0.005)
    json.dumps(Simulator(world={"size": 1e-7}, realism="room_temperature").capabilities().settings)


def test_no_oracle_is_told_of_unless_asked_for() -> None:
    assert "oracle" not in benzene().capabilities().features
    assert "oracle" in Simulator(sample="benzene", oracle=True).capabilities().features
