"""Weights in one small file: what a trained network is shipped and loaded as."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from twinscope.agents.structure_discovery.networks.discovery import DiscoveryConfig, DiscoveryNetwork
from twinscope.errors import ConfigurationError, StoreError

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
        By which the standard deviations of the maps are multiplied, so that they are true; in the order of DESCRIPTORS.
    training
        Data, recipe, seed, device, duration and scores, as plain data.
    """

    name: str
    config: DiscoveryConfig
    sigma_factors: tuple[float, ...]
    training: Mapping[str, Any] = field(default_factory=dict)


def save_network(path: Path, network: DiscoveryNetwork, card: Card) -> Path:
    """Write the weights in half precision.

    Raises
    ------
    StoreError
        When the file cannot be written.
    """
    weights = {name: np.asarray(value, np.float16) for name, value in _named(nnx.state(network, nnx.Param)).items()}
    told = json.dumps({"version": _VERSION} | asdict(card))
    try:
        with path.open("wb") as file:
            np.savez_compressed(file, **{_CARD: np.array(told)}, **weights)  # type: ignore[arg-type]
    except OSError as exc:
        raise StoreError(f"the weights cannot be written to {path}: {exc}") from exc
    return path


def load_network(path: Path) -> tuple[DiscoveryNetwork, Card]:
    """Read weights.

    Raises
    ------
    ConfigurationError
        When it is no file of this kind, or of another version.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        told = json.loads(str(stored.pop(_CARD)))
        version = told.pop("version")
        config = DiscoveryConfig(**{name: _tuple(value) for name, value in told.pop("config").items()})
        card = Card(config=config, sigma_factors=tuple(told.pop("sigma_factors")), **told)
    except (OSError, KeyError, TypeError, ValueError) as exc:
        raise ConfigurationError(f"{path} holds no weights of a discovery network: {exc!r}") from exc
    if version != _VERSION:
        raise ConfigurationError(f"{path} is of version {version}: this release reads version {_VERSION}")
    network = DiscoveryNetwork(config, rngs=nnx.Rngs(0))
    state = nnx.state(network, nnx.Param)
    expected = {name: value.shape for name, value in _named(state).items()}
    given = {name: value.shape for name, value in stored.items()}
    if expected != given:
        wrong = sorted(name for name in expected | given if expected.get(name) != given.get(name))
        raise ConfigurationError(
            f"{path} does not fit the network that its card describes: {', '.join(wrong[:5])} differ"
        )
    names = list(_named(state))
    leaves = [jnp.asarray(stored[name], jnp.float32) for name in names]
    nnx.update(network, jax.tree.unflatten(jax.tree.structure(state), leaves))
    return network, card


def _named(state: Any) -> dict[str, jax.Array]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in jax.tree.leaves_with_path(state)
    }


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
