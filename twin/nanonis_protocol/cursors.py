"""Cursors over the body of a message: one takes values off its front, one puts them at its end."""

import struct
from typing import Any

from twinscope.errors import NanonisProtocolError


class Reader:
    """Takes values off the front of a message, and never reads beyond its end.

    Parameters
    ----------
    data
        The bytes that were received.

    Attributes
    ----------
    count
        Elements of the last array: the next one may have as many, without saying so.
    """

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._offset = 0
        self.count = 0

    @property
    def left(self) -> int:
        """Number of bytes that were not taken yet."""
        return len(self._data) - self._offset

    def take(self, size: int) -> memoryview:
        """Return the next `size` bytes.

        Raises
        ------
        NanonisProtocolError
            When there are fewer.
        """
        if not 0 <= size <= self.left:
            raise NanonisProtocolError(
                f"{size} bytes are announced at byte {self._offset} of a body of {len(self._data)}: they are not there",
                offset=self._offset,
                size=size,
            )
        self._offset += size
        return self._data[self._offset - size : self._offset]

    def number(self, layout: struct.Struct) -> Any:
        """Return the next number."""
        return layout.unpack(self.take(layout.size))[0]

    def rest(self) -> bytes:
        """Return all that was not taken yet."""
        return bytes(self.take(self.left))


class Writer:
    """Collects the bytes of a message.

    Attributes
    ----------
    count
        Elements of the last array.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.count = 0

    def put(self, *parts: bytes) -> None:
        """Add bytes at the end."""
        self._parts.extend(parts)

    def data(self) -> bytes:
        """Return all bytes."""
        return b"".join(self._parts)
