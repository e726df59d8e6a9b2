"""What is known about an instrument at any moment: its worker writes it down, its clients read it."""

import threading
import time
from typing import Any

from twinscope.errors import DriverError, InterlockError, TripError, TwinscopeError
from twinscope.events import EventLog
from twinscope.jobs import Job
from twinscope.lease import Lease
from twinscope.ledger import Ledger
from twinscope.record import Record
from twinscope.state import FEEDBACK_OFF, InstrumentState, Reading, Status, TipState


class Board:
    """The state of an instrument. Any thread may use it; what changes several parts of it at once holds the lock.

    It listens to the :class:`~twinscope.worker.Worker`, tells the events, and keeps the ledger of what happens by
    itself.

    Parameters
    ----------
    ledger
        Where it is written down; it also knows what was so before this start.

    Attributes
    ----------
    lock
        Guards everything here, and is notified of every change.
    events
        For those who watch.
    pending
        The job in progress, or the one that waits for the driver to open.
    reading
        What the driver told last; None until it is open.
    blocked
        Why nothing moves until an operator acknowledges it.
    error
        Why the driver cannot be opened.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.lock = threading.Condition()
        self.events = EventLog()
        self.status = Status.WARMING
        self.pending: Job | None = None
        self.reading: Reading | None = None
        self.blocked = ledger.recovered.blocked
        self.error: TwinscopeError | None = None
        self._ledger = ledger
        self._tip_is_known = self.blocked is None
        self._revision = 0

    def state(self, acquisition: str | None, lease: Lease | None) -> InstrumentState:
        """Return a snapshot, with the id of the latest acquisition and the lease in force."""
        with self.lock:
            reading = self.reading
            return InstrumentState(
                status=self.status,
                tip=reading.tip if reading is not None and self._tip_is_known else TipState.UNKNOWN,
                position=None if reading is None else reading.position,
                time=0.0 if reading is None else reading.time,
                signals={} if reading is None else dict(reading.signals),
                feedback=FEEDBACK_OFF if reading is None else reading.feedback,
                acquisition=acquisition,
                job=None if self.pending is None else self.pending.id,
                lease=None if lease is None else lease.describe(),
                error=None if self.error is None else self.error.message,
                blocked=self.blocked,
                revision=self._revision,
                probe=None if reading is None else reading.probe,
            )

    def wait_ready(self, timeout: float) -> bool:
        """Wait until the driver is open; False when it is still warming after `timeout` seconds."""
        with self.lock:
            return self.lock.wait_for(lambda: self.status is not Status.WARMING, timeout)

    def set_status(self, status: Status) -> None:
        """Note what the instrument is doing."""
        with self.lock:
            self.status = status
            self._revision += 1
            self.lock.notify_all()
        self.tell("state", status=status.value, revision=self._revision)

    def tell(self, kind: str, **data: Any) -> None:
        """Tell an event."""
        self.events.publish(kind, time.time(), **data)

    # ------------------------------------------------------------------ blocking

    def block(self, reason: str) -> None:
        """Let nothing move until an operator acknowledges the reason."""
        with self.lock:
            self.blocked = reason
            self.set_status(self.status)
        self.tell("blocked", reason=reason)

    def unblock(self) -> None:
        """Let the tip move again: an operator has looked where it is."""
        with self.lock:
            self.blocked, self._tip_is_known = None, True
            self.set_status(self.status)

    def check_unblocked(self) -> None:
        """Raise :class:`InterlockError` when nothing may move."""
        if self.blocked is not None:
            raise InterlockError(f"nothing moves until an operator acknowledges this: {self.blocked}")

    # ------------------------------------------------------------------ what the worker tells

    def observe(self, reading: Reading) -> None:
        """Note what the driver tells, for those who ask: only the worker may ask the driver."""
        self.reading = reading

    def opened(self) -> None:
        """Note that the driver is open."""
        with self.lock:
            self.error = None
            self.set_status(self._resting())

    def began(self, record: Record) -> None:
        """Note that an acquisition has its file and begins."""
        self._ledger.begin(record)
        self.tell("job", **record.progress())

    def measured(self, record: Record) -> None:
        """Note that there are new traces."""
        self.tell("traces", id=record.id, traces_done=record.traces_done)

    def freed(self, job: Job) -> None:
        """Note that the driver is done with a job."""
        with self.lock:
            if self.pending is job:
                self.pending = None
            if self.status in (Status.MOVING, Status.ACQUIRING, Status.PAUSED):
                self.set_status(self._resting())

    def ended(self, job: Job) -> None:
        """Note how a job has ended, and tell those who wait for it."""
        error = None if job.error is None else job.error.to_dict()
        self._ledger.try_to_note("job", durable=True, id=job.id, verb=job.verb, state=job.state.value, error=error)
        if isinstance(job, Record):
            self._ledger.end(job)
        self.tell("job", **job.progress())
        job.announce()

    def tripped(self, error: TripError) -> None:
        """Note that a trip has withdrawn the tip."""
        self._ledger.try_to_note("trip", durable=True, error=error.to_dict())
        self.tell("trip", error=error.to_dict())

    def lost(self, error: DriverError) -> None:
        """Note that the driver has failed: nobody knows where the tip is."""
        self.tell("driver", error=error.to_dict())
        self._tip_is_known = False
        why = f"{error.message}: look where the tip is, then acknowledge this"
        self.block(why)
        self._ledger.try_to_note("blocked", durable=True, reason=why)
        self.set_status(Status.WARMING)

    def failed(self, error: TwinscopeError) -> None:
        """Note that the driver cannot be opened."""
        with self.lock:
            self._tip_is_known = False
            self.error = error
            self.set_status(Status.FAILED)

    def _resting(self) -> Status:
        return Status.IDLE if self.pending is None else status_of(self.pending)


def status_of(job: Job) -> Status:
    """Return what an instrument does while it does this job."""
    return Status.ACQUIRING if isinstance(job, Record) else Status.MOVING
