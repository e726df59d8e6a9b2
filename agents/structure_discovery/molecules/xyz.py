"""Files of atoms: xyz with four columns, with a fifth for charges, and extended xyz."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twinscope.agents.structure_discovery.structure import ELEMENTS, NUMBERS
from twinscope.errors import InvalidRequestError

_NUMBERS = dict(zip(ELEMENTS, NUMBERS, strict=True))
_PLAIN = {"species": (0, 1), "pos": (1, 3)}
_CHARGES = ("initial_charges", "charge", "charges", "q")


@dataclass(frozen=True)
class Atoms:
    """What an xyz file tells.

    Attributes
    ----------
    symbols
        Of :data:`.ELEMENTS`.
    positions
        Å, shape (n, 3).
    charges
        e, shape (n,), or None.
    """

    symbols: tuple[str, ...]
    positions: np.ndarray
    charges: np.ndarray | None


def read_xyz(path: Path) -> Atoms:
    """Read the atoms of a file.

    Raises
    ------
    InvalidRequestError
        When it does not follow the format, or has an element that networks do not know. The message does not name
        the file.
    OSError, UnicodeDecodeError
        When it cannot be read.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    if len(lines) < 2 or not lines[0].strip().isdigit():
        raise InvalidRequestError("the first line is no number of atoms")
    count = int(lines[0])
    rows = [line.split() for line in lines[2 : 2 + count]]
    if len(rows) < count or count == 0:
        raise InvalidRequestError(f"it has {len(rows)} of {count} atoms")
    columns = _columns(lines[1], rows[0])
    charge = next((columns[name][0] for name in _CHARGES if name in columns), None)
    start, width = columns["pos"]
    if width != 3:
        raise InvalidRequestError(f"positions have {width} columns")
    return Atoms(
        tuple(_symbol(row, columns["species"][0]) for row in rows),
        np.array([_values(row, start, width) for row in rows]),
        None if charge is None else np.array([_values(row, charge, 1)[0] for row in rows]),
    )


def _columns(comment: str, row: list[str]) -> dict[str, tuple[int, int]]:
    """Tell the first column and the number of columns of each property."""
    found = re.search(r'Properties="?([\w:]+)"?', comment)
    if found is None:
        return _PLAIN | ({"charge": (4, 1)} if len(row) == 5 else {})
    words = found[1].split(":")
    if len(words) % 3 or not all(width.isdigit() for width in words[2::3]):
        raise InvalidRequestError(f"Properties are {found[1]!r}: expected name:type:columns, repeated")
    columns, start = {}, 0
    for name, width in zip(words[::3], words[2::3], strict=True):
        columns[name] = (start, int(width))
        start += int(width)
    missing = [name for name in _PLAIN if name not in columns]
    if missing:
        raise InvalidRequestError(f"Properties are {found[1]!r}: {', '.join(missing)} is missing")
    return columns


def _symbol(row: list[str], column: int) -> str:
    word = row[column] if column < len(row) else ""
    symbol = dict(zip(map(str, NUMBERS), ELEMENTS, strict=True)).get(word, word.capitalize())
    if symbol not in _NUMBERS:
        raise InvalidRequestError(f"it has the element {word!r}: expected {', '.join(ELEMENTS)}")
    return symbol


def _values(row: list[str], start: int, width: int) -> list[float]:
    try:
        values = [float(word) for word in row[start : start + width]]
    except ValueError:
        values = []
    if len(values) != width or not np.isfinite(values).all():
        raise InvalidRequestError(f"{' '.join(row)!r} does not have {width} numbers from column {start + 1}")
    return values
