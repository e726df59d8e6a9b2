"""Networks for tests, at once: initialisers of flax take seconds to compile, one for each shape."""

from collections.abc import Callable
from typing import TypeVar

import jax
import numpy as np
from flax import nnx

Network = TypeVar("Network", bound=nnx.Module)


def with_random_weights(build: Callable[[], Network], seed: int = 0) -> Network:
    """Build a network whose weights keep the variance of what passes through them."""
    random = np.random.default_rng(seed)

    def weights(shape: jax.ShapeDtypeStruct) -> np.ndarray:
        inputs = int(np.prod(shape.shape[:-1])) or 1
        return random.normal(0, inputs**-0.5, shape.shape).astype(shape.dtype)

    network = nnx.eval_shape(build)
    nnx.update(network, jax.tree.map(weights, nnx.state(network)))
    return network
