"""The z-controller, against what linear control theory says about its loop."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from twinscope.kernels import ControllerState, ZController, follow_trace, interpolation_weights

HEIGHTS = np.arange(20.0, -0.1, -0.5)
INTERVAL = 1e-3
PIXELS = 60
SLOPE = 4.0  # Units of the signal per Å.
CONTROLLER = ZController(setpoint=100.0, proportional=0.0, integral=0.0)


def linear_table(balance=10.0, pixels=PIXELS):
    """Signal that falls with the height, through the setpoint at `balance`."""
    return np.repeat(CONTROLLER.setpoint - SLOPE * (HEIGHTS - balance)[:, None], pixels, axis=1)


def integrating(gain, **other):
    """Return a controller that takes away the part `gain` of a distance in each step."""
    return replace(CONTROLLER, integral=gain / (SLOPE * INTERVAL), **other)


def held_at(z, balance=10.0):
    return ControllerState.holding(z, CONTROLLER.setpoint - SLOPE * (z - balance))


def follow(controller, table=None, state=None, **other):
    table = linear_table() if table is None else table
    options = {"substeps": 1, **other}
    return follow_trace(controller, table, HEIGHTS, INTERVAL, held_at(10.5) if state is None else state, **options)


@pytest.mark.parametrize("gain", [0.05, 0.6, 1.0, 1.9])
def test_a_distance_to_the_setpoint_shrinks_by_the_gain_of_the_loop(gain):
    trace, _ = follow(integrating(gain))
    expected = 0.5 * (1 - gain) ** np.arange(PIXELS)
    np.testing.assert_allclose(trace.z - 10, expected, atol=2e-5)
    np.testing.assert_allclose(trace.error, -SLOPE * expected, atol=1e-4)
    np.testing.assert_allclose(trace.signal, 100 - SLOPE * expected, rtol=1e-6)


def test_with_short_steps_it_settles_exponentially():
    trace, _ = follow(integrating(0.005), substeps=8)
    middles = 8 * np.arange(PIXELS) + 3.5
    np.testing.assert_allclose(trace.z - 10, 0.5 * np.exp(-0.005 * middles), rtol=0.02, atol=1e-4)


@pytest.mark.parametrize(("part", "grows"), [(0.97, False), (1.03, True)])
@pytest.mark.parametrize("passed", [0.2, 1.0])
def test_it_rings_beyond_the_gain_that_theory_allows(passed, part, grows):
    # The loop {f += a (s - f), z += K f / slope} is stable below K = 2 (2 - a) / a (Jury's criterion).
    bandwidth = -np.log1p(-passed) / (2 * np.pi * INTERVAL) if passed < 1 else np.inf
    controller = integrating(part * 2 * (2 - passed) / passed, bandwidth=bandwidth)
    trace, _ = follow(controller, state=held_at(10.01))
    swings = np.abs(np.array(trace.z) - 10)
    ratio = swings[-10:].max() / swings[:10].max()
    assert ratio > 1.5 if grows else ratio < 0.1


def test_the_proportional_part_acts_at_once():
    trace, _ = follow(replace(CONTROLLER, proportional=0.1), state=held_at(10.5))
    # z = 10.5 - P slope 0.5 at the next step; then the part acts on the new error.
    np.testing.assert_allclose(trace.z[:3], [10.5, 10.5 - 0.2, 10.5 - 0.1 * SLOPE * 0.3], rtol=1e-6)


def test_where_attraction_is_the_signal_the_sign_is_the_other():
    table = -linear_table()  # More negative close to the sample.
    controller = replace(integrating(0.3), setpoint=-100.0, retracts_above=False)
    trace, _ = follow(controller, table, ControllerState.holding(9.0, -104.0))
    assert trace.z[0] == 9.0
    np.testing.assert_allclose(trace.z[-5:], 10.0, atol=1e-4)


def test_noise_becomes_height_as_a_first_order_loop_says():
    gain, sigma = 0.4, 0.3
    noise = np.random.default_rng(2).normal(scale=sigma, size=8000)
    trace, _ = follow(integrating(gain), linear_table(pixels=8000), held_at(10.0), noise=noise)
    expected = gain * sigma / SLOPE / np.sqrt(1 - (1 - gain) ** 2)
    assert np.std(trace.z) == pytest.approx(expected, rel=0.05)


def test_a_slow_vibration_is_followed():
    shake = 0.2 * np.sin(2 * np.pi * np.arange(8000) / 200)
    trace, _ = follow(integrating(0.5), linear_table(pixels=8000), held_at(10.0), disturbance=shake)
    # The lag of the loop is (1 - K) / K + 1 = 2 steps.
    np.testing.assert_allclose(np.array(trace.z)[50:] - 10, -np.roll(shake, 2)[50:], atol=1e-3)


def surface_current(topography):
    """Tunnelling current in nA over a surface: 1 nA at 5 Å."""
    return np.exp(-2 * (HEIGHTS[:, None] - 5 - topography))


LOGARITHMIC = ZController(1.0, 0.05, 100.0, logarithmic=True, bandwidth=1000.0, slew=2000.0)


def test_a_slow_scan_shows_the_topography():
    topography = 0.5 * np.sin(np.arange(40) / 6)
    state = ControllerState.holding(5.0, 1.0)
    trace, _ = follow_trace(LOGARITHMIC, surface_current(topography), HEIGHTS, INTERVAL, state, substeps=100)
    # The interpolation between heights 0.5 Å apart is good for 0.01 Å.
    np.testing.assert_allclose(trace.z[5:] - topography[5:], 5.0, atol=0.03)
    assert not np.any(trace.crashed)


@pytest.mark.parametrize(("substeps", "crashes"), [(1, True), (100, False)])
def test_a_cliff_is_a_crash_for_the_fast_and_not_for_the_slow(substeps, crashes):
    topography = np.clip(2.0 * np.arange(40) - 40, 0, 8)  # 2 Å per pixel; the tip hovers 5 Å above it.
    state = ControllerState.holding(5.0, 1.0)
    arguments = (LOGARITHMIC, surface_current(topography), HEIGHTS, INTERVAL, state)
    trace, _ = follow_trace(*arguments, substeps=substeps, contact=topography)
    assert bool(np.any(trace.crashed)) is crashes
    assert not np.any(trace.crashed[:20])
    assert not np.any(follow_trace(*arguments, substeps=substeps)[0].crashed), "the lowest height is under the cliff"


def test_the_tip_below_the_lowest_height_is_a_crash():
    low = linear_table(balance=-3.0)
    trace, _ = follow(integrating(0.5), low, held_at(1.0, -3.0))
    crashed = np.array(trace.crashed)
    assert not crashed[0]
    assert crashed[-1]
    assert np.array(trace.z)[crashed].max() < 0


def test_the_piezo_ends_at_its_reach_and_comes_back_without_delay():
    table = np.concatenate([linear_table(15.0, 30), linear_table(10.0, 30)], axis=1)
    trace, _ = follow(integrating(0.5, reach=(2.0, 12.0)), table, ControllerState.holding(10.0, 120.0))
    np.testing.assert_array_equal(trace.z[10:30], 12.0)
    assert np.array(trace.out_of_reach)[10:30].all()
    # Nothing was wound up meanwhile: the first step on the other side already leads back.
    assert trace.z[31] == pytest.approx(11.0)
    assert not trace.out_of_reach[35]


def test_no_step_is_longer_than_the_slew_rate_allows():
    trace, _ = follow(integrating(1.0, slew=30.0), state=held_at(10.5))
    np.testing.assert_allclose(np.diff(trace.z)[:10], -0.03, rtol=1e-4)


def test_the_signal_is_interpolated_as_everywhere_in_the_kernels():
    table = np.random.default_rng(4).normal(size=(len(HEIGHTS), PIXELS))
    for z in (0.1, 3.3, 10.25, 19.9):
        trace, _ = follow(CONTROLLER, table, ControllerState.holding(z, 0.0))
        np.testing.assert_allclose(trace.signal, interpolation_weights([z], HEIGHTS)[0] @ table, atol=1e-4)


def test_a_trace_of_one_pixel_and_substeps_that_run_along():
    ramp = np.repeat([[0.0, 10.0]], len(HEIGHTS), axis=0)
    trace, _ = follow(CONTROLLER, ramp, ControllerState.holding(5.0, 0.0), substeps=4)
    # Places -3/8 ... 3/8 of the first pixel and 5/8 ... 11/8 of the second; beyond the ends there is nothing.
    np.testing.assert_allclose(trace.signal, [10 * (1 + 3) / 8 / 4, 10 - 10 * (1 + 3) / 8 / 4], rtol=1e-5)
    alone, _ = follow(CONTROLLER, ramp[:, :1], ControllerState.holding(5.0, 0.0))
    assert alone.signal.shape == (1,)


def test_two_half_traces_are_one_trace():
    noise = np.random.default_rng(6).normal(size=2 * PIXELS)
    controller = integrating(0.3, bandwidth=100.0)
    whole, end = follow(controller, linear_table(pixels=2 * PIXELS), noise=noise)
    first, middle = follow(controller, noise=noise[:PIXELS])
    second, last = follow(controller, state=middle, noise=noise[PIXELS:])
    np.testing.assert_allclose(np.concatenate([first.z, second.z]), whole.z, rtol=1e-6)
    assert last.z == pytest.approx(float(end.z), rel=1e-6)


def test_independent_traces_run_side_by_side():
    tables = np.stack([linear_table(balance) for balance in (9.0, 10.0, 11.0)])
    together, _ = jax.vmap(lambda table: follow(integrating(0.3), table, held_at(10.5)))(tables)
    alone, _ = follow(integrating(0.3), tables[2], held_at(10.5))
    np.testing.assert_allclose(together.z[2], alone.z, rtol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: follow(replace(CONTROLLER, integral=-1.0)), "integral is -1.0"),
        (lambda: follow(replace(CONTROLLER, slew=0.0)), "controller.slew is 0.0"),
        (lambda: follow(replace(CONTROLLER, reach=(3.0, 3.0))), "expected the lowest z first"),
        (lambda: follow(replace(CONTROLLER, setpoint=0.0, logarithmic=True)), "setpoint is 0.0"),
        (lambda: follow(CONTROLLER, linear_table()[:-1]), "table has shape"),
        (lambda: follow(CONTROLLER, np.full((41, 2), np.nan)), "not finite at height 0, pixel 0"),
        (lambda: follow(CONTROLLER, noise=np.zeros(3)), "noise has shape"),
        (lambda: follow(CONTROLLER, contact=np.zeros(3)), "contact has shape"),
        (lambda: follow(CONTROLLER, substeps=0), "substeps is 0"),
    ],
)
def test_what_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
