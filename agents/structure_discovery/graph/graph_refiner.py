"""The trained graph network at work: found atoms in, a structure out."""

from functools import partial
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from twinscope.agents.structure_discovery.graph.bond_lengths import MOST_NEIGHBOURS
from twinscope.agents.structure_discovery.graph.bonds import POSITION_ERROR
from twinscope.agents.structure_discovery.graph.confidence import Confidence
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
from twinscope.errors import ConfigurationError, InvalidRequestError

SHIPPED = "graph.npz"
"""Name of the weights that come with the package, in the folder ``weights``."""

_VERSION = 1
_BUCKET = 16  # Atoms are padded to multiples of it, so that few shapes are compiled.
_TINY = 1e-9


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
        return cls.from_file(shipped(SHIPPED))

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

    def refine(self, peaks: Peaks, *, error: float = POSITION_ERROR, confidence: Confidence | None = None) -> Structure:
        """Make a structure of peaks, as :func:`.connected` does, with better positions and their uncertainty.

        Parameters
        ----------
        peaks
            What :func:`.find_atoms` has found.
        error
            Å: standard deviation of the positions along each axis, for atoms that are not deep.
        confidence
            Makes probabilities of the heights of peaks; unless given, the height itself is it, at most 1.

        Returns
        -------
        Structure
            Atoms in the order of the peaks. Their confidence is multiplied by the probability that an atom can be there
            among the others.

        Raises
        ------
        InvalidRequestError
            When `error` is not a positive number.
        """
        if not error > 0:
            raise InvalidRequestError(f"error is {error}: expected a standard deviation in Å, above 0")
        count = len(peaks)
        padding = -count % _BUCKET if count else _BUCKET
        seen = np.log(np.maximum(peaks.probabilities, _TINY))
        given = GraphInput(
            jnp.asarray(np.pad(seen, ((0, padding), (0, 0)))[None], jnp.float32),
            jnp.asarray(np.pad(peaks.positions, ((0, padding), (0, 0)))[None], jnp.float32),
            jnp.arange(count + padding)[None] < count,
            jnp.full(1, error, jnp.float32),
        )
        output = jax.device_get(_run(self._graph, self._weights, given))
        certain = (confidence or Confidence())(peaks.heights)
        return _structure(peaks, certain, *(np.asarray(part[0, :count], float) for part in output))


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
    confidence: np.ndarray,
    probabilities: np.ndarray,
    reality: np.ndarray,
    corrections: np.ndarray,
    log_sigma: np.ndarray,
    neighbours: np.ndarray,
    near: np.ndarray,
    bond_classes: np.ndarray,
) -> Structure:
    elements = probabilities.argmax(axis=-1)
    atoms, places = np.nonzero((near > 0) & (bond_classes[..., 0] < 0.5))
    others = neighbours[atoms, places].astype(int)
    bonds, orders = _likely_bonds(np.stack([atoms, others], axis=1), bond_classes[atoms, places], elements)
    return Structure(
        numbers=np.array(NUMBERS)[elements],
        positions=peaks.positions + corrections,
        confidence=confidence * reality,
        probabilities=probabilities,
        sigma=np.exp(log_sigma)[:, [0, 0, 1]],
        bonds=bonds,
        bond_orders=orders,
    )


def _likely_bonds(edges: np.ndarray, classes: np.ndarray, elements: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose bonds, the likeliest first while both atoms have one left; return pairs (m, 2) and orders (m,)."""
    left = MOST_NEIGHBOURS[elements].copy()
    orders: dict[tuple[int, int], float] = {}
    for edge in np.argsort(classes[:, 0], kind="stable"):
        first, second = sorted(edges[edge].tolist())
        if (first, second) not in orders and min(left[first], left[second]) > 0:
            orders[first, second] = BOND_CLASSES[1 + int(classes[edge, 1:].argmax())]
            left[[first, second]] -= 1
    pairs = sorted(orders)
    return np.array(pairs, dtype=int).reshape(-1, 2), np.array([orders[pair] for pair in pairs], dtype=float)
