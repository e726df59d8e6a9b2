"""What a network says, and the atoms that this shows."""

from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx

from twinscope.agents.structure_discovery.graph.peaks import Peaks, find_atoms
from twinscope.agents.structure_discovery.networks.discovery import DEPTHS, DiscoveryNetwork, Output
from twinscope.agents.structure_discovery.networks.symmetry import seen_from_all_sides

# Lowest height of a peak: what is an atom among those is for the graph network to say.
_DOUBTFUL = 0.2


@partial(jax.jit, static_argnums=0)
def observe(
    graph: nnx.GraphDef[DiscoveryNetwork], weights: Any, force_gradient: jax.Array, measured: jax.Array
) -> Output:
    """Return what a network says, with probabilities in the place of logits.

    Parameters
    ----------
    graph, weights
        The two parts of a network, as ``nnx.split`` returns them.
    force_gradient, measured
        As :func:`~.networks.features.features` takes them.
    """
    output = seen_from_all_sides(nnx.merge(graph, weights), force_gradient, measured)
    return output._replace(occupancy=nnx.sigmoid(output.occupancy), elements=nnx.softmax(output.elements))


def find_peaks(output: Output, x: np.ndarray, y: np.ndarray) -> Peaks:
    """Find whatever may be an atom of one sample.

    Parameters
    ----------
    output
        What :func:`observe` returns, of one sample.
    x, y
        Of the pixels of the images, in Å.
    """
    occupancy, elements, offsets = (
        np.moveaxis(np.asarray(part), -1, 0) for part in (output.occupancy, output.elements, output.offsets)
    )
    columns, lines = block_centres(x), block_centres(y)
    return find_atoms(occupancy, DEPTHS, columns, lines, elements, offsets=offsets, threshold=_DOUBTFUL)


def block_centres(axis: np.ndarray) -> np.ndarray:
    """Return where the pixels of the occupancy are: in the middle of two of the images."""
    return axis.reshape(-1, 2).mean(1)
