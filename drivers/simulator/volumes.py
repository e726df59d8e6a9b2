"""Potentials and electron densities from files of electronic-structure codes."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import ase.calculators.vasp
import ase.io.cube
import ase.io.xsf
import ase.units
import numpy as np

from twinscope.errors import ConfigurationError
from twinscope.kernels import Atoms, Volume, atomic_number

FORMATS = ("cube", "vasp", "xsf")
POTENTIAL_UNITS = {"eV": 1.0, "Ry": ase.units.Rydberg, "Ha": ase.units.Hartree}
"""Units of potentials, in eV."""
DENSITY_UNITS = {"e/A^3": 1.0, "e/bohr^3": ase.units.Bohr**-3}
"""Units of densities, in e/Å³."""

# Numbers of an xsf file that should agree may differ by this part of the range: they are written with few digits.
_SAME = 1e-4

_Read = tuple[Volume, ase.Atoms]


def read_potential(
    path: str | Path,
    *,
    unit: str | None = None,
    charge: int | None = None,
    periodic: tuple[bool, bool, bool] | None = None,
    format: str | None = None,
) -> tuple[Volume, Atoms]:
    """Read an electrostatic (Hartree) potential.

    Parameters
    ----------
    path
        A Gaussian cube, XCrySDen xsf or VASP LOCPOT file. Of a spin-polarised LOCPOT, the first spin is read.
    unit
        One of :data:`POTENTIAL_UNITS`. None for what is usual: Ha in a cube, eV in the others; a LOCPOT is in eV.
    charge
        Sign of the charge whose energy the file holds: -1, the electron, for VASP, FHI-aims, CP2K or Quantum ESPRESSO,
        +1 for most codes of quantum chemistry (Gaussian, ORCA, PySCF). None takes -1 and looks whether positive
        charges are then repelled by the nuclei.
    periodic
        Along which vectors the data repeat themselves. None for what the file says; a cube does not say, and counts as
        not periodic.
    format
        One of :data:`FORMATS`. None to tell it from the name.

    Returns
    -------
    Volume
        In V, as a positive charge feels it, in the frame of the file.
    Atoms
        In the same frame; with a cell if it is periodic.

    Raises
    ------
    ConfigurationError
        When the file cannot be read or makes no sense; the message says which and why.
    """
    if charge not in (None, -1, 1):
        raise ConfigurationError(f"charge is {charge!r}: expected -1 (energy of an electron), +1 or None")
    path = Path(path).expanduser()
    if path.name.upper().startswith(("CHG", "AECCAR")):
        raise ConfigurationError(f"{path} is called a charge density: expected a potential, such as LOCPOT")
    volume, structure, name = _read(path, format, periodic)
    if name == "vasp":
        # ASE takes any such file for a density, which VASP multiplies by the volume of the cell.
        volume = replace(volume, values=volume.values * structure.get_volume())
    volume = replace(volume, values=volume.values * _unit(unit, POTENTIAL_UNITS, "Ha", name, path) * (charge or -1))
    if charge is None:
        _check_sign(volume, structure, path)
    return volume, _atoms(structure, path)


def read_density(
    path: str | Path,
    *,
    unit: str | None = None,
    periodic: tuple[bool, bool, bool] | None = None,
    format: str | None = None,
) -> tuple[Volume, Atoms]:
    """Read an electron density.

    Parameters
    ----------
    path
        A Gaussian cube, XCrySDen xsf or VASP CHGCAR, CHG or AECCAR file. Of several time steps, the last one is read.
    unit
        One of :data:`DENSITY_UNITS`. None for what is usual: e/bohr^3 in a cube, e/A^3 in the others.
    periodic, format
        As for :func:`read_potential`.

    Returns
    -------
    Volume
        In e/Å³, electrons positive, in the frame of the file. Its ``integral`` is the number of electrons.
    Atoms
        In the same frame; with a cell if it is periodic.

    Raises
    ------
    ConfigurationError
        When the file cannot be read or makes no sense; the message says which and why.
    """
    path = Path(path).expanduser()
    if path.name.upper().startswith("LOCPOT"):
        raise ConfigurationError(f"{path} is called a potential: expected a density, such as CHGCAR")
    volume, structure, name = _read(path, format, periodic)
    volume = replace(volume, values=volume.values * _unit(unit, DENSITY_UNITS, "e/bohr^3", name, path))
    if not volume.integral > 0:
        raise ConfigurationError(
            f"the density in {path} sums up to {volume.integral:.4g} electrons: expected a positive number"
        )
    return volume, _atoms(structure, path)


def _read(path: Path, format_: str | None, periodic: tuple[bool, bool, bool] | None) -> tuple[Volume, ase.Atoms, str]:
    name = _format(path) if format_ is None else format_
    if name not in FORMATS:
        raise ConfigurationError(f"format is {format_!r}: expected {', '.join(FORMATS)}")
    if periodic is not None and (len(periodic) != 3 or any(p not in (True, False) for p in periodic)):
        raise ConfigurationError(f"periodic is {periodic!r}: expected True or False for each of three vectors")
    if not path.is_file():
        raise ConfigurationError(f"there is no file {path}: expected a potential or density")
    readers: dict[str, Callable[[Path, Any], _Read]] = {"cube": _read_cube, "vasp": _read_vasp, "xsf": _read_xsf}
    try:
        with warnings.catch_warnings():
            # NumPy only warns when the numbers of a file end early; the next step then fails.
            warnings.simplefilter("ignore")
            volume, structure = readers[name](path, periodic)
    except ConfigurationError:
        raise
    # ASE's readers raise whatever their parsing happens to raise.
    except Exception as exc:
        raise ConfigurationError(f"{path} cannot be read as a {name} file: {type(exc).__name__}: {exc}") from exc
    values = np.asarray(volume.values)
    if not np.isfinite(values).all():
        raise ConfigurationError(f"{path} has {np.sum(~np.isfinite(values))} values that are no finite numbers")
    if min(values.shape) < 4:
        raise ConfigurationError(f"{path} has {values.shape} points: expected at least four along each vector")
    structure.pbc = volume.periodic
    return volume, structure, name


def _format(path: Path) -> str:
    name = path.name.upper()
    if path.suffix.lower() in (".cube", ".cub"):
        return "cube"
    if path.suffix.lower() == ".xsf":
        return "xsf"
    if any(part in name for part in ("LOCPOT", "CHG", "AECCAR")):
        return "vasp"
    raise ConfigurationError(
        f"the name of {path} does not tell its format: expected *.cube, *.xsf, LOCPOT* or CHGCAR*, or give format="
    )


def _unit(unit: str | None, known: dict[str, float], of_cube: str, format_: str, path: Path) -> float:
    usual = of_cube if format_ == "cube" else next(iter(known))
    if unit is not None and unit not in known:
        raise ConfigurationError(f"unit is {unit!r}: expected one of {', '.join(known)}")
    if format_ == "vasp" and unit not in (None, usual):
        raise ConfigurationError(f"unit is {unit!r} but {path} is a VASP file: expected {usual} or None")
    return known[unit or usual]


def _read_cube(path: Path, periodic: tuple[bool, bool, bool] | None) -> _Read:
    with path.open() as file:
        header = [file.readline() for _ in range(6)]
    if any(int(line.split()[0]) < 0 for line in header[3:]):
        raise ConfigurationError(f"{path} has negative numbers of points, which stand for other units: expected bohr")
    with path.open() as file:
        content = ase.io.cube.read_cube(file)
    if len(content["datas"]) != 1:
        raise ConfigurationError(f"{path} holds {len(content['datas'])} fields: expected one")
    values, structure = content["data"], content["atoms"]
    cell = content["spacing"] * np.array(values.shape)[:, None]
    return Volume(values, cell, content["origin"], periodic or (False, False, False)), structure


def _read_vasp(path: Path, periodic: tuple[bool, bool, bool] | None) -> _Read:
    content = ase.calculators.vasp.VaspChargeDensity(str(path))
    if not content.chg:
        raise ConfigurationError(f"{path} has no atoms that could be read: expected a VASP file with a grid")
    structure = content.atoms[-1]
    return Volume(content.chg[-1], structure.cell.array, np.zeros(3), periodic or (True, True, True)), structure


def _read_xsf(path: Path, periodic: tuple[bool, bool, bool] | None) -> _Read:
    with path.open() as file:
        values, origin, span, structure = ase.io.xsf.read_xsf(file, read_data=True)
    repeats = (bool(structure.pbc[0]), bool(structure.pbc[1]), bool(structure.pbc[2]))
    vectors = np.array(span, float)
    for axis in range(3):
        if repeats[axis]:
            values, vectors[axis] = _one_period(values, axis, vectors[axis], structure.cell.array[axis], path)
        else:
            # The vectors of an xsf file go from the first point to the last.
            vectors[axis] *= values.shape[axis] / (values.shape[axis] - 1)
    return Volume(values, vectors, origin, periodic or repeats), structure


def _one_period(
    values: np.ndarray, axis: int, span: np.ndarray, period: np.ndarray, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Points and vector of one period of a periodic xsf grid, without repeated points.

    By definition, a grid spans a vector from its first point to its last. If this is the period, the last point repeats
    the first. Many programs leave the last point out and write the period all the same; ASE writes (n + 1) / n of it.
    """
    count = values.shape[axis]
    length = np.linalg.norm(period)

    def is_span(part: float) -> bool:
        return bool(np.linalg.norm(span - part * period) < _SAME * length)

    if is_span(1):
        first, last = values.take(0, axis), values.take(-1, axis)
        if np.abs(first - last).max() <= _SAME * np.ptp(values):
            return values.take(range(count - 1), axis), period
        return values, period
    if is_span((count - 1) / count) or is_span((count + 1) / count):
        return values, period
    raise ConfigurationError(
        f"the grid of {path} spans {span.tolist()} Å along vector {axis + 1}, its cell {period.tolist()} Å: expected"
        " one period"
    )


def _check_sign(volume: Volume, structure: ase.Atoms, path: Path) -> None:
    """Raise an error when a positive charge would be attracted by the nuclei."""
    values, shape = np.asarray(volume.values), np.array(np.shape(volume.values))
    steps = np.asarray(volume.cell) / shape[:, None]
    index = np.round((structure.positions - volume.origin) @ np.linalg.inv(steps)).astype(int)
    index = np.where(volume.periodic, index % shape, index)
    index = index[((index >= 0) & (index < shape)).all(axis=1)]
    if len(index) and values[tuple(index.T)].mean() < values.mean():
        raise ConfigurationError(
            f"the potential in {path} seems to be that of a positive charge, where the energy of an electron was"
            " expected: nuclei would attract positive charges; give charge=+1, or charge=-1 if it is right all the same"
        )


def _atoms(structure: ase.Atoms, path: Path) -> Atoms:
    for index, number in enumerate(structure.numbers):
        try:
            atomic_number(int(number))
        except ValueError as exc:
            raise ConfigurationError(f"atom {index + 1} of {path}: {exc}") from exc
    cell = structure.cell.array if structure.pbc[:2].all() else None
    return Atoms(structure.numbers, structure.positions.astype(np.float32), cell=cell)
