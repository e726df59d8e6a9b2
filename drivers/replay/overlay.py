"""Imperfections laid over a recording: the tip is elsewhere than it was sent to, and signals are noisy."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from twinscope._optional import import_optional
from twinscope.capabilities import Channel
from twinscope.drivers.common.motion import Motion
from twinscope.drivers.common.realism import Realism
from twinscope.errors import ConfigurationError

if TYPE_CHECKING:
    from twinscope.drivers.common.positioning import Piezos, Positioning

APPLIED = (
    *("drift_velocity", "drift_relaxing", "drift_time", "drift_diffusion", "creep", "hysteresis", "tilt", "vibration"),
    *("flicker", "hum", "mains_frequency", "current_noise"),
)
"""Fields of the realism that a recording can have; the others belong to a sensor or a tip that it does not describe."""

# A sample is a mean: noise that is a function of time is averaged over so many parts of it.
_PARTS = 8

_WHAT = "this realism"


class Overlay:
    """What is imperfect besides the recording.

    Parameters
    ----------
    realism
        Imperfections; those of :data:`APPLIED` count.
    noise
        Standard deviation of white noise by the name of the channel, in its unit.
    seed
        Of all that is random.
    reach
        Range of the lateral piezos from the middle, in m.
    channels
        All of the recording.

    Raises
    ------
    ConfigurationError
        When there is noise for a channel that the recording does not have.
    MissingPackageError
        When JAX is not there and something needs it.
    """

    def __init__(
        self, realism: Realism, noise: Mapping[str, float], seed: int, reach: float, channels: Sequence[Channel]
    ) -> None:
        self._realism = realism
        self._noise = noise
        self._seed = seed
        self._channels = {channel.name: number for number, channel in enumerate(channels)}
        self._units = {channel.name: channel.unit for channel in channels}
        for name in noise:
            if name not in self._channels:
                known = ", ".join(self._channels)
                raise ConfigurationError(f"noise is for {name!r}: this recording has {known}", name="noise")
        timed = realism.moves or realism.flicker or any(realism.hum)
        self._positioning = _positioning(realism, seed, reach) if timed else None

    def rested(self, position: np.ndarray) -> "Piezos | None":
        """Return piezos that have rested at a position (3,), in m; None for perfect ones."""
        return self._positioning.rested(position) if self._positioning and self._realism.moves else None

    def follow(
        self, motion: Motion, start: float, piezos: "Piezos | None"
    ) -> tuple[np.ndarray, np.ndarray, "np.ndarray | float", "Piezos | None"]:
        """Return where the tip really is during a motion that begins at a time, in s.

        Returns
        -------
        x, y
            On the recording, in m, shape (n,).
        rise
            By how much the sample seems higher, in m, shape (n,).
        piezos
            After the motion.
        """
        if self._positioning is None or piezos is None:
            return motion.x, motion.y, 0.0, piezos
        # The height in the recording is that of the sample: the z-controller was on.
        reached, piezos = self._positioning.follow(replace(motion, z=None), start, piezos)
        return reached[:, 0], reached[:, 1], -reached[:, 2], piezos

    def place(self, position: np.ndarray, now: float, piezos: "Piezos | None") -> tuple[float, float]:
        """Return where on the recording, in m, a tip is that rests where it was sent to, (3,), in m."""
        x, y, z = position[:, None]
        at, across, _, _ = self.follow(Motion(x, y, z, None, 0.0), now, piezos)
        return float(at[0]), float(across[0])

    def add_noise(
        self, values: np.ndarray, names: Sequence[str], motion: Motion, start: float, key: tuple[int, int]
    ) -> None:
        """Add noise to a trace (channels, n) in the order of time; the key is the numbers of acquisition and trace."""
        realism, interval = self._realism, motion.interval
        count = values.shape[1]
        for row, name in enumerate(names):
            deviation = self._noise.get(name, 0.0)
            if self._units[name] == "A":
                # White noise, averaged over a sample.
                deviation = math.hypot(deviation, realism.current_noise / math.sqrt(2 * interval))
            if deviation:
                random = np.random.default_rng((self._seed, *key, self._channels[name]))
                values[row] += random.normal(scale=deviation, size=count)
            if self._units[name] == "Hz" and self._positioning is not None:
                times = interval * (np.arange(count * _PARTS) + 0.5) / _PARTS
                series = self._positioning.pick_up(times, start + motion.lead)
                values[row] += series.reshape(count, _PARTS).mean(axis=1)


def _positioning(realism: Realism, seed: int, reach: float) -> "Positioning":
    """Import what needs JAX, which nobody else does."""
    import_optional("platformdirs", "simulator", _WHAT)
    # Before JAX is.
    from twinscope import _jax_setup as jax_setup

    import_optional("jax", "simulator", _WHAT)
    from twinscope.drivers.common.positioning import Positioning

    jax_setup.keep_compiled_code()
    return Positioning(realism, seed, reach)
