"""From molecules to samples of training data: oriented, simulated and pictured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.agents.structure_discovery.descriptors import descriptor_maps_of
from twinscope.agents.structure_discovery.prediction import CONDITIONS
from twinscope.agents.structure_discovery.stack import gradient_weights
from twinscope.agents.structure_discovery.structure import NUMBERS
from twinscope.agents.structure_discovery.training_data import orientation
from twinscope.agents.structure_discovery.training_data.batch import Batch
from twinscope.agents.structure_discovery.training_data.recipe import TIPS, Recipe, lowest_height
from twinscope.errors import InvalidRequestError
from twinscope.kernels import (
    Atoms,
    ScanGrid,
    Tip,
    simulate_batch,
)

# Heights at which the force is computed, for ten slices of a stack: 0.1 Å apart at an amplitude of 1 Å.
_MARGIN = 10
# Samples that are simulated together. A CPU gains nothing from more than one, and compiles for every number of them; a
# GPU wants as many as fit into its memory.
_TOGETHER_ON_GPU = 64
# How often a sample is drawn anew whose simulation did not settle.
_ATTEMPTS = 5


class MoleculeLike(Protocol):
    """What imaging needs to know of a molecule."""

    @property
    def numbers(self) -> np.ndarray:
        """Atomic numbers, shape (n,)."""
        ...

    @property
    def positions(self) -> np.ndarray:
        """Å, shape (n, 3)."""
        ...

    @property
    def charges(self) -> np.ndarray:
        """e, shape (n,)."""
        ...


@dataclass(frozen=True, eq=False)
class Scene:
    """One sample before it is simulated.

    Attributes
    ----------
    atoms
        The molecule under the tip: x and y in image coordinates, the highest atom at z = 0.
    tips, scans
        One for each stack.
    weights
        From forces at the heights of the scan, in eV/Å, to force gradients of the slices, in N/m; shape (nz, nf).
    conditions
        In the order of :data:`.prediction.CONDITIONS`.
    """

    atoms: Atoms
    tips: tuple[Tip, ...]
    scans: tuple[ScanGrid, ...]
    weights: np.ndarray
    conditions: np.ndarray


def draw_scene(molecule: MoleculeLike, recipe: Recipe, rng: np.random.Generator) -> Scene:
    """Draw everything about a sample.

    Raises
    ------
    InvalidRequestError
        When the molecule has too many atoms, none at all, or unknown elements.
    """
    numbers = _checked_numbers(molecule, recipe)
    positions = orientation.centred(np.asarray(molecule.positions, float) @ _rotation(molecule, recipe, rng).T)
    positions[:, :2] += rng.uniform(-recipe.offset, recipe.offset, 2)
    charges = np.asarray(molecule.charges, float) * rng.uniform(*recipe.charge_scale)
    atoms = Atoms(numbers, positions.astype(np.float32), charges.astype(np.float32))

    amplitude, clearance = rng.uniform(*recipe.amplitude), rng.uniform(*recipe.clearance)
    stiffness, tilt = rng.uniform(*recipe.lateral_stiffness), _in_disk(recipe.tilt, rng)
    tips = tuple(_tip(name, recipe, stiffness, tilt, rng) for name in recipe.tips)
    # The next one is another molecule at the end of the tip, which leans another way.
    tips = (tips[0], *(replace(tip, rest=(*_in_disk(recipe.tilt, rng), tip.rest[2])) for tip in tips[1:]))
    mismatch = [0.0, *rng.uniform(-recipe.tip_mismatch, recipe.tip_mismatch, len(tips) - 1)]
    lowest = [
        lowest_height(numbers, positions[:, 2], tip, clearance + more) for tip, more in zip(tips, mismatch, strict=True)
    ]
    conditions = {
        "height": lowest[0],
        "lateral_stiffness": stiffness,
        "tip_charge": tips[0].charges[0][0] if len(tips[0].charges) == 1 else 0.0,
        "tilt_x": tilt[0],
        "tilt_y": tilt[1],
    }
    heights = force_heights(recipe, amplitude)
    return Scene(
        atoms,
        tips,
        tuple(_scan(recipe, tip, height + heights) for tip, height in zip(tips, lowest, strict=True)),
        gradient_weights(slice_heights(recipe), heights, amplitude),
        np.array([conditions[name] for name in CONDITIONS], np.float32),
    )


def slice_heights(recipe: Recipe) -> np.ndarray:
    """Heights (nz,) of the slices above the lowest, in Å, from far to near."""
    return recipe.grid.spacing * np.arange(recipe.grid.slices - 1, -1, -1)


def force_heights(recipe: Recipe, amplitude: float) -> np.ndarray:
    """Heights (nf,) at which forces are needed, in Å above the lowest slice: as many for all amplitudes."""
    slices = slice_heights(recipe)
    return np.linspace(slices[0] + amplitude / 2, -amplitude / 2, len(slices) + _MARGIN)


def _batch(scenes: Sequence[Scene], gradients: np.ndarray, recipe: Recipe) -> Batch:
    numbers, positions, charges = _filled_up(scenes, recipe.atoms)
    return Batch(
        gradients,
        _maps(scenes, recipe),
        numbers,
        positions,
        charges,
        np.stack([scene.conditions for scene in scenes]),
    )


def simulate_samples(molecules: Sequence[MoleculeLike], recipe: Recipe, seed: int, indices: Sequence[int]) -> Batch:
    """Make samples of training data.

    Parameters
    ----------
    molecules
        Each is shown once in every ``len(molecules)`` samples, in random order.
    recipe
        Ranges of all that is drawn.
    seed, indices
        Which samples: the same numbers give the same samples, whatever was made before. One over which the probe does
        not settle somewhere is drawn anew, with the same molecule.

    Returns
    -------
    Batch
        NumPy arrays, in the order of `indices`.

    Raises
    ------
    InvalidRequestError
        When there are no molecules or no indices, a molecule does not fit the recipe, or the probe does not settle
        over it however it is turned.
    """
    if not len(molecules) or not len(indices):
        raise InvalidRequestError(f"{len(molecules)} molecules and {len(indices)} samples: expected some of both")

    def drawn(index: int, attempt: int) -> Scene:
        again = [attempt] if attempt else []
        return draw_scene(
            molecules[shown_in(index, len(molecules), seed)],
            recipe,
            np.random.default_rng([seed, 1, int(index), *again]),
        )

    return settled_samples([partial(drawn, index) for index in indices], recipe)[1]


def shown_in(sample: int, molecules: int, seed: int) -> int:
    """Return which of so many molecules a sample of :func:`simulate_samples` shows."""
    turn, place = divmod(int(sample), molecules)
    return int(_order(seed, turn, molecules)[place])


def settled_samples(draws: Sequence[Callable[[int], Scene]], recipe: Recipe) -> tuple[list[Scene], Batch]:
    """Draw and simulate samples until the probe settles everywhere.

    Parameters
    ----------
    draws
        A function for each sample, of the number of the attempt.
    recipe
        Of their maps.

    Raises
    ------
    InvalidRequestError
        When the probe does not settle over one of them however often it is drawn.
    """
    scenes = [draw(0) for draw in draws]
    gradients, settled = _simulated(scenes)
    for attempt in range(1, _ATTEMPTS):
        places = np.flatnonzero(~settled).tolist()
        if not places:
            break
        for place in places:
            scenes[place] = draws[place](attempt)
        gradients[places], settled[places] = _simulated([scenes[place] for place in places])
    if not settled.all():
        raise InvalidRequestError(
            f"the probe does not settle over {np.sum(~settled)} of {len(scenes)} molecules in {_ATTEMPTS} attempts:"
            " expected molecules whose atoms do not overlap, and a clearance that does not press the probe into them"
        )
    return scenes, _batch(scenes, gradients, recipe)


@lru_cache(maxsize=4)
def _order(seed: int, turn: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, 0, turn]).permutation(count)


def _checked_numbers(molecule: MoleculeLike, recipe: Recipe) -> np.ndarray:
    numbers = np.asarray(molecule.numbers, np.int32)
    if not 1 <= len(numbers) <= recipe.atoms:
        raise InvalidRequestError(
            f"a molecule has {len(numbers)} atoms: expected 1 to {recipe.atoms}; the recipe's atoms sets the limit"
        )
    unknown = sorted(set(numbers.tolist()) - set(NUMBERS))
    if unknown:
        raise InvalidRequestError(f"a molecule has the atomic numbers {unknown}: expected only {NUMBERS}")
    return numbers


def _rotation(molecule: MoleculeLike, recipe: Recipe, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < recipe.free_share:
        return orientation.random_rotation(rng)
    choices = orientation.flattest_rotations(
        np.asarray(molecule.positions, float), recipe.orientations, recipe.flattest
    )
    rotation = choices[rng.integers(len(choices))]
    return orientation.spun(rng.uniform(0, 2 * np.pi)) @ rotation if recipe.spin else rotation


def _in_disk(radius: float, rng: np.random.Generator) -> tuple[float, float]:
    """Draw a point in a disk, all equally likely."""
    distance, angle = radius * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    return float(distance * np.cos(angle)), float(distance * np.sin(angle))


def _tip(name: str, recipe: Recipe, stiffness: float, tilt: tuple[float, float], rng: np.random.Generator) -> Tip:
    tip, charges = TIPS[name], TIPS[name].charges
    if name == "CO":
        if rng.random() < recipe.quadrupole_share:
            tip, charges = Tip(), Tip().charges
        else:
            charges = ((rng.uniform(*recipe.tip_charge), 0.0),)
    return Tip(tip.element, (*tilt, tip.rest[2]), (stiffness, stiffness, *tip.stiffness[2:]), charges)


def _scan(recipe: Recipe, tip: Tip, probe_heights: np.ndarray) -> ScanGrid:
    """Where the anchor is when the resting probe is at these heights."""
    x0, y0, length = tip.rest
    drop = np.sqrt(length**2 - x0**2 - y0**2)
    axis = recipe.grid.axis()
    shift = (x0, y0) if recipe.follows_tilt else (0.0, 0.0)
    x, y = (np.asarray(axis - one, np.float32) for one in shift)
    return ScanGrid(x, y, np.asarray(probe_heights + drop, np.float32))


def _simulated(scenes: Sequence[Scene]) -> tuple[np.ndarray, np.ndarray]:
    """Simulate all tips over all molecules: N/m, shape (b, t, nz, ny, nx), and where all settled, shape (b,)."""
    together = 1 if jax.default_backend() == "cpu" else _TOGETHER_ON_GPU
    parts = [_force_gradients(scenes[start : start + together]) for start in range(0, len(scenes), together)]
    gradients, settled = zip(*parts, strict=True)
    return np.concatenate(gradients), np.concatenate(settled)


def _force_gradients(scenes: Sequence[Scene]) -> tuple[np.ndarray, np.ndarray]:
    """Do :func:`_simulated` for scenes that are simulated together."""
    runs = [(scene, tip, scan) for scene in scenes for tip, scan in zip(scene.tips, scene.scans, strict=True)]
    relaxed = simulate_batch(
        [scene.atoms for scene, _, _ in runs], [tip for _, tip, _ in runs], [scan for *_, scan in runs]
    )
    weights = np.stack([scene.weights for scene, _, _ in runs]).astype(np.float32)
    gradient = np.asarray(_weighted(weights, relaxed.force_z))
    settled = np.all(np.asarray(relaxed.converged).reshape(len(scenes), -1), axis=1)
    return gradient.reshape(len(scenes), -1, *gradient.shape[1:]), settled


@jax.jit
def _weighted(weights: jax.Array, force_z: jax.Array) -> jax.Array:
    return jnp.einsum("bkz,bzyx->bkyx", weights, force_z, precision=jax.lax.Precision.HIGHEST)


def _maps(scenes: Sequence[Scene], recipe: Recipe) -> np.ndarray:
    """Descriptor maps, shape (b, 4, ny, nx)."""
    axis = recipe.grid.axis()
    atoms = [(one.numbers, one.positions, np.asarray(one.charges)) for one in (scene.atoms for scene in scenes)]
    return np.stack([descriptor_maps_of(*one, axis, axis) for one in atoms])


def _filled_up(scenes: Sequence[Scene], length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers, positions and charges of molecules, filled up with zeros to the same length."""

    def filled(values: np.ndarray) -> np.ndarray:
        return np.pad(values, [(0, length - len(values)), *[(0, 0)] * (values.ndim - 1)])

    atoms = [scene.atoms for scene in scenes]
    numbers = np.stack([filled(np.asarray(one.numbers)) for one in atoms]).astype(np.int32)
    positions = np.stack([filled(np.asarray(one.positions)) for one in atoms])
    return numbers, positions, np.stack([filled(np.asarray(one.charges)) for one in atoms])
