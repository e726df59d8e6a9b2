"""What a server is measured against: bare Pyro5 and bare sockets, each in a process of its own.

``python _peers.py pyro`` and ``python _peers.py socket`` print "at ADDRESS" and serve until they are stopped.
"""

import contextlib
import socket
import sys

import Pyro5.api
from Pyro5 import config

PING_BYTES = 256
"""Length of a ping over the bare socket: that of a short call of Pyro5."""

HOST = "127.0.0.1"


def configure_pyro() -> None:
    """Set Pyro5 up to be as fast as it can be for short calls, on both sides."""
    config.SERIALIZER = "msgpack"
    # With Nagle's algorithm a call can take 30 ms instead of 0.2 ms.
    config.SOCK_NODELAY = True


class _Pinged:
    """The least that a Pyro5 server can do."""

    @Pyro5.api.expose  # type: ignore[untyped-decorator]
    def ping(self, value: int) -> int:
        """Return the value."""
        return value


def serve_pyro() -> None:
    """Answer pings, with the settings that twinscope uses."""
    configure_pyro()
    with Pyro5.api.Daemon(host=HOST) as daemon:
        print(f"at {daemon.register(_Pinged())}", flush=True)
        daemon.requestLoop()


def serve_socket() -> None:
    """Echo pings; a ping that begins with the byte 1 and a length is answered with as many bytes."""
    with socket.create_server((HOST, 0)) as listener:
        print(f"at {listener.getsockname()[1]}", flush=True)
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            buffer = bytearray(PING_BYTES)
            data = b""
            while received_into(connection, memoryview(buffer)):
                length = int.from_bytes(buffer[1:9], "little")
                if buffer[0] == 1 and len(data) != length:
                    data = bytes(length)
                connection.sendall(data if buffer[0] == 1 else buffer)


class RawClient:
    """The other end of :func:`serve_socket`."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._answer = memoryview(bytearray(PING_BYTES))

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def ping(self) -> None:
        """Send a message there and back."""
        self._socket.sendall(bytes(PING_BYTES))
        received_into(self._socket, self._answer)

    def fetch(self, buffer: memoryview) -> None:
        """Fill a buffer with bytes from the other side."""
        self._socket.sendall((b"\1" + len(buffer).to_bytes(8, "little")).ljust(PING_BYTES, b"\0"))
        received_into(self._socket, buffer)


def received_into(connection: socket.socket, buffer: memoryview) -> bool:
    """Fill a buffer; False when the other side has closed."""
    while len(buffer):
        count = connection.recv_into(buffer)
        if count == 0:
            return False
        buffer = buffer[count:]
    return True


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        {"pyro": serve_pyro, "socket": serve_socket}[sys.argv[1]]()
