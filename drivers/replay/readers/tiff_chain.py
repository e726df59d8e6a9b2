"""The chain of pages of a TIFF, followed before another package trusts it.

Pages may follow each other in a circle, lie in one another or beyond the end of the file: tifffile then works for
minutes, or goes on without them.
"""

import struct
from pathlib import Path
from typing import BinaryIO

from twinscope.drivers.replay.readers.contents import damaged

# Bytes of one number of each type.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def check_chain(path: Path, size: int) -> None:
    """Raise :class:`StoreError` when a page, or what belongs to it, is not within the file, or the chain has no end."""
    with path.open("rb") as file:
        start = file.read(16).ljust(16, b"\0")
        order = "<" if start.startswith(b"II") else ">"
        (version,) = struct.unpack_from(f"{order}H", start, 2)
        chain = _Chain(path, file, size, order, large=version == 43)
        (place,) = struct.unpack_from(f"{order}{chain.offset}", start, 8 if chain.large else 4)
        pages = 0
        while place:
            place = chain.follow(place)
            pages += 1
        if not pages:
            raise damaged(path, "it has no page")


class _Chain:
    """A TIFF whose pages are followed; in all, they may not be larger than the file."""

    def __init__(self, path: Path, file: BinaryIO, size: int, order: str, *, large: bool) -> None:
        self._path = path
        self._file = file
        self._size = size
        self._left = size
        self._order = order
        self.large = large
        self.offset = "Q" if large else "I"
        self._count, self._tag = ("Q", "HHQ") if large else ("H", "HHI")

    def follow(self, place: int) -> int:
        """Check the page at a place of the file, and return the place of the next one."""
        (count,) = self._read(place, self._count)
        begin = place + struct.calcsize(f"={self._count}")
        each = struct.calcsize(f"={self._tag}{self.offset}")
        end = begin + count * each
        self._left -= end - place
        if self._left < 0 or end > self._size:
            raise damaged(self._path, f"its page at {place} is not whole, or its pages have no end")
        for tag in range(count):
            number, kind, values, where = self._read(begin + tag * each, f"{self._tag}{self.offset}")
            length = _SIZES.get(kind, 1) * values
            if length > struct.calcsize(f"={self.offset}") and where + length > self._size:
                raise damaged(self._path, f"the tag {number} of its page at {place} lies beyond its end")
        (following,) = self._read(end, self.offset)
        return int(following)

    def _read(self, place: int, numbers: str) -> tuple[int, ...]:
        length = struct.calcsize(f"={numbers}")
        if place + length > self._size:
            raise damaged(self._path, "it ends before its pages do")
        self._file.seek(place)
        return struct.unpack(f"{self._order}{numbers}", self._file.read(length))
