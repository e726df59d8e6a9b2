"""From a measured stack to a prediction, with trained weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from twinscope.agents.structure_discovery.finding import block_centres, find_peaks, observe
from twinscope.agents.structure_discovery.graph.graph_refiner import GRAPH_WEIGHTS, GraphRefiner
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
from twinscope.errors import InvalidRequestError

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
    refiner
        Makes molecules of the atoms that it finds.
    """

    def __init__(self, network: DiscoveryNetwork, card: Card, refiner: GraphRefiner) -> None:
        self.card = card
        self._graph, self._weights = nnx.split(network, nnx.Param)
        self._refiner = refiner

    @classmethod
    def shipped(cls) -> Self:
        """Return the network that comes with the package; its model card is ``weights/discovery.md``."""
        return cls.from_file(shipped(SHIPPED))

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Return a network that ``twinscope train`` has written, with the graph network beside it.

        Raises
        ------
        ConfigurationError
            When one of the two is no such file.
        """
        path = Path(path)
        return cls(*load_network(path), GraphRefiner.from_file(path.with_name(GRAPH_WEIGHTS)))

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
        output = jax.device_get(observe(self._graph, self._weights, gradients, measured))
        return [
            self._prediction(list(every.values()), Output(*parts)) for every, *parts in zip(ready, *output, strict=True)
        ]

    def _by_tip(self, stacks: Sequence[ImageStack]) -> dict[str, ImageStack]:
        """Bring the stacks of one molecule to the grid of the network."""
        names = [stack.tip for stack in stacks]
        if self.tips[0] not in names or len(set(names)) < len(names) or not set(names) <= set(self.tips):
            raise InvalidRequestError(
                f"the stacks were taken with the tips {', '.join(names)}: expected one with {self.tips[0]}"
                + "".join(f" and at most one with {tip}" for tip in self.tips[1:])
                + f", which the network {self.card.name!r} was trained with; tip= of a stack says what was at its tip"
            )
        given = {stack.tip: stack for stack in stacks}
        ready = {tip: resampled(given[tip], PUBLISHED_GRID) for tip in self.tips if tip in given}
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

    def _prediction(self, stacks: Sequence[ImageStack], output: Output) -> Prediction:
        stack, factors = stacks[0], self.card.sigma_factors[len(stacks) - 1]
        maps = {
            name: DescriptorMap(
                name,
                unit,
                np.asarray(output.maps[..., k]) * MAP_SCALES[name],
                np.exp(output.log_sigma[..., k]) * MAP_SCALES[name] * factors[k],
            )
            for k, (name, unit) in enumerate(DESCRIPTORS.items())
        }
        told = {
            name: (
                float(output.conditions[k] * CONDITION_SCALES[name] + CONDITION_OFFSETS[name]),
                float(np.exp(output.conditions_log_sigma[k]) * CONDITION_SCALES[name]),
            )
            for k, name in enumerate(CONDITIONS)
        }
        return Prediction(
            x=stack.x,
            y=stack.y,
            maps=maps,
            occupancy=np.moveaxis(np.asarray(output.occupancy), -1, 0),
            depths=np.array(DEPTHS),
            occupancy_x=block_centres(stack.x),
            occupancy_y=block_centres(stack.y),
            structure=self._refiner.refine(find_peaks(output, stack.x, stack.y)),
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
