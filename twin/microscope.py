"""The microscope, as a script sees it."""

import getpass
import logging
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from twinscope.acquisition import Acquisition
from twinscope.capabilities import Capabilities
from twinscope.errors import LeaseError, TwinscopeError
from twinscope.protocol import LONGEST_WAIT, Transport
from twinscope.requests import AcquisitionRequest, ScanFrame, ScanRequest, SpectroscopyRequest, Sweep
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
        transport: Transport | None = None,
        **options: Any,
    ) -> None:
        if transport is None:
            # The instrument is not part of what a client has to load.
            from twinscope.local import start_instrument

            transport = start_instrument(driver, Path(directory), options)
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
        return self._repeat("wait_ready", timeout)

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
        return self._handle(self._transport.call("acquisition", id=identifier).result)

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

    # ------------------------------------------------------------------ doing: within control()

    def move_to(self, x: float | None = None, y: float | None = None, z: float | None = None) -> Position:
        """Move the tip along a straight line to a position in m and return where it is; what is not given stays.

        Raises
        ------
        OutOfRangeError
            When the position is outside the limits; the tip has not moved then.
        AbortedError
            When the move was stopped.
        """
        wanted = {name: value for name, value in (("x", x), ("y", y), ("z", z)) if value is not None}
        return self._move("move_to", **wanted)

    def withdraw(self) -> Position:
        """Take the tip away from the sample, whatever the instrument is doing."""
        return self._move("withdraw")

    def approach(self) -> Position:
        """Bring the tip to its working height."""
        return self._move("approach")

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
    ) -> Acquisition:
        """Begin to scan an image, or a stack of them; the parameters are those of :class:`ScanRequest`.

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
        }
        return self.acquire(ScanRequest.from_dict(request))

    def spectroscopy(
        self,
        swept: str = "z",
        *,
        positions: Iterable[tuple[float, float]],
        sweep: Sweep,
        channels: Sequence[str] = ("frequency_shift",),
        point_time: float = 0.02,
    ) -> Acquisition:
        """Begin to take spectra; the parameters are those of :class:`SpectroscopyRequest`.

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
            "point_time": point_time,
        }
        return self.acquire(SpectroscopyRequest.from_dict(request))

    def acquire(self, request: AcquisitionRequest) -> Acquisition:
        """Begin what a request asks for."""
        reply = self._transport.call("acquire", lease=self._lease(), kind=request.kind, request=request.to_dict())
        return self._handle(reply.result)

    # ------------------------------------------------------------------ inside

    def _lease(self) -> str | None:
        return None if self._control is None else self._control.key

    def _handle(self, answer: dict[str, Any]) -> Acquisition:
        return Acquisition(self._transport, answer["metadata"], answer["progress"], self._lease)

    def _move(self, name: str, **parameters: Any) -> Position:
        motion = self._transport.call(name, lease=self._lease(), **parameters).result
        self._repeat("wait_motion", None, motion=motion)
        position = self.state().position
        if position is None:
            raise TwinscopeError("the instrument does not know where its tip is after a move")
        return position

    def _repeat(self, name: str, timeout: float | None, **parameters: Any) -> bool:
        """Call a verb that waits until it says yes; False when `timeout` seconds were over first."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = LONGEST_WAIT if deadline is None else max(deadline - time.monotonic(), 0)
            if self._transport.call(name, timeout=min(left, LONGEST_WAIT), **parameters).result:
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False


class _Control:
    """A lease that is renewed in the background."""

    def __init__(self, transport: Transport, purpose: str, duration: float, wait: float) -> None:
        self._transport = transport
        holder = f"{getpass.getuser()}@{socket.gethostname()}:{os.getpid()}"
        deadline = time.monotonic() + wait
        while True:
            try:
                grant = transport.call("acquire_lease", holder=holder, purpose=purpose, duration=duration).result
                break
            except LeaseError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.2)
        self.key: str = grant["lease"]
        self._interval = grant["duration"] / 3
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Give the instrument back."""
        self._released.set()
        self._thread.join()
        try:
            self._transport.call("release_lease", lease=self.key)
        except TwinscopeError as exc:
            # The lease ends by itself; an error here would hide the one that brought us here.
            log.warning("control could not be given back, it expires by itself: %s", exc)

    def _renew(self) -> None:
        while not self._released.wait(self._interval):
            try:
                self._transport.call("renew_lease", lease=self.key)
            except LeaseError as exc:
                log.warning("control of the instrument was lost: %s", exc)
                return
            except TwinscopeError as exc:
                log.warning("control of the instrument could not be renewed: %s", exc)


def _names(channels: Sequence[str]) -> Sequence[str]:
    """Accept one name where a list is meant."""
    return [channels] if isinstance(channels, str) else channels


def connect(address: str = "localhost", *, token: str | None = None, timeout: float = 10.0) -> Microscope:
    """Connect to a microscope that a server runs.

    Parameters
    ----------
    address
        "host", "host:port" or the URI that ``twinscope serve`` prints.
    token
        What the server asks for, if it does; taken from the environment variable TWINSCOPE_TOKEN when not given.
    timeout
        Seconds without an answer after which the server counts as lost.

    Raises
    ------
    ServerUnreachableError
        When there is no answer.
    AuthenticationError
        When the server asks for another token.
    InvalidRequestError
        When the address cannot be one.
    """
    from twinscope.remote import PyroTransport

    return Microscope(transport=PyroTransport(address, token or os.environ.get("TWINSCOPE_TOKEN"), timeout))
