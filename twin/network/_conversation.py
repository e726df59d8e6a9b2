"""One connection of a client to a server: it introduces itself, then it asks and is answered."""

import logging
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import Pyro5.errors
from Pyro5 import protocol, serializers

from twinscope.errors import AuthenticationError, ConfigurationError, InvalidRequestError, TwinscopeError
from twinscope.network import _pyro
from twinscope.network._authentication import Authenticator
from twinscope.network._guests import HANDSHAKE_TIMEOUT, Guests
from twinscope.network._pyro import Connection, Message, ProtocolError, pack, unpack
from twinscope.protocol import VERSION, Reply
from twinscope.service import Service
from twinscope.sessions import Session

log = logging.getLogger(__name__)

LONGEST_SILENCE = 600.0
"""Seconds after which a connection that asks nothing is closed; the client makes a new one when it needs it."""

SEND_TIMEOUT = 30.0
"""Seconds after which a client that does not read its answers is given up."""

RENEWAL = 10.0
"""Seconds after which it is looked again whether what a client has shown is still good."""

PARTING = 1.0
"""Seconds in which a client must have read the last message before it is disconnected."""

_LONGEST_REQUEST_ID = 100
# What Pyro5 tells its clients of an object.
_METADATA = {"methods": [_pyro.METHOD], "oneway": [], "attrs": []}
_PONG = Message(protocol.MSG_PING, b"pong")


@dataclass(frozen=True, slots=True)
class Envelope:
    """What comes with every call.

    Attributes
    ----------
    request_id
        The same when a call is repeated after a lost connection.
    lease
        Number of the lease that the client believes to hold.
    dry_run
        Only check whether it could be done.
    """

    request_id: str | None = None
    lease: int | None = None
    dry_run: bool = False

    @classmethod
    def from_dict(cls, data: Any) -> "Envelope":
        """Read one; raises :class:`InvalidRequestError` when it is none."""
        if not isinstance(data, Mapping) or not data.keys() <= {"request_id", "lease", "dry_run"}:
            raise InvalidRequestError(f"the envelope is {data!r}: expected request_id, lease and dry_run at most")
        envelope = cls(**data)
        request_id, lease = envelope.request_id, envelope.lease
        if not (request_id is None or (isinstance(request_id, str) and len(request_id) <= _LONGEST_REQUEST_ID)):
            raise InvalidRequestError(
                f"request_id is {request_id!r}: expected text of at most {_LONGEST_REQUEST_ID} letters"
            )
        if not (lease is None or (isinstance(lease, int) and not isinstance(lease, bool))):
            raise InvalidRequestError(f"lease is {lease!r}: expected its number")
        if not isinstance(envelope.dry_run, bool):
            raise InvalidRequestError(f"dry_run is {envelope.dry_run!r}: expected true or false")
        return envelope


class Dispatcher:
    """The object that clients call: hands each call to the service, and makes a message of what comes back."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def call(self, session: Session, arguments: Any) -> Message:
        """Carry out a verb; errors are data here, so that they arrive as what they are."""
        try:
            name, parameters, *rest = arguments
            reply = self._carried_out(session, name, parameters, *rest)
            return _answer({"result": reply.result}, reply.payload)
        except TwinscopeError as exc:
            return _answer({"error": exc.to_dict()})
        # Whatever else happens is our mistake; the client is told, the server goes on.
        except Exception as exc:
            log.exception("the call %.100r failed", arguments)
            return _answer({"error": TwinscopeError(f"internal error: {type(exc).__name__}: {exc}").to_dict()})

    def _carried_out(self, session: Session, name: Any, parameters: Any, envelope: Any = None) -> Reply:
        if not isinstance(parameters, Mapping):
            raise InvalidRequestError(f"the parameters are {parameters!r}: expected names and values")
        given = Envelope.from_dict(envelope or {})
        return self.service.call(
            session, name, parameters, request_id=given.request_id, lease=given.lease, dry_run=given.dry_run
        )


class Conversation:
    """What happens on one connection, from its first byte to its last."""

    def __init__(
        self, connection: Connection, peer: str, dispatcher: Dispatcher, authenticator: Authenticator, guests: Guests
    ) -> None:
        self._connection = connection
        self._peer = peer
        self._dispatcher = dispatcher
        self._authenticator = authenticator
        self._guests = guests
        self._token: Any = None
        self._seen = 0.0

    def run(self) -> None:
        """Talk until the client has gone, or has to."""
        try:
            session = self._welcomed()
            while session is not None:
                self._answer(session)
        except ProtocolError as exc:
            log.warning("the connection from %s is closed: %s", self._peer, exc)
        except TwinscopeError as exc:
            log.warning("the connection from %s is closed, what it has shown is not good any more: %s", self._peer, exc)
        except ssl.SSLError as exc:
            log.warning("a connection from %s is refused by TLS: %s", self._peer, exc)
        except OSError as exc:
            log.debug("the connection from %s has ended: %s", self._peer, exc)
        finally:
            self._connection.close(PARTING)
            self._guests.leave(self._connection)

    # ------------------------------------------------------------------ the introduction

    def _welcomed(self) -> Session | None:
        """Take the handshake of Pyro5; None when this client is not welcome."""
        self._connection.secure(HANDSHAKE_TIMEOUT)
        try:
            message = self._connection.receive(_pyro.HANDSHAKE_LIMIT, HANDSHAKE_TIMEOUT)
            if message.kind != protocol.MSG_CONNECT:
                raise ProtocolError("a client introduces itself first")
            introduction = _introduction(unpack(message.body))
            session = self._entered(introduction)
        except (ProtocolError, TwinscopeError) as exc:
            log.warning("a connection from %s is refused: %s", self._peer, exc)
            error = exc if isinstance(exc, TwinscopeError) else TwinscopeError(str(exc))
            self._send(Message(protocol.MSG_CONNECTFAIL, pack({"error": error.to_dict()})))
            return None
        welcome = {
            "session": session.id,
            "role": session.identity.role.name.lower(),
            "identity": session.identity.name,
            "resumed": session.id == introduction.get("session"),
            "protocol": VERSION,
        }
        body = pack({"handshake": welcome, "meta": _METADATA})
        self._send(Message(protocol.MSG_CONNECTOK, body, sequence=message.sequence))
        return session

    def _entered(self, introduction: Mapping[str, Any]) -> Session:
        self._token = introduction.get("token")
        try:
            identity = self._authenticator.identify(self._token, self._connection.certificate(), self._peer)
        except ConfigurationError as exc:
            log.error("nobody can be let in: %s", exc)
            raise AuthenticationError("the keys of the server cannot be used: see its log") from exc
        if introduction["object"] != _pyro.OBJECT_ID:
            raise InvalidRequestError(f"unknown object: this server has {_pyro.OBJECT_ID!r} only")
        self._guests.introduce(self._connection)
        self._seen = time.monotonic()
        client = introduction.get("client")
        known = introduction.get("session")
        session = self._dispatcher.service.sessions.enter(
            identity, client if isinstance(client, str) else self._peer, known if isinstance(known, str) else None
        )
        log.info("%s (%r) is connected from %s as %s", identity.name, session.client, self._peer, session.label)
        return session

    # ------------------------------------------------------------------ questions and answers

    def _answer(self, session: Session) -> None:
        message = self._connection.receive(_pyro.MESSAGE_LIMIT, LONGEST_SILENCE)
        if message.kind == protocol.MSG_PING:
            answer = _PONG
        elif message.kind == protocol.MSG_INVOKE:
            self._look_again(session)
            answer = self._invoked(session, unpack(message.body))
        else:
            raise ProtocolError(f"a message of kind {message.kind} makes no sense here")
        self._send(Message(answer.kind, answer.body, answer.payload, message.sequence, answer.flags))

    def _look_again(self, session: Session) -> None:
        """Close the connection of a client whose token or certificate has been revoked meanwhile."""
        if time.monotonic() - self._seen > RENEWAL:
            found = self._authenticator.identify(self._token, self._connection.certificate(), self._peer)
            if found != session.identity:
                raise AuthenticationError("another role or name")
            self._seen = time.monotonic()

    def _invoked(self, session: Session, call: Any) -> Message:
        if not (isinstance(call, list) and len(call) == 4):
            raise ProtocolError("the call has not the four parts that it has in Pyro5's protocol")
        name, method, arguments, keywords = call
        if (name, method) != (_pyro.OBJECT_ID, _pyro.METHOD) or keywords:
            return _exception(f"only {_pyro.OBJECT_ID}.{_pyro.METHOD}(name, parameters, envelope) can be called here")
        return self._dispatcher.call(session, arguments)

    def _send(self, message: Message) -> None:
        self._connection.send(message, SEND_TIMEOUT)


def _introduction(data: Any) -> Mapping[str, Any]:
    """Return what a client says of itself, with the "object" that it wants; a plain Pyro5 client says just hello."""
    if not (isinstance(data, Mapping) and data.keys() == {"handshake", "object"}):
        raise ProtocolError("the handshake has not the two parts that it has in Pyro5's protocol")
    said = data["handshake"]
    if not isinstance(said, Mapping | str):
        raise ProtocolError(f"the handshake is of type {type(said).__name__}: expected a mapping or text")
    return dict(said if isinstance(said, Mapping) else {}) | {"object": data["object"]}


def _answer(content: Mapping[str, Any], payload: bytes | memoryview = b"") -> Message:
    answer = Message(protocol.MSG_RESULT, pack(content), payload)
    if answer.size > _pyro.ANSWER_LIMIT:
        raise ValueError(f"the answer takes {answer.size} bytes, at most {_pyro.ANSWER_LIMIT} can be sent")
    return answer


def _exception(text: str) -> Message:
    """Return an answer that a plain Pyro5 client raises."""
    body = serializers.serializers["msgpack"].dumps(Pyro5.errors.PyroError(text))
    return Message(protocol.MSG_RESULT, body, flags=protocol.FLAGS_EXCEPTION)
