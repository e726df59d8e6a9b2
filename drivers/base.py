"""The driver interface: what the instrument asks of a driver, and what it hands to it; docs/drivers.md teaches it."""

from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from twinscope.capabilities import Capabilities
from twinscope.drivers.options import DriverOptions
from twinscope.requests import PathRequest, ScanRequest, SpectroscopyRequest
from twinscope.state import Reading

API_VERSION = 1
"""Number of this interface. It grows when a driver that was written for the one before cannot be used any more."""


class TraceSink(Protocol):
    """Where a driver puts what it measures. The instrument stores it before any client sees it.

    A driver writes within :meth:`Driver.start_scan` and its like, and within :meth:`Driver.poll`, from the thread that
    calls these, and at no other time.
    """

    def write(self, first: int, traces: np.ndarray) -> None:
        """Take the next traces, in the order in which they were measured.

        Each trace is written once, when it is whole, and none that was not measured: what is missing at the end of an
        acquisition that was stopped is NaN in its file without the driver's doing. The array may be used again for the
        next traces.

        Parameters
        ----------
        first
            Number of the first trace: the traces of an acquisition are counted from 0, so it is how many were written
            before. :meth:`~twinscope.requests.ScanRequest.address` tells which row, direction and layer a number is.
        traces
            Shape (n, channels, samples), channels in the order of the request, in their units. The samples of a trace
            are in the order of their positions: a backward line is *not* reversed, its first sample is that of the
            first pixel of the row, as in the forward line.
        """
        ...

    def warn(self, message: str) -> None:
        """Attach a sentence for people to the data."""
        ...


@runtime_checkable
class Driver(Protocol):
    """A microscope, seen from the instrument.

    The constructor takes the driver's options as keywords, checks them all and raises
    :class:`~twinscope.errors.ConfigurationError` with the name of the wrong one; it does not touch hardware.
    One thread calls everything but :meth:`stop`. The order of a life is: constructor, :meth:`capabilities`,
    :meth:`open`, everything else, :meth:`close`, and perhaps :meth:`open` again. Values are checked against the limits
    and the interlocks before the driver sees them, and what the capabilities do not list is never asked for. Whatever
    else goes wrong is raised as :class:`~twinscope.errors.DriverError`. A driver knows nothing of sessions, files and
    networks: it fills the sinks that it is handed.

    What takes time (:meth:`write` to :meth:`approach`, and what optional features do) returns when it is over, or soon
    after :meth:`stop`. Whatever begins, a command or an acquisition, ends the acquisition before it, which after a stop
    need not have been polled to its end, and forgets the stops that came before it.

    All values are in SI units, and all times are of the instrument. A simulator takes all chance from its seed.
    ``pytest --twinscope-driver=NAME`` checks a driver for all of this (:mod:`twinscope.conformance`).

    Attributes
    ----------
    name, vendor, summary
        For people; the name is that of the entry point.
    api_versions
        The lowest and the highest :data:`API_VERSION` that the driver was written for.
    options_type
        A frozen dataclass with the options that the constructor takes.
    provides
        What the driver may have, depending on its options and on its instrument: of
        :attr:`~twinscope.capabilities.Capabilities.traits`. For listings; the capabilities decide.
    """

    name: ClassVar[str]
    vendor: ClassVar[str]
    summary: ClassVar[str]
    api_versions: ClassVar[tuple[int, int]]
    options_type: ClassVar[type[DriverOptions]]
    provides: ClassVar[tuple[str, ...]]

    def __init__(self, **options: Any) -> None: ...

    def open(self) -> None:
        """Connect and get ready; may take long. Nothing moves for that. Of one that is open it changes nothing."""
        ...

    def close(self) -> None:
        """Disconnect and let go of the instrument, in the middle of an acquisition, too.

        Calling it twice, or without :meth:`open`, does nothing. Until the next :meth:`open` everything but
        :meth:`stop`, :meth:`capabilities` and this raises :class:`~twinscope.errors.DriverError`.
        """
        ...

    def capabilities(self) -> Capabilities:
        """Tell what the instrument can do; the same until the driver is made anew.

        A driver that has to ask its instrument for that may connect to it here; nothing moves for that. Its settings
        are plain data. Channels that record where the tip is may be named there, so that the conformance suite can
        check the geometry of scans: ``{"position_channels": {"x": "sensor_x", "y": "sensor_y"}}``.
        """
        ...

    def read(self) -> Reading:
        """Tell the time, where the tip is, and the value of every signal; also between two calls of :meth:`poll`.

        The position is that which the tip was sent to, to the last bit, not what a sensor measures: whoever moves the
        tip compares, and takes a move that ended elsewhere for one that was stopped. z is the z-controller's when that
        is on. After an acquisition it is where the last trace ended. Time never goes back. Reading changes nothing.
        """
        ...

    def write(self, name: str, value: float, rate: float | None = None) -> None:
        """Set a signal, at once or with a rate in its unit per second. It reads back as it was set."""
        ...

    def set_feedback(self, mode: str) -> None:
        """Let the z-controller hold something constant at its setpoint, or switch it off, which leaves z as it is."""
        ...

    def move_to(self, x: float, y: float, z: float, speed: float | None = None) -> None:
        """Move the tip along a straight line, in m, with at most the speed, in m/s; z is the controller's when on.

        A move that is stopped ends where the tip is then, which is what :meth:`read` tells.
        """
        ...

    def withdraw(self) -> None:
        """Switch the z-controller off and take the tip away from the sample, which is "withdrawn" then."""
        ...

    def approach(self) -> None:
        """Bring the tip to its working height, where it is "in_range"; whether the z-controller is on is up to it."""
        ...

    def start_scan(self, request: ScanRequest, sink: TraceSink) -> None:
        """Begin a scan; :meth:`poll` carries it on. On the way to its start the tip is never lower than at the ends.

        It switches the z-controller to the z-mode of the request, which it leaves so, and sets the setpoint if there
        is one.
        """
        ...

    def start_path(self, request: PathRequest, sink: TraceSink) -> None:
        """Begin a path; :meth:`poll` carries it on. The z-controller is as for a scan."""
        ...

    def start_spectroscopy(self, request: SpectroscopyRequest, sink: TraceSink) -> None:
        """Begin a spectroscopy; :meth:`poll` carries it on. Afterwards the bias is what it was before."""
        ...

    def poll(self) -> bool:
        """Wait for the next traces and write them to the sink; False when the acquisition is over or was stopped.

        It may return True without a trace, and should do so every second or so when traces take long: between two calls
        the instrument reads the driver. Without an acquisition it writes nothing, and returns False or raises
        :class:`~twinscope.errors.DriverError`.
        """
        ...

    def stop(self) -> None:
        """Stop motion and acquisition. May be called from any thread, at any time; takes at most 200 ms.

        Also before :meth:`open` and after :meth:`close`, by several threads at once, and when there is nothing to stop.
        It need not wait until all is at rest, which must be soon after: then the command that was stopped returns, or
        :meth:`poll` returns False, and the tip stands still. A stop between two calls of :meth:`poll` ends the
        acquisition, one when nothing is done has no effect on what begins after it.
        """
        ...


class CoarseMotor(Protocol):
    """What a driver with the feature "coarse_motion" has besides."""

    def coarse_move(self, axis: str, steps: int) -> None:
        """Step the coarse motor of the axis x or y, or of z, away from the sample with positive steps."""
        ...


class Pulser(Protocol):
    """What a driver with the feature "pulse" has besides."""

    def pulse(self, voltage: float, duration: float) -> None:
        """Apply a bias of `voltage` V for `duration` s, then the former one."""
        ...


class TipShaper(Protocol):
    """What a driver with the feature "tip_shaping" has besides."""

    def shape_tip(self, depth: float, voltage: float) -> None:
        """Dip the tip `depth` m deeper than it is, with a bias of `voltage` V, and take it back."""
        ...


class TipExchanger(Protocol):
    """What a driver with the feature "tip_exchange" has besides."""

    def exchange_tip(self, probe: str) -> None:
        """Withdraw, and put one of the probes of its capabilities at the end of the tip, which stays withdrawn.

        What :meth:`Driver.read` tells is what is there, also after a stop.
        """
        ...


class Oracle(Protocol):
    """What a simulator with the feature "oracle" has besides."""

    def truth(self, low: tuple[float, float], high: tuple[float, float]) -> dict[str, Any]:
        """Tell what is really between two corners (x, y), in m, and what the tip is, as plain data."""
        ...
