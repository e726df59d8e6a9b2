"""Training of the graph network on what a network has found of molecules that are known."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from twinscope.agents.structure_discovery.graph.examples import Examples
from twinscope.agents.structure_discovery.graph.graph_network import GraphNetwork, GraphOutput
from twinscope.errors import InvalidRequestError

# In the loss, per atom: what weighs how much.
_WEIGHTS = {"elements": 1.0, "reality": 1.0, "bonds": 2.0, "positions": 0.5}
_HIGHEST_RATE, _LAST_RATE, _WARMUP = 3e-3, 1e-5, 0.05
_REPORT_EVERY = 100


def train_graph_network(
    examples: Examples,
    *,
    steps: int = 4000,
    batch: int = 64,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> GraphNetwork:
    """Train a graph network; a few minutes on one core.

    Parameters
    ----------
    examples
        Some thousands.
    steps, batch
        Optimiser steps, and examples in each.
    seed
        Of everything that is random.
    progress
        Called after every hundredth step with its number and the mean loss since the last call.

    Raises
    ------
    InvalidRequestError
        When `steps` or `batch` is not positive.
    """
    if min(steps, batch) < 1:
        raise InvalidRequestError(f"steps {steps}, batch {batch}: expected positive numbers")
    network = GraphNetwork(nnx.Rngs(seed))
    rate = optax.warmup_cosine_decay_schedule(0.0, _HIGHEST_RATE, max(1, int(_WARMUP * steps)), steps, _LAST_RATE)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=1e-4))
    graph, weights = nnx.split(network, nnx.Param)
    state = optimiser.init(weights)
    step = jax.jit(partial(_step, graph, optimiser))
    rng = np.random.default_rng(seed)
    losses: list[jax.Array] = []
    for number in range(1, steps + 1):
        chosen = rng.integers(len(examples.real), size=batch)
        weights, state, loss = step(weights, state, examples.taken(chosen))
        losses.append(loss)
        if progress is not None and number % _REPORT_EVERY == 0:
            progress(number, float(jnp.mean(jnp.stack(losses))))
            losses.clear()
    return nnx.merge(graph, weights)


def _step(
    graph: nnx.GraphDef[GraphNetwork],
    optimiser: optax.GradientTransformation,
    weights: nnx.State[Any, Any],
    state: optax.OptState,
    examples: Examples,
) -> tuple[nnx.State[Any, Any], optax.OptState, jax.Array]:
    loss, gradient = jax.value_and_grad(lambda weights: _loss(nnx.merge(graph, weights)(examples.given), examples))(
        weights
    )
    updates, state = optimiser.update(gradient, state, weights)
    return optax.apply_updates(weights, updates), state, loss


def _loss(output: GraphOutput, examples: Examples) -> jax.Array:
    given, real = examples.given, examples.real
    elements = optax.softmax_cross_entropy_with_integer_labels(output.elements, examples.elements)
    reality = optax.sigmoid_binary_cross_entropy(output.reality, jnp.asarray(real, output.reality.dtype))
    left = given.positions + output.corrections - examples.positions
    log_sigma = jnp.stack([output.log_sigma[..., 0], output.log_sigma[..., 0], output.log_sigma[..., 1]], axis=-1)
    positions = (0.5 * (left * jnp.exp(-log_sigma)) ** 2 + log_sigma).sum(axis=-1)
    wanted = jnp.take_along_axis(jnp.asarray(examples.bonds), output.neighbours, axis=2)
    edges = output.near & jnp.asarray(given.present)[:, :, None]
    bonds = optax.softmax_cross_entropy_with_integer_labels(output.bonds, wanted)
    return (
        _WEIGHTS["elements"] * jnp.sum(elements * real)
        + _WEIGHTS["reality"] * jnp.sum(reality * given.present)
        + _WEIGHTS["positions"] * jnp.sum(positions * real)
        + _WEIGHTS["bonds"] * jnp.sum(bonds * edges) / 2
    ) / jnp.maximum(jnp.sum(real), 1)
