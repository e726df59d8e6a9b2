"""Simulated samples of training data."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from twinscope.agents.structure_discovery.prediction import CONDITIONS
from twinscope.agents.structure_discovery.stack import StackGrid
from twinscope.agents.structure_discovery.training_data import (
    PUBLISHED,
    TWO_TIPS,
    Stream,
    imaging,
    simulate_samples,
)
from twinscope.agents.structure_discovery.training_data.imaging import draw_scene, settled_samples
from twinscope.agents.structure_discovery.training_data.recipe import probe_radius
from twinscope.errors import InvalidRequestError
from twinscope.kernels import Atoms, RelaxedScan, ScanGrid, Tip

# Slices of the published heights, and few pixels.
_SMALL = replace(PUBLISHED, grid=StackGrid(pixels=16, pitch=16 / 15, slices=10, spacing=0.1))
_FIRST, _SECOND = 0.99, 0.97
_SENSOR = -30300 / (2 * 1800)  # Hz m/N


@dataclass(frozen=True)
class _Plain:
    numbers: np.ndarray
    positions: np.ndarray
    charges: np.ndarray


def _benzene() -> _Plain:
    """As many atoms as the reference has, so that one simulation is compiled for all tests."""
    angle = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=-1)
    return _Plain(np.repeat([6, 1], 6), np.concatenate([1.39 * ring, 2.48 * ring]), np.repeat([-0.1, 0.1], 6))


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
    _, batch = settled_samples([lambda _: replace(scene, atoms=atoms, scans=(scan,))], recipe)
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
    molecules = [_benzene()]
    some = simulate_samples(molecules, _SMALL, 5, [3, 8])
    again = simulate_samples(molecules, _SMALL, 5, [8])
    np.testing.assert_array_equal(some.force_gradient[1], again.force_gradient[0])
    np.testing.assert_array_equal(some.positions[1], again.positions[0])
    assert not np.array_equal(some.force_gradient[0], some.force_gradient[1])
    streamed = Stream(molecules, _SMALL, 5).batch(4, 2)
    np.testing.assert_array_equal(streamed.force_gradient[0], again.force_gradient[0])


def test_samples_are_as_the_batch_says() -> None:
    batch = simulate_samples([_benzene()], _SMALL, 1, range(2))
    batch.check()
    assert batch.force_gradient.shape == (2, 1, 10, 16, 16)
    assert batch.positions[:, :12, 2].max(axis=1) == pytest.approx(0)
    assert (batch.numbers[:, 12:] == 0).all()
    named = dict(zip(CONDITIONS, batch.conditions.T, strict=True))
    assert named["lateral_stiffness"] == pytest.approx(0.25)
    assert named["tip_charge"] == pytest.approx(-0.1)
    assert np.hypot(named["tilt_x"], named["tilt_y"]).max() <= 0.5


def test_each_tip_keeps_its_own_distance() -> None:
    recipe = replace(TWO_TIPS, clearance=(-0.3, -0.3))
    for number in range(5):
        scene = draw_scene(_benzene(), recipe, np.random.default_rng(number))
        # The resting probe hangs below the anchor, the same half amplitude below the lowest slice for both.
        lowest = [float(scan.z[-1]) - _drop(tip) for tip, scan in zip(scene.tips, scene.scans, strict=True)]
        assert [tip.element for tip in scene.tips] == ["O", "Xe"]
        radii = [probe_radius(tip) for tip in scene.tips]
        assert lowest[1] - lowest[0] == pytest.approx(radii[1] - radii[0], abs=recipe.tip_mismatch + 1e-5)
        assert radii[1] - radii[0] == pytest.approx(2.1815 - 1.6612, abs=1e-3)
        named = dict(zip(CONDITIONS, scene.conditions, strict=True))
        assert named["lateral_stiffness"] == pytest.approx(scene.tips[0].stiffness[0])
        assert (named["tilt_x"], named["tilt_y"]) == pytest.approx(scene.tips[0].rest[:2])
        assert scene.tips[0].rest[:2] != scene.tips[1].rest[:2]


def _drop(tip: Tip) -> float:
    x0, y0, length = tip.rest
    return float(np.sqrt(length**2 - x0**2 - y0**2))


def _nowhere(settled: list[bool]) -> Callable[..., RelaxedScan]:
    """Make a simulation without forces that settles, or does not, as the list says."""
    answers = iter(settled)

    def simulated(atoms: list[Atoms], tips: list[Tip], scans: list[ScanGrid]) -> RelaxedScan:
        force = np.zeros((len(atoms), 20, 16, 16), np.float32)
        converged = np.ones(force.shape, bool)
        converged[0, 3, 2, 1] = next(answers)
        return RelaxedScan(force, force, converged, ~converged, force)  # type: ignore[arg-type]

    return simulated


def test_samples_that_do_not_settle_are_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = partial(simulate_samples, [_benzene()], _SMALL, 5)
    monkeypatch.setattr(imaging, "simulate_batch", _nowhere([True, False, True, False, True]))
    some = samples([3, 8, 9])
    monkeypatch.setattr(imaging, "simulate_batch", _nowhere([True] * 3))
    first = samples([3, 8, 9])
    changed = (some.conditions != first.conditions).any(axis=1)
    np.testing.assert_array_equal(changed, [False, True, False])
    monkeypatch.setattr(imaging, "simulate_batch", _nowhere([False, False, True]))
    again = samples([8])
    np.testing.assert_array_equal(again.conditions[0], some.conditions[1])
    monkeypatch.setattr(imaging, "simulate_batch", _nowhere([False] * 5))
    with pytest.raises(InvalidRequestError, match="1 of 1 molecules in 5 attempts"):
        samples([8])


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
