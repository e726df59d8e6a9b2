"""The server: one instrument, offered to many clients over Pyro5."""

import hmac
import ipaddress
import logging
import socket
import threading
from collections.abc import Mapping
from typing import Any

import Pyro5.api
import Pyro5.errors
import Pyro5.serializers

from twinscope import _pyro
from twinscope.errors import ConfigurationError, TwinscopeError
from twinscope.instrument import Instrument
from twinscope.service import Service

log = logging.getLogger(__name__)


class Gateway:
    """The object that clients call."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @Pyro5.api.expose  # type: ignore[untyped-decorator]
    def call(self, name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Carry out a verb; errors are data here, so that they arrive as what they are."""
        try:
            reply = self._service.call(name, parameters)
        except TwinscopeError as exc:
            return {"error": exc.to_dict()}
        # Whatever else happens is our mistake; the client is told, the server goes on.
        except Exception as exc:
            log.exception("the verb %r failed", name)
            return {"error": TwinscopeError(f"internal error: {type(exc).__name__}: {exc}").to_dict()}
        if reply.payload:
            Pyro5.api.current_context.response_annotations = {_pyro.ANNOTATION: reply.payload}
        return {"result": reply.result}


class Server:
    """Listens for clients of an instrument.

    Parameters
    ----------
    instrument
        What to offer.
    host, port
        Where to listen; port 0 takes a free one.
    token
        What clients must present; None asks for nothing.

    Raises
    ------
    ConfigurationError
        When it cannot listen there, or when it would be open to a network without a token.
    """

    def __init__(self, instrument: Instrument, host: str, port: int, token: str | None) -> None:
        _pyro.configure()
        _refuse_other_serializers()
        if token is None and not _is_loopback(host):
            raise ConfigurationError(
                f"the server would listen on {host!r}, open to the network: give it a token, or leave the host out"
            )
        try:
            self._daemon = _Daemon(host, port, token)
        except OSError as exc:
            raise ConfigurationError(f"the server cannot listen on {host}:{port}: {exc}") from exc
        if not _is_loopback(host):
            log.warning("listening on %s: open to the network, and what is sent is not encrypted", host)
        # An instance, not a class: Pyro would make one microscope for every connection of a class.
        self.uri = str(self._daemon.register(Gateway(Service(instrument)), _pyro.OBJECT_ID))
        self._stopping = threading.Event()

    def run(self) -> None:
        """Serve until :meth:`stop`."""
        try:
            self._daemon.requestLoop(lambda: not self._stopping.is_set())
        finally:
            self._daemon.close()

    def stop(self) -> None:
        """End :meth:`run`, from any thread or a signal handler."""
        self._stopping.set()
        # The loop looks at its condition when a connection comes in.
        try:
            socket.create_connection(self._daemon.sock.getsockname()[:2], timeout=1).close()
        except OSError:
            log.debug("the server was not waiting for connections")


class _Daemon(Pyro5.api.Daemon):  # type: ignore[misc]
    """A daemon that wants a token and does not wait for silent peers."""

    def __init__(self, host: str, port: int, token: str | None) -> None:
        self._token = token
        super().__init__(host=host, port=port)

    def validateHandshake(self, conn: Any, data: Any) -> str:
        del conn
        if self._token is not None:
            given = data.get("token") if isinstance(data, Mapping) else None
            if not isinstance(given, str) or not hmac.compare_digest(given.encode(), self._token.encode()):
                raise Pyro5.errors.SecurityError("the server asks for a token: it is missing or wrong")
        return "welcome"

    def _handshake(self, conn: Any, denied_reason: str | None = None) -> bool:
        # Each connection occupies a thread: one that says nothing must not keep it.
        before = conn.sock.gettimeout()
        conn.sock.settimeout(_pyro.HANDSHAKE_TIMEOUT)
        try:
            return bool(super()._handshake(conn, denied_reason))
        finally:
            conn.sock.settimeout(before)


class _Refused:
    """Takes the place of a serializer that the server does not accept.

    Pyro parses a message with the serializer that the *client* names, before it has seen a token.
    """

    def __init__(self, original: Any) -> None:
        self.serializer_id = original.serializer_id
        self._original = original

    def loads(self, data: bytes) -> Any:
        """Refuse to parse."""
        del data
        raise Pyro5.errors.SerializeError("only msgpack is accepted here")

    loadsCall = loads  # noqa: N815

    def dumps(self, data: Any) -> bytes:
        """Write the refusal in a form that the client can read."""
        return bytes(self._original.dumps(data))


def _refuse_other_serializers() -> None:
    accepted = Pyro5.serializers.serializers["msgpack"]
    for number, serializer in Pyro5.serializers.serializers_by_id.items():
        if serializer is not accepted and not isinstance(serializer, _Refused):
            Pyro5.serializers.serializers_by_id[number] = _Refused(serializer)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
