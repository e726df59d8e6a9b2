"""The driver interface: what the instrument asks of a driver, and what it hands to it."""

from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from twinscope.capabilities import Capabilities
from twinscope.requests import ScanRequest, SpectroscopyRequest
from twinscope.state import Position, TipState


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
    One thread calls everything but :meth:`stop` and :meth:`capabilities`, and a position is checked against the limits
    before the driver sees it. Whatever else goes wrong is raised as :class:`~twinscope.errors.DriverError`.
    """

    name: ClassVar[str]
    vendor: ClassVar[str]
    summary: ClassVar[str]

    def __init__(self, **options: Any) -> None: ...

    def open(self) -> None:
        """Connect and get ready; may take long. Afterwards position and tip state are known."""
        ...

    def close(self) -> None:
        """Disconnect. Calling it twice, or without :meth:`open`, does nothing."""
        ...

    def capabilities(self) -> Capabilities:
        """Tell what the instrument can do; known from the constructor on."""
        ...

    @property
    def time(self) -> float:
        """Instrument time, in s."""
        ...

    @property
    def position(self) -> Position:
        """Where the tip is."""
        ...

    @property
    def tip(self) -> TipState:
        """Whether the tip is near the sample."""
        ...

    def move_to(self, x: float, y: float, z: float) -> None:
        """Move the tip along a straight line, in m; returns when it is there or was stopped."""
        ...

    def withdraw(self) -> None:
        """Take the tip away from the sample."""
        ...

    def approach(self) -> None:
        """Bring the tip to its working height."""
        ...

    def start_scan(self, request: ScanRequest, sink: TraceSink) -> None:
        """Begin a scan; :meth:`poll` carries it on."""
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
