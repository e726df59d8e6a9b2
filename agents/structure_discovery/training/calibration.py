"""Standard deviations that are true: they are corrected on molecules that were not trained with."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from twinscope.agents.structure_discovery.networks.discovery import DiscoveryNetwork
from twinscope.agents.structure_discovery.networks.symmetry import seen_from_all_sides
from twinscope.agents.structure_discovery.training.augmenting import Example, as_measured
from twinscope.agents.structure_discovery.training.losses import scaled_maps
from twinscope.agents.structure_discovery.training.validation import NOISE

COVERAGE = 0.9
"""Share of the pixels whose error is to be within the interval."""

_WIDTH = 1.6449  # Standard deviations on either side that hold this share of a Gaussian.


def sigma_factors(network: DiscoveryNetwork, examples: Sequence[Example]) -> tuple[tuple[float, ...], ...]:
    """Return by what the standard deviations of each map must be multiplied, for every number of tips.

    With them, an interval of 1.645 standard deviations on either side of the mean over mirror images holds 90 % of the
    true values, over samples without noise and with that of the published networks. Errors of networks are no
    Gaussians: other intervals than this one hold only about their share.

    Parameters
    ----------
    network
        Trained.
    examples
        Of other molecules.

    Returns
    -------
    tuple of tuple of float
        Those for images of the first tip alone, of the first two, and so on; each in the order of DESCRIPTORS.
    """
    graph, weights = nnx.split(network)

    def factors(tips: int) -> tuple[float, ...]:
        ratios = [
            np.asarray(_ratios(graph, weights, tips, example, jnp.float32(noise), jax.random.key(number)))
            for number, example in enumerate(examples)
            for noise in (0.0, NOISE)
        ]
        within = np.quantile(np.concatenate(ratios).reshape(-1, ratios[0].shape[-1]), COVERAGE, axis=0)
        return tuple((within / _WIDTH).tolist())

    return tuple(factors(tips) for tips in range(1, len(network.config.tips) + 1))


@partial(jax.jit, static_argnums=(0, 2))
def _ratios(
    graph: nnx.GraphDef[DiscoveryNetwork], weights: Any, tips: int, example: Example, noise: jax.Array, key: jax.Array
) -> jax.Array:
    """Errors in units of what the network thinks they are, shape (b, ny, nx, 4)."""
    seen = as_measured(key, example, noise, tips)
    output = seen_from_all_sides(nnx.merge(graph, weights), seen.force_gradient, seen.measured)
    return jnp.abs(output.maps - scaled_maps(seen.example.maps)) * jnp.exp(-output.log_sigma)
