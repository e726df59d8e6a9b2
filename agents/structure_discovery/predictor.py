"""From a measured stack to a prediction, with trained weights."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from twinscope.agents.structure_discovery.graph import find_atoms
from twinscope.agents.structure_discovery.graph.graph_refiner import GraphRefiner
from twinscope.agents.structure_discovery.networks.discovery import (
    CONDITION_OFFSETS,
    CONDITION_SCALES,
    DEPTHS,
    MAP_SCALES,
    DiscoveryNetwork,
    Output,
)
from twinscope.agents.structure_discovery.networks.saved import Card, load_network
from twinscope.agents.structure_discovery.networks.weights_file import shipped
from twinscope.agents.structure_discovery.prediction import CONDITIONS, DESCRIPTORS, DescriptorMap, Prediction
from twinscope.agents.structure_discovery.resampling import resampled
from twinscope.agents.structure_discovery.stack import PUBLISHED_GRID, ImageStack

# Å: standard deviation of the positions of peaks along each axis that the graph network is told. After it, 0.11 Å were
# measured on 24 molecules of the test part.
_POSITION_ERROR = 0.08

SHIPPED = "discovery.npz"
"""Name of the weights that come with the package, in its folder ``weights``."""


class Predictor:
    """A trained network, ready for stacks of any microscope.

    Parameters
    ----------
    network
        With its weights.
    card
        What is known about them.
    """

    def __init__(self, network: DiscoveryNetwork, card: Card) -> None:
        self.card = card
        self._graph, self._weights = nnx.split(network, nnx.Param)
        self._refiner = GraphRefiner.shipped()

    @classmethod
    def shipped(cls) -> Self:
        """Return the network that comes with the package; its model card is ``weights/discovery.md``."""
        return cls.from_file(shipped(SHIPPED))

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Return a network that ``twinscope train`` has written.

        Raises
        ------
        ConfigurationError
            When it is no such file.
        """
        return cls(*load_network(Path(path)))

    def predict(self, stack: ImageStack) -> Prediction:
        """Tell what molecule a stack shows.

        Parameters
        ----------
        stack
            One molecule, with the pitch and the heights of the network or others that can be brought to them. Lines and
            slices that are NaN count as not measured.

        Raises
        ------
        InvalidRequestError
            When the stack cannot be used: see :func:`~.resampling.resampled`.
        """
        return self.predict_many([stack])[0]

    def predict_many(self, stacks: Sequence[ImageStack]) -> list[Prediction]:
        """Tell what molecules are on stacks that have the same size after they were resampled."""
        ready = [resampled(stack, PUBLISHED_GRID) for stack in stacks]
        measured = np.stack([stack.measured.all(-1) for stack in ready])
        gradients = np.stack([np.nan_to_num(stack.force_gradient) for stack in ready])
        output = jax.device_get(_run(self._graph, self._weights, jnp.asarray(gradients), jnp.asarray(measured)))
        return [self._prediction(stack, *parts) for stack, *parts in zip(ready, *output, strict=True)]

    def _prediction(
        self,
        stack: ImageStack,
        values: np.ndarray,
        log_sigma: np.ndarray,
        occupancy: np.ndarray,
        elements: np.ndarray,
        conditions: np.ndarray,
        conditions_log_sigma: np.ndarray,
    ) -> Prediction:
        maps = {
            name: DescriptorMap(
                name,
                unit,
                values[..., k] * MAP_SCALES[name],
                np.exp(log_sigma[..., k]) * MAP_SCALES[name] * self.card.sigma_factors[k],
            )
            for k, (name, unit) in enumerate(DESCRIPTORS.items())
        }
        told = {
            name: (
                float(conditions[k] * CONDITION_SCALES[name] + CONDITION_OFFSETS[name]),
                float(np.exp(conditions_log_sigma[k]) * CONDITION_SCALES[name]),
            )
            for k, name in enumerate(CONDITIONS)
        }
        x, y = (axis.reshape(-1, 2).mean(1) for axis in (stack.x, stack.y))
        layers = np.moveaxis(occupancy, -1, 0)
        peaks = find_atoms(layers, DEPTHS, x, y, np.moveaxis(elements, -1, 0))
        return Prediction(
            x=stack.x,
            y=stack.y,
            maps=maps,
            occupancy=layers,
            depths=np.array(DEPTHS),
            occupancy_x=x,
            occupancy_y=y,
            structure=self._refiner.refine(peaks, error=_POSITION_ERROR),
            conditions=told,
            network=self.card.name,
            notes=stack.notes,
        )


@partial(jax.jit, static_argnums=0)
def _run(graph: nnx.GraphDef[DiscoveryNetwork], weights: Any, force_gradient: jax.Array, measured: jax.Array) -> Output:
    output: Output = nnx.merge(graph, weights)(force_gradient, measured)
    return output._replace(occupancy=nnx.sigmoid(output.occupancy), elements=nnx.softmax(output.elements))
