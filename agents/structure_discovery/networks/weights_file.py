"""Weights as arrays in one small file, in half precision: what trained networks are shipped and loaded as."""

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from twinscope.errors import ConfigurationError, StoreError

Network = TypeVar("Network", bound=nnx.Module)


def shipped(name: str) -> Path:
    """Return the file of this name that comes with the package."""
    return Path(str(resources.files("twinscope.agents.structure_discovery.weights") / name))


def write_weights(path: Path, network: nnx.Module, **more: np.ndarray) -> Path:
    """Write the weights of a network, and further arrays.

    Raises
    ------
    StoreError
        When the file cannot be written.
    """
    flat = nnx.to_flat_state(nnx.state(network, nnx.Param))
    arrays = {_name(way): np.asarray(value[...], np.float16) for way, value in flat}
    try:
        with path.open("wb") as file:
            np.savez_compressed(file, **more, **arrays)  # type: ignore[arg-type]
    except OSError as exc:
        raise StoreError(f"the weights cannot be written to {path}: {exc}") from exc
    return path


def read_arrays(path: Path, kind: str) -> dict[str, np.ndarray]:
    """Read all arrays of a file; `kind` is what errors call its network.

    Raises
    ------
    ConfigurationError
        When it is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"{path} holds no weights of a {kind}: {exc}") from exc


def shapes_of(build: Callable[[], nnx.Module]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights of a network that `build` makes."""
    flat = nnx.to_flat_state(nnx.state(nnx.eval_shape(build), nnx.Param))
    return {_name(way): tuple(value.shape) for way, value in flat}


def with_weights(build: Callable[[], Network], arrays: dict[str, np.ndarray]) -> Network:
    """Build a network with weights of the right names and shapes; none are initialised, which would take seconds."""
    graph, weights = nnx.split(nnx.eval_shape(build), nnx.Param)
    flat = nnx.to_flat_state(weights)
    loaded = [(way, value.replace(jnp.asarray(arrays[_name(way)], jnp.float32))) for way, value in flat]
    return nnx.merge(graph, nnx.from_flat_state(loaded))


def _name(way: tuple[object, ...]) -> str:
    return "/".join(map(str, way))
