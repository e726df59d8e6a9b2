"""Building blocks of the networks. Arrays are (batch, *spatial, features): any number of spatial axes."""

from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from twinscope.errors import ConfigurationError

Padding = Literal["edge", "zeros", "reflect"]
"""What stands outside of an image: its border pixels, zeros, or the mirror image about the border pixels."""

_NEGATIVE_SLOPE = 0.1
_MODES = {"edge": "edge", "reflect": "reflect"}


class Conv(nnx.Module):
    """Convolution that keeps the size of an image.

    Parameters
    ----------
    in_features, out_features
        Number of channels before and after.
    kernel
        Odd size along each spatial axis; its length is the number of those.
    padding
        See :data:`Padding`. Keras code that calls itself reflective often means "edge".
    groups
        Channels are cut into so many groups, and each output sees one of them only.
    bias
        Whether a constant is added per channel.
    dtype
        Of the computation; parameters stay float32. None for that of the input.
    kernel_init
        Initialiser of the kernel; the default keeps the variance behind rectifiers (He et al., ICCV 2015).
    rngs
        Random numbers for the initial weights.

    Raises
    ------
    ConfigurationError
        For a kernel of even size or an unknown padding.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel: Sequence[int] = (3, 3),
        padding: Padding = "edge",
        *,
        groups: int = 1,
        bias: bool = True,
        dtype: DTypeLike | None = None,
        kernel_init: nnx.Initializer | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        if padding not in get_args(Padding):
            raise ConfigurationError(f"padding is {padding!r}: expected one of {', '.join(get_args(Padding))}")
        if any(size < 1 or size % 2 == 0 for size in kernel):
            raise ConfigurationError(f"the kernel has the size {tuple(kernel)}: expected odd numbers")
        self.padding = padding
        self.widths = tuple((size // 2, size // 2) for size in kernel)
        self.conv = nnx.Conv(
            in_features,
            out_features,
            tuple(kernel),
            padding=self.widths if padding == "zeros" else "VALID",
            feature_group_count=groups,
            use_bias=bias,
            dtype=dtype,
            kernel_init=kernel_init or nnx.initializers.he_normal(),
            rngs=rngs,
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Convolve `x` of shape (batch, *spatial, in_features)."""
        if self.padding != "zeros":
            x = jnp.pad(x, ((0, 0), *self.widths, (0, 0)), mode=_MODES[self.padding])
        return self.conv(x)


def leaky_relu(x: jax.Array) -> jax.Array:
    """Rectifier with the slope 0.1 below zero."""
    return jax.nn.leaky_relu(x, _NEGATIVE_SLOPE)


def average_pool(x: jax.Array, window: Sequence[int]) -> jax.Array:
    """Mean over windows that do not overlap; pixels that do not fill one are left out.

    Parameters
    ----------
    x
        Shape (batch, *spatial, features).
    window
        Size along each spatial axis.
    """
    counts = [size // width for size, width in zip(x.shape[1:-1], window, strict=True)]
    for axis, (count, width) in enumerate(zip(counts, window, strict=True), start=1):
        x = jax.lax.slice_in_dim(x, 0, count * width, axis=axis)
    split = [size for pair in zip(counts, window, strict=True) for size in pair]
    # Means of reshaped axes: the gradient of windowed sums (nnx.avg_pool) takes XLA four times longer on a processor.
    return x.reshape(x.shape[0], *split, x.shape[-1]).mean(axis=range(2, 2 * len(counts) + 1, 2))


def upsample(x: jax.Array, factors: Sequence[int]) -> jax.Array:
    """Repeat each pixel: interpolation by the nearest neighbour.

    Parameters
    ----------
    x
        Shape (batch, *spatial, features).
    factors
        Number of copies along each spatial axis.
    """
    for axis, (factor, _) in enumerate(zip(factors, x.shape[1:-1], strict=True), start=1):
        x = jnp.repeat(x, factor, axis=axis)
    return x
