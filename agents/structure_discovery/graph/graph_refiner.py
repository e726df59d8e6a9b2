"""The trained graph network at work: found atoms in, a structure out."""

from functools import partial
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from flax import nnx

from twinscope.agents.structure_discovery.graph.examples import graph_input
from twinscope.agents.structure_discovery.graph.graph_network import (
    BOND_CLASSES,
    GraphInput,
    GraphNetwork,
    GraphOutput,
)
from twinscope.agents.structure_discovery.graph.peaks import Peaks
from twinscope.agents.structure_discovery.networks.weights_file import (
    read_arrays,
    shapes_of,
    shipped,
    with_weights,
    write_weights,
)
from twinscope.agents.structure_discovery.structure import NUMBERS, Structure
from twinscope.errors import ConfigurationError

GRAPH_WEIGHTS = "graph.npz"
"""Name of the weights that come with the package, in the folder ``weights``."""

_VERSION = 2
_BUCKET = 16  # Atoms are padded to multiples of it, so that few shapes are compiled.
_REAL = 0.5  # The least probability of an atom.
# The largest number of bonds of an atom, in the order of ELEMENTS.
_MOST_NEIGHBOURS = np.array([1, 4, 4, 2, 1, 4, 4, 4, 1, 1])


class GraphRefiner:
    """A trained graph network.

    Parameters
    ----------
    network
        With its weights.
    """

    def __init__(self, network: GraphNetwork) -> None:
        self._graph, self._weights = nnx.split(network, nnx.Param)

    @classmethod
    def shipped(cls) -> Self:
        """Return the network that comes with the package."""
        return cls.from_file(shipped(GRAPH_WEIGHTS))

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Return a network that :meth:`save` has written.

        Raises
        ------
        ConfigurationError
            When it is no such file.
        """
        arrays = read_arrays(Path(path), "graph network")
        version, shapes = arrays.pop("version", None), shapes_of(_build)
        if version != _VERSION or {name: value.shape for name, value in arrays.items()} != shapes:
            raise ConfigurationError(
                f"{path} holds no weights of this graph network: version {version} with {len(arrays)} arrays; expected"
                f" version {_VERSION} with {len(shapes)} arrays of known shapes"
            )
        return cls(with_weights(_build, arrays))

    def save(self, path: str | Path) -> Path:
        """Write the weights in half precision.

        Raises
        ------
        StoreError
            When the file cannot be written.
        """
        return write_weights(Path(path), nnx.merge(self._graph, self._weights), version=np.array(_VERSION))

    def refine(self, peaks: Peaks) -> Structure:
        """Make a structure of peaks.

        Parameters
        ----------
        peaks
            What :func:`.find_atoms` has found, those of doubtful height among them.

        Returns
        -------
        Structure
            Of the peaks that are rather atoms than not, in their order, with better positions and their uncertainty;
            their confidence is the probability that they are.
        """
        count = len(peaks)
        output = jax.device_get(
            _run(self._graph, self._weights, graph_input(peaks, count + -count % _BUCKET or _BUCKET))
        )
        return _structure(peaks, *(np.asarray(part[0, :count], float) for part in output))


def _build() -> GraphNetwork:
    return GraphNetwork(nnx.Rngs(0))


@partial(jax.jit, static_argnums=0)
def _run(graph: nnx.GraphDef[GraphNetwork], weights: nnx.State[Any, Any], given: GraphInput) -> GraphOutput:
    output: GraphOutput = nnx.merge(graph, weights)(given)
    return output._replace(
        elements=nnx.softmax(output.elements), reality=nnx.sigmoid(output.reality), bonds=nnx.softmax(output.bonds)
    )


def _structure(
    peaks: Peaks,
    probabilities: np.ndarray,
    reality: np.ndarray,
    corrections: np.ndarray,
    log_sigma: np.ndarray,
    neighbours: np.ndarray,
    near: np.ndarray,
    bond_classes: np.ndarray,
) -> Structure:
    elements = probabilities.argmax(axis=-1)
    kept = np.flatnonzero(reality >= _REAL)
    place = np.full(len(peaks), -1)
    place[kept] = np.arange(len(kept))
    atoms, numbers = np.nonzero((near > 0) & (bond_classes[..., 0] < 0.5))
    ends = place[np.stack([atoms, neighbours[atoms, numbers].astype(int)], axis=1)]
    both = (ends >= 0).all(axis=1)
    bonds, orders = _likely_bonds(ends[both], bond_classes[atoms, numbers][both], elements[kept])
    return Structure(
        numbers=np.array(NUMBERS)[elements[kept]],
        positions=(peaks.positions + corrections)[kept],
        confidence=reality[kept],
        probabilities=probabilities[kept],
        sigma=np.exp(log_sigma)[kept][:, [0, 0, 1]],
        bonds=bonds,
        bond_orders=orders,
    )


def _likely_bonds(edges: np.ndarray, classes: np.ndarray, elements: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose bonds, the likeliest first while both atoms have one left; return pairs (m, 2) and orders (m,)."""
    left = _MOST_NEIGHBOURS[elements].copy()
    orders: dict[tuple[int, int], float] = {}
    for edge in np.argsort(classes[:, 0], kind="stable"):
        first, second = sorted(edges[edge].tolist())
        if (first, second) not in orders and min(left[first], left[second]) > 0:
            orders[first, second] = BOND_CLASSES[1 + int(classes[edge, 1:].argmax())]
            left[[first, second]] -= 1
    pairs = sorted(orders)
    return np.array(pairs, dtype=int).reshape(-1, 2), np.array([orders[pair] for pair in pairs], dtype=float)
