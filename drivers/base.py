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
    """Where a driver puts what it measures. The instrument stores it before any client sees it."""

    def write(self, first: int, traces: np.ndarray) -> None:
        """Take traces in the order in which they were measured.

        Parameters
        ----------
        first
            Number of the first trace: one more than the last that was written.
        traces
            Shape (n, channels, samples), channels in the order of the request, in their units. The samples of a trace
            are in the order of their positions: a backward line is *not* reversed.
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
    after :meth:`stop`.

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
        """Connect and get ready; may take long. Nothing moves for that."""
        ...

    def close(self) -> None:
        """Disconnect. Calling it twice, or without :meth:`open`, does nothing."""
        ...

    def capabilities(self) -> Capabilities:
        """Tell what the instrument can do; the same until the driver is made anew.

        A driver that has to ask its instrument for that may connect to it here; nothing moves for that.
        """
        ...

    def read(self) -> Reading:
        """Tell the time, where the tip is, and the value of every signal."""
        ...

    def write(self, name: str, value: float, rate: float | None = None) -> None:
        """Set a signal, at once or with a rate in its unit per second."""
        ...

    def set_feedback(self, mode: str) -> None:
        """Let the z-controller hold something constant at its setpoint, or switch it off, which leaves z as it is."""
        ...

    def move_to(self, x: float, y: float, z: float, speed: float | None = None) -> None:
        """Move the tip along a straight line, in m, with at most the speed, in m/s; z is the controller's when on."""
        ...

    def withdraw(self) -> None:
        """Switch the z-controller off and take the tip away from the sample."""
        ...

    def approach(self) -> None:
        """Bring the tip to its working height."""
        ...

    def start_scan(self, request: ScanRequest, sink: TraceSink) -> None:
        """Begin a scan; :meth:`poll` carries it on. On the way to its start the tip is never lower than at the ends."""
        ...

    def start_path(self, request: PathRequest, sink: TraceSink) -> None:
        """Begin a path; :meth:`poll` carries it on."""
        ...

    def start_spectroscopy(self, request: SpectroscopyRequest, sink: TraceSink) -> None:
        """Begin a spectroscopy; :meth:`poll` carries it on."""
        ...

    def poll(self) -> bool:
        """Wait for the next traces and write them to the sink; False when the acquisition is over or was stopped."""
        ...

    def stop(self) -> None:
        """Stop motion and acquisition. May be called from any thread, at any time; takes at most 200 ms."""
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


class Oracle(Protocol):
    """What a simulator with the feature "oracle" has besides."""

    def truth(self, low: tuple[float, float], high: tuple[float, float]) -> dict[str, Any]:
        """Tell what is really between two corners (x, y), in m, and what the tip is, as plain data."""
        ...
