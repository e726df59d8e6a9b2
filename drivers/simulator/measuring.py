"""Measuring with an imperfect microscope: each trace where the tip really is, with noise, filters and feedback."""

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from twinscope.drivers.common.motion import Motion
from twinscope.drivers.common.realism import Realism
from twinscope.drivers.common.units import ANGSTROM
from twinscope.drivers.simulator.body_force import body_force
from twinscope.drivers.simulator.condition import Apex, Body, Condition
from twinscope.drivers.simulator.detection import Detector
from twinscope.drivers.simulator.imaging import CURRENT, FREQUENCY_SHIFT, Z
from twinscope.drivers.simulator.rendering import Planned, Renderer
from twinscope.drivers.simulator.signals import CONTROLLED, controller_of, loop_steps
from twinscope.drivers.simulator.specimen import Specimen
from twinscope.kernels import ControllerState, follow_trace

# Positions rendered together: one tile of the kernels.
_BLOCK = 4096
# The z-controller can push the tip so far (m) below the height at which it touches the sample.
_INTO_SAMPLE = 1e-9


@dataclass(frozen=True)
class Settings:
    """How the instrument is set during an acquisition.

    Attributes
    ----------
    signals
        Value of each signal that can be set.
    mode
        What the z-controller holds constant; None when it is off.
    highest
        z, in m.
    """

    signals: Mapping[str, float]
    mode: str | None
    highest: float


@dataclass(frozen=True)
class Sampled:
    """What one trace gave.

    Attributes
    ----------
    values
        By the name of the channel, in the order of recording, each (n,).
    felt
        Frequency shift and current at the end, by name.
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
    felt: Mapping[str, float]
    end: tuple[float, float, float]
    condition: Condition
    crashed: bool = False
    out_of_reach: bool = False


class Measuring:
    """Measures the traces of one acquisition after the other.

    Traces are rendered in blocks, ahead of their time, as if nothing came in between; when something does, a pause for
    example, the rest of the block is rendered again.

    Parameters
    ----------
    specimen
        What is under the tip.
    body
        Where the tip is.
    realism
        What is imperfect.
    seed
        Of all noise.
    """

    def __init__(self, specimen: Specimen, body: Body, realism: Realism, seed: int) -> None:
        self._arguments = (specimen, body, realism, seed)
        self._renderer = Renderer(specimen, body, realism)
        self._detector = Detector(realism, body, specimen.cantilever, seed)
        self._specimen = specimen
        self._realism = realism
        self._planned: deque[Planned] = deque()
        self._most = _BLOCK

    def anew(self) -> "Measuring":
        """Return another one that has measured nothing yet, and shares nothing that changes with this one."""
        return Measuring(*self._arguments)

    def forget(self, *, crashed: bool = False) -> None:
        """Forget what was rendered ahead: something else happens.

        After a crash it probably crashes again, with another tip each time: less is rendered ahead until it does not.
        """
        self._planned.clear()
        self._most = 1 if crashed else _BLOCK

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
        if not (self._planned and _fits(self._planned[0], number, start, condition)):
            bias = settings.signals["bias"]
            self._planned = deque(self._renderer.plan(number, motions, start, condition, bias, self._most))
            self._most = min(4 * self._most, _BLOCK)
        planned = self._planned.popleft()
        condition = replace(planned.after, loop=condition.loop, controller=condition.controller)
        if planned.motion.lead * self._realism.pll_bandwidth > 1:
            # On the way to the first sample the phase-locked loop has settled.
            condition = replace(condition, loop=None)
        key = (acquisition, number)
        if planned.motion.z is None:
            return self._follow(planned, condition, settings, key)
        return self._sample(planned, condition, key)

    def felt(self, place: np.ndarray, apex: Apex, bias: float) -> Mapping[str, float]:
        """Return frequency shift and current, without noise, of a tip that really is at a place (3,), in m."""
        names = (FREQUENCY_SHIFT.name, CURRENT.name)
        points, gap = place[None, :2], place[2:] - apex.jump * ANGSTROM
        values = self._specimen.imaging(apex.tip, bias).measure(points, gap, names)[:, 0, 0]
        if self._realism.tip_radius:
            ground = self._specimen.ground(points) / ANGSTROM
            cantilever = self._specimen.cantilever
            shift, _ = body_force(gap / ANGSTROM, ground, np.array([bias]), self._realism, cantilever)
            values[0] += shift[0, 0]
        return dict(zip(names, values.tolist(), strict=True))

    def _sample(self, planned: Planned, condition: Condition, key: tuple[int, int]) -> Sampled:
        """Measure with the tip at given heights."""
        motion = planned.motion
        assert motion.z is not None
        values = planned.at(planned.lift)
        values[Z.name] = motion.z
        condition = self._detect(values, planned, condition, key)
        values[CURRENT.name] = values[CURRENT.name] + self._current_noise(planned, key)
        touches = self._specimen.touches(planned.positions[:, :2], planned.lift)
        return _sampled(planned, values, condition, crashed=touches)

    def _follow(self, planned: Planned, condition: Condition, settings: Settings, key: tuple[int, int]) -> Sampled:
        """Measure with the tip where the z-controller brings it."""
        assert settings.mode is not None
        assert condition.controller is not None
        channel = CONTROLLED[settings.mode]
        is_shift = channel == FREQUENCY_SHIFT.name
        bandwidth = (self._realism.pll_bandwidth or math.inf) if is_shift else math.inf
        interval, lowest = planned.motion.interval, self._specimen.lowest_height
        substeps, step = loop_steps(settings.mode, settings.signals, interval, bandwidth)
        deepest = float((planned.ground * ANGSTROM - planned.lift).min()) + lowest - _INTO_SAMPLE
        reach = (min(deepest, settings.highest - _INTO_SAMPLE), settings.highest)
        slew = self._realism.slew or math.inf
        trace, controller = follow_trace(
            controller_of(settings.mode, settings.signals, bandwidth, slew, reach),
            planned.tables[channel],
            planned.heights,
            step,
            _lifted(condition.controller, planned.motion.lift / ANGSTROM),
            substeps=substeps,
            noise=self._loop_noise(planned, substeps, step, key, is_shift=is_shift),
            disturbance=np.repeat(planned.lift, substeps) / ANGSTROM,
            contact=planned.ground + lowest / ANGSTROM,
        )
        z = np.asarray(trace.z, float) * ANGSTROM
        values = planned.at(z + planned.lift)
        values[Z.name] = z
        if is_shift:
            values[CURRENT.name] = values[CURRENT.name] + self._current_noise(planned, key)
        else:
            condition = self._detect(values, planned, condition, key)
        values[channel] = np.asarray(trace.signal, float)
        state = ControllerState(float(controller.z), float(controller.integral), float(controller.filtered))
        return _sampled(
            planned,
            values,
            replace(condition, controller=state),
            crashed=bool(np.asarray(trace.crashed).any()),
            out_of_reach=bool(np.asarray(trace.out_of_reach).any()),
        )

    def _detect(
        self, values: dict[str, np.ndarray], planned: Planned, condition: Condition, key: tuple[int, int]
    ) -> Condition:
        """Put what is measured in the place of the frequency shift."""
        begin, interval = planned.start + planned.motion.lead, planned.motion.interval
        values[FREQUENCY_SHIFT.name], loop = self._detector.detected(
            values[FREQUENCY_SHIFT.name], interval, begin, condition.loop, key
        )
        return replace(condition, loop=loop)

    def _current_noise(self, planned: Planned, key: tuple[int, int]) -> np.ndarray:
        return self._detector.current_noise(len(planned.apexes), planned.motion.interval, key)

    def _loop_noise(
        self, planned: Planned, substeps: int, step: float, key: tuple[int, int], *, is_shift: bool
    ) -> np.ndarray:
        """Noise of what the z-controller acts on, in each of its steps."""
        count = len(planned.apexes) * substeps
        if not is_shift:
            return self._detector.current_noise(count, step, key)
        return self._detector.shift_noise(count, step, planned.start + planned.motion.lead, key)


def _fits(planned: Planned, number: int, start: float, condition: Condition) -> bool:
    """Whether a trace was planned for what is so now."""
    return planned.number == number and planned.start == start and planned.before.apex == condition.apex


def _lifted(controller: ControllerState, lift: float) -> ControllerState:
    return ControllerState(controller.z + lift, controller.integral + lift, controller.filtered) if lift else controller


def _sampled(planned: Planned, values: Mapping[str, np.ndarray], condition: Condition, **flags: bool) -> Sampled:
    motion = planned.motion
    recorded = {name: motion.recorded(series) for name, series in values.items()}
    felt = {name: float(values[name][-1]) for name in (FREQUENCY_SHIFT.name, CURRENT.name)}
    return Sampled(
        recorded, felt, (float(motion.x[-1]), float(motion.y[-1]), float(values[Z.name][-1])), condition, **flags
    )
