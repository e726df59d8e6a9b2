"""Test sets of structure discovery: molecules that nobody trained with, and their images."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from twinscope.agents.structure_discovery.molecules import Molecule, large_flat, library
from twinscope.agents.structure_discovery.stack import PUBLISHED_GRID, ImageStack
from twinscope.agents.structure_discovery.structure import NUMBERS, Structure
from twinscope.agents.structure_discovery.training_data import PUBLISHED, Batch, Recipe
from twinscope.agents.structure_discovery.training_data.imaging import Scene, draw_scene, settled_samples
from twinscope.kernels import Cantilever, atomic_number

NOISE = 0.1
"""Range of the uniform noise in units of that of an image, with which the published weights were trained."""

ALIGNED = replace(PUBLISHED, follows_tilt=True)
"""The published conditions, but in the coordinates of the probe: the molecule is seen where it is."""

_SENSOR = Cantilever(amplitude=1.0)
_TEST_SHARE = 0.1
_SAMPLES_AT_ONCE = 50
_ALL = slice(None)


@dataclass(frozen=True, eq=False)
class TestSet:
    """Samples, one of each molecule.

    Attributes
    ----------
    batch
        Force gradients and maps.
    structures
        The true atoms.
    tips
        With which they were imaged.
    seed
        Of orientations and noise.
    """

    batch: Batch
    structures: list[Structure]
    tips: tuple[str, ...]
    seed: int

    def __len__(self) -> int:
        return len(self.structures)

    def stacks(self, noise: float, kept: Sequence[int] | slice = _ALL, tip: int = 0) -> Iterator[ImageStack]:
        """Yield what a microscope measures with one of the tips, NaN in the slices that are not kept."""
        grid, axis = PUBLISHED_GRID, PUBLISHED_GRID.axis()
        left_out = np.ones(grid.slices, bool)
        left_out[kept] = False
        hertz = -_SENSOR.frequency / (2 * _SENSOR.stiffness)
        z = grid.spacing * np.arange(grid.slices)[::-1]
        random = np.random.default_rng([self.seed, tip] if tip else self.seed)
        for gradient in np.asarray(self.batch.force_gradient)[:, tip]:
            images = hertz * gradient
            spread = np.ptp(images, axis=(-2, -1), keepdims=True)
            images = images + noise * (random.random(images.shape) - 0.5) * spread
            images[left_out] = np.nan
            yield ImageStack(images, axis, axis, z, _SENSOR, self.tips[tip])

    def stacks_of_all_tips(self, noise: float) -> Iterator[tuple[ImageStack, ...]]:
        """Yield what it measures with all of them, one after the other."""
        return zip(*(self.stacks(noise, tip=tip) for tip in range(len(self.tips))), strict=True)


def imaged(molecules: Sequence[Molecule], recipe: Recipe, seed: int) -> TestSet:
    """Simulate each molecule once; with the same seed it lies the same way in all recipes where the probe settles."""
    batches, structures = [], []
    for start in range(0, len(molecules), _SAMPLES_AT_ONCE):
        part = molecules[start : start + _SAMPLES_AT_ONCE]
        scenes, batch = settled_samples([_draw(one, recipe, seed, start + k) for k, one in enumerate(part)], recipe)
        batches.append(batch)
        structures += [
            Structure.known(
                scene.atoms.numbers, scene.atoms.positions, scene.atoms.charges, molecule.bonds, molecule.bond_orders
            )
            for scene, molecule in zip(scenes, part, strict=True)
        ]
    return TestSet(Batch.joined(batches), structures, recipe.tips, seed)


def _draw(molecule: Molecule, recipe: Recipe, seed: int, number: int) -> Callable[[int], Scene]:
    """Say how a molecule is drawn, the first time and where the probe does not settle."""

    def drawn(attempt: int) -> Scene:
        again = [attempt] if attempt else []
        return draw_scene(molecule, recipe, np.random.default_rng([seed, number, *again]))

    return drawn


def test_molecules(count: int) -> list[Molecule]:
    """Return molecules whose scaffolds were not trained with."""
    total = round(count / _TEST_SHARE)
    while len(found := library(total, split="test")) < count:
        total += round((count - len(found)) / _TEST_SHARE) + 1
    return found[:count]


def large_molecules(count: int) -> list[Molecule]:
    """Return molecules like PTCDA, on which the published weights fail."""
    return large_flat(count)


@dataclass(frozen=True, eq=False)
class ForeignSample:
    """A stack of another simulator, with atoms about the middle of the image."""

    name: str
    stack: ImageStack
    structure: Structure
    field: np.ndarray


def foreign_samples(path: Path) -> Iterator[ForeignSample]:
    """Read the stacks of ED-AFM's figures; those that stand on a metal are left out."""
    with h5py.File(path) as file:
        for name, group in file.items():
            rows = [line.split() for line in group.attrs["xyz"].splitlines()[2:] if line.strip()]
            numbers = np.array([int(row[0]) if row[0].isdigit() else atomic_number(row[0]) for row in rows])
            if not set(numbers.tolist()) <= set(NUMBERS):
                continue
            positions = np.array([row[1:4] for row in rows], float)
            positions[:, :2] -= (positions[:, :2].min(axis=0) + positions[:, :2].max(axis=0)) / 2
            positions[:, 2] -= positions[:, 2].max()
            # Of the eight ways to lay the atoms under the images, this one correlates best (0.89 to 0.97).
            images = np.transpose(group["CO"][()], (2, 1, 0))
            axes = [
                (np.arange(size) - (size - 1) / 2) * (group["CO"].attrs[f"length{axis}"] / size)
                for axis, size in (("X", images.shape[2]), ("Y", images.shape[1]))
            ]
            z = PUBLISHED_GRID.spacing * np.arange(len(images))[::-1]
            stack = ImageStack(images, *axes, z, _SENSOR)
            yield ForeignSample(name, stack, Structure.known(numbers, positions), group["ES_hartree_map"][()].T)
