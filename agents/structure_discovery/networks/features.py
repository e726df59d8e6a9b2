"""What our network looks at: a stack made independent of the sensor, with marks where nothing was measured."""

import jax
import jax.numpy as jnp

# Typical size of the spread of the force gradient over a slice, in N/m, and how much its logarithm varies.
_TYPICAL_SPREAD = 0.05
_LOG_RANGE = 2.0
_SMALLEST_SPREAD = 1e-6

CHANNELS = 6
"""Of the input, for every slice: a block of two by two pixels, whether it was measured, and the contrast."""


def features(force_gradient: jax.Array, measured: jax.Array) -> jax.Array:
    """Return the input of :class:`~.discovery.DiscoveryNetwork`.

    The published networks see each slice only relative to its own mean and spread. Ours is also told the spread: it
    says how near the tip was.

    Parameters
    ----------
    force_gradient
        N/m, shape (b, nt, nz, ny, nx) for nt tips, from far to near; any numbers where nothing was measured.
    measured
        Whether a line was measured, shape (b, nt, nz, ny).

    Returns
    -------
    jax.Array
        Shape (b, ny / 2, nx / 2, CHANNELS nt nz).
    """
    every = [_of_one_tip(force_gradient[:, tip], measured[:, tip]) for tip in range(force_gradient.shape[1])]
    return jnp.concatenate(every, axis=-1)


def _of_one_tip(force_gradient: jax.Array, measured: jax.Array) -> jax.Array:
    known = measured[..., None]
    values = jnp.where(known, force_gradient, 0.0)
    count = jnp.maximum(known.sum((2, 3), keepdims=True) * force_gradient.shape[3], 1)
    mean = values.sum((2, 3), keepdims=True) / count
    deviation = jnp.where(known, values - mean, 0.0)
    spread = jnp.sqrt((deviation**2).sum((2, 3), keepdims=True) / count)
    relative = deviation / jnp.maximum(spread, _SMALLEST_SPREAD)
    logarithm = jnp.log(jnp.maximum(spread, _SMALLEST_SPREAD) / _TYPICAL_SPREAD) / _LOG_RANGE
    seen = known.astype(values.dtype)

    blocks = to_blocks(jnp.moveaxis(relative, 1, -1))
    rows = seen[..., 0].reshape(*seen.shape[:2], -1, 2).mean(-1)
    shape = (*blocks.shape[:3], values.shape[1])
    marks = jnp.broadcast_to(jnp.moveaxis(rows, 1, -1)[:, :, None, :], shape)
    sizes = marks * jnp.moveaxis(logarithm, 1, -1)
    return jnp.concatenate([blocks, marks, sizes], axis=-1)


def to_blocks(images: jax.Array) -> jax.Array:
    """Make channels of blocks of two by two pixels: (b, ny, nx, c) becomes (b, ny / 2, nx / 2, 4 c)."""
    b, ny, nx, channels = images.shape
    blocks = images.reshape(b, ny // 2, 2, nx // 2, 2, channels)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(b, ny // 2, nx // 2, 4 * channels)


def from_blocks(blocks: jax.Array) -> jax.Array:
    """Undo :func:`to_blocks`."""
    b, ny, nx, channels = blocks.shape
    images = blocks.reshape(b, ny, nx, 2, 2, channels // 4)
    return images.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * ny, 2 * nx, channels // 4)
