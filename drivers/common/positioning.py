"""Where the tip really is when it was sent somewhere: drift, creep, hysteresis, vibration, and a tilted sample."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.drivers.common.motion import Motion
from twinscope.drivers.common.realism import Realism
from twinscope.drivers.common.units import ANGSTROM
from twinscope.kernels import (
    CreepState,
    Drift,
    HysteresisState,
    Modes,
    coloured_noise,
    creep,
    hysteresis,
    mains_hum,
    random_walk,
)

_VIBRATION_BAND = (0.1, 1e3)
# Numbers of the independent streams of random numbers that come from one seed; subclasses take others.
_WALK, _FLICKER, _HUM, _VIBRATION = range(4)


@dataclass(frozen=True, kw_only=True)
class Piezos:
    """What the piezos remember.

    Attributes
    ----------
    creep, hysteresis
        Of the lateral piezos and that of z, in Å; None when there is none.
    time
        Instrument time that this belongs to, in s.
    """

    creep: CreepState | None = None
    hysteresis: HysteresisState | None = None
    time: float = 0.0


_P = TypeVar("_P", bound=Piezos)


class Positioning:
    """The mechanical part of a microscope, and what disturbs it as a function of time.

    Parameters
    ----------
    realism
        Its imperfections.
    seed
        Of all that is random.
    reach
        Range of its lateral piezos from the middle, in m.
    """

    def __init__(self, realism: Realism, seed: int, reach: float) -> None:
        self._realism = realism
        self._key = jax.random.key(seed)
        self._reach = reach

    def rested(self, position: np.ndarray) -> Piezos:
        """Return the piezos of a microscope that has rested at a position (3,), in m."""
        at_rest = np.asarray(position) / ANGSTROM
        return Piezos(
            creep=CreepState.resting(at_rest) if self._realism.creep else None,
            hysteresis=HysteresisState.fresh(at_rest) if self._realism.hysteresis else None,
        )

    def key(self, stream: int, *numbers: int) -> jax.Array:
        """Random key of one stream, and of one event in it."""
        key = jax.random.fold_in(self._key, stream)
        for number in numbers:
            key = jax.random.fold_in(key, number)
        return key

    def follow(self, motion: Motion, start: float, piezos: _P) -> tuple[np.ndarray, _P]:
        """Return where the tip is, relative to the sample.

        Parameters
        ----------
        motion
            Where it is sent; where the z-controller decides on z, it is the part that is not the controller's.
        start
            Instrument time at the end of the trace before, in s.
        piezos
            At that time.

        Returns
        -------
        positions
            In m, shape (n, 3); z without that of the z-controller where it decides.
        piezos
            After the motion.
        """
        z = np.zeros_like(motion.x) if motion.z is None else motion.z
        positions = np.stack([motion.x, motion.y, z], axis=-1)
        if not self._realism.moves:
            return positions, piezos
        offsets, after = self._elastic(motion, positions / ANGSTROM, start, piezos)
        times = motion.lead + motion.interval * (np.arange(len(z)) + 1)
        offsets = offsets + np.asarray(self.drift.at(times, start), float)
        offsets[:, 2] += self._vibration_at(times, start)
        reached = positions + offsets * ANGSTROM
        # The sample rises along x and y, so the tip is nearer to it.
        reached[:, 2] -= reached[:, :2] @ np.tan(np.radians(self._realism.tilt))
        return reached, replace(after, time=start + motion.duration)

    def place(self, position: np.ndarray, now: float, piezos: Piezos, *, controlled: bool) -> np.ndarray:
        """Return where the tip is, relative to the sample, that was sent to a position; both (3,) and in m.

        Parameters
        ----------
        position
            Where it was sent.
        now
            Instrument time, in s.
        piezos
            At some time before.
        controlled
            Whether z was found by the z-controller, which takes out what the piezo does by itself.
        """
        x, y, z = position[:, None]
        (reached,), _ = self.follow(Motion(x, y, None if controlled else z, None, 0.0), now, piezos)
        reached[2] += z[0] if controlled else 0.0
        return np.asarray(reached)

    def at_rest(self, piezos: _P, z: float) -> _P:
        """Return piezos of which that of z has come to rest at a height, in m.

        The z-controller has taken out what the piezo did by itself, and is switched off now.
        """
        creeping, loop = piezos.creep, piezos.hysteresis
        if creeping is not None:
            home, commanded = (values.at[2].set(z / ANGSTROM) for values in (creeping.home, creeping.commanded))
            creeping = CreepState(home, commanded, creeping.lags.at[:, 2].set(0))
        if loop is not None:
            loop = HysteresisState(loop.home.at[2].set(z / ANGSTROM), loop.plays.at[:, 2].set(z / ANGSTROM))
        return replace(piezos, creep=creeping, hysteresis=loop)

    @cached_property
    def flicker(self) -> Modes:
        """1/f noise of the frequency shift, in Hz."""
        return coloured_noise(self.key(_FLICKER), self._realism.flicker**2)

    @cached_property
    def hum(self) -> Modes:
        """Pick-up of the mains in the frequency shift, in Hz."""
        return mains_hum(self.key(_HUM), np.array(self._realism.hum), self._realism.mains_frequency)

    @cached_property
    def drift(self) -> Drift:
        """Drift of the tip over the sample, in Å."""
        realism = self._realism
        walk = None
        if realism.drift_diffusion:
            walk = random_walk(self.key(_WALK), realism.drift_diffusion / ANGSTROM**2)
        return Drift(
            np.array(realism.drift_velocity) / ANGSTROM,
            np.array(realism.drift_relaxing) / ANGSTROM,
            realism.drift_time,
            walk,
        )

    def pick_up(self, times: np.ndarray, start: float) -> np.ndarray:
        """1/f noise and pick-up (n,) of a frequency shift, in Hz, at times after a start, both in s."""
        noise = np.zeros(len(times))
        if self._realism.flicker:
            noise += np.asarray(self.flicker.at(times, start), float)
        if any(self._realism.hum):
            noise += np.asarray(self.hum.at(times, start), float)
        return noise

    @cached_property
    def _vibration(self) -> Modes:
        low, high = _VIBRATION_BAND
        density = (self._realism.vibration / ANGSTROM) ** 2 / np.log(high / low)
        return coloured_noise(self.key(_VIBRATION), density, low=low, high=high)

    def _vibration_at(self, times: np.ndarray, start: float) -> np.ndarray:
        if not self._realism.vibration:
            return np.zeros_like(times)
        return np.asarray(self._vibration.at(times, start), float)

    def _elastic(self, motion: Motion, commanded: np.ndarray, start: float, piezos: _P) -> tuple[np.ndarray, _P]:
        """How far (n, 3), in Å, the piezos are from where they were sent."""
        single = jnp.asarray(commanded, jnp.float32)
        offsets = np.zeros_like(commanded)
        if piezos.hysteresis is not None:
            width, reach = self._realism.hysteresis, 2 * self._reach / ANGSTROM
            reached, loop = hysteresis(single, piezos.hysteresis, width, reach)
            piezos = replace(piezos, hysteresis=loop)
            offsets += np.asarray(reached - single, float)
        if piezos.creep is not None:
            intervals = np.full(len(commanded), motion.interval)
            # Since the end of the last motion the piezo has crept, too.
            intervals[0] += motion.lead + max(start - piezos.time, 0.0)
            reached, memory = creep(single, intervals, piezos.creep, self._realism.creep)
            piezos = replace(piezos, creep=memory)
            offsets += np.asarray(reached - single, float)
        if motion.z is None:
            # The piezo of z is followed only while the z-controller is off: see `at_rest`.
            offsets[:, 2] = 0
        return offsets, piezos
