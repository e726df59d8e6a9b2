"""The microscope, as a script sees it."""

import logging
import math
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from twinscope.acquisition import Acquisition
from twinscope.capabilities import Capabilities
from twinscope.errors import LeaseError, TwinscopeError
from twinscope.events import Event
from twinscope.protocol import LONGEST_WAIT, Transport
from twinscope.requests import (
    CONSTANT_HEIGHT,
    AcquisitionRequest,
    PathRequest,
    ScanFrame,
    ScanRequest,
    SpectroscopyRequest,
    Sweep,
    line_positions,
    setpoint_of,
)
from twinscope.state import InstrumentState, Position

log = logging.getLogger(__name__)


class Microscope:
    """A scanning-probe microscope: a digital twin or a real one, in this process or behind a server.

    ``Microscope(driver="simulator", sample="ptcda")`` runs an instrument in this process;
    :func:`twinscope.connect` gives the same object for one that a server runs.

    Parameters
    ----------
    driver
        Name of an installed driver.
    directory
        Where acquisitions are stored.
    interlocks
        Rules that keep the tip safe: the fields of :class:`~twinscope.interlocks.Interlocks`.
    transport
        A way to an instrument that runs already; the other parameters are of no concern then.
    options
        Options of the driver.

    Raises
    ------
    ConfigurationError
        When there is no such driver, or an option is wrong.
    """

    def __init__(
        self,
        driver: str = "simulator",
        *,
        directory: str | Path = "twinscope-data",
        interlocks: Mapping[str, Any] | None = None,
        transport: Transport | None = None,
        **options: Any,
    ) -> None:
        if transport is None:
            # The instrument is not part of what a client has to load.
            from twinscope.local import start_instrument

            transport = start_instrument(driver, Path(directory), options, interlocks or {})
        self._transport = transport
        self._control: _Control | None = None
        self._capabilities: Capabilities | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back control, if held, and close the connection; an instrument in this process is shut down."""
        if self._control is not None:
            self._control.release()
            self._control = None
        self._transport.close()

    # ------------------------------------------------------------------ looking: for everyone, at any time

    def capabilities(self) -> Capabilities:
        """Tell what the instrument can do: channels, units, limits."""
        if self._capabilities is None:
            self._capabilities = Capabilities.from_dict(self._transport.call("capabilities").result)
        return self._capabilities

    def state(self) -> InstrumentState:
        """Tell what the instrument is doing."""
        return InstrumentState.from_dict(self._transport.call("state").result)

    def wait_ready(self, timeout: float | None = None) -> bool:
        """Wait until the instrument has warmed up; False when `timeout` seconds were over first.

        There is no need to: what is asked for meanwhile is done when it has.
        """
        deadline = _Deadline(timeout)
        while not self._transport.call("wait_ready", {"timeout": deadline.step()}).result:
            if deadline.over:
                return False
        return True

    def events(self, timeout: float | None = None) -> "Iterator[Event | Missed]":
        """Iterate over what happens from now on: changes of the state, of jobs and of the lease, new traces, trips.

        A watcher that is slow, or that loses the connection for a while, misses nothing as long as the server still has
        it; what is gone is announced by a :class:`Missed`.

        Parameters
        ----------
        timeout
            End after so many seconds without an event; None never ends.
        """
        # From the call on, not only from when the first event is asked for.
        return self._events_after(self._transport.call("events").result["cursor"], timeout)

    def jobs(self) -> "list[Mapping[str, Any]]":
        """List the jobs that the instrument remembers, motions included, the latest last."""
        answer: list[Mapping[str, Any]] = self._transport.call("jobs").result
        return answer

    def find(self, **criteria: Any) -> "list[Mapping[str, Any]]":
        """Find acquisitions in the server's catalogue, the latest first.

        Parameters
        ----------
        criteria
            kind, state, channel, operator, purpose (a part of it), since and until (ISO 8601), within (x0, y0, x1, y1,
            in m), limit, offset.
        """
        answer: list[Mapping[str, Any]] = self._transport.call("find", {"criteria": criteria}).result
        return answer

    def current_acquisition(self) -> Acquisition | None:
        """Return the acquisition in progress, whoever began it, or else the last one; None before the first."""
        identifier = self.state().acquisition
        return None if identifier is None else self.acquisition(identifier)

    def acquisition(self, identifier: str) -> Acquisition:
        """Return an acquisition by its id.

        Raises
        ------
        NotFoundError
            When the instrument does not remember it.
        """
        return self._handle(self._transport.call("acquisition", {"id": identifier}).result)

    def oracle(self, low: tuple[float, float], high: tuple[float, float]) -> "Mapping[str, Any]":
        """Ask a simulator that has an oracle for the truth between two corners (x, y), in m: to score, not to see.

        Needs the role admin, and a simulator with the option ``oracle=True``.
        """
        answer: Mapping[str, Any] = self._transport.call("oracle", {"low": low, "high": high}).result
        return answer

    # ------------------------------------------------------------------ control

    @contextmanager
    def control(self, purpose: str = "", *, duration: float = 10.0, wait: float = 0.0) -> Iterator[None]:
        """Hold the instrument: only its holder can move the tip and acquire.

        Parameters
        ----------
        purpose
            What others are told.
        duration
            Seconds after which the instrument is free again when this process has died. While it lives, the lease is
            renewed in the background.
        wait
            Seconds to wait for someone else to let go.

        Raises
        ------
        LeaseError
            When someone else holds it.
        """
        if self._control is not None:
            raise LeaseError("this microscope is held already: control() is not to be nested")
        self._control = _Control(self._transport, purpose, duration, wait)
        try:
            yield
        finally:
            if self._control is not None:
                self._control.release()
                self._control = None

    def break_control(self) -> None:
        """Take control from whoever has it; needs the role admin."""
        self._transport.call("break_lease")

    def emergency_stop(self, reason: str = "") -> None:
        """Stop everything and withdraw the tip, whoever holds the instrument; returns when the tip is withdrawn.

        Nothing moves then until an operator calls :meth:`acknowledge`.
        """
        self._finish(self._transport.call("emergency_stop", {"reason": reason}).result)

    # ------------------------------------------------------------------ doing: within control()

    def acknowledge(self) -> None:
        """Let the tip move again after an emergency stop, a failed driver or a server that was ended.

        ``state().blocked`` says what has happened. Look where the tip is first.
        """
        self._transport.call("acknowledge", lease=self._lease())

    def restart(self) -> None:
        """Start a driver again that has failed for good."""
        self._do("restart")

    def move_to(
        self, x: float | None = None, y: float | None = None, z: float | None = None, *, speed: float | None = None
    ) -> Position:
        """Move the tip along a straight line to a position in m and return where it is; what is not given stays.

        Parameters
        ----------
        x, y, z
            Where to, in m. With the z-controller on, z is not to be given.
        speed
            In m/s; None for that of the instrument.

        Raises
        ------
        OutOfRangeError
            When the position is outside the limits; the tip has not moved then.
        InterlockError
            When a rule forbids it; the tip has not moved then.
        AbortedError
            When the move was stopped.
        """
        wanted = {"x": x, "y": y, "z": z, "speed": speed}
        return self._move("move_to", **{name: value for name, value in wanted.items() if value is not None})

    def withdraw(self) -> Position:
        """Take the tip away from the sample, whatever the instrument is doing."""
        return self._move("withdraw")

    def approach(self) -> Position:
        """Bring the tip to its working height."""
        return self._move("approach")

    def stop(self) -> None:
        """Stop what is in progress, a motion or an acquisition; returns when the instrument stands still.

        The tip stays where it is then. When nothing is in progress, nothing is done.
        """
        job = self.state().job
        if job is not None:
            self._transport.call("abort", {"id": job}, lease=self._lease())

    def set_signal(self, name: str, value: float, *, rate: float | None = None) -> None:
        """Set a signal, at once or with a rate in its unit per second; returns when it is there.

        Raises
        ------
        InvalidRequestError, OutOfRangeError, InterlockError
            When it cannot be set, or not so; it has not changed then.
        """
        self._do("set_signal", name=name, value=value, rate=rate)

    def set_feedback(self, mode: str, *, setpoint: float | None = None) -> None:
        """Let the z-controller hold something constant, or switch it off.

        Parameters
        ----------
        mode
            "constant_frequency_shift", "constant_current", or "off", which leaves the tip where it is.
        setpoint
            In the unit of what is held constant; None for the present one.
        """
        if setpoint is not None:
            self.set_signal(setpoint_of(mode), setpoint)
        self._do("set_feedback", mode=mode)

    def coarse_move(self, axis: str, steps: int) -> None:
        """Step the coarse motor along x or y, or along z: away from the sample with positive steps."""
        self._do("coarse_move", axis=axis, steps=steps)

    def pulse(self, voltage: float, duration: float) -> None:
        """Apply a bias of `voltage` V for `duration` s. It can change the tip, so the interlocks must allow it."""
        self._do("pulse", voltage=voltage, duration=duration)

    def shape_tip(self, depth: float, voltage: float = 0.0) -> None:
        """Dip the tip `depth` m into the sample, with `voltage` V. The interlocks must allow it."""
        self._do("shape_tip", depth=depth, voltage=voltage)

    def exchange_tip(self, probe: str) -> None:
        """Put something else at the end of the tip, one of `Capabilities.probes`; the tip is withdrawn afterwards.

        `state().probe` tells what is there. The interlocks must allow it.
        """
        self._do("exchange_tip", probe=probe)

    def check(self, verb: str, **parameters: Any) -> None:
        """Ask whether the instrument would do something now, without doing it: a dry run.

        Parameters
        ----------
        verb, parameters
            A verb that changes something, and what it takes: ``check("move_to", x=1e-9)``. For an acquisition:
            ``check("acquire", request=request)``.

        Raises
        ------
        TwinscopeError
            The error that the verb would raise.
        """
        request = parameters.pop("request", None)
        if request is not None:
            parameters |= {"kind": request.kind, "request": request.to_dict()}
        self._transport.call(verb, parameters, lease=self._lease(), dry_run=True)

    def scan(
        self,
        *,
        frame: ScanFrame,
        pixels: tuple[int, int],
        channels: Sequence[str],
        heights: Sequence[float] | None = None,
        direction: str = "forward",
        slow_direction: str = "up",
        line_time: float = 1.0,
        z_mode: str = CONSTANT_HEIGHT,
        setpoint: float | None = None,
        on_lease_loss: str = "continue",
    ) -> Acquisition:
        """Begin to scan an image, or a stack of them; the parameters are those of :class:`ScanRequest`.

        Parameters
        ----------
        on_lease_loss
            What happens when this client falls silent: "continue", "pause" or "abort_and_withdraw".

        Raises
        ------
        InvalidRequestError, OutOfRangeError, UnknownChannelError
            When it cannot be done; nothing was begun then.
        BusyError
            When something else is in progress.
        """
        request = {
            "frame": frame,
            "pixels": pixels,
            "channels": _names(channels),
            "heights": heights,
            "direction": direction,
            "slow_direction": slow_direction,
            "line_time": line_time,
            "z_mode": z_mode,
            "setpoint": setpoint,
        }
        return self.acquire(ScanRequest.from_dict(request), on_lease_loss=on_lease_loss)

    def scan_path(
        self,
        positions: Iterable[tuple[float, float]],
        *,
        channels: Sequence[str] = ("frequency_shift",),
        passes: int = 1,
        separate: bool = False,
        lift: float = 0.0,
        height: float | None = None,
        point_time: float = 0.01,
        z_mode: str = CONSTANT_HEIGHT,
        setpoint: float | None = None,
        on_lease_loss: str = "continue",
    ) -> Acquisition:
        """Begin to measure along a path, or at separate points; the parameters are those of :class:`PathRequest`.

        Raises
        ------
        InvalidRequestError, OutOfRangeError, UnknownChannelError, InterlockError
            When it cannot be done; nothing was begun then.
        BusyError
            When something else is in progress.
        """
        request = {
            "positions": positions,
            "channels": _names(channels),
            "passes": passes,
            "separate": separate,
            "lift": lift,
            "height": height,
            "point_time": point_time,
            "z_mode": z_mode,
            "setpoint": setpoint,
        }
        return self.acquire(PathRequest.from_dict(request), on_lease_loss=on_lease_loss)

    def scan_line(
        self, start: tuple[float, float], stop: tuple[float, float], points: int, **parameters: Any
    ) -> Acquisition:
        """Begin to measure along a straight line of equidistant points; see :meth:`scan_path`."""
        return self.scan_path(line_positions(start, stop, points), **parameters)

    def spectroscopy(
        self,
        swept: str = "z",
        *,
        positions: Iterable[tuple[float, float]],
        sweep: Sweep,
        channels: Sequence[str] = ("frequency_shift",),
        height: float | None = None,
        point_time: float = 0.02,
        on_lease_loss: str = "continue",
    ) -> Acquisition:
        """Begin to take spectra; the parameters are those of :class:`SpectroscopyRequest`.

        For a grid of spectra, take the positions from :meth:`ScanFrame.grid`.

        Raises
        ------
        InvalidRequestError, OutOfRangeError, UnknownChannelError
            When it cannot be done; nothing was begun then.
        BusyError
            When something else is in progress.
        """
        request = {
            "swept": swept,
            "positions": positions,
            "sweep": sweep,
            "channels": _names(channels),
            "height": height,
            "point_time": point_time,
        }
        return self.acquire(SpectroscopyRequest.from_dict(request), on_lease_loss=on_lease_loss)

    def acquire(self, request: AcquisitionRequest, *, on_lease_loss: str = "continue") -> Acquisition:
        """Begin what a request asks for."""
        parameters = {"kind": request.kind, "request": request.to_dict(), "on_lease_loss": on_lease_loss}
        return self._handle(self._transport.call("acquire", parameters, lease=self._lease()).result)

    # ------------------------------------------------------------------ inside

    def _events_after(self, cursor: Mapping[str, Any], timeout: float | None) -> "Iterator[Event | Missed]":
        deadline = _Deadline(timeout)
        while True:
            answer = self._transport.call("events", {"cursor": cursor, "timeout": deadline.step()}).result
            cursor = answer["cursor"]
            if answer["missed"] != 0:
                yield Missed(answer["missed"])
            for event in answer["events"]:
                yield Event(**event)
            if answer["events"]:
                deadline = _Deadline(timeout)
            elif deadline.over:
                return

    def _lease(self) -> int | None:
        return None if self._control is None else self._control.number

    def _handle(self, answer: dict[str, Any]) -> Acquisition:
        return Acquisition(self._transport, answer["metadata"], answer["progress"], self._lease)

    def _do(self, verb: str, **parameters: Any) -> None:
        """Begin something and wait for its end."""
        self._finish(self._transport.call(verb, parameters, lease=self._lease()).result)

    def _move(self, verb: str, **parameters: Any) -> Position:
        self._do(verb, **parameters)
        position = self.state().position
        if position is None:
            raise TwinscopeError("the instrument does not know where its tip is after a move")
        return position

    def _finish(self, progress: Mapping[str, Any]) -> None:
        """Wait for the end of a job and raise what went wrong with it."""
        over = False
        while not over:
            progress = self._transport.call("wait_job", {"id": progress["id"], "timeout": LONGEST_WAIT}).result
            over = progress["over"]
        if progress["error"] is not None:
            raise TwinscopeError.from_dict(progress["error"])


@dataclass(frozen=True, slots=True)
class Missed:
    """A gap between events.

    Attributes
    ----------
    count
        How many events are gone; None when the server was restarted and nobody knows.
    """

    count: int | None


class _Deadline:
    """Time that is left for a wait, in steps that one call may take."""

    def __init__(self, timeout: float | None) -> None:
        self._end = math.inf if timeout is None else time.monotonic() + timeout

    def step(self) -> float:
        """Return how long the next call may wait, in s."""
        return min(max(self._end - time.monotonic(), 0.0), LONGEST_WAIT)

    @property
    def over(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() >= self._end


class _Control:
    """A lease that is renewed in the background."""

    def __init__(self, transport: Transport, purpose: str, duration: float, wait: float) -> None:
        self._transport = transport
        deadline = time.monotonic() + wait
        while True:
            try:
                grant = transport.call("acquire_lease", {"purpose": purpose, "duration": duration}).result
                break
            except LeaseError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.2)
        self.number: int = grant["lease"]
        self._interval = grant["duration"] / 3
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Give the instrument back."""
        self._released.set()
        self._thread.join()
        try:
            self._transport.call("release_lease", lease=self.number)
        except TwinscopeError as exc:
            # The lease ends by itself; an error here would hide the one that brought us here.
            log.warning("control could not be given back, it expires by itself: %s", exc)

    def _renew(self) -> None:
        while not self._released.wait(self._interval):
            try:
                self._transport.call("renew_lease", lease=self.number)
            except LeaseError as exc:
                log.warning("control of the instrument was lost: %s", exc)
                return
            except TwinscopeError as exc:
                log.warning("control of the instrument could not be renewed: %s", exc)


def _names(channels: Sequence[str]) -> Sequence[str]:
    """Accept one name where a list is meant."""
    return [channels] if isinstance(channels, str) else channels


def connect(
    address: str = "localhost",
    *,
    token: str | None = None,
    keys: str | Path | None = None,
    timeout: float = 10.0,
) -> Microscope:
    """Connect to a microscope that a server runs.

    Parameters
    ----------
    address
        "host", "host:port", "unix:/path" or the URI that ``twinscope serve`` prints.
    token
        What the server asks for, if it does; taken from the environment variable TWINSCOPE_TOKEN when not given.
    keys
        For a server with TLS: the folder that ``twinscope keys client`` has made, or the file ca.pem of the server;
        taken from the environment variable TWINSCOPE_KEYS when not given.
    timeout
        Seconds without an answer after which the server counts as lost.

    Raises
    ------
    ServerUnreachableError
        When there is no answer.
    AuthenticationError
        When one of the two does not know the other: the token or the keys are not those of this server.
    InvalidRequestError, ConfigurationError
        When the address cannot be one, or the keys cannot be used.
    """
    from twinscope.network.remote import PyroTransport

    token = token or os.environ.get("TWINSCOPE_TOKEN")
    keys = keys or os.environ.get("TWINSCOPE_KEYS") or None
    return Microscope(transport=PyroTransport(address, token, timeout, keys=keys))
