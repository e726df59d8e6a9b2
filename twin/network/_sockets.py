"""Addresses, and the sockets behind them: TCP, or a Unix socket that only its owner can open."""

import contextlib
import errno
import ipaddress
import os
import socket
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import Pyro5.core
import Pyro5.errors

from twinscope.errors import ConfigurationError, InvalidRequestError
from twinscope.network import _pyro
from twinscope.protocol import DEFAULT_PORT

_UNIX = "unix:"
_BACKLOG = 128
# A server on this machine takes a connection at once, even when it is busy.
_LIVE_TIMEOUT = 1.0
# Linux's struct ucred: process, user, group.
_CREDENTIALS = struct.Struct("iII")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is: `host` and `port`, or the `path` of a Unix socket; `name` is that of its object."""

    host: str = ""
    port: int = 0
    path: str = ""
    name: str = _pyro.OBJECT_ID

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "host", "host:port", "[IPv6]:port", "unix:/path" or the URI that a server prints.

        Raises
        ------
        InvalidRequestError
            When it cannot be an address.
        """
        try:
            uri = Pyro5.core.URI(_completed(text.strip()))
            if not (uri.sockname or (uri.host and 0 < uri.port < 2**16)):
                raise ValueError("there is no host or no port in it")
        except (Pyro5.errors.PyroError, ValueError, AttributeError) as exc:
            raise InvalidRequestError(
                f"the address {text!r} is none of a server: expected host, host:port, unix:/path or"
                f" PYRO:{_pyro.OBJECT_ID}@host:port"
            ) from exc
        return cls(uri.host or "", uri.port or 0, uri.sockname or "", uri.object)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"PYRO:{self.name}@" + (f"./u:{self.path}" if self.path else f"{host}:{self.port}")

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine get there."""
        if self.path:
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def dial(self, timeout: float) -> socket.socket:
        """Connect; raises OSError when nobody is there."""
        if not self.path:
            return socket.create_connection((self.host, self.port), timeout)
        connected = _unix_socket()
        try:
            connected.settimeout(timeout)
            connected.connect(self.path)
        except OSError:
            connected.close()
            raise
        return connected


def listen(host: str, port: int) -> tuple[socket.socket, Address]:
    """Listen at a host and port (0 takes a free one), or at "unix:/path".

    Returns
    -------
    tuple
        The socket, and where it is: the numbers, not the name that was given.

    Raises
    ------
    ConfigurationError
        When that is not possible.
    """
    try:
        if host.startswith(_UNIX):
            path = Path(host.removeprefix(_UNIX)).absolute()
            return _listen_unix(path), Address(path=str(path))
        family, _, _, _, place = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.create_server(place[:2], family=family, backlog=_BACKLOG)
    except OSError as exc:
        advice = "; another program does: give another port" if exc.errno == errno.EADDRINUSE else ""
        raise ConfigurationError(f"the server cannot listen on {host}:{port}: {exc}{advice}") from exc
    found = listening.getsockname()
    return listening, Address(host=found[0], port=found[1])


def remove(listening: socket.socket, address: Address) -> None:
    """Close a socket of :func:`listen`, and remove its file."""
    listening.close()
    if address.path:
        with contextlib.suppress(FileNotFoundError):
            Path(address.path).unlink()


def peer_of(connected: socket.socket) -> str:
    """Return where a connection comes from: an IP address, or "local:user" on a Unix socket, where it can be known."""
    if connected.family in (socket.AF_INET, socket.AF_INET6):
        return str(connected.getpeername()[0])
    if not hasattr(socket, "SO_PEERCRED"):
        return "local"
    import pwd

    _, user, _ = _CREDENTIALS.unpack(connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    try:
        return f"local:{pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"local:{user}"


def _completed(text: str) -> str:
    if text.upper().startswith("PYRO:"):
        return text
    if text.startswith(_UNIX):
        path = text.removeprefix(_UNIX)
        return f"PYRO:{_pyro.OBJECT_ID}@./u:{path and Path(path).absolute()}"
    with contextlib.suppress(ValueError):
        text = f"[{ipaddress.IPv6Address(text)}]"
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(DEFAULT_PORT)
    return f"PYRO:{_pyro.OBJECT_ID}@{host}:{port}"


def _listen_unix(path: Path) -> socket.socket:
    listening = _unix_socket()
    try:
        _check_folder(path.parent)
        _remove_stale(path)
        # Nobody else may connect, not even before a chmod.
        previous = os.umask(0o177)
        try:
            listening.bind(str(path))
        finally:
            os.umask(previous)
        listening.listen(_BACKLOG)
    except (OSError, ConfigurationError):
        listening.close()
        raise
    return listening


def _unix_socket() -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigurationError("this system has no Unix sockets: use an address of the form localhost:port")
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)


def _check_folder(folder: Path) -> None:
    """See that nobody else can put a socket of their own in the place of ours."""
    status = folder.stat()
    is_shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
    if is_shared or status.st_uid not in (0, os.getuid()):
        raise ConfigurationError(
            f"others may replace files in {folder}, so also the socket: choose a folder of your own, or chmod go-w it"
        )


def _remove_stale(path: Path) -> None:
    """Remove the socket that a dead server has left; anything else is in the way."""
    if not path.exists():
        return
    if not path.is_socket():
        raise ConfigurationError(f"{path} is no socket: choose another name, nothing was removed")
    with _unix_socket() as probe:
        probe.settimeout(_LIVE_TIMEOUT)
        try:
            probe.connect(str(path))
        except OSError as exc:
            if exc.errno != errno.ECONNREFUSED:
                raise
            path.unlink()
            return
    raise ConfigurationError(f"a server listens at {path} already: stop it, or choose another name")
