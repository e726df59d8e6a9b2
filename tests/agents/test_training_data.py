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
from twinscope.agents.structure_discovery.training_data.realism import (
    coloured_line_noise,
    line_hum,
    realistic,
    with_distortion,
)
from twinscope.errors import InvalidRequestError, StoreError
from twinscope.kernels import COULOMB, ELEMENTS

_LENGTH = 40
_AXIS = ((np.arange(128) - 64) * 0.1).astype(np.float32)
_maps_of = jax.jit(descriptor_maps)
_distorted, _realistic = jax.jit(with_distortion), jax.jit(realistic)


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


def _filled(values: list[object]) -> np.ndarray:
    array = np.asarray(values)
    return np.pad(array, [(0, _LENGTH - len(array)), *[(0, 0)] * (array.ndim - 1)])


@pytest.mark.parametrize("number", NUMBERS)
def test_every_element_makes_maps(number: int) -> None:
    numbers, charges = _filled([number]), _filled([0.5, 9.0])
    disks, spheres, height, field = np.asarray(
        _maps_of(numbers, np.zeros((_LENGTH, 3), np.float32), charges, _AXIS, _AXIS)
    )
    assert disks[64, 64] == pytest.approx(1)
    assert spheres.max() == pytest.approx(1.5)
    assert 0.5 < height[64, 64] <= 2.0
    # The charge of an atom that is not there does not act: k q / z².
    assert field[64, 64] == pytest.approx(COULOMB * 0.5 / 16, rel=1e-3)


def test_height_map_is_that_of_a_fine_scan() -> None:
    """A polar molecule with a heavy atom deep below: charges and sizes that are far apart."""
    numbers, charges = [8, 1, 1, 35, 6], np.array([-0.8, 0.4, 0.4, -0.3, 0.3])
    positions = np.array([[0, 0, 0], [0.76, 0.59, -0.2], [-0.76, 0.59, -0.4], [2.4, -1.5, -1.0], [-2.5, -2, -1.9]])
    maps = _maps_of(
        _filled(numbers), _filled(positions).astype(np.float32), _filled(charges).astype(np.float32), _AXIS, _AXIS
    )
    probe = ELEMENTS[7]
    elements = [ELEMENTS[number - 1] for number in numbers]
    top = max(z + element.radius for z, element in zip(positions[:, 2], elements, strict=True))
    z = top + np.arange(3, -1.2, -0.005)
    x, y = np.meshgrid(_AXIS[::8].astype(float), _AXIS[::8].astype(float))
    force = np.zeros((len(z), *x.shape))
    for place, charge, element in zip(positions, charges, elements, strict=True):
        dz = z[:, None, None] - place[2]
        r = np.sqrt((x - place[0]) ** 2 + (y - place[1]) ** 2 + dz**2)
        depth, radius = np.sqrt(element.depth * probe.depth), element.radius + probe.radius
        force += dz / r * (12 * depth / r * ((radius / r) ** 12 - (radius / r) ** 6) - 0.1 * COULOMB * charge / r**2)
    repelled = force > 0.1
    surface = np.where(repelled.any(0), z[repelled.argmax(0)], -np.inf)
    found = np.asarray(maps[2])
    # Both are measured from the highest point, which lies between the pixels that are compared.
    lift = np.median((found[::8, ::8] - surface)[found[::8, ::8] > 0.2])
    np.testing.assert_allclose(np.maximum(surface + lift, 0), found[::8, ::8], atol=0.008)


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


def test_planes_are_planes() -> None:
    stacks = jnp.asarray(np.random.default_rng(1).random((1, 2, 16, 16)), jnp.float32)
    added = np.asarray(augmentation.with_plane(jax.random.key(0), stacks, jnp.array([0.3])) - stacks)
    np.testing.assert_allclose(np.diff(added, 2, axis=-1), 0, atol=1e-5)
    assert 0 < np.ptp(added) < 0.3 * 1.5


def test_drift_and_creep_move_a_ramp_but_not_its_mean() -> None:
    lines, pixels = np.mgrid[:32, :32]
    # Two of each sample: one rises along y, the other along x. Far from the edges, values tell where they come from.
    stacks = jnp.asarray(np.broadcast_to(np.stack([lines, pixels])[:, None], (2, 4, 32, 32)), jnp.float32)
    for drift, creep in ((2.0, 0.0), (0.0, 2.0)):
        moved = np.asarray(_distorted(jax.random.key(3), stacks, jnp.full(2, drift), jnp.full(2, creep)) - stacks)
        inside = moved[..., 4:-4, 4:-4]
        assert 0.1 < np.abs(inside).max() <= 2.0
        assert np.abs(inside.mean((1, 2, 3))).max() < 0.15
        # Every slice creeps in the same way, but the sample drifts on from one to the next.
        between_slices = np.ptp(inside, axis=1).max()
        assert between_slices > 0.1 if drift else between_slices < 1e-4
    still = _distorted(jax.random.key(3), stacks, jnp.zeros(2), jnp.zeros(2))
    np.testing.assert_allclose(still, stacks, atol=1e-5)


def test_coloured_noise_and_hum_of_lines() -> None:
    shape = (2, 4, 32, 32)
    both = jax.jit(lambda key, size: (coloured_line_noise(key, shape, 2 * size), line_hum(key, shape, size)))
    noise, hum = map(np.asarray, both(jax.random.key(0), jnp.array([0.0, 1.0])))
    assert not noise[0].any()
    assert noise[1].std() == pytest.approx(2, rel=1e-3)
    # Flicker noise: a line is more like itself than like all others.
    assert noise[1].std(-1).mean() < 0.8 * noise[1].std()
    assert not hum[0].any()
    assert 0.5 < np.abs(hum[1]).max() <= 2.2
    # Sines with no constant part.
    assert abs(hum[1].mean()) < 0.1


def test_realistic_stacks_are_finite_and_clean_without_strength() -> None:
    stacks = jnp.asarray(np.random.default_rng(0).random((2, 4, 32, 32)), jnp.float32)
    spoiled = np.asarray(_realistic(jax.random.key(5), stacks, jnp.array([0.0, 1.0])) - stacks)
    np.testing.assert_allclose(spoiled[0], 0, atol=1e-6)
    assert np.isfinite(spoiled).all()
    assert spoiled[1].std() > 0.001
