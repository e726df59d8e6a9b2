"""The binary objects of Gwyddion's own format, parsed with bounds.

http://gwyddion.net/documentation/user-guide-en/gwyfile-format.html: an object is a name, a size, and components; each
component has a name, a letter for its type, and its value. The package gwyfile reads the same, but copies the rest of
the file for each component, cannot read arrays of characters, and follows a damaged count of texts for ever.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from twinscope.drivers.replay.readers.contents import damaged

_ATOMS = {"b": "<?", "c": "<c", "i": "<i", "q": "<q", "d": "<d"}
_ARRAYS = {"C": "S1", "I": "<i4", "Q": "<i8", "D": "<f8"}
# Objects within objects: a file of Gwyddion has three or four levels.
_DEEPEST = 30


@dataclass(slots=True)
class GwyObject:
    """One object: its type and its components."""

    name: str
    components: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a component."""
        return self.components.get(name, default)


def parse(path: Path, content: bytes) -> GwyObject:
    """Parse a file without its first four letters.

    Raises
    ------
    StoreError
        When it is damaged.
    """
    parser = _Parser(path, content)
    found = parser.object(len(content), 0)
    if parser.position != len(content):
        raise damaged(path, f"{len(content) - parser.position} bytes follow its end")
    return found


class _Parser:
    """A position in the bytes of a file, and what can be read there; nothing is read beyond an end that is given."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._path = path
        self._content = content
        self.position = 0

    def object(self, end: int, depth: int) -> GwyObject:
        if depth > _DEEPEST:
            raise damaged(self._path, "its objects lie too deep within each other")
        found = GwyObject(self.text(end))
        (size,) = struct.unpack("<I", self.take(4, end))
        inner = self.position + size
        if inner > end:
            raise damaged(self._path, f"the object {found.name[:40]!r} ends beyond the end of the file")
        while self.position < inner:
            name = self.text(inner)
            found.components[name] = self.value(inner, depth)
        return found

    def value(self, end: int, depth: int) -> Any:
        letter = self.take(1, end).decode("latin-1")
        if letter in _ATOMS:
            (value,) = struct.unpack(_ATOMS[letter], self.take(struct.calcsize(_ATOMS[letter]), end))
            return value
        if letter == "s":
            return self.text(end)
        if letter == "o":
            return self.object(end, depth + 1)
        if letter not in "CIQDSO":
            raise damaged(self._path, f"it has a component of the unknown type {letter!r}")
        (count,) = struct.unpack("<I", self.take(4, end))
        if letter in _ARRAYS:
            kind = np.dtype(_ARRAYS[letter])
            return np.frombuffer(self.take(count * kind.itemsize, end), kind)
        read: Callable[[], Any] = (lambda: self.text(end)) if letter == "S" else lambda: self.object(end, depth + 1)
        # Each takes at least one byte, so a count that is too large ends with the file.
        return [read() for _ in range(count)]

    def take(self, count: int, end: int) -> bytes:
        if self.position + count > end:
            raise damaged(self._path, "it ends too early")
        taken = self._content[self.position : self.position + count]
        self.position += count
        return taken

    def text(self, end: int) -> str:
        stop = self._content.find(b"\0", self.position, end)
        if stop < 0:
            raise damaged(self._path, "a text in it has no end")
        text = self._content[self.position : stop].decode("utf-8", "replace")
        self.position = stop + 1
        return text
