"""Simulated samples of training data."""

from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from twinscope.agents.structure_discovery.prediction import CONDITIONS
from twinscope.agents.structure_discovery.stack import StackGrid
from twinscope.agents.structure_discovery.training_data import PUBLISHED, Stream, simulate_samples
from twinscope.agents.structure_discovery.training_data.imaging import draw_scene, simulate_scenes
from twinscope.errors import InvalidRequestError

# Slices of the published heights, and few pixels.
_SMALL = replace(PUBLISHED, grid=StackGrid(pixels=16, pitch=16 / 15, slices=10, spacing=0.1))
_FIRST, _SECOND = 0.99, 0.97
_SENSOR = -30300 / (2 * 1800)  # Hz m/N


@dataclass(frozen=True)
class _Plain:
    numbers: np.ndarray
    positions: np.ndarray
    charges: np.ndarray


def _water(shift: float = 0.0) -> _Plain:
    positions = np.array([[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]) + shift
    return _Plain(np.array([8, 1, 1]), positions, np.array([-0.4, 0.2, 0.2]))


def test_stacks_are_those_of_the_reference(shared: Path) -> None:
    """Every eighth pixel of one molecule, at the published heights (PP hangs straight, no tilt)."""
    with h5py.File(shared / "asd" / "reference.h5") as file:
        group = file["00_benzene_0"]
        molecule = _Plain(group["Z"][:], group["xyz"][:].astype(float), group["q"][:])
        expected = group["df"][::8, ::8].transpose(2, 1, 0)
        corner = molecule.positions - [8, 8, 0]
    grid = StackGrid(pixels=16, pitch=8 * 16 / 127, slices=10, spacing=0.1)
    recipe = replace(PUBLISHED, grid=grid, tilt=0.0, clearance=(-0.35, -0.35), orientations=1, flattest=1)
    scene = draw_scene(molecule, recipe, np.random.default_rng(0))
    # As it lies in the file, instead of centred: the first pixels of both grids stand on each other.
    placed = corner - [0, 0, corner[:, 2].max()]
    placed[:, :2] += 8 + grid.axis()[0]
    atoms = replace(scene.atoms, positions=placed.astype(np.float32))
    # The scan of the drawn scene stands at heights above the top sphere as it was turned.
    lift = _top(placed, molecule.numbers) - _top(np.asarray(scene.atoms.positions), molecule.numbers)
    scan = replace(scene.scans[0], z=scene.scans[0].z + np.float32(lift))
    batch = simulate_scenes([replace(scene, atoms=atoms, scans=(scan,))], recipe)
    shift = _SENSOR * batch.force_gradient[0, 0]
    correlation = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(shift, expected, strict=True)]
    assert min(correlation[:5]) > _FIRST
    assert min(correlation[5:]) > _SECOND
    # The weights of the reference are those of a slightly smaller amplitude.
    assert np.linalg.norm(shift) / np.linalg.norm(expected) == pytest.approx(1.09, abs=0.05)


def _top(positions: np.ndarray, numbers: np.ndarray) -> float:
    radius = np.where(numbers == 1, 1.487, 1.908)
    return float((positions[:, 2] + radius).max())


def test_samples_depend_on_seed_and_index_alone() -> None:
    molecules = [_water(), _water(0.5)]
    some = simulate_samples(molecules, _SMALL, 5, [3, 8])
    again = simulate_samples(molecules, _SMALL, 5, [8])
    np.testing.assert_array_equal(some.force_gradient[1], again.force_gradient[0])
    np.testing.assert_array_equal(some.positions[1], again.positions[0])
    assert not np.array_equal(some.force_gradient[0], some.force_gradient[1])
    streamed = Stream(molecules, _SMALL, 5).batch(4, 2)
    np.testing.assert_array_equal(streamed.force_gradient[0], again.force_gradient[0])


def test_samples_are_as_the_batch_says() -> None:
    batch = simulate_samples([_water()], _SMALL, 1, range(3))
    batch.check()
    assert batch.force_gradient.shape == (3, 1, 10, 16, 16)
    assert batch.positions[:, :3, 2].max(axis=1) == pytest.approx(0)
    assert (batch.numbers[:, 3:] == 0).all()
    named = dict(zip(CONDITIONS, batch.conditions.T, strict=True))
    assert named["lateral_stiffness"] == pytest.approx(0.25)
    assert named["tip_charge"] == pytest.approx(-0.1)
    assert np.hypot(named["tilt_x"], named["tilt_y"]).max() <= 0.5


@pytest.mark.parametrize(
    ("molecule", "what"),
    [
        (_Plain(np.array([2]), np.zeros((1, 3)), np.zeros(1)), "atomic numbers"),
        (_Plain(np.ones(81, int), np.zeros((81, 3)), np.zeros(81)), "81 atoms"),
    ],
)
def test_molecules_that_do_not_fit_are_refused(molecule: _Plain, what: str) -> None:
    with pytest.raises(InvalidRequestError, match=what):
        simulate_samples([molecule], _SMALL, 0, [0])
