"""An acquisition on the instrument's side: its data while they come in, and its state."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np

from twinscope.capabilities import Channel
from twinscope.errors import AbortedError, AcquisitionError, DriverError, TwinscopeError
from twinscope.jobs import Job
from twinscope.requests import AcquisitionRequest
from twinscope.results import Measurement, disassemble
from twinscope.state import JobState


class TraceStore(Protocol):
    """Where traces are kept safe before anyone sees them."""

    def write(self, first: int, traces: np.ndarray) -> None:
        """Write traces so that they survive the death of this process."""
        ...

    def finish(self, state: JobState, error: str | None, warnings: list[str]) -> None:
        """Write how it ended, and close."""
        ...

    @property
    def checksums(self) -> Mapping[str, str]:
        """Checksum of each dataset, known after the end."""
        ...


class Record(Job):
    """A job whose outcome is data: it takes them from the driver and hands them to any number of readers.

    Parameters
    ----------
    request
        What was asked for.
    channels
        In the order of the request.
    metadata
        What is known at the start.
    lease, on_lease_loss
        As for a :class:`~twinscope.jobs.Job`.
    """

    def __init__(
        self,
        request: AcquisitionRequest,
        channels: tuple[Channel, ...],
        metadata: Mapping[str, Any],
        lease: int | None = None,
        on_lease_loss: str = "continue",
    ) -> None:
        super().__init__(request.kind, request.to_dict(), lease, on_lease_loss)
        self.request = request
        self.channels = channels
        self.traces_done = 0
        self.warnings: list[str] = []
        self.metadata = {
            "id": self.id,
            "kind": request.kind,
            "request": request.to_dict(),
            "channels": [{"name": c.name, "unit": c.unit, "quantity": c.quantity} for c in channels],
            "created": datetime.now(UTC).isoformat(timespec="milliseconds"),
            **metadata,
        }
        shape = (request.trace_count, len(channels), request.trace_length)
        self._traces = np.full(shape, np.nan, dtype="<f4")
        self._store: TraceStore | None = None

    @classmethod
    def restored(cls, measurement: Measurement) -> "Record":
        """Make the record of an acquisition that is over from its file."""
        metadata = dict(measurement.metadata)
        channels = tuple(Channel(**channel) for channel in metadata["channels"])
        record = cls(measurement.request, channels, metadata)
        record.id = metadata["id"]
        record._traces[...] = disassemble(measurement, channels)
        record.traces_done = metadata["traces_done"]
        record.warnings = list(metadata["warnings"])
        record.state = JobState(metadata["state"])
        if not record.state.is_final:
            record.state = JobState.FAILED
        if record.state is not JobState.DONE:
            text = metadata["error"] or f"acquisition {record.id} was cut short: the server was ended during it"
            kind = AbortedError if record.state is JobState.ABORTED else AcquisitionError
            record.error = kind(text)
        record.announce()
        return record

    @property
    def nbytes(self) -> int:
        """Size of the data, in bytes."""
        return self._traces.nbytes

    @property
    def checksums(self) -> dict[str, str]:
        """Checksum of each dataset, known after the end."""
        return {} if self._store is None else dict(self._store.checksums)

    def keep_in(self, store: TraceStore) -> None:
        """Name the store that each trace is written to before anyone sees it."""
        self._store = store

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
        """Say that nothing more will come; without an error it must be complete or aborted, and with one it is kept."""
        if error is None and self.traces_done < len(self._traces):
            if self.abort_requested:
                error = AbortedError(f"acquisition {self.id} was aborted after {self._progress_text()}")
            else:
                error = DriverError(f"the driver ended acquisition {self.id} after {self._progress_text()}")
        if self._store is not None:
            state = JobState.DONE
            if error is not None:
                state = JobState.ABORTED if isinstance(error, AbortedError) else JobState.FAILED
            try:
                self._store.finish(state, None if error is None else error.message, self.warnings)
            except TwinscopeError as exc:
                error = exc
        super().end(error)

    def read(self, offset: int, length: int) -> memoryview:
        """Return up to `length` bytes of the measured traces (float32, little-endian) from `offset` on.

        It is no copy: what was measured does not change any more.
        """
        available = self._bytes_done()
        start = min(offset, available)
        stop = min(start + length, available)
        return self._traces.reshape(-1).view(np.uint8).data[start:stop]

    def wait(self, offset: int, timeout: float) -> None:
        """Return when there are bytes after `offset`, the acquisition is over, or the time (s) is."""
        with self._changed:
            self._changed.wait_for(lambda: self._bytes_done() > offset or self.state.is_final, timeout)

    def progress(self) -> dict[str, Any]:
        """Tell how far it is, as plain data."""
        return super().progress() | {
            "traces_done": self.traces_done,
            "traces_total": len(self._traces),
            "warnings": list(self.warnings),
        }

    def _bytes_done(self) -> int:
        return self.traces_done * (self._traces.nbytes // len(self._traces))

    def _progress_text(self) -> str:
        return f"{self.traces_done} of {len(self._traces)} traces"
