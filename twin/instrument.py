"""The instrument: one driver, the rules that keep it safe, and what its clients may ask of it."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twinscope import _checks
from twinscope._version import __version__
from twinscope.errors import (
    AbortedError,
    BusyError,
    DriverError,
    InterlockError,
    InvalidRequestError,
    LeaseError,
    NotFoundError,
    StoreError,
    TwinscopeError,
)
from twinscope.events import EventLog
from twinscope.guard import Backend, check_acquisition, check_command, complete
from twinscope.interlocks import Interlocks
from twinscope.jobs import ON_LEASE_LOSS, Job
from twinscope.lease import Lease, LeaseBook
from twinscope.ledger import Ledger
from twinscope.record import Record
from twinscope.requests import AcquisitionRequest, ScanRequest, SpectroscopyRequest
from twinscope.sessions import Caller, Session
from twinscope.state import FEEDBACK_OFF, InstrumentState, Reading, Status, TipState
from twinscope.store import load
from twinscope.worker import Worker

log = logging.getLogger(__name__)

# Finished acquisitions stay in memory up to this many bytes, and this many jobs; older ones are in their files.
_KEPT_BYTES = 2**31
_KEPT_JOBS = 1000
# How long a driver may take to come to a stand, in s.
_STOP_TIMEOUT = 10.0
# When the instrument is closed: how long to wait for a driver that is just opening, and for the tip, in s.
_OPEN_TIMEOUT = 10.0
_WITHDRAW_TIMEOUT = 60.0
# How often it is looked whether the lease has expired, in s.
_LEASE_INTERVAL = 0.1


class Instrument:
    """A microscope that several clients share.

    All methods may be called from any thread. What changes the instrument needs the lease. The driver is commanded by
    one worker thread, one job at a time; only :meth:`Backend.stop` is called from elsewhere.

    Parameters
    ----------
    backend
        The guarded driver.
    directory
        Where acquisitions are stored.
    interlocks
        The rules, which the backend checks once more.
    ledger
        Where what is done is written down.
    """

    def __init__(
        self, backend: Backend, directory: Path, interlocks: Interlocks | None = None, ledger: Ledger | None = None
    ) -> None:
        self.capabilities = backend.capabilities()
        self.events = EventLog()
        self.ledger = ledger or Ledger(None)
        self._backend = backend
        self._directory = directory
        self._interlocks = interlocks or Interlocks()
        self._interlocks.check_names(self.capabilities)
        self._lock = threading.Condition()
        self._leases = LeaseBook(self.ledger.recovered.last_lease)
        self._status = Status.WARMING
        self._error: TwinscopeError | None = None
        self._blocked = self.ledger.recovered.blocked
        self._tip_is_known = self._blocked is None
        self._revision = 0
        self._reading: Reading | None = None
        self._pending: Job | None = None
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._latest: Record | None = None
        self._restored: Record | None = None
        self._closing = threading.Event()
        self._worker = Worker(backend, self)
        self._watch = threading.Thread(target=self._watch_lease, name="lease", daemon=True)

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Begin to open the driver; the status is "warming" until that is done.

        Raises
        ------
        StoreError
            When the directory cannot be made, or the journal not be written.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StoreError(f"the directory {self._directory} for the data cannot be made: {exc}") from exc
        capabilities = self.capabilities
        self.ledger.note("started", durable=True, twinscope=__version__, instrument=capabilities.instrument)
        self._worker.start()
        self._watch.start()

    def close(self) -> None:
        """Abort what is in progress, withdraw the tip and close the driver."""
        with self._lock:
            if self._closing.is_set():
                return
            # From now on nothing is begun that would have to be waited for.
            self._closing.set()
            safe = self._status is not Status.FAILED and self._blocked is None
            running = self._pending
        if self._worker.is_alive():
            self._watch.join()
            if running is not None:
                self._interrupt(running)
            is_ready = self.wait_ready(_OPEN_TIMEOUT)
            self._worker.give_up()
            if not is_ready:
                log.error("the driver was not open within %.0f s: ending it", _OPEN_TIMEOUT)
                self._backend.kill()
            if safe:
                withdrawal = self._own_job("withdraw")
                self._worker.submit(withdrawal, lambda: self._withdraw(withdrawal))
                if not withdrawal.done.wait(_WITHDRAW_TIMEOUT):
                    log.error("the tip was not withdrawn within %.0f s: ending the driver", _WITHDRAW_TIMEOUT)
                    self._backend.kill()
            self._worker.close()
        self._set_status(Status.CLOSED)
        if self._blocked is not None:
            # The disk may have been full when it was.
            self.ledger.try_to_note("blocked", durable=True, reason=self._blocked)
        self.ledger.try_to_note("stopped", durable=True)
        self.ledger.close()

    def state(self) -> InstrumentState:
        """Return a snapshot."""
        with self._lock:
            reading, job, lease = self._reading, self._pending, self._leases.current
            return InstrumentState(
                status=self._status,
                tip=reading.tip if reading is not None and self._tip_is_known else TipState.UNKNOWN,
                position=None if reading is None else reading.position,
                time=0.0 if reading is None else reading.time,
                signals={} if reading is None else dict(reading.signals),
                feedback=FEEDBACK_OFF if reading is None else reading.feedback,
                acquisition=None if self._latest is None else self._latest.id,
                job=None if job is None else job.id,
                lease=None if lease is None else lease.describe(),
                error=None if self._error is None else self._error.message,
                blocked=self._blocked,
                revision=self._revision,
            )

    def wait_ready(self, timeout: float) -> bool:
        """Wait until the driver is open; False when it is still warming after `timeout` seconds."""
        with self._lock:
            return self._lock.wait_for(lambda: self._status is not Status.WARMING, timeout)

    # ------------------------------------------------------------------ lease

    def acquire_lease(self, caller: Caller, purpose: str, duration: float) -> Lease | None:
        """Give control to a session; see :meth:`LeaseBook.acquire`."""
        self._expire_lease()
        with self._lock:
            duration = self._leases.check_free(duration)
            if caller.dry_run:
                return None
            lease = self._leases.acquire(caller.session, purpose, duration)
            try:
                self._note_lease("acquired", lease, required=True)
            except StoreError:
                # Nobody would know its number.
                self._leases.end()
                raise
            return lease

    def check_lease(self, caller: Caller) -> None:
        """Raise :class:`LeaseError` unless the caller holds the instrument."""
        with self._lock:
            self._leases.check(caller)

    def heartbeat(self, session: Session) -> None:
        """Take a sign of life of a session."""
        with self._lock:
            self._leases.heartbeat(session)

    def release_lease(self, caller: Caller) -> None:
        """Take control back from a client; what it has begun goes on. A lease that is over already is no error."""
        with self._lock:
            current = self._leases.current
            mine = current is not None and current.session is caller.session and current.number == caller.lease
            if mine and not caller.dry_run:
                self._note_lease("released", self._leases.end())

    def break_lease(self, caller: Caller) -> None:
        """Take control from whoever has it; what they have begun is treated as when they fall silent."""
        with self._lock:
            broken = self._leases.current
            if broken is None:
                raise LeaseError("nobody holds the instrument: there is no lease to break")
            if caller.dry_run:
                return
            self._leases.end()
            self._note_lease("broken", broken, by=caller.session.identity.name)
        self._after_lease_loss(broken)

    # ------------------------------------------------------------------ commands

    def command(self, caller: Caller, name: str, /, **arguments: Any) -> Job | None:
        """Begin a command of the driver: "move_to", "write", "set_feedback", "approach", "pulse", ...

        Returns
        -------
        Job or None
            What was begun; None when it was only to be checked.

        Raises
        ------
        InvalidRequestError, OutOfRangeError
            When the instrument cannot do it.
        InterlockError
            When a rule forbids it.
        LeaseError, BusyError
            When the caller does not hold the instrument, or it is doing something else.
        """
        with self._lock:
            lease = self._check_free(caller)
            if self._reading is not None:
                check_command(self.capabilities, self._interlocks, self._reading, name, arguments)
            job = Job(name, arguments, lease.number)
            if caller.dry_run:
                return None
            self._submit(job, lambda: self._carry_out(job, lease, name, arguments))
            return job

    def withdraw(self, caller: Caller) -> Job | None:
        """Abort what is in progress and begin to withdraw the tip."""
        with self._lock:
            lease = self._check_usable(caller)
            if caller.dry_run:
                return None
            job = Job("withdraw", {}, lease.number)
            running, self._pending = self._pending, job
        return self._withdraw_after(running, job)

    def emergency_stop(self, caller: Caller, reason: str) -> Job | None:
        """Stop everything, withdraw the tip, and let nothing move until an operator acknowledges it."""
        if self._closing.is_set():
            raise DriverError("the instrument is closed: its tip has been withdrawn")
        if caller.dry_run:
            return None
        why = f"emergency stop by {caller.session.identity.name}: {reason or 'no reason given'}"
        self._block(why)
        job = self._own_job("withdraw")
        with self._lock:
            running, self._pending = self._pending, job
        try:
            return self._withdraw_after(running, job)
        finally:
            # The tip comes first: a slow disk must not hold it up.
            self.ledger.try_to_note("blocked", durable=True, reason=why)

    def acknowledge(self, caller: Caller) -> None:
        """Say that an operator has looked at the tip, and that it may move again."""
        with self._lock:
            self._leases.check(caller)
            if self._blocked is None:
                raise InvalidRequestError("there is nothing to acknowledge: the instrument is not blocked")
            if caller.dry_run:
                return
            self.ledger.note("acknowledged", durable=True, reason=self._blocked, by=caller.session.identity.name)
            self._blocked, self._tip_is_known = None, True
            self._set_status(self._status)

    def restart(self, caller: Caller) -> Job | None:
        """Begin to start a driver again that has failed for good."""
        with self._lock:
            self._leases.check(caller)
            if self._status is not Status.FAILED:
                raise InvalidRequestError(
                    f"the driver has not failed, it is {self._status}: there is nothing to restart"
                )
            job = self._own_job("restart")
            if caller.dry_run:
                return None
            self._error = None
            self._submit(job, self._worker.restart)
            self._set_status(Status.WARMING)
            return job

    # ------------------------------------------------------------------ acquisitions

    def start_acquisition(
        self, caller: Caller, request: AcquisitionRequest, on_lease_loss: str = "continue"
    ) -> Record | None:
        """Begin a scan, a path or a spectroscopy.

        Raises
        ------
        InvalidRequestError, OutOfRangeError, UnknownChannelError
            When the instrument cannot do it.
        InterlockError
            When a rule forbids it.
        LeaseError, BusyError
            When the caller does not hold the instrument, or it is doing something else.
        """
        _checks.choice("on_lease_loss", on_lease_loss, ON_LEASE_LOSS)
        self.capabilities.check_request(request)
        channels = tuple(self.capabilities.channel(name) for name in request.channels)
        with self._lock:
            lease = self._check_free(caller)
            if self._reading is not None:
                self._check_in_range(request, self._reading)
                check_acquisition(self.capabilities, self._interlocks, self._reading, request)
            if caller.dry_run:
                return None
            metadata = {
                "twinscope": __version__,
                "instrument": self.capabilities.to_dict(),
                "operator": lease.session.client,
                "identity": lease.session.identity.name,
                "purpose": lease.purpose,
                "lease": lease.number,
            }
            record = Record(request, channels, metadata, lease.number, on_lease_loss)
            record.metadata["file"] = str(self._directory.resolve() / f"{record.id}.h5")
            self._submit(record, lambda: self._worker.acquire(record))
            self._latest = record
            return record

    def pause(self, caller: Caller, identifier: str) -> Job:
        """Let a job rest after the trace in progress; the tip stays where it is."""
        return self._direct(caller, identifier, pause=True)

    def resume(self, caller: Caller, identifier: str) -> Job:
        """Let a paused job go on."""
        return self._direct(caller, identifier, pause=False)

    def abort(self, caller: Caller, identifier: str) -> Job:
        """Stop a job; returns when the driver stands still. One that is over already is left as it is."""
        with self._lock:
            self._leases.check(caller)
        job = self.job(identifier)
        if not (job.state.is_final or caller.dry_run):
            self._interrupt(job)
        return job

    def job(self, identifier: str) -> Job:
        """Return a job.

        Raises
        ------
        NotFoundError
            When there is none of this name.
        """
        if not isinstance(identifier, str):
            raise InvalidRequestError(f"the id is {identifier!r}: expected the text that names a job", name="id")
        with self._lock:
            if identifier in self._jobs:
                return self._jobs[identifier]
            restored = self._restored
        if restored is not None and restored.id == identifier:
            return restored
        file = self.ledger.file_of(identifier)
        if file is not None and file.exists():
            # A client pulls it piece by piece.
            self._restored = restored = Record.restored(load(file))
            return restored
        raise NotFoundError(
            f"there is no job {identifier!r} in memory or in the catalogue: files are in {self._directory.resolve()}"
        )

    def record(self, identifier: str) -> Record:
        """Return an acquisition; one that is no longer in memory is read from its file.

        Raises
        ------
        NotFoundError
            When there is none of this name.
        """
        job = self.job(identifier)
        if not isinstance(job, Record):
            raise NotFoundError(f"{identifier!r} is a {job.verb}: it has no data")
        return job

    def jobs(self) -> list[Job]:
        """Return the jobs in memory, the latest last."""
        with self._lock:
            return list(self._jobs.values())

    def truth(self, low: tuple[float, float], high: tuple[float, float]) -> Mapping[str, Any]:
        """Ask the oracle of a simulator what is really between two corners (x, y), in m.

        Raises
        ------
        InvalidRequestError
            When the instrument has no oracle.
        BusyError
            When it is doing something.
        """
        self.capabilities.check_feature("oracle")
        answer: dict[str, Any] = {}
        job = self._own_job("oracle")
        with self._lock:
            if self._pending is not None:
                raise BusyError(f"the instrument is busy with {self._pending.id}: ask when it is idle")
            self._submit(job, lambda: answer.update(self._backend.truth(low, high)))
        job.done.wait()
        if job.error is not None:
            raise job.error
        return answer

    # ------------------------------------------------------------------ what the worker tells

    def observe(self, reading: Reading) -> None:
        """Note what the driver tells, for those who ask: only the worker may ask the driver."""
        self._reading = reading

    def set_status(self, status: Status) -> None:
        """Note what the worker is doing."""
        with self._lock:
            self._set_status(status)

    def opened(self) -> None:
        """Note that the driver is open."""
        with self._lock:
            self._error = None
            self._set_status(Status.IDLE if self._pending is None else _status_of(self._pending))

    def freed(self, job: Job) -> None:
        """Note that the driver is done with a job."""
        with self._lock:
            if self._pending is job:
                self._pending = None
            if self._status in (Status.MOVING, Status.ACQUIRING, Status.PAUSED):
                self._set_status(Status.IDLE if self._pending is None else _status_of(self._pending))

    def ended(self, job: Job) -> None:
        """Note how a job has ended, and tell those who wait for it."""
        fields = {"error": None if job.error is None else job.error.to_dict()}
        self.ledger.try_to_note("job", durable=True, id=job.id, verb=job.verb, state=job.state.value, **fields)
        if isinstance(job, Record):
            self.ledger.end(job)
        self._tell("job", **job.progress())
        job.announce()

    def lost(self, error: DriverError) -> None:
        """Note that the driver has failed: nobody knows where the tip is."""
        self._tell("driver", error=error.to_dict())
        self._tip_is_known = False
        why = f"{error.message}: look where the tip is, then acknowledge this"
        self._block(why)
        self.ledger.try_to_note("blocked", durable=True, reason=why)
        self.set_status(Status.WARMING)

    def failed(self, error: TwinscopeError) -> None:
        """Note that the driver cannot be opened."""
        with self._lock:
            self._tip_is_known = False
            self._error = error
            self._set_status(Status.FAILED)

    def tripped(self, error: InterlockError) -> None:
        """Note that a trip has withdrawn the tip."""
        self.ledger.try_to_note("trip", durable=True, error=error.to_dict())
        self._tell("interlock", error=error.to_dict())

    def began(self, record: Record) -> None:
        """Note that an acquisition has its file and begins."""
        self.ledger.begin(record)
        self._tell("job", **record.progress())

    def measured(self, record: Record) -> None:
        """Note that there are new traces."""
        self._tell("traces", id=record.id, traces_done=record.traces_done)

    # ------------------------------------------------------------------ inside

    def _carry_out(self, job: Job, lease: Lease, name: str, arguments: Mapping[str, Any]) -> None:
        """Carry out a command; a move that did not arrive was stopped."""
        _check_wanted(job)
        before = self._reading
        reached = self._worker.perform(lease.number, name, **arguments)
        if name == "move_to" and before is not None:
            wanted = complete(before.position, **arguments)
            given = [axis for axis in ("x", "y", "z") if arguments[axis] is not None]
            if any(getattr(reached.position, axis) != wanted[axis] for axis in given):
                raise AbortedError(f"the move to {arguments} was stopped at {reached.position}")

    def _withdraw(self, job: Job) -> None:
        """Withdraw the tip; a withdrawal that was stopped half-way is none."""
        _check_wanted(job)
        reached = self._worker.perform(job.lease, "withdraw")
        if reached.tip is TipState.IN_RANGE:
            raise AbortedError(f"the withdrawal was stopped at {reached.position}: withdraw again")

    def _withdraw_after(self, running: Job | None, job: Job) -> Job:
        """Abort what is running, then begin a withdrawal, which is pending already: nobody gets in between."""
        try:
            if running is not None:
                self._interrupt(running)
        finally:
            # A driver that does not come to a stand withdraws the tip when it does.
            with self._lock:
                self._submit(job, lambda: self._withdraw(job))
        return job

    def _check_usable(self, caller: Caller) -> Lease:
        lease = self._leases.check(caller)
        if self._status is Status.FAILED:
            raise DriverError(f"the driver has failed: {self._error}: restart it")
        if self._closing.is_set():
            raise DriverError("the instrument is closed: start it again")
        self._check_unblocked()
        return lease

    def _check_free(self, caller: Caller) -> Lease:
        lease = self._check_usable(caller)
        if self._pending is not None:
            raise BusyError(f"the instrument is busy with {self._pending.id}: wait until it is idle, or abort")
        return lease

    def _check_unblocked(self) -> None:
        if self._blocked is not None:
            raise InterlockError(f"nothing moves until an operator acknowledges this: {self._blocked}")

    def _check_in_range(self, request: AcquisitionRequest, reading: Reading) -> None:
        """Refuse to measure at the present height when the tip is not near the sample."""
        if isinstance(request, ScanRequest):
            at_present_height = request.heights is None
        elif isinstance(request, SpectroscopyRequest) and request.swept == "z":
            at_present_height = False
        else:
            at_present_height = request.height is None
        if at_present_height and reading.tip is not TipState.IN_RANGE:
            raise InvalidRequestError(
                f"the tip is {reading.tip} and no height was given: approach() first, or give heights"
            )

    def _submit(self, job: Job, action: Callable[[], object]) -> None:
        fields = {"id": job.id, "verb": job.verb, "lease": job.lease}
        # What brings the tip to safety does not depend on the disk.
        note = self.ledger.try_to_note if job.lease is None or job.verb == "withdraw" else self.ledger.note
        note("job", durable=True, state=job.state.value, **fields)
        self._jobs[job.id] = job
        self._pending = job
        self._forget_old_jobs()
        if self._status not in (Status.WARMING, Status.FAILED, Status.CLOSED):
            self._set_status(_status_of(job))
        self._tell("job", **job.progress())
        self._worker.submit(job, action)

    def _own_job(self, verb: str) -> Job:
        return Job(verb, {}, None)

    def _direct(self, caller: Caller, identifier: str, *, pause: bool) -> Job:
        with self._lock:
            self._leases.check(caller)
        job = self.record(identifier)
        if job.state.is_final:
            raise InvalidRequestError(f"{identifier} is {job.state}: it cannot be paused or resumed any more")
        if not caller.dry_run:
            job.ask(pause=pause)
            self._tell("job", **job.progress())
        return job

    def _interrupt(self, job: Job) -> None:
        """Abort a job and wait until the driver stands still; one that waits for the driver to open never begins."""
        job.ask(abort=True)
        if self._status is Status.WARMING:
            return
        # A stop that comes before the driver has begun is lost, so it is repeated.
        deadline = time.monotonic() + _STOP_TIMEOUT
        while not job.done.is_set() and time.monotonic() < deadline:
            self._backend.stop()
            job.done.wait(0.05)
        if job.done.is_set():
            return
        if not self._backend.kill():
            raise DriverError(f"the driver did not come to a stand within {_STOP_TIMEOUT:.0f} s")
        # Its worker learns of that, and then it is over.
        job.done.wait(_STOP_TIMEOUT)

    def _block(self, reason: str) -> None:
        with self._lock:
            self._blocked = reason
            self._set_status(self._status)
        self._tell("blocked", reason=reason)

    def _watch_lease(self) -> None:
        while not self._closing.wait(_LEASE_INTERVAL):
            try:
                self._expire_lease()
            except DriverError as exc:
                log.error("the lease has expired, but: %s", exc)

    def _expire_lease(self) -> None:
        """End a lease whose holder has fallen silent."""
        with self._lock:
            expired = self._leases.end_if_expired()
            if expired is not None:
                self._note_lease("expired", expired)
        if expired is not None:
            self._after_lease_loss(expired)

    def _after_lease_loss(self, lease: Lease) -> None:
        """Do with the job of a lost lease what its client has asked for."""
        with self._lock:
            job = self._pending
            if job is None or job.lease != lease.number or job.on_lease_loss == "continue":
                return
            log.warning("lease %d is lost: %s %s", lease.number, job.id, job.on_lease_loss)
            if job.on_lease_loss == "pause":
                job.ask(pause=True)
                return
            withdrawal = self._own_job("withdraw")
            self._pending = withdrawal
        self._withdraw_after(job, withdrawal)

    def _note_lease(self, what: str, lease: Lease | None, *, required: bool = False, **fields: Any) -> None:
        if lease is None:
            return
        about = {
            "what": what,
            "number": lease.number,
            "session": lease.session.label,
            "identity": lease.session.identity.name,
            "client": lease.session.client,
            "purpose": lease.purpose,
            **fields,
        }
        (self.ledger.note if required else self.ledger.try_to_note)("lease", durable=True, **about)
        self._tell("lease", **about)
        self._set_status(self._status)

    def _set_status(self, status: Status) -> None:
        with self._lock:
            self._status = status
            self._revision += 1
            self._lock.notify_all()
        self._tell("state", status=status.value, revision=self._revision)

    def _tell(self, kind: str, **data: Any) -> None:
        self.events.publish(kind, time.time(), **data)

    def _forget_old_jobs(self) -> None:
        """Forget the oldest jobs that are over, when there are too many or their data take too much memory."""
        sizes = {name: job.nbytes if isinstance(job, Record) else 0 for name, job in self._jobs.items()}
        for name in list(self._jobs)[:-1]:
            few = sum(sizes.values()) <= _KEPT_BYTES and len(sizes) <= _KEPT_JOBS
            if few or not self._jobs[name].state.is_final:
                break
            del self._jobs[name], sizes[name]


def _check_wanted(job: Job) -> None:
    """Raise :class:`AbortedError` when a job was aborted before it began."""
    if job.abort_requested:
        raise AbortedError(f"{job.id} was aborted before it began")


def _status_of(job: Job) -> Status:
    return Status.ACQUIRING if isinstance(job, Record) else Status.MOVING
