"""How good a network is on molecules that it was not trained with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from twinscope.agents.structure_discovery.networks.discovery import MAP_SCALES, DiscoveryNetwork, Output
from twinscope.agents.structure_discovery.prediction import DESCRIPTORS
from twinscope.agents.structure_discovery.training.augmenting import Example, as_measured
from twinscope.agents.structure_discovery.training.losses import scaled_maps

NOISE = 0.1
"""Amplitude of the noise of the published networks."""


@dataclass(frozen=True)
class Score:
    """Errors on the validation set.

    Attributes
    ----------
    noisy, clean
        Mean squared error of each map, in its unit squared, with the published noise and without, from the first tip.
    explained
        Share of the variance of each map that is explained, R², with noise.
    explained_by_all
        The same for molecules that were measured with all tips that the network knows, not only with the first.
    """

    noisy: Mapping[str, float]
    clean: Mapping[str, float]
    explained: Mapping[str, float]
    explained_by_all: Mapping[str, float]


def score_of(network: DiscoveryNetwork, examples: Sequence[Example]) -> Score:
    """Score a network."""
    graph, weights = nnx.split(network)
    scales = np.array([MAP_SCALES[name] for name in DESCRIPTORS])
    keys = jax.random.split(jax.random.key(1), len(examples))

    def errors(noise: float, tips: int) -> np.ndarray:
        every = [
            _squared_errors(graph, weights, tips, example, jnp.float32(noise), key)
            for example, key in zip(examples, keys, strict=True)
        ]
        return np.asarray(np.mean(every, axis=0) * scales**2)

    tips = len(network.config.tips)
    noisy, clean = errors(NOISE, 1), errors(0.0, 1)
    by_all = noisy if tips == 1 else errors(NOISE, tips)
    variance = np.concatenate([np.asarray(example.maps) for example in examples]).var((0, 2, 3))
    told = noisy, clean, 1 - noisy / variance, 1 - by_all / variance
    return Score(*(dict(zip(DESCRIPTORS, values.tolist(), strict=True)) for values in told))


@partial(jax.jit, static_argnums=(0, 2))
def _squared_errors(
    graph: nnx.GraphDef[DiscoveryNetwork], weights: Any, tips: int, example: Example, noise: jax.Array, key: jax.Array
) -> jax.Array:
    seen = as_measured(key, example, noise, tips)
    output: Output = nnx.merge(graph, weights)(seen.force_gradient, seen.measured)
    return ((output.maps - scaled_maps(seen.example.maps)) ** 2).mean((0, 1, 2))
