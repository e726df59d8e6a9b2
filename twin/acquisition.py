"""An acquisition on the client's side."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinscope.capabilities import BYTES_PER_VALUE, Channel
from twinscope.errors import TwinscopeError
from twinscope.protocol import CHUNK, LONGEST_WAIT, Reply, Transport
from twinscope.requests import ScanRequest, TraceAddress
from twinscope.results import Profile, Scan, Spectrum, assemble, request_of
from twinscope.state import JobState


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One trace, as it was measured.

    Attributes
    ----------
    index
        Its number in the acquisition.
    address
        Where it belongs in a scan; None for a spectrum.
    values
        Values by channel name, in the order of the positions.
    """

    index: int
    address: TraceAddress | None
    values: Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an acquisition is.

    Attributes
    ----------
    state
        Queued, running, or how it ended.
    done, total
        Traces.
    elapsed
        Wall-clock seconds since it began, pauses left out.
    """

    state: JobState
    done: int
    total: int
    elapsed: float

    @property
    def remaining(self) -> float | None:
        """Estimate of the wall-clock seconds left; None while nothing is known."""
        return self.elapsed / self.done * (self.total - self.done) if self.done else None


class Acquisition:
    """A scan, a path or a spectroscopy, in progress or over. Get it from :class:`~twinscope.Microscope`.

    Data are fetched once, in the order in which they were measured, into one array; it does not matter how late a
    client joins, or how often it loses the connection. Any thread may use it.
    """

    def __init__(
        self,
        transport: Transport,
        metadata: Mapping[str, Any],
        progress: Mapping[str, Any],
        lease: Callable[[], int | None],
    ) -> None:
        self._transport = transport
        self._metadata: Mapping[str, Any] = metadata
        self._lease = lease
        self._status: Mapping[str, Any] = progress
        self.id: str = metadata["id"]
        self.request = request_of(metadata)
        self.channels = tuple(Channel(**channel) for channel in metadata["channels"])
        shape = (self.request.trace_count, len(self.channels), self.request.trace_length)
        # What was not fetched is not filled either: touching so much memory takes as long as fetching it.
        self._traces = np.empty(shape, dtype="<f4")
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.request.trace_count

    def __repr__(self) -> str:
        return f"<Acquisition {self.id}: {self._status['state']}, {self._status['traces_done']} of {len(self)} traces>"

    @property
    def file(self) -> str:
        """Path of the data file, on the server's machine."""
        return str(self._metadata["file"])

    def progress(self) -> Progress:
        """Ask how far it is."""
        self._pull(timeout=0)
        status = self._status
        return Progress(JobState(status["state"]), status["traces_done"], status["traces_total"], status["elapsed"])

    def lines(self, start: int = 0) -> Iterator[Line]:
        """Yield the traces from number `start` on, each as soon as it is measured.

        Raises
        ------
        AcquisitionError
            After the last trace, when the acquisition did not end well.
        """
        index = start
        while True:
            while index < self._fetched:
                yield self._line(index)
                index += 1
            if self._is_over and self._fetched == self._status["traces_done"]:
                break
            self._pull(LONGEST_WAIT)
        self._raise_error()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is over; False when `timeout` seconds were over first."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._is_over:
            left = LONGEST_WAIT if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return False
            self._pull(min(left, LONGEST_WAIT))
        return True

    def result(self, timeout: float | None = None) -> Scan | Profile | Spectrum:
        """Wait for the end and return everything.

        Raises
        ------
        AbortedError
            When it was aborted; :meth:`partial` has what was measured.
        AcquisitionError, DriverError, StoreError
            When it failed; likewise.
        TimeoutError
            When it is not over after `timeout` seconds.
        """
        if not self.wait(timeout):
            raise TimeoutError(f"acquisition {self.id} was not over after {timeout} s: it goes on")
        self._raise_error()
        return self.partial()

    def partial(self) -> Scan | Profile | Spectrum:
        """Return what has been measured up to now; the rest is NaN.

        Once it is over, it is the same arrays each time: they are not copied.
        """
        self._pull(timeout=0)
        while self._fetched < self._status["traces_done"]:
            self._pull(timeout=0)
        error = self._status["error"]
        # Where and when it began is known only since it has.
        self._metadata = self._transport.call("acquisition", {"id": self.id}).result["metadata"]
        metadata = dict(self._metadata) | {
            "state": self._status["state"],
            "error": None if error is None else error["message"],
            "warnings": list(self._status["warnings"]),
            "traces_done": self._fetched,
        }
        traces = self._traces if self._is_over else self._traces.copy()
        traces[self._fetched :] = np.nan
        return assemble(self.request, self.channels, traces, metadata)

    def pause(self) -> None:
        """Let it rest after the trace in progress, with the tip where it is. Needs control."""
        self._direct("pause")

    def resume(self) -> None:
        """Let it go on after a pause. Needs control."""
        self._direct("resume")

    def abort(self) -> None:
        """Stop it; returns when the instrument stands still. Needs control. One that is over is left as it is."""
        self._direct("abort")

    def _direct(self, verb: str) -> None:
        self._status = self._transport.call(verb, {"id": self.id}, lease=self._lease()).result

    @property
    def _trace_bytes(self) -> int:
        return len(self.channels) * self.request.trace_length * BYTES_PER_VALUE

    @property
    def _fetched(self) -> int:
        """Number of whole traces that are here."""
        return self._bytes // self._trace_bytes

    @property
    def _is_over(self) -> bool:
        return JobState(self._status["state"]).is_final

    def _pull(self, timeout: float) -> None:
        """Fetch what is new, waiting up to `timeout` seconds when there is nothing."""
        offset = self._bytes
        known = self._status["traces_done"] * self._trace_bytes
        starts = range(offset, known, CHUNK)
        if len(starts) < 2:
            reply = self._transport.call("pull", {"id": self.id, "offset": offset, "timeout": timeout})
            self._take(offset, reply)
            return
        # Much is there already: the requests need not wait for each other, nor the bytes be copied.
        space = self._traces.reshape(-1).view(np.uint8).data
        requests = [{"id": self.id, "offset": start, "timeout": 0} for start in starts]
        views = [space[start : start + CHUNK] for start in starts]
        for start, reply in zip(starts, self._transport.fetch("pull", requests, views), strict=True):
            self._take(start, reply)

    def _take(self, offset: int, reply: Reply) -> None:
        """Keep the bytes of an answer; several threads may fetch the same at once, and none may be counted twice."""
        end = offset + len(reply.payload)
        space = self._traces.reshape(-1).view(np.uint8)
        received = np.frombuffer(reply.payload, np.uint8)
        with self._lock:
            if not np.may_share_memory(received, space):
                space[offset:end] = received
            if offset <= self._bytes:
                self._bytes = max(self._bytes, end)
            if not self._is_over:
                self._status = reply.result

    def _line(self, index: int) -> Line:
        address = self.request.address(index) if isinstance(self.request, ScanRequest) else None
        names = (channel.name for channel in self.channels)
        return Line(index, address, dict(zip(names, self._traces[index].copy(), strict=True)))

    def _raise_error(self) -> None:
        if self._status["error"] is not None:
            raise TwinscopeError.from_dict(self._status["error"])
