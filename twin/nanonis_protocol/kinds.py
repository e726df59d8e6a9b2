"""How each kind of value looks on the wire. All numbers are big-endian.

The numbers of elements that stand in front of an array belong to the array, so nobody else handles them:

=================== ==================================================================================
``float32[]``       count, then the elements; the same for other numbers
``float32[same]``   the elements only: as many as the array before has
``float32[,]``      rows, columns, then the elements row by row
``string``          length in bytes, then the text
``string[]``        size in bytes, count, then each text with its length
``string[counted]`` count, then each text with its length
``string[same]``    size in bytes, then as many texts as the array before has elements, each with its length
``string[,]``       rows, columns, then each text with its length
=================== ==================================================================================

Numbers are Python numbers, arrays of numbers NumPy arrays, arrays of texts tuples.
"""

import operator
import struct
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from twinscope.errors import NanonisProtocolError
from twinscope.nanonis_protocol.cursors import Reader, Writer

INT32 = struct.Struct(">i")
UINT32 = struct.Struct(">I")
UINT16 = struct.Struct(">H")
_FLOAT32 = struct.Struct(">f")
_FLOAT64 = struct.Struct(">d")


class Kind(Protocol):
    """One kind of value."""

    empty: Any

    def encode(self, value: Any, writer: Writer) -> None:
        """Add a value to the writer; raises ValueError, TypeError or OverflowError."""
        ...

    def decode(self, reader: Reader) -> Any:
        """Take a value off the reader; raises NanonisProtocolError."""
        ...


class _Integer:
    empty = 0

    def __init__(self, layout: struct.Struct) -> None:
        self._layout = layout

    def encode(self, value: Any, writer: Writer) -> None:
        try:
            writer.put(self._layout.pack(operator.index(value)))
        except struct.error as exc:
            raise ValueError(str(exc)) from exc

    def decode(self, reader: Reader) -> int:
        return int(reader.number(self._layout))


class _Float:
    empty = 0.0

    def __init__(self, layout: struct.Struct) -> None:
        self._layout = layout

    def encode(self, value: Any, writer: Writer) -> None:
        try:
            writer.put(self._layout.pack(value))
        except struct.error as exc:
            raise TypeError(str(exc)) from exc

    def decode(self, reader: Reader) -> float:
        return float(reader.number(self._layout))


class _Text:
    empty = ""

    def encode(self, value: Any, writer: Writer) -> None:
        writer.put(_encoded_text(value))

    def decode(self, reader: Reader) -> str:
        return decode_text(reader)


class _Numbers:
    """An array with its count, or as long as the one before."""

    def __init__(self, dtype: str, *, counted: bool) -> None:
        self._wire = np.dtype(dtype).newbyteorder(">")
        self._counted = counted
        self.empty = np.zeros(0, dtype)

    def encode(self, value: Any, writer: Writer) -> None:
        elements = _exact(value, self._wire, ndim=1)
        _put_count(writer, len(elements), counted=self._counted)
        writer.put(elements.tobytes())

    def decode(self, reader: Reader) -> np.ndarray:
        return _elements(reader, self._wire, _take_count(reader, counted=self._counted))


class _Matrix:
    def __init__(self) -> None:
        self._wire = np.dtype(">f4")
        self.empty = np.zeros((0, 0), np.float32)

    def encode(self, value: Any, writer: Writer) -> None:
        matrix = _exact(value, self._wire, ndim=2)
        rows, columns = matrix.shape
        writer.put(INT32.pack(rows), INT32.pack(columns), matrix.tobytes())

    def decode(self, reader: Reader) -> np.ndarray:
        rows, columns = reader.number(INT32), reader.number(INT32)
        if min(rows, columns) < 0:
            raise NanonisProtocolError(f"a table has {rows} rows and {columns} columns: neither can be negative")
        return _elements(reader, self._wire, rows * columns).reshape(rows, columns)


class _Texts:
    """An array of texts with its size in bytes, its count, or both."""

    empty: tuple[str, ...] = ()

    def __init__(self, *, sized: bool, counted: bool) -> None:
        self._sized = sized
        self._counted = counted

    def encode(self, value: Any, writer: Writer) -> None:
        texts = [_encoded_text(text) for text in _sequence(value)]
        if self._sized:
            writer.put(INT32.pack(sum(map(len, texts))))
        _put_count(writer, len(texts), counted=self._counted)
        writer.put(*texts)

    def decode(self, reader: Reader) -> tuple[str, ...]:
        if self._sized:
            # What the texts say of themselves counts: clients disagree on what this size includes.
            reader.take(INT32.size)
        return _some_texts(reader, _take_count(reader, counted=self._counted))


class _TextMatrix:
    empty: tuple[tuple[str, ...], ...] = ()

    def encode(self, value: Any, writer: Writer) -> None:
        rows = [[_encoded_text(text) for text in _sequence(row)] for row in _sequence(value)]
        columns = len(rows[0]) if rows else 0
        if any(len(row) != columns or not row for row in rows):
            raise ValueError("its rows are empty or have different lengths")
        writer.put(INT32.pack(len(rows)), INT32.pack(columns), *(text for row in rows for text in row))

    def decode(self, reader: Reader) -> tuple[tuple[str, ...], ...]:
        rows, columns = reader.number(INT32), reader.number(INT32)
        if rows > 0 >= columns:
            raise NanonisProtocolError(f"a table has {rows} rows and {columns} columns: expected columns")
        return tuple(_some_texts(reader, columns) for _ in range(rows))


def _put_count(writer: Writer, count: int, *, counted: bool) -> None:
    if counted:
        writer.put(INT32.pack(count))
    elif count != writer.count:
        raise ValueError(f"it has {count} elements, the array before has {writer.count}")
    writer.count = count


def _take_count(reader: Reader, *, counted: bool) -> int:
    if counted:
        reader.count = reader.number(INT32)
    return reader.count


def _sequence(value: Any) -> list[Any]:
    if isinstance(value, str | bytes):
        raise TypeError("expected a list of texts")
    return list(value)


def _encoded_text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError("expected text")
    text = value.encode()
    return INT32.pack(len(text)) + text


def decode_text(reader: Reader) -> str:
    """Take a text with its length off the reader."""
    data = bytes(reader.take(reader.number(INT32)))
    try:
        return data.decode()
    except UnicodeDecodeError:
        # LabVIEW writes the code page of its Windows: "µ" and "°" are one byte there.
        return data.decode("latin-1")


def _some_texts(reader: Reader, count: int) -> tuple[str, ...]:
    if not 0 <= count * INT32.size <= reader.left:
        raise NanonisProtocolError(f"{count} texts are announced where {reader.left} bytes are left", count=count)
    return tuple(decode_text(reader) for _ in range(count))


def _elements(reader: Reader, wire: np.dtype[Any], count: int) -> np.ndarray:
    data = reader.take(count * wire.itemsize)
    return np.frombuffer(data, wire).astype(wire.newbyteorder("="))


def _exact(value: Any, wire: np.dtype[Any], ndim: int) -> np.ndarray:
    """Return `value` as an array for the wire; nothing but the precision of fractions may be lost."""
    given = np.asarray(value)
    if given.size and given.dtype.kind not in ("iu" if wire.kind in "iu" else "iuf"):
        raise TypeError(f"its elements are {given.dtype}")
    if given.ndim != ndim:
        raise ValueError(f"it has {given.ndim} dimensions, not {ndim}")
    with np.errstate(over="raise"):
        try:
            fitted = given.astype(wire)
        except FloatingPointError as exc:
            raise OverflowError(f"an element is too large for {wire.name}") from exc
    if wire.kind in "iu" and not np.array_equal(fitted, given):
        raise OverflowError(f"an element does not fit into {wire.name}")
    return fitted


KINDS: Mapping[str, Kind] = {
    "int32": _Integer(INT32),
    "uint32": _Integer(UINT32),
    "uint16": _Integer(UINT16),
    "float32": _Float(_FLOAT32),
    "float64": _Float(_FLOAT64),
    "string": _Text(),
    "uint8[]": _Numbers("u1", counted=True),
    "int32[]": _Numbers("i4", counted=True),
    "uint32[]": _Numbers("u4", counted=True),
    "float32[]": _Numbers("f4", counted=True),
    "float64[]": _Numbers("f8", counted=True),
    "int32[same]": _Numbers("i4", counted=False),
    "uint32[same]": _Numbers("u4", counted=False),
    "float32[same]": _Numbers("f4", counted=False),
    "float32[,]": _Matrix(),
    "string[]": _Texts(sized=True, counted=True),
    "string[counted]": _Texts(sized=False, counted=True),
    "string[same]": _Texts(sized=True, counted=False),
    "string[,]": _TextMatrix(),
}
"""Every kind by its name in the table."""
