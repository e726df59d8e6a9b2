"""Who acts for all Nanonis clients: one session of the server, and the lease that it takes for them."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from twinscope.acquisition import Acquisition
from twinscope.capabilities import ACQUISITIONS
from twinscope.errors import BusyError, InterlockError, LeaseError, TwinscopeError
from twinscope.protocol import Reply, fetch_in_turn
from twinscope.requests import AcquisitionRequest
from twinscope.service import Service
from twinscope.sessions import Identity, Role
from twinscope.state import InstrumentState, Position, Status

log = logging.getLogger(__name__)

# After so many seconds without a sign of life of the gateway the instrument is free; it gives one three times as often.
_LEASE_DURATION = 10.0
# A wait for a job is cut into pieces of this, in s, so that it can be given up.
_SLICE = 0.1
# So long a command waits until a motion is over that is in its way, in s.
_PATIENCE = 10.0
_AT_WORK = (Status.MOVING, Status.ACQUIRING, Status.PAUSED)


class Operator:
    """Calls the verbs of a service for the clients of the gateway. Any thread may use it.

    A Nanonis script knows no lease: the first command that changes something takes it. It is given back when the last
    client has left, or when none of them has changed anything for a while.

    Parameters
    ----------
    service
        The verbs.
    role
        What the clients may do.
    idle_time
        Seconds without a command that changes something, and without a job, after which the lease is given back.
    """

    def __init__(self, service: Service, role: Role, idle_time: float) -> None:
        self._service = service
        self._session = service.sessions.enter(Identity("nanonis", role), "a Nanonis client")
        self._idle_time = idle_time
        self._lock = threading.Lock()
        self._number: int | None = None
        self._clients = 0
        self._last_use = time.monotonic()
        self._closed = threading.Event()
        self._keeper = threading.Thread(target=self._keep_lease, name="nanonis lease", daemon=True)
        self._keeper.start()

    # ------------------------------------------------------------------ clients

    def arrive(self) -> None:
        """Note that a client has come."""
        with self._lock:
            self._clients += 1

    def leave(self) -> None:
        """Note that a client has gone; with the last one the lease goes, too. What was begun goes on."""
        with self._lock:
            self._clients -= 1
            if self._clients == 0:
                self._release()

    def close(self) -> None:
        """Give the lease back and do nothing more."""
        self._closed.set()
        self._keeper.join()
        with self._lock:
            self._release()

    @property
    def holds_lease(self) -> bool:
        """Whether the instrument is ours at this moment."""
        return self._number is not None

    # ------------------------------------------------------------------ verbs

    def call(
        self,
        name: str,
        parameters: Mapping[str, Any] = MappingProxyType({}),
        *,
        lease: int | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Carry out a verb; the operator is a :class:`~twinscope.protocol.Transport`."""
        # With a name of its own each request is in the journal.
        request_id = secrets.token_hex(8)
        return self._service.call(self._session, name, parameters, request_id=request_id, lease=lease, dry_run=dry_run)

    def fetch(self, name: str, parameters: Sequence[Mapping[str, Any]], into: Sequence[memoryview]) -> Iterator[Reply]:
        """Carry out a verb that reads with each of several parameters."""
        return fetch_in_turn(self.call, name, parameters, into)

    def look(self, verb: str, /, **parameters: Any) -> Any:
        """Call a verb that changes nothing, and return what it answers."""
        return self.call(verb, parameters).result

    def command(self, verb: str, /, *, patient: bool = False, **parameters: Any) -> Any:
        """Call a verb that changes something, with the lease, and return what it answers.

        Parameters
        ----------
        verb, parameters
            What to do.
        patient
            Whether to wait a moment for the end of a motion that is in the way. A step of something that has begun must
            not: what is in the way may be a withdrawal.
        """
        return self._with_lease(verb, parameters, dry_run=False, patient=patient)

    def check(self, verb: str, /, **parameters: Any) -> None:
        """Raise the error that a verb would raise now, or after the motion that is in its way."""
        self._with_lease(verb, parameters, dry_run=True, patient=True)

    def state(self) -> InstrumentState:
        """Return a snapshot of the instrument."""
        return InstrumentState.from_dict(self.look("state"))

    def position(self) -> Position:
        """Return where the tip is.

        Raises
        ------
        InterlockError
            When nobody knows.
        """
        position = self.state().position
        if position is None:
            raise InterlockError("the instrument does not know yet where its tip is: wait until it has started")
        return position

    def acquire(self, request: AcquisitionRequest, *, patient: bool = False) -> Acquisition:
        """Begin an acquisition, which goes on when its client is gone; `patient` is that of :meth:`command`."""
        answer = self.command("acquire", patient=patient, kind=request.kind, request=request.to_dict())
        return self._handle(answer)

    def acquisition(self, identifier: str) -> Acquisition:
        """Return an acquisition by its id, whoever has begun it."""
        return self._handle(self.look("acquisition", id=identifier))

    def job_in_progress(self) -> Mapping[str, Any] | None:
        """Tell how far the job is that the instrument carries out, whoever began it; None when there is none."""
        identifier = self.state().job
        if identifier is None:
            return None
        progress: Mapping[str, Any] = self.look("wait_job", id=identifier, timeout=0.0)
        return None if progress["over"] else progress

    def finish(self, progress: Mapping[str, Any], meanwhile: Callable[[], None]) -> None:
        """Wait for the end of a job and raise what went wrong with it.

        Parameters
        ----------
        progress
            Of the job, from the verb that began it.
        meanwhile
            Is called again and again; what it raises ends the wait, not the job.
        """
        while True:
            progress = self.look("wait_job", id=progress["id"], timeout=_SLICE)
            if progress["over"]:
                break
            meanwhile()
        if progress["error"] is not None:
            raise TwinscopeError.from_dict(progress["error"])

    def _handle(self, answer: Mapping[str, Any]) -> Acquisition:
        return Acquisition(self, answer["metadata"], answer["progress"], lambda: self._number)

    # ------------------------------------------------------------------ the lease

    def _with_lease(self, verb: str, parameters: Mapping[str, Any], *, dry_run: bool, patient: bool) -> Any:
        patient_until = time.monotonic() + _PATIENCE if patient else 0.0
        while True:
            number = self._take_lease()
            try:
                return self.call(verb, parameters, lease=number, dry_run=dry_run).result
            except LeaseError:
                # The next command takes control anew, now that somebody has been told.
                self._forget(number)
                raise
            except BusyError:
                # On a Nanonis controller a move that nobody waits for is in nobody's way.
                if time.monotonic() >= patient_until or not self._wait_for_motion():
                    raise

    def _wait_for_motion(self) -> bool:
        """Wait a moment for the end of what is in progress; False when that is an acquisition."""
        job = self.job_in_progress()
        if job is not None and job["verb"] in ACQUISITIONS:
            return False
        if job is not None:
            self.look("wait_job", id=job["id"], timeout=_SLICE)
        return not self._closed.is_set()

    def _take_lease(self) -> int:
        with self._lock:
            self._last_use = time.monotonic()
            if self._number is None:
                grant = self.call("acquire_lease", {"purpose": "Nanonis gateway", "duration": _LEASE_DURATION}).result
                self._number = grant["lease"]
            number: int = self._number
            return number

    def _forget(self, number: int) -> None:
        with self._lock:
            if self._number == number:
                self._number = None

    def _release(self) -> None:
        number, self._number = self._number, None
        if number is None:
            return
        try:
            self.call("release_lease", lease=number)
        except TwinscopeError as exc:
            log.warning("control could not be given back, it expires by itself: %s", exc)

    def _keep_lease(self) -> None:
        while not self._closed.wait(_LEASE_DURATION / 3):
            try:
                self._keep_lease_once()
            # Whatever it was, the next sign of life may be heard.
            except TwinscopeError as exc:
                log.warning("control of the instrument could not be renewed: %s", exc)

    def _keep_lease_once(self) -> None:
        with self._lock:
            number = self._number
            if number is not None and self._is_idle():
                log.info("no Nanonis client needs the instrument any more: control is given back")
                self._release()
                return
        if number is not None:
            self._renew(number)

    def _is_idle(self) -> bool:
        """Whether nobody is there, or has changed anything for a while, and nothing is in progress."""
        # What was begun by one that is gone may have taken control once more, for its last step.
        deserted = self._clients == 0 or time.monotonic() - self._last_use > self._idle_time
        return deserted and self.state().status not in _AT_WORK

    def _renew(self, number: int) -> None:
        try:
            self.call("renew_lease", lease=number)
        except LeaseError as exc:
            log.warning("control of the instrument was lost: %s", exc)
            self._forget(number)
