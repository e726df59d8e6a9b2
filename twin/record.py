"""An acquisition on the instrument's side: its data while they come in, and its state."""

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np

from twinscope.capabilities import Channel
from twinscope.errors import AbortedError, DriverError, TwinscopeError
from twinscope.requests import AcquisitionRequest
from twinscope.state import AcquisitionState


class TraceStore(Protocol):
    """Where traces are kept safe before anyone sees them."""

    def write(self, first: int, traces: np.ndarray) -> None:
        """Write traces so that they survive the death of this process."""
        ...

    def finish(self, state: AcquisitionState, error: str | None, warnings: list[str]) -> None:
        """Write how it ended, and close."""
        ...


class Record:
    """An acquisition, written by one thread and read by many.

    Parameters
    ----------
    identifier
        Unique name.
    request
        What was asked for.
    channels
        In the order of the request.
    metadata
        What is known at the start.
    """

    def __init__(
        self, identifier: str, request: AcquisitionRequest, channels: tuple[Channel, ...], metadata: Mapping[str, Any]
    ) -> None:
        self.id = identifier
        self.request = request
        self.channels = channels
        self.state = AcquisitionState.QUEUED
        self.error: TwinscopeError | None = None
        self.abort_requested = False
        self.traces_done = 0
        self.warnings: list[str] = []
        self.metadata = {
            "id": identifier,
            "kind": request.kind,
            "request": request.to_dict(),
            "channels": [{"name": c.name, "unit": c.unit, "quantity": c.quantity} for c in channels],
            "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
            **metadata,
        }
        shape = (request.trace_count, len(channels), request.trace_length)
        self._traces = np.full(shape, np.nan, dtype="<f4")
        self._store: TraceStore | None = None
        self._changed = threading.Condition()
        self._begun: float | None = None
        self._ended: float | None = None

    @property
    def nbytes(self) -> int:
        """Size of the data, in bytes."""
        return self._traces.nbytes

    def begin(self, store: TraceStore) -> None:
        """Say that the driver has started."""
        with self._changed:
            self._store = store
            self.state = AcquisitionState.RUNNING
            self._begun = time.monotonic()
            self._changed.notify_all()

    def write(self, first: int, traces: np.ndarray) -> None:
        """Take traces from the driver; they are on disk before a client can see them.

        Raises
        ------
        DriverError
            When they are not the next ones or have the wrong shape.
        """
        count, *inner = traces.shape
        if first != self.traces_done or tuple(inner) != self._traces.shape[1:] or first + count > len(self._traces):
            raise DriverError(
                f"the driver wrote traces of shape {traces.shape} at {first}: expected (n, {self._traces.shape[1]},"
                f" {self._traces.shape[2]}) at {self.traces_done}, up to {len(self._traces)} in all"
            )
        if self._store is None:
            raise DriverError("the driver wrote traces before the acquisition was begun")
        values = np.ascontiguousarray(traces, dtype="<f4")
        self._store.write(first, values)
        self._traces[first : first + count] = values
        with self._changed:
            self.traces_done += count
            self._changed.notify_all()

    def warn(self, message: str) -> None:
        """Attach a sentence for people."""
        if message not in self.warnings:
            self.warnings.append(message)

    def end(self, error: TwinscopeError | None) -> None:
        """Say that nothing more will come; without an error it must be complete or aborted."""
        if error is None and self.traces_done < len(self._traces):
            if self.abort_requested:
                error = AbortedError(f"acquisition {self.id} was aborted after {self._progress_text()}")
            else:
                error = DriverError(f"the driver ended acquisition {self.id} after {self._progress_text()}")
        state = AcquisitionState.DONE
        if error is not None:
            state = AcquisitionState.ABORTED if isinstance(error, AbortedError) else AcquisitionState.FAILED
        if self._store is not None:
            try:
                self._store.finish(state, None if error is None else error.message, self.warnings)
            except TwinscopeError as exc:
                error, state = exc, AcquisitionState.FAILED
        with self._changed:
            self.error, self.state = error, state
            self._ended = time.monotonic()
            self._changed.notify_all()

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes of the measured traces (float32, little-endian) from `offset` on."""
        available = self._bytes_done()
        start = min(offset, available)
        stop = min(start + length, available)
        return self._traces.reshape(-1).view(np.uint8)[start:stop].tobytes()

    def wait(self, offset: int, timeout: float) -> None:
        """Return when there are bytes after `offset`, the acquisition is over, or the time (s) is."""
        with self._changed:
            self._changed.wait_for(lambda: self._bytes_done() > offset or self.state.is_final, timeout)

    def progress(self) -> dict[str, Any]:
        """Tell how far it is, as plain data."""
        with self._changed:
            elapsed = 0.0 if self._begun is None else (self._ended or time.monotonic()) - self._begun
            return {
                "id": self.id,
                "state": self.state.value,
                "traces_done": self.traces_done,
                "traces_total": len(self._traces),
                "elapsed": elapsed,
                "error": None if self.error is None else self.error.to_dict(),
                "warnings": list(self.warnings),
            }

    def _bytes_done(self) -> int:
        return self.traces_done * (self._traces.nbytes // len(self._traces))

    def _progress_text(self) -> str:
        return f"{self.traces_done} of {len(self._traces)} traces"
