"""The client's way to a server: a transport over the protocol of Pyro5."""

import itertools
import logging
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from Pyro5 import protocol

from twinscope.errors import InvalidRequestError, RemoteError, ServerUnreachableError, TwinscopeError
from twinscope.network import _pyro
from twinscope.network._dialing import Dialer
from twinscope.network._pyro import Connection, Message, ProtocolError, pack, unpack
from twinscope.protocol import LONGEST_WAIT, Reply

log = logging.getLogger(__name__)

# In s, between attempts to reach a server that was there before.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
# Requests that are on their way at once when much is fetched: the server need not wait for us.
_AHEAD = 4


class PyroTransport:
    """A :class:`~twinscope.protocol.Transport` to a server.

    A call has a connection to itself; connections are made as they are needed, kept, and all belong to one session.
    When one is lost, the call is repeated on another: the server does nothing twice, as it knows the request again.

    Parameters
    ----------
    address
        "host", "host:port", "unix:/path" or the URI that the server prints.
    token
        What the server asks for, if it does.
    timeout
        Seconds without an answer after which the server counts as lost.
    keys
        For a server with TLS: the folder that ``twinscope keys client`` has made, or a file ca.pem.

    Raises
    ------
    ServerUnreachableError
        When nobody answers there.
    AuthenticationError
        When one of the two does not know the other.
    InvalidRequestError, ConfigurationError
        When the address cannot be one, or the keys cannot be used.
    """

    def __init__(
        self, address: str, token: str | None = None, timeout: float = 10.0, *, keys: str | Path | None = None
    ) -> None:
        self._dialer = Dialer(address, token, timeout, keys)
        self._timeout = timeout
        self._session: str | None = None
        self._greeting = threading.Lock()
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._closed = False
        self._lock = threading.Lock()
        try:
            self._idle.append(self._connected())
        except TwinscopeError:
            raise
        except OSError as exc:
            raise self._explained(exc) from exc

    @property
    def uri(self) -> str:
        """Address of the server."""
        return self._dialer.uri

    def call(
        self,
        name: str,
        parameters: Mapping[str, Any] = MappingProxyType({}),
        *,
        lease: int | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Carry out a verb on the server.

        Raises
        ------
        TwinscopeError
            As the verb does.
        ServerUnreachableError
            When the server does not answer, or does not come back after the connection was lost.
        """
        envelope = {"request_id": uuid.uuid4().hex, "lease": lease, "dry_run": dry_run}
        return _reply(*self._answered(_request(name, parameters, envelope)))

    def fetch(self, name: str, parameters: Sequence[Mapping[str, Any]], into: Sequence[memoryview]) -> Iterator[Reply]:
        """Carry out a verb that reads with each of several parameters, with several requests on their way at once.

        Raises
        ------
        TwinscopeError
            As :meth:`call`.
        """
        done = 0
        try:
            for reply in self._streamed(name, parameters, into):
                done += 1
                yield reply
        except (OSError, ProtocolError) as exc:
            # What is wrong for good is explained by the next call.
            log.info("the connection to %s is lost (%s): going on one by one", self.uri, exc)
        for given in parameters[done:]:
            yield self.call(name, given)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._closed = True
            for connection in self._all:
                # Whoever waits for an answer closes it.
                connection.hang_up()
        self._drop_idle()

    # ------------------------------------------------------------------ asking

    def _answered(self, request: Message) -> tuple[Mapping[str, Any], bytes | memoryview]:
        """Ask, and ask again when the connection is lost."""
        deadline = time.monotonic() + self._timeout
        pauses = _pauses()
        while True:
            try:
                return self._asked(request)
            except TwinscopeError:
                raise
            except (OSError, ProtocolError) as exc:
                # What has ended one connection has most likely ended all.
                self._drop_idle()
                pause = next(pauses)
                is_lost = isinstance(exc, OSError) and not isinstance(exc, TimeoutError)
                if not is_lost or self._closed or time.monotonic() + pause > deadline:
                    raise self._explained(exc) from exc
                log.info("the connection to %s is lost (%s): asking again", self.uri, exc)
                time.sleep(pause)

    def _streamed(
        self, name: str, parameters: Sequence[Mapping[str, Any]], into: Sequence[memoryview]
    ) -> Iterator[Reply]:
        """Ask ahead of the answers; what goes wrong with one ends all."""
        requests = (_request(name, given, {}) for given in parameters)
        connection = self._taken()
        whole = False
        try:
            for request in itertools.islice(requests, _AHEAD):
                connection.send(request, self._timeout)
            for view in into:
                answer = connection.receive(_pyro.ANSWER_LIMIT, self._timeout + LONGEST_WAIT, view)
                for request in itertools.islice(requests, 1):
                    connection.send(request, self._timeout)
                yield _reply(_content(answer), answer.payload)
            whole = True
        finally:
            # Answers to what was asked before an interruption must not be taken for others.
            self._put_back(connection) if whole else self._drop(connection)

    def _asked(self, request: Message) -> tuple[Mapping[str, Any], bytes | memoryview]:
        connection = self._taken()
        answered = False
        try:
            connection.send(request, self._timeout)
            # The server may take its time to wait before it answers.
            answer = connection.receive(_pyro.ANSWER_LIMIT, self._timeout + LONGEST_WAIT)
            content = _content(answer)
            answered = True
            return content, answer.payload
        finally:
            # An answer that comes after an interruption must not be taken for that to another request.
            self._put_back(connection) if answered else self._drop(connection)

    def _explained(self, exc: Exception) -> TwinscopeError:
        if isinstance(exc, ProtocolError):
            return RemoteError(f"what answers at {self.uri} is not a twinscope server: {exc}")
        if isinstance(exc, TimeoutError):
            return ServerUnreachableError(
                f"the server at {self.uri} did not answer in time: is it overloaded, or stuck?"
            )
        hint = "; if it asks for TLS, give the keys" if isinstance(exc, ConnectionResetError) else ""
        return ServerUnreachableError(
            f"no server answers at {self.uri}: is `twinscope serve` running there? ({exc}{hint})"
        )

    # ------------------------------------------------------------------ connections

    def _taken(self) -> Connection:
        """Return a connection that nobody else uses."""
        if self._closed:
            raise RemoteError(f"the connection to {self.uri} is closed: connect again")
        try:
            return self._idle.pop()
        except IndexError:
            return self._connected()

    def _connected(self) -> Connection:
        """Make a connection that belongs to our session."""
        connection = self._dialer.dial()
        with self._lock:
            self._all.add(connection)
        try:
            # One after the other, so that two of them do not begin two sessions.
            with self._greeting:
                welcome = self._dialer.introduce(connection, self._session)
                if self._session is not None and not welcome["resumed"]:
                    log.warning("the server at %s does not know this session any more: it began a new one", self.uri)
                self._session = welcome["session"]
        except BaseException:
            self._drop(connection)
            raise
        return connection

    def _put_back(self, connection: Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        with self._lock:
            self._all.discard(connection)
        connection.close()

    def _drop_idle(self) -> None:
        while self._idle:
            self._drop(self._idle.pop())


def _request(name: str, parameters: Mapping[str, Any], envelope: Mapping[str, Any]) -> Message:
    try:
        body = pack((_pyro.OBJECT_ID, _pyro.METHOD, (name, dict(parameters), envelope), {}))
    except (TypeError, ValueError, OverflowError) as exc:
        raise InvalidRequestError(f"the parameters of {name} are not plain data: {exc}") from exc
    if len(body) > _pyro.MESSAGE_LIMIT:
        raise InvalidRequestError(
            f"the parameters of {name} take {len(body)} bytes: at most {_pyro.MESSAGE_LIMIT} can be sent; ask for less"
        )
    return Message(protocol.MSG_INVOKE, body)


def _content(answer: Message) -> Mapping[str, Any]:
    content = unpack(answer.body)
    if not (isinstance(content, dict) and content.keys() & {"result", "error"}):
        raise ProtocolError(f"the answer is {content!r:.200}")
    return content


def _reply(content: Mapping[str, Any], payload: bytes | memoryview) -> Reply:
    if "error" in content:
        raise TwinscopeError.from_dict(content["error"])
    return Reply(content["result"], payload)


def _pauses() -> Iterator[float]:
    """Yield how long to wait before each new attempt: the first comes at once, as it mostly succeeds."""
    yield 0.0
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE)
