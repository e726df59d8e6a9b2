"""Training molecules: made at random, parted by scaffold, kept in a file."""

import itertools
import subprocess
import sys

import numpy as np
import pytest

from twinscope.agents.structure_discovery.molecules import (
    FLAT,
    LARGE,
    SPLITS,
    Molecule,
    Recipe,
    cache_path,
    generate,
    large_flat,
    library,
    split_of,
)
from twinscope.agents.structure_discovery.molecules.splits import split_of_scaffold
from twinscope.errors import InvalidRequestError, StoreError

pytest.importorskip("rdkit")

from rdkit import Chem

from twinscope.agents.structure_discovery.molecules.candidates import candidates
from twinscope.agents.structure_discovery.molecules.fragments import CATALOGUES
from twinscope.agents.structure_discovery.molecules.geometry import build, scaffold_of
from twinscope.agents.structure_discovery.molecules.polycycles import polycycle

PTCDA = "O=C1OC(=O)c2ccc3c4ccc5C(=O)OC(=O)c6ccc(c7ccc1c2c37)c4c56"
# Of two bonded atoms, in Å: of H-H in nothing that is made here, to C-Br.
SHORTEST, LONGEST = 0.9, 2.35


@pytest.fixture(scope="module")
def molecules() -> list[Molecule]:
    return list(generate(24))


def water() -> Molecule:
    return Molecule(
        "O", "XLYOFNOQVPJJNP-UHFFFAOYSA-N", "C", [8, 1, 1], np.eye(3), [-0.4, 0.2, 0.2], [[0, 1], [0, 2]], [1, 1]
    )


def test_molecules_are_distinct_and_of_the_promised_size_and_elements(molecules):
    assert len({molecule.inchikey[:14] for molecule in molecules}) == len(molecules)
    for molecule in molecules:
        assert 6 <= len(molecule) <= 60
        assert set(molecule.numbers.tolist()) <= {1, 6, 7, 8, 9}
        assert molecule.extent <= 16
        assert abs(molecule.charges.sum()) < 1e-3
        assert np.abs(molecule.positions.mean(axis=0)).max() < 1e-3


def test_geometry_fits_the_bonds(molecules):
    for molecule in molecules:
        first, second = molecule.bonds.T
        assert (first < second).all()
        lengths = np.linalg.norm(molecule.positions[first] - molecule.positions[second], axis=1)
        assert lengths.min() > SHORTEST
        assert lengths.max() < LONGEST
        assert set(molecule.bond_orders.tolist()) <= {1, 1.5, 2, 3}
        apart = np.linalg.norm(molecule.positions[:, None] - molecule.positions, axis=-1)
        assert apart[~np.eye(len(molecule), dtype=bool)].min() > SHORTEST


def test_smiles_tell_the_stereochemistry_of_the_positions(molecules):
    for molecule in molecules:
        assert Chem.MolToInchiKey(Chem.MolFromSmiles(molecule.smiles)) == molecule.inchikey
    assert any("@" in molecule.smiles for molecule in molecules)


def test_the_same_seed_gives_the_same_molecules_with_any_number_of_processes(molecules):
    assert list(generate(5, processes=2)) == molecules[:5]
    assert next(generate(seed=1)) != molecules[0]


def test_twenty_thousand_are_there_as_far_as_one_can_see():
    """Nearly every attempt gives a new molecule, also far out in the sequence, where common ones have been made."""
    some = list(itertools.islice(candidates(Recipe()), 200))
    assert len({candidate.key for candidate in some}) == 200
    assert some[-1].index < 220
    later = list(itertools.islice(candidates(Recipe(), start=10**9, seen={c.key for c in some}), 50))
    assert later[-1].index - 10**9 < 60


def test_heavy_elements_are_used():
    elements = {number for molecule in generate(30, elements="heavy") for number in molecule.numbers.tolist()}
    assert elements <= {1, 6, 7, 8, 9, 14, 15, 16, 17, 35}
    assert {16, 17, 35} <= elements


def test_the_share_of_flat_molecules_can_be_chosen():
    flat, others = ([molecule.thickness < FLAT for molecule in generate(12, flat_share=share)] for share in (1.0, 0.0))
    assert np.mean(flat) > 0.4 > np.mean(others)


def test_clusters_are_held_by_hydrogen_bonds():
    for molecule in generate(6, flat_share=0, cluster_share=1):
        parts = Chem.GetMolFrags(Chem.AddHs(Chem.MolFromSmiles(molecule.smiles)))
        assert len(parts) > 1
        assert component_count(molecule) == len(parts)
        polar = np.isin(molecule.numbers, (7, 8))
        distances = np.linalg.norm(
            molecule.positions[molecule.numbers == 1][:, None] - molecule.positions[polar], axis=-1
        )
        held = (distances > 1.5) & (distances < 2.3)  # longer than a bond, shorter than contact without one
        assert held.sum() >= len(parts) - 1


def component_count(molecule: Molecule) -> int:
    """Count what bonds connect."""
    part = np.arange(len(molecule))
    for _ in range(len(molecule)):
        for first, second in molecule.bonds:
            part[[first, second]] = part[[first, second]].min()
    return len(set(part.tolist()))


def test_molecules_of_one_part_are_the_same_as_those_of_all(molecules):
    expected = [molecule for molecule in molecules if split_of(molecule) == "train"][:5]
    assert list(generate(5, split="train")) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"elements": "all"}, "'light' or 'heavy'"),
        ({"charges": "dft"}, "'gasteiger' or 'mmff94'"),
        ({"flat_share": 1.5}, "from 0 to 1"),
        ({"flat_share": 0.7, "cluster_share": 0.7}, "more than 1 together"),
        ({"split": "testing"}, "train, validation, test"),
        ({"count": -1}, "count is -1"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(InvalidRequestError, match=message):
        generate(**arguments)


def test_processes_are_at_least_one():
    with pytest.raises(InvalidRequestError, match="processes is 0"):
        next(generate(1, processes=0))


def test_shapes_of_a_molecule_are_checked():
    with pytest.raises(InvalidRequestError, match=r"charges of the molecule 'O' has the shape \(2,\)"):
        Molecule("O", "", "C", [8, 1, 1], np.eye(3), [0, 0], [[0, 1]], [1])


def test_extent_and_thickness():
    assert water().extent == pytest.approx(np.sqrt(2))
    assert water().thickness == pytest.approx(0, abs=1e-6)
    box = np.array(list(itertools.product([0, 3], [0, 2], [0, 1])), float)
    molecule = Molecule("", "", "", np.full(8, 6), box, np.zeros(8), np.zeros((0, 2)), [])
    assert molecule.extent == pytest.approx(np.sqrt(14))
    assert molecule.thickness == pytest.approx(1)
    assert not molecule.is_flat


def test_fragments_are_valid_and_of_their_elements():
    for elements, catalogue in CATALOGUES.items():
        for name in catalogue.__dataclass_fields__:
            for smiles in filter(None, getattr(catalogue, name)):
                mol = Chem.MolFromSmiles(smiles)
                assert mol is not None, smiles
                if name == "linkers":
                    assert smiles.startswith("*")
                    assert smiles.endswith("*")
                    assert smiles.count("*") == 2
                if elements == "light":
                    assert {atom.GetAtomicNum() for atom in mol.GetAtoms()} <= {0, 1, 6, 7, 8, 9}, smiles


def test_fused_rings_reach_the_size_of_ptcda():
    made = [polycycle(np.random.default_rng(seed), 7, ("O",)) for seed in range(40)]
    rings = [mol.GetRingInfo().NumRings() for mol in made if mol is not None]
    assert len(rings) > 12
    assert min(rings) >= 7
    assert max(rings) >= 8  # with an anhydride


# --- parts ---


def test_parts_are_eighty_ten_and_ten_per_cent_of_the_scaffolds():
    parts = [split_of_scaffold(f"scaffold {number}") for number in range(5000)]
    shares = [parts.count(split) / len(parts) for split in SPLITS]
    # Three standard deviations of 5000 draws.
    np.testing.assert_allclose(shares, (0.8, 0.1, 0.1), atol=0.018)


def test_parts_are_the_same_for_ever():
    names = ["c1ccccc1", "c1ccc2ccccc2c1", scaffold_of(Chem.MolFromSmiles(PTCDA)), "c1ccc2cc3cc4cc5ccccc5cc4cc3cc2c1"]
    assert [split_of_scaffold(name) for name in names] == ["train", "train", "test", "test"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Cc1ccc(F)cc1", "OCC(N)c1ccccc1C#N"),  # rings with other substituents
        ("CC(=O)C1CCCC1c1ccoc1", "FC1CCCC1c1ccoc1"),  # with what links them
        ("C[C@H](F)C1CCNC1", "C[C@@H](F)[C@H]1CCNC1"),  # stereoisomers
        ("CCOCC", "CCCCC"),  # no rings: the skeleton
        ("O.O.OC=O", "OC=O.O.O"),
    ],
)
def test_related_molecules_have_one_scaffold(one, other):
    assert scaffold_of(Chem.MolFromSmiles(one)) == scaffold_of(Chem.MolFromSmiles(other))


def test_scaffolds_of_other_rings_and_skeletons_differ():
    smiles = ("c1ccccc1", "c1ccncc1", "C1CCCCC1", "CCCCC", "CCC(C)C", "O", "O.O")
    assert len({scaffold_of(Chem.MolFromSmiles(one)) for one in smiles}) == len(smiles)


def test_no_scaffold_is_in_two_parts(molecules):
    for molecule in molecules:
        assert molecule.scaffold == scaffold_of(Chem.MolFromSmiles(molecule.smiles))
    of_scaffold = {}
    for molecule in molecules:
        assert of_scaffold.setdefault(molecule.scaffold, split_of(molecule)) == split_of(molecule)


# --- library ---


def test_a_library_is_kept_and_goes_on_where_it_was(tmp_path, molecules):
    calls = []
    assert library(3, cache=tmp_path, progress=lambda *progress: calls.append(progress)) == molecules[:3]
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert library(6, cache=tmp_path, progress=lambda *progress: calls.append(progress)) == molecules[:6]
    assert calls[3:] == [(4, 6), (5, 6), (6, 6)]
    assert [path.name for path in tmp_path.iterdir()] == [cache_path(Recipe(), tmp_path).name]
    train = [molecule for molecule in molecules[:6] if split_of(molecule) == "train"]
    assert library(6, split="train", cache=tmp_path) == train


def test_a_library_is_saved_on_its_way(tmp_path, molecules, monkeypatch):
    monkeypatch.setattr("twinscope.agents.structure_discovery.molecules.collection._SAVED_EVERY", 2)

    def stop(made: int, _: int) -> None:
        if made == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        library(24, cache=tmp_path, progress=stop)
    calls = []
    assert library(5, cache=tmp_path, progress=lambda *progress: calls.append(progress)) == molecules[:5]
    assert calls == [(5, 5)]


def test_a_library_needs_no_cache(monkeypatch, molecules):
    monkeypatch.setattr("twinscope.agents.structure_discovery.molecules.storage.save", None)
    assert library(2, cache=None) == molecules[:2]


def test_a_kept_library_needs_no_rdkit(tmp_path, molecules):
    library(2, cache=tmp_path)
    code = f"""
import sys
sys.modules["rdkit"] = None
from pathlib import Path
from twinscope.agents.structure_discovery.molecules import library, split_of
from twinscope.errors import MissingPackageError
print([(molecule.smiles, split_of(molecule)) for molecule in library(2, cache=Path({str(tmp_path)!r}))])
try:
    library(3, cache=Path({str(tmp_path)!r}))
except MissingPackageError as exc:
    print(exc)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, error = result.stdout.splitlines()
    assert loaded == str([(molecule.smiles, split_of(molecule)) for molecule in molecules[:2]])
    assert "making molecules needs the package 'rdkit': pip install 'twinscope[train]'" in error


def test_other_recipes_are_kept_in_other_files(tmp_path):
    recipes = [Recipe(), Recipe(seed=1), Recipe(elements="heavy"), Recipe(flat_share=0.1), Recipe(charges="mmff94")]
    assert len({cache_path(recipe, tmp_path) for recipe in recipes}) == len(recipes)


def test_a_damaged_library_is_named(tmp_path):
    path = cache_path(Recipe(), tmp_path)
    path.write_bytes(b"no molecules")
    with pytest.raises(StoreError, match=path.name):
        library(1, cache=tmp_path)


def test_a_library_that_cannot_be_written_is_named(tmp_path):
    occupied = tmp_path / "file"
    occupied.write_text("no folder")
    with pytest.raises(StoreError, match="cannot be written"):
        library(1, cache=occupied)


def test_an_empty_library_is_no_error():
    assert library(0, cache=None) == []


def test_large_flat_molecules_are_for_tests_only(tmp_path):
    found = large_flat(2, cache=tmp_path)
    assert len(found) == 2
    for molecule in found:
        assert split_of(molecule) == "test"
        assert molecule.extent > LARGE
        assert molecule.thickness < FLAT
    assert large_flat(2, cache=tmp_path, progress=pytest.fail) == found


# --- geometry ---


def test_ptcda_is_flat_and_as_long_as_it_is():
    molecule = build(PTCDA, "PTCDA")
    assert molecule.is_flat
    assert molecule.extent == pytest.approx(12.2, abs=0.1)  # from oxygen to oxygen over the diagonal
    np.testing.assert_array_less(np.ptp(molecule.positions, axis=0)[1:], np.ptp(molecule.positions, axis=0)[:2] + 1e-6)


def test_charge_models():
    gasteiger, mmff94 = (build("NC=O", "formamide", model) for model in ("gasteiger", "mmff94"))
    assert np.array_equal(gasteiger.positions, mmff94.positions)
    assert 1.2 < np.std(mmff94.charges) / np.std(gasteiger.charges) < 4


def test_silicon_gets_a_geometry():
    """MMFF94 lacks most of its types; UFF takes its place."""
    molecule = build("CC[Si](C)(C)Cl", "silane")
    silicon = molecule.numbers == 14
    bonded = np.linalg.norm(molecule.positions[~silicon] - molecule.positions[silicon], axis=1)
    assert np.sort(bonded)[:3] == pytest.approx(1.87, abs=0.06)


def test_too_long_molecules_are_not_made():
    assert build("C#CC#CC#CC#CC#CC#CC#CC#C", "polyyne") is None


def test_molecules_have_an_own_hash(molecules):
    assert len(set(molecules)) == len(molecules)
    assert molecules[0] != "a molecule"
