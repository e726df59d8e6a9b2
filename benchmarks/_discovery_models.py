"""The networks that are compared: the published weights, and ours."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from twinscope.agents.structure_discovery.networks.asd2020 import ASD2020, normalised
from twinscope.agents.structure_discovery.networks.keras_weights import load_keras_weights
from twinscope.agents.structure_discovery.prediction import DESCRIPTORS, Prediction
from twinscope.agents.structure_discovery.predictor import Predictor
from twinscope.agents.structure_discovery.stack import ImageStack

_AT_ONCE = 10

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Maps:
    """Maps of many stacks, shape (n, maps, ny, nx), in the order of DESCRIPTORS; NaN where a network does not tell."""

    values: np.ndarray
    sigma: np.ndarray


class Model(Protocol):
    """A network that makes maps."""

    name: str

    def maps(self, stacks: Iterable[ImageStack]) -> Maps:
        """Predict the maps of many stacks."""
        ...


class Published:
    """The weights of Alldritt et al.; a slice that is missing is zero for them, its mean."""

    def __init__(self, path: Path) -> None:
        self.name = f"published weights ({path.stem})"
        self._network = load_keras_weights(path)
        self._run = nnx.jit(ASD2020.__call__)

    def maps(self, stacks: Iterable[ImageStack]) -> Maps:
        """Predict; there is no electrostatic map and no standard deviation."""
        known = np.concatenate([self._some(part) for part in _parts(stacks)])
        values = np.full((len(known), len(DESCRIPTORS), *known.shape[2:]), np.nan, np.float32)
        values[:, : known.shape[1]] = known
        return Maps(values, np.full_like(values, np.nan))

    def _some(self, stacks: Sequence[ImageStack]) -> np.ndarray:
        images = jnp.nan_to_num(normalised(jnp.stack([stack.frequency_shift for stack in stacks])))
        return np.asarray(self._run(self._network, images))


class Ours:
    """A :class:`Predictor`."""

    def __init__(self, predictor: Predictor) -> None:
        self.name = predictor.card.name
        self.predictor = predictor

    def predictions(self, stacks: Iterable[ImageStack | tuple[ImageStack, ...]]) -> list[Prediction]:
        """Predict everything; of molecules that were measured with several tips, from all of them."""
        return [one for part in _parts(stacks) for one in self.predictor.predict_many(part)]

    def maps(self, stacks: Iterable[ImageStack | tuple[ImageStack, ...]]) -> Maps:
        """Predict all maps."""
        return maps_of(self.predictions(stacks))


def maps_of(predictions: Sequence[Prediction]) -> Maps:
    """Stack the maps of predictions."""
    every = [[one.maps[name] for name in DESCRIPTORS] for one in predictions]
    return Maps(
        np.array([[single.values for single in maps] for maps in every], np.float32),
        np.array([[single.sigma for single in maps] for maps in every], np.float32),
    )


def _parts(stacks: Iterable[Item]) -> Iterator[list[Item]]:
    waiting = iter(stacks)
    while part := list(islice(waiting, _AT_ONCE)):
        yield part
