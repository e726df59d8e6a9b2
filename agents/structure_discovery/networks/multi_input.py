"""The network of Oinonen et al., ACS Nano 16, 89 (2022): electrostatics from images with several tips."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from twinscope.agents.structure_discovery.networks.layers import Conv, Padding, average_pool, leaky_relu, upsample
from twinscope.errors import ConfigurationError, InvalidRequestError

_POOLED = 8  # How many pixels, along x or y, become one of the features.
_FEWEST_SLICES = 6
_TIP_FEATURES = 32
_SPATIAL_FEATURES = (48, 96, 192)
_Z_STRIDES = (2, 1, 2)  # Of the poolings behind them.
_PLANAR_FEATURES = 512
_RISING_FEATURES = (256, 128, 64)
_GATE_FEATURES = 32
_TYPICAL_FIELD = 0.01  # V/Å: the unit in which the last convolution computes.


@dataclass(frozen=True)
class MultiInputConfig:
    """What the network looks like; the defaults are the published one, with 15.6 million parameters.

    Attributes
    ----------
    tips
        What the images were taken with, one stack for each.
    slices
        Number of heights of a stack.
    width
        Number of features in units of those of the published network. 1/8 trains on a processor.
    sigma
        Whether the network also tells the uncertainty of the map.
    padding
        What convolutions see outside of an image.

    Raises
    ------
    ConfigurationError
        For a network that cannot be built.
    """

    tips: tuple[str, ...] = ("CO", "Xe")
    slices: int = 6
    width: float = 1.0
    sigma: bool = False
    padding: Padding = "edge"

    def __post_init__(self) -> None:
        if not self.tips:
            raise ConfigurationError("tips is empty: expected the name of at least one tip")
        if self.slices < _FEWEST_SLICES:
            raise ConfigurationError(f"slices is {self.slices}: expected at least {_FEWEST_SLICES}")
        if not 0 < self.width < float("inf"):
            raise ConfigurationError(f"width is {self.width}: expected a positive number, 1 for the published network")

    def features(self, published: int) -> int:
        """Return how many features there are where the published network has this number."""
        return max(1, round(self.width * published))

    @property
    def planes(self) -> tuple[int, ...]:
        """Heights before each pooling, and behind the last."""
        counts = [self.slices]
        for stride in _Z_STRIDES:
            counts.append(counts[-1] // 2 if stride == 2 else counts[-1] - 1)
        return tuple(counts)


class ElectrostaticMap(NamedTuple):
    """Field along z above the molecule, and its standard deviation if the network tells: V/Å, shape (batch, ny, nx)."""

    field: jax.Array
    sigma: jax.Array | None


class MultiInputNetwork(nnx.Module):
    """An attention U-Net that has one branch for each tip.

    The branches are joined before an encoder of three-dimensional convolutions; the decoder is two-dimensional, and
    sees what the encoder saw through gates (Oktay et al., arXiv:1804.03999).

    Parameters
    ----------
    config
        What it looks like.
    rngs
        Random numbers for the initial weights.
    """

    def __init__(self, config: MultiInputConfig | None = None, *, rngs: nnx.Rngs) -> None:
        self.config = config = config or MultiInputConfig()
        n, padding = config.features, config.padding
        tip, planar, last = n(_TIP_FEATURES), n(_PLANAR_FEATURES), n(_RISING_FEATURES[-1])
        spatial, rising = [n(k) for k in _SPATIAL_FEATURES], [n(k) for k in _RISING_FEATURES]
        # What the gates let through: the features of all heights.
        seen = [planes * features for planes, features in zip(config.planes, spatial, strict=False)][::-1]

        self.tips = nnx.List(_Block(1, tip, 2, 3, padding, rngs) for _ in config.tips)
        inputs = (len(config.tips) * tip, *spatial)
        self.down = nnx.List(_Block(a, b, 3, 3, padding, rngs) for a, b in zip(inputs, spatial, strict=False))
        self.middle = _Block(config.planes[-1] * spatial[-1], planar, 3, 2, padding, rngs)
        self.gates = nnx.List(_Gate(one, planar, n(_GATE_FEATURES), padding, rngs) for one in seen)
        inputs = (planar, *rising)
        self.up = nnx.List(_Block(a, b, 2, 2, padding, rngs) for a, b in zip(inputs, rising, strict=False))
        self.merge = nnx.List(_Block(a + b, b, 2, 2, padding, rngs) for a, b in zip(seen, rising, strict=True))
        self.end = _Block(last, last, 3, 2, padding, rngs)
        self.output = Conv(last, 1 + config.sigma, padding=padding, rngs=rngs)

    def __call__(self, stacks: jax.Array) -> ElectrostaticMap:
        """Predict the electrostatic map.

        Parameters
        ----------
        stacks
            Frequency shifts from far to near, shape (batch, tips, nz, ny, nx), in the order of the tips; each image
            as :func:`.asd2020.normalised` makes it.

        Raises
        ------
        InvalidRequestError
            When the stacks do not have the shape that the network is made for.
        """
        expected = (len(self.config.tips), self.config.slices)
        if stacks.ndim != 5 or stacks.shape[1:3] != expected or any(n % _POOLED for n in stacks.shape[3:]):
            raise InvalidRequestError(
                f"the stacks have the shape {stacks.shape}: expected (batch, {expected[0]}, {expected[1]}, ny, nx),"
                f" with multiples of {_POOLED} for ny and nx"
            )
        columns = jnp.moveaxis(stacks, 2, -1)[..., None]
        branches = [tip(columns[:, number]) for number, tip in enumerate(self.tips)]
        x, shortcuts = self._descend(jnp.concatenate(branches, axis=-1))
        values = self.output(self.end(self._ascend(self.middle(x), shortcuts)))
        sigma = _TYPICAL_FIELD * jnp.exp(values[..., 1]) if self.config.sigma else None
        return ElectrostaticMap(_TYPICAL_FIELD * values[..., 0], sigma)

    def _descend(self, x: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        """Return the features at the bottom, and those on the way from there back to the top."""
        shortcuts = []
        for block, stride in zip(self.down, _Z_STRIDES, strict=True):
            x = block(x)
            shortcuts.append(_flat(x))
            x = _pool(x, stride)
        return _flat(x), shortcuts[::-1]

    def _ascend(self, x: jax.Array, shortcuts: Sequence[jax.Array]) -> jax.Array:
        gated = [gate(shortcut, x) for gate, shortcut in zip(self.gates, shortcuts, strict=True)]
        for up, merge, shortcut in zip(self.up, self.merge, gated, strict=True):
            x = merge(jnp.concatenate([up(upsample(x, (2, 2))), shortcut], axis=-1))
        return x


class _Block(nnx.Module):
    """Convolutions beside a short cut."""

    def __init__(
        self, inputs: int, outputs: int, depth: int, dimensions: int, padding: Padding, rngs: nnx.Rngs
    ) -> None:
        kernel = (3,) * dimensions
        self.convs = nnx.List(
            Conv(inputs if k == 0 else outputs, outputs, kernel, padding, rngs=rngs) for k in range(depth)
        )
        self.shortcut = Conv(inputs, outputs, (1,) * dimensions, rngs=rngs) if inputs != outputs else None

    def __call__(self, x: jax.Array) -> jax.Array:
        start = x if self.shortcut is None else self.shortcut(x)
        for number, conv in enumerate(self.convs):
            x = conv(leaky_relu(x) if number else x)
        return leaky_relu(x + start)


class _Gate(nnx.Module):
    """Where to look: weights of the pixels, with the sum one, by which features are multiplied."""

    def __init__(self, features: int, query: int, hidden: int, padding: Padding, rngs: nnx.Rngs) -> None:
        self.features = Conv(features, hidden, padding=padding, rngs=rngs)
        self.query = Conv(query, hidden, padding=padding, rngs=rngs)
        self.weight = Conv(hidden, 1, padding=padding, rngs=rngs)

    def __call__(self, x: jax.Array, query: jax.Array) -> jax.Array:
        query = jax.image.resize(query, (*x.shape[:3], query.shape[-1]), "bilinear")
        hidden = leaky_relu(leaky_relu(self.features(x)) + leaky_relu(self.query(query)))
        return x * jax.nn.softmax(self.weight(hidden), axis=(1, 2))


def _pool(x: jax.Array, z_stride: int) -> jax.Array:
    """Mean over two by two pixels and two heights; with the stride one these overlap."""
    if z_stride == 2:
        return average_pool(x, (2, 2, 2))
    x = average_pool(x, (2, 2, 1))
    return (x[..., 1:, :] + x[..., :-1, :]) / 2


def _flat(x: jax.Array) -> jax.Array:
    """Make features of heights: (batch, y, x, z, features) becomes (batch, y, x, z features)."""
    return x.reshape(*x.shape[:3], -1)
