"""What a simulated microscope remembers: where its piezos really are, what its tip has become, what its loops hold."""

from dataclasses import dataclass, replace
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.drivers.simulator.motion import Motion
from twinscope.drivers.simulator.realism import Realism
from twinscope.drivers.simulator.units import ANGSTROM
from twinscope.kernels import (
    ControllerState,
    CreepState,
    Drift,
    HysteresisState,
    Modes,
    Tip,
    TipChange,
    changed_tip,
    coloured_noise,
    creep,
    hysteresis,
    mains_hum,
    random_walk,
    tip_changes,
)

_VIBRATION_BAND = (0.1, 1e3)
# Numbers of the independent streams of random numbers that come from one seed.
_WALK, _FLICKER, _HUM, _VIBRATION, _CHANGES, _CHANGE, _NOISE, _CHANCE = range(8)


@dataclass(frozen=True)
class Apex:
    """The end of the tip.

    Attributes
    ----------
    tip
        As the kernels know it.
    jump
        How much farther down it reaches than at the start, in Å.
    changes
        How often it has changed.
    lost
        Whether its probe particle is gone.
    """

    tip: Tip
    jump: float = 0.0
    changes: int = 0
    lost: bool = False


@dataclass(frozen=True)
class Condition:
    """Everything that what is measured next depends on.

    Attributes
    ----------
    apex
        The tip.
    creep, hysteresis
        Of the lateral piezos and that of z, in Å; None when there is none.
    loop
        State of the phase-locked loop; None before the first sample.
    controller
        State of the z-controller; None when it is off.
    time
        Instrument time that all this belongs to, in s.
    """

    apex: Apex
    creep: CreepState | None = None
    hysteresis: HysteresisState | None = None
    loop: jax.Array | None = None
    controller: ControllerState | None = None
    time: float = 0.0


class Body:
    """The mechanical part of a simulated microscope: where the tip is when it was sent somewhere.

    Parameters
    ----------
    realism
        Its imperfections.
    seed
        Of all that is random.
    reach
        Range of its lateral piezos, in m.
    intact
        The tip as it was prepared.
    bare
        What is left of a tip that has lost its probe particle.
    """

    def __init__(self, realism: Realism, seed: int, reach: float, intact: Tip, bare: Tip) -> None:
        self._realism = realism
        self._key = jax.random.key(seed)
        self._reach = reach
        self._intact, self._bare = intact, bare

    def fresh(self, tip: Tip, position: np.ndarray) -> Condition:
        """Return the condition of a microscope that has rested at a position (3,), in m."""
        at_rest = np.asarray(position) / ANGSTROM
        realism = self._realism
        return Condition(
            Apex(tip),
            CreepState.resting(at_rest) if realism.creep else None,
            HysteresisState.fresh(at_rest) if realism.hysteresis else None,
        )

    def key(self, stream: int, *numbers: int) -> jax.Array:
        """Random key of one stream, and of one event in it."""
        key = jax.random.fold_in(self._key, stream)
        for number in numbers:
            key = jax.random.fold_in(key, number)
        return key

    def noise_key(self, acquisition: int, trace: int) -> jax.Array:
        """Random key of the noise of a trace."""
        return self.key(_NOISE, acquisition, trace)

    def chance(self, apex: Apex, event: int) -> float:
        """Return a random number from 0 to 1 that decides on what becomes of a tip."""
        return float(jax.random.uniform(self.key(_CHANCE, apex.changes, event)))

    def follow(self, motion: Motion, start: float, condition: Condition) -> tuple[np.ndarray, Condition]:
        """Return where the tip is, relative to the sample.

        Parameters
        ----------
        motion
            Where it is sent; where the z-controller decides on z, it is the part that is not the controller's.
        start
            Instrument time at the end of the trace before, in s.
        condition
            At that time.

        Returns
        -------
        positions
            In m, shape (n, 3); z without the jumps of the tip, and without that of the z-controller where it decides.
        condition
            After the motion.
        """
        z = np.zeros_like(motion.x) if motion.z is None else motion.z
        positions = np.stack([motion.x, motion.y, z], axis=-1)
        if not self._realism.moves:
            return positions, condition
        offsets, after = self._elastic(motion, positions / ANGSTROM, start, condition)
        times = motion.lead + motion.interval * (np.arange(len(z)) + 1)
        offsets = offsets + np.asarray(self.drift.at(times, start), float)
        offsets[:, 2] += self._vibration_at(times, start)
        reached = positions + offsets * ANGSTROM
        # The sample rises along x and y, so the tip is nearer to it.
        reached[:, 2] -= reached[:, :2] @ np.tan(np.radians(self._realism.tilt))
        return reached, replace(after, time=start + motion.duration)

    def place(self, position: np.ndarray, now: float, condition: Condition, *, controlled: bool) -> np.ndarray:
        """Return where the tip is, relative to the sample, that was sent to a position; both (3,) and in m.

        Parameters
        ----------
        position
            Where it was sent.
        now
            Instrument time, in s.
        condition
            At some time before.
        controlled
            Whether z was found by the z-controller, which takes out what the piezo does by itself.
        """
        x, y, z = position[:, None]
        (reached,), _ = self.follow(Motion(x, y, None if controlled else z, None, 0.0), now, condition)
        reached[2] += z[0] if controlled else 0.0
        return np.asarray(reached)

    def at_rest(self, condition: Condition, z: float) -> Condition:
        """Return a condition in which the piezo of z has come to rest at a height, in m.

        The z-controller has taken out what the piezo did by itself, and is switched off now.
        """
        creeping, loop = condition.creep, condition.hysteresis
        if creeping is not None:
            home, commanded = (values.at[2].set(z / ANGSTROM) for values in (creeping.home, creeping.commanded))
            creeping = CreepState(home, commanded, creeping.lags.at[:, 2].set(0))
        if loop is not None:
            loop = HysteresisState(loop.home.at[2].set(z / ANGSTROM), loop.plays.at[:, 2].set(z / ANGSTROM))
        return replace(condition, creep=creeping, hysteresis=loop)

    def change(self, apex: Apex, start: float, end: float) -> list[tuple[float, Apex]]:
        """Return the spontaneous changes of a tip between two times, in s."""
        changes = []
        for time in tip_changes(self.key(_CHANGES), self._realism.tip_change_rate, start, end):
            apex = self.changed(apex)
            changes.append((float(time), apex))
        return changes

    def changed(self, apex: Apex) -> Apex:
        """Return a tip after one more change, by chance."""
        realism = self._realism
        extent = TipChange(
            realism.tip_change_tilt / ANGSTROM,
            realism.tip_change_charge,
            realism.tip_change_jump / ANGSTROM,
            realism.tip_loss,
        )
        # From the tip as it was meant to be: otherwise a tip that changes often would tilt without end.
        new = changed_tip(
            self._bare if apex.lost else self._intact, self.key(_CHANGE, apex.changes), extent, self._bare
        )
        return replace(
            apex, tip=new.tip, jump=apex.jump + new.jump, changes=apex.changes + 1, lost=apex.lost or new.lost
        )

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

    @cached_property
    def _vibration(self) -> Modes:
        low, high = _VIBRATION_BAND
        density = (self._realism.vibration / ANGSTROM) ** 2 / np.log(high / low)
        return coloured_noise(self.key(_VIBRATION), density, low=low, high=high)

    def _vibration_at(self, times: np.ndarray, start: float) -> np.ndarray:
        if not self._realism.vibration:
            return np.zeros_like(times)
        return np.asarray(self._vibration.at(times, start), float)

    def _elastic(
        self, motion: Motion, commanded: np.ndarray, start: float, condition: Condition
    ) -> tuple[np.ndarray, Condition]:
        """How far (n, 3), in Å, the piezos are from where they were sent."""
        single = jnp.asarray(commanded, jnp.float32)
        offsets = np.zeros_like(commanded)
        if condition.hysteresis is not None:
            width, reach = self._realism.hysteresis, 2 * self._reach / ANGSTROM
            reached, loop = hysteresis(single, condition.hysteresis, width, reach)
            condition = replace(condition, hysteresis=loop)
            offsets += np.asarray(reached - single, float)
        if condition.creep is not None:
            intervals = np.full(len(commanded), motion.interval)
            # Since the end of the last motion the piezo has crept, too.
            intervals[0] += motion.lead + max(start - condition.time, 0.0)
            reached, memory = creep(single, intervals, condition.creep, self._realism.creep)
            condition = replace(condition, creep=memory)
            offsets += np.asarray(reached - single, float)
        if motion.z is None:
            # The piezo of z is followed only while the z-controller is off: see `at_rest`.
            offsets[:, 2] = 0
        return offsets, condition
