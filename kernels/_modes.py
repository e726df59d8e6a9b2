"""Noise as a function of time: sums of sines that need no state, so any line can be computed before any other."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._parameters import check_count, check_not_negative, check_positive
from twinscope.kernels._types import ArrayLike
from twinscope.kernels._volume import exact_namespace, is_known


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Modes:
    """A sum of oscillations ``cosine cos(2 pi f t) + sine sin(2 pi f t)``.

    Attributes
    ----------
    frequencies
        Hz, shape (m,).
    cosine, sine
        In the unit of what they describe, shape (m, ...).
    """

    frequencies: ArrayLike
    cosine: ArrayLike
    sine: ArrayLike

    def at(self, times: ArrayLike, origin: ArrayLike = 0.0) -> jax.Array:
        """Value at any times.

        Parameters
        ----------
        times
            s after `origin`, shape (n,).
        origin
            s. The phases at this time are computed in double precision where it is known, so the last hour of a week
            is as good as the first; single precision would lose them. Give the time at which a line begins.

        Returns
        -------
        jax.Array
            Shape (n, ...).
        """
        np_ = exact_namespace(self.frequencies, origin)
        cycles = np_.asarray(self.frequencies, float) * origin % 1
        times = jnp.asarray(times, jnp.result_type(jnp.asarray(times), jnp.float32))
        arrays = (jnp.asarray(value, times.dtype) for value in (self.frequencies, cycles, self.cosine, self.sine))
        return _sum_of_modes(times, *arrays)


@jax.jit
def _sum_of_modes(
    times: jax.Array, frequencies: jax.Array, cycles: jax.Array, cosine: jax.Array, sine: jax.Array
) -> jax.Array:
    # Whole turns are taken away before they are multiplied by an inexact 2 pi.
    phases = 2 * jnp.pi * ((times[:, None] * frequencies + cycles) % 1)
    waves = jnp.concatenate([jnp.cos(phases), jnp.sin(phases)], axis=1)
    return jnp.tensordot(waves, jnp.concatenate([cosine, sine]), axes=1, precision=jax.lax.Precision.HIGHEST)


def coloured_noise(
    key: jax.Array,
    density: ArrayLike,
    exponent: float = 1.0,
    *,
    low: float = 1e-4,
    high: float = 1e3,
    modes_per_decade: int = 32,
    shape: tuple[int, ...] = (),
) -> Modes:
    """Noise whose one-sided power spectral density is ``density / f^exponent`` from `low` to `high`.

    Amplitudes and phases are normal random numbers (Timmer and König, Astron. Astrophys. 300, 707 (1995)). The modes
    stand at random places in bands of equal width on a logarithmic scale, each with the power of its band: the sum
    never repeats, but a spectrum of long series that resolves these bands shows lines.

    Parameters
    ----------
    key
        Random key of JAX.
    density
        At 1 Hz, in unit²/Hz.
    exponent
        1 for flicker noise, 2 for a random walk, 0 for white noise.
    low, high
        Hz. There is nothing below and above: beyond times of 1/low the noise is stationary.
    modes_per_decade
        How many modes stand in a decade of frequencies.
    shape
        Of independent noises with the same density, () for one and (3,) for those of x, y and z.

    Returns
    -------
    Modes
        With the values (..., *shape), in the unit of sqrt(density Hz).

    Raises
    ------
    ValueError
        When the density is negative, or `low` and `high` are no range of positive frequencies.
    """
    check_not_negative("unit²/Hz", density=density)
    check_positive("Hz", low=low)
    check_count(modes_per_decade=modes_per_decade)
    if not (np.isfinite(high) and high > low):
        raise ValueError(f"high is {high} Hz and low {low} Hz: expected a finite frequency above low")
    count = max(1, round(modes_per_decade * float(np.log10(high / low))))
    edges = np.geomspace(low, high, count + 1)
    places, cosine_key, sine_key = jax.random.split(key, 3)
    within = jax.random.uniform(places, (count,))
    deviations = np.sqrt(_band_powers(edges, exponent)).reshape(count, *[1] * len(shape))
    cosine, sine = (
        jnp.sqrt(density) * deviations * jax.random.normal(part, (count, *shape)) for part in (cosine_key, sine_key)
    )
    return Modes(edges[:-1] * (edges[1] / edges[0]) ** within, cosine, sine)


def _band_powers(edges: np.ndarray, exponent: float) -> np.ndarray:
    """Integrals of ``f^-exponent`` between neighbouring edges (m + 1,), shape (m,)."""
    low, ratio = edges[:-1], edges[1] / edges[0]
    power = 1 - exponent
    return low**power * (np.log(ratio) if power == 0 else (ratio**power - 1) / power)


def mains_hum(key: jax.Array, amplitudes: ArrayLike, frequency: ArrayLike = 50.0) -> Modes:
    """Pick-up of the mains: sines at its frequency and the harmonics, with fixed random phases.

    Parameters
    ----------
    key
        Random key of JAX, for the phases.
    amplitudes
        Zero to peak, of the fundamental and the harmonics 2, 3, ... in their order, shape (m,); zero for one that is
        not there.
    frequency
        Of the mains, in Hz.

    Raises
    ------
    ValueError
        When the amplitudes are no list of numbers >= 0, or the frequency is not positive.
    """
    check_positive("Hz", frequency=frequency)
    if np.ndim(amplitudes) != 1:
        raise ValueError(f"amplitudes have shape {np.shape(amplitudes)}: expected (m,), one for each harmonic")
    if is_known(amplitudes) and not (np.isfinite(amplitudes).all() and (np.asarray(amplitudes) >= 0).all()):
        raise ValueError(f"amplitudes are {amplitudes}: expected finite numbers >= 0")
    peaks = jnp.asarray(amplitudes, jnp.result_type(jnp.asarray(amplitudes), jnp.float32))
    phases = 2 * jnp.pi * jax.random.uniform(key, peaks.shape)
    return Modes(frequency * np.arange(1, len(peaks) + 1), peaks * jnp.cos(phases), peaks * jnp.sin(phases))
