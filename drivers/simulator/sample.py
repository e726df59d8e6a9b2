"""Samples: atoms read from a file of any format that ASE knows, or from the molecules that come with twinscope."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import ase
import ase.io
import numpy as np
from ase.data import reference_states
from ase.neighborlist import neighbor_list

from twinscope.drivers.simulator.currents import work_function
from twinscope.drivers.simulator.surface import Block
from twinscope.errors import ConfigurationError
from twinscope.kernels import Atoms, Plane, Tip, atomic_number, placeholder_elements

ORIENTATIONS = ("file", "flat")
# Atoms nearer than this (Å) are at the same place: half the shortest bond is 0.37 Å.
_SAME_PLACE = 0.3
# Copies of a cell are kept as far as this (Å) from it: the attraction of an atom there is 1e-6 of that in contact.
_REACH = 16.0


@dataclass(frozen=True)
class Sample:
    """Atoms under the tip: the highest at z = 0, a molecule's middle at x = y = 0.

    Attributes
    ----------
    name
        For people.
    atoms
        In the kernels' units.
    plane
        A surface under the atoms, or None.
    source
        Where it comes from: file name and SHA-256 of its bytes.
    warnings
        What a user should know about it.
    work_function
        Of the surface, in eV.
    """

    name: str
    atoms: Atoms
    plane: Plane | None
    source: dict[str, str]
    warnings: tuple[str, ...]
    work_function: float

    @property
    def atom_count(self) -> int:
        """Of the molecule, or of the cell of a periodic sample."""
        return len(self.atoms.numbers)

    def ground(self, points: np.ndarray) -> np.ndarray:
        """Zero: heights are measured from the highest atom."""
        return np.zeros(len(points))

    def blocks(self, points: np.ndarray) -> Iterator[Block]:
        """All positions (n, 2), in Å, as one block with all atoms."""
        yield Block(np.arange(len(points)), self.wrap(points), self.atoms, self.plane)

    def wrap(self, points: np.ndarray) -> np.ndarray:
        """Bring lateral positions (n, 2), in Å, into the cell of a periodic sample."""
        if self.atoms.cell is None:
            return points
        lateral = self.atoms.cell[:2, :2]
        fractions = points @ np.linalg.inv(lateral)
        wrapped: np.ndarray = (fractions - np.floor(fractions)) @ lateral
        return wrapped


def library() -> dict[str, Path]:
    """Files of the molecules that come with twinscope, by name."""
    folder = resources.files("twinscope.drivers.simulator") / "molecules"
    return {Path(str(file)).stem: Path(str(file)) for file in folder.iterdir() if file.name.endswith(".xyz")}


def load_sample(
    source: str | Path, tip: Tip, orientation: str = "file", surface: str | None = None, surface_distance: float = 3.0
) -> Sample:
    """Read a sample.

    Parameters
    ----------
    source
        Name of a molecule of the library, or path of a file.
    tip
        The tip that will look at it.
    orientation
        "file" keeps the atoms as they are; "flat" turns their largest extent along x and the smallest along z.
    surface
        Symbol of an element: adds a flat surface of it under the atoms.
    surface_distance
        From the surface to the lowest atom, in Å.

    Raises
    ------
    ConfigurationError
        When the file cannot be read or its atoms make no sense; the message says which and why.
    """
    path = _find(source)
    structure = _read(path)
    _check(structure, path)
    if orientation not in ORIENTATIONS:
        raise ConfigurationError(f"orientation is {orientation!r}: expected {', '.join(ORIENTATIONS)}")
    periodic = bool(structure.pbc[:2].all())
    if orientation == "flat":
        if periodic:
            raise ConfigurationError(f"orientation is 'flat' but {path.name} is periodic: only molecules can be turned")
        structure.positions = _principal_axes(structure.positions)
    positions = structure.positions.copy()
    positions[:, 2] -= positions[:, 2].max()
    if not periodic:
        positions[:, :2] -= (positions[:, :2].min(axis=0) + positions[:, :2].max(axis=0)) / 2

    charges = structure.get_initial_charges()
    charged = bool(charges.any())
    warnings = []
    if not charged:
        warnings.append(f"{path.name} has no charges: electrostatics is left out")
    vague = placeholder_elements(structure.numbers)
    if vague:
        warnings.append(f"the Lennard-Jones parameters of {', '.join(vague)} are placeholders without physical meaning")

    cell = np.asarray(structure.cell) if periodic else None
    return Sample(
        name=str(structure.info.get("name", path.stem)),
        atoms=Atoms(
            structure.numbers,
            positions.astype(np.float32),
            charges.astype(np.float32) if charged else None,
            cell,
            (0, 0, 0) if cell is None else _images(cell, path),
        ),
        plane=None if surface is None else metal_plane(surface, positions[:, 2].min() - surface_distance, tip),
        source={"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
        warnings=tuple(warnings),
        work_function=work_function(surface),
    )


def metal_plane(element: str, height: float, tip: Tip) -> Plane:
    """Surface of a metal, for a tip.

    Parameters
    ----------
    element
        Symbol of a metal with a cubic lattice.
    height
        Of the surface, in Å.
    tip
        The tip that will look at it.

    Raises
    ------
    ConfigurationError
        When it is no such metal.
    """
    try:
        state: dict[str, Any] = reference_states[atomic_number(element)] or {}
    except ValueError as exc:
        raise ConfigurationError(f"surface is {element!r}: {exc}", name="surface") from exc
    per_cell = {"fcc": 4, "bcc": 2}.get(state.get("symmetry", ""))
    if per_cell is None:
        raise ConfigurationError(
            f"surface is {element!r}: expected a metal with a cubic lattice, such as Cu, Ag, Au or Fe", name="surface"
        )
    return Plane.of(element, per_cell / state["a"] ** 3, float(height), tip.element)


def _find(source: str | Path) -> Path:
    known = {name.lower(): path for name, path in library().items()}
    path = Path(source).expanduser()
    if path.is_file():
        return path
    # A missing file "ptcda.xyz" may still be meant as the molecule.
    if str(source).lower().removesuffix(".xyz") in known:
        return known[str(source).lower().removesuffix(".xyz")]
    raise ConfigurationError(
        f"sample is {str(source)!r}: expected a file that exists, or one of {', '.join(sorted(known))}", name="sample"
    )


def _read(path: Path) -> ase.Atoms:
    if path.stat().st_size == 0:
        raise ConfigurationError(f"the sample file {path} is empty: expected a list of atoms")
    try:
        structures: Any = ase.io.read(path, index=":")
    # ASE's readers raise whatever their parsing happens to raise.
    except Exception as exc:
        raise ConfigurationError(f"the sample file {path} cannot be read: {type(exc).__name__}: {exc}") from exc
    if len(structures) != 1:
        raise ConfigurationError(f"the sample file {path} holds {len(structures)} structures: expected one")
    structure: ase.Atoms = structures[0]
    return structure


def _check(structure: ase.Atoms, path: Path) -> None:
    if len(structure) == 0:
        raise ConfigurationError(f"the sample file {path} has no atoms: expected at least one")
    for index, number in enumerate(structure.numbers):
        try:
            atomic_number(int(number))
        except ValueError as exc:
            raise ConfigurationError(f"atom {index + 1} of {path} is {structure.symbols[index]!r}: {exc}") from exc
    for name, values in (("position", structure.positions), ("charge", structure.get_initial_charges()[:, None])):
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise ConfigurationError(
                f"atom {bad[0] + 1} ({structure.symbols[bad[0]]}) of {path} has the {name} {values[bad[0]].tolist()}:"
                " expected finite numbers"
            )
    first, second = neighbor_list("ij", structure, _SAME_PLACE)
    if len(first):
        i, j = int(first[0]), int(second[0])
        raise ConfigurationError(
            f"atoms {i + 1} ({structure.symbols[i]}) and {j + 1} ({structure.symbols[j]}) of {path} are at the same"
            f" place (closer than {_SAME_PLACE} Å): remove one"
        )


def _principal_axes(positions: np.ndarray) -> np.ndarray:
    """Turn positions so that their largest extent is along x and the smallest along z, keeping handedness."""
    centred = positions - positions.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes[2] = np.cross(axes[0], axes[1])
    turned: np.ndarray = centred @ axes.T
    return turned


def _images(cell: np.ndarray, path: Path) -> tuple[int, int, int]:
    area = abs(np.linalg.det(cell[:2, :2]))
    if np.abs(cell[:2, 2]).max() > 1e-6 or area < 1e-6:
        raise ConfigurationError(
            f"the first two cell vectors of {path} are {cell[0].tolist()} and {cell[1].tolist()}: expected them to"
            " span the surface, z = 0"
        )
    # Spacing of the lattice lines: how far one copy reaches in each direction.
    spacing = [area / np.linalg.norm(cell[1 - i, :2]) for i in range(2)]
    return int(np.ceil(_REACH / spacing[0])), int(np.ceil(_REACH / spacing[1])), 0
