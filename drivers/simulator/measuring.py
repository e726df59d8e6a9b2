"""Measuring with an imperfect microscope: each trace where the tip really is, with noise, filters and feedback."""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import jax
import numpy as np

from twinscope.drivers.simulator.body_force import body_force
from twinscope.drivers.simulator.condition import Apex, Body, Condition
from twinscope.drivers.simulator.imaging import CONVERGED, CURRENT, FORCE_Z, FREQUENCY_SHIFT, Imaging, Z
from twinscope.drivers.simulator.motion import Motion
from twinscope.drivers.simulator.realism import Realism
from twinscope.drivers.simulator.signals import CONTROLLED, controller_of, resolving_substeps
from twinscope.drivers.simulator.units import ANGSTROM
from twinscope.kernels import (
    ControllerState,
    FrequencyNoise,
    follow_trace,
    frequency_noise,
    interpolation_weights,
    phase_locked_loop,
)

# Positions rendered together, at least: one tile of the kernels.
_BLOCK = 4096
# The controller may go this far (Å) above the highest place of the trace before; farther out there is no signal.
_HEADROOM = 8.0
_SUBSTEPS = (8, 64)
# Rungs below the lowest height, for the interpolation.
_MARGIN = 0.3
_RANGE_STEP = 2.0


@dataclass(frozen=True)
class Settings:
    """How the instrument is set during an acquisition.

    Attributes
    ----------
    signals
        Value of each signal that can be set.
    mode
        What the z-controller holds constant; None when it is off.
    lowest, highest
        Range of z, in m; the lowest counts from the ground.
    """

    signals: Mapping[str, float]
    mode: str | None
    lowest: float
    highest: float


@dataclass(frozen=True)
class Sampled:
    """What one trace gave.

    Attributes
    ----------
    values
        By the name of the channel, in the order of recording, each (n,).
    end
        x, y and z where the tip was sent last, in m.
    condition
        After the trace.
    crashed
        Whether the tip touched the sample.
    out_of_reach
        Whether the z-controller came to the end of its range.
    """

    values: Mapping[str, np.ndarray]
    end: tuple[float, float, float]
    condition: Condition
    crashed: bool = False
    out_of_reach: bool = False


@dataclass(frozen=True)
class _Planned:
    """A trace that is going to be measured: where the tip is, and what it is like there."""

    number: int
    start: float
    motion: Motion
    positions: np.ndarray
    apexes: tuple[Apex, ...]
    before: Condition
    after: Condition
    heights: np.ndarray
    tables: Mapping[str, np.ndarray]


class Measuring:
    """Measures the traces of one acquisition after the other.

    Traces are rendered in blocks, ahead of their time, as if nothing came in between; when something does, a pause for
    example, the rest of the block is rendered again.

    Parameters
    ----------
    imaging_of
        Gives what a tip sees.
    body
        Where the tip is.
    realism
        What is imperfect.
    seed
        Of all noise.
    """

    def __init__(self, imaging_of: Callable[[Apex], Imaging], body: Body, realism: Realism, seed: int) -> None:
        self._seed = seed
        self._imaging_of = imaging_of
        self._body = body
        self._realism = realism
        self._planned: deque[_Planned] = deque()

    def forget(self) -> None:
        """Forget what was rendered ahead: another acquisition begins."""
        self._planned.clear()

    def measure(
        self,
        number: int,
        motions: Callable[[int], Motion | None],
        start: float,
        condition: Condition,
        settings: Settings,
        acquisition: int,
    ) -> Sampled:
        """Measure a trace.

        Parameters
        ----------
        number
            Of the trace.
        motions
            Gives the motion of each trace, None after the last.
        start
            Instrument time at which the tip sets out, in s.
        condition
            At this time.
        settings
            Of the instrument.
        acquisition
            Number of the acquisition, for the noise.
        """
        ready = self._planned and self._planned[0].number == number and self._planned[0].start == start
        if not (ready and self._planned[0].before.apex == condition.apex):
            self._plan(number, motions, start, condition, settings)
        planned = self._planned.popleft()
        condition = replace(planned.after, loop=condition.loop, controller=condition.controller)
        key = (acquisition, number)
        if planned.motion.z is None:
            return self._follow(planned, condition, settings, key)
        return self._sample(planned, condition, settings, key)

    # ------------------------------------------------------------------ ahead of time

    def _plan(
        self,
        number: int,
        motions: Callable[[int], Motion | None],
        start: float,
        condition: Condition,
        settings: Settings,
    ) -> None:
        """Find out where the tip will be in the next traces, and render them together."""
        self._planned.clear()
        drafts: list[_Planned] = []
        count = 0
        while count < _BLOCK and (motion := motions(number + len(drafts))) is not None:
            begin = drafts[-1].start + drafts[-1].motion.duration if drafts else start
            before = drafts[-1].after if drafts else condition
            positions, after = self._body.follow(motion, begin, before)
            apexes = self._apexes(motion, begin, before.apex)
            after = replace(after, apex=apexes[-1])
            drafts.append(
                _Planned(number + len(drafts), begin, motion, positions, apexes, before, after, np.empty(0), {})
            )
            count += len(motion.x)
        self._render(drafts, condition, settings)

    def _apexes(self, motion: Motion, start: float, apex: Apex) -> tuple[Apex, ...]:
        """Return the tip at each sample."""
        changes = self._body.change(apex, start, start + motion.duration)
        times = start + motion.lead + motion.interval * (np.arange(len(motion.x)) + 1)
        return tuple(next((new for time, new in reversed(changes) if time <= now), apex) for now in times)

    def _render(self, drafts: list[_Planned], condition: Condition, settings: Settings) -> None:
        apexes = [apex for draft in drafts for apex in draft.apexes]
        positions = np.concatenate([draft.positions for draft in drafts])
        jumps = np.array([apex.jump for apex in apexes]) * ANGSTROM
        low, high = self._range(positions, jumps, drafts[0].motion.z is None, condition, settings)
        tables: dict[str, np.ndarray] = {}
        heights = np.empty(0)
        for apex in dict.fromkeys(apexes):
            chosen = np.flatnonzero([other is apex or other == apex for other in apexes])
            imaging = replace(self._imaging_of(apex), bias=1.0)
            heights, values = imaging.table(_filled_up(positions[chosen, :2]), low, high)
            for name, table in values.items():
                whole = tables.setdefault(name, np.empty((len(heights), len(apexes)), np.float32))
                whole[:, chosen] = table[:, : len(chosen)]
        stop = 0
        for draft in drafts:
            start, stop = stop, stop + len(draft.apexes)
            own = {name: table[:, start:stop] for name, table in tables.items()}
            self._planned.append(self._biased(replace(draft, heights=heights, tables=own), settings))

    def _biased(self, planned: _Planned, settings: Settings) -> _Planned:
        """Add to tables for a bias of 1 V and no body of the tip what both of them do."""
        given = planned.motion.bias
        bias = np.full(len(planned.apexes), settings.signals["bias"]) if given is None else given
        tables = dict(planned.tables) | {CURRENT.name: planned.tables[CURRENT.name] * bias}
        if self._realism.tip_radius:
            cantilever = self._imaging_of(planned.apexes[0]).cantilever
            shift, force = body_force(planned.heights / ANGSTROM, bias, self._realism, cantilever)
            tables[FREQUENCY_SHIFT.name] = tables[FREQUENCY_SHIFT.name] + shift
            tables[FORCE_Z.name] = tables[FORCE_Z.name] + force
        return replace(planned, tables=tables)

    def _range(
        self, positions: np.ndarray, jumps: np.ndarray, follows: bool, condition: Condition, settings: Settings
    ) -> tuple[float, float]:
        """Lowest and highest height, in m, at which something may be measured."""
        if follows:
            points = positions[:, :2] / ANGSTROM
            ground = self._imaging_of(condition.apex).surface.ground(points)
            assert condition.controller is not None
            low = float(ground.min()) + settings.lowest / ANGSTROM
            high = max(float(condition.controller.z), float(ground.max())) + _HEADROOM
        else:
            z = (positions[:, 2] - jumps) / ANGSTROM
            low, high = float(z.min()), float(z.max())
        # Ranges of few different widths are compiled only once.
        bottom = math.floor((low - _MARGIN) / _RANGE_STEP) * _RANGE_STEP
        top = bottom + math.ceil((high + _MARGIN - bottom) / _RANGE_STEP) * _RANGE_STEP
        return bottom * ANGSTROM, top * ANGSTROM

    # ------------------------------------------------------------------ when its time has come

    def _sample(self, planned: _Planned, condition: Condition, settings: Settings, key: tuple[int, int]) -> Sampled:
        """Measure with the tip at given heights."""
        motion = planned.motion
        assert motion.z is not None
        gaps = planned.positions[:, 2] - _jumps(planned)
        values = self._at(planned, gaps)
        values[Z.name] = motion.z
        shift, loop = self._detected(values[FREQUENCY_SHIFT.name], planned, condition, key)
        values[FREQUENCY_SHIFT.name] = shift
        values[CURRENT.name] = values[CURRENT.name] + self._current_noise(len(gaps), motion.interval, key)
        ground = self._imaging_of(planned.apexes[0]).surface.ground(planned.positions[:, :2] / ANGSTROM) * ANGSTROM
        return self._sampled(
            planned, values, replace(condition, loop=loop), crashed=bool((gaps < ground + settings.lowest).any())
        )

    def _follow(self, planned: _Planned, condition: Condition, settings: Settings, key: tuple[int, int]) -> Sampled:
        """Measure with the tip where the z-controller brings it."""
        motion, realism = planned.motion, self._realism
        assert settings.mode is not None
        assert condition.controller is not None
        channel = CONTROLLED[settings.mode]
        is_shift = channel == FREQUENCY_SHIFT.name
        bandwidth = realism.pll_bandwidth if is_shift and realism.pll_bandwidth else math.inf
        substeps = resolving_substeps(motion.interval, bandwidth, *_SUBSTEPS)
        step = motion.interval / substeps
        offsets = planned.positions[:, 2] - _jumps(planned)
        count = len(offsets) * substeps
        noise = self._shift_noise(planned, count, step, key) if is_shift else self._current_noise(count, step, key)
        surface = self._imaging_of(planned.apexes[0]).surface
        ground = surface.ground(planned.positions[:, :2] / ANGSTROM)
        trace, controller = follow_trace(
            controller_of(
                settings.mode,
                settings.signals,
                bandwidth,
                realism.slew or math.inf,
                (settings.lowest + float(ground.min()) * ANGSTROM - 1e-9, settings.highest),
            ),
            planned.tables[channel],
            planned.heights / ANGSTROM,
            step,
            condition.controller,
            substeps=substeps,
            noise=noise,
            disturbance=np.repeat(offsets, substeps) / ANGSTROM,
            contact=ground + settings.lowest / ANGSTROM,
        )
        z = np.asarray(trace.z, float) * ANGSTROM
        values = self._at(planned, z + offsets)
        values[Z.name] = z
        if is_shift:
            values[CURRENT.name] = values[CURRENT.name] + self._current_noise(len(z), motion.interval, key)
        else:
            shift, loop = self._detected(values[FREQUENCY_SHIFT.name], planned, condition, key)
            values[FREQUENCY_SHIFT.name] = shift
            condition = replace(condition, loop=loop)
        values[channel] = np.asarray(trace.signal, float)
        state = ControllerState(float(controller.z), float(controller.integral), float(controller.filtered))
        return self._sampled(
            planned,
            values,
            replace(condition, controller=state),
            crashed=bool(np.asarray(trace.crashed).any()),
            out_of_reach=bool(np.asarray(trace.out_of_reach).any()),
        )

    def _sampled(
        self, planned: _Planned, values: Mapping[str, np.ndarray], condition: Condition, **flags: bool
    ) -> Sampled:
        motion = planned.motion
        recorded = {name: motion.recorded(series) for name, series in values.items()}
        end = (float(motion.x[-1]), float(motion.y[-1]), float(values[Z.name][-1]))
        return Sampled(recorded, end, condition, **flags)

    def _at(self, planned: _Planned, heights: np.ndarray) -> dict[str, np.ndarray]:
        """Look up all channels at the height (m) of each sample."""
        levels = planned.heights / ANGSTROM
        inside = np.clip(heights / ANGSTROM, levels[-1], levels[0])
        weights = interpolation_weights(inside, levels).T
        values = {
            name: (weights * table).sum(axis=0) for name, table in planned.tables.items() if name != CONVERGED.name
        }
        # Between two heights it has converged when it has at all that it was interpolated from.
        lost = (weights != 0) & (planned.tables[CONVERGED.name] == 0)
        values[CONVERGED.name] = 1.0 - lost.any(axis=0)
        return values

    # ------------------------------------------------------------------ noise and filters

    def _detected(
        self, shift: np.ndarray, planned: _Planned, condition: Condition, key: tuple[int, int]
    ) -> tuple[np.ndarray, jax.Array | None]:
        """Return what the detector makes of a frequency shift, and its state afterwards."""
        interval, bandwidth = planned.motion.interval, self._realism.pll_bandwidth
        substeps = resolving_substeps(interval, bandwidth, 1, _SUBSTEPS[1]) if bandwidth else 1
        count = len(shift) * substeps
        series = np.repeat(shift, substeps) + self._shift_noise(planned, count, interval / substeps, key)
        loop = condition.loop
        if bandwidth:
            detector = phase_locked_loop(bandwidth, interval / substeps)
            filtered, loop = detector.apply(series, detector.settled(series[0]) if loop is None else loop)
            series = np.asarray(filtered, float)
        return series.reshape(len(shift), substeps).mean(axis=1), loop

    def _shift_noise(self, planned: _Planned, count: int, interval: float, key: tuple[int, int]) -> np.ndarray:
        """Noise (n,) of the frequency shift before any filter, in Hz."""
        realism = self._realism
        noise = np.zeros(count)
        thermal = self._thermal(planned.apexes[0])
        if thermal is not None:
            noise += np.asarray(thermal.series(self._body.noise_key(*key), count, interval), float)
        start = planned.start + planned.motion.lead
        times = interval * (np.arange(count) + 1)
        if realism.flicker:
            noise += np.asarray(self._body.flicker.at(times, start), float)
        if any(realism.hum):
            noise += np.asarray(self._body.hum.at(times, start), float)
        return noise

    def _thermal(self, apex: Apex) -> FrequencyNoise | None:
        realism = self._realism
        if not (realism.temperature or realism.detector_noise):
            return None
        cantilever = self._imaging_of(apex).cantilever
        return frequency_noise(cantilever, realism.quality, realism.temperature, realism.detector_noise / ANGSTROM)

    def _current_noise(self, count: int, interval: float, key: tuple[int, int]) -> np.ndarray:
        """White noise (n,) of the current, in A, averaged over each interval."""
        deviation = self._realism.current_noise * math.sqrt(1 / (2 * interval))
        return (
            np.random.default_rng((self._seed, *key)).normal(scale=deviation, size=count)
            if deviation
            else np.zeros(count)
        )


def _jumps(planned: _Planned) -> np.ndarray:
    return np.array([apex.jump for apex in planned.apexes]) * ANGSTROM


def _filled_up(positions: np.ndarray) -> np.ndarray:
    """Repeat the last position until there are 2, 4, 8, ...: few different shapes are compiled."""
    missing = (1 << (len(positions) - 1).bit_length()) - len(positions)
    return np.concatenate([positions, np.repeat(positions[-1:], missing, axis=0)])
