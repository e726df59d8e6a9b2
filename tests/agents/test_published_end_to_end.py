"""Our images, seen by the published weights: they find the molecules, unless something is wrong with the images.

The weights are the "light" ones; every third molecule of the reference data, without PTCDA, which they never could.
"""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.agents._asd_reference import NOISE, AsdSample, asd_samples, noise_of
from tests.conftest import SHARED
from twinscope.agents.structure_discovery.descriptors import descriptor_maps
from twinscope.agents.structure_discovery.networks.asd2020 import ASD2020, ASD2020Config, normalised
from twinscope.agents.structure_discovery.networks.keras_weights import load_keras_weights
from twinscope.agents.structure_discovery.stack import PUBLISHED_GRID
from twinscope.kernels import Atoms, Cantilever, ScanGrid, Tip, frequency_shift_at, simulate

pytestmark = pytest.mark.slow

_TIP = Tip("O", rest=(0.0, 0.0, 4.0), stiffness=(0.25, 0.25, 0.0, 30.0), charges=((-0.1, 0.0),))
_CANTILEVER = Cantilever(amplitude=1.0)
_AXIS = PUBLISHED_GRID.axis().astype(np.float32)
_WRONG_HEIGHT = 0.75  # Å.
_ATOMS = 32  # All molecules are filled up to this number, with hydrogen far below, so that one shape is compiled.
_FAR_BELOW = -1000.0  # Å.
_DISKS, _SPHERES, _HEIGHT = range(3)


_maps = nnx.jit(ASD2020.__call__)


@dataclass(frozen=True)
class _Images:
    """Frequency shifts, shape (n, nz, ny, nx): at the heights of the reference, and too low and too high."""

    samples: list[AsdSample]
    right: np.ndarray
    low: np.ndarray
    high: np.ndarray
    weights: Path
    network: ASD2020

    def errors(
        self, stacks: np.ndarray, *, noise: float = NOISE, seed: int = 0, network: ASD2020 | None = None
    ) -> np.ndarray:
        """Mean squared error of each map after normalisation and with noise."""
        images = np.asarray(normalised(stacks))
        images = noise_of(self.samples, images, seed) if noise else images
        return _squared_error(np.asarray(_maps(network or self.network, images)), self.samples)


def _squared_error(maps: np.ndarray, samples: list[AsdSample]) -> np.ndarray:
    return ((maps - np.stack([sample.maps for sample in samples])) ** 2).mean(axis=(0, 2, 3))


def _simulated(sample: AsdSample) -> list[np.ndarray]:
    """Frequency shifts in the three positions of the tip."""
    missing = _ATOMS - len(sample.charges)
    atoms = Atoms(
        np.pad(sample.atomic_numbers, (0, missing), constant_values=1),
        np.pad(sample.positions, ((0, missing), (0, 0)), constant_values=_FAR_BELOW),
        np.pad(sample.charges, (0, missing)),
    )
    # As the published code: the k-th image is the mean over ten forces, the first of them k steps below the start.
    centres = sample.tip_start - 0.45 - PUBLISHED_GRID.spacing * np.arange(PUBLISHED_GRID.slices)
    margin = _CANTILEVER.amplitude / 2 + _WRONG_HEIGHT
    levels = np.linspace(centres[0] + margin, centres[-1] - margin, 36)
    force = simulate(atoms, _TIP, ScanGrid(_AXIS, _AXIS, levels.astype(np.float32))).force_z
    offsets = (0.0, -_WRONG_HEIGHT, _WRONG_HEIGHT)
    return [np.asarray(frequency_shift_at(centres + one, force, levels, _CANTILEVER)) for one in offsets]


@pytest.fixture(scope="module")
def images() -> _Images:
    if not SHARED.is_dir():
        pytest.skip(f"the reference data are not here: {SHARED}")
    samples, weights = asd_samples(SHARED, ptcda=False)[::3], SHARED / "asd/model_light.h5"
    stacks = map(np.stack, zip(*map(_simulated, samples), strict=True))
    return _Images(samples, *stacks, weights, load_keras_weights(weights))


def test_maps_of_the_molecules_are_those_of_the_reference(images: _Images) -> None:
    """The reference has its height map from a grid: 5 mÅ of noise."""
    axis = jnp.asarray(_AXIS)
    maps_of = jax.jit(lambda *atoms: descriptor_maps(*atoms, axis, axis))
    for sample in images.samples:
        missing = _ATOMS - len(sample.charges)
        atoms = sample.atomic_numbers, sample.positions, sample.charges
        maps = maps_of(*(np.pad(one, ((0, missing), (0, 0))[: one.ndim]) for one in atoms))
        difference = np.asarray(maps[:3]) - sample.maps
        assert np.abs(difference[[_DISKS, _SPHERES]]).max() < 1e-4
        assert np.sqrt(np.mean(difference[_HEIGHT] ** 2)) < 0.02


def test_images_are_those_of_the_other_simulator(images: _Images) -> None:
    """It interpolates forces on a grid of 0.2 Å, which is worst near the molecule."""
    for sample, stack in zip(images.samples, images.right, strict=True):
        pairs = zip(stack, sample.frequency_shift, strict=True)
        likeness = np.array([np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] for ours, theirs in pairs])
        assert (likeness[:5] > 0.99).all()
        assert (likeness[5:] > 0.97).all()


def test_published_weights_find_the_molecules_on_our_images(images: _Images) -> None:
    errors = np.mean([images.errors(images.right, seed=seed) for seed in range(2)], axis=0)
    theirs = _squared_error(np.stack([sample.predicted_noisy for sample in images.samples]), images.samples)
    assert (errors < 1.15 * theirs).all()
    assert (errors < [9.0e-4, 5.5e-3, 6.0e-3]).all()


def test_published_weights_need_noise(images: _Images) -> None:
    ratio = images.errors(images.right, noise=0.0) / images.errors(images.right)
    assert ratio[_SPHERES] > 1.4
    assert ratio[_HEIGHT] > 2.5


def test_published_weights_fail_when_far_and_near_are_exchanged(images: _Images) -> None:
    assert images.errors(images.right[:, ::-1])[_SPHERES] > 0.03


def test_published_weights_fail_at_other_heights(images: _Images) -> None:
    assert images.errors(images.low)[_SPHERES] > 0.03
    assert images.errors(images.high)[_SPHERES] > 0.02


def test_published_weights_fail_with_zero_padding(images: _Images) -> None:
    network = nnx.eval_shape(lambda: ASD2020(ASD2020Config(padding="zeros"), rngs=nnx.Rngs(0)))
    errors = images.errors(images.right, network=load_keras_weights(images.weights, network))
    assert errors[_SPHERES] > 0.03
