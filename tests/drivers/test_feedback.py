"""The z-controller of the simulated microscope."""

from typing import Any

import numpy as np
import pytest

from tests.drivers._acquiring import acquire, line
from twinscope.drivers.simulator import Simulator
from twinscope.errors import InterlockError, InvalidRequestError
from twinscope.requests import PathRequest, ScanFrame, ScanRequest, SpectroscopyRequest, Sweep
from twinscope.state import TipState

# Its time is that of compiling.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

POINTS = 64
SHIFT, CURRENT = "constant_frequency_shift", "constant_current"
# Nothing but steps.
BARE = {"density": 0.0, "islands": 0.0, "contamination": 0.0, "decorated": 0.0}


def over_gold(**options: Any) -> Simulator:
    return Simulator(sample="benzene", surface="Au", **options)


def place(driver: Simulator) -> np.ndarray:
    """Where the tip really is, in m."""
    return np.array(list(driver.truth((-1e-9, -1e-9), (1e-9, 1e-9))["position"].values()))


def z_along(driver: Simulator, length: float, **more: Any) -> np.ndarray:
    """Height of the tip along a line through the middle, in m."""
    return line(driver, (-length / 2, 0), (length / 2, 0), POINTS, channels=("z",), **({"z_mode": CURRENT} | more))[
        0, 0
    ]


# ---------------------------------------------------------------------- what it follows


def test_at_constant_frequency_shift_the_tip_is_where_the_spectra_say() -> None:
    setpoint = -1.5
    followed = z_along(over_gold(), 6e-10, z_mode=SHIFT, setpoint=setpoint, point_time=0.3)
    places = [(x, 0.0) for x in np.linspace(-3e-10, 3e-10, POINTS)[::7].tolist()]
    sweep = Sweep(start=8e-10, stop=3e-10, points=251)
    request = SpectroscopyRequest(swept="z", positions=places, sweep=sweep, channels=("frequency_shift",))
    spectra, _ = acquire(over_gold(), request)
    for z, spectrum in zip(followed[::7], spectra[:, 0], strict=True):
        first = int(np.argmax(spectrum < setpoint))
        expected = np.interp(setpoint, spectrum[first : first - 2 : -1], sweep.values()[first : first - 2 : -1])
        assert z == pytest.approx(expected, abs=5e-12)
    assert np.ptp(followed) > 2e-11


def test_on_a_tilted_plane_the_tip_rises_with_it() -> None:
    driver = over_gold(realism={"tilt": [1.0, 0.0]})
    z = line(driver, (6e-9, 0), (8e-9, 0), POINTS, channels=("z",), z_mode=CURRENT, point_time=0.03)[0, 0]
    assert np.polyfit(np.linspace(6e-9, 8e-9, POINTS), z, 1)[0] == pytest.approx(np.tan(np.radians(1.0)), rel=0.01)


def test_a_step_is_as_high_as_one() -> None:
    driver = Simulator(world=BARE | {"step_direction": 0.0, "size": 1e-6}, seed=3)
    steps = driver.truth((-1e-7, -2e-9), (1e-7, 2e-9))["steps"]
    edge, step = steps[0]["points"][0], steps[0]["height"]
    driver.move_to(edge[0] - 4e-9, edge[1], 1e-9)
    driver.approach()
    way = ((edge[0] - 4e-9, edge[1]), (edge[0] + 4e-9, edge[1]))
    z = line(driver, *way, POINTS, channels=("z",), z_mode=CURRENT, point_time=0.015)[0, 0]
    assert z[:10].mean() - z[-10:].mean() == pytest.approx(step, rel=0.02)
    assert driver.read().tip is TipState.IN_RANGE


def test_current_of_either_sign_gives_the_same_image() -> None:
    images = {}
    for bias in (0.1, -0.1):
        driver = over_gold(bias=bias)
        traces = line(driver, (-1e-9, 0), (1e-9, 0), POINTS, channels=("z", "current"), z_mode=CURRENT, point_time=0.03)
        images[bias] = traces[0]
    np.testing.assert_allclose(images[0.1][0], images[-0.1][0], atol=1e-13)
    np.testing.assert_allclose(images[-0.1][1], -1e-11, rtol=0.2)
    np.testing.assert_allclose(images[0.1][1], 1e-11, rtol=0.2)


def test_a_scan_that_is_too_fast_lags_behind() -> None:
    slow, fast = (z_along(over_gold(), 4e-9, point_time=time) for time in (0.03, 3e-4))
    assert np.argmax(fast) > np.argmax(slow) + 1
    assert abs(fast - slow).max() > 1e-11


def test_a_very_slow_scan_is_as_stable_as_any() -> None:
    slow, slower = (z_along(over_gold(), 2e-9, point_time=time) for time in (0.1, 20.0))
    np.testing.assert_allclose(slow, slower, atol=2e-12)


def test_forward_lines_alone_begin_as_those_of_both_directions_do() -> None:
    def first_pixels(direction: str) -> np.ndarray:
        request = ScanRequest(
            # It ends over the middle of the molecule and begins outside.
            frame=ScanFrame(size=(2e-9, 2e-11), center=(1e-9, 0.0)),
            pixels=(POINTS, 4),
            channels=("z",),
            z_mode=CURRENT,
            direction=direction,
        )
        traces, _ = acquire(over_gold(), request)
        return traces[:: len(request.directions), 0, :3]

    np.testing.assert_allclose(first_pixels("forward"), first_pixels("both"), atol=1.5e-11)


def test_at_separate_points_the_tip_comes_down_again() -> None:
    points = ((0.0, 0.0), (2e-9, 0.0), (0.0, 0.0))
    request = PathRequest(
        positions=points, channels=("z",), separate=True, passes=4, lift=5e-10, z_mode=CURRENT, point_time=0.02
    )
    z = acquire(over_gold(), request)[0][:, 0].mean(axis=1)
    assert z[0] == pytest.approx(z[2], abs=1e-12)
    assert z[0] - z[1] > 5e-11


def test_a_setpoint_of_the_repulsive_branch_is_held() -> None:
    driver = over_gold()
    driver.write("setpoint_frequency_shift", 3.0)
    driver.set_feedback(SHIFT)
    driver.write("setpoint_frequency_shift", 3.0)
    reading = driver.read()
    assert reading.signals["frequency_shift"] == pytest.approx(3.0, abs=0.05)
    assert reading.tip is TipState.IN_RANGE


# ---------------------------------------------------------------------- switching it


def test_switching_it_moves_the_tip_by_nothing_but_its_settling() -> None:
    driver = over_gold(realism={"creep": 0.02, "hysteresis": 0.1})
    driver.move_to(0, 0, 3e-9)
    driver.move_to(0, 0, 5.2e-10)
    driver.set_feedback(CURRENT)
    settled = place(driver)[2]
    driver.set_feedback("off")
    assert place(driver)[2] == pytest.approx(settled, abs=1e-13)
    driver.set_feedback(CURRENT)
    assert place(driver)[2] == pytest.approx(settled, abs=1e-12)


def test_it_follows_a_new_bias_and_a_new_setpoint() -> None:
    driver = over_gold()
    driver.set_feedback(CURRENT)
    before = driver.read().position.z
    driver.write("setpoint_current", 1e-12)
    lifted = driver.read().position.z
    assert lifted - before > 5e-11
    driver.write("bias", 1.0)
    assert driver.read().position.z - lifted == pytest.approx(lifted - before, rel=0.05)
    assert driver.read().signals["current"] == pytest.approx(1e-12, rel=0.05)


def test_it_is_refused_where_it_could_not_hold_anything() -> None:
    driver = over_gold()
    driver.write("bias", 0.0)
    with pytest.raises(InvalidRequestError, match=r"bias is 0 V.*set a bias"):
        driver.set_feedback(CURRENT)
    driver.write("bias", 0.1)
    driver.set_feedback(CURRENT)
    with pytest.raises(InvalidRequestError, match="bias is 0 V"):
        driver.write("bias", 0.0)
    assert driver.read().signals["bias"] == 0.1
    driver.withdraw()
    with pytest.raises(InterlockError, match="approach first"):
        driver.set_feedback(SHIFT)
    with pytest.raises(InterlockError, match="approach first"):
        z_along(driver, 1e-9)
    with pytest.raises(InterlockError, match="cannot be shaped while the tip is withdrawn"):
        driver.shape_tip(1e-9, 0.0)
    assert driver.read().tip is TipState.WITHDRAWN


def test_a_move_with_it_on_ends_at_the_very_place() -> None:
    driver = over_gold()
    driver.set_feedback(CURRENT)
    driver.move_to(1.23456789e-9, -0.7e-9, driver.read().position.z)
    assert (driver.read().position.x, driver.read().position.y) == (1.23456789e-9, -0.7e-9)


# ---------------------------------------------------------------------- what goes wrong


def test_a_loop_with_too_much_gain_behind_a_slow_detector_crashes_the_tip() -> None:
    driver = over_gold(realism={"pll_bandwidth": 10.0})
    driver.write("proportional_frequency_shift", 3e-10)
    request = PathRequest(
        positions=np.linspace((0, 0), (1e-9, 0), POINTS).tolist(), channels=("z",), z_mode=SHIFT, setpoint=-1.5
    )
    _, sink = acquire(driver, request)
    assert any("touched the sample" in warning for warning in sink.warnings)
    assert driver.read().tip is TipState.CRASHED
    assert driver.truth((-1e-9, -1e-9), (1e-9, 1e-9))["tip"]["changes"] >= 1
    driver.withdraw()
    assert driver.read().tip is TipState.WITHDRAWN


def test_where_there_is_nothing_the_controller_goes_to_its_end() -> None:
    driver = Simulator(sample="benzene")
    request = PathRequest(positions=((4e-9, 0.0),) * POINTS, channels=("z",), z_mode=CURRENT, point_time=0.05)
    _, sink = acquire(driver, request)
    assert any("end of its range" in warning for warning in sink.warnings)


def test_a_scan_at_constant_height_into_a_higher_terrace_crashes_the_tip() -> None:
    driver = Simulator(world=BARE | {"step_direction": 180.0}, seed=3)
    steps = driver.truth((-1e-7, -2e-9), (1e-7, 2e-9))["steps"]
    x, y = steps[-1]["points"][0]
    driver.move_to(x - 3e-9, y, 2e-9)
    driver.approach()
    z = driver.read().position.z - 1e-10
    line(driver, (x - 3e-9, y), (x + 3e-9, y), 32, height=z)
    assert driver.read().tip is TipState.CRASHED


def test_an_approach_ends_above_what_is_under_the_tip_wherever_that_is() -> None:
    driver = Simulator(world=BARE, seed=3, realism={"tilt": [0.8, -0.5], "creep": 0.02})
    driver.withdraw()
    for x in (-3e-7, 2e-7):
        driver.move_to(x, 1e-7, driver.read().position.z)
        driver.approach()
        assert driver.read().tip is TipState.IN_RANGE
        driver.set_feedback(CURRENT)
        assert driver.read().signals["current"] == pytest.approx(1e-11, rel=0.05)
        limits = driver.capabilities().limits["z"]
        assert limits.low < driver.read().position.z < limits.high
        driver.withdraw()
