"""Training of the graph network on molecules whose atoms were put wrong on purpose."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from twinscope.agents.structure_discovery.graph.graph_network import (
    BOND_CLASSES,
    GraphInput,
    GraphNetwork,
    GraphOutput,
)
from twinscope.agents.structure_discovery.molecules import Molecule
from twinscope.agents.structure_discovery.structure import ELEMENTS, NUMBERS
from twinscope.agents.structure_discovery.training_data.orientation import flattest_rotations, random_rotation
from twinscope.errors import InvalidRequestError

DEEPEST = 1.5
"""Å: deeper atoms are not seen."""

_SIZE = 40  # atoms; of larger molecules only those with so many that are seen
_FLAT_POSES = 0.8  # share of poses that show many atoms, the others are any
# Ranges of what is wrong: standard deviation of positions, in Å, and how much the network's logits know.
_ERRORS = (0.01, 0.12)
_KNOWLEDGE = (2.0, 8.0)
_CONFUSION = 1.2  # standard deviation of logits
_MISSED, _INVENTED = 0.03, 0.03
_PADDING = -1
# How frequent elements are to a network that sees nothing.
_FREQUENCIES = np.array([0.42, 0.35, 0.07, 0.09, 0.03, 0.005, 0.005, 0.015, 0.01, 0.005])
# In the loss, per atom: what weighs how much.
_WEIGHTS = {"elements": 1.0, "reality": 0.5, "bonds": 2.0, "positions": 0.3}


class Poses(NamedTuple):
    """Molecules as they lie under a tip, padded.

    Attributes
    ----------
    elements
        Indices in ELEMENTS, -1 for padding, shape (m, n).
    positions
        Å, shape (m, n, 3).
    bonds
        Of all pairs: indices in BOND_CLASSES, shape (m, n, n).
    """

    elements: jax.Array
    positions: jax.Array
    bonds: jax.Array


def train_graph_network(
    molecules: Sequence[Molecule],
    *,
    steps: int = 1500,
    batch: int = 32,
    poses: int = 3,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> GraphNetwork:
    """Train a graph network; a few minutes on one core.

    Each example is a molecule in some pose, without its hidden atoms, with positions and element probabilities that are
    wrong to a random degree, a few atoms missing and a few invented.

    Parameters
    ----------
    molecules
        To train on; some thousands.
    steps, batch
        Optimiser steps, and examples in each.
    poses
        How many of each molecule.
    seed
        Of everything that is random.
    progress
        Called after every hundredth step with its number and the mean loss since the last call.

    Raises
    ------
    InvalidRequestError
        When no molecule is small enough, or `steps`, `batch` or `poses` is not positive.
    """
    if min(steps, batch, poses) < 1:
        raise InvalidRequestError(f"steps {steps}, batch {batch}, poses {poses}: expected positive numbers")
    pool = make_poses(molecules, poses, seed)
    network = GraphNetwork(nnx.Rngs(seed))
    schedule = optax.warmup_cosine_decay_schedule(0.0, 3e-3, max(1, steps // 20), steps, 1e-5)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-4))
    graph, weights = nnx.split(network, nnx.Param)
    state = optimiser.init(weights)
    step = jax.jit(partial(_step, graph, optimiser))
    rng = np.random.default_rng(seed)
    losses: list[jax.Array] = []
    for number in range(1, steps + 1):
        chosen = rng.integers(len(pool.elements), size=batch)
        examples = Poses(*(part[chosen] for part in pool))
        weights, state, loss = step(weights, state, examples, jax.random.key(rng.integers(2**31)))
        losses.append(loss)
        if progress is not None and number % 100 == 0:
            progress(number, float(jnp.mean(jnp.stack(losses))))
            losses.clear()
    return nnx.merge(graph, weights)


def make_poses(molecules: Sequence[Molecule], poses: int, seed: int) -> Poses:
    """Turn molecules in several ways and leave out the atoms that are not seen.

    Raises
    ------
    InvalidRequestError
        When no molecule is small enough.
    """
    rng = np.random.default_rng(seed)
    made = [pose for molecule in molecules for _ in range(poses) if (pose := _pose(molecule, rng)) is not None]
    if not made:
        raise InvalidRequestError(
            f"none of {len(molecules)} molecules shows 1 to {_SIZE} atoms: expected some to train on"
        )
    return Poses(*(jnp.asarray(np.stack(part)) for part in zip(*made, strict=True)))


def _pose(molecule: Molecule, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    positions = molecule.positions.astype(float)
    if rng.random() < _FLAT_POSES:
        rotation = flattest_rotations(positions, 100, 10)[rng.integers(10)]
    else:
        rotation = random_rotation(rng)
    positions = positions @ rotation.T
    positions -= [*positions[:, :2].mean(axis=0), positions[:, 2].max()]
    seen = np.flatnonzero(positions[:, 2] > -DEEPEST)
    if len(seen) > _SIZE:
        return None
    elements = np.full(_SIZE, _PADDING, np.int32)
    places = np.zeros((_SIZE, 3), np.float32)
    classes = np.zeros((len(molecule), len(molecule)), np.int32)
    first, second = molecule.bonds.T
    classes[first, second] = classes[second, first] = np.searchsorted(BOND_CLASSES, molecule.bond_orders)
    bonds = np.zeros((_SIZE, _SIZE), np.int32)
    elements[: len(seen)] = np.searchsorted(NUMBERS, molecule.numbers[seen])
    places[: len(seen)] = positions[seen]
    bonds[: len(seen), : len(seen)] = classes[np.ix_(seen, seen)]
    return elements, places, bonds


def _step(
    graph: nnx.GraphDef[GraphNetwork],
    optimiser: optax.GradientTransformation,
    weights: nnx.State[Any, Any],
    state: optax.OptState,
    examples: Poses,
    key: jax.Array,
) -> tuple[nnx.State[Any, Any], optax.OptState, jax.Array]:
    given, real = put_wrong(examples, key)
    loss, gradient = jax.value_and_grad(lambda weights: _loss(nnx.merge(graph, weights)(given), given, real, examples))(
        weights
    )
    updates, state = optimiser.update(gradient, state, weights)
    return optax.apply_updates(weights, updates), state, loss


def put_wrong(poses: Poses, key: jax.Array) -> tuple[GraphInput, jax.Array]:
    """Make what a network might have found: wrong positions and probabilities, missing and invented atoms.

    Returns
    -------
    given
        For the graph network.
    real
        Which of its atoms exist, shape (b, n).
    """
    keys = jax.random.split(key, 8)
    count, size = poses.elements.shape
    there = poses.elements >= 0
    error = jnp.exp(jax.random.uniform(keys[0], (count,), minval=jnp.log(_ERRORS[0]), maxval=jnp.log(_ERRORS[1])))
    # Deeper atoms are seen worse: at 1 Å twice as badly.
    depth = jnp.clip(-poses.positions[..., 2], 0.0, DEEPEST)
    moved = jax.random.normal(keys[1], (count, size, 3)) * error[:, None, None] * (1 + depth)[..., None]
    edge = DEEPEST - 0.3 * jax.random.uniform(keys[2], (count, size))
    seen = there & (depth < edge) & (jax.random.uniform(keys[3], (count, size)) > _MISSED)
    knowledge = jax.random.uniform(keys[4], (count, 1), minval=_KNOWLEDGE[0], maxval=_KNOWLEDGE[1])
    logits = jnp.log(_FREQUENCIES) + _CONFUSION * jax.random.normal(keys[5], (count, size, len(ELEMENTS)))
    known = jax.nn.one_hot(poses.elements, len(ELEMENTS)) * (knowledge * jnp.exp(-depth))[..., None]
    # Invented atoms take free places, beside an atom that is there.
    beside = jnp.roll(poses.positions, 1, axis=1) + 1.3 * jax.random.normal(keys[6], (count, size, 3)) * jnp.array(
        [1, 1, 0.3]
    )
    invented = ~there & jnp.roll(there, 1, axis=1) & (jax.random.uniform(keys[7], (count, 1)) < 10 * _INVENTED)
    given = GraphInput(
        jax.nn.log_softmax(logits + known),
        jnp.where(there[..., None], poses.positions + moved, beside),
        seen | invented,
        error,
    )
    return given, seen


def _loss(output: GraphOutput, given: GraphInput, real: jax.Array, poses: Poses) -> jax.Array:
    atoms = jnp.maximum(real.sum(), 1)
    elements = optax.softmax_cross_entropy_with_integer_labels(output.elements, jnp.maximum(poses.elements, 0))
    reality = optax.sigmoid_binary_cross_entropy(output.reality, real.astype(jnp.float32))
    left = given.positions + output.corrections - poses.positions
    log_sigma = jnp.stack([output.log_sigma[..., 0], output.log_sigma[..., 0], output.log_sigma[..., 1]], axis=-1)
    positions = (0.5 * (left * jnp.exp(-log_sigma)) ** 2 + log_sigma - jnp.log(given.error)[:, None, None]).sum(axis=-1)
    wanted = jnp.take_along_axis(poses.bonds, output.neighbours, axis=2)
    edges = output.near & given.present[:, :, None]
    bonds = optax.softmax_cross_entropy_with_integer_labels(output.bonds, wanted)
    return (
        _WEIGHTS["elements"] * jnp.sum(elements * real)
        + _WEIGHTS["reality"] * jnp.sum(reality * given.present)
        + _WEIGHTS["positions"] * jnp.sum(positions * real)
        + _WEIGHTS["bonds"] * jnp.sum(bonds * edges) / 2
    ) / atoms
