"""The network of Alldritt et al., Sci. Adv. 6, eaay6913 (2020): from ten images to maps of the molecule."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from twinscope.agents.structure_discovery.networks.layers import Conv, Padding, average_pool, leaky_relu, upsample
from twinscope.errors import ConfigurationError, InvalidRequestError

Depth = Literal["joint", "parallel"]
"""How height becomes features: one convolution over all, or one for each channel over its own planes."""

_POOLED = 8  # How many pixels, along x or y, become one of the features.
_FEWEST_SLICES = 4
# Heights are not negative; of the disks the published network leaves the sign free.
_RECTIFIED = ("vdw_spheres", "height_map")


@dataclass(frozen=True)
class ASD2020Config:
    """What the network looks like; the defaults are the published one.

    Attributes
    ----------
    maps
        Names of the outputs, of :data:`~twinscope.agents.structure_discovery.prediction.DESCRIPTORS`.
    slices
        Number of heights of a stack.
    depth
        See :data:`Depth`.
    padding
        What convolutions see outside of an image. The weights that were published need "edge".

    Raises
    ------
    ConfigurationError
        For a network that cannot be built.
    """

    maps: tuple[str, ...] = ("atomic_disks", "vdw_spheres", "height_map")
    slices: int = 10
    depth: Depth = "joint"
    padding: Padding = "edge"

    def __post_init__(self) -> None:
        if not self.maps:
            raise ConfigurationError("maps is empty: expected the name of at least one output")
        if self.slices < _FEWEST_SLICES:
            raise ConfigurationError(f"slices is {self.slices}: expected at least {_FEWEST_SLICES}")
        if self.depth not in get_args(Depth):
            raise ConfigurationError(f"depth is {self.depth!r}: expected one of {', '.join(get_args(Depth))}")

    @property
    def planes(self) -> int:
        """Heights that are left after two poolings."""
        return self.slices // 4


PUBLISHED = ASD2020Config()
"""Three maps, 122 811 parameters: the network whose weights are public."""

LAYER_TABLE = ASD2020Config(maps=("vdw_spheres",), slices=20, depth="parallel", padding="zeros")
"""The table of layers by which the method is presented: one map, 16 parallel convolutions, 113 433 parameters.

Its 5 888 parameters of the parallel convolutions need five planes, and so 20 slices; with ten they are 2 432.
"""


class Chain(nnx.Module):
    """Layers with names, one after the other."""

    def __init__(self, layers: Mapping[str, Callable[[jax.Array], jax.Array]]) -> None:
        self.names = tuple(layers)
        self.layers = nnx.List(layers.values())

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the output of the last layer."""
        for layer in self.layers:
            x = layer(x)
        return x

    def items(self) -> Iterator[tuple[str, Callable[[jax.Array], jax.Array]]]:
        """Yield names and layers in their order."""
        yield from zip(self.names, self.layers, strict=True)


class ActivatedConv(nnx.Module):
    """A convolution and what comes behind it."""

    def __init__(
        self, conv: Callable[[jax.Array], jax.Array], activation: Callable[[jax.Array], jax.Array] = leaky_relu
    ) -> None:
        self.conv = conv
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolve and rectify."""
        return self.activation(self.conv(x))


class ParallelZConv(nnx.Module):
    """One convolution over x and y for each channel, whose inputs are the heights of this channel.

    Parameters
    ----------
    planes
        Number of heights.
    channels, filters
        Number of convolutions, and of the outputs of each: it has filters (9 planes + 1) parameters.
    padding, rngs
        As for :class:`.Conv`.
    """

    def __init__(
        self, planes: int, channels: int = 16, filters: int = 8, padding: Padding = "edge", *, rngs: nnx.Rngs
    ) -> None:
        self.conv = Conv(planes * channels, channels * filters, padding=padding, groups=channels, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Turn (batch, y, x, planes, channels) into (batch, y, x, channels filters)."""
        return self.conv(_features_of_planes(jnp.swapaxes(x, -1, -2)))


class ASD2020(nnx.Module):
    """An encoder with a decoder for each map.

    Parameters
    ----------
    config
        What it looks like.
    rngs
        Random numbers for the initial weights.
    """

    def __init__(self, config: ASD2020Config = PUBLISHED, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.encoder = _encoder(config, rngs)
        self.decoders = nnx.List(_decoder(name, config.padding, rngs) for name in config.maps)

    def __call__(self, stacks: jax.Array) -> jax.Array:
        """Predict maps.

        Parameters
        ----------
        stacks
            Frequency shifts from far to near, shape (batch, nz, ny, nx), each image as :func:`normalised` makes it.

        Returns
        -------
        jax.Array
            Shape (batch, maps, ny, nx), in the units of the maps.

        Raises
        ------
        InvalidRequestError
            When the stacks do not have the shape that the network is made for.
        """
        features = self.encoder(self.arranged(stacks))
        return jnp.stack([decoder(features)[..., 0] for decoder in self.decoders], axis=1)

    def arranged(self, stacks: jax.Array) -> jax.Array:
        """Return stacks in the order of axes of the layers, (batch, ny, nx, nz, 1)."""
        if stacks.ndim != 4 or stacks.shape[1] != self.config.slices or any(n % _POOLED for n in stacks.shape[2:]):
            raise InvalidRequestError(
                f"the stacks have the shape {stacks.shape}: expected (batch, {self.config.slices}, ny, nx), with"
                f" multiples of {_POOLED} for ny and nx"
            )
        return jnp.moveaxis(stacks, 1, -1)[..., None]

    def convolutions(self) -> list[Conv]:
        """Return those of the encoder, then those of each decoder, in their order."""
        layers = [layer for chain in (self.encoder, *self.decoders) for layer in chain.layers]
        modules = [module for layer in layers if isinstance(layer, nnx.Module) for _, module in nnx.iter_modules(layer)]
        return [module for module in modules if isinstance(module, Conv)]


class LayerRow(NamedTuple):
    """A line of :func:`layer_table`: `shape` is that of the output, (ny, nx[, nz], features)."""

    name: str
    shape: tuple[int, ...]
    parameters: int


def layer_table(config: ASD2020Config, pixels: int = 128) -> list[LayerRow]:
    """List the layers of a network, those of decoders with the name of their map before. Nothing is computed.

    Parameters
    ----------
    config
        What the network looks like.
    pixels
        Of the images, along x and along y.
    """
    rows: list[LayerRow] = []

    def pass_through(stacks: jax.Array) -> None:
        network = ASD2020(config, rngs=nnx.Rngs(0))
        features = _list_layers(rows, "", network.encoder, network.arranged(stacks))
        for name, decoder in zip(config.maps, network.decoders, strict=True):
            _list_layers(rows, f"{name}/", decoder, features)

    jax.eval_shape(pass_through, jax.ShapeDtypeStruct((1, config.slices, pixels, pixels), jnp.float32))
    return rows


def normalised(stacks: jax.Array) -> jax.Array:
    """Give each image the mean zero and the standard deviation one, as the published weights expect.

    Parameters
    ----------
    stacks
        Shape (..., ny, nx). Of frequency shifts: a force gradient has the other sign.

    Returns
    -------
    jax.Array
        NaN where an image is constant.
    """
    centred = stacks - stacks.mean(axis=(-2, -1), keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(axis=(-2, -1), keepdims=True))


def _encoder(config: ASD2020Config, rngs: nnx.Rngs) -> Chain:
    def conv(features_in: int, features_out: int, kernel: tuple[int, ...]) -> ActivatedConv:
        return ActivatedConv(Conv(features_in, features_out, kernel, config.padding, rngs=rngs))

    layers: dict[str, Callable[[jax.Array], jax.Array]] = {
        "conv3d_1": conv(1, 4, (3, 3, 3)),
        "pool_1": partial(average_pool, window=(2, 2, 2)),
        "conv3d_2": conv(4, 8, (3, 3, 3)),
        "pool_2": partial(average_pool, window=(2, 2, 2)),
        "conv3d_3": conv(8, 16, (3, 3, 3)),
        "pool_3": partial(average_pool, window=(2, 2, 1)),
    }
    if config.depth == "joint":
        layers["planes_to_features"] = _features_of_planes
        layers["conv2d_1"] = conv(16 * config.planes, 64, (3, 3))
        layers["conv2d_2"] = conv(64, 64, (3, 3))
    else:
        parallel = ParallelZConv(config.planes, channels=16, filters=8, padding=config.padding, rngs=rngs)
        layers["parallel_z"] = ActivatedConv(parallel)
        layers["conv2d_1"] = conv(128, 64, (1, 1))
        layers["conv2d_2"] = conv(64, 64, (3, 3))
        layers["conv2d_3"] = conv(64, 64, (3, 3))
    return Chain(layers)


def _decoder(name: str, padding: Padding, rngs: nnx.Rngs) -> Chain:
    layers: dict[str, Callable[[jax.Array], jax.Array]] = {}
    features = 64
    for stage in range(1, 4):
        layers[f"upsample_{stage}"] = partial(upsample, factors=(2, 2))
        for number in (2 * stage - 1, 2 * stage):
            layers[f"conv_{number}"] = ActivatedConv(Conv(features, 16, padding=padding, rngs=rngs))
            features = 16
    last = Conv(features, 1, padding=padding, rngs=rngs)
    layers["conv_7"] = ActivatedConv(last, jax.nn.relu) if name in _RECTIFIED else last
    return Chain(layers)


def _features_of_planes(x: jax.Array) -> jax.Array:
    """Join the last two axes: (batch, y, x, planes, channels) becomes (batch, y, x, planes channels)."""
    return x.reshape(*x.shape[:-2], -1)


def _list_layers(rows: list[LayerRow], prefix: str, chain: Chain, x: jax.Array) -> jax.Array:
    """Add the layers of a chain to the rows, and return its output."""
    for name, layer in chain.items():
        x = layer(x)
        parameters = jax.tree.leaves(nnx.state(layer, nnx.Param)) if isinstance(layer, nnx.Module) else []
        rows.append(LayerRow(prefix + name, x.shape[1:], sum(value.size for value in parameters)))
    return x
