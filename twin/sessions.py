"""Sessions: who is at the other end, what they may do, and which of their requests were answered already."""

import hashlib
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from twinscope.errors import ConfigurationError, ForbiddenError, InvalidRequestError, TwinscopeError

# A client repeats a request within seconds after it has lost the connection: these many answers are enough.
_KEPT_ANSWERS = 256
_KEPT_IN_ALL = 4096
KEPT_SESSIONS = 1000
"""How many sessions are remembered; those that began first are forgotten first."""


class Role(IntEnum):
    """What a session may do; each role may do what those below it may."""

    OBSERVER = 0
    OPERATOR = 1
    ADMIN = 2

    @classmethod
    def parse(cls, name: str) -> "Role":
        """Return the role with this name.

        Raises
        ------
        ConfigurationError
            When there is none.
        """
        try:
            return cls[name.upper()]
        except (KeyError, AttributeError):
            names = ", ".join(role.name.lower() for role in cls)
            raise ConfigurationError(f"role is {name!r}: expected one of {names}") from None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who someone is, as the server has found out by a token, a certificate, or because they are on this machine."""

    name: str
    role: Role


@dataclass(eq=False, slots=True)
class Session:
    """A conversation with one client, which may outlive its connections.

    Attributes
    ----------
    id
        Known to the client and the server only: with it the client takes the session up again.
    identity
        Who it is.
    client
        What the client says of itself: user, machine and process.
    """

    id: str
    identity: Identity
    client: str
    answers: "OrderedDict[str, Answer]" = field(default_factory=OrderedDict)

    @property
    def label(self) -> str:
        """Short public name: the id itself is a secret."""
        return label_of(self.id)

    def expect(self, request_id: str, fingerprint: str) -> "Answer":
        """Make room for the answer to a new request; the oldest answers are forgotten."""
        answer = self.answers[request_id] = Answer(fingerprint)
        while len(self.answers) > _KEPT_ANSWERS:
            self.answers.popitem(last=False)
        return answer

    def require(self, role: Role, what: str) -> None:
        """Raise :class:`ForbiddenError` unless the session has at least this role."""
        if self.identity.role < role:
            raise ForbiddenError(
                f"{what} needs the role {role.name.lower()}: {self.identity.name} is {self.identity.role.name.lower()}",
                role=role.name.lower(),
            )


@dataclass(eq=False, slots=True)
class Answer:
    """What a request was answered, for the case that it comes again."""

    fingerprint: str
    done: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    error: TwinscopeError | None = None

    def give(self) -> Any:
        """Wait for the answer and return it, or raise it."""
        self.done.wait()
        if self.error is not None:
            raise TwinscopeError.from_dict(self.error.to_dict())
        return self.result


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for something, and how.

    Attributes
    ----------
    session
        Who.
    lease
        Number of the lease that the client believes to hold.
    dry_run
        Only check whether it could be done.
    """

    session: Session
    lease: int | None = None
    dry_run: bool = False


def label_of(session_id: str) -> str:
    """Return the public name of a session."""
    return hashlib.sha256(session_id.encode()).hexdigest()[:16]


def fingerprint_of(verb: str, parameters: Mapping[str, Any]) -> str:
    """Return what two requests have in common only if they ask for the same."""
    return hashlib.sha256(repr((verb, sorted(parameters.items()))).encode()).hexdigest()[:16]


class SessionBook:
    """The sessions of a server. Any thread may use it.

    Parameters
    ----------
    remembered
        Sessions from before a restart of the server, by their labels, each with what it was answered.
    on_new
        Is told of each new session.
    """

    def __init__(
        self, remembered: Mapping[str, Session] | None = None, on_new: Callable[[Session], None] | None = None
    ) -> None:
        self._on_new = on_new
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._remembered = dict(remembered or {})
        self._answered: deque[tuple[Session, str]] = deque()
        self._lock = threading.Lock()

    def enter(self, identity: Identity, client: str, session_id: str | None = None) -> Session:
        """Take up the session with this id when it is known and of the same identity; else begin a new one."""
        with self._lock:
            session = self._known(session_id)
            if session is not None and session.identity == identity:
                self._sessions.move_to_end(session.id)
                return session
            session = Session(secrets.token_hex(16), identity, str(client)[:200])
            self._sessions[session.id] = session
            if self._on_new is not None:
                self._on_new(session)
            while len(self._sessions) > KEPT_SESSIONS:
                self._sessions.popitem(last=False)
            return session

    def once(self, session: Session, request_id: str, fingerprint: str, action: Callable[[], Any]) -> Any:
        """Do something once per request id; a repeated id is given the answer of the first time.

        Raises
        ------
        InvalidRequestError
            When the id was used for another request.
        """
        with self._lock:
            answer = session.answers.get(request_id)
            first = answer is None
            if answer is None:
                answer = session.expect(request_id, fingerprint)
                self._answered.append((session, request_id))
                while len(self._answered) > _KEPT_IN_ALL:
                    oldest, forgotten = self._answered.popleft()
                    oldest.answers.pop(forgotten, None)
        if answer.fingerprint != fingerprint:
            raise InvalidRequestError(f"the request id {request_id!r} was used for another request: make a new one")
        if not first:
            return answer.give()
        try:
            answer.result = action()
        except TwinscopeError as exc:
            # A copy: the error itself holds on to all that it came through.
            answer.error = TwinscopeError.from_dict(exc.to_dict())
            raise
        except Exception as exc:
            answer.error = TwinscopeError(f"internal error: {type(exc).__name__}: {exc}")
            raise
        finally:
            answer.done.set()
        return answer.result

    def _known(self, session_id: str | None) -> Session | None:
        if not isinstance(session_id, str):
            return None
        if session_id not in self._sessions:
            remembered = self._remembered.pop(label_of(session_id), None)
            if remembered is not None:
                remembered.id = session_id
                self._sessions[session_id] = remembered
        return self._sessions.get(session_id)
