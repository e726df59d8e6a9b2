"""The one thread that commands a driver."""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol

from twinscope.errors import DriverError, TripError, TwinscopeError
from twinscope.guard import Backend
from twinscope.jobs import Job
from twinscope.record import Record
from twinscope.state import Reading, Status
from twinscope.storage.store import AcquisitionFile

log = logging.getLogger(__name__)

# Without a job, the instrument is looked at this often, in s: its state stays true, and a trip is noticed.
_IDLE_INTERVAL = 0.5
# A driver that does not open is tried again after these times, in s, and then given up.
_RETRIES = (0.5, 2.0)


class Listener(Protocol):
    """Who is told what happens; see :class:`~twinscope.instrument.Instrument`."""

    def observe(self, reading: Reading) -> None:
        """Take what the driver tells."""
        ...

    def set_status(self, status: Status) -> None:
        """Take what the worker is doing."""
        ...

    def opened(self) -> None:
        """Learn that the driver is open."""
        ...

    def began(self, record: Record) -> None:
        """Learn that an acquisition has its file and begins."""
        ...

    def measured(self, record: Record) -> None:
        """Learn that there are new traces."""
        ...

    def freed(self, job: Job) -> None:
        """Learn that the driver is done with a job."""
        ...

    def ended(self, job: Job) -> None:
        """Learn that a job is over."""
        ...

    def tripped(self, error: TripError) -> None:
        """Learn that a trip has withdrawn the tip."""
        ...

    def lost(self, error: DriverError) -> None:
        """Learn that the driver has failed."""
        ...

    def failed(self, error: TwinscopeError) -> None:
        """Learn that the driver cannot be opened."""
        ...


class Worker:
    """Opens the driver, runs one job after the other, and starts the driver again when it fails.

    Parameters
    ----------
    backend
        The guarded driver.
    listener
        Who is told.
    """

    def __init__(self, backend: Backend, listener: Listener) -> None:
        self._backend = backend
        self._listener = listener
        self._queue: queue.SimpleQueue[tuple[Job, Callable[[], object]] | None] = queue.SimpleQueue()
        self._reading: Reading | None = None
        self._usable = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="instrument", daemon=True)

    def start(self) -> None:
        """Begin to open the driver."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether it has been started and not closed."""
        return self._thread.is_alive()

    def submit(self, job: Job, action: Callable[[], object]) -> None:
        """Run a job after those before it."""
        self._queue.put((job, action))

    def give_up(self) -> None:
        """Do not open a driver again that fails from now on."""
        self._closing.set()

    def close(self) -> None:
        """Close the driver after the last job."""
        self._queue.put(None)
        self._thread.join()

    # ------------------------------------------------------------------ actions of jobs, in the worker's thread

    def perform(self, fence: int | None, command: str, /, **arguments: Any) -> Reading:
        """Let the driver carry out a command."""
        return self._see(self._backend.perform(fence, command, **arguments))

    def acquire(self, record: Record) -> None:
        """Let the driver carry out an acquisition."""
        if record.abort_requested:
            return
        assert self._reading is not None
        assert record.lease is not None
        position = self._reading.position
        # A new dictionary: others may be reading the old one.
        record.metadata = record.metadata | {
            "position": {"x": position.x, "y": position.y, "z": position.z},
            "instrument_time": self._reading.time,
            "signals": dict(self._reading.signals),
            "feedback": self._reading.feedback,
            "probe": self._reading.probe,
        }
        record.keep_in(AcquisitionFile.create(record))
        self._listener.began(record)
        self._see(self._backend.start(record.lease, record.request, record))
        more = True
        while more and not record.abort_requested:
            if record.pause_requested:
                self._listener.set_status(Status.PAUSED)
                record.pause_while_requested(lambda: self._see(self._backend.read()), _IDLE_INTERVAL)
                self._listener.set_status(Status.ACQUIRING)
                continue
            before = record.traces_done
            more, reading = self._backend.poll()
            self._see(reading)
            if record.traces_done > before:
                self._listener.measured(record)

    def restart(self) -> None:
        """Open a driver again that was given up; raises what it fails with."""
        error = self._open(self._backend.restart)
        if error is not None:
            raise error

    # ------------------------------------------------------------------ inside

    def _run(self) -> None:
        self._open(self._backend.open)
        while True:
            try:
                task = self._queue.get(timeout=_IDLE_INTERVAL)
            except queue.Empty:
                self._look()
                continue
            if task is None:
                break
            self._do(*task)
        self._attempt(self._backend.close)

    def _do(self, job: Job, action: Callable[[], object]) -> None:
        job.begin()
        usable = self._usable or job.verb == "restart"
        error = self._attempt(action) if usable else DriverError("the driver has failed: restart it")
        if error is not None and isinstance(job, Record) and not isinstance(error, DriverError):
            # What failed is not the driver, the disk for example: it must not go on measuring.
            self._attempt(self._backend.stop)
        if isinstance(error, TripError):
            self._listener.tripped(error)
        # One that could not be opened is not lost once more.
        lost = self._usable and isinstance(error, DriverError)
        if self._usable and isinstance(error, DriverError):
            self._lose(error)
        self._look()
        # Whoever hears of the end finds the instrument ready for the next job.
        self._listener.freed(job)
        job.end(error)
        self._listener.ended(job)
        if lost and not self._closing.is_set():
            self._open(self._backend.restart)

    def _look(self) -> None:
        """Read the driver between jobs."""
        if not self._usable:
            return
        error = self._attempt(lambda: self._see(self._backend.read()))
        if isinstance(error, TripError):
            self._listener.tripped(error)
        elif isinstance(error, DriverError):
            self._lose(error)
            self._open(self._backend.restart)

    def _lose(self, error: DriverError) -> None:
        self._usable = False
        self._listener.lost(error)

    def _open(self, opening: Callable[[], Reading]) -> TwinscopeError | None:
        """Open the driver; one that does not is tried again, and then given up, for the error that is returned."""
        error = self._attempt(lambda: self._see(opening()))
        for wait in _RETRIES:
            if error is None:
                break
            log.warning("the driver could not be opened, trying again in %.1f s: %s", wait, error)
            if self._closing.wait(wait):
                break
            error = self._attempt(lambda: self._see(self._backend.restart()))
        self._usable = error is None
        if error is None:
            self._listener.opened()
        else:
            self._listener.failed(error)
        return error

    def _see(self, reading: Reading) -> Reading:
        self._reading = reading
        self._listener.observe(reading)
        return reading

    def _attempt(self, action: Callable[[], object]) -> TwinscopeError | None:
        """Do something and return its error; foreign ones are the driver's."""
        try:
            action()
        except TwinscopeError as exc:
            return exc
        # A driver is foreign code; whatever it raises must reach the clients and not kill the worker.
        except Exception as exc:
            log.exception("the driver failed")
            return DriverError(f"{type(exc).__name__}: {exc}")
        return None
