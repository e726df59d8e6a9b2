"""The instrument: one driver, one worker that commands it, and the rules that keep it safe."""

import itertools
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from twinscope import _checks
from twinscope._version import __version__
from twinscope.drivers.base import Driver
from twinscope.errors import (
    AbortedError,
    BusyError,
    DriverError,
    InvalidRequestError,
    NotFoundError,
    StoreError,
    TwinscopeError,
)
from twinscope.lease import Lease, LeaseBook
from twinscope.record import Record
from twinscope.requests import AcquisitionRequest, ScanRequest
from twinscope.state import InstrumentState, Position, Status, TipState
from twinscope.store import AcquisitionFile

log = logging.getLogger(__name__)

# Finished acquisitions stay in memory up to this many bytes; older ones are in their files.
_KEPT_BYTES = 2**31
# How long a driver may take to come to a stand, in s.
_STOP_TIMEOUT = 10.0


class _Task:
    """Something for the worker to do, and how it ended.

    When the end is announced, the instrument is ready for the next task.
    """

    def __init__(self, status: Status, action: Callable[[], None], record: Record | None = None) -> None:
        self.status = status
        self.error: TwinscopeError | None = None
        self.done = threading.Event()
        self._action = action
        self._record = record

    def run(self) -> None:
        """Do it; whatever goes wrong becomes the error of the task."""
        try:
            self._action()
        except TwinscopeError as exc:
            self.error = exc
        # A driver is foreign code; whatever it raises must reach the clients and not kill the worker.
        except Exception as exc:
            log.exception("the driver failed")
            self.error = DriverError(f"{type(exc).__name__}: {exc}")

    def announce(self) -> None:
        """Tell those who wait."""
        if self._record is not None:
            self._record.end(self.error)
        self.done.set()


@dataclass(frozen=True, slots=True)
class _Observation:
    """What the worker saw last."""

    tip: TipState = TipState.UNKNOWN
    position: Position | None = None
    time: float = 0.0


class Instrument:
    """A microscope that several clients share.

    All methods may be called from any thread. What changes the instrument needs the key of the lease. The driver is
    commanded by one worker thread, one task at a time; only :meth:`Driver.stop` is called from elsewhere.

    Parameters
    ----------
    driver
        What stands behind it.
    directory
        Where acquisitions are stored.
    """

    def __init__(self, driver: Driver, directory: Path) -> None:
        self._driver = driver
        self._directory = directory
        self.capabilities = driver.capabilities()
        self._lock = threading.Condition()
        self._leases = LeaseBook()
        self._status = Status.WARMING
        self._error: TwinscopeError | None = None
        self._revision = 0
        self._observed = _Observation()
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._pending: _Task | None = None
        self._motions: OrderedDict[int, _Task] = OrderedDict()
        self._numbers = itertools.count(1)
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._worker = threading.Thread(target=self._work, name="instrument", daemon=True)

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        """Begin to open the driver; the status is "warming" until that is done.

        Raises
        ------
        StoreError
            When the directory cannot be made.
        """
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StoreError(f"the directory {self._directory} for the data cannot be made: {exc}") from exc
        self._worker.start()

    def close(self) -> None:
        """Abort what is in progress, withdraw the tip and close the driver."""
        with self._lock:
            if self._status is Status.CLOSED:
                return
            failed = self._status is Status.FAILED
        if self._worker.is_alive():
            self._interrupt()
            if not failed:
                self._tasks.put(_Task(Status.MOVING, self._driver.withdraw))
            self._tasks.put(None)
            self._worker.join()
        with self._lock:
            self._change(Status.CLOSED)

    def state(self) -> InstrumentState:
        """Return a snapshot."""
        with self._lock:
            return InstrumentState(
                status=self._status,
                tip=self._observed.tip,
                position=self._observed.position,
                time=self._observed.time,
                acquisition=next(reversed(self._records), None),
                lease=self._leases.describe(),
                error=None if self._error is None else self._error.message,
                revision=self._revision,
            )

    def wait_ready(self, timeout: float) -> bool:
        """Wait until the driver is open; False when it is still warming after `timeout` seconds."""
        with self._lock:
            return self._lock.wait_for(lambda: self._status is not Status.WARMING, timeout)

    # ------------------------------------------------------------------ lease

    def acquire_lease(self, holder: str, purpose: str, duration: float) -> Lease:
        """Give control to a client; see :meth:`LeaseBook.acquire`."""
        with self._lock:
            lease = self._leases.acquire(holder, purpose, duration)
            self._change(self._status)
            log.info("%s took control: %s", holder, purpose or "no purpose given")
            return lease

    def renew_lease(self, key: str) -> None:
        """Take a sign of life from the holder."""
        with self._lock:
            self._leases.check(key)

    def release_lease(self, key: str) -> None:
        """Take control back from a client."""
        with self._lock:
            self._leases.release(key)
            self._change(self._status)

    # ------------------------------------------------------------------ motion

    def move_to(self, key: str | None, x: Any = None, y: Any = None, z: Any = None) -> int:
        """Begin to move the tip; coordinates that are None stay. Returns the number for :meth:`wait_motion`."""
        wanted = {
            name: _checks.finite(name, value) for name, value in {"x": x, "y": y, "z": z}.items() if value is not None
        }
        if not wanted:
            raise InvalidRequestError("no coordinate was given: expected at least one of x, y, z in m")
        self.capabilities.check_position(**wanted)

        def move() -> None:
            target = replace(self._driver.position, **wanted)
            self._driver.move_to(target.x, target.y, target.z)
            reached = self._driver.position
            if reached != target:
                raise AbortedError(f"the move to {target} was stopped at {reached}")

        return self._begin_motion(key, move)

    def withdraw(self, key: str | None) -> int:
        """Abort what is in progress and begin to withdraw the tip; the number is for :meth:`wait_motion`."""
        with self._lock:
            self._leases.check(key)
        self._interrupt()
        return self._begin_motion(key, self._driver.withdraw)

    def approach(self, key: str | None) -> int:
        """Begin to bring the tip to its working height; the number is for :meth:`wait_motion`."""
        return self._begin_motion(key, self._driver.approach)

    def wait_motion(self, number: int, timeout: float) -> bool:
        """Wait for a motion to end; False when it still goes on after `timeout` seconds. Its error is raised here."""
        with self._lock:
            if number not in self._motions:
                raise NotFoundError(f"there is no motion {number}: it was never begun, or is long over")
            task = self._motions[number]
        if not task.done.wait(timeout):
            return False
        if task.error is not None:
            raise task.error
        return True

    # ------------------------------------------------------------------ acquisitions

    def start_acquisition(self, key: str | None, request: AcquisitionRequest) -> Record:
        """Begin a scan or a spectroscopy.

        Raises
        ------
        InvalidRequestError, OutOfRangeError, UnknownChannelError
            When the instrument cannot do it.
        LeaseError
            When the key is not the holder's.
        BusyError
            When something else is in progress.
        """
        self.capabilities.check_request(request)
        channels = tuple(self.capabilities.channel(name) for name in request.channels)
        with self._lock:
            self._check_free(key)
            if isinstance(request, ScanRequest) and request.heights is None:
                self._check_in_range()
            # To the microsecond: several instruments may write into one directory.
            identifier = f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{request.kind}"
            lease = self._leases.current
            record = Record(
                identifier,
                request,
                channels,
                {
                    "twinscope": __version__,
                    "instrument": self.capabilities.to_dict(),
                    "operator": None if lease is None else lease.holder,
                    "purpose": None if lease is None else lease.purpose,
                    "file": str(self._directory.resolve() / f"{identifier}.h5"),
                },
            )
            self._records[identifier] = record
            self._forget_old_records()
            self._submit(_Task(Status.ACQUIRING, lambda: self._acquire(record), record))
            return record

    def abort(self, key: str | None, identifier: str) -> Record:
        """Stop an acquisition; returns when the driver stands still. One that is over already is left as it is."""
        with self._lock:
            self._leases.check(key)
        record = self.record(identifier)
        if not record.state.is_final:
            self._interrupt()
        return record

    def record(self, identifier: str) -> Record:
        """Return an acquisition.

        Raises
        ------
        NotFoundError
            When there is none of this name in memory.
        """
        with self._lock:
            if identifier in self._records:
                return self._records[identifier]
        raise NotFoundError(
            f"there is no acquisition {identifier!r} in memory: old ones are files in {self._directory.resolve()}"
        )

    # ------------------------------------------------------------------ inside

    def _begin_motion(self, key: str | None, action: Callable[[], None]) -> int:
        with self._lock:
            self._check_free(key)
            number = next(self._numbers)
            self._motions[number] = task = _Task(Status.MOVING, action)
            while len(self._motions) > 100:
                self._motions.popitem(last=False)
            self._submit(task)
            return number

    def _check_free(self, key: str | None) -> None:
        self._leases.check(key)
        if self._status is Status.FAILED:
            raise DriverError(f"the driver has failed: {self._error}: restart the instrument")
        if self._status is Status.CLOSED:
            raise DriverError("the instrument is closed")
        if self._pending is not None:
            raise BusyError(f"the instrument is {self._pending.status}: wait until it is idle, or abort")

    def _check_in_range(self) -> None:
        if self._status is not Status.WARMING and self._observed.tip is not TipState.IN_RANGE:
            raise InvalidRequestError(
                f"the tip is {self._observed.tip} and no heights were given: approach() first, or give heights"
            )

    def _submit(self, task: _Task) -> None:
        self._pending = task
        if self._status is not Status.WARMING:
            self._change(task.status)
        self._tasks.put(task)

    def _interrupt(self) -> None:
        """Stop the task in progress and wait until the driver stands still."""
        with self._lock:
            task = self._pending
            record = next(reversed(self._records.values()), None)
            if record is not None and not record.state.is_final:
                record.abort_requested = True
            warming = self._status is Status.WARMING
        if task is None or warming:
            return
        # A stop that comes before the driver has begun is lost, so it is repeated.
        deadline = time.monotonic() + _STOP_TIMEOUT
        while not task.done.is_set() and time.monotonic() < deadline:
            self._driver.stop()
            task.done.wait(0.05)
        if not task.done.is_set():
            raise DriverError(f"the driver did not come to a stand within {_STOP_TIMEOUT:.0f} s")

    def _work(self) -> None:
        """Run the tasks, from the opening of the driver to its close."""
        opening = _Task(Status.WARMING, self._driver.open)
        self._run(opening)
        with self._lock:
            waiting = Status.IDLE if self._pending is None else self._pending.status
            self._change(waiting if self._error is None else Status.FAILED)
        while (task := self._tasks.get()) is not None:
            if self._error is None:
                self._run(task)
            else:
                task.error = self._error
            with self._lock:
                if self._pending is task:
                    self._pending = None
                self._change(Status.IDLE if self._error is None else Status.FAILED)
            task.announce()
        self._run(_Task(Status.CLOSED, self._driver.close))

    def _run(self, task: _Task) -> None:
        """Run a task; after an error of the driver nothing more is asked of it, and nobody knows where the tip is."""
        task.run()
        if task.status is not Status.CLOSED and not isinstance(task.error, DriverError):
            look = _Task(task.status, self._observe)
            look.run()
            task.error = task.error or look.error
        if isinstance(task.error, DriverError):
            with self._lock:
                self._error = self._error or task.error
                self._observed = replace(self._observed, tip=TipState.UNKNOWN)

    def _observe(self) -> None:
        """Note where the tip is, for those who ask: only the worker may ask the driver."""
        self._observed = _Observation(self._driver.tip, self._driver.position, self._driver.time)

    def _acquire(self, record: Record) -> None:
        if record.abort_requested:
            return
        position = self._driver.position
        record.metadata["position"] = {"x": position.x, "y": position.y, "z": position.z}
        record.metadata["instrument_time"] = self._driver.time
        record.begin(AcquisitionFile.create(record))
        if isinstance(record.request, ScanRequest):
            self._driver.start_scan(record.request, record)
        else:
            self._driver.start_spectroscopy(record.request, record)
        while not record.abort_requested and self._driver.poll():
            self._observe()

    def _change(self, status: Status) -> None:
        self._status = status
        self._revision += 1
        self._lock.notify_all()

    def _forget_old_records(self) -> None:
        sizes = {name: record.nbytes for name, record in self._records.items()}
        for name in list(self._records)[:-1]:
            if sum(sizes.values()) <= _KEPT_BYTES or not self._records[name].state.is_final:
                break
            del self._records[name], sizes[name]
