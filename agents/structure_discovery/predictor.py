"""From a measured stack to a prediction, with trained weights."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

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
from twinscope.agents.structure_discovery.networks.symmetry import seen_from_all_sides
from twinscope.agents.structure_discovery.networks.weights_file import shipped
from twinscope.agents.structure_discovery.prediction import CONDITIONS, DESCRIPTORS, DescriptorMap, Prediction
from twinscope.agents.structure_discovery.resampling import resampled
from twinscope.agents.structure_discovery.stack import PUBLISHED_GRID, ImageStack
from twinscope.errors import InvalidRequestError

# Å: standard deviation of the positions of peaks along each axis that the graph network is told. After it, 0.11 Å were
# measured on 24 molecules of the test part.
_POSITION_ERROR = 0.08

_SAME_PLACE = 0.02  # Å

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

    @property
    def tips(self) -> tuple[str, ...]:
        """What can be at the ends of the tips that it knows; the first is needed, the others tell more."""
        return self.card.config.tips

    def predict(self, stack: ImageStack, *others: ImageStack) -> Prediction:
        """Tell what molecule a stack shows.

        Parameters
        ----------
        stack
            One molecule, with the pitch and the heights of the network or others that can be brought to them. Lines and
            slices that are NaN count as not measured.
        others
            The same molecule over the same frame, measured with other tips: what differs tells the charges.

        Raises
        ------
        InvalidRequestError
            When a stack cannot be used: see :func:`~.resampling.resampled`; or the network does not know its tip, or
            the frames differ.
        """
        return self.predict_many([(stack, *others)])[0]

    def predict_many(self, stacks: Sequence[ImageStack | Sequence[ImageStack]]) -> list[Prediction]:
        """Tell what molecules are on stacks that have the same size after they were resampled.

        Each is one stack, or those of several tips.
        """
        ready = [self._by_tip([one] if isinstance(one, ImageStack) else one) for one in stacks]
        inputs = [_Input.of([every.get(tip) for tip in self.tips]) for every in ready]
        gradients, measured = (jnp.asarray(np.stack(parts)) for parts in zip(*inputs, strict=True))
        output = jax.device_get(_run(self._graph, self._weights, gradients, measured))
        return [self._prediction(every[self.tips[0]], *parts) for every, *parts in zip(ready, *output, strict=True)]

    def _by_tip(self, stacks: Sequence[ImageStack]) -> dict[str, ImageStack]:
        """Bring the stacks of one molecule to the grid of the network."""
        names = [stack.tip for stack in stacks]
        if self.tips[0] not in names or len(set(names)) < len(names) or not set(names) <= set(self.tips):
            raise InvalidRequestError(
                f"the stacks were taken with the tips {', '.join(names)}: expected one with {self.tips[0]}"
                + "".join(f" and at most one with {tip}" for tip in self.tips[1:])
                + f", which the network {self.card.name!r} was trained with; tip= of a stack says what was at its tip"
            )
        ready = {stack.tip: resampled(stack, PUBLISHED_GRID) for stack in stacks}
        first = ready[self.tips[0]]
        for tip, stack in ready.items():
            if stack.shape != first.shape or not (
                np.allclose(stack.x, first.x, atol=_SAME_PLACE) and np.allclose(stack.y, first.y, atol=_SAME_PLACE)
            ):
                raise InvalidRequestError(
                    f"the stacks with {first.tip} and {tip} at the tip are not over the same frame: expected the same"
                    f" x and y within {_SAME_PLACE} Å; scan the same frame with both"
                )
        return ready

    def _prediction(
        self,
        stack: ImageStack,
        values: np.ndarray,
        log_sigma: np.ndarray,
        occupancy: np.ndarray,
        elements: np.ndarray,
        offsets: np.ndarray,
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
        peaks = find_atoms(layers, DEPTHS, x, y, np.moveaxis(elements, -1, 0), offsets=np.moveaxis(offsets, -1, 0))
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


class _Input(NamedTuple):
    """What a network looks at: (nt, nz, ny, nx) in N/m and which lines were measured, (nt, nz, ny)."""

    force_gradient: np.ndarray
    measured: np.ndarray

    @classmethod
    def of(cls, stacks: Sequence[ImageStack | None]) -> Self:
        """Put the stacks of all tips side by side; nothing was measured with one that is missing."""
        shape = next(stack.shape for stack in stacks if stack is not None)
        missing = np.full(shape, np.nan, np.float32)
        gradient = np.stack([missing if stack is None else stack.force_gradient for stack in stacks])
        return cls(np.nan_to_num(gradient), np.isfinite(gradient).all(-1))


@partial(jax.jit, static_argnums=0)
def _run(graph: nnx.GraphDef[DiscoveryNetwork], weights: Any, force_gradient: jax.Array, measured: jax.Array) -> Output:
    output = seen_from_all_sides(nnx.merge(graph, weights), force_gradient, measured)
    return output._replace(occupancy=nnx.sigmoid(output.occupancy), elements=nnx.softmax(output.elements))
