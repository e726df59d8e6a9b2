"""Connections of a client: made, secured, and introduced to the server."""

import contextlib
import getpass
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from Pyro5 import protocol

from twinscope._version import __version__
from twinscope.errors import AuthenticationError, RemoteError, TwinscopeError
from twinscope.network import _pyro
from twinscope.network._pyro import Connection, Message, ProtocolError, pack, unpack
from twinscope.network._sockets import Address
from twinscope.network._tls import ClientKeys
from twinscope.protocol import VERSION


class Dialer:
    """Makes connections to one server; parameters as those of :class:`~twinscope.network.remote.PyroTransport`."""

    def __init__(self, address: str, token: str | None, timeout: float, keys: str | Path | None) -> None:
        self._address = Address.parse(address)
        found = None if keys is None else ClientKeys.load(keys)
        self._token = token or (found and found.token)
        self._context = None if found is None or self._address.path else found.context()
        self._timeout = timeout
        self.uri = str(self._address)

    def dial(self) -> Connection:
        """Make a connection.

        Raises
        ------
        OSError
            When nobody is there, or it is lost.
        AuthenticationError
            When the server is not the one of the keys.
        RemoteError
            When it does not speak TLS.
        """
        connected = self._address.dial(self._timeout)
        try:
            if self._context is not None:
                with self._without_tls_errors():
                    connected = self._context.wrap_socket(connected, server_hostname=self._address.host)
            return Connection(connected)
        except BaseException:
            connected.close()
            raise

    def introduce(self, connection: Connection, session: str | None) -> Mapping[str, Any]:
        """Say who we are; returns what the server says of us.

        Raises
        ------
        OSError
            When the connection is lost.
        AuthenticationError
            When the server does not know us.
        RemoteError
            When it is no server of ours.
        """
        said = {"token": self._token, "session": session, "client": _client(), "protocol": VERSION}
        body = pack({"handshake": said, "object": self._address.name})
        try:
            with self._without_tls_errors():
                connection.send(Message(protocol.MSG_CONNECT, body), self._timeout)
                answer = connection.receive(_pyro.MESSAGE_LIMIT, self._timeout)
            return self._welcome(answer)
        except (ProtocolError, KeyError, TypeError) as exc:
            raise RemoteError(f"what answers at {self.uri} is not a twinscope server: {exc}") from exc

    def _welcome(self, answer: Message) -> Mapping[str, Any]:
        content = unpack(answer.body)
        if answer.kind == protocol.MSG_CONNECTFAIL:
            raise self._refusal(TwinscopeError.from_dict(content["error"]))
        welcome: Mapping[str, Any] = content["handshake"]
        if welcome["protocol"] != VERSION:
            raise RemoteError(
                f"the server at {self.uri} speaks protocol {welcome['protocol']}, this client (twinscope {__version__})"
                f" {VERSION}: install the same version on both sides"
            )
        return welcome

    def _refusal(self, error: TwinscopeError) -> TwinscopeError:
        if "unknown object" in error.message:
            return RemoteError(f"what answers at {self.uri} is not a twinscope server: check the address")
        kind = type(error) if isinstance(error, RemoteError) else RemoteError
        return kind(f"the server at {self.uri} refused the connection: {error.message}", **error.details)

    @contextlib.contextmanager
    def _without_tls_errors(self) -> Iterator[None]:
        """Tell the errors of TLS apart: a lost connection, a wrong certificate, no TLS at all."""
        try:
            yield
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as exc:
            raise ConnectionResetError("the other side has closed the connection") from exc
        except ssl.SSLCertVerificationError as exc:
            raise AuthenticationError(
                f"the server at {self.uri} cannot prove that it is the one of the keys: {exc.verify_message}"
            ) from exc
        except ssl.SSLError as exc:
            if "ALERT" in (exc.reason or ""):
                raise AuthenticationError(
                    f"the server at {self.uri} refused the connection: it does not take the client certificate of the"
                    f" keys, or there is none ({exc.reason})"
                ) from exc
            raise RemoteError(f"what answers at {self.uri} does not speak TLS: leave the keys out? ({exc})") from exc


def _client() -> str:
    """Return what others may see of this client."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        # A container may run as a user that has no name.
        user = "somebody"
    return f"{user}@{socket.gethostname()}:{os.getpid()}"
