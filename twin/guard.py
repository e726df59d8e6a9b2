"""What stands directly in front of a driver: it refuses late and forbidden commands, and watches what comes back."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from twinscope.capabilities import Capabilities
from twinscope.drivers.base import Driver, TraceSink
from twinscope.errors import DriverError, InterlockError, LeaseError, TripError
from twinscope.interlocks import Interlocks
from twinscope.requests import AcquisitionRequest, PathRequest, ScanRequest, SpectroscopyRequest, setpoint_of
from twinscope.state import FEEDBACK_OFF, Position, Reading, TipState


class Backend(Protocol):
    """A guarded driver, in this process or in its own: what the instrument commands."""

    def capabilities(self) -> Capabilities:
        """Tell what the instrument can do."""
        ...

    def open(self) -> Reading:
        """Connect to the instrument."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...

    def restart(self) -> Reading:
        """Connect again after the driver has failed."""
        ...

    def read(self) -> Reading:
        """Look at the instrument."""
        ...

    def perform(self, fence: int | None, command: str, /, **arguments: Any) -> Reading:
        """Carry out a command of the driver and tell what it led to."""
        ...

    def start(self, fence: int, request: AcquisitionRequest, sink: TraceSink) -> Reading:
        """Begin an acquisition."""
        ...

    def poll(self) -> tuple[bool, Reading]:
        """Carry the acquisition on; False when it is over."""
        ...

    def truth(self, low: tuple[float, float], high: tuple[float, float]) -> dict[str, Any]:
        """Tell what is really between two corners (x, y), in m; only a simulator with the feature "oracle" can."""
        ...

    def stop(self) -> None:
        """Stop what is in progress; from any thread."""
        ...

    def kill(self) -> bool:
        """End a driver that does not stop; False when that cannot be done."""
        ...


class Guard:
    """A :class:`Backend` around a driver in this process.

    Parameters
    ----------
    driver
        What to guard.
    interlocks
        The rules.

    Raises
    ------
    ConfigurationError
        When a rule is about something that the instrument does not have.
    """

    def __init__(self, driver: Driver, interlocks: Interlocks) -> None:
        self._driver = driver
        self._interlocks = interlocks
        self._capabilities = driver.capabilities()
        self._fence = 0
        self._watch: _Watch | None = None
        interlocks.check_names(self._capabilities)

    def capabilities(self) -> Capabilities:
        """Tell what the instrument can do."""
        return self._capabilities

    def open(self) -> Reading:
        """Open the driver."""
        self._driver.open()
        return self._driver.read()

    def restart(self) -> Reading:
        """Close the driver and open it again."""
        self._watch = None
        self._driver.close()
        return self.open()

    def close(self) -> None:
        """Close the driver."""
        self._driver.close()

    def read(self) -> Reading:
        """Read the driver.

        Raises
        ------
        InterlockError
            When a signal was outside its allowed range: the tip has been withdrawn.
        """
        reading = self._driver.read()
        # A tip that is withdrawn is as safe as it can be.
        trip = None if reading.tip is TipState.WITHDRAWN else self._interlocks.tripped(reading.signals)
        if trip is not None:
            self._withdraw()
            raise trip
        return reading

    def perform(self, fence: int | None, command: str, /, **arguments: Any) -> Reading:
        """Check a command, carry it out, and look at what it led to.

        Parameters
        ----------
        fence
            Number of the lease that it comes from; None for the instrument's own, which may only withdraw.
        command
            Name of a method of the driver.
        arguments
            Its arguments.

        Raises
        ------
        LeaseError
            When a later lease has commanded the driver already.
        InterlockError
            When a rule forbids it.
        TripError
            When a signal left its allowed range: the tip has been withdrawn.
        """
        if command not in _CHECKS:
            raise DriverError(f"there is no command {command!r} of a driver: expected one of {', '.join(_CHECKS)}")
        if fence is not None or command != "withdraw":
            self._check_fence(fence)
        reading = self._driver.read()
        check_command(self._capabilities, self._interlocks, reading, command, arguments)
        if command == "move_to":
            arguments = complete(reading.position, **arguments)
        getattr(self._driver, command)(**arguments)
        return self.read()

    def start(self, fence: int, request: AcquisitionRequest, sink: TraceSink) -> Reading:
        """Begin an acquisition; channels that can trip are recorded with it and kept back."""
        self._check_fence(fence)
        check_acquisition(self._capabilities, self._interlocks, self._driver.read(), request)
        known = {channel.name for channel in self._capabilities.channels}
        extra = tuple(name for name in self._interlocks.trips if name in known and name not in request.channels)
        watched = replace(request, channels=(*request.channels, *extra))
        self._watch = _Watch(sink, self._interlocks, watched.channels, len(request.channels))
        if isinstance(watched, ScanRequest):
            self._driver.start_scan(watched, self._watch)
        elif isinstance(watched, PathRequest):
            self._driver.start_path(watched, self._watch)
        else:
            self._driver.start_spectroscopy(watched, self._watch)
        return self.read()

    def poll(self) -> tuple[bool, Reading]:
        """Carry the acquisition on.

        Raises
        ------
        TripError
            When a signal left its allowed range: the tip has been withdrawn.
        """
        more = self._driver.poll()
        if self._watch is not None and self._watch.trip is not None:
            trip = self._watch.trip
            self._withdraw()
            raise trip
        return more, self.read()

    def truth(self, low: tuple[float, float], high: tuple[float, float]) -> dict[str, Any]:
        """Ask the oracle."""
        self._capabilities.check_feature("oracle")
        truth: dict[str, Any] = self._driver.truth(low, high)  # type: ignore[attr-defined]
        return truth

    def stop(self) -> None:
        """Stop the driver."""
        self._driver.stop()

    def kill(self) -> bool:
        """Do nothing: a driver in this process cannot be ended without it."""
        return False

    def _withdraw(self) -> None:
        """Withdraw the tip, out of an acquisition if there is one."""
        self._watch = None
        self._driver.stop()
        self._driver.withdraw()

    def _check_fence(self, fence: int | None) -> None:
        if fence is None or fence < self._fence:
            raise LeaseError(
                f"a command of lease {fence} came after one of lease {self._fence}: it was refused, take control again",
                lease=fence,
            )
        self._fence = fence


class _Watch:
    """A sink that looks at what passes."""

    def __init__(self, sink: TraceSink, interlocks: Interlocks, names: Sequence[str], passed_on: int) -> None:
        self.trip: TripError | None = None
        self._sink = sink
        self._interlocks = interlocks
        self._names = names
        self._passed_on = passed_on

    def write(self, first: int, traces: np.ndarray) -> None:
        """Pass traces on, without the channels that nobody asked for."""
        if traces.ndim != 3 or traces.shape[1] != len(self._names):
            raise DriverError(
                f"the driver wrote traces of shape {traces.shape}: expected (n, {len(self._names)}, samples), for"
                f" {', '.join(self._names)}"
            )
        values = {name: traces[:, i] for i, name in enumerate(self._names)}
        self.trip = self.trip or self._interlocks.tripped(values)
        self._sink.write(first, traces[:, : self._passed_on])

    def warn(self, message: str) -> None:
        """Pass a sentence on."""
        self._sink.warn(message)


def complete(
    position: Position, x: float | None, y: float | None, z: float | None, speed: float | None
) -> dict[str, float | None]:
    """Fill in the coordinates of a move that are to stay."""
    return {
        "x": position.x if x is None else x,
        "y": position.y if y is None else y,
        "z": position.z if z is None else z,
        "speed": speed,
    }


def check_command(
    capabilities: Capabilities, interlocks: Interlocks, reading: Reading, command: str, arguments: Mapping[str, Any]
) -> None:
    """Raise the error that fits when a command must not be carried out now."""
    _CHECKS[command](capabilities, interlocks, reading, **arguments)


def check_acquisition(
    capabilities: Capabilities, interlocks: Interlocks, reading: Reading, request: AcquisitionRequest
) -> None:
    """Raise the error that fits when an acquisition must not be done now."""
    capabilities.check_request(request)
    interlocks.check_request(reading, request)
    if not isinstance(request, SpectroscopyRequest) and request.setpoint is not None:
        interlocks.check_signal(reading, setpoint_of(request.z_mode), request.setpoint, None)


def _check_move(
    capabilities: Capabilities,
    interlocks: Interlocks,
    reading: Reading,
    x: float | None = None,
    y: float | None = None,
    z: float | None = None,
    speed: float | None = None,
) -> None:
    given = {name: value for name, value in (("x", x), ("y", y), ("z", z)) if value is not None}
    capabilities.check_position(**given)
    limits = capabilities.limits.get("speed")
    if speed is not None and limits is not None:
        limits.check("speed", speed)
    if reading.feedback != FEEDBACK_OFF and z is not None:
        raise InterlockError(
            f"z = {z:.6g} m was asked for while the z-controller is on ({reading.feedback}): switch it off, or leave z"
            " out",
            name="z",
            value=z,
        )
    # Without a speed the driver takes its own, which is not known here: the rules hold for the fastest.
    fastest = math.inf if limits is None else limits.high
    interlocks.check_move(reading, replace(reading.position, **given), fastest if speed is None else speed)


def _check_write(
    capabilities: Capabilities,
    interlocks: Interlocks,
    reading: Reading,
    name: str,
    value: float,
    rate: float | None = None,
) -> None:
    capabilities.check_signal(name, value)
    interlocks.check_signal(reading, name, value, rate)


def _check_feedback(capabilities: Capabilities, interlocks: Interlocks, reading: Reading, mode: str) -> None:
    if mode != FEEDBACK_OFF:
        capabilities.check_feedback(mode)
        interlocks.check_place(reading)


def _check_coarse(capabilities: Capabilities, interlocks: Interlocks, reading: Reading, axis: str, steps: int) -> None:
    capabilities.check_feature("coarse_motion", coarse_steps=steps)
    interlocks.check_coarse(reading, axis, steps)


def _check_pulse(
    capabilities: Capabilities, interlocks: Interlocks, reading: Reading, voltage: float, duration: float
) -> None:
    del reading
    capabilities.check_feature("pulse", pulse_voltage=voltage, pulse_duration=duration)
    interlocks.check_permission("pulse")


def _check_shaping(
    capabilities: Capabilities, interlocks: Interlocks, reading: Reading, depth: float, voltage: float
) -> None:
    capabilities.check_feature("tip_shaping", tip_shaping_depth=depth, tip_shaping_voltage=voltage)
    interlocks.check_permission("tip_shaping")
    interlocks.check_place(reading)


def _check_exchange(capabilities: Capabilities, interlocks: Interlocks, reading: Reading, probe: str) -> None:
    del reading
    capabilities.check_probe(probe)
    interlocks.check_permission("tip_exchange")


def _check_approach(capabilities: Capabilities, interlocks: Interlocks, reading: Reading) -> None:
    del capabilities
    interlocks.check_place(reading)


def _always(capabilities: Capabilities, interlocks: Interlocks, reading: Reading) -> None:
    del capabilities, interlocks, reading


_CHECKS: Mapping[str, Callable[..., None]] = {
    "move_to": _check_move,
    "write": _check_write,
    "set_feedback": _check_feedback,
    "withdraw": _always,
    "approach": _check_approach,
    "coarse_move": _check_coarse,
    "pulse": _check_pulse,
    "shape_tip": _check_shaping,
    "exchange_tip": _check_exchange,
}
