"""The Nanonis controller as a driver."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from twinscope.capabilities import ACQUISITIONS, Capabilities
from twinscope.drivers.base import TraceSink
from twinscope.drivers.nanonis.actions import Actions
from twinscope.drivers.nanonis.connection import decimal
from twinscope.drivers.nanonis.controller import Controller
from twinscope.drivers.nanonis.description import Description, describe
from twinscope.drivers.nanonis.head import Head
from twinscope.drivers.nanonis.options import NanonisOptions
from twinscope.drivers.nanonis.sampling import PathRun
from twinscope.drivers.nanonis.scanning import ScanRun
from twinscope.drivers.nanonis.spectra import SpectroscopyRun
from twinscope.errors import DriverError
from twinscope.requests import PathRequest, ScanRequest, SpectroscopyRequest
from twinscope.state import FEEDBACK_OFF, Reading

log = logging.getLogger(__name__)

_BIAS = "bias"
_GET_BIAS = ("Bias.Get", "bias_value")
# A signal that is set with a rate is set in steps of this time, in s.
_STEP_TIME = 0.02


class Nanonis:
    """A Nanonis controller; see :class:`~twinscope.drivers.base.Driver` for the methods.

    Parameters
    ----------
    options
        The fields of :class:`~twinscope.drivers.nanonis.options.NanonisOptions`.

    Raises
    ------
    ConfigurationError
        When an option is wrong.

    Notes
    -----
    A command that changes something is never sent twice. When an answer does not come, or cannot be understood, nobody
    knows what was done: the connection is closed, everything but :meth:`withdraw` raises
    :class:`~twinscope.errors.DriverError` from then on, and :meth:`open` connects and looks anew.
    """

    name: ClassVar[str] = "nanonis"
    vendor: ClassVar[str] = "SPECS"
    summary: ClassVar[str] = "a Nanonis controller by its TCP programming interface; never tried on a real one"
    api_versions: ClassVar[tuple[int, int]] = (1, 1)
    options_type: ClassVar[type[NanonisOptions]] = NanonisOptions
    provides: ClassVar[tuple[str, ...]] = (
        *ACQUISITIONS,
        "sweep_z",
        "sweep_bias",
        "constant_frequency_shift",
        "constant_current",
        "coarse_motion",
        "pulse",
        "tip_shaping",
    )

    def __init__(self, **options: Any) -> None:
        self.options = NanonisOptions.from_keywords(options)
        self._controller = Controller(self.options)
        self._description: Description | None = None
        self._head: Head | None = None
        self._run: ScanRun | PathRun | SpectroscopyRun | None = None
        self._born = time.monotonic()

    # ------------------------------------------------------------------ life

    def open(self) -> None:
        """Connect, and look at everything; what is lost is connected anew."""
        if self._head is not None and self._controller.connected:
            return
        self._controller.begin()
        self._controller.connect()
        try:
            description = self._described()
            if self.options.require_safe_tip:
                self._check_safe_tip()
            head = Head(self._controller, description, self.options)
            head.begin()
        except BaseException:
            self._controller.disconnect()
            raise
        self._run = None
        self._head = head

    def close(self) -> None:
        """Stop an acquisition in progress, and disconnect."""
        self._abandon_run()
        self._head = None
        self._controller.disconnect()

    def capabilities(self) -> Capabilities:
        """Ask the controller what it can do; connects for that when the driver is not open."""
        if self._description is not None:
            return self._description.capabilities
        connected = self._controller.connected
        self._controller.connect()
        try:
            return self._described().capabilities
        finally:
            if not connected:
                self._controller.disconnect()

    def _described(self) -> Description:
        if self._description is None:
            self._description = describe(self._controller, self.options, self.name)
        return self._description

    def _check_safe_tip(self) -> None:
        if not self._controller.call("SafeTip.OnOffGet")["safe_tip_status"]:
            raise DriverError("Safe Tip is not armed: arm it in the Nanonis software, or do not require it")

    # ------------------------------------------------------------------ looking and setting

    def read(self) -> Reading:
        """Ask the controller where the tip is, for its signals and what it holds constant."""
        head, description = self._opened()
        position = head.position()
        feedback = head.z_controller.mode
        signals = {_BIAS: self._controller.number(*_GET_BIAS)} | head.z_controller.setpoints()
        if description.live:
            values = self._controller.values([description.signals[name].index for name in description.live])
            signals |= {name: decimal(value) for name, value in zip(description.live, values, strict=True)}
        return Reading(time.monotonic() - self._born, position, head.tip_state(position, feedback), signals, feedback)

    def write(self, name: str, value: float, rate: float | None = None) -> None:
        """Set the bias or a setpoint; with a rate in steps."""
        head, _ = self._opened()
        # An acquisition in progress goes on with it: a stop that was asked for is still to be heard by it.
        if self._run is None:
            self._controller.begin()
        if rate is None:
            self._set(head, name, value)
            return
        start = self._value(head, name)
        steps = max(math.ceil(abs(value - start) / (rate * _STEP_TIME)), 1)
        for step in range(1, steps + 1):
            if self._controller.interrupt.wait(abs(value - start) / rate / steps):
                return
            self._set(head, name, value if step == steps else start + (value - start) * step / steps)

    def _value(self, head: Head, name: str) -> float:
        if name == _BIAS:
            return self._controller.number(*_GET_BIAS)
        value = head.z_controller.setpoints()[name]
        if math.isnan(value):
            raise DriverError(f"{name} was never read: set it once without a rate", name=name)
        return value

    def _set(self, head: Head, name: str, value: float) -> None:
        if name == _BIAS:
            self._controller.call("Bias.Set", bias_value=value)
        else:
            head.z_controller.set_setpoint(name, value)

    def set_feedback(self, mode: str) -> None:
        """Switch the z-controller."""
        self._begin().z_controller.switch(mode)

    # ------------------------------------------------------------------ moving

    def move_to(self, x: float, y: float, z: float, speed: float | None = None) -> None:
        """Move along x and y in a straight line, and along z before it when that is up, or after it when it is down."""
        head = self._begin()
        controlled = head.z_controller.mode != FEEDBACK_OFF
        head.travel(x, y, None if controlled else z, speed)

    def withdraw(self) -> None:
        """Withdraw the tip; when the connection is lost, over a new one."""
        head, _ = self._opened()
        self._abandon_run()
        self._controller.begin()
        head.withdraw()

    def approach(self) -> None:
        """Let the controller approach; its z-controller is on afterwards."""
        self._begin().approach()

    def coarse_move(self, axis: str, steps: int) -> None:
        """Step the coarse motor."""
        self._begin()
        self._actions().coarse_move(axis, steps)

    def pulse(self, voltage: float, duration: float) -> None:
        """Apply a bias pulse, with the z-controller on hold."""
        self._begin()
        self._actions().pulse(voltage, duration)

    def shape_tip(self, depth: float, voltage: float) -> None:
        """Let the tip shaper dip the tip."""
        self._begin()
        self._actions().shape_tip(depth, voltage)

    def stop(self) -> None:
        """Tell the controller to stop, over a connection of its own."""
        self._controller.stop()

    # ------------------------------------------------------------------ acquiring

    def start_scan(self, request: ScanRequest, sink: TraceSink) -> None:
        """Set the scan up and begin."""
        head, description = self._begin(), self._described()
        self._start(ScanRun(self._controller, head, description, self.options, request, sink))

    def start_path(self, request: PathRequest, sink: TraceSink) -> None:
        """Go to the first place."""
        head, description = self._begin(), self._described()
        self._start(PathRun(self._controller, head, description, request, sink))

    def start_spectroscopy(self, request: SpectroscopyRequest, sink: TraceSink) -> None:
        """Set the sweep up and go to the first position."""
        head, description = self._begin(), self._described()
        self._start(SpectroscopyRun(self._controller, head, description, self.options, request, sink))

    def poll(self) -> bool:
        """Wait for the next traces."""
        self._opened()
        if self._run is None:
            raise DriverError("there is no acquisition to carry on: start one")
        with self._stopped_on_failure():
            more = self._run.poll()
        if not more:
            self._run = None
            self._controller.stop_by()
        return more

    def _start(self, run: ScanRun | PathRun | SpectroscopyRun) -> None:
        self._run = run
        with self._stopped_on_failure():
            run.start()

    @contextmanager
    def _stopped_on_failure(self) -> Iterator[None]:
        """Stop the controller when something goes wrong: it would go on."""
        try:
            yield
        except BaseException:
            self._run = None
            self._controller.stop()
            self._controller.stop_by()
            raise

    # ------------------------------------------------------------------ inside

    def _opened(self) -> tuple[Head, Description]:
        if self._head is None or self._description is None:
            raise DriverError("the driver of the Nanonis controller is closed: open it")
        return self._head, self._description

    def _begin(self) -> Head:
        """Begin a command, which ends the acquisition in progress."""
        head, _ = self._opened()
        self._end_run()
        self._controller.begin()
        return head

    def _abandon_run(self) -> None:
        """End the acquisition in progress, as far as that is possible."""
        try:
            self._end_run()
        except DriverError as exc:
            log.error("the acquisition in progress could not be ended: %s", exc)

    def _end_run(self) -> None:
        """End the acquisition in progress."""
        run, self._run = self._run, None
        try:
            if run is not None:
                self._controller.stop()
                run.end()
        finally:
            self._controller.stop_by()

    def _actions(self) -> Actions:
        return Actions(self._controller, self.options)
