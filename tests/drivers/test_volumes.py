from pathlib import Path

import ase
import ase.build
import ase.calculators.vasp
import ase.io.cube
import ase.io.xsf
import numpy as np
import pytest

from twinscope.drivers.simulator.volumes import read_density, read_potential
from twinscope.errors import ConfigurationError
from twinscope.kernels import GridEnergy

HARTREE, BOHR = 27.211386, 0.529177
CELL = np.array([[7.0, 0.3, -0.2], [1.8, 6.1, 0.4], [-0.5, 0.7, 8.0]])
SHAPE = (12, 11, 13)


def points_of(shape: tuple[int, ...] = SHAPE, cell: np.ndarray = CELL) -> np.ndarray:
    index = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"), axis=-1)
    return index @ cell


@pytest.fixture
def molecule() -> ase.Atoms:
    """CO in a triclinic cell."""
    return ase.Atoms("OC", [[4.0, 3.4, 3.4], [4.2, 3.4, 4.5]], cell=CELL, pbc=True)


def around(atoms: ase.Atoms, width: float = 0.8) -> np.ndarray:
    """Return a Gaussian around each atom and its images."""
    total = np.zeros(SHAPE)
    for shift in np.ndindex(3, 3, 3):
        for position in atoms.positions + (np.array(shift) - 1) @ CELL:
            total += np.exp(-np.sum((points_of() - position) ** 2, axis=-1) / (2 * width**2))
    return total


def write_cube(path: Path, atoms: ase.Atoms, data: np.ndarray, origin: tuple[float, ...] = (0, 0, 0)) -> Path:
    with path.open("w") as file:
        ase.io.cube.write_cube(file, atoms, data, origin=origin)
    return path


def write_vasp(path: Path, atoms: ase.Atoms, data: np.ndarray) -> Path:
    """Write data as ASE writes a density: times the volume."""
    content = ase.calculators.vasp.VaspChargeDensity(None)
    content.atoms, content.chg = [atoms], [data]
    content.write(str(path), format="chgcar")
    return path


def write_xsf(path: Path, atoms: ase.Atoms, data: np.ndarray, span: np.ndarray | None) -> Path:
    with path.open("w") as file:
        ase.io.xsf.write_xsf(file, [atoms], data, origin=np.array([0.0, 0.0, 0.0]), span_vectors=span)
    return path


def test_a_cube_density_has_as_many_electrons_in_our_units(tmp_path: Path, molecule: ase.Atoms) -> None:
    density = around(molecule)
    path = write_cube(tmp_path / "density.cube", molecule, density * BOHR**3, (1.0, -2.0, 0.5))
    volume, atoms = read_density(path)
    np.testing.assert_allclose(volume.values, density, rtol=1e-5)
    np.testing.assert_allclose(volume.cell, CELL, atol=1e-5)
    np.testing.assert_allclose(volume.origin, [1, -2, 0.5], atol=1e-6)
    assert volume.periodic == (False, False, False)
    assert atoms.cell is None
    np.testing.assert_array_equal(atoms.numbers, [8, 6])
    np.testing.assert_allclose(atoms.positions, molecule.positions, atol=1e-5)
    periodic, with_cell = read_density(path, periodic=(True, True, True))
    assert periodic.periodic == (True, True, True)
    np.testing.assert_allclose(with_cell.cell, CELL, atol=1e-5)


def test_a_cube_potential_is_turned_into_volts_for_a_positive_charge(tmp_path: Path, molecule: ase.Atoms) -> None:
    electron = -around(molecule) / HARTREE
    path = write_cube(tmp_path / "hartree.cube", molecule, electron)
    np.testing.assert_allclose(read_potential(path)[0].values, around(molecule), rtol=1e-5)
    np.testing.assert_allclose(read_potential(path, unit="eV")[0].values, around(molecule) / HARTREE, rtol=1e-5)
    np.testing.assert_allclose(read_potential(path, unit="Ry")[0].values, around(molecule) / 2, rtol=1e-5)


def test_a_potential_of_the_other_sign_is_noticed(tmp_path: Path, molecule: ase.Atoms) -> None:
    path = write_cube(tmp_path / "esp.cube", molecule, around(molecule) / HARTREE)
    with pytest.raises(ConfigurationError, match=r"seems to be that of a positive charge.*give charge=\+1"):
        read_potential(path)
    np.testing.assert_allclose(read_potential(path, charge=1)[0].values, around(molecule), rtol=1e-5)
    np.testing.assert_allclose(read_potential(path, charge=-1)[0].values, -around(molecule), rtol=1e-5)


def test_a_chgcar_is_a_density_and_a_locpot_is_a_potential(tmp_path: Path, molecule: ase.Atoms) -> None:
    volume, atoms = read_density(write_vasp(tmp_path / "CHGCAR", molecule, around(molecule)))
    np.testing.assert_allclose(volume.values, around(molecule), rtol=1e-6)
    np.testing.assert_allclose(volume.integral, around(molecule).mean() * molecule.get_volume(), rtol=1e-6)
    np.testing.assert_allclose(volume.cell, CELL, atol=1e-6)
    assert volume.periodic == (True, True, True)
    np.testing.assert_allclose(atoms.cell, CELL, atol=1e-6)
    # VASP does not multiply potentials by the volume of the cell.
    path = write_vasp(tmp_path / "LOCPOT.vasp", molecule, -around(molecule) / molecule.get_volume())
    np.testing.assert_allclose(read_potential(path)[0].values, around(molecule), rtol=1e-6)


def test_a_locpot_of_two_spins_as_vasp_writes_it_gives_the_first(tmp_path: Path) -> None:
    # 4 x 5 x 6 points, x fastest; 2 x 2.5 x 3 Å; between the spins stand magnetic moments.
    values = np.arange(120.0).reshape(6, 5, 4)
    block = "  4   5   6\n" + "\n".join(" ".join(f"{v:.11E}" for v in row) for row in values.reshape(-1, 5)) + "\n"
    header = "water\n 1.0\n 2.0 0.0 0.0\n 0.0 2.5 0.0\n 0.0 0.0 3.0\n O H\n 1 2\nDirect\n"
    header += " 0.0 0.0 0.0\n 0.4 0.0 0.0\n 0.0 0.4 0.0\n\n"
    (tmp_path / "LOCPOT").write_text(header + block + " 1.0 1.0 1.0\n" + block.replace("E+", "E-"))
    volume, atoms = read_potential(tmp_path / "LOCPOT")
    np.testing.assert_allclose(volume.values, -values.transpose(2, 1, 0))
    np.testing.assert_allclose(volume.steps, 0.5 * np.eye(3))
    np.testing.assert_array_equal(atoms.numbers, [8, 1, 1])
    np.testing.assert_allclose(atoms.positions, [[0, 0, 0], [0.8, 0, 0], [0, 1, 0]], atol=1e-6)


def repeated(data: np.ndarray) -> np.ndarray:
    """Repeat the first points at the end."""
    return np.pad(data, ((0, 1),) * 3, mode="wrap")


@pytest.mark.parametrize(
    ("data", "span"),
    [
        (repeated, CELL),
        (lambda data: data, CELL),
        (lambda data: data, CELL * (1 - 1 / np.array(SHAPE))[:, None]),
        (lambda data: data, None),
    ],
    ids=["ends repeated", "ends left out", "from first to last point", "as ASE does it"],
)
def test_xsf_grids_of_all_conventions_are_the_same_grid(tmp_path, molecule, data, span) -> None:
    density = 10 * around(molecule)
    volume, _ = read_density(write_xsf(tmp_path / "density.xsf", molecule, data(density), span))
    np.testing.assert_allclose(volume.values, density, atol=1e-6)
    np.testing.assert_allclose(volume.cell, CELL, atol=1e-5)
    assert volume.periodic == (True, True, True)


def test_an_xsf_of_a_molecule_spans_from_the_first_point_to_the_last(tmp_path: Path, molecule: ase.Atoms) -> None:
    molecule.pbc = False
    volume, atoms = read_potential(write_xsf(tmp_path / "v.xsf", molecule, -around(molecule), CELL))
    np.testing.assert_allclose(volume.values, around(molecule), atol=1e-6)
    np.testing.assert_allclose(volume.steps, CELL / (np.array(SHAPE)[:, None] - 1), atol=1e-6)
    assert volume.periodic == (False, False, False)
    assert atoms.cell is None


def test_an_xsf_of_a_slab_is_periodic_along_two_vectors(tmp_path: Path, molecule: ase.Atoms) -> None:
    molecule.pbc = (True, True, False)
    data = np.pad(around(molecule), ((0, 1), (0, 1), (0, 0)), mode="wrap")
    volume, atoms = read_density(write_xsf(tmp_path / "slab.xsf", molecule, data, CELL))
    assert volume.periodic == (True, True, False)
    assert volume.values.shape == SHAPE
    np.testing.assert_allclose(volume.cell[2] * 12 / 13, CELL[2], atol=1e-5)
    np.testing.assert_allclose(atoms.cell, CELL, atol=1e-6)


def test_what_was_read_can_be_interpolated(tmp_path: Path, molecule: ase.Atoms) -> None:
    path = write_cube(tmp_path / "density.cube", molecule, around(molecule) * BOHR**3)
    grid = GridEnergy.of(read_density(path)[0])
    points = points_of()[::4, ::5, ::6].reshape(-1, 3)
    values = grid.energy(points.T.astype("float32"))
    np.testing.assert_allclose(values, around(molecule)[::4, ::5, ::6].reshape(-1), atol=1e-3)


@pytest.fixture
def cube(tmp_path: Path, molecule: ase.Atoms) -> Path:
    return write_cube(tmp_path / "density.cube", molecule, around(molecule))


@pytest.mark.parametrize("read", [read_density, read_potential])
@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"unit": "kcal"}, "unit is 'kcal': expected one of e"),
        ({"format": "hdf5"}, "format is 'hdf5': expected cube, vasp, xsf"),
        ({"format": "xsf"}, "cannot be read as a xsf file"),
        ({"format": "vasp"}, "expected a VASP file|cannot be read as a vasp file"),
        ({"periodic": (True, True)}, r"periodic is \(True, True\): expected"),
    ],
)
def test_wrong_arguments_are_named(cube: Path, read, keywords, message) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read(cube, **keywords)


def test_wrong_files_are_named(tmp_path: Path, molecule: ase.Atoms, cube: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no file .*nothing.cube"):
        read_density(tmp_path / "nothing.cube")
    (tmp_path / "density.dat").write_text("")
    with pytest.raises(ConfigurationError, match="does not tell its format"):
        read_density(tmp_path / "density.dat")
    with pytest.raises(ConfigurationError, match="charge is 2"):
        read_potential(cube, charge=2)
    with pytest.raises(ConfigurationError, match="is called a charge density: expected a potential"):
        read_potential(tmp_path / "CHGCAR")
    with pytest.raises(ConfigurationError, match="is called a potential: expected a density"):
        read_density(tmp_path / "LOCPOT")
    chgcar = write_vasp(tmp_path / "CHGCAR", molecule, around(molecule))
    with pytest.raises(ConfigurationError, match="is a VASP file: expected e/A"):
        read_density(chgcar, unit="e/bohr^3")
    negative = write_cube(tmp_path / "negative.cube", molecule, -around(molecule))
    with pytest.raises(ConfigurationError, match=r"sums up to -.* electrons: expected a positive"):
        read_density(negative)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("density.cube", lambda text: text[: len(text) // 2], "cannot be read as a cube file"),
        ("density.cube", lambda text: text[:400], "cannot be read as a cube file"),
        ("density.cube", lambda text: "", "cannot be read as a cube file"),
        ("density.cube", lambda text: text[:-12] + "nan", "has 1 values that are no finite numbers"),
        ("density.cube", lambda text: text.replace("   12    ", "  -12    ", 1), "negative numbers of points"),
        ("density.cube", lambda text: text.replace("    8    ", "    0    ", 1), "atom 1 of"),
        ("CHGCAR", lambda text: text[: len(text) // 2], "cannot be read as a vasp file"),
        ("CHGCAR", lambda text: "", "expected a VASP file"),
        ("density.xsf", lambda text: text[: len(text) // 2], "cannot be read as a xsf file"),
        ("density.xsf", lambda text: text.replace("7.000000 0.300000", "9.000000 0.300000"), "expected one period"),
        ("density.xsf", lambda text: text.replace("CRYSTAL", "MOLECULE"), "cannot be read as a xsf file"),
    ],
)
def test_malformed_files_are_named(tmp_path: Path, molecule: ase.Atoms, name, change, message) -> None:
    write = {
        "density.cube": lambda path: write_cube(path, molecule, around(molecule)),
        "CHGCAR": lambda path: write_vasp(path, molecule, around(molecule)),
        "density.xsf": lambda path: write_xsf(path, molecule, around(molecule), CELL),
    }[name]
    path = write(tmp_path / name)
    text = path.read_text()
    path.write_text(change(text))
    assert path.read_text() != text
    with pytest.raises(ConfigurationError, match=message):
        read_density(path)
