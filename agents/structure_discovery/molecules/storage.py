"""Many molecules in one compressed HDF5 file; reading it needs no RDKit."""

import contextlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from twinscope.agents.structure_discovery.molecules.molecule import Molecule
from twinscope.errors import StoreError

_FORMAT = 1
_TEXTS = ("smiles", "inchikey", "scaffold")
_OF_ATOMS = ("numbers", "positions", "charges")
_OF_BONDS = ("bonds", "bond_orders")
_COMPRESSED = {"compression": "gzip", "compression_opts": 4, "shuffle": True}


@dataclass
class Store:
    """What is known of a recipe's molecules.

    Attributes
    ----------
    molecules
        In the order of the recipe.
    keys
        Of all candidates that were looked at, also of those that have no geometry.
    attempts
        Number of attempts until here: where to go on.
    """

    molecules: list[Molecule] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    attempts: int = 0


def save(path: Path, store: Store) -> None:
    """Write a file, or put it in the place of an older one at once: others never read half of one.

    Raises
    ------
    StoreError
        When it cannot be written.
    """
    # In memory first: HDF5 ends the whole process when a disk is full.
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        _write(file, store)
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(memory.getbuffer())
        new.replace(path)
    except OSError as exc:
        with contextlib.suppress(OSError):
            new.unlink()
        raise StoreError(f"molecules cannot be written to {path}: {exc}") from exc


def load(path: Path) -> Store:
    """Read a file of :func:`save`.

    Raises
    ------
    StoreError
        When it cannot be read, or is no such file.
    """
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != _FORMAT:
                raise StoreError(f"{path} has the format {file.attrs.get('format')}: expected {_FORMAT}; delete it")
            return _read(file)
    except (OSError, KeyError, ValueError) as exc:
        if isinstance(exc, StoreError):
            raise
        raise StoreError(f"molecules cannot be read from {path}: {exc}; delete it") from exc


def _write(file: h5py.File, store: Store) -> None:
    file.attrs["format"] = _FORMAT
    file.attrs["attempts"] = store.attempts
    molecules = store.molecules
    _write_text(file, "keys", store.keys)
    for name in _TEXTS:
        _write_text(file, name, [getattr(molecule, name) for molecule in molecules])
    file["atom_counts"] = np.array([len(molecule) for molecule in molecules], np.int32)
    file["bond_counts"] = np.array([len(molecule.bonds) for molecule in molecules], np.int32)
    if molecules:
        for name in _OF_ATOMS + _OF_BONDS:
            values = np.concatenate([getattr(molecule, name) for molecule in molecules])
            file.create_dataset(name, data=values, **_COMPRESSED)


def _read(file: h5py.File) -> Store:
    texts = {name: _read_text(file, name) for name in _TEXTS}
    atoms, bonds = (np.cumsum(file[name])[:-1] for name in ("atom_counts", "bond_counts"))
    count = len(file["atom_counts"])
    arrays: dict[str, Any] = {}
    if count:
        arrays = {name: np.split(file[name][()], atoms) for name in _OF_ATOMS}
        arrays |= {name: np.split(file[name][()], bonds) for name in _OF_BONDS}
    columns: dict[str, Any] = texts | arrays
    molecules = [Molecule(**{name: values[i] for name, values in columns.items()}) for i in range(count)]
    return Store(molecules, _read_text(file, "keys"), int(file.attrs["attempts"]))


def _write_text(file: h5py.File, name: str, lines: Sequence[str]) -> None:
    # HDF5 does not compress strings of different lengths.
    data = np.frombuffer("".join(f"{line}\n" for line in lines).encode(), np.uint8)
    file.create_dataset(name, data=data, maxshape=(None,), **_COMPRESSED)


def _read_text(file: h5py.File, name: str) -> list[str]:
    return file[name][()].tobytes().decode().splitlines()
