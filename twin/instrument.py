"""The instrument: one driver, the rules that keep it safe, and what its clients may ask of it."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from twinscope import _checks
from twinscope._version import __version__
from twinscope.board import Board, status_of
from twinscope.capabilities import Capabilities
from twinscope.errors import (
    AbortedError,
    BusyError,
    DriverError,
    InvalidRequestError,
    LeaseError,
    StoreError,
)
from twinscope.guard import Backend, check_acquisition, check_command, complete
from twinscope.interlocks import Interlocks
from twinscope.job_book import JobBook
from twinscope.jobs import ON_LEASE_LOSS, Job
from twinscope.lease import Lease, LeaseBook
from twinscope.ledger import Ledger
from twinscope.record import Record
from twinscope.requests import AcquisitionRequest, ScanRequest, SpectroscopyRequest
from twinscope.sessions import Caller, Session
from twinscope.state import InstrumentState, Reading, Status, TipState
from twinscope.worker import Worker

log = logging.getLogger(__name__)

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

    Attributes
    ----------
    events
        What happens, for those who watch.
    jobs
        What it does and has done.
    """

    def __init__(
        self, backend: Backend, directory: Path, interlocks: Interlocks | None = None, ledger: Ledger | None = None
    ) -> None:
        self.ledger = ledger or Ledger(None)
        self._backend = backend
        self._directory = directory
        self._interlocks = interlocks or Interlocks()
        self._interlocks.check_names(self.capabilities)
        self._leases = LeaseBook(self.ledger.recovered.last_lease)
        self._board = Board(self.ledger)
        self.events = self._board.events
        self.jobs = JobBook(directory, self.ledger)
        self._closing = threading.Event()
        self._worker = Worker(backend, self._board)
        self._watch = threading.Thread(target=self._watch_lease, name="lease", daemon=True)

    @property
    def capabilities(self) -> Capabilities:
        """What it can do; a driver that had to be made anew may find its hardware with other limits."""
        return self._backend.capabilities()

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
        with self._board.lock:
            if self._closing.is_set():
                return
            # From now on nothing is begun that would have to be waited for.
            self._closing.set()
            safe = self._board.status is not Status.FAILED and self._board.blocked is None
            running = self._board.pending
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
        self._board.set_status(Status.CLOSED)
        if self._board.blocked is not None:
            # The disk may have been full when it was.
            self.ledger.try_to_note("blocked", durable=True, reason=self._board.blocked)
        self.ledger.try_to_note("stopped", durable=True)
        self.ledger.close()

    def state(self) -> InstrumentState:
        """Return a snapshot."""
        latest = self.jobs.latest
        with self._board.lock:
            return self._board.state(None if latest is None else latest.id, self._leases.current)

    def wait_ready(self, timeout: float) -> bool:
        """Wait until the driver is open; False when it is still warming after `timeout` seconds."""
        return self._board.wait_ready(timeout)

    # ------------------------------------------------------------------ lease

    def acquire_lease(self, caller: Caller, purpose: str, duration: float) -> Lease | None:
        """Give control to a session; see :meth:`LeaseBook.acquire`."""
        self._expire_lease()
        with self._board.lock:
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
        with self._board.lock:
            self._leases.check(caller)

    def heartbeat(self, session: Session) -> None:
        """Take a sign of life of a session."""
        with self._board.lock:
            self._leases.heartbeat(session)

    def release_lease(self, caller: Caller) -> None:
        """Take control back from a client; what it has begun goes on. A lease that is over already is no error."""
        with self._board.lock:
            current = self._leases.current
            mine = current is not None and current.session is caller.session and current.number == caller.lease
            if mine and not caller.dry_run:
                self._note_lease("released", self._leases.end())

    def break_lease(self, caller: Caller) -> None:
        """Take control from whoever has it; what they have begun is treated as when they fall silent."""
        with self._board.lock:
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
        with self._board.lock:
            lease = self._check_free(caller)
            if self._board.reading is not None:
                check_command(self.capabilities, self._interlocks, self._board.reading, name, arguments)
            job = Job(name, arguments, lease.number)
            if caller.dry_run:
                return None
            self._submit(job, lambda: self._carry_out(job, lease, name, arguments))
            return job

    def withdraw(self, caller: Caller) -> Job | None:
        """Abort what is in progress and begin to withdraw the tip."""
        with self._board.lock:
            lease = self._check_usable(caller)
            if caller.dry_run:
                return None
            job = Job("withdraw", {}, lease.number)
            running, self._board.pending = self._board.pending, job
        return self._withdraw_after(running, job)

    def emergency_stop(self, caller: Caller, reason: str) -> Job | None:
        """Stop everything, withdraw the tip, and let nothing move until an operator acknowledges it."""
        if self._closing.is_set():
            raise DriverError("the instrument is closed: there is nothing left to stop")
        if caller.dry_run:
            return None
        why = f"emergency stop by {caller.session.identity.name}: {reason or 'no reason given'}"
        self._board.block(why)
        job = self._own_job("withdraw")
        with self._board.lock:
            running, self._board.pending = self._board.pending, job
        try:
            return self._withdraw_after(running, job)
        finally:
            # The tip comes first: a slow disk must not hold it up.
            self.ledger.try_to_note("blocked", durable=True, reason=why)

    def acknowledge(self, caller: Caller) -> None:
        """Say that an operator has looked at the tip, and that it may move again."""
        with self._board.lock:
            self._leases.check(caller)
            if self._board.blocked is None:
                raise InvalidRequestError("there is nothing to acknowledge: the instrument is not blocked")
            if caller.dry_run:
                return
            self.ledger.note("acknowledged", durable=True, reason=self._board.blocked, by=caller.session.identity.name)
            self._board.unblock()

    def restart(self, caller: Caller) -> Job | None:
        """Begin to start a driver again that has failed for good."""
        with self._board.lock:
            self._leases.check(caller)
            if self._board.status is not Status.FAILED:
                raise InvalidRequestError(
                    f"the driver has not failed, it is {self._board.status}: there is nothing to restart"
                )
            job = self._own_job("restart")
            if caller.dry_run:
                return None
            self._board.error = None
            self._submit(job, self._worker.restart)
            self._board.set_status(Status.WARMING)
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
        with self._board.lock:
            lease = self._check_free(caller)
            if self._board.reading is not None:
                self._check_in_range(request, self._board.reading)
                check_acquisition(self.capabilities, self._interlocks, self._board.reading, request)
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
            return record

    def pause(self, caller: Caller, identifier: str) -> Job:
        """Let a job rest after the trace in progress; the tip stays where it is."""
        return self._direct(caller, identifier, pause=True)

    def resume(self, caller: Caller, identifier: str) -> Job:
        """Let a paused job go on."""
        return self._direct(caller, identifier, pause=False)

    def abort(self, caller: Caller, identifier: str) -> Job:
        """Stop a job; returns when the driver stands still. One that is over already is left as it is."""
        with self._board.lock:
            self._leases.check(caller)
        job = self.jobs.job(identifier)
        if not (job.state.is_final or caller.dry_run):
            self._interrupt(job)
        return job

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
        with self._board.lock:
            if self._board.pending is not None:
                raise BusyError(f"the instrument is busy with {self._board.pending.id}: ask when it is idle")
            self._submit(job, lambda: answer.update(self._backend.truth(low, high)))
        job.done.wait()
        if job.error is not None:
            raise job.error
        return answer

    # ------------------------------------------------------------------ inside

    def _carry_out(self, job: Job, lease: Lease, name: str, arguments: Mapping[str, Any]) -> None:
        """Carry out a command; a move that did not arrive was stopped."""
        _check_wanted(job)
        before = self._board.reading
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
            with self._board.lock:
                self._submit(job, lambda: self._withdraw(job))
        return job

    def _check_usable(self, caller: Caller) -> Lease:
        lease = self._leases.check(caller)
        if self._board.status is Status.FAILED:
            raise DriverError(f"the driver has failed: {self._board.error}: restart it")
        if self._closing.is_set():
            raise DriverError("the instrument is closed: start it again")
        self._board.check_unblocked()
        return lease

    def _check_free(self, caller: Caller) -> Lease:
        lease = self._check_usable(caller)
        if self._board.pending is not None:
            raise BusyError(f"the instrument is busy with {self._board.pending.id}: wait until it is idle, or abort")
        return lease

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
        self.jobs.add(job)
        self._board.pending = job
        if self._board.status not in (Status.WARMING, Status.FAILED, Status.CLOSED):
            self._board.set_status(status_of(job))
        self._board.tell("job", **job.progress())
        self._worker.submit(job, action)

    def _own_job(self, verb: str) -> Job:
        return Job(verb, {}, None)

    def _direct(self, caller: Caller, identifier: str, *, pause: bool) -> Job:
        with self._board.lock:
            self._leases.check(caller)
        job = self.jobs.record(identifier)
        if job.state.is_final:
            raise InvalidRequestError(f"{identifier} is {job.state}: it cannot be paused or resumed any more")
        if not caller.dry_run:
            job.ask(pause=pause)
            self._board.tell("job", **job.progress())
        return job

    def _interrupt(self, job: Job) -> None:
        """Abort a job and wait until the driver stands still; one that waits for the driver to open never begins."""
        job.ask(abort=True)
        if self._board.status is Status.WARMING:
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

    def _watch_lease(self) -> None:
        while not self._closing.wait(_LEASE_INTERVAL):
            try:
                self._expire_lease()
            except DriverError as exc:
                log.error("the lease has expired, but: %s", exc)

    def _expire_lease(self) -> None:
        """End a lease whose holder has fallen silent."""
        with self._board.lock:
            expired = self._leases.end_if_expired()
            if expired is not None:
                self._note_lease("expired", expired)
        if expired is not None:
            self._after_lease_loss(expired)

    def _after_lease_loss(self, lease: Lease) -> None:
        """Do with the job of a lost lease what its client has asked for."""
        with self._board.lock:
            job = self._board.pending
            if job is None or job.lease != lease.number or job.on_lease_loss == "continue":
                return
            log.warning("lease %d is lost: %s %s", lease.number, job.id, job.on_lease_loss)
            if job.on_lease_loss == "pause":
                job.ask(pause=True)
                return
            withdrawal = self._own_job("withdraw")
            self._board.pending = withdrawal
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
        self._board.tell("lease", **about)
        self._board.set_status(self._board.status)


def _check_wanted(job: Job) -> None:
    """Raise :class:`AbortedError` when a job was aborted before it began."""
    if job.abort_requested:
        raise AbortedError(f"{job.id} was aborted before it began")
