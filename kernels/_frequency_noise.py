"""Noise of the frequency shift: the thermal motion of the cantilever and the noise of its detector."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from twinscope.kernels._checks import check_cantilever
from twinscope.kernels._constants import NEWTON_PER_METRE
from twinscope.kernels._parameters import check_count, check_not_negative, check_positive
from twinscope.kernels._types import ArrayLike, Cantilever

_BOLTZMANN = 8.617333262e-5  # eV/K, CODATA


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FrequencyNoise:
    """Noise of a frequency shift with the one-sided power spectral density ``S(f) = white + violet f²``.

    Attributes
    ----------
    white
        Hz²/Hz: thermal motion, and detector noise that drives the cantilever through its own excitation.
    violet
        Hz²/Hz³: detector noise, which is one of the phase, so its frequency grows with f.
    """

    white: ArrayLike
    violet: ArrayLike

    def density(self, frequency: ArrayLike) -> jax.Array:
        """Return the one-sided power spectral density, in Hz²/Hz, at modulation frequencies in Hz."""
        return self.white + self.violet * jnp.asarray(frequency) ** 2

    def deviation(self, bandwidth: ArrayLike) -> jax.Array:
        """Return the standard deviation, in Hz, behind a filter that passes everything up to `bandwidth`, in Hz."""
        bandwidth = jnp.asarray(bandwidth)
        return jnp.sqrt(self.white * bandwidth + self.violet * bandwidth**3 / 3)

    def series(self, key: jax.Array, count: int, interval: ArrayLike) -> jax.Array:
        """Draw a time series of the frequency shift before any filter, up to the Nyquist frequency.

        Independent normal numbers, whose discrete spectrum is multiplied by the square root of the density. Series of
        different keys do not know of each other; behind a :class:`~twinscope.kernels.LowPass` this is not seen.

        Parameters
        ----------
        key
            Random key of JAX.
        count
            Number of samples n.
        interval
            Between samples, in s. Half its inverse should be well above the bandwidth of the filter that follows.

        Returns
        -------
        jax.Array
            Hz, shape (n,).

        Raises
        ------
        ValueError
            When `count` or `interval` is not positive.
        """
        check_count(count=count)
        check_positive("s", interval=interval)
        spectrum = jnp.fft.rfft(jax.random.normal(key, (count,)))
        frequencies = jnp.arange(len(spectrum)) / (count * interval)
        return jnp.fft.irfft(spectrum * jnp.sqrt(self.density(frequencies) / (2 * interval)), count)


def frequency_noise(
    cantilever: Cantilever, quality: ArrayLike, temperature: ArrayLike, detector: ArrayLike = 0.0
) -> FrequencyNoise:
    """Noise of the frequency shift of a cantilever that a perfect loop keeps oscillating.

    With a, half of the peak-to-peak amplitude, and the density n of the detector's noise::

        white  = f0 kB T / (pi k Q a²) + 2 (n f0 / (2 Q a))²
        violet = 2 (n / a)²

    The first is Albrecht et al., J. Appl. Phys. 69, 668 (1991), for the mean square a²/2 of the oscillation; the other
    two are Kobayashi et al., Rev. Sci. Instrum. 80, 043708 (2009). In a bandwidth B the detector's own part is
    sqrt(2/3) n B^(3/2) / a; some reviews divide this by pi. The densities hold well below f0, and as long as the
    thermal motion is small beside the amplitude.

    Parameters
    ----------
    cantilever
        Its amplitude is peak to peak.
    quality
        Quality factor Q.
    temperature
        K.
    detector
        Noise of the deflection, one-sided, in Å/sqrt(Hz): 5e-4 is 50 fm/sqrt(Hz).

    Raises
    ------
    ValueError
        When the quality factor is not positive, or temperature or detector noise are negative.
    """
    check_cantilever(cantilever)
    check_positive(quality=quality)
    check_not_negative("K", temperature=temperature)
    check_not_negative("Å/sqrt(Hz)", detector=detector)
    amplitude = cantilever.amplitude / 2
    stiffness = cantilever.stiffness * NEWTON_PER_METRE
    thermal = cantilever.frequency * _BOLTZMANN * temperature / (math.pi * stiffness * quality * amplitude**2)
    phase = 2 * (detector / amplitude) ** 2
    return FrequencyNoise(thermal + phase * (cantilever.frequency / (2 * quality)) ** 2, phase)
