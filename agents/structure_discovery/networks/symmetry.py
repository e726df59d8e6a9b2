"""What a network says about a stack and its mirror images, averaged: the sample does not know left from right."""

import jax
import jax.numpy as jnp

from twinscope.agents.structure_discovery.networks.discovery import DiscoveryNetwork, Output
from twinscope.agents.structure_discovery.prediction import CONDITIONS

# Of x and y. A quarter turn would make columns of lines that were not measured.
_SIGNS = ((1, 1), (-1, 1), (1, -1), (-1, -1))
_PICTURES = ("maps", "log_sigma", "occupancy", "elements", "offsets")


def seen_from_all_sides(network: DiscoveryNetwork, force_gradient: jax.Array, measured: jax.Array) -> Output:
    """Return the mean of what a network says about stacks and their three mirror images.

    Errors that depend on the direction average out; standard deviations, which are averaged by their logarithms, do
    not know of that and are too large until they are calibrated.

    Parameters
    ----------
    network
        Asked four times.
    force_gradient, measured
        As :func:`~.features.features` takes them.
    """
    images = [(force_gradient[..., ::y, ::x], measured[..., ::y]) for x, y in _SIGNS]
    gradients, lines = (jnp.concatenate(parts) for parts in zip(*images, strict=True))
    every = network(gradients, lines)
    parts = zip(*(jnp.split(part, len(_SIGNS)) for part in every), strict=True)
    back = [_mirrored(Output(*part), x, y) for part, (x, y) in zip(parts, _SIGNS, strict=True)]
    mean: Output = jax.tree.map(lambda *same: jnp.stack(same).mean(0), *back)
    return mean


def _mirrored(output: Output, x: int, y: int) -> Output:
    pictures = {name: getattr(output, name)[:, ::y, ::x] for name in _PICTURES}
    signs = [{"tilt_x": x, "tilt_y": y}.get(name, 1) for name in CONDITIONS]
    turned = {"offsets": pictures["offsets"] * jnp.array([x, y, 1]), "conditions": output.conditions * jnp.array(signs)}
    return output._replace(**pictures | turned)
