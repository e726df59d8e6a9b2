"""What a sample looks like when the network sees it: turned, noisy, with tips, slices and lines that are missing."""

from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.agents.structure_discovery.prediction import CONDITIONS
from twinscope.agents.structure_discovery.training.options import TrainingOptions
from twinscope.agents.structure_discovery.training_data.augmentation import with_cut_outs, with_uniform_noise
from twinscope.agents.structure_discovery.training_data.batch import Batch
from twinscope.agents.structure_discovery.training_data.realism import realistic

_CLEAN = 0.15  # Share of the samples without any noise.
_FEWEST_SLICES = 2
# Share of the stacks with missing slices in which the last slice ends in the middle, as in a running scan, and share in
# which it covers a band of lines only.
_UNFINISHED, _BAND = 0.3, 0.2
_NARROWEST_BAND = 0.2  # Of the lines.
_TILTS = tuple(list(CONDITIONS).index(name) for name in ("tilt_x", "tilt_y"))


class Example(NamedTuple):
    """What the training step needs of a :class:`~..training_data.batch.Batch`.

    Attributes
    ----------
    force_gradient
        N/m, shape (b, nt, nz, ny, nx) for nt tips.
    maps
        Shape (b, 4, ny, nx).
    numbers, positions
        Shapes (b, n) and (b, n, 3).
    conditions
        Shape (b, 5).
    """

    force_gradient: jax.Array | np.ndarray
    maps: jax.Array | np.ndarray
    numbers: jax.Array | np.ndarray
    positions: jax.Array | np.ndarray
    conditions: jax.Array | np.ndarray

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """Take what is needed of a batch."""
        return cls(
            np.asarray(batch.force_gradient, np.float32),
            np.asarray(batch.maps, np.float32),
            np.asarray(batch.numbers, np.int32),
            np.asarray(batch.positions, np.float32),
            np.asarray(batch.conditions, np.float32),
        )


class Seen(NamedTuple):
    """An example as it is measured.

    Attributes
    ----------
    example
        The truth, turned as the images are.
    force_gradient
        With noise, shape (b, nt, nz, ny, nx).
    measured
        Shape (b, nt, nz, ny).
    """

    example: Example
    force_gradient: jax.Array
    measured: jax.Array


def augmented(
    key: jax.Array,
    example: Example,
    noise: float,
    whole: float,
    *,
    realism: float = 0.0,
    cut_outs: float = 0.0,
    one_tip: float = 0.0,
) -> Seen:
    """Turn and spoil examples at random.

    Parameters
    ----------
    key
        Of the randomness.
    example
        As simulated.
    noise
        Largest amplitude of the noise.
    whole
        Share of the stacks of which nothing is missing.
    realism
        Share of the stacks with the imperfections of a microscope.
    cut_outs
        Share of the stacks of which rectangles are blank.
    one_tip
        Share of the samples that were measured with the first tip only.
    """
    turning, loudness, hiss, missing, imperfect, cut, alone = jax.random.split(key, 7)
    turned = turn(example, jax.random.randint(turning, (), 0, 8))
    shape = turned.force_gradient.shape
    samples, tips, slices, lines, _ = shape
    stacks = jnp.asarray(turned.force_gradient).reshape(samples * tips, *shape[2:])
    amplitude = noise * jnp.maximum(0.0, jax.random.uniform(loudness, (len(stacks),), minval=_CLEAN / (_CLEAN - 1)))
    noisy = with_uniform_noise(hiss, _imperfect(imperfect, stacks, realism), amplitude)
    measured = _measured(missing, (len(stacks), slices, lines), whole).reshape(shape[:-1])
    with_it = jnp.arange(tips)[:, None, None] == 0
    with_all = jax.random.bernoulli(alone, 1 - one_tip, (samples, 1, 1, 1))
    return Seen(turned, _cut(cut, noisy, cut_outs).reshape(shape), measured & (with_it | with_all))


def as_trained(key: jax.Array, example: Example, options: TrainingOptions) -> Seen:
    """Turn and spoil examples as the options of a training say."""
    return augmented(
        key,
        example,
        options.noise,
        options.whole,
        realism=options.realism,
        cut_outs=options.cut_outs,
        one_tip=options.one_tip,
    )


def as_measured(key: jax.Array, example: Example, amplitude: float | jax.Array, tips: int = 1) -> Seen:
    """Add noise of one amplitude to whole examples that were measured with so many tips."""
    shape = example.force_gradient.shape
    stacks = jnp.asarray(example.force_gradient).reshape(-1, *shape[2:])
    noisy = with_uniform_noise(key, stacks, jnp.full(len(stacks), amplitude)).reshape(shape)
    return Seen(example, noisy, jnp.broadcast_to((jnp.arange(shape[1]) < tips)[:, None, None], shape[:-1]))


def turn(example: Example, symmetry: jax.Array) -> Example:
    """Apply one of the eight symmetries of the square, 0 to 7, to images, atoms and tilts."""
    gradient, maps, numbers, positions, conditions = (jnp.asarray(part) for part in example)
    tilt = conditions[:, _TILTS]

    def mirror_x(turned: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        gradient, maps, positions, tilt = turned
        return gradient[..., ::-1], maps[..., ::-1], positions * jnp.array([-1, 1, 1]), tilt * jnp.array([-1, 1])

    def mirror_y(turned: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        gradient, maps, positions, tilt = turned
        flipped = gradient[..., ::-1, :], maps[..., ::-1, :]
        return *flipped, positions * jnp.array([1, -1, 1]), tilt * jnp.array([1, -1])

    def exchange(turned: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        gradient, maps, positions, tilt = turned
        images = jnp.swapaxes(gradient, -1, -2), jnp.swapaxes(maps, -1, -2)
        return *images, positions[..., (1, 0, 2)], tilt[..., ::-1]

    turned = gradient, maps, positions, tilt
    for bit, way in enumerate((mirror_x, mirror_y, exchange)):
        turned = jax.lax.cond((symmetry >> bit) % 2 == 1, way, lambda same: same, turned)
    gradient, maps, positions, tilt = turned
    return Example(gradient, maps, numbers, positions, conditions.at[:, _TILTS].set(tilt))


def _imperfect(key: jax.Array, stacks: jax.Array, share: float) -> jax.Array:
    if share == 0:
        return stacks
    which, how = jax.random.split(key)
    chosen = jax.random.bernoulli(which, share, (len(stacks), 1, 1, 1))
    return jnp.where(chosen, realistic(how, stacks, 1.0), stacks)


def _cut(key: jax.Array, stacks: jax.Array, share: float) -> jax.Array:
    """Fill rectangles with the mean of their slice: a zero would be the signal far above the sample."""
    if share == 0:
        return stacks
    which, where = jax.random.split(key)
    chosen = jax.random.bernoulli(which, share, (len(stacks), 1, 1, 1))
    blank = with_cut_outs(where, jnp.ones_like(stacks)) == 0
    return jnp.where(chosen & blank, stacks.mean((2, 3), keepdims=True), stacks)


def _measured(key: jax.Array, shape: tuple[int, int, int], whole: float) -> jax.Array:
    """Say which lines were measured: all, or some slices, of which one may have ended in the middle or be a band."""
    count, slices, lines = shape
    all_there, how_many, which, kind, last, until, first = jax.random.split(key, 7)
    kept = jax.random.randint(how_many, (count, 1), _FEWEST_SLICES, slices)
    rank = jax.random.uniform(which, (count, slices)).argsort(-1).argsort(-1)
    chosen = (rank < kept)[..., None]
    # The slice that comes last in the random order is the one that is being measured.
    partly = jax.random.uniform(kind, (count, 1, 1))
    newest = (rank == kept - 1)[..., None]
    line = jnp.arange(lines)
    upwards = jax.random.bernoulli(last, shape=(count, 1, 1))
    share = jax.random.uniform(until, (count, 1, 1))
    recorded = jnp.where(upwards, line < share * lines, line >= lines - share * lines)
    width = lines * (_NARROWEST_BAND + (1 - _NARROWEST_BAND) * share)
    start = jax.random.uniform(first, (count, 1, 1)) * (lines - width)
    band = (line >= start) & (line < start + width)
    there = jnp.where(partly < _UNFINISHED, recorded, jnp.where(partly < _UNFINISHED + _BAND, band, True))
    everything = jax.random.uniform(all_there, (count, 1, 1)) < whole
    return everything | (chosen & (~newest | there))
