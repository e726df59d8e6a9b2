"""What a real microscope does to a stack, at random: drift, creep, a sloping background, coloured noise and mains hum.

Pure JAX functions of a key and of stacks (b, nz, ny, nx) of any unit. Slices and their lines are taken from the first
to the last, and pixels from left to right; the way back takes as long. Times are in lines.
"""

from functools import partial

import jax
import jax.numpy as jnp

from twinscope.agents.structure_discovery.training_data.augmentation import with_plane
from twinscope.kernels import Drift, Modes, coloured_noise, mains_hum

# The largest effects at a strength of 1: shares of the mean range of the slices, and pixels.
_NOISE, _HUM, _PLANE = 0.04, 0.03, 0.2
_DRIFT, _CREEP = 3.0, 2.0
# Half of the samples know nothing of an effect.
_ABSENT = 0.5

_NOISE_EXPONENT = 1.0
_MODES_PER_DECADE = 5
_HARMONICS = (1.0, 0.4, 0.6, 0.2)  # Odd ones are the stronger ones behind a transformer.
_MAINS = (3.0, 40.0)  # Periods in a line and its way back: 60 ms to 0.8 s long at 50 Hz.
_LINE_SHARE = 0.5  # Of the time, in which the line is recorded.
_RELAXATION = 0.2  # Of the time of a stack: of the drift towards an equilibrium.
_CREEP_ONSET = 0.05  # Of a line or a slice: when the logarithm of creep begins.


def realistic(key: jax.Array, stacks: jax.Array, strength: jax.Array | float) -> jax.Array:
    """Do all that follows to stacks, each effect with a random amplitude, or not at all.

    Parameters
    ----------
    key
        Of the randomness.
    stacks
        Shape (b, nz, ny, nx).
    strength
        Of all effects, shape (b,) or one number: 0 for none, 1 for those of a good microscope on a bad day.
    """
    *keys, draws = jax.random.split(key, 6)
    count = len(stacks)
    amplitude = jnp.maximum(0.0, jax.random.uniform(draws, (5, count), minval=_ABSENT / (_ABSENT - 1))) * strength
    stacks = with_distortion(keys[0], stacks, _DRIFT * amplitude[0], _CREEP * amplitude[1])
    stacks = with_plane(keys[1], stacks, _PLANE * amplitude[2])
    # Neither knows how strong the contrast of a slice is.
    span = jnp.ptp(stacks, (2, 3)).mean(1)
    noise = coloured_line_noise(keys[2], stacks.shape, _NOISE * amplitude[3] * span)
    return stacks + noise + line_hum(keys[3], stacks.shape, _HUM * amplitude[4] * span)


def with_distortion(key: jax.Array, stacks: jax.Array, drift: jax.Array, creep: jax.Array) -> jax.Array:
    """Move the sample while it is imaged: the first line is taken elsewhere than the last.

    Coordinates are those of the whole stack: displacements are zero in the mean, so that maps stay where they are.
    Values between pixels are interpolated linearly, those beyond an edge repeat it.

    Parameters
    ----------
    key, stacks
        As for :func:`realistic`.
    drift
        How far the sample moves from the first line to the last at most, in pixels, shape (b,): at a constant
        velocity and towards an equilibrium.
    creep
        How far a line and a slice begin from where they should at most, in pixels, shape (b,).
    """
    return jax.vmap(_distorted)(jax.random.split(key, len(stacks)), stacks, jnp.asarray(drift), jnp.asarray(creep))


def coloured_line_noise(key: jax.Array, shape: tuple[int, ...], deviation: jax.Array) -> jax.Array:
    """Flicker noise (1/f) over all pixels in the order in which they are taken, with standard deviations (b,)."""
    _, slices, lines, pixels = shape

    def one(key: jax.Array, deviation: jax.Array) -> jax.Array:
        modes = coloured_noise(
            key,
            1.0,
            _NOISE_EXPONENT,
            low=1 / (slices * lines),
            high=pixels / (2 * _LINE_SHARE),
            modes_per_decade=_MODES_PER_DECADE,
        )
        noise = _along_scan(modes, (slices, lines, pixels))
        return deviation * (noise - noise.mean()) / noise.std()

    return jax.vmap(one)(jax.random.split(key, shape[0]), jnp.asarray(deviation))


def line_hum(key: jax.Array, shape: tuple[int, ...], amplitude: jax.Array) -> jax.Array:
    """Hum of the mains with harmonics, zero to peak of the first (b,): stripes, since lines do not wait for it."""
    _, slices, lines, pixels = shape

    def one(key: jax.Array, amplitude: jax.Array) -> jax.Array:
        phases, place = jax.random.split(key)
        frequency = jax.random.uniform(place, minval=_MAINS[0], maxval=_MAINS[1])
        modes = mains_hum(phases, amplitude * jnp.array(_HARMONICS), frequency)
        return _along_scan(modes, (slices, lines, pixels))

    return jax.vmap(one)(jax.random.split(key, shape[0]), jnp.asarray(amplitude))


def _along_scan(modes: Modes, shape: tuple[int, int, int]) -> jax.Array:
    """Evaluate modes, with frequencies per line, at all pixels (nz, ny, nx) of a scan.

    The phases of a line and those within it are separated: two small tables of sines and a product of matrices instead
    of a sine for every pixel and mode.
    """
    slices, lines, pixels = shape
    at_line = 2 * jnp.pi * (jnp.arange(slices * lines, dtype=jnp.float32)[:, None] * modes.frequencies % 1)
    within = 2 * jnp.pi * (jnp.linspace(0, _LINE_SHARE, pixels)[:, None] * modes.frequencies % 1)
    cosine = modes.cosine * jnp.cos(at_line) + modes.sine * jnp.sin(at_line)
    sine = modes.sine * jnp.cos(at_line) - modes.cosine * jnp.sin(at_line)
    return (cosine @ jnp.cos(within).T + sine @ jnp.sin(within).T).reshape(shape)


def _distorted(key: jax.Array, stack: jax.Array, drift: jax.Array, creep: jax.Array) -> jax.Array:
    """Distort one stack (nz, ny, nx)."""
    slices, lines, pixels = stack.shape
    straight, bent, late, early = jax.random.split(key, 4)
    draw = partial(jax.random.uniform, minval=-1, maxval=1)
    velocity, relaxing = draw(straight, (3,)) / 2, draw(bent, (3,)) / 2
    moved = Drift(velocity, relaxing, _RELAXATION).at(jnp.linspace(0, 1, slices * lines))[:, :2]
    x, y = (drift * (moved - moved.mean(0))).T.reshape(2, slices, lines)
    # A piezo that is moved back to the start of a line or a slice creeps after it.
    y += creep * draw(late) * _creep(lines)
    along = creep * draw(early) * _creep(pixels)
    stack = jax.vmap(_lines_at)(stack, jnp.arange(lines) + y)
    return _pixels_at(stack, jnp.arange(pixels) + x[..., None] + along)


def _creep(count: int) -> jax.Array:
    """Way of a piezo that creeps with the logarithm of time: of length 1, zero in the mean, shape (count,)."""
    way = jnp.log1p(jnp.linspace(0, 1, count) / _CREEP_ONSET) / jnp.log1p(1 / _CREEP_ONSET)
    return way - way.mean()


def _lines_at(image: jax.Array, places: jax.Array) -> jax.Array:
    """Interpolate an image (ny, nx) between its lines."""
    low, share = _split(places, len(image))
    return image[low] + share[:, None] * (image[low + 1] - image[low])


def _pixels_at(stack: jax.Array, places: jax.Array) -> jax.Array:
    """Interpolate a stack (nz, ny, nx) between the pixels of each line, at places of the same shape."""
    low, share = _split(places, stack.shape[-1])
    left, right = (jnp.take_along_axis(stack, index, axis=-1, mode="clip") for index in (low, low + 1))
    return left + share * (right - left)


def _split(places: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Part places into indices, of which the next exists, and the share of the next."""
    places = jnp.clip(places, 0, count - 1)
    low = jnp.minimum(places.astype(jnp.int32), count - 2)
    return low, places - low
