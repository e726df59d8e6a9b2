"""Test benches: the same few calls for a driver in this process and for one behind a server."""

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from twinscope.capabilities import Capabilities
from twinscope.conformance.settings import Settings
from twinscope.conformance.sinks import StrictSink
from twinscope.conformance.work import Work
from twinscope.drivers.base import Driver
from twinscope.guard import Guard
from twinscope.interlocks import Interlocks
from twinscope.microscope import Microscope
from twinscope.requests import AcquisitionRequest
from twinscope.state import FEEDBACK_OFF, Reading, Status, TipState

LEASE = 1
"""Number of the lease with which the suite commands."""


class Bench(Protocol):
    """An open instrument on its test bench.

    Attributes
    ----------
    settings
        What is known of it.
    capabilities
        What it can do.
    work
        What is asked of it.
    """

    settings: Settings
    capabilities: Capabilities
    work: Work

    def read(self) -> Reading:
        """Look at it."""
        ...

    def perform(self, command: str, **arguments: Any) -> Reading:
        """Let it carry out a command of a driver, checked as in a server, and look at it."""
        ...

    def acquire(self, request: AcquisitionRequest) -> np.ndarray:
        """Acquire to the end; returns traces (traces, channels, samples)."""
        ...

    def end_acquisition(self) -> None:
        """End what an earlier test has left behind."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


def rest(bench: Bench) -> None:
    """Bring an instrument to where each test begins: near the sample, at the safe height, with its first signals."""
    bench.end_acquisition()
    reading = bench.read()
    if reading.tip is not TipState.IN_RANGE:
        reading = approach(bench)
    if reading.feedback != FEEDBACK_OFF:
        reading = bench.perform("set_feedback", mode=FEEDBACK_OFF)
    for name in bench.capabilities.settable:
        found = bench.work.found.signals[name]
        if reading.signals[name] != found:
            bench.perform("write", name=name, value=found)
    x, y = bench.work.center
    bench.perform("move_to", x=x, y=y, z=bench.work.height)


def approach(bench: Bench) -> Reading:
    """Bring the tip to its working height; one that has touched the sample comes from above."""
    if bench.read().tip is not TipState.IN_RANGE:
        bench.perform("withdraw")
    return bench.perform("approach")


class Direct:
    """A driver in this process, behind a guard as in a server."""

    def __init__(self, driver: Driver, settings: Settings) -> None:
        self.driver = driver
        self.settings = settings
        self._guard = Guard(driver, permissive())
        self.capabilities = self._guard.capabilities()
        self.work = Work(self.capabilities, settings, self._guard.open())

    def read(self) -> Reading:
        """Look at it."""
        return self._guard.read()

    def perform(self, command: str, **arguments: Any) -> Reading:
        """Let it carry out a command, and look at it."""
        if command == "move_to":
            arguments = dict.fromkeys(("x", "y", "z", "speed")) | arguments
        return self._guard.perform(LEASE, command, **arguments)

    def acquire(self, request: AcquisitionRequest) -> np.ndarray:
        """Acquire to the end."""
        sink = self.start(request)
        self.poll_to_the_end(sink)
        done = len(sink.array())
        assert done == request.trace_count, f"poll() said that it was over after {done} of {request.trace_count} traces"
        return sink.array()

    def start(self, request: AcquisitionRequest) -> StrictSink:
        """Begin an acquisition."""
        sink = StrictSink(request)
        self._guard.start(LEASE, request, sink)
        sink.active = False
        return sink

    def poll(self, sink: StrictSink) -> bool:
        """Carry it on."""
        sink.active = True
        more = self._guard.poll()[0]
        sink.active = False
        assert isinstance(more, bool), f"poll() returned {more!r}: expected True or False"
        return more

    def poll_to_the_end(self, sink: StrictSink) -> None:
        """Carry it on until it is over."""
        deadline = time.monotonic() + self.settings.timeout
        while self.poll(sink):
            assert time.monotonic() < deadline, (
                f"the acquisition was not over after {self.settings.timeout} s (timeout)"
            )

    def end_acquisition(self) -> None:
        """End what an earlier test has left behind."""
        self.driver.stop()

    def close(self) -> None:
        """Close it."""
        self._guard.close()


class Served:
    """A driver in a process of its own, commanded through the verbs of a server.

    Parameters
    ----------
    scope
        Its client.
    settings
        What is known of it.
    at_end
        Called when it has been closed.
    """

    def __init__(self, scope: Microscope, settings: Settings, at_end: Callable[[], object] = lambda: None) -> None:
        self.scope = scope
        self.settings = settings
        self._held = contextlib.ExitStack()
        self._held.callback(at_end)
        self._held.callback(scope.close)
        try:
            self.capabilities = scope.capabilities()
            assert scope.wait_ready(settings.timeout), f"the driver was not open after {settings.timeout} s (timeout)"
            self._held.enter_context(scope.control("conformance", duration=60.0))
            self.work = Work(self.capabilities, settings, self.read())
        except BaseException:
            self._held.close()
            raise

    def read(self) -> Reading:
        """Look at it."""
        state = self.scope.state()
        assert state.error is None, state.error
        assert state.position is not None
        return Reading(state.time, state.position, state.tip, state.signals, state.feedback, state.probe)

    def perform(self, command: str, **arguments: Any) -> Reading:
        """Let it carry out a command, and look at it."""
        verb = {"write": "set_signal"}.get(command, command)
        getattr(self.scope, verb)(**arguments)
        return self.read()

    def acquire(self, request: AcquisitionRequest) -> np.ndarray:
        """Acquire to the end."""
        acquisition = self.scope.acquire(request)
        assert acquisition.wait(self.settings.timeout), f"it was not over after {self.settings.timeout} s (timeout)"
        traces = [list(line.values.values()) for line in acquisition.lines()]
        return np.array(traces, dtype=np.float64)

    def end_acquisition(self) -> None:
        """End what an earlier test has left behind."""
        if self.scope.state().blocked is not None:
            self.scope.acknowledge()
        acquisition = self.scope.current_acquisition()
        if acquisition is not None and self.scope.state().status in (Status.ACQUIRING, Status.PAUSED):
            acquisition.abort()

    def close(self) -> None:
        """Close it."""
        self._held.close()


def permissive() -> Interlocks:
    """Return the interlocks that allow all features: the suite asks its settings before it tries one."""
    rules: Interlocks = Interlocks.from_dict(PERMISSIONS)
    return rules


PERMISSIONS: Mapping[str, Any] = {"allow": ["pulse", "tip_shaping", "tip_exchange"]}
"""The same as plain data."""
