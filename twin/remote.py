"""The client's way to a server: a transport over Pyro5."""

import threading
from typing import Any

import Pyro5.api
import Pyro5.core
import Pyro5.errors

from twinscope import _pyro
from twinscope.errors import (
    AuthenticationError,
    InvalidRequestError,
    RemoteError,
    ServerUnreachableError,
    TwinscopeError,
)
from twinscope.protocol import DEFAULT_PORT, LONGEST_WAIT, VERSION, Reply


class PyroTransport:
    """A :class:`~twinscope.protocol.Transport` to a server.

    A Pyro proxy belongs to one thread, so each thread gets its own connection.

    Parameters
    ----------
    address
        "host", "host:port" or "PYRO:twinscope@host:port".
    token
        What the server asks for, if it does.
    timeout
        Seconds without an answer after which the server counts as lost.
    """

    def __init__(self, address: str, token: str | None = None, timeout: float = 10.0) -> None:
        _pyro.configure()
        self.uri = uri_of(address)
        self._token = token
        self._timeout = timeout
        self._proxies: dict[threading.Thread, Pyro5.api.Proxy] = {}
        self._lock = threading.Lock()
        self._closed = False
        hello = self.call("hello").result
        if hello["protocol"] != VERSION:
            self.close()
            raise RemoteError(
                f"the server at {self.uri} speaks protocol {hello['protocol']} (twinscope {hello['twinscope']}), this"
                f" client {VERSION}: install the same version on both sides"
            )

    def call(self, name: str, **parameters: Any) -> Reply:
        """Carry out a verb on the server."""
        proxy = self._proxy()
        try:
            answer = proxy.call(name, parameters)
        except Pyro5.errors.CommunicationError as exc:
            self._forget(proxy)
            raise _translated(exc, self.uri) from exc
        except Pyro5.errors.PyroError as exc:
            raise RemoteError(f"the server at {self.uri} refused {name}: {exc}") from exc
        if "error" in answer:
            raise TwinscopeError.from_dict(answer["error"])
        return Reply(answer["result"], Pyro5.api.current_context.response_annotations.get(_pyro.ANNOTATION, b""))

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            self._closed = True
            proxies = list(self._proxies.values())
            self._proxies.clear()
        _release(proxies)

    def _proxy(self) -> Pyro5.api.Proxy:
        """Return the connection of this thread."""
        thread = threading.current_thread()
        with self._lock:
            if self._closed:
                raise RemoteError(f"the connection to {self.uri} is closed: connect again")
            proxy = self._proxies.get(thread)
            if proxy is not None:
                return proxy
            # A connection occupies a thread of the server, also when ours has ended.
            orphans = [self._proxies.pop(owner) for owner in list(self._proxies) if not owner.is_alive()]
            proxy = self._proxies[thread] = Pyro5.api.Proxy(self.uri)
        _release(orphans)
        proxy._pyroHandshake = {"token": self._token, "protocol": VERSION}
        # The server may take its time to wait before it answers.
        proxy._pyroTimeout = self._timeout + LONGEST_WAIT
        return proxy

    def _forget(self, proxy: Pyro5.api.Proxy) -> None:
        """Drop a broken connection; the next call makes a new one."""
        with self._lock:
            self._proxies.pop(threading.current_thread(), None)
        proxy._pyroRelease()


def _release(proxies: list[Pyro5.api.Proxy]) -> None:
    for proxy in proxies:
        # Another thread made it; closing is all that is still done with it.
        proxy._pyroClaimOwnership()
        proxy._pyroRelease()


def uri_of(address: str) -> str:
    """Complete an address to the URI of a server.

    Raises
    ------
    InvalidRequestError
        When it cannot be one.
    """
    text = address.strip() if isinstance(address, str) else ""
    if text.upper().startswith("PYRO:"):
        uri = text
    else:
        host, colon, port = text.rpartition(":")
        uri = f"PYRO:{_pyro.OBJECT_ID}@{host if colon else text}:{port if colon else DEFAULT_PORT}"
    try:
        parsed = Pyro5.core.URI(uri)
        if not parsed.host:
            raise ValueError("there is no host in it")
    except (Pyro5.errors.PyroError, ValueError) as exc:
        raise InvalidRequestError(
            f"the address {address!r} is none of a server: expected host, host:port or PYRO:{_pyro.OBJECT_ID}@host:port"
        ) from exc
    return str(parsed)


def _translated(exc: Pyro5.errors.CommunicationError, uri: str) -> TwinscopeError:
    text = str(exc)
    if "token" in text:
        return AuthenticationError(f"the server at {uri} refused the connection: {text}")
    if "unknown object" in text.lower():
        return RemoteError(f"what answers at {uri} is not a twinscope server: check the address")
    if isinstance(exc, Pyro5.errors.TimeoutError):
        return ServerUnreachableError(f"the server at {uri} did not answer in time: is it overloaded, or stuck?")
    return ServerUnreachableError(f"no server answers at {uri}: is `twinscope serve` running there? ({text})")
