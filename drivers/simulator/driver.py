"""The simulator as a driver."""

import logging
import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np

from twinscope._version import __version__
from twinscope.capabilities import Capabilities, Limits
from twinscope.clock import Clock
from twinscope.drivers.base import TraceSink
from twinscope.drivers.simulator import jax_setup
from twinscope.drivers.simulator.condition import Apex, Body
from twinscope.drivers.simulator.exact import Measured, add_noise, exact_traces, is_exact
from twinscope.drivers.simulator.imaging import CHANNELS, CONVERGED, CURRENT, FREQUENCY_SHIFT, Imaging
from twinscope.drivers.simulator.measuring import Measuring, Settings
from twinscope.drivers.simulator.motion import Motion, motion_of
from twinscope.drivers.simulator.options import SimulatorOptions
from twinscope.drivers.simulator.realism import realism_from_option
from twinscope.drivers.simulator.sample import load_sample
from twinscope.drivers.simulator.signals import DEFAULTS, LIMITS, SIGNALS
from twinscope.drivers.simulator.surface import Surface
from twinscope.drivers.simulator.tips import TIPS, tip_from_option
from twinscope.drivers.simulator.truth import truth
from twinscope.drivers.simulator.units import ANGSTROM
from twinscope.drivers.simulator.world import World
from twinscope.drivers.simulator.world_options import WorldOptions
from twinscope.errors import DriverError
from twinscope.kernels import Cantilever, ControllerState, Tip, recovery_probability
from twinscope.requests import (
    CONSTANT_HEIGHT,
    Z_MODES,
    AcquisitionRequest,
    PathRequest,
    ScanRequest,
    SpectroscopyRequest,
    setpoint_of,
)
from twinscope.state import FEEDBACK_OFF, Position, Reading, TipState

log = logging.getLogger(__name__)

# Live signals are measured again when they are older than this, in s of instrument time.
_STALE = 1.0
# A realtime instrument that was left alone for longer than this, in s, has lived on meanwhile.
_LEFT_ALONE = 1.0
# With the z-controller on, the tip is followed from place to place on its way, and for a while at its end.
_WAY_STEP = 1e-10
_MOST_STEPS = 512
_SETTLE_TIME = 0.5
_SETTLE_SAMPLES = 64
# Acquisitions have the numbers 1, 2, ...; the noise of all other motions comes from numbers that those never reach.
_OTHER_MOTIONS = 2**31
# Pulses change the tip from about this voltage on: with 63 % at it.
_CHANGING_VOLTAGE = 5.0


@dataclass
class _Acquisition:
    """What is being acquired."""

    request: AcquisitionRequest
    sink: TraceSink
    number: int
    exact: Iterator[Measured] | None
    height: float
    index: int = 0
    unconverged: int = 0
    crashes: int = 0
    out_of_reach: int = 0


class Simulator:
    """A simulated non-contact AFM and STM; see :class:`~twinscope.drivers.base.Driver` for the methods.

    Parameters
    ----------
    options
        The fields of :class:`~twinscope.drivers.simulator.options.SimulatorOptions`.

    Raises
    ------
    ConfigurationError
        When an option or the sample is wrong.
    """

    name: ClassVar[str] = "simulator"
    vendor: ClassVar[str] = "twinscope"
    summary: ClassVar[str] = "digital twin: non-contact AFM and STM with a probe-particle tip, in JAX"

    def __init__(self, **options: Any) -> None:
        self.options = SimulatorOptions.from_keywords(options)
        self.realism = realism_from_option(self.options.realism)
        self._clock = Clock.parse(self.options.clock)
        self._intact = tip_from_option(self.options.tip)
        self._surfaces: dict[int | str, Surface] = {}
        self._surface = self._surface_under(self._intact)
        self._signals = dict(DEFAULTS) | {"bias": self.options.bias}
        self._mode = FEEDBACK_OFF
        self._position = Position(0.0, 0.0, self.options.working_height)
        self._body = Body(self.realism, self.options.seed, self._reach, self._intact, TIPS["Cu"])
        self._condition = self._body.fresh(self._intact, np.array(_coordinates(self._position)))
        self._measuring = Measuring(self._imaging_of, self._body, self.realism, self.options.seed)
        self._crashed = False
        self._live: tuple[float, Mapping[str, float]] | None = None
        self._stop = threading.Event()
        self._acquisition: _Acquisition | None = None
        self._acquisitions = 0
        self._motions = 0

    # ------------------------------------------------------------------ life

    def open(self) -> None:
        """Compile the kernels for the shapes of an ordinary scan."""
        jax_setup.keep_compiled_code()
        # One block of lines and one single point: the two shapes that scans and spectra mostly have.
        heights = np.array([self.options.lowest_height])
        for count in (4096, 1):
            self._imaging_of(self._condition.apex).measure(np.zeros((count, 2)), heights, (FREQUENCY_SHIFT.name,))

    def close(self) -> None:
        """Forget the acquisition in progress."""
        self._acquisition = None

    def capabilities(self) -> Capabilities:
        """Tell what the twin can do."""
        options = self.options
        reach = self._reach
        return Capabilities(
            instrument=f"simulated nc-AFM over {self._surface.name}",
            driver=self.name,
            driver_version=__version__,
            simulated=True,
            channels=CHANNELS,
            limits={
                "x": Limits(-reach, reach, "m"),
                "y": Limits(-reach, reach, "m"),
                "z": Limits(self._lowest, options.withdrawn_height, "m"),
                "speed": Limits(1e-12, max(options.lateral_speed, options.vertical_speed), "m/s"),
                "pulse_voltage": Limits(-10.0, 10.0, "V"),
                "pulse_duration": Limits(1e-4, 1.0, "s"),
                "tip_shaping_depth": Limits(1e-11, 5e-9, "m"),
                "tip_shaping_voltage": Limits(-10.0, 10.0, "V"),
                **LIMITS,
            },
            scan_modes=Z_MODES,
            sweeps=("z", "bias"),
            largest_acquisition=options.largest_acquisition,
            settings={
                **asdict(options),
                "realism": self.realism.to_dict(),
                "sample": self._surface.name,
                "sample_source": self._surface.source,
                "atoms": self._surface.atom_count,
                "tip_model": asdict(self._intact),
                "warnings": list(self._surface.warnings),
            },
            signals=SIGNALS,
            features=("pulse", "tip_shaping", *(("oracle",) if options.oracle else ())),
        )

    # ------------------------------------------------------------------ looking and setting

    def read(self) -> Reading:
        """Tell the time, where the tip was sent, and what it feels there."""
        withdrawn = self._position.z >= self.options.withdrawn_height
        tip = TipState.WITHDRAWN if withdrawn else TipState.CRASHED if self._crashed else TipState.IN_RANGE
        return Reading(self._clock.now, self._position, tip, self._signals | dict(self._felt()), self._mode)

    def write(self, name: str, value: float, rate: float | None = None) -> None:
        """Set a signal; with a rate it takes its time."""
        self._stop.clear()
        before = self._signals[name]
        done = 1.0 if rate is None else self._clock.spend(abs(value - before) / rate, self._stop)
        self._signals[name] = value if done == 1 else before + done * (value - before)
        self._changed()
        if self._mode != FEEDBACK_OFF:
            self._settle()

    def set_feedback(self, mode: str) -> None:
        """Switch the z-controller."""
        self._stop.clear()
        self._mode = mode
        if mode == FEEDBACK_OFF:
            self._condition = replace(self._condition, controller=None)
            return
        # It starts where the tip is, with the setpoint in its filter: no jump.
        holding = ControllerState.holding(self._position.z / ANGSTROM, self._signals[setpoint_of(mode)])
        self._condition = replace(self._condition, controller=holding)
        self._settle()

    def truth(self, low: tuple[float, float], high: tuple[float, float]) -> dict[str, Any]:
        """Tell what is really there, where the tip really is, and what it has become."""
        x, y, z = (np.array([value]) for value in _coordinates(self._position))
        motion = Motion(x, y, z, None, 0.0)
        reached, _ = self._body.follow(motion, self._clock.now, self._condition)
        apex = self._condition.apex
        return truth(self._surface, *low, *high) | {
            "tip": asdict(apex.tip) | {"jump": apex.jump * ANGSTROM, "changes": apex.changes, "lost": apex.lost},
            "position": dict(zip(("x", "y", "z"), reached[0].tolist(), strict=True)),
        }

    # ------------------------------------------------------------------ moving

    def move_to(self, x: float, y: float, z: float, speed: float | None = None) -> None:
        """Move along a straight line, as long as the speeds ask for."""
        self._stop.clear()
        self._travel(Position(x, y, z), speed)

    def withdraw(self) -> None:
        """Switch the z-controller off and move straight up to the withdrawn height."""
        self.set_feedback(FEEDBACK_OFF)
        self.move_to(self._position.x, self._position.y, self.options.withdrawn_height)
        self._crashed = False

    def approach(self) -> None:
        """Move straight down to the working height above what is under the tip."""
        self.set_feedback(FEEDBACK_OFF)
        here = np.array([[self._position.x, self._position.y]]) / ANGSTROM
        ground = float(self._surface.ground(here)[0]) * ANGSTROM
        self._body.disturbed = self._clock.now
        self.move_to(self._position.x, self._position.y, self.options.working_height + ground)

    def pulse(self, voltage: float, duration: float) -> None:
        """Apply a pulse, which may mend the tip or change it."""
        self._stop.clear()
        self._clock.spend(duration, self._stop)
        mended = recovery_probability(0.0, voltage)
        self._try_luck(mended, mended + (1 - mended) * -math.expm1(-((voltage / _CHANGING_VOLTAGE) ** 4)))

    def shape_tip(self, depth: float, voltage: float) -> None:
        """Dip the tip, which mends it or changes it."""
        self._stop.clear()
        self._clock.spend(2 * depth / self.options.vertical_speed, self._stop)
        self._try_luck(recovery_probability(depth / ANGSTROM, voltage), 1.0)
        self._crashed = False

    def stop(self) -> None:
        """Stop after the time step in progress."""
        self._stop.set()

    # ------------------------------------------------------------------ acquiring

    def start_scan(self, request: ScanRequest, sink: TraceSink) -> None:
        """Move to the first pixel and begin."""
        self._start(request, sink)

    def start_path(self, request: PathRequest, sink: TraceSink) -> None:
        """Move to the first point and begin."""
        self._start(request, sink)

    def start_spectroscopy(self, request: SpectroscopyRequest, sink: TraceSink) -> None:
        """Move to the first position and begin."""
        self._start(request, sink)

    def poll(self) -> bool:
        """Measure the next trace."""
        acquisition = self._acquisition
        if acquisition is None:
            raise DriverError("there is no acquisition to carry on: start one")
        over = self._stop.is_set() or acquisition.index == acquisition.request.trace_count
        if over or not (self._measure_exactly if acquisition.exact else self._measure)(acquisition):
            self._finish(acquisition)
            return False
        return True

    def _start(self, request: AcquisitionRequest, sink: TraceSink) -> None:
        self._stop.clear()
        height = self._position.z
        motion = motion_of(request, 0, height, self.options.vertical_speed)
        if not isinstance(request, SpectroscopyRequest) and request.z_mode != CONSTANT_HEIGHT:
            if request.setpoint is not None:
                self._signals[setpoint_of(request.z_mode)] = request.setpoint
            self.set_feedback(request.z_mode)
        elif self._mode != FEEDBACK_OFF:
            self.set_feedback(FEEDBACK_OFF)
        first = Position(float(motion.x[0]), float(motion.y[0]), height if motion.z is None else float(motion.z[0]))
        self._travel(first)
        self._acquisitions += 1
        self._measuring.forget()
        apex = self._condition.apex
        exact = None
        if self.realism.is_clean and is_exact(request) and not apex.jump:
            exact = exact_traces(request, self._imaging_of(apex), height, self.options.vertical_speed)
        self._acquisition = _Acquisition(request, sink, self._acquisitions, exact, height)
        for warning in self._surface.warnings:
            sink.warn(warning)

    def _measure_exactly(self, acquisition: _Acquisition) -> bool:
        assert acquisition.exact is not None
        measured = next(acquisition.exact)
        if self._clock.spend(measured.duration, self._stop) < 1:
            return False
        self._position = Position(*measured.end)
        acquisition.unconverged += measured.unconverged
        self._changed()
        self._hand_over(acquisition, measured.trace)
        return True

    def _measure(self, acquisition: _Acquisition) -> bool:
        request, height = acquisition.request, acquisition.height
        if self._clock.behind > _LEFT_ALONE:
            self._clock.catch_up()

        def motion(trace: int) -> Motion | None:
            if trace >= request.trace_count:
                return None
            return motion_of(request, trace, height, self.options.vertical_speed)

        current = motion(acquisition.index)
        assert current is not None
        sampled = self._measuring.measure(
            acquisition.index, motion, self._clock.now, self._condition, self._settings(), acquisition.number
        )
        if self._clock.spend(current.duration, self._stop) < 1:
            return False
        self._position, self._condition = Position(*sampled.end), sampled.condition
        acquisition.unconverged += int((sampled.values[CONVERGED.name] == 0).sum())
        acquisition.out_of_reach += sampled.out_of_reach
        self._changed({name: float(sampled.values[name][-1]) for name in (FREQUENCY_SHIFT.name, CURRENT.name)})
        self._hand_over(acquisition, np.stack([sampled.values[name] for name in request.channels]))
        if sampled.crashed:
            acquisition.crashes += 1
            self._crash()
        return True

    def _hand_over(self, acquisition: _Acquisition, trace: np.ndarray) -> None:
        seed = (self.options.seed, acquisition.number, acquisition.index)
        noisy = add_noise(trace, acquisition.request.channels, self.options.noise, seed)
        acquisition.sink.write(acquisition.index, noisy[None])
        acquisition.index += 1

    def _finish(self, acquisition: _Acquisition) -> None:
        counts = {
            "the probe relaxation did not converge at {} points: see `converged`": acquisition.unconverged,
            "the tip touched the sample in {} traces, and has changed": acquisition.crashes,
            "the z-controller came to the end of its range in {} traces": acquisition.out_of_reach,
        }
        for text, count in counts.items():
            if count:
                acquisition.sink.warn(text.format(count))
        self._acquisition = None

    # ------------------------------------------------------------------ inside

    @property
    def _reach(self) -> float:
        surface = self._surface
        return surface.options.size / 2 if isinstance(surface, World) else self.options.lateral_range

    @property
    def _lowest(self) -> float:
        """The lowest z, in m: over lower terraces than the reference there is room."""
        depth = self.options.terrace_depth if isinstance(self._surface, World) else 0.0
        return self.options.lowest_height - depth

    def _surface_under(self, tip: Tip) -> Surface:
        """Return the surface, whose metal feels the element of the probe."""
        if tip.element not in self._surfaces:
            self._surfaces[tip.element] = _surface(self.options, tip)
        return self._surfaces[tip.element]

    def _imaging_of(self, apex: Apex) -> Imaging:
        options = self.options
        cantilever = Cantilever(options.resonance_frequency, options.spring_constant, options.amplitude / ANGSTROM)
        return Imaging(self._surface_under(apex.tip), apex.tip, cantilever, self._signals["bias"])

    def _settings(self) -> Settings:
        mode = None if self._mode == FEEDBACK_OFF else self._mode
        return Settings(self._signals, mode, self.options.lowest_height, self.options.withdrawn_height)

    def _felt(self) -> Mapping[str, float]:
        """Frequency shift and current where the tip is."""
        if self._live is None or self._clock.now - self._live[0] > _STALE:
            names = (FREQUENCY_SHIFT.name, CURRENT.name)
            here = np.array([[self._position.x, self._position.y]])
            values = self._imaging_of(self._condition.apex).measure(here, np.array([self._position.z]), names)
            self._live = self._clock.now, dict(zip(names, values[:, 0, 0].tolist(), strict=True))
        return self._live[1]

    def _changed(self, felt: Mapping[str, float] | None = None) -> None:
        """Note that what the tip feels is something else now."""
        self._live = None if felt is None else (self._clock.now, felt)

    def _travel(self, target: Position, speed: float | None = None) -> None:
        """Spend the time that a move takes; a stop leaves the tip on the way. It is never lower than at the ends."""
        start = self._position
        lateral = math.hypot(target.x - start.x, target.y - start.y)
        vertical = abs(target.z - start.z)
        duration = max(lateral / self.options.lateral_speed, vertical / self.options.vertical_speed)
        if speed is not None:
            duration = max(duration, math.hypot(lateral, vertical) / speed)
        if self._clock.behind > _LEFT_ALONE:
            self._clock.catch_up()
        begin = self._clock.now
        done = self._clock.spend(duration, self._stop)
        if done < 1:
            log.info("a move was stopped after %.0f %% of the way", 100 * done)
        x, y, z = (a + done * (b - a) for a, b in zip(_coordinates(start), _coordinates(target), strict=True))
        self._arrive(start, target if done == 1 else Position(x, y, z), begin, max(done * duration, 1e-6))

    def _arrive(self, start: Position, end: Position, begin: float, duration: float) -> None:
        """Let the body follow a straight way, with the z-controller when it is on."""
        length = math.hypot(end.x - start.x, end.y - start.y)
        steps = int(np.clip(math.ceil(length / _WAY_STEP), 1, _MOST_STEPS))
        places = np.arange(1, steps + 1) / steps
        x, y, z = (a + places * (b - a) for a, b in zip(_coordinates(start), _coordinates(end), strict=True))
        self._position = end
        self._changed()
        if self._mode == FEEDBACK_OFF:
            motion = Motion(x, y, z, None, duration / steps)
            reached, self._condition = self._body.follow(motion, begin, self._condition)
            ground = self._surface.ground(reached[:, :2] / ANGSTROM) * ANGSTROM
            if (
                reached[:, 2] - self._condition.apex.jump * ANGSTROM < ground + 0.999 * self.options.lowest_height
            ).any():
                self._crash()
        else:
            self._follow(Motion(x, y, None, None, duration / steps), begin)
            self._settle()

    def _settle(self) -> None:
        """Give the z-controller time where the tip is."""
        begin = self._clock.now
        self._clock.spend(_SETTLE_TIME, self._stop)
        here = np.ones(_SETTLE_SAMPLES)
        self._follow(
            Motion(self._position.x * here, self._position.y * here, None, None, _SETTLE_TIME / _SETTLE_SAMPLES), begin
        )

    def _follow(self, motion: Motion, begin: float) -> None:
        self._motions += 1
        self._measuring.forget()
        sampled = self._measuring.measure(
            0,
            lambda trace: motion if trace == 0 else None,
            begin,
            self._condition,
            self._settings(),
            _OTHER_MOTIONS + self._motions,
        )
        self._position, self._condition = Position(*sampled.end), sampled.condition
        self._changed({name: float(sampled.values[name][-1]) for name in (FREQUENCY_SHIFT.name, CURRENT.name)})
        if sampled.crashed:
            self._crash()

    def _crash(self) -> None:
        """Let the tip become another one, as it has touched the sample."""
        log.warning("the tip touched the sample at %s", self._position)
        self._crashed = True
        self._condition = replace(self._condition, apex=self._body.changed(self._condition.apex))
        self._measuring.forget()

    def _try_luck(self, mended: float, changed: float) -> None:
        """Mend the tip, change it or leave it, with the chances `mended`, `changed` - `mended` and the rest."""
        self._motions += 1
        apex = self._condition.apex
        luck = self._body.chance(apex, self._motions)
        if luck < mended:
            # Shaping does not give back what was lost of the tip's length.
            apex = replace(apex, tip=self._intact, changes=apex.changes + 1, lost=False)
        elif luck < changed:
            apex = self._body.changed(apex)
        self._condition = replace(self._condition, apex=apex)
        self._changed()


def _surface(options: SimulatorOptions, tip: Tip) -> Surface:
    if options.world is not None:
        return World(WorldOptions.from_mapping(options.world), tip, options.seed)
    sample = "pentacene" if options.sample is None else options.sample
    return load_sample(sample, tip, options.orientation, options.surface, options.surface_distance / ANGSTROM)


def _coordinates(position: Position) -> tuple[float, float, float]:
    return position.x, position.y, position.z
