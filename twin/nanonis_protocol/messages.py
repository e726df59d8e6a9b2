"""Headers and error blocks: what stands around the arguments and results of a message."""

import struct
from dataclasses import dataclass
from enum import StrEnum

from twinscope.errors import NanonisProtocolError
from twinscope.nanonis_protocol.cursors import Reader
from twinscope.nanonis_protocol.kinds import INT32, UINT32, decode_text

HEADER_SIZE = 40
"""Bytes of the header of a request and of a response."""

LARGEST_REQUEST = 2**20
"""Bytes that the body of a request may have: 65536 points of a pattern take half of it."""

LARGEST_RESPONSE = 2**28 + 2**16
"""Bytes that the body of a response may have: an image of 8192 by 8192 pixels just fits."""

_NAME_SIZE = 32
_REQUEST = struct.Struct(f">{_NAME_SIZE}siHH")
_RESPONSE = struct.Struct(f">{_NAME_SIZE}si4x")


class ErrorDialect(StrEnum):
    """What stands in front of the text of an error: its status and its size, or a code between them.

    The protocol document has the short one. nanonisTCP expects the long one of releases after 14000.
    """

    SHORT = "short"
    LONG = "long"


@dataclass(frozen=True, slots=True)
class RequestHeader:
    """What the header of a request tells.

    Attributes
    ----------
    name
        Of the command; it need not exist.
    size
        Bytes of the body.
    respond
        Whether the client waits for a response.
    """

    name: str
    size: int
    respond: bool


@dataclass(frozen=True, slots=True)
class ResponseHeader:
    """What the header of a response tells.

    Attributes
    ----------
    name
        Of the command that it answers.
    size
        Bytes of the body.
    """

    name: str
    size: int


def encode_request(name: str, body: bytes, *, respond: bool = True) -> bytes:
    """Return a whole request.

    Raises
    ------
    NanonisProtocolError
        When the name or the body is too long.
    """
    return _REQUEST.pack(_encoded_name(name), _checked_size(name, len(body), LARGEST_REQUEST), respond, 0) + body


def decode_request_header(data: bytes) -> RequestHeader:
    """Read the header of a request.

    Raises
    ------
    NanonisProtocolError
        When it does not have 40 bytes, its name is not text, or it announces too long a body: do not read that.
    """
    name, size, respond, _ = _REQUEST.unpack(_whole(data))
    command = _decoded_name(name)
    return RequestHeader(command, _checked_size(command, size, LARGEST_REQUEST), bool(respond))


def encode_response(
    name: str,
    results: bytes,
    error_text: str = "",
    *,
    status: int | None = None,
    dialect: ErrorDialect = ErrorDialect.SHORT,
) -> bytes:
    """Return a whole response.

    Parameters
    ----------
    name
        Of the command.
    results
        From :meth:`Command.encode_results`; also with an error, as clients look for the error behind them.
    error_text
        What went wrong, or nothing.
    status
        1 for an error; None to take it from the text.
    dialect
        Of the error block.

    Raises
    ------
    NanonisProtocolError
        When the name or the body is too long.
    """
    body = results + encode_error_block(bool(error_text) if status is None else status, error_text, dialect)
    return _RESPONSE.pack(_encoded_name(name), _checked_size(name, len(body), LARGEST_RESPONSE)) + body


def decode_response_header(data: bytes) -> ResponseHeader:
    """Read the header of a response.

    Raises
    ------
    NanonisProtocolError
        When it does not have 40 bytes, its name is not text, or it announces too long a body: do not read that.
    """
    name, size = _RESPONSE.unpack(_whole(data))
    command = _decoded_name(name)
    return ResponseHeader(command, _checked_size(command, size, LARGEST_RESPONSE))


def encode_error_block(status: int, text: str, dialect: ErrorDialect = ErrorDialect.SHORT) -> bytes:
    """Return what ends the body of a response."""
    code = INT32.pack(status) if dialect is ErrorDialect.LONG else b""
    encoded = text.encode()
    return UINT32.pack(status) + code + INT32.pack(len(encoded)) + encoded


def decode_error_block(data: bytes, dialect: ErrorDialect = ErrorDialect.SHORT) -> tuple[int, str]:
    """Return the status, 0 when all went well, and the text of an error block.

    Raises
    ------
    NanonisProtocolError
        When it is malformed.
    """
    reader = Reader(data)
    status = int(reader.number(UINT32))
    if dialect is ErrorDialect.LONG:
        reader.take(INT32.size)
    text = decode_text(reader)
    if reader.left:
        raise NanonisProtocolError(
            f"{reader.left} bytes follow the error block: expected none, check the error dialect"
        )
    return status, text


def _whole(data: bytes) -> bytes:
    if len(data) != HEADER_SIZE:
        raise NanonisProtocolError(f"a header has {len(data)} bytes: expected {HEADER_SIZE}")
    return data


def _encoded_name(name: str) -> bytes:
    encoded = name.encode()
    if not 0 < len(encoded) <= _NAME_SIZE:
        raise NanonisProtocolError(f"the command name {name!r} has {len(encoded)} bytes: expected 1 to {_NAME_SIZE}")
    return encoded


def _decoded_name(data: bytes) -> str:
    name, _, padding = data.partition(b"\0")
    if not name or padding.strip(b"\0") or not name.isascii() or not name.decode().isprintable():
        raise NanonisProtocolError(f"the command name {data!r} is malformed: expected ASCII text, padded with zeros")
    return name.decode()


def _checked_size(name: str, size: int, largest: int) -> int:
    if not 0 <= size <= largest:
        raise NanonisProtocolError(
            f"the body of {name} has {size} bytes: expected 0 to {largest}", size=size, high=largest
        )
    return size
