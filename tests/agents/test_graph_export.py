import ase.io
import numpy as np
import pytest
from rdkit import Chem

from tests.agents._graph import pose, structure
from twinscope.agents.structure_discovery.graph.export import mol_text, to_ase, write_structure
from twinscope.agents.structure_discovery.graph.xyz import read_xyz
from twinscope.agents.structure_discovery.structure import ELEMENTS, Structure
from twinscope.errors import InvalidRequestError, StoreError

FIELDS = ("numbers", "positions", "confidence", "probabilities", "sigma", "bonds", "bond_orders")


@pytest.fixture
def uncertain():
    """Half a benzene with doubts."""
    rng = np.random.default_rng(7)
    sigma = rng.uniform(0.01, 0.2, (5, 3))
    sigma[2] = np.nan
    return Structure(
        np.array([6, 6, 17, 7, 1]),
        rng.uniform(-3, 0, (5, 3)),
        rng.uniform(0, 1, 5),
        rng.dirichlet(np.ones(len(ELEMENTS)), 5),
        sigma,
        np.array([[0, 1], [0, 2], [1, 3], [3, 4]]),
        np.array([1.5, 1.0, 2.0, 1.0]),
        rng.normal(0, 0.2, 5),
    )


def same(one, other):
    for name in FIELDS:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-6, err_msg=name)


def test_an_xyz_file_holds_everything(uncertain, tmp_path):
    again = read_xyz(write_structure(uncertain, tmp_path / "found.xyz"))
    same(again, uncertain)
    np.testing.assert_allclose(again.charges, uncertain.charges, atol=1e-6)


@pytest.mark.parametrize("numbers", [[], [6]])
def test_structures_without_bonds_and_charges_can_be_written(numbers, tmp_path):
    alone = structure(numbers, np.zeros((len(numbers), 3)))
    again = read_xyz(write_structure(alone, tmp_path / "found.xyz"))
    same(again, alone)
    assert again.charges is None
    text = write_structure(alone, tmp_path / "found.mol").read_text()
    assert text.splitlines()[3].startswith(f"{len(numbers):3d}  0")


def test_ase_reads_the_xyz_file(uncertain, tmp_path):
    atoms = ase.io.read(write_structure(uncertain, tmp_path / "found.xyz"))
    np.testing.assert_array_equal(atoms.numbers, uncertain.numbers)
    np.testing.assert_allclose(atoms.positions, uncertain.positions, atol=1e-6)
    np.testing.assert_allclose(atoms.get_initial_charges(), uncertain.charges, atol=1e-6)
    np.testing.assert_allclose(atoms.arrays["confidence"], uncertain.confidence, atol=1e-6)
    np.testing.assert_allclose(atoms.arrays["sigma"], uncertain.sigma, atol=1e-6)
    np.testing.assert_array_equal(np.reshape(atoms.info["bonds"], (-1, 2)), uncertain.bonds)
    assert not atoms.pbc.any()


def test_xyz_files_of_others_are_read(tmp_path):
    truth = pose("CH3CH2Cl", np.random.default_rng(0))
    ase.io.write(tmp_path / "extended.xyz", to_ase(truth))
    ase.io.write(tmp_path / "plain.xyz", to_ase(truth), format="xyz", comment="energy=-3 it's plain")
    for name in ("extended.xyz", "plain.xyz"):
        again = read_xyz(tmp_path / name)
        np.testing.assert_array_equal(again.numbers, truth.numbers)
        np.testing.assert_allclose(again.positions, truth.positions, atol=1e-6)
        np.testing.assert_array_equal(again.confidence, 1)
    (tmp_path / "charged.xyz").write_text("2\nwater, a part\nO 0 0 0 -0.8\nH 0.96 0 0 0.4\n")
    np.testing.assert_array_equal(read_xyz(tmp_path / "charged.xyz").charges, [-0.8, 0.4])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no XYZ file"),
        ("benzene\n", "no XYZ file"),
        ("2\n\nC 0 0 0\n", "1 lines of atoms instead of 2"),
        ("1\n\nU 0 0 0\n", "'U'.*expected.*H, C, N"),
        ("1\n\nC 0 0 north\n", "north"),
        ('1\nProperties=species:S:1:pos:R:3 bonds="0 1" bond_orders="1"\nC 0 0 0\n', "pairs of different atoms"),
        ("1\nProperties=pos:R:3\n0 0 0\n", "species"),
        ("1\nProperties=species:S:1:pos:R:3:confidence\nC 0 0 0 1\n", "no XYZ file"),
    ],
)
def test_what_is_no_xyz_file_is_refused(text, message, tmp_path):
    path = tmp_path / "odd.xyz"
    path.write_text(text)
    with pytest.raises(StoreError, match=message):
        read_xyz(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"gone.xyz cannot be read"):
        read_xyz(tmp_path / "gone.xyz")


def test_rdkit_and_ase_read_the_molfile(uncertain, tmp_path):
    path = write_structure(uncertain, tmp_path / "found.mol")
    read = Chem.MolFromMolFile(str(path), sanitize=False, removeHs=False)
    assert [atom.GetAtomicNum() for atom in read.GetAtoms()] == uncertain.numbers.tolist()
    np.testing.assert_allclose(read.GetConformer().GetPositions(), uncertain.positions, atol=1e-4)
    assert read.GetConformer().Is3D()
    bonds = [[bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()] for bond in read.GetBonds()]
    np.testing.assert_array_equal(bonds, uncertain.bonds)
    assert [bond.GetBondTypeAsDouble() for bond in read.GetBonds()] == uncertain.bond_orders.tolist()
    atoms = ase.io.read(path)
    np.testing.assert_array_equal(atoms.numbers, uncertain.numbers)
    np.testing.assert_allclose(atoms.positions, uncertain.positions, atol=1e-4)


def test_a_whole_molecule_is_the_same_for_chemists():
    angles = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    bonds = [[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [0, 5], *([i, i + 6] for i in range(6))]
    benzene = structure([6] * 6 + [1] * 6, [*(1.39 * ring), *(2.48 * ring)], bonds, [1.5] * 6 + [1.0] * 6)
    assert Chem.MolToSmiles(Chem.MolFromMolBlock(mol_text(benzene))) == "c1ccccc1"


def test_atoms_of_ase_know_how_sure_they_are(uncertain):
    atoms = to_ase(uncertain)
    np.testing.assert_array_equal(atoms.numbers, uncertain.numbers)
    np.testing.assert_array_equal(atoms.positions, uncertain.positions)
    np.testing.assert_array_equal(atoms.get_initial_charges(), uncertain.charges)
    np.testing.assert_array_equal(atoms.arrays["confidence"], uncertain.confidence)


@pytest.mark.parametrize("suffix", [".xyz", ".mol"])
def test_a_file_is_never_written_over(uncertain, suffix, tmp_path):
    path = tmp_path / f"found{suffix}"
    path.write_text("measured last year")
    with pytest.raises(StoreError, match="exists already: choose another name"):
        write_structure(uncertain, path)
    assert path.read_text() == "measured last year"
    with pytest.raises(StoreError, match="cannot be written"):
        write_structure(uncertain, tmp_path / "no" / f"found{suffix}")


def test_what_a_format_cannot_hold_is_refused(uncertain, tmp_path):
    with pytest.raises(InvalidRequestError, match=r"found.pdb.*expected a suffix of .xyz, .mol"):
        write_structure(uncertain, tmp_path / "found.pdb")
    many = structure([6] * 1000, np.zeros((1000, 3)))
    with pytest.raises(InvalidRequestError, match="1000 atoms and 0 bonds: a molfile holds at most 999"):
        write_structure(many, tmp_path / "found.mol")
    odd = structure([6, 6], np.zeros((2, 3)), [[0, 1]], [1.7])
    with pytest.raises(InvalidRequestError, match=r"orders \[1.7\]"):
        write_structure(odd, tmp_path / "found.mol")
    assert not list(tmp_path.iterdir())
