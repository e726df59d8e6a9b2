"""Molecules of one's own, from a folder."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rdkit")

from rdkit import Chem
from rdkit.Chem import rdDistGeom

from twinscope.agents.structure_discovery.molecules import from_folder
from twinscope.errors import InvalidRequestError

FORMALDEHYDE = np.array([[0, 0, 0.67], [0, 0, -0.53], [0.94, 0, -1.12], [-0.94, 0, -1.12]])
SYMBOLS = ("O", "C", "H", "H")
CHARGES = (-0.3, 0.1, 0.1, 0.1)


def xyz(columns: int, comment: str = "formaldehyde") -> str:
    rows = [
        " ".join([symbol, *map(str, position), str(charge)][:columns])
        for symbol, position, charge in zip(SYMBOLS, FORMALDEHYDE, CHARGES, strict=True)
    ]
    return "\n".join([str(len(rows)), comment, *rows]) + "\n"


def block(smiles: str) -> str:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    return Chem.MolToMolBlock(mol)


def distances(positions: np.ndarray) -> np.ndarray:
    return np.linalg.norm(positions[:, None] - positions, axis=-1)


@pytest.mark.parametrize(
    "text",
    [
        xyz(5),
        xyz(5, 'Properties=species:S:1:pos:R:3:initial_charges:R:1 pbc="F F F"'),
        xyz(5, "Properties=species:S:1:pos:R:3:charge:R:1").replace("O ", "8 "),
    ],
)
def test_atoms_and_charges_are_taken_from_xyz_files(tmp_path, text):
    (tmp_path / "one.XYZ").write_text(text)
    (molecule,) = from_folder(tmp_path)
    assert molecule.smiles == "C=O"
    assert molecule.numbers.tolist() == [8, 6, 1, 1]
    np.testing.assert_allclose(distances(molecule.positions), distances(FORMALDEHYDE), atol=1e-5)
    np.testing.assert_allclose(molecule.charges, CHARGES, atol=1e-6)
    orders = {tuple(bond): order for bond, order in zip(molecule.bonds.tolist(), molecule.bond_orders, strict=True)}
    assert orders == {(0, 1): 2, (1, 2): 1, (1, 3): 1}


def test_very_small_coordinates_are_read(tmp_path):
    """Written with an exponent, RDKit would not take them."""
    (tmp_path / "one.xyz").write_text("3\n\nO 0.00001 0 0.117 -0.8\nH 0 0.757 -0.469 0.4\nH 0 -0.757 -0.469 0.4\n")
    (molecule,) = from_folder(tmp_path)
    assert molecule.smiles == "O"


def test_charges_that_are_missing_come_from_the_model(tmp_path):
    (tmp_path / "one.xyz").write_text(xyz(4))
    (gasteiger,) = from_folder(tmp_path)
    (mmff94,) = from_folder(str(tmp_path), charges="mmff94")
    assert gasteiger.charges[0] < -0.2
    assert mmff94.charges[0] == pytest.approx(-0.57)  # Halgren, J. Comput. Chem. 17, 520 (1996)


def test_mol_and_sdf_files_are_read_in_the_order_of_their_names(tmp_path):
    (tmp_path / "b.mol").write_text(block("c1ccoc1"))
    (tmp_path / "a.sdf").write_text(f"{block('CO')}$$$$\n{block('C[C@H](N)F')}$$$$\n")
    (tmp_path / "notes.txt").write_text("no molecule")
    molecules = from_folder(tmp_path)
    assert [molecule.smiles for molecule in molecules] == ["CO", "C[C@H](N)F", "c1ccoc1"]
    assert molecules[2].bond_orders.tolist().count(1.5) == 5
    assert molecules[2].scaffold == "c1ccoc1"


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.xyz", "", "first line is no number"),
        ("a.xyz", "5\n" + xyz(4).partition("\n")[2], "has 4 of 5 atoms"),
        ("a.xyz", xyz(4).replace("C ", "Fe "), "element 'Fe'"),
        ("a.xyz", xyz(4).replace("0.67", "0.6x"), "does not have 3 numbers"),
        ("a.xyz", xyz(3), "does not have 3 numbers"),
        ("a.xyz", xyz(5, "Properties=species:S:1:pos:R"), "expected name:type:columns"),
        ("a.xyz", xyz(5, "Properties=species:S:1:charge:R:1"), "pos is missing"),
        ("a.xyz", xyz(5, "Properties=species:S:1:pos:R:2:charge:R:1"), "positions have 2 columns"),
        ("a.xyz", "2\n\nC 0 0 0\nH 0 0 1.1\n", "bonds cannot be told"),
        ("a.mol", "nothing", "molecule 1 is not valid"),
        ("a.mol", Chem.MolToMolBlock(Chem.MolFromSmiles("CO")), "lacks hydrogen"),
        ("a.sdf", "", "molecule 1 is not valid"),
        ("a.mol", block("C[SeH]"), "has Se"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path, name, text, reason):
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidRequestError, match=f"{name}: .*{reason}"):
        from_folder(tmp_path)


def test_other_files_are_read_where_errors_are_handled(tmp_path):
    (tmp_path / "good.xyz").write_text(xyz(4))
    (tmp_path / "bad.xyz").write_bytes(b"\xff\xfe")
    errors: list[Path] = []
    (molecule,) = from_folder(tmp_path, on_error=lambda file, _: errors.append(file))
    assert molecule.smiles == "C=O"
    assert errors == [tmp_path / "bad.xyz"]


def test_a_folder_without_molecules_is_refused(tmp_path):
    with pytest.raises(InvalidRequestError, match=r"no molecules in .*\.mol, \.sdf, \.xyz"):
        from_folder(tmp_path)
    with pytest.raises(InvalidRequestError, match="there is no folder"):
        from_folder(tmp_path / "nowhere")
