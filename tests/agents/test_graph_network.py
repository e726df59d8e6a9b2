import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import molecule
from flax import nnx

from twinscope.agents.structure_discovery.graph.graph_network import GraphNetwork
from twinscope.agents.structure_discovery.graph.graph_refiner import GraphRefiner
from twinscope.agents.structure_discovery.graph.graph_training import make_poses, put_wrong, train_graph_network
from twinscope.agents.structure_discovery.graph.peaks import Peaks
from twinscope.agents.structure_discovery.molecules import Molecule
from twinscope.agents.structure_discovery.structure import NUMBERS
from twinscope.errors import ConfigurationError, InvalidRequestError, StoreError

BENZENE = molecule("C6H6")
BENZENE_BONDS = [[k, (k + 1) % 6] for k in range(5)] + [[0, 5]] + [[k, k + 6] for k in range(6)]


@pytest.fixture(scope="module")
def refiner():
    """With weights that were never trained, but are not zero anywhere."""
    network = GraphNetwork(nnx.Rngs(1))
    network.shift.kernel[...] = 0.05 * jax.random.normal(jax.random.key(0), network.shift.kernel.shape)
    return GraphRefiner(network)


@pytest.fixture(scope="module")
def benzene():
    return Molecule(
        "c1ccccc1",
        "",
        "",
        BENZENE.numbers,
        BENZENE.positions,
        np.zeros(12),
        np.sort(BENZENE_BONDS, axis=1),
        [1.5] * 6 + [1.0] * 6,
    )


def peaks(positions=BENZENE.positions, numbers=BENZENE.numbers):
    known = numbers[:, None] == np.array(NUMBERS)
    return Peaks(positions, np.full(len(numbers), 0.9), np.where(known, 0.8, 0.2 / 9))


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
    with pytest.raises(ConfigurationError, match=r"version 1 with 1 arrays; expected version 1 with \d\d arrays"):
        GraphRefiner.from_file(tmp_path / "other.npz")
    with pytest.raises(StoreError, match="cannot be written"):
        refiner.save(tmp_path / "no" / "graph.npz")
    with pytest.raises(InvalidRequestError, match="error is 0"):
        refiner.refine(peaks(), error=0)


def test_poses_show_what_is_not_too_deep(benzene):
    poses = make_poses([benzene], 20, seed=0)
    shown = poses.elements >= 0
    assert (poses.positions[shown][:, 2] > -1.5).all()
    np.testing.assert_allclose(np.where(shown, poses.positions[..., 2], -9).max(axis=1), 0, atol=1e-5)
    assert 0 < shown.sum(axis=1).min() < shown.sum(axis=1).max() == 12
    np.testing.assert_array_equal(poses.bonds, poses.bonds.swapaxes(1, 2))
    whole = np.flatnonzero(shown.sum(axis=1) == 12)[0]
    assert np.count_nonzero(poses.bonds[whole] == 2) == np.count_nonzero(poses.bonds[whole] == 1) == 12


def test_atoms_are_put_wrong_as_much_as_was_said(benzene):
    poses = make_poses([benzene], 200, seed=0)
    given, real = put_wrong(poses, jax.random.key(1))
    left = np.asarray(given.positions - poses.positions)
    scale = np.asarray(given.error)[:, None] * (1 - poses.positions[..., 2])
    np.testing.assert_allclose((left / scale[..., None])[np.asarray(real)].std(axis=0), 1, atol=0.1)
    np.testing.assert_allclose(jnp.exp(given.log_probabilities).sum(axis=-1), 1, atol=1e-4)
    shown = poses.elements >= 0
    assert not (np.asarray(real) & ~shown).any()
    assert 0.8 < np.asarray(real).sum() / shown.sum() < 1
    assert 0 < (np.asarray(given.present) & ~np.asarray(real)).sum() < 0.2 * shown.sum()
    right = np.asarray(given.log_probabilities).argmax(axis=-1) == poses.elements
    assert 0.6 < right[np.asarray(real)].mean() < 0.98


def test_training_lowers_the_loss(benzene):
    losses = []
    network = train_graph_network(
        [benzene], steps=200, batch=4, poses=4, progress=lambda number, loss: losses.append((number, loss))
    )
    assert [number for number, _ in losses] == [100, 200]
    assert losses[1][1] < 0.8 * losses[0][1]
    structure = GraphRefiner(network).refine(peaks(), error=0.02)
    np.testing.assert_array_equal(structure.numbers, BENZENE.numbers)
    assert {tuple(bond) for bond in structure.bonds.tolist()} == {tuple(sorted(bond)) for bond in BENZENE_BONDS}


def test_what_cannot_be_trained_with_is_refused(benzene):
    with pytest.raises(InvalidRequestError, match="steps 0"):
        train_graph_network([benzene], steps=0)
    with pytest.raises(InvalidRequestError, match="none of 0 molecules"):
        train_graph_network([])


@pytest.fixture(scope="module")
def shipped():
    return GraphRefiner.shipped()


@pytest.mark.parametrize("name", ["C6H6", "C5H5N", "C4H4O", "CH3CONH2"])
def test_the_shipped_weights_know_molecules(shipped, name):
    atoms = molecule(name)
    rng = np.random.default_rng(1)
    flat = atoms.positions @ np.linalg.svd(atoms.positions - atoms.positions.mean(axis=0))[2].T
    flat[:, 2] -= flat[:, 2].max()
    noisy = peaks(flat + rng.normal(0, 0.05, flat.shape), atoms.numbers)
    structure = shipped.refine(noisy, error=0.05)
    np.testing.assert_array_equal(structure.numbers, atoms.numbers)
    first, second = structure.bonds.T
    lengths = np.linalg.norm(flat[first] - flat[second], axis=1)
    every = np.linalg.norm(flat[:, None] - flat, axis=-1)[np.triu_indices(len(atoms), 1)]
    assert len(structure.bonds) == np.count_nonzero(every < 1.6)
    assert lengths.max() < 1.6
    assert structure.confidence.min() > 0.7
    assert (structure.sigma > 0.01).all()


def test_the_shipped_weights_make_positions_better(shipped):
    rng = np.random.default_rng(2)
    before, after = [], []
    for _ in range(20):
        wrong = rng.normal(0, 0.06, BENZENE.positions.shape)
        structure = shipped.refine(peaks(BENZENE.positions + wrong), error=0.06)
        before.append(wrong)
        after.append(structure.positions - BENZENE.positions)
    assert np.std(after) < 0.9 * np.std(before)
