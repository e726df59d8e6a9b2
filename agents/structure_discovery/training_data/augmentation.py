"""What goes wrong with images, at random: pure JAX functions of a key and of stacks (b, nz, ny, nx) of any unit.

The imperfections of a microscope are in :mod:`.realism`. Symmetries of the square and lines that are missing concern
more than the images: :mod:`..training.augmenting` has them.
"""

import jax
import jax.numpy as jnp

from twinscope.agents.structure_discovery.networks.asd2020 import normalised

_SHIFTS = (-2, -1, 1, 2)  # Pixels.
_NOISE = 0.1
_CUT_OUTS, _CUT_SHARE = 5, 0.2
_CUT_AREA, _CUT_ASPECT = (0.001, 0.01), (0.1, 10.0)


def published(key: jax.Array, stacks: jax.Array) -> jax.Array:
    """Do all that Alldritt et al., Sci. Adv. 6, eaay6913 (2020), did to every stack, in training and in tests.

    Slices are normalised to mean 0 and deviation 1; noise is added, slices are shifted and areas cut out.
    """
    noise, shift, cut = jax.random.split(key, 3)
    stacks = normalised(stacks)
    stacks = with_uniform_noise(noise, stacks, jnp.full(len(stacks), _NOISE))
    return with_cut_outs(cut, with_shifted_slices(shift, stacks))


def with_uniform_noise(key: jax.Array, stacks: jax.Array, amplitude: jax.Array) -> jax.Array:
    """Add uniform noise whose width is `amplitude` (b,) times the range of each slice."""
    span = stacks.max((2, 3), keepdims=True) - stacks.min((2, 3), keepdims=True)
    noise = jax.random.uniform(key, stacks.shape, stacks.dtype, -0.5, 0.5)
    return stacks + jnp.asarray(amplitude, stacks.dtype)[:, None, None, None] * span * noise


def with_shifted_slices(key: jax.Array, stacks: jax.Array) -> jax.Array:
    """Shift every slice by one or two pixels along each axis, independently; what is missing is mirrored."""
    return _moved(stacks, jax.random.choice(key, jnp.array(_SHIFTS), (*stacks.shape[:2], 2)))


def with_plane(key: jax.Array, stacks: jax.Array, largest: jax.Array) -> jax.Array:
    """Add a plane that rises in a random direction, by up to `largest` (b,) times the range of each slice."""
    rows, columns = stacks.shape[2:]
    steepness, angle = jax.random.uniform(key, (2, len(stacks), 1, 1, 1))
    span = stacks.max((2, 3), keepdims=True) - stacks.min((2, 3), keepdims=True)
    y, x = jnp.linspace(-0.5, 0.5, rows)[:, None], jnp.linspace(-0.5, 0.5, columns)
    plane = x * jnp.cos(2 * jnp.pi * angle) + y * jnp.sin(2 * jnp.pi * angle)
    return stacks + jnp.asarray(largest, stacks.dtype)[:, None, None, None] * steepness * span * plane


def with_cut_outs(key: jax.Array, stacks: jax.Array) -> jax.Array:
    """Set rectangles to zero: five times per slice, with a chance of a fifth each, 0.1 to 1 % of the area."""
    rows, columns = stacks.shape[2:]
    shape = (_CUT_OUTS, *stacks.shape[:2], 1, 1)
    there, area, aspect, top, left = jax.random.split(key, 5)
    size = jax.random.uniform(area, shape, minval=_CUT_AREA[0], maxval=_CUT_AREA[1]) * rows * columns
    ratio = jax.random.uniform(aspect, shape, minval=_CUT_ASPECT[0], maxval=_CUT_ASPECT[1])
    height, width = jnp.sqrt(size * ratio), jnp.sqrt(size / ratio)
    y0 = jax.random.uniform(top, shape) * jnp.maximum(rows - height, 0)
    x0 = jax.random.uniform(left, shape) * jnp.maximum(columns - width, 0)
    y, x = jnp.arange(rows)[:, None], jnp.arange(columns)
    inside = (y >= y0) & (y < y0 + height) & (x >= x0) & (x < x0 + width)
    cut = inside & jax.random.bernoulli(there, _CUT_SHARE, shape)
    return jnp.where(cut.any(axis=0), 0, stacks)


def _moved(stacks: jax.Array, shifts: jax.Array) -> jax.Array:
    """Move slices by whole pixels (b, nz, 2) along y and x; what is missing is mirrored at the edge."""

    def one(image: jax.Array, shift: jax.Array) -> jax.Array:
        rows, columns = (_mirrored(jnp.arange(n) - d, n) for n, d in zip(image.shape, shift, strict=True))
        return image[rows][:, columns]

    return jax.vmap(jax.vmap(one))(stacks, shifts)


def _mirrored(index: jax.Array, count: int) -> jax.Array:
    index = jnp.abs(index)
    return jnp.where(index >= count, 2 * (count - 1) - index, index)
