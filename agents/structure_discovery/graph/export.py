"""Structures as files for other programs: extended XYZ, MDL molfiles, and atoms of ASE."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from twinscope._optional import import_optional
from twinscope.agents.structure_discovery.graph.xyz import xyz_text
from twinscope.agents.structure_discovery.structure import Structure
from twinscope.errors import InvalidRequestError, StoreError

_PROGRAM = "twinscop"
# A V2000 molfile has three digits for the numbers of atoms and bonds.
_MOST_IN_MOLFILE = 999
_MOLFILE_ORDERS: Mapping[float, int] = MappingProxyType({1.0: 1, 2.0: 2, 3.0: 3, 1.5: 4})


def write_structure(structure: Structure, path: str | Path) -> Path:
    """Write a structure to a new file, in the format of its suffix: ``.xyz`` or ``.mol``.

    An extended XYZ file holds everything, and :func:`read_xyz` reads it back. A molfile holds elements, positions and
    bonds; bonds of the order 1.5 are marked as aromatic.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InvalidRequestError
        For another suffix, or more atoms or bonds than a molfile can hold.
    StoreError
        When the file exists already, or cannot be written.
    """
    path = Path(path)
    to_text = _FORMATS.get(path.suffix.lower())
    if to_text is None:
        raise InvalidRequestError(f"{str(path)!r} cannot be written: expected a suffix of {', '.join(_FORMATS)}")
    text = to_text(structure)
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError as exc:
        raise StoreError(f"{path} exists already: choose another name") from exc
    except OSError as exc:
        raise StoreError(f"{path} cannot be written: {exc}") from exc
    return path


def to_ase(structure: Structure) -> Any:
    """Return the atoms as :class:`ase.Atoms`, with the arrays ``confidence`` and ``sigma``.

    Raises
    ------
    MissingPackageError
        When ASE is not installed.
    """
    ase = import_optional("ase", "simulator", "ase.Atoms")
    atoms = ase.Atoms(numbers=structure.numbers, positions=structure.positions, charges=structure.charges)
    atoms.new_array("confidence", np.asarray(structure.confidence, dtype=float))
    atoms.new_array("sigma", np.asarray(structure.sigma, dtype=float))
    return atoms


def mol_text(structure: Structure) -> str:
    """Return the text of an MDL molfile, version V2000 (Dalby et al., J. Chem. Inf. Comput. Sci. 32, 244 (1992)).

    Raises
    ------
    InvalidRequestError
        When there are too many atoms or bonds, or a bond has an order that the format does not know.
    """
    atoms, bonds = len(structure), len(structure.bonds)
    if max(atoms, bonds) > _MOST_IN_MOLFILE:
        raise InvalidRequestError(
            f"the structure has {atoms} atoms and {bonds} bonds: a molfile holds at most {_MOST_IN_MOLFILE} of each;"
            " write an .xyz file"
        )
    unknown = sorted(set(structure.bond_orders.tolist()) - set(_MOLFILE_ORDERS))
    if unknown:
        raise InvalidRequestError(
            f"bonds of the structure have the orders {unknown}: expected some of {sorted(_MOLFILE_ORDERS)}"
        )
    lines = [
        "structure",
        f"  {_PROGRAM}{'':10}3D",
        "",
        f"{atoms:3d}{bonds:3d}  0  0  0  0  0  0  0  0999 V2000",
    ]
    for symbol, (x, y, z) in zip(structure.symbols, structure.positions, strict=True):
        lines.append(f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol:<3} 0" + "  0" * 11)
    for (first, second), order in zip(structure.bonds.tolist(), structure.bond_orders.tolist(), strict=True):
        lines.append(f"{first + 1:3d}{second + 1:3d}{_MOLFILE_ORDERS[order]:3d}  0  0  0  0")
    return "\n".join([*lines, "M  END", ""])


_FORMATS: Mapping[str, Callable[[Structure], str]] = MappingProxyType({".xyz": xyz_text, ".mol": mol_text})
