"""The verbs of the microscope: plain data in, plain data out, the same for every way to reach it.

A verb is a method marked with :func:`verb`. It knows nothing of sockets; a front end hands it the session and the
parameters that it received and sends back the :class:`Reply`.
"""

import inspect
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from twinscope import _checks
from twinscope._version import __version__
from twinscope.errors import InvalidRequestError, TwinscopeError
from twinscope.instrument import Instrument
from twinscope.jobs import Job
from twinscope.lease import Lease
from twinscope.protocol import CHUNK, LONGEST_WAIT, VERSION, Reply
from twinscope.requests import request_from_dict
from twinscope.sessions import Caller, Role, Session, SessionBook, fingerprint_of

_Method = TypeVar("_Method", bound=Callable[..., Any])


def verb(role: Role = Role.OBSERVER, *, writes: bool = False, safe: bool = False) -> Callable[[_Method], _Method]:
    """Mark a method of :class:`Service` as callable by clients.

    Parameters
    ----------
    role
        The least role that may call it.
    writes
        Whether it changes something: it is written in the journal, can be tried with ``dry_run``, and a repeated
        request is answered from the record.
    safe
        Whether it brings the instrument to rest: it is carried out even if the journal cannot be written.
    """

    def mark(method: _Method) -> _Method:
        method.__verb__ = (role, writes, safe)  # type: ignore[attr-defined]
        return method

    return mark


class Service:
    """The verbs of one instrument.

    Attributes
    ----------
    sessions
        Who talks to it.
    """

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._ledger = instrument.ledger
        self._run = secrets.token_hex(8)
        self.sessions = SessionBook(self._ledger.recovered.sessions, self._note_session)

    def call(
        self,
        session: Session,
        name: str,
        parameters: Mapping[str, Any],
        *,
        request_id: str | None = None,
        lease: int | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Carry out a verb.

        Parameters
        ----------
        session
            Who asks.
        name, parameters
            The verb and what it takes.
        request_id
            Unique name of this request: one that writes is carried out once, however often it comes.
        lease
            Number of the lease that the caller holds.
        dry_run
            Only check whether it could be done now.

        Raises
        ------
        TwinscopeError
            As the verb does.
        InvalidRequestError
            When there is no such verb, or the parameters do not fit.
        ForbiddenError
            When the session's role does not allow it.
        """
        method = getattr(type(self), name, None) if isinstance(name, str) else None
        marks = getattr(method, "__verb__", None)
        if method is None or marks is None:
            raise InvalidRequestError(f"there is no verb {name!r}: expected one of {', '.join(self.verbs())}")
        role, writes, safe = marks
        session.require(role, name)
        if dry_run and not writes:
            raise InvalidRequestError(f"{name} changes nothing: there is no dry run of it")
        caller = Caller(session, lease, dry_run)
        try:
            arguments = inspect.signature(method).bind(self, caller, **parameters)
        except TypeError as exc:
            raise InvalidRequestError(f"the parameters of {name} do not fit: {exc}") from exc
        # Any call is a sign of life.
        self._instrument.heartbeat(session)

        def act() -> Any:
            return method(*arguments.args, **arguments.kwargs)

        if writes and not dry_run and request_id is not None:
            result = self._once(caller, name, parameters, request_id, act, safe=safe)
        else:
            result = act()
        return result if isinstance(result, Reply) else Reply(result)

    @classmethod
    def verbs(cls) -> list[str]:
        """Names of all verbs."""
        return sorted(name for name, member in vars(cls).items() if hasattr(member, "__verb__"))

    # ------------------------------------------------------------------ looking: for everyone, at any time

    @verb()
    def hello(self, caller: Caller) -> dict[str, Any]:
        """Tell who is there, and as whom the caller is known."""
        identity = caller.session.identity
        return {
            "twinscope": __version__,
            "protocol": VERSION,
            "instrument": self._instrument.capabilities.instrument,
            "identity": identity.name,
            "role": identity.role.name.lower(),
        }

    @verb()
    def capabilities(self, caller: Caller) -> dict[str, Any]:
        """See :class:`Capabilities`."""
        del caller
        return self._instrument.capabilities.to_dict()

    @verb()
    def state(self, caller: Caller) -> dict[str, Any]:
        """See :class:`InstrumentState`."""
        del caller
        return self._instrument.state().to_dict()

    @verb()
    def wait_ready(self, caller: Caller, timeout: float) -> bool:
        """Wait until the driver is open."""
        del caller
        return self._instrument.wait_ready(_patience(timeout))

    @verb()
    def events(self, caller: Caller, cursor: Mapping[str, Any] | None = None, timeout: float = 0.0) -> dict[str, Any]:
        """Return events after a cursor, waiting for one; without a cursor, the cursor for what comes from now on.

        What is "missed" is how many are gone that came after the cursor: None when the server was restarted since.
        """
        del caller
        log = self._instrument.events
        if cursor is None:
            return {"cursor": {"run": self._run, "number": log.last}, "events": [], "missed": 0}
        given = _checks.fields("cursor", cursor, ("run", "number"))
        known = given.get("run") == self._run
        number = _integer("cursor.number", given.get("number")) if known else 0
        if number > log.last:
            raise InvalidRequestError(f"cursor.number is {number}: expected at most {log.last}, the latest event's")
        events, missed = log.after(number, _patience(timeout))
        last = events[-1].number if events else number
        return {
            "cursor": {"run": self._run, "number": last},
            "events": [asdict(event) for event in events],
            "missed": missed if known else None,
        }

    @verb()
    def jobs(self, caller: Caller) -> list[dict[str, Any]]:
        """Return the progress of all jobs in memory, the latest last."""
        del caller
        return [job.progress() for job in self._instrument.jobs.all()]

    @verb()
    def wait_job(self, caller: Caller, id: str, timeout: float) -> dict[str, Any]:
        """Wait for a job to end, and tell how far it is."""
        del caller
        job = self._instrument.jobs.job(id)
        # Known before the state is read: of one that is over, the state is final.
        over = job.done.wait(_patience(timeout))
        return job.progress() | {"over": over}

    @verb()
    def acquisition(self, caller: Caller, id: str) -> dict[str, Any]:
        """Everything about an acquisition but its data."""
        del caller
        record = self._instrument.jobs.record(id)
        return {"metadata": record.metadata, "progress": record.progress()}

    @verb()
    def pull(self, caller: Caller, id: str, offset: int, timeout: float) -> Reply:
        """Return data of an acquisition from a byte on, as far as measured; waits when there is nothing new yet."""
        del caller
        record = self._instrument.jobs.record(id)
        record.wait(_integer("offset", offset), _patience(timeout))
        # The state is read first: when it is final, all data were there.
        progress = record.progress()
        return Reply(progress, record.read(offset, CHUNK))

    @verb()
    def find(self, caller: Caller, criteria: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Find acquisitions in the catalogue."""
        del caller
        criteria = _checks.mapping("criteria", criteria)
        try:
            return self._instrument.ledger.find(**criteria)
        except TypeError as exc:
            raise InvalidRequestError(f"the catalogue cannot be searched for {sorted(criteria)}: {exc}") from exc

    @verb(Role.ADMIN)
    def oracle(self, caller: Caller, low: Any, high: Any) -> Mapping[str, Any]:
        """Tell the truth about a part of a simulated sample, for scoring; off unless the simulator was set up so."""
        del caller
        corners = []
        for name, corner in (("low", low), ("high", high)):
            x, y = _checks.pair(name, corner)
            corners.append((_checks.finite(name, x), _checks.finite(name, y)))
        return self._instrument.truth(*corners)

    # ------------------------------------------------------------------ control

    @verb(Role.OPERATOR, writes=True)
    def acquire_lease(self, caller: Caller, purpose: str, duration: float) -> dict[str, Any] | None:
        """Take control."""
        lease = self._instrument.acquire_lease(caller, str(purpose), duration)
        return None if lease is None else _lease(lease)

    @verb(Role.OPERATOR)
    def renew_lease(self, caller: Caller) -> None:
        """Give a sign of life, and hear whether the lease is still good."""
        self._instrument.check_lease(caller)

    @verb(Role.OPERATOR, writes=True, safe=True)
    def release_lease(self, caller: Caller) -> None:
        """Give control back."""
        self._instrument.release_lease(caller)

    @verb(Role.ADMIN, writes=True, safe=True)
    def break_lease(self, caller: Caller) -> None:
        """Take control from whoever has it."""
        self._instrument.break_lease(caller)

    @verb(writes=True, safe=True)
    def emergency_stop(self, caller: Caller, reason: str = "") -> dict[str, Any] | None:
        """Stop everything and withdraw the tip; needs no lease. The job is over when the tip is withdrawn."""
        return _progress(self._instrument.emergency_stop(caller, str(reason)))

    @verb(Role.OPERATOR, writes=True)
    def acknowledge(self, caller: Caller) -> None:
        """Let the tip move again after something has gone wrong."""
        self._instrument.acknowledge(caller)

    @verb(Role.OPERATOR, writes=True)
    def restart(self, caller: Caller) -> dict[str, Any] | None:
        """Start a driver again that has failed for good."""
        return _progress(self._instrument.restart(caller))

    # ------------------------------------------------------------------ moving and setting: with the lease

    @verb(Role.OPERATOR, writes=True)
    def move_to(
        self, caller: Caller, x: Any = None, y: Any = None, z: Any = None, speed: Any = None
    ) -> dict[str, Any] | None:
        """Begin to move the tip; coordinates that are None stay."""
        given = {"x": x, "y": y, "z": z, "speed": speed}
        wanted = {name: None if value is None else _checks.finite(name, value) for name, value in given.items()}
        if wanted["x"] is wanted["y"] is wanted["z"] is None:
            raise InvalidRequestError("no coordinate was given: expected at least one of x, y, z in m")
        if speed is not None:
            _checks.positive("speed", speed)
        return _progress(self._instrument.command(caller, "move_to", **wanted))

    @verb(Role.OPERATOR, writes=True)
    def set_signal(self, caller: Caller, name: str, value: Any, rate: Any = None) -> dict[str, Any] | None:
        """Begin to set a signal, at once or with a rate per second."""
        number = _checks.finite(str(name), value)
        speed = None if rate is None else _checks.positive("rate", rate)
        return _progress(self._instrument.command(caller, "write", name=str(name), value=number, rate=speed))

    @verb(Role.OPERATOR, writes=True)
    def set_feedback(self, caller: Caller, mode: str) -> dict[str, Any] | None:
        """Switch the z-controller on or off."""
        return _progress(self._instrument.command(caller, "set_feedback", mode=str(mode)))

    @verb(Role.OPERATOR, writes=True, safe=True)
    def withdraw(self, caller: Caller) -> dict[str, Any] | None:
        """Abort what is in progress and begin to withdraw the tip."""
        return _progress(self._instrument.withdraw(caller))

    @verb(Role.OPERATOR, writes=True)
    def approach(self, caller: Caller) -> dict[str, Any] | None:
        """Begin to approach."""
        return _progress(self._instrument.command(caller, "approach"))

    @verb(Role.OPERATOR, writes=True)
    def coarse_move(self, caller: Caller, axis: str, steps: int) -> dict[str, Any] | None:
        """Begin to step a coarse motor."""
        _checks.choice("axis", axis, ("x", "y", "z"))
        if isinstance(steps, bool) or not isinstance(steps, int) or steps == 0:
            raise InvalidRequestError(f"steps is {steps!r}: expected an integer other than zero")
        return _progress(self._instrument.command(caller, "coarse_move", axis=axis, steps=steps))

    @verb(Role.OPERATOR, writes=True)
    def pulse(self, caller: Caller, voltage: Any, duration: Any) -> dict[str, Any] | None:
        """Begin to apply a pulse of the bias."""
        volts, seconds = _checks.finite("voltage", voltage), _checks.positive("duration", duration)
        return _progress(self._instrument.command(caller, "pulse", voltage=volts, duration=seconds))

    @verb(Role.OPERATOR, writes=True)
    def shape_tip(self, caller: Caller, depth: Any, voltage: Any = 0.0) -> dict[str, Any] | None:
        """Begin to dip the tip into the sample."""
        metres, volts = _checks.positive("depth", depth), _checks.finite("voltage", voltage)
        return _progress(self._instrument.command(caller, "shape_tip", depth=metres, voltage=volts))

    @verb(Role.OPERATOR, writes=True)
    def exchange_tip(self, caller: Caller, probe: str) -> dict[str, Any] | None:
        """Begin to put something else at the end of the tip."""
        return _progress(self._instrument.command(caller, "exchange_tip", probe=str(probe)))

    # ------------------------------------------------------------------ acquiring: with the lease

    @verb(Role.OPERATOR, writes=True)
    def acquire(
        self, caller: Caller, kind: str, request: Mapping[str, Any], on_lease_loss: str = "continue"
    ) -> dict[str, Any] | None:
        """Begin a scan, a path or a spectroscopy."""
        record = self._instrument.start_acquisition(caller, request_from_dict(kind, request), on_lease_loss)
        return None if record is None else {"metadata": record.metadata, "progress": record.progress()}

    @verb(Role.OPERATOR, writes=True)
    def pause(self, caller: Caller, id: str) -> dict[str, Any]:
        """Let an acquisition rest."""
        return self._instrument.pause(caller, id).progress()

    @verb(Role.OPERATOR, writes=True)
    def resume(self, caller: Caller, id: str) -> dict[str, Any]:
        """Let a paused acquisition go on."""
        return self._instrument.resume(caller, id).progress()

    @verb(Role.OPERATOR, writes=True, safe=True)
    def abort(self, caller: Caller, id: str) -> dict[str, Any]:
        """Abort a job; returns when the driver stands still."""
        return self._instrument.abort(caller, id).progress()

    # ------------------------------------------------------------------ inside

    def _once(
        self,
        caller: Caller,
        name: str,
        parameters: Mapping[str, Any],
        request_id: str,
        action: Callable[[], Any],
        *,
        safe: bool,
    ) -> Any:
        """Carry out a request that writes, with its entries in the journal, unless it was carried out before."""
        session = caller.session
        fingerprint = fingerprint_of(name, parameters)
        about: dict[str, Any] = {"session": session.label, "request_id": request_id}

        def act() -> Any:
            (self._ledger.try_to_note if safe else self._ledger.note)(
                "request",
                **about,
                fingerprint=fingerprint,
                verb=name,
                parameters=dict(parameters),
                lease=caller.lease,
                identity=session.identity.name,
            )
            try:
                result = action()
            except TwinscopeError as exc:
                self._ledger.try_to_note("answer", **about, error=exc.to_dict())
                raise
            self._ledger.try_to_note("answer", **about, result=result)
            return result

        return self.sessions.once(session, request_id, fingerprint, act)

    def _note_session(self, session: Session) -> None:
        identity = session.identity
        self._ledger.try_to_note(
            "session",
            session=session.label,
            identity=identity.name,
            role=identity.role.name.lower(),
            client=session.client,
        )


def _lease(lease: Lease) -> dict[str, Any]:
    return {"lease": lease.number, "duration": lease.duration}


def _progress(job: Job | None) -> dict[str, Any] | None:
    return None if job is None else job.progress()


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidRequestError(f"{name} is {value!r}: expected an integer of zero or more")
    return value


def _patience(timeout: Any) -> float:
    return min(max(_checks.finite("timeout", timeout), 0.0), LONGEST_WAIT)
