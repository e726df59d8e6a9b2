"""The wire: messages of Pyro5's protocol over one socket, with limits that hold before anything is parsed.

Of Pyro5 we take the messages and the addresses, so that a plain ``Pyro5.api.Proxy`` can call a server too. Its daemon
and its proxy are not used: the daemon parses with whatever serializer a stranger names, unpacks compressed messages of
any size and rebuilds objects from them, before and after it knows who is there; both keep TLS in settings of the whole
process, and send in quadratic time as soon as there is a timeout.
"""

import contextlib
import socket
import ssl
import struct
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np
from Pyro5 import protocol

from twinscope.protocol import CHUNK

OBJECT_ID = "twinscope"
"""Name of the one object that a server offers."""

METHOD = "call"
"""Its one method."""

MESSAGE_LIMIT = 8 * 2**20
"""Most bytes of a message that a server takes from those it knows."""

ANSWER_LIMIT = MESSAGE_LIMIT + CHUNK
"""Most bytes of an answer."""

HANDSHAKE_LIMIT = 2**16
"""Most bytes of the message with which a connection introduces itself."""

_HEADER = struct.Struct("!4sHBBHHII16sHH")
_ANNOTATION = struct.Struct("!4sI")
_TAG, _MAGIC, _MSGPACK = b"PYRO", 0x4DC5, 4
_PAYLOAD = b"DATA"
# Joining is faster than a second system call only for short messages.
_JOINED = 2**14


class ProtocolError(Exception):
    """The other side has sent what is not taken here; the connection is of no further use."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message of Pyro5's protocol.

    Attributes
    ----------
    kind
        One of Pyro5's ``MSG_`` numbers.
    body
        Packed with :func:`pack`.
    payload
        Bytes that travel beside it, as the annotation "DATA".
    sequence
        Number of the request; the answer has the same.
    flags
        Pyro5's ``FLAGS_``.
    """

    kind: int
    body: bytes | memoryview
    payload: bytes | memoryview = b""
    sequence: int = 0
    flags: int = 0

    @property
    def size(self) -> int:
        """Bytes of everything but the header."""
        return len(self.body) + (len(self.payload) + _ANNOTATION.size if self.payload else 0)

    def parts(self) -> list[bytes | memoryview]:
        """Return what goes over the wire, in order."""
        annotations = self.size - len(self.body)
        header = _HEADER.pack(
            _TAG,
            protocol.PROTOCOL_VERSION,
            self.kind,
            _MSGPACK,
            self.flags,
            self.sequence,
            len(self.body),
            annotations,
            bytes(16),
            0,
            _MAGIC,
        )
        if not annotations:
            return [header, self.body]
        return [header + _ANNOTATION.pack(_PAYLOAD, len(self.payload)), self.payload, self.body]


class Connection:
    """A connected socket that carries messages. One thread uses it at a time; any may :meth:`hang_up`."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        with contextlib.suppress(OSError):
            # With Nagle's algorithm a call can take 30 ms instead of 0.2 ms. Not every socket has it.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def secure(self, timeout: float) -> None:
        """Complete the handshake of TLS, if this is a connection with TLS."""
        self._socket.settimeout(timeout)
        if isinstance(self._socket, ssl.SSLSocket):
            self._socket.do_handshake()

    def certificate(self) -> dict[str, Any] | None:
        """Return the verified certificate of the other side, if it has shown one."""
        return self._socket.getpeercert() or None if isinstance(self._socket, ssl.SSLSocket) else None

    def send(self, message: Message, timeout: float) -> None:
        """Send a message.

        Raises
        ------
        OSError
            When the connection is lost, or the other side does not read: a TimeoutError.
        """
        self._socket.settimeout(timeout)
        parts = message.parts()
        for part in [b"".join(parts)] if message.size <= _JOINED else parts:
            self._socket.sendall(part)

    def receive(self, limit: int, timeout: float, into: memoryview | None = None) -> Message:
        """Wait for a message.

        Parameters
        ----------
        limit
            Most bytes that it may have.
        timeout
            s.
        into
            Where its payload is to be written, if it fits: then it is there when this returns, without a copy.

        Raises
        ------
        ProtocolError
            When it is longer than `limit` bytes, or nothing that we send ourselves; then it was not parsed.
        OSError
            When the connection is lost, or nothing comes for `timeout` seconds: a TimeoutError.
        """
        self._socket.settimeout(timeout)
        tag, version, kind, serializer, flags, sequence, length, annotations, _, _, magic = _HEADER.unpack(
            self._exactly(_HEADER.size)
        )
        if (tag, version, magic) != (_TAG, protocol.PROTOCOL_VERSION, _MAGIC):
            raise ProtocolError("this is no message of Pyro5's protocol")
        if length + annotations > limit:
            raise ProtocolError(
                f"a message of {length + annotations} bytes is too long: at most {limit} are taken here"
            )
        fits = into is not None and _ANNOTATION.size < annotations <= len(into) + _ANNOTATION.size
        if fits:
            assert into is not None
            label = self._exactly(_ANNOTATION.size)
            payload = self._filled(into[: annotations - _ANNOTATION.size])
            _check_label(label, len(payload))
            body = self._exactly(length)
        else:
            content = self._exactly(annotations + length)
            payload, body = _payload(content[:annotations]), content[annotations:]
        if serializer != _MSGPACK:
            raise ProtocolError(f"serializer {serializer} was used: only msgpack is accepted here")
        if flags & ~(protocol.FLAGS_CORR_ID | protocol.FLAGS_EXCEPTION):
            raise ProtocolError("only plain calls are taken here: not compressed, batched or without an answer")
        return Message(kind, body, payload, sequence, flags)

    def hang_up(self) -> None:
        """Disconnect, from any thread; whoever waits for a message gets an OSError."""
        with contextlib.suppress(OSError):
            # That of the class: SSLSocket.shutdown would let the other thread go on in plain text.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self, patience: float = 0.0) -> None:
        """Disconnect and let go of the socket.

        With `patience`, in s, the other side can still read what was sent last: closing a socket while something comes
        in destroys it.
        """
        with contextlib.suppress(OSError):
            if patience:
                self._socket.settimeout(patience)
                socket.socket.shutdown(self._socket, socket.SHUT_WR)
                discarded = 0
                while discarded < MESSAGE_LIMIT and (more := socket.socket.recv(self._socket, _JOINED)):
                    discarded += len(more)
        self.hang_up()
        self._socket.close()

    def _exactly(self, size: int) -> memoryview:
        # A bytearray would be filled with zeros first, which takes as long as copying it.
        return self._filled(np.empty(size, np.uint8).data)

    def _filled(self, content: memoryview) -> memoryview:
        done = 0
        while done < len(content):
            count = self._socket.recv_into(content[done:])
            if count == 0:
                raise ConnectionResetError("the other side has closed the connection")
            done += count
        return content


def _payload(annotations: memoryview) -> memoryview:
    """Return the bytes beside a body; anything but them is refused."""
    if not annotations:
        return annotations
    if len(annotations) < _ANNOTATION.size:
        raise ProtocolError("the annotations of the message are cut short")
    _check_label(annotations, len(annotations) - _ANNOTATION.size)
    return annotations[_ANNOTATION.size :]


def _check_label(label: memoryview, length: int) -> None:
    name, said = _ANNOTATION.unpack_from(label)
    if (name, said) != (_PAYLOAD, length):
        raise ProtocolError("the annotations of the message are not known here")


def pack(value: Any) -> bytes:
    """Write plain data as msgpack.

    Raises
    ------
    TypeError, ValueError, OverflowError
        When it is more than plain data.
    """
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpack(data: bytes | memoryview) -> Any:
    """Read msgpack as plain data: Pyro's own reader would make objects of what a stranger names.

    Raises
    ------
    ProtocolError
        When it is none.
    """
    try:
        return msgpack.unpackb(data, raw=False, ext_hook=_refused)
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as exc:
        raise ProtocolError(f"the message is no plain msgpack: {type(exc).__name__}") from exc


def _refused(code: int, data: bytes) -> Any:
    raise ValueError(f"extension {code} of {len(data)} bytes")
