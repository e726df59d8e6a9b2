"""Our own network: an attention U-Net with heads for maps, atoms, elements and the conditions of the measurement."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from twinscope.agents.structure_discovery.networks.features import CHANNELS, features, from_blocks, to_blocks
from twinscope.agents.structure_discovery.prediction import CONDITIONS, DESCRIPTORS
from twinscope.agents.structure_discovery.structure import ELEMENTS
from twinscope.errors import ConfigurationError

DEPTHS: tuple[float, ...] = (0.0, -0.2, -0.4, -0.6, -0.8, -1.0, -1.2, -1.4)
"""Depths of the layers of the occupancy below the highest atom, in Å."""

# Typical sizes of the maps and of the conditions: the network computes in units of them, about the offset.
MAP_SCALES: Mapping[str, float] = {
    "atomic_disks": 0.05,
    "vdw_spheres": 0.3,
    "height_map": 0.5,
    "electrostatic_map": 0.01,
}
CONDITION_OFFSETS: Mapping[str, float] = {
    "height": 3.2,
    "lateral_stiffness": 0.27,
    "tip_charge": -0.05,
    "tilt_x": 0.0,
    "tilt_y": 0.0,
}
CONDITION_SCALES: Mapping[str, float] = {
    "height": 0.25,
    "lateral_stiffness": 0.05,
    "tip_charge": 0.1,
    "tilt_x": 0.25,
    "tilt_y": 0.25,
}
_SHARPEST = -7.0  # Bounds of the logarithms of standard deviations, in those units.
_VAGUEST = 3.0
_MAP_FEATURES = 16
_CONDITION_FEATURES = 64
_AXES = 3


@dataclass(frozen=True, slots=True)
class DiscoveryConfig:
    """Size of a :class:`DiscoveryNetwork`.

    Attributes
    ----------
    slices
        Heights of a stack.
    tips
        What is at the ends of the tips with which a molecule is measured. Stacks may be missing.
    widths
        Channels at each resolution, the first at half of the image's, each further one at half of the one before.
    blocks
        Residual blocks on the way down, at each resolution; one of each on the way up.
    heads
        Of the self-attention at the lowest resolution.
    """

    slices: int = 10
    tips: tuple[str, ...] = ("CO",)
    widths: tuple[int, ...] = (32, 64, 128)
    blocks: tuple[int, ...] = (1, 2, 3)
    heads: int = 4

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.blocks) or not self.widths:
            raise ConfigurationError(
                f"widths are {self.widths} and blocks {self.blocks}: expected as many of the one as of the other"
            )
        if not self.tips or len(set(self.tips)) < len(self.tips):
            raise ConfigurationError(f"tips are {self.tips}: expected one or more, all of them different")
        if self.widths[-1] % self.heads:
            raise ConfigurationError(
                f"the last of the widths {self.widths} is not a multiple of {self.heads} heads of attention"
            )


class Output(NamedTuple):
    """What the network returns, in units of :data:`MAP_SCALES` and :data:`CONDITION_SCALES`.

    Attributes
    ----------
    maps, log_sigma
        Shape (b, ny, nx, 4): values and logarithms of their standard deviations.
    occupancy
        Logits, shape (b, ny / 2, nx / 2, len(DEPTHS)).
    elements
        Logits, shape (b, ny / 2, nx / 2, len(ELEMENTS)).
    offsets
        Where the nearest atom is, shape (b, ny / 2, nx / 2, 3): x and y from the pixel, z from the highest atom, in Å.
    conditions, conditions_log_sigma
        Shape (b, 5).
    """

    maps: jax.Array
    log_sigma: jax.Array
    occupancy: jax.Array
    elements: jax.Array
    offsets: jax.Array
    conditions: jax.Array
    conditions_log_sigma: jax.Array


class DiscoveryNetwork(nnx.Module):
    """From stacks to maps with uncertainty, atoms in three dimensions, elements, and the state of the tip.

    There is a stack for each tip with which the molecule was measured. A U-Net (Ronneberger et al., 2015) with
    attention gates on its short cuts (Oktay et al., 2018), as ED-AFM has (Oinonen et al., ACS Nano 16, 89 (2022)), and
    with self-attention at the bottom, where a cell sees the whole molecule. It works on blocks of two by two pixels,
    which costs a quarter and loses nothing.

    Parameters
    ----------
    config
        Its size.
    rngs
        Of the initial weights.
    """

    def __init__(self, config: DiscoveryConfig, *, rngs: nnx.Rngs) -> None:
        self.config = config
        widths, blocks = config.widths, config.blocks
        self.stem = _conv(CHANNELS * len(config.tips) * config.slices, widths[0], rngs)
        self.down = nnx.List([_stage(width, count, rngs) for width, count in zip(widths, blocks, strict=True)])
        self.shrink = nnx.List([nnx.Linear(4 * a, b, rngs=rngs) for a, b in pairwise(widths)])
        self.attention = _Attention(widths[-1], config.heads, rngs)
        self.gates = nnx.List([_Gate(a, b, rngs) for a, b in pairwise(widths)])
        self.merge = nnx.List([_conv(a + b, a, rngs) for a, b in pairwise(widths)])
        self.up = nnx.List([_stage(width, 1, rngs) for width in widths[:-1]])
        self.sharpen = nnx.Linear(widths[0], 4 * _MAP_FEATURES, rngs=rngs)
        self.map_head = _conv(_MAP_FEATURES, 2 * len(DESCRIPTORS), rngs)
        self.atom_hidden = _conv(widths[0], widths[0], rngs)
        self.atom_head = nnx.Linear(widths[0], len(DEPTHS) + len(ELEMENTS) + _AXES, rngs=rngs)
        self.condition_hidden = nnx.Linear(2 * widths[-1], _CONDITION_FEATURES, rngs=rngs)
        self.condition_head = nnx.Linear(_CONDITION_FEATURES, 2 * len(CONDITIONS), rngs=rngs)

    def __call__(self, force_gradient: jax.Array, measured: jax.Array) -> Output:
        """Look at stacks; the parameters are those of :func:`~.features.features`."""
        bottom, shortcuts = self._descend(self.stem(features(force_gradient, measured)))
        top = self._ascend(bottom, shortcuts)

        maps = self.map_head(nnx.leaky_relu(from_blocks(self.sharpen(nnx.leaky_relu(top)))))
        values, log_sigma = jnp.split(maps, 2, axis=-1)
        atoms = self.atom_head(nnx.leaky_relu(self.atom_hidden(nnx.leaky_relu(top))))
        pooled = jnp.concatenate([bottom.mean((1, 2)), bottom.max((1, 2))], axis=-1)
        conditions = self.condition_head(nnx.leaky_relu(self.condition_hidden(pooled)))
        middle, vagueness = jnp.split(conditions, 2, axis=-1)
        occupancy, elements, offsets = jnp.split(atoms, (len(DEPTHS), len(DEPTHS) + len(ELEMENTS)), axis=-1)
        return Output(
            values,
            jnp.clip(log_sigma, _SHARPEST, _VAGUEST),
            occupancy,
            elements,
            offsets,
            middle,
            jnp.clip(vagueness, _SHARPEST, _VAGUEST),
        )

    def with_tips(self, tips: tuple[str, ...]) -> "DiscoveryNetwork":
        """Return the same network for further tips, whose stacks change nothing until it is trained with them.

        Raises
        ------
        ConfigurationError
            When the tips do not begin with those that it has.
        """
        known = self.config.tips
        if tips[: len(known)] != known:
            raise ConfigurationError(f"the network has the tips {known}: expected them first, not {tips}")
        config = replace(self.config, tips=tips)
        graph, weights = nnx.split(nnx.eval_shape(lambda: DiscoveryNetwork(config, rngs=nnx.Rngs(0))), nnx.Param)
        pairs = zip(nnx.to_flat_state(nnx.state(self, nnx.Param)), nnx.to_flat_state(weights), strict=True)
        grown = [(way, new.replace(_filled_up(value[...], new.shape))) for (way, value), (_, new) in pairs]
        network: DiscoveryNetwork = nnx.merge(graph, nnx.from_flat_state(grown))
        return network

    def _descend(self, x: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
        shortcuts = []
        for level, stage in enumerate(self.down):
            x = stage(x)
            if level < len(self.shrink):
                shortcuts.append(x)
                x = self.shrink[level](to_blocks(x))
        return self.attention(x), shortcuts

    def _ascend(self, x: jax.Array, shortcuts: list[jax.Array]) -> jax.Array:
        for level in reversed(range(len(shortcuts))):
            x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
            x = self.merge[level](jnp.concatenate([self.gates[level](shortcuts[level], x), x], axis=-1))
            x = self.up[level](x)
        return x


class _Residual(nnx.Module):
    """Two convolutions beside a short cut; it begins as the identity, so that no normalisation is needed."""

    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        self.first, self.second = _conv(width, width, rngs), _conv(width, width, rngs)
        self.gain = nnx.Param(jnp.zeros(()))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.gain[...] * self.second(nnx.leaky_relu(self.first(nnx.leaky_relu(x))))


class _Attention(nnx.Module):
    """Self-attention among all cells, beside a short cut, with a learned embedding of nothing but their contents."""

    def __init__(self, width: int, heads: int, rngs: nnx.Rngs) -> None:
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.attend = nnx.MultiHeadAttention(
            num_heads=heads, in_features=width, qkv_features=width, decode=False, rngs=rngs
        )
        self.gain = nnx.Param(jnp.zeros(()))

    def __call__(self, x: jax.Array) -> jax.Array:
        tokens = self.norm(x.reshape(x.shape[0], -1, x.shape[-1]))
        return x + self.gain[...] * self.attend(tokens).reshape(x.shape)


class _Gate(nnx.Module):
    """How much of a short cut is let through, at every pixel, as what came up from below asks for."""

    def __init__(self, width: int, below: int, rngs: nnx.Rngs) -> None:
        hidden = width // 2
        self.here, self.below = nnx.Linear(width, hidden, rngs=rngs), nnx.Linear(below, hidden, rngs=rngs)
        self.open = nnx.Linear(hidden, 1, rngs=rngs)

    def __call__(self, shortcut: jax.Array, below: jax.Array) -> jax.Array:
        return shortcut * nnx.sigmoid(self.open(nnx.leaky_relu(self.here(shortcut) + self.below(below))))


def _stage(width: int, count: int, rngs: nnx.Rngs) -> nnx.Sequential:
    return nnx.Sequential(*(_Residual(width, rngs) for _ in range(count)))


def _conv(inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(inputs, outputs, (3, 3), padding="SAME", rngs=rngs)


def _filled_up(weights: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Add zeros at the end of each axis."""
    return jnp.zeros(shape, weights.dtype).at[tuple(map(slice, weights.shape))].set(weights)
