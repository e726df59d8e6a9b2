import jax
import numpy as np
import pytest
from ase.build import molecule
from flax import nnx

from twinscope.agents.structure_discovery.graph.examples import examples_of
from twinscope.agents.structure_discovery.graph.graph_network import GraphNetwork
from twinscope.agents.structure_discovery.graph.graph_refiner import GraphRefiner
from twinscope.agents.structure_discovery.graph.graph_training import train_graph_network
from twinscope.agents.structure_discovery.graph.peaks import Peaks
from twinscope.agents.structure_discovery.structure import NUMBERS, Structure
from twinscope.errors import ConfigurationError, InvalidRequestError, StoreError

BENZENE = molecule("C6H6")
BENZENE_BONDS = [[k, (k + 1) % 6] for k in range(5)] + [[0, 5]] + [[k, k + 6] for k in range(6)]
TRUE = Structure.known(BENZENE.numbers, BENZENE.positions, None, BENZENE_BONDS, [1.5] * 6 + [1.0] * 6)


@pytest.fixture(scope="module")
def refiner():
    """With weights that were never trained, but are not zero anywhere."""
    network = GraphNetwork(nnx.Rngs(1))
    network.shift.kernel[...] = 0.05 * jax.random.normal(jax.random.key(0), network.shift.kernel.shape)
    return GraphRefiner(network)


def peaks(positions=BENZENE.positions, numbers=BENZENE.numbers):
    """Peaks as the network tells them that is trained on molecules of H, C, N, O and F."""
    known, light = numbers[:, None] == np.array(NUMBERS), np.arange(len(NUMBERS)) < 5
    return Peaks(positions, np.full(len(numbers), 0.9), np.where(known, 0.9, np.where(light, 0.025, 1e-6)))


def test_padding_changes_nothing(refiner):
    alone = refiner.refine(peaks())
    far = np.concatenate([BENZENE.positions, 50 + 9.0 * np.arange(8)[:, None] * [1, 0, 0]])
    crowded = refiner.refine(peaks(far, np.concatenate([BENZENE.numbers, np.full(8, 6)])))
    np.testing.assert_allclose(crowded.probabilities[:12], alone.probabilities, atol=1e-5)
    np.testing.assert_allclose(crowded.positions[:12], alone.positions, atol=1e-5)
    np.testing.assert_allclose(crowded.sigma[:12], alone.sigma, rtol=1e-4)


def test_the_order_of_the_atoms_does_not_matter(refiner):
    order = np.random.default_rng(0).permutation(12)
    one, other = refiner.refine(peaks()), refiner.refine(peaks(BENZENE.positions[order], BENZENE.numbers[order]))
    np.testing.assert_allclose(other.probabilities, one.probabilities[order], atol=1e-5)
    np.testing.assert_allclose(other.positions, one.positions[order], atol=1e-5)


def test_turning_and_moving_the_image_turns_and_moves_the_structure(refiner):
    turn = np.array([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, 1]])
    shift = np.array([1.0, -2.0, 0.0])
    one, other = refiner.refine(peaks()), refiner.refine(peaks(BENZENE.positions @ turn.T + shift))
    assert np.abs(one.positions - BENZENE.positions).max() > 1e-4
    np.testing.assert_allclose(other.positions, one.positions @ turn.T + shift, atol=1e-4)
    np.testing.assert_allclose(other.confidence, one.confidence, atol=1e-5)


def test_no_atoms_stay_none(refiner):
    structure = refiner.refine(Peaks(np.zeros((0, 3)), np.zeros(0), np.zeros((0, 10))))
    assert len(structure) == 0
    assert structure.bonds.shape == (0, 2)


def test_weights_come_back_from_a_file(refiner, tmp_path):
    again = GraphRefiner.from_file(refiner.save(tmp_path / "graph.npz")).refine(peaks())
    np.testing.assert_allclose(again.probabilities, refiner.refine(peaks()).probabilities, atol=5e-3)


def test_what_holds_no_weights_is_refused(refiner, tmp_path):
    with pytest.raises(ConfigurationError, match=r"none.npz holds no weights"):
        GraphRefiner.from_file(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", version=np.array(1), weights=np.zeros(3))
    with pytest.raises(ConfigurationError, match=r"version 1 with 1 arrays; expected version 2 with \d\d arrays"):
        GraphRefiner.from_file(tmp_path / "other.npz")
    with pytest.raises(StoreError, match="cannot be written"):
        refiner.save(tmp_path / "no" / "graph.npz")


def as_found(rng, missing=False):
    """Benzene with a peak too many, and maybe one too few."""
    kept = np.arange(1 if missing else 0, 12)
    rng.shuffle(kept)
    places = np.concatenate([BENZENE.positions[kept] + rng.normal(0, 0.05, (len(kept), 3)), [[4.0, 4.0, -0.5]]])
    found = peaks(places, np.append(BENZENE.numbers[kept], 9))
    heights = np.append(rng.uniform(0.7, 1.0, len(kept)), 0.25)
    return Peaks(found.positions, heights, found.probabilities), kept


def test_examples_tell_which_peaks_are_atoms():
    found, kept = as_found(np.random.default_rng(0), missing=True)
    examples = examples_of([found, peaks()], [TRUE, TRUE])
    assert examples.real.shape == (2, 12)
    np.testing.assert_array_equal(examples.real, [[True] * 11 + [False], [True] * 12])
    np.testing.assert_array_equal(np.array(NUMBERS)[examples.elements[0, :11]], BENZENE.numbers[kept])
    np.testing.assert_allclose(examples.positions[0, :11], BENZENE.positions[kept], atol=1e-6)
    np.testing.assert_allclose(examples.given.positions[0], found.positions, atol=1e-6)
    np.testing.assert_allclose(examples.given.heights[0], found.heights, atol=1e-6)
    # Atom 0 has lost its bonds to two neighbours and a hydrogen; rings are aromatic, the bonds to hydrogen are single.
    joined = examples.bonds[0][np.ix_(kept.argsort(), kept.argsort())]
    np.testing.assert_array_equal(joined, joined.T)
    assert (joined == 2).sum() == 2 * 4
    assert (joined == 1).sum() == 2 * 5
    assert (examples.bonds[0, 11] == 0).all()


def test_examples_need_peaks_and_molecules():
    with pytest.raises(InvalidRequestError, match="up to 12 peaks of 1 molecules, and 0 true molecules"):
        examples_of([peaks()], [])
    with pytest.raises(InvalidRequestError, match="up to 0 peaks of 0 molecules"):
        examples_of([], [])


def test_training_learns_what_is_an_atom_and_which():
    rng = np.random.default_rng(1)
    found = [as_found(rng)[0] for _ in range(64)]
    losses = []
    network = train_graph_network(
        examples_of(found, [TRUE] * 64), steps=200, batch=8, progress=lambda *told: losses.append(told)
    )
    assert [number for number, _ in losses] == [100, 200]
    assert losses[1][1] < losses[0][1]
    unseen, kept = as_found(rng)
    structure = GraphRefiner(network).refine(unseen)
    np.testing.assert_array_equal(structure.numbers, BENZENE.numbers[kept])
    there = {tuple(sorted(kept[list(bond)])) for bond in structure.bonds.tolist()}
    assert there == {tuple(sorted(bond)) for bond in BENZENE_BONDS}


def test_what_cannot_be_trained_with_is_refused():
    with pytest.raises(InvalidRequestError, match="steps 0"):
        train_graph_network(examples_of([peaks()], [TRUE]), steps=0)


@pytest.fixture(scope="module")
def shipped():
    return GraphRefiner.shipped()


@pytest.mark.parametrize("name", ["C6H6", "C5H5N", "C4H4O"])
def test_the_shipped_weights_know_molecules(shipped, name):
    atoms = molecule(name)
    rng = np.random.default_rng(1)
    flat = atoms.positions @ np.linalg.svd(atoms.positions - atoms.positions.mean(axis=0))[2].T
    flat[:, 2] -= flat[:, 2].max()
    noisy = peaks(flat + rng.normal(0, 0.05, flat.shape), atoms.numbers)
    structure = shipped.refine(noisy)
    np.testing.assert_array_equal(structure.numbers, atoms.numbers)
    first, second = structure.bonds.T
    lengths = np.linalg.norm(flat[first] - flat[second], axis=1)
    every = np.linalg.norm(flat[:, None] - flat, axis=-1)[np.triu_indices(len(atoms), 1)]
    assert len(structure.bonds) == np.count_nonzero(every < 1.6)
    assert lengths.max() < 1.6
    assert structure.confidence.min() > 0.7
    assert 0.002 < structure.sigma.min() < structure.sigma.max() < 0.2
