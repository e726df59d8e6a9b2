"""Jobs: what an instrument is asked to do and takes time for. They outlive the client that began them."""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from twinscope.errors import AbortedError, TwinscopeError
from twinscope.state import JobState

ON_LEASE_LOSS = ("continue", "pause", "abort_and_withdraw")
"""What may become of a job when its client falls silent or loses the lease."""


class _Moments:
    """Moments of which each is later than all before it, also where the clock goes in steps of milliseconds."""

    def __init__(self) -> None:
        self._last = datetime.min.replace(tzinfo=UTC)
        self._lock = threading.Lock()

    def next(self) -> datetime:
        with self._lock:
            self._last = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
            return self._last


_moments = _Moments()


class Job:
    """Something to do, run by one thread and looked at by many.

    Parameters
    ----------
    verb
        What is done: "scan", "move_to", ...
    parameters
        How, as plain data.
    lease
        Number of the lease that it belongs to.
    on_lease_loss
        One of :data:`ON_LEASE_LOSS`.
    """

    def __init__(
        self, verb: str, parameters: Mapping[str, Any], lease: int | None, on_lease_loss: str = "continue"
    ) -> None:
        # To the microsecond: several instruments may write into one directory.
        self.id = f"{_moments.next():%Y%m%d-%H%M%S-%f}-{verb}"
        self.verb = verb
        self.parameters = parameters
        self.lease = lease
        self.on_lease_loss = on_lease_loss
        self.state = JobState.QUEUED
        self.error: TwinscopeError | None = None
        self.abort_requested = False
        self.pause_requested = False
        self.done = threading.Event()
        self._changed = threading.Condition()
        self._begun: float | None = None
        self._ended: float | None = None
        self._paused: float | None = None

    def begin(self) -> None:
        """Say that the driver has started."""
        with self._changed:
            self.state = JobState.RUNNING
            self._begun = time.monotonic()
            self._changed.notify_all()

    def pause_while_requested(self, meanwhile: Callable[[], object], interval: float) -> None:
        """Be paused until someone resumes or aborts; what is to be done meanwhile is done every `interval` seconds."""
        with self._changed:
            self.state = JobState.PAUSED
            self._paused = time.monotonic()
            self._changed.notify_all()
        try:
            while not self._wait_for_end_of_pause(interval):
                meanwhile()
        finally:
            self._go_on()

    def _wait_for_end_of_pause(self, timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.abort_requested or not self.pause_requested, timeout)

    def _go_on(self) -> None:
        with self._changed:
            self.state = JobState.RUNNING
            # Time spent waiting is no measure of how long the rest will take.
            assert self._begun is not None
            assert self._paused is not None
            self._begun += time.monotonic() - self._paused
            self._paused = None
            self._changed.notify_all()

    def ask(self, *, abort: bool = False, pause: bool | None = None) -> None:
        """Ask the thread that runs it to abort it, to pause it, or to go on."""
        with self._changed:
            self.abort_requested = self.abort_requested or abort
            if pause is not None:
                self.pause_requested = pause
            self._changed.notify_all()

    def end(self, error: TwinscopeError | None) -> None:
        """Say how it ended."""
        state = JobState.DONE
        if error is not None:
            state = JobState.ABORTED if isinstance(error, AbortedError) else JobState.FAILED
        with self._changed:
            self.error, self.state = error, state
            self._ended = time.monotonic()
            self._changed.notify_all()

    def announce(self) -> None:
        """Tell those who wait for the end: the instrument is ready for the next job."""
        self.done.set()

    def progress(self) -> dict[str, Any]:
        """Tell how far it is, as plain data."""
        with self._changed:
            return {
                "id": self.id,
                "verb": self.verb,
                "state": self.state.value,
                "elapsed": self._elapsed(),
                "error": None if self.error is None else self.error.to_dict(),
            }

    def _elapsed(self) -> float:
        if self._begun is None:
            return 0.0
        return (self._ended or self._paused or time.monotonic()) - self._begun
