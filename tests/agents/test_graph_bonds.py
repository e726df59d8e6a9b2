import numpy as np
import pytest
from ase.build import molecule
from rdkit import Chem
from rdkit.Chem import rdDetermineBonds

from tests.agents._graph import NAMES
from twinscope.agents.structure_discovery.graph.bond_lengths import LENGTHS, VALENCES
from twinscope.agents.structure_discovery.graph.bonds import connected, find_bonds
from twinscope.agents.structure_discovery.graph.peaks import Peaks
from twinscope.agents.structure_discovery.graph.rings import small_rings
from twinscope.agents.structure_discovery.structure import ELEMENTS, NUMBERS
from twinscope.errors import InvalidRequestError

EXACT = 0.01


def peaks(numbers, positions, sure=0.97):
    known = np.asarray(numbers)[:, None] == np.array(NUMBERS)
    probabilities = np.where(known, sure, (1 - sure) / (len(NUMBERS) - 1))
    return Peaks(np.asarray(positions, dtype=float), np.ones(len(numbers)), probabilities)


def symbols(structure):
    return "".join(structure.symbols)


def chemists_bonds(atoms):
    """Pairs and orders as rdkit finds them, with aromatic rings."""
    block = f"{len(atoms)}\n\n" + "\n".join(
        f"{atom.symbol} {x:.5f} {y:.5f} {z:.5f}" for atom, (x, y, z) in zip(atoms, atoms.positions, strict=True)
    )
    molecule = Chem.MolFromXYZBlock(block)
    rdDetermineBonds.DetermineBonds(molecule, charge=0)
    return {
        tuple(sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))): bond.GetBondTypeAsDouble()
        for bond in molecule.GetBonds()
    }


@pytest.mark.parametrize("name", [*NAMES, "HCOOH", "CH3CN", "CH3NO2", "C4H4NH", "HCN", "CH3SCH3", "H2CCHCl"])
def test_molecules_have_the_bonds_that_chemists_draw(name):
    atoms = molecule(name)
    structure = connected(peaks(atoms.numbers, atoms.positions), error=EXACT)
    np.testing.assert_array_equal(structure.numbers, atoms.numbers)
    expected = chemists_bonds(atoms)
    assert sorted(expected) == [tuple(bond) for bond in structure.bonds.tolist()]
    orders = dict(zip(map(tuple, structure.bonds.tolist()), structure.bond_orders.tolist(), strict=True))
    if name == "CH3NO2":
        # Either oxygen may have the double bond.
        assert sorted(orders.values()) == sorted(expected.values())
    else:
        assert orders == expected


def test_what_is_at_the_distance_of_hydrogen_is_hydrogen():
    methane = molecule("CH4")
    given = peaks(methane.numbers, methane.positions)
    # The picture of one atom says oxygen, hydrogen being second.
    given.probabilities[3] = [0.2, 0.1, 0.1, 0.55, *[0.05 / 6] * 6]
    assert symbols(connected(given)) == "CHHHH"


def test_what_has_three_bonds_is_no_oxygen():
    benzene = molecule("C6H6")
    given = peaks(benzene.numbers, benzene.positions)
    given.probabilities[0] = [0.01, 0.3, 0.08, 0.55, *[0.06 / 6] * 6]
    improved = connected(given)
    assert symbols(improved) == "C" * 6 + "H" * 6
    np.testing.assert_allclose(improved.probabilities.sum(axis=1), 1)
    assert improved.probabilities[0, ELEMENTS.index("C")] > 0.7


def test_pictures_decide_where_distances_do_not_tell():
    lone = Peaks(np.zeros((1, 3)), np.array([0.8]), np.array([[0.1, 0.2, 0.3, 0.4, 0, 0, 0, 0, 0, 0]]))
    structure = connected(lone)
    assert symbols(structure) == "O"
    np.testing.assert_allclose(structure.probabilities, lone.probabilities, atol=1e-6)
    assert len(structure.bonds) == 0


def test_an_atom_has_no_more_bonds_than_its_element_allows():
    hydrogen, carbon = 0, 1
    row = np.array([[-1.1, 0, 0], [0, 0, 0], [1.07, 0, 0]])
    np.testing.assert_array_equal(find_bonds(np.array([carbon, hydrogen, carbon]), row), [[1, 2]])
    crowd = np.array([[0, 0, 0], *(1.45 * np.eye(3)), *(-1.45 * np.eye(3))])
    assert len(find_bonds(np.full(7, carbon), crowd)) == 4


def test_hidden_atoms_leave_an_edge_open():
    benzene = molecule("C6H6")
    seen = benzene.positions[:, 1] > 0.1
    structure = connected(peaks(benzene.numbers[seen], benzene.positions[seen]), error=EXACT)
    # What is left is a chain that has no ring to be aromatic in; it is no worse than what can be known of it.
    carbon = structure.numbers == 6
    assert len(structure.bonds) == carbon.sum() - 1 + (~carbon).sum()
    for atom, element in enumerate(np.searchsorted(NUMBERS, structure.numbers)):
        assert structure.bond_orders[(structure.bonds == atom).any(axis=1)].sum() <= VALENCES[element]


def test_noise_does_not_change_a_molecule():
    rng = np.random.default_rng(4)
    toluene = molecule("C6H6")
    wrong = 0
    for _ in range(20):
        noisy = toluene.positions + rng.normal(0, 0.05, (12, 3))
        wrong += len(connected(peaks(toluene.numbers, noisy, sure=0.7)).bonds) != 12
    assert wrong <= 1


def test_no_atoms_make_an_empty_structure():
    nothing = Peaks(np.zeros((0, 3)), np.zeros(0), np.zeros((0, len(ELEMENTS))))
    structure = connected(nothing)
    assert len(structure) == 0
    assert structure.bonds.shape == (0, 2)


def test_heights_are_confidences_and_what_is_unknown_is_nan():
    given = Peaks(np.array([[0.0, 0, 0], [5, 0, 0]]), np.array([1.1, 0.6]), np.full((2, 10), 0.1))
    structure = connected(given)
    np.testing.assert_array_equal(structure.confidence, [1.0, 0.6])
    assert np.isnan(structure.sigma).all()


@pytest.mark.parametrize("error", [0, -0.1, np.nan])
def test_positions_always_have_an_error(error):
    with pytest.raises(InvalidRequestError, match="error is"):
        connected(peaks([6], [[0, 0, 0]]), error=error)


def test_bond_lengths_are_those_of_textbooks():
    carbon, oxygen = ELEMENTS.index("C"), ELEMENTS.index("O")
    np.testing.assert_allclose(LENGTHS[:, carbon, carbon], [1.54, 1.395, 1.34, 1.20], atol=0.05)
    np.testing.assert_allclose(LENGTHS[[0, 2], carbon, oxygen], [1.41, 1.22], atol=0.04)
    assert np.isnan(LENGTHS[1:, 0]).all()
    np.testing.assert_array_equal(LENGTHS, LENGTHS.swapaxes(1, 2))


def test_rings_are_found_once():
    naphthalene = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0), (4, 6), (6, 7), (7, 8), (8, 9), (9, 5), (3, 10)]
    rings = small_rings(11, naphthalene)
    assert sorted(sorted(ring) for ring in rings) == [[0, 1, 2, 3, 4, 5], [4, 5, 6, 7, 8, 9]]
    bonded = {frozenset(bond) for bond in naphthalene}
    for ring in rings:
        assert {frozenset(pair) for pair in zip(ring, ring[1:] + ring[:1], strict=True)} <= bonded
    assert small_rings(11, naphthalene, largest=5) == []
    assert [set(ring) for ring in small_rings(3, [(0, 1), (1, 2), (0, 2)])] == [{0, 1, 2}]
    assert small_rings(4, [(0, 1), (1, 2), (2, 3)]) == []
