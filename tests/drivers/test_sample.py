from pathlib import Path

import numpy as np
import pytest

from twinscope.drivers.simulator.sample import library, load_sample
from twinscope.errors import ConfigurationError
from twinscope.kernels import Tip

CO = Tip()
WATER = "3\n\nO 0 0 0\nH 0.76 0.59 0\nH -0.76 0.59 0\n"


def write(folder: Path, text: str, name: str = "molecule.xyz") -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize("name", sorted(library()))
def test_the_library_has_molecules_that_lie_flat_and_are_neutral(name: str) -> None:
    sample = load_sample(name, CO)
    positions = np.asarray(sample.atoms.positions)
    assert positions[:, 2].max() == 0
    np.testing.assert_allclose(positions[:, :2].min(axis=0) + positions[:, :2].max(axis=0), 0, atol=1e-5)
    assert np.ptp(positions[:, 0]) >= np.ptp(positions[:, 2]) - 1.0
    if sample.atoms.charges is not None:
        assert abs(np.sum(sample.atoms.charges)) < 1e-4


@pytest.mark.parametrize("spelling", ["ptcda", "PTCDA", "ptcda.xyz"])
def test_a_molecule_of_the_library_is_found_by_name(spelling: str) -> None:
    assert len(load_sample(spelling, CO).atoms.numbers) == 38


def test_a_file_is_moved_to_the_origin_with_the_top_at_zero(tmp_path: Path) -> None:
    sample = load_sample(write(tmp_path, "2\n\nC 5 5 5\nO 6 7 3\n"), CO)
    np.testing.assert_allclose(sample.atoms.positions, [[-0.5, -1, 0], [0.5, 1, -2]])
    assert sample.atoms.charges is None
    assert "no charges" in sample.warnings[0]
    assert sample.source["file"] == "molecule.xyz"


@pytest.mark.parametrize("format_", ["xyz", "pdb", "cif", "mol"])
def test_formats_of_chemistry_are_read(tmp_path: Path, format_: str) -> None:
    import ase.build
    import ase.io

    molecule = ase.build.molecule("C6H6")
    path = tmp_path / f"benzene.{format_}"
    if format_ == "mol":
        atoms = "".join(
            f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol:<3} 0  0  0  0  0  0  0  0  0  0  0  0\n"
            for symbol, (x, y, z) in zip(molecule.symbols, molecule.positions, strict=True)
        )
        path.write_text(f"benzene\n\n\n 12  0  0  0  0  0  0  0  0  0999 V2000\n{atoms}M  END\n")
    else:
        if format_ == "cif":
            molecule.set_cell([20, 20, 20])
        ase.io.write(path, molecule)
    assert len(load_sample(path, CO).atoms.numbers) == 12


def test_real_molecules_are_read_with_their_charges(shared: Path) -> None:
    for path in sorted((shared / "real" / "molecules").glob("*.xyz")):
        sample = load_sample(path, CO)
        assert sample.atoms.charges is not None, path
        assert not sample.warnings, path


def test_a_tilted_molecule_can_be_laid_flat(tmp_path: Path) -> None:
    turned = "3\n\nO 0 0 0\nH 0.59 0 0.76\nH 0.59 0 -0.76\n"
    flat = load_sample(write(tmp_path, turned), CO, orientation="flat")
    assert np.ptp(np.asarray(flat.atoms.positions)[:, 2]) < 1e-5
    upright = load_sample(write(tmp_path, turned), CO)
    assert np.ptp(np.asarray(upright.atoms.positions)[:, 2]) > 1


def test_laying_flat_keeps_the_hand_of_a_chiral_molecule() -> None:
    def hand(positions: np.ndarray) -> float:
        a, b, c, d = np.asarray(positions, float)[:4]
        return float(np.sign(np.dot(a - d, np.cross(b - d, c - d))))

    given, flat = (load_sample("camphor", CO, orientation=way) for way in ("file", "flat"))
    assert hand(given.atoms.positions) == hand(flat.atoms.positions)


def test_a_periodic_sample_repeats_under_the_tip(tmp_path: Path) -> None:
    text = '1\nLattice="3 0 0 0 4 0 0 0 20" pbc="T T F"\nC 0 0 0\n'
    sample = load_sample(write(tmp_path, text), CO)
    assert sample.atoms.periodic_images[:2] == (6, 4)
    points = np.array([[10.5, -3.0], [1.5, 1.0]])
    np.testing.assert_allclose(sample.wrap(points), [[1.5, 1.0], [1.5, 1.0]], atol=1e-9)


def test_a_surface_lies_under_the_lowest_atom(tmp_path: Path) -> None:
    sample = load_sample("c60", CO, surface="Cu", surface_distance=2.5)
    lowest = np.asarray(sample.atoms.positions)[:, 2].min()
    assert sample.plane is not None
    assert sample.plane.height == pytest.approx(lowest - 2.5)


def test_elements_without_real_parameters_are_mentioned(tmp_path: Path) -> None:
    sample = load_sample(write(tmp_path, "1\n\nRn 0 0 0\n"), CO)
    assert any("Rn" in warning and "placeholder" in warning for warning in sample.warnings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("0\n\n", r"no atoms|cannot be read|0 structures"),
        ("this is no molecule", "cannot be read"),
        (WATER.replace("O", "Xx"), r"cannot be read|atom 1"),
        (WATER.replace("0.76 0.59", "nan 0.59"), r"atom 2 \(H\).*nan"),
        (WATER.replace("0.76 0.59", "inf 0.59"), r"atom 2 \(H\).*inf"),
        (WATER.replace("-0.76", "0.76"), "atoms 2.*and 3.*same place"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_the_reason(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_sample(path, CO)
    assert str(path) in str(caught.value)


def test_several_structures_are_not_guessed_about(tmp_path: Path) -> None:
    path = write(tmp_path, WATER + WATER)
    with pytest.raises(ConfigurationError, match="2 structures"):
        load_sample(path, CO)


def test_a_missing_sample_names_the_library(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"'unobtainium'.*benzene, c60"):
        load_sample("unobtainium", CO)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"orientation": "sideways"}, "'sideways'.*file, flat"),
        ({"surface": "Xx"}, "'Xx'"),
        ({"surface": "O"}, "cubic"),
    ],
)
def test_wrong_ways_to_put_a_sample_are_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_sample("benzene", CO, **change)


def test_a_periodic_sample_cannot_be_laid_flat(tmp_path: Path) -> None:
    text = '1\nLattice="3 0 0 0 4 0 0 0 20" pbc="T T F"\nC 0 0 0\n'
    with pytest.raises(ConfigurationError, match="periodic"):
        load_sample(write(tmp_path, text), CO, orientation="flat")
