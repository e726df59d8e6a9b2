"""A trained discovery network as a file, with its card."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from twinscope.agents.structure_discovery.networks.discovery import DiscoveryConfig, DiscoveryNetwork
from twinscope.agents.structure_discovery.networks.weights_file import (
    read_arrays,
    shapes_of,
    with_weights,
    write_weights,
)
from twinscope.errors import ConfigurationError

_VERSION = 1
_CARD = "card"


@dataclass(frozen=True)
class Card:
    """What is known about trained weights.

    Attributes
    ----------
    name
        Of the weights.
    config
        Size of the network.
    sigma_factors
        By which the standard deviations of the maps are multiplied, so that they are true, in the order of DESCRIPTORS:
        a row for images of the first tip alone, one for those of the first two, and so on.
    training
        Data, recipe, seed, device, duration and scores, as plain data.
    """

    name: str
    config: DiscoveryConfig
    sigma_factors: tuple[tuple[float, ...], ...]
    training: Mapping[str, Any] = field(default_factory=dict)


def save_network(path: Path, network: DiscoveryNetwork, card: Card) -> Path:
    """Write the weights in half precision.

    Raises
    ------
    StoreError
        When the file cannot be written.
    """
    return write_weights(path, network, **{_CARD: np.array(json.dumps({"version": _VERSION} | asdict(card)))})


def load_network(path: Path) -> tuple[DiscoveryNetwork, Card]:
    """Read weights.

    Raises
    ------
    ConfigurationError
        When it is no file of this kind, or of another version.
    """
    arrays = read_arrays(path, "discovery network")
    try:
        told = json.loads(str(arrays.pop(_CARD)))
        version = told.pop("version")
        sizes: dict[str, Any] = {
            name: tuple(size) if isinstance(size, list) else size for name, size in told.pop("config").items()
        }
        factors = tuple(tuple(row) for row in told.pop("sigma_factors"))
        card = Card(config=DiscoveryConfig(**sizes), sigma_factors=factors, **told)
    except (KeyError, TypeError, ValueError) as exc:
        raise ConfigurationError(f"{path} holds no weights of a discovery network: {exc!r}") from exc
    if version != _VERSION:
        raise ConfigurationError(f"{path} is of version {version}: this release reads version {_VERSION}")

    def build() -> DiscoveryNetwork:
        return DiscoveryNetwork(card.config, rngs=nnx.Rngs(0))

    expected, given = shapes_of(build), {name: value.shape for name, value in arrays.items()}
    if expected != given:
        wrong = sorted(name for name in expected | given if expected.get(name) != given.get(name))
        raise ConfigurationError(
            f"{path} does not fit the network that its card describes: {', '.join(wrong[:5])} differ"
        )
    return with_weights(build, arrays), card
