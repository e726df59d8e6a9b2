"""The guard alone, as if the instrument in front of it had made a mistake."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from twinscope.capabilities import Capabilities
from twinscope.errors import (
    ConfigurationError,
    DriverError,
    InterlockError,
    InvalidRequestError,
    OutOfRangeError,
    UnknownChannelError,
)
from twinscope.guard import Guard
from twinscope.interlocks import Interlocks
from twinscope.requests import PathRequest, ScanFrame, ScanRequest, SpectroscopyRequest, Sweep
from twinscope.schemas import verb_schemas
from twinscope.state import TipState

NM = 1e-9
SCAN = ScanRequest(frame=ScanFrame(size=(2 * NM, 2 * NM)), pixels=(3, 4), channels=("at_y",), line_time=0.01)
STAY = {"x": None, "y": None, "z": None, "speed": None}


class Sink:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.traces: list[np.ndarray] = []

    def write(self, first: int, traces: np.ndarray) -> None:
        self.traces.append(traces.copy())

    def warn(self, message: str) -> None:
        raise AssertionError(message)


@pytest.mark.parametrize(
    ("rules", "command", "arguments", "error"),
    [
        ({}, "move_to", STAY | {"x": 1.0}, OutOfRangeError),
        ({}, "move_to", STAY | {"x": 1 * NM, "speed": 1.0}, OutOfRangeError),
        ({"signals": {"x": {"high": 1 * NM}}}, "move_to", STAY | {"x": 2 * NM}, InterlockError),
        ({"signals": {"x": {"max_slew": 1 * NM}}}, "move_to", STAY | {"x": 2 * NM}, InterlockError),
        ({"least_move_height": 2 * NM}, "move_to", STAY | {"x": 2 * NM}, InterlockError),
        ({}, "write", {"name": "bias", "value": 11.0}, OutOfRangeError),
        ({}, "write", {"name": "current", "value": 0.0}, InvalidRequestError),
        ({"signals": {"bias": {"high": 1}}}, "write", {"name": "bias", "value": 2.0}, InterlockError),
        ({"signals": {"bias": {"max_step": 0.1}}}, "write", {"name": "bias", "value": 1.0}, InterlockError),
        ({}, "set_feedback", {"mode": "constant_frequency_shift"}, InvalidRequestError),
        ({}, "coarse_move", {"axis": "z", "steps": -1}, InterlockError),
        ({}, "coarse_move", {"axis": "z", "steps": 1001}, OutOfRangeError),
        ({}, "pulse", {"voltage": 1.0, "duration": 0.1}, InterlockError),
        ({"allow": ["pulse"]}, "pulse", {"voltage": 11.0, "duration": 0.1}, OutOfRangeError),
        ({}, "shape_tip", {"depth": 1 * NM, "voltage": 0.0}, InterlockError),
        ({"allow": ["tip_shaping"]}, "shape_tip", {"depth": 2e-6, "voltage": 0.0}, OutOfRangeError),
        ({}, "exchange_tip", {"probe": "Xe"}, InterlockError),
        ({"allow": ["tip_exchange"]}, "exchange_tip", {"probe": "C60"}, InvalidRequestError),
        ({"forbidden": [{"name": "r", "low": [-1, -1], "high": [1, 1], "below": 0.5}]}, "approach", {}, InterlockError),
        ({}, "explode", {}, DriverError),
    ],
)
def test_what_is_forbidden_does_not_reach_the_driver(
    ramp_driver, rules: Any, command: str, arguments: Any, error: type[Exception]
) -> None:
    driver = ramp_driver()
    with pytest.raises(error):
        Guard(driver, Interlocks.from_dict(rules)).perform(1, command, **arguments)
    assert driver.calls == []


def test_limits_that_the_driver_has_forgotten_are_named(ramp_driver) -> None:
    class Forgetful(ramp_driver):
        def capabilities(self) -> Capabilities:
            known = super().capabilities()
            return replace(known, limits={name: known.limits[name] for name in known.limits if name != "coarse_steps"})

    driver = Forgetful()
    guard = Guard(driver, Interlocks())
    with pytest.raises(ConfigurationError, match="the driver 'ramp' gives no limits of coarse_steps"):
        guard.perform(1, "coarse_move", axis="z", steps=1)
    assert driver.calls == []
    with pytest.raises(ConfigurationError, match="gives no limits of coarse_steps"):
        verb_schemas(guard.capabilities())


@pytest.mark.parametrize(
    ("rules", "request_", "error"),
    [
        ({"least_scan_height": 2 * NM}, SCAN, InterlockError),
        ({"signals": {"x": {"max_slew": 1e-12}}}, SCAN, InterlockError),
        ({"forbidden": [{"name": "r", "low": [0, 0], "high": [1, 1]}]}, SCAN, InterlockError),
        (
            {"signals": {"setpoint_current": {"high": 1e-10}}},
            ScanRequest(frame=SCAN.frame, pixels=(2, 2), channels=("at_x",), z_mode="constant_current", setpoint=2e-10),
            InterlockError,
        ),
        (
            {"signals": {"setpoint_current": {"high": 1e-10}}},
            PathRequest(positions=((0, 0),), channels=("at_x",), z_mode="constant_current", setpoint=2e-10),
            InterlockError,
        ),
        (
            {"signals": {"bias": {"high": 1}}},
            SpectroscopyRequest(
                swept="bias", positions=((0, 0),), sweep=Sweep(start=0, stop=2, points=3), channels=("at_x",)
            ),
            InterlockError,
        ),
        ({}, ScanRequest(frame=SCAN.frame, pixels=(2, 2), channels=("df",)), UnknownChannelError),
        ({}, ScanRequest(frame=ScanFrame(size=(1, 1)), pixels=(2, 2), channels=("at_x",)), OutOfRangeError),
    ],
)
def test_an_acquisition_that_is_forbidden_does_not_begin(
    ramp_driver, rules: Any, request_: Any, error: type[Exception]
) -> None:
    driver = ramp_driver()
    with pytest.raises(error):
        Guard(driver, Interlocks.from_dict(rules)).start(1, request_, Sink())
    assert driver.calls == []


def test_coordinates_that_were_not_given_stay(ramp_driver) -> None:
    guard = Guard(ramp_driver(), Interlocks())
    guard.perform(1, "move_to", **STAY | {"x": 1 * NM, "z": 3 * NM})
    reached = guard.perform(1, "move_to", **STAY | {"y": 2 * NM}).position
    assert (reached.x, reached.y, reached.z) == (1 * NM, 2 * NM, 3 * NM)


def test_z_belongs_to_the_z_controller_while_it_is_on(ramp_driver) -> None:
    driver = ramp_driver()
    guard = Guard(driver, Interlocks())
    guard.perform(1, "set_feedback", mode="constant_current")
    with pytest.raises(InterlockError, match=r"while the z-controller is on \(constant_current\): switch it off"):
        guard.perform(1, "move_to", **STAY | {"z": 2 * NM})
    assert guard.perform(1, "move_to", **STAY | {"x": 2 * NM}).position.x == 2 * NM
    guard.perform(1, "set_feedback", mode="off")
    assert guard.perform(1, "move_to", **STAY | {"z": 2 * NM}).position.z == 2 * NM


def test_a_channel_that_can_trip_is_watched_and_kept_back(ramp_driver) -> None:
    driver, sink = ramp_driver(), Sink()
    guard = Guard(driver, Interlocks(trips={"at_x": (None, 5 * NM)}))
    guard.start(1, SCAN, sink)
    while guard.poll()[0]:
        pass
    assert driver.request.channels == ("at_y", "at_x")
    assert [trace.shape for trace in sink.traces] == [(1, 1, 3)] * 4
    np.testing.assert_allclose(sink.traces[0][0, 0], SCAN.row_positions(0)[1], rtol=1e-6)


@pytest.mark.parametrize("channels", [("at_y",), ("at_y", "at_x"), ("at_x",)])
def test_a_trip_withdraws_the_tip_and_keeps_what_was_measured(ramp_driver, channels: tuple[str, ...]) -> None:
    class Rising(ramp_driver):
        def trace(self, index: int) -> dict[str, np.ndarray]:
            values = super().trace(index)
            return values | {"at_x": np.full_like(values["at_x"], index * NM)}

    driver, sink = Rising(), Sink()
    guard = Guard(driver, Interlocks(trips={"at_x": (None, 1.5 * NM)}))
    guard.start(1, ScanRequest(frame=SCAN.frame, pixels=(3, 4), channels=channels), sink)
    guard.poll(), guard.poll()
    with pytest.raises(InterlockError, match=r"at_x reached 2e-09, allowed are -inf to 1\.5e-09: the tip"):
        guard.poll()
    assert driver.tip is TipState.WITHDRAWN
    assert len(sink.traces) == 3
    assert sink.traces[0].shape == (1, len(channels), 3)


def test_a_driver_that_leaves_out_what_is_to_be_watched_is_refused(ramp_driver) -> None:
    class Deaf(ramp_driver):
        def poll(self) -> bool:
            self.sink.write(self.index, np.zeros((1, 1, 3)))
            return True

    guard = Guard(Deaf(), Interlocks(trips={"at_x": (None, 1.5 * NM)}))
    guard.start(1, SCAN, Sink())
    with pytest.raises(DriverError, match=r"shape \(1, 1, 3\): expected \(n, 2, samples\), for at_y, at_x"):
        guard.poll()


def test_a_signal_trips_wherever_it_is_read_until_the_tip_is_withdrawn(ramp_driver) -> None:
    driver = ramp_driver()
    guard = Guard(driver, Interlocks(trips={"current": (None, 1e-10)}))
    guard.read()
    driver.signals["current"] = 1e-9
    with pytest.raises(InterlockError, match="current reached 1e-09"):
        guard.read()
    assert driver.tip is TipState.WITHDRAWN
    # A withdrawn tip is as safe as it can be: the instrument can be used again.
    assert guard.read().signals["current"] == 1e-9
    guard.perform(1, "write", name="bias", value=0.0)
    with pytest.raises(InterlockError, match="current"):
        guard.perform(1, "approach")
    assert driver.tip is TipState.WITHDRAWN


def test_a_signal_that_trips_in_an_acquisition_stops_it_first(ramp_driver) -> None:
    driver = ramp_driver()
    stops: list[TipState] = []
    driver.stop = lambda: stops.append(driver.tip)
    guard = Guard(driver, Interlocks(trips={"current": (None, 1e-10)}))
    guard.start(1, SCAN, Sink())
    driver.signals["current"] = 1e-9
    with pytest.raises(InterlockError, match="current"):
        guard.poll()
    assert stops == [TipState.IN_RANGE]
    assert driver.tip is TipState.WITHDRAWN


def test_a_driver_opened_again_has_forgotten_the_acquisition(ramp_driver) -> None:
    driver = ramp_driver()
    guard = Guard(driver, Interlocks())
    guard.start(1, SCAN, Sink())
    assert guard.restart().tip is TipState.IN_RANGE
    assert driver.closed
    assert not guard.kill()
