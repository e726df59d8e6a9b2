"""The extended XYZ format, with everything that a structure holds.

The second line describes the columns, as ASE and OVITO expect it; it also carries the bonds. The columns are

===================  ==================================================
species              chemical symbol
pos                  Å
confidence           probability that there is an atom
sigma                standard deviation of the position, in Å, or nan
probabilities        of the elements, in the order of the key `elements`
initial_charges      e; only where charges are known
===================  ==================================================
"""

import re
from pathlib import Path

import numpy as np

from twinscope.agents.structure_discovery.structure import ELEMENTS, NUMBERS, Structure
from twinscope.errors import StoreError

_COLUMN_COUNTS = {"pos": 3, "confidence": 1, "sigma": 3, "probabilities": len(ELEMENTS), "initial_charges": 1}
_DECIMALS = 6


def xyz_text(structure: Structure) -> str:
    """Return the text of an extended XYZ file."""
    columns = {
        "pos": structure.positions,
        "confidence": structure.confidence,
        "sigma": structure.sigma,
        "probabilities": structure.probabilities,
    }
    if structure.charges is not None:
        columns["initial_charges"] = structure.charges
    properties = ":".join(["species:S:1", *(f"{name}:R:{_COLUMN_COUNTS[name]}" for name in columns)])
    keys = [f"Properties={properties}", f'elements="{" ".join(ELEMENTS)}"', 'pbc="F F F"']
    if len(structure.bonds):
        keys.append(f'bonds="{_words(structure.bonds)}"')
        keys.append(f'bond_orders="{_words(structure.bond_orders)}"')
    values = np.column_stack([np.reshape(column, (-1, _COLUMN_COUNTS[name])) for name, column in columns.items()])
    rows = [
        f"{symbol:<2} " + " ".join(f"{value:.{_DECIMALS}f}" for value in row)
        for symbol, row in zip(structure.symbols, values, strict=True)
    ]
    return "\n".join([str(len(structure)), " ".join(keys), *rows, ""])


def read_xyz(path: str | Path) -> Structure:
    """Read a structure from an XYZ file.

    Columns that a file lacks are those of a structure without doubt, so plain XYZ files of others can be read: columns
    named ``charge`` or ``charges`` are charges, too, and so is a fifth column without a name.

    Raises
    ------
    StoreError
        When the file cannot be read, or is no XYZ file of elements that are known here.
    """
    try:
        return _parse(Path(path).read_text(encoding="utf-8"))
    except OSError as exc:
        raise StoreError(f"{path} cannot be read: {exc}") from exc
    except (ValueError, IndexError, KeyError) as exc:
        raise StoreError(
            f"{path} is no XYZ file that can be read here: {exc}; expected the number of atoms, a comment, and lines"
            f" of a symbol of {', '.join(ELEMENTS)} and coordinates in Å"
        ) from exc


def _parse(text: str) -> Structure:
    lines = text.splitlines()
    count = int(lines[0])
    rows = [line.split() for line in lines[2 : 2 + count]]
    if len(rows) < count:
        raise ValueError(f"it has {len(rows)} lines of atoms instead of {count}")
    keys = _keys(lines[1])
    columns = _columns(rows, keys.get("Properties"))
    known = dict(zip(ELEMENTS, NUMBERS, strict=True))
    certain = Structure.known(
        [known[row] for row in columns.pop("species")],
        columns["pos"],
        next((columns[name][:, 0] for name in ("initial_charges", "charges", "charge") if name in columns), None),
        np.array(keys.get("bonds", "").split(), dtype=int).reshape(-1, 2),
        np.array(keys.get("bond_orders", "").split(), dtype=float),
    )
    if keys.get("elements", "").split() != list(ELEMENTS):
        columns.pop("probabilities", None)
    return Structure(
        certain.numbers,
        certain.positions,
        columns["confidence"][:, 0] if "confidence" in columns else certain.confidence,
        columns.get("probabilities", certain.probabilities),
        columns.get("sigma", certain.sigma),
        certain.bonds,
        certain.bond_orders,
        certain.charges,
    )


def _keys(comment: str) -> dict[str, str]:
    """Read ``key=value`` and ``key="several values"`` of the second line; a comment in prose has none."""
    return {name: value.strip('"') for name, value in re.findall(r'(\w+)=("[^"]*"|\S+)', comment)}


def _columns(rows: list[list[str]], properties: str | None) -> dict[str, np.ndarray]:
    """Read the columns by name, each of the shape (n, width); species of the shape (n,)."""
    if properties is None:
        properties = "species:S:1:pos:R:3" + (":charge:R:1" if rows and len(rows[0]) == 5 else "")
    fields = properties.split(":")
    columns: dict[str, np.ndarray] = {}
    start = 0
    for name, kind, width in zip(fields[::3], fields[1::3], map(int, fields[2::3]), strict=True):
        cells = [row[start : start + width] for row in rows]
        start += width
        if name == "species":
            columns[name] = np.array([cell[0] for cell in cells], dtype=str)
        elif kind in "RI":
            columns[name] = np.array(cells, dtype=float).reshape(len(rows), width)
    return columns


def _words(values: np.ndarray) -> str:
    return " ".join(f"{value:g}" for value in values.ravel())
