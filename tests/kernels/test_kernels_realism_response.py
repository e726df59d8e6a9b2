"""Filters and piezos, against SciPy and the laws that they are made for."""

import numpy as np
import pytest
from scipy.signal import TransferFunction, freqresp, lsim

from twinscope.kernels import CreepState, HysteresisState, creep, hysteresis, low_pass, phase_locked_loop

RNG = np.random.default_rng(3)
INTERVAL = 1e-3


def continuous(bandwidth, order=None, damping=0.5**0.5):
    """Transfer function of a cascade, or of a loop when there is no order."""
    if order:
        pole = 2 * np.pi * bandwidth / np.sqrt(2 ** (1 / order) - 1)
        return TransferFunction([pole**order], np.poly(-pole * np.ones(order)))
    half = 1 + 2 * damping**2
    natural = 2 * np.pi * bandwidth / np.sqrt(half + np.sqrt(half**2 + 1))
    return TransferFunction([2 * damping * natural, natural**2], [1, 2 * damping * natural, natural**2])


FILTERS = [
    (low_pass(20.0, INTERVAL), continuous(20.0, 1)),
    (low_pass(20.0, INTERVAL, 4), continuous(20.0, 4)),
    (phase_locked_loop(20.0, INTERVAL), continuous(20.0)),
    (phase_locked_loop(20.0, INTERVAL, 0.3), continuous(20.0, damping=0.3)),
]


@pytest.mark.parametrize(("response", "transfer"), FILTERS)
def test_a_filter_does_what_its_differential_equation_says(response, transfer):
    assert abs(freqresp(transfer, [2 * np.pi * 20.0])[1][0]) == pytest.approx(0.5**0.5, rel=1e-6)
    staircase = RNG.normal(size=300)
    filtered, _ = response.apply(staircase, response.settled(0.0))
    # SciPy holds a signal over an interval too, and gives the value at its beginning.
    _, expected, _ = lsim(transfer, np.append(staircase, 0), INTERVAL * np.arange(301), interp=False)
    np.testing.assert_allclose(filtered, expected[1:], atol=2e-5)


@pytest.mark.parametrize("response", [response for response, _ in FILTERS])
def test_what_does_not_change_comes_out_as_it_is(response):
    filtered, _ = response.apply(np.full(50, -7.25), response.settled(-7.25))
    np.testing.assert_allclose(filtered, -7.25, rtol=1e-6)


def test_two_half_lines_are_one_line_and_lines_go_side_by_side():
    response = phase_locked_loop(20.0, INTERVAL)
    signal = RNG.normal(size=(200, 3)).astype("float32")
    start = response.settled(signal[0])
    whole, end = response.apply(signal, start)
    first, middle = response.apply(signal[:100], start)
    second, last = response.apply(signal[100:], middle)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    np.testing.assert_array_equal(last, end)
    alone, _ = response.apply(signal[:, 1], start[1])
    np.testing.assert_allclose(alone, whole[:, 1], atol=1e-6)


@pytest.mark.parametrize("share", [0.005, 0.03])
def test_after_a_step_the_piezo_creeps_with_the_logarithm_of_time(share):
    times = np.geomspace(0.1, 1000, 81)
    intervals = np.concatenate([[0.0, 0.1], np.diff(times)])
    position, _ = creep(np.full(82, 350.0), intervals, CreepState.resting(50.0), share)
    law = 50 + 300 * (1 + share * np.log10(times / 0.1))
    assert np.abs(np.array(position)[1:] - law).max() < 0.006 * share * 300


def test_without_creep_and_hysteresis_the_piezo_goes_where_it_is_sent():
    path = RNG.normal(size=(40, 2)).astype("float32")
    np.testing.assert_array_equal(creep(path, 0.01, CreepState.resting(path[0]), 0.0)[0], path)
    np.testing.assert_array_equal(hysteresis(path, HysteresisState.fresh(path[0]), 0.0, 3.0)[0], path)


def test_a_piezo_at_rest_stays():
    position, _ = creep(np.full(20, 8000.0), 10.0, CreepState.resting(8000.0), 0.02)
    np.testing.assert_array_equal(position, 8000.0)


def test_a_ramp_creeps_the_same_however_densely_it_is_sampled():
    start = CreepState.resting(0.0)
    _, coarse = creep(np.array([100.0]), 5.0, start, 0.02)
    fine_position, fine = creep(np.linspace(0, 100, 201)[1:], 5.0 / 200, start, 0.02)
    np.testing.assert_allclose(fine.lags, coarse.lags, rtol=1e-4)
    assert fine_position[-1] == pytest.approx(float(creep(np.array([100.0]), 5.0, start, 0.02)[0][0]), rel=1e-6)


def test_creep_adds_up():
    start = CreepState.resting(0.0)
    one, other = RNG.normal(size=(2, 60))
    together, _ = creep(one + other, 0.2, start, 0.1)
    apart = creep(one, 0.2, start, 0.1)[0] + creep(other, 0.2, start, 0.1)[0]
    np.testing.assert_allclose(together, apart, atol=1e-5)


def triangle(size, periods=2, points=208):
    leg = np.linspace(-size / 2, size / 2, points + 1)
    return np.concatenate([np.concatenate([leg, leg[-2:0:-1]])] * periods)


@pytest.mark.parametrize(("size", "opening"), [(1000.0, 100.0), (500.0, 25.0)])
def test_a_loop_of_hysteresis_has_the_width_that_was_asked_for(size, opening):
    path = triangle(size)
    position, _ = hysteresis(path, HysteresisState.fresh(0.0), 0.1, 1000.0)
    last = np.array(position)[len(path) // 2 :]
    forward, backward = last[:208], np.append(last[208:], last[0])[::-1][:208]
    assert (backward - forward)[104] == pytest.approx(opening, rel=1e-3)
    assert (backward - forward).max() == pytest.approx(opening, rel=1e-3)
    if size == 1000:
        assert (last.min(), last.max()) == pytest.approx((-500, 500), rel=1e-4)


def test_hysteresis_does_not_know_the_time():
    path = triangle(800.0, 1)
    sparse, _ = hysteresis(path, HysteresisState.fresh(0.0), 0.1, 1000.0)
    dense, _ = hysteresis(np.repeat(path, 2), HysteresisState.fresh(0.0), 0.1, 1000.0)
    np.testing.assert_array_equal(dense[1::2], sparse)


def test_a_small_loop_inside_of_a_large_one_closes_and_leaves_no_memory():
    path = triangle(800.0, 1)
    _, before = hysteresis(path, HysteresisState.fresh(0.0), 0.1, 1000.0)
    there = np.linspace(path[-1], 100.0, len(path) // 2)
    _, after = hysteresis(np.concatenate([there, there[::-1]]), before, 0.1, 1000.0)
    np.testing.assert_allclose(after.plays, before.plays, atol=1e-3)


@pytest.mark.parametrize("piezo", ["creep", "hysteresis"])
def test_two_half_lines_of_a_piezo_are_one_line(piezo):
    path = RNG.normal(scale=100, size=(90, 2)).astype("float32")

    def move(part, state):
        return creep(part, 0.05, state, 0.02) if piezo == "creep" else hysteresis(part, state, 0.1, 500.0)

    start = CreepState.resting(path[0]) if piezo == "creep" else HysteresisState.fresh(path[0])
    whole, _ = move(path, start)
    first, state = move(path[:45], start)
    second, _ = move(path[45:], state)
    np.testing.assert_allclose(np.concatenate([first, second]), whole, atol=1e-3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: low_pass(0.0, INTERVAL), "bandwidth is 0.0 Hz"),
        (lambda: low_pass(10.0, INTERVAL, 0), "order is 0"),
        (lambda: phase_locked_loop(10.0, INTERVAL, 1.0), "damping is 1.0"),
        (lambda: creep(np.zeros(2), 0.1, CreepState.resting(0.0), -0.1), "per_decade is -0.1"),
        (lambda: creep(np.zeros(2), -1.0, CreepState.resting(0.0), 0.1), "interval is -1.0 s"),
        (lambda: hysteresis(np.zeros(2), HysteresisState.fresh(0.0), 0.6, 1.0), "width is 0.6"),
        (lambda: hysteresis(np.zeros(2), HysteresisState.fresh(0.0), 0.1, 0.0), "reach is 0.0"),
    ],
)
def test_what_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
