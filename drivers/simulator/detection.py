"""What the detectors of an imperfect microscope make of its signals: noise, pick-up and the phase-locked loop."""

import math

import jax
import numpy as np

from twinscope.drivers.common.realism import Realism
from twinscope.drivers.common.units import ANGSTROM
from twinscope.drivers.simulator.condition import Body
from twinscope.drivers.simulator.signals import resolving_substeps
from twinscope.kernels import Cantilever, frequency_noise, phase_locked_loop

# A sample is a mean: with fewer parts the noise behind the loop would be aliased into it.
_SUBSTEPS = (4, 64)


class Detector:
    """Noise and filters of the signals.

    Parameters
    ----------
    realism
        What is imperfect.
    body
        Where the noise comes from that is a function of time.
    cantilever
        The force sensor.
    seed
        Of the noise of the current.
    """

    def __init__(self, realism: Realism, body: Body, cantilever: Cantilever, seed: int) -> None:
        self._realism = realism
        self._body = body
        self._seed = seed
        self._noise = None
        if realism.temperature or realism.detector_noise:
            detector = realism.detector_noise / ANGSTROM
            self._noise = frequency_noise(cantilever, realism.quality, realism.temperature, detector)

    def detected(
        self, shift: np.ndarray, interval: float, begin: float, loop: jax.Array | None, key: tuple[int, int]
    ) -> tuple[np.ndarray, jax.Array | None]:
        """Return what is measured of a frequency shift (n,), in Hz, and the state of the phase-locked loop afterwards.

        Parameters
        ----------
        shift
            Of each sample.
        interval
            Of a sample, in s.
        begin
            Instrument time at the beginning of the first, in s.
        loop
            State of the phase-locked loop; None for one that has settled at the first sample.
        key
            Numbers of the acquisition and of the trace.
        """
        bandwidth = self._realism.pll_bandwidth
        resolved = bandwidth or self._realism.mains_frequency * len(self._realism.hum)
        substeps = resolving_substeps(interval, resolved, *_SUBSTEPS) if resolved else 1
        count, step = len(shift) * substeps, interval / substeps
        series = np.repeat(shift, substeps) + self.shift_noise(count, step, begin, key)
        if bandwidth:
            filter_ = phase_locked_loop(bandwidth, step)
            filtered, loop = filter_.apply(series, filter_.settled(shift[0]) if loop is None else loop)
            series = np.asarray(filtered, float)
        return series.reshape(len(shift), substeps).mean(axis=1), loop

    def shift_noise(self, count: int, interval: float, begin: float, key: tuple[int, int]) -> np.ndarray:
        """Noise (count,) of the frequency shift before any filter, in Hz, in steps of an interval from a time on."""
        noise = np.zeros(count)
        if self._noise is not None:
            noise += np.asarray(self._noise.series(self._body.noise_key(*key), count, interval), float)
        noise += self._body.pick_up(interval * (np.arange(count) + 1), begin)
        return noise

    def current_noise(self, count: int, interval: float, key: tuple[int, int]) -> np.ndarray:
        """White noise (count,) of the current, in A, averaged over each interval."""
        deviation = self._realism.current_noise * math.sqrt(1 / (2 * interval))
        if not deviation:
            return np.zeros(count)
        return np.random.default_rng((self._seed, *key)).normal(scale=deviation, size=count)
