"""Headers of Nanonis files, as text.

The formats are those that SPECS describes in the manual of its software. The package nanonispy2 reads them too, but
takes every scan to be recorded in both directions, every grid to be whole and every column 4 of a grid to be z, and
turns nothing the right way round; ours is compared with it where it applies.
"""

import math
from collections.abc import Mapping
from pathlib import Path

from twinscope.drivers.replay.readers.contents import damaged


class Header:
    """Named texts of a header, with checks that name the file.

    Parameters
    ----------
    path
        For messages.
    entries
        The texts by their names.
    """

    def __init__(self, path: Path, entries: Mapping[str, str]) -> None:
        self._path = path
        self.entries = dict(entries)

    def text(self, *names: str) -> str:
        """Return the first of these entries that is there, without quotes and blanks around."""
        for name in names:
            if name in self.entries:
                return self.entries[name].strip().strip('"').strip()
        raise damaged(self._path, f"its header has no {names[0]!r}")

    def numbers(self, *names: str, count: int, separator: str | None = None) -> tuple[float, ...]:
        """Return an entry that holds `count` finite numbers."""
        text = self.text(*names)
        try:
            numbers = tuple(float(part) for part in text.split(separator))
        except ValueError:
            numbers = ()
        if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
            raise damaged(self._path, f"{names[0]} is {text[:80]!r}, expected {count} finite numbers")
        return numbers

    def number(self, *names: str, default: float | None = None) -> float:
        """Return an entry that holds one finite number; the default also when it holds something else."""
        if default is None:
            return self.numbers(*names, count=1)[0]
        for name in names:
            try:
                number = float(self.entries.get(name, "").strip())
            except ValueError:
                continue
            if math.isfinite(number):
                return number
        return default

    def counts(self, *names: str, count: int, separator: str | None = None) -> tuple[int, ...]:
        """Return an entry that holds `count` integers of at least 1."""
        numbers = self.numbers(*names, count=count, separator=separator)
        if not all(number >= 1 and number.is_integer() for number in numbers):
            raise damaged(self._path, f"{names[0]} is {self.text(*names)[:80]!r}, expected integers of at least 1")
        return tuple(int(number) for number in numbers)


def decode(text: bytes) -> str:
    """Decode a header: UTF-8 in new files, Latin-1 in old ones."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def parse_tags(text: str) -> dict[str, str]:
    """Parse the header of a ``.sxm``: a tag between colons on a line, then the lines of its text."""
    entries: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        name = line.strip()
        if len(name) > 2 and name[0] == name[-1] == ":":
            # A comment may look like a tag: the first one is meant.
            lines = []
            entries.setdefault(name[1:-1], lines)
        else:
            lines.append(line)
    return {name: "\n".join(lines) for name, lines in entries.items()}


def parse_pairs(text: str, separator: str) -> dict[str, str]:
    """Parse a header with a name and its text on each line: ``.3ds`` with "=", ``.dat`` with a tabulator."""
    entries: dict[str, str] = {}
    for line in text.splitlines():
        name, found, value = line.partition(separator)
        if found and name:
            entries.setdefault(name, value.strip("\t"))
    return entries
