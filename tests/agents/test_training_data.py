"""Descriptor maps, recipes, orientations, shards and augmentation of training data."""

from dataclasses import replace
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twinscope.agents.structure_discovery.descriptors import descriptor_maps
from twinscope.agents.structure_discovery.structure import NUMBERS
from twinscope.agents.structure_discovery.training_data import (
    PUBLISHED,
    TWINSCOPE,
    Batch,
    Recipe,
    Shards,
    augmentation,
    orientation,
    write_shards,
)
from twinscope.errors import InvalidRequestError, StoreError

_LENGTH = 40
_maps_of = jax.jit(descriptor_maps)


def _batch(count: int = 6) -> Batch:
    rng = np.random.default_rng(count)
    return Batch(
        rng.normal(size=(count, 1, 3, 16, 16)).astype(np.float32),
        rng.random((count, 4, 16, 16)).astype(np.float32),
        rng.integers(1, 9, (count, 5)).astype(np.int32),
        rng.normal(size=(count, 5, 3)).astype(np.float32),
        rng.normal(size=(count, 5)).astype(np.float32),
        rng.normal(size=(count, 5)).astype(np.float32),
    )


def test_maps_are_those_of_the_reference(shared: Path) -> None:
    axis = np.linspace(0, 16, 128, dtype=np.float32)
    with h5py.File(shared / "asd" / "reference.h5") as file:
        for name in ("05_caffeine_0", "13_aspirin_0", "24_menthol_0"):
            group = file[name]
            fill = _LENGTH - len(group["Z"])
            numbers, charges = (np.pad(group[key][:], (0, fill)) for key in ("Z", "q"))
            positions = np.pad(group["xyz"][:], ((0, fill), (0, 0)))
            disks, spheres, height, _ = np.asarray(_maps_of(numbers, positions, charges, axis, axis))
            # The file has x along the first axis.
            expected = group["reference"][:].swapaxes(1, 2)
            assert np.abs(disks - expected[0]).max() < 1e-4
            assert np.abs(spheres - expected[1]).max() < 1e-4
            # The reference has the error of its force-field grid.
            assert np.sqrt(np.mean((height - expected[2]) ** 2)) < 0.02


@pytest.mark.parametrize("number", NUMBERS)
def test_every_element_makes_maps(number: int) -> None:
    axis = np.linspace(-3, 3, 25, dtype=np.float32)
    disks, spheres, height, field = np.asarray(
        _maps_of(np.array([number, 0]), np.zeros((2, 3), np.float32), np.array([0.5, 9.0]), axis, axis)
    )
    assert disks[12, 12] == pytest.approx(1)
    assert spheres.max() == pytest.approx(1.5)
    assert 0.5 < height[12, 12] <= 2.0
    # The charge of an atom that is not there does not act: k q / z².
    assert field[12, 12] == pytest.approx(14.4 * 0.5 / 16, rel=1e-3)


def test_rotations_are_rotations_and_ranked_by_what_is_seen() -> None:
    rotations = orientation.even_rotations(100)
    identity = np.broadcast_to(np.eye(3), rotations.shape)
    np.testing.assert_allclose(rotations @ rotations.swapaxes(1, 2), identity, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    flat = np.array([[x, y, 0.0] for x in range(4) for y in range(4)])
    seen = orientation.visible_atoms(flat, orientation.flattest_rotations(flat, 100, 30))
    assert (np.diff(seen) <= 0).all()
    assert seen[0] > 10 > orientation.visible_atoms(flat, rotations).min()


def test_random_rotations_follow_the_seed() -> None:
    first, again = (orientation.random_rotation(np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first @ first.T, np.eye(3), atol=1e-12)


def test_recipes_survive_as_plain_data() -> None:
    for recipe in (PUBLISHED, TWINSCOPE):
        assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    "change",
    [
        {"amplitude": (0.0, 1.0)},
        {"clearance": (1.0, 0.0)},
        {"quadrupole_share": 1.5},
        {"tilt": -0.1},
        {"tips": ("W",)},
        {"flattest": 200},
        {"atoms": 0},
    ],
)
def test_recipes_that_make_no_sense_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError, match=next(iter(change))):
        replace(PUBLISHED, **change)  # type: ignore[arg-type]


def test_shards_give_back_what_was_written(tmp_path: Path) -> None:
    batch = _batch()
    assert write_shards(tmp_path, [batch[:4], batch[4:]], recipe=PUBLISHED, seed=7) == 6
    with Shards(tmp_path) as shards:
        assert (len(shards), shards.seed, shards.recipe) == (6, 7, PUBLISHED)
        order = [5, 0, 3, 3, 4]
        read = shards.batch(order)
        np.testing.assert_array_equal(read.numbers, batch.numbers[order])
        np.testing.assert_allclose(read.force_gradient, batch.force_gradient[order], atol=1e-4)
        np.testing.assert_allclose(read.maps, batch.maps[order], atol=2e-5)
        with pytest.raises(InvalidRequestError, match="0 to 5"):
            shards.batch([6])


def test_folders_without_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no training data"):
        Shards(tmp_path)
    (tmp_path / "shard-00000.h5").write_bytes(b"text")
    with pytest.raises(StoreError, match="cannot be read"):
        Shards(tmp_path)


def test_data_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    batch = _batch()
    np.asarray(batch.maps)[2, 0, 0, 0] = np.nan
    with pytest.raises(InvalidRequestError, match="maps of sample 2"):
        write_shards(tmp_path, [batch], recipe=PUBLISHED, seed=0)


def test_published_augmentation() -> None:
    stacks = jnp.asarray(np.random.default_rng(0).normal(3, 2, (2, 4, 64, 64)), jnp.float32)
    key = jax.random.key(1)
    normal = augmentation.normalised(stacks)
    np.testing.assert_allclose(normal.std((2, 3)), 1, atol=1e-4)
    noise = np.asarray(augmentation.with_uniform_noise(key, normal, jnp.array([0.0, 0.1])) - normal)
    span = np.ptp(np.asarray(normal[1]), axis=(1, 2))
    assert not noise[0].any()
    np.testing.assert_allclose(np.abs(noise[1]).max((1, 2)) / span, 0.05, rtol=0.01)
    published = jax.jit(augmentation.published)
    result = np.asarray(published(key, stacks))
    np.testing.assert_array_equal(result, published(key, stacks))
    # Five tries of a fifth with 0.55 % each.
    assert 0.002 < (result == 0).mean() < 0.012


def test_slices_are_moved_by_whole_pixels() -> None:
    stacks = jnp.arange(2 * 5 * 16 * 16, dtype=jnp.float32).reshape(2, 5, 16, 16)
    moved = np.asarray(augmentation.with_shifted_slices(jax.random.key(0), stacks) - stacks)[..., 4:-4, 4:-4]
    steps = moved[..., 0, 0]
    assert (moved == steps[..., None, None]).all()
    assert set(np.unique(steps)) <= {-(16.0 * dy + dx) for dy in (-2, -1, 1, 2) for dx in (-2, -1, 1, 2)}
    drifted = np.asarray(augmentation.with_drift(jax.random.key(2), stacks, jnp.array([0.0, 4.0])) - stacks)
    assert not drifted[0].any()
    assert not drifted[1, 0].any()
    assert drifted[1, -1].any()


def test_planes_are_planes() -> None:
    stacks = jnp.asarray(np.random.default_rng(1).random((1, 2, 16, 16)), jnp.float32)
    added = np.asarray(augmentation.with_plane(jax.random.key(0), stacks, jnp.array([0.3])) - stacks)
    np.testing.assert_allclose(np.diff(added, 2, axis=-1), 0, atol=1e-5)
    assert 0 < np.ptp(added) < 0.3 * 1.5
