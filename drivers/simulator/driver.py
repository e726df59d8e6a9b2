"""The simulator as a driver."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from twinscope import _jax_setup as jax_setup
from twinscope.capabilities import ACQUISITIONS, Capabilities
from twinscope.drivers.base import TraceSink
from twinscope.drivers.common.motion import Motion, motion_of
from twinscope.drivers.common.pace import StoppedError
from twinscope.drivers.common.realism import realism_from_option
from twinscope.drivers.common.units import ANGSTROM
from twinscope.drivers.simulator.description import describe
from twinscope.drivers.simulator.exact import Measured, add_noise, exact_traces, is_exact
from twinscope.drivers.simulator.head import Head
from twinscope.drivers.simulator.imaging import CONVERGED, CURRENT, FREQUENCY_SHIFT
from twinscope.drivers.simulator.options import SimulatorOptions
from twinscope.drivers.simulator.truth import truth
from twinscope.errors import DriverError
from twinscope.kernels import recovery_probability
from twinscope.requests import (
    CONSTANT_HEIGHT,
    AcquisitionRequest,
    PathRequest,
    ScanRequest,
    SpectroscopyRequest,
    setpoint_of,
)
from twinscope.state import FEEDBACK_OFF, Position, Reading

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

    def hand_over(self, trace: np.ndarray, options: SimulatorOptions) -> None:
        """Give a trace (channels, n) to who asked for it."""
        noisy = add_noise(trace, self.request.channels, options.noise, (options.seed, self.number, self.index))
        self.sink.write(self.index, noisy[None])
        self.index += 1


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
    api_versions: ClassVar[tuple[int, int]] = (1, 1)
    options_type: ClassVar[type[SimulatorOptions]] = SimulatorOptions
    provides: ClassVar[tuple[str, ...]] = (
        *ACQUISITIONS,
        "sweep_z",
        "sweep_bias",
        "constant_frequency_shift",
        "constant_current",
        "pulse",
        "tip_shaping",
        "tip_exchange",
        "oracle",
    )

    def __init__(self, **options: Any) -> None:
        self.options = SimulatorOptions.from_keywords(options)
        self.realism = realism_from_option(self.options.realism)
        self._head = Head(self.options, self.realism)
        self._acquisition: _Acquisition | None = None
        self._acquisitions = 0
        self._closed = False

    # ------------------------------------------------------------------ life

    def open(self) -> None:
        """Compile the kernels for the shapes of an ordinary scan."""
        jax_setup.keep_compiled_code()
        # One block of lines, and the single point of the live signals: the two shapes that are always needed.
        imaging = self._head.specimen.imaging(self._head.condition.apex.tip, self.options.bias)
        heights = np.array([self.options.lowest_height])
        imaging.measure(np.zeros((4096, 2)), heights, (FREQUENCY_SHIFT.name,))
        imaging.measure(np.zeros((1, 2)), heights, (FREQUENCY_SHIFT.name, CURRENT.name))
        self._closed = False
        self._head.begin()

    def close(self) -> None:
        """Forget the acquisition in progress, and do nothing any more."""
        self._acquisition = None
        self._closed = True

    def capabilities(self) -> Capabilities:
        """Tell what the twin can do."""
        return describe(self.name, self.options, self.realism, self._head)

    # ------------------------------------------------------------------ looking and setting

    def read(self) -> Reading:
        """Tell the time, where the tip was sent, and what it feels there."""
        self._check_open()
        head = self._head
        signals = head.signals | dict(head.felt())
        return Reading(head.clock.now, head.position, head.tip_state, signals, head.mode, head.probe)

    def write(self, name: str, value: float, rate: float | None = None) -> None:
        """Set a signal; with a rate it takes its time. An acquisition in progress goes on with it."""
        self._check_open()
        head = self._head
        if head.controlled:
            head.check_regulable(head.mode, head.signals | {name: value})
        head.begin()
        before = head.signals[name]
        done = 1.0 if rate is None else head.spend(abs(value - before) / rate)
        head.set(name, value if done == 1 else before + done * (value - before))
        if self._acquisition is not None:
            self._acquisition.exact = None
        elif head.controlled:
            head.settle()
        head.leave()

    def set_feedback(self, mode: str) -> None:
        """Switch the z-controller."""
        if mode != FEEDBACK_OFF:
            self._head.check_regulable(mode, self._head.signals)
        self._begin()
        self._head.switch(mode)
        if mode != FEEDBACK_OFF:
            self._head.settle()

    def truth(self, low: tuple[float, float], high: tuple[float, float]) -> dict[str, Any]:
        """Tell what is really there, where the tip really is, and what it has become."""
        head = self._head
        apex = head.condition.apex
        return truth(head.specimen.surface, *low, *high) | {
            "tip": asdict(apex.tip) | {"jump": apex.jump * ANGSTROM, "changes": apex.changes, "lost": apex.lost},
            "position": dict(zip(("x", "y", "z"), head.place.tolist(), strict=True)),
        }

    # ------------------------------------------------------------------ moving

    def move_to(self, x: float, y: float, z: float, speed: float | None = None) -> None:
        """Move along a straight line, as long as the speeds ask for."""
        self._begin()
        self._head.travel(Position(x, y, z), speed)

    def withdraw(self) -> None:
        """Switch the z-controller off and move straight up to the withdrawn height."""
        self._begin()
        self._head.switch(FEEDBACK_OFF)
        self._head.travel(replace(self._head.position, z=self._head.highest))
        self._head.crashed = False

    def approach(self) -> None:
        """Switch the z-controller off and move straight down to the working height above what is under the tip."""
        self._begin()
        self._head.switch(FEEDBACK_OFF)
        self._head.approach()

    def pulse(self, voltage: float, duration: float) -> None:
        """Apply a pulse, which may mend the tip or change it."""
        self._begin()
        self._head.spend(duration)
        mended = recovery_probability(0.0, voltage)
        self._head.try_luck(mended, mended + (1 - mended) * -math.expm1(-((voltage / _CHANGING_VOLTAGE) ** 4)))

    def shape_tip(self, depth: float, voltage: float) -> None:
        """Dip the tip, which mends it or changes it."""
        self._head.check_near("the tip cannot be shaped")
        self._begin()
        self._head.spend(2 * depth / self.options.vertical_speed)
        self._head.try_luck(recovery_probability(depth / ANGSTROM, voltage), 1.0)
        self._head.crashed = False

    def exchange_tip(self, probe: str) -> None:
        """Withdraw, and come back with another probe after the time that it takes."""
        self.withdraw()
        self._head.exchange(probe)

    def stop(self) -> None:
        """Stop after the time step in progress."""
        self._head.interrupt.set()

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
        self._head.resume()
        over = self._head.interrupt.is_set() or acquisition.index == acquisition.request.trace_count
        more = not over and (self._measure_exactly if acquisition.exact else self._measure)(acquisition)
        if not more:
            self._finish(acquisition)
        self._head.leave()
        return more

    def _begin(self) -> None:
        """Begin a command, which ends the acquisition in progress."""
        self._check_open()
        self._acquisition = None
        self._head.begin()

    def _check_open(self) -> None:
        if self._closed:
            raise DriverError("the simulator is closed: open it first")

    def _start(self, request: AcquisitionRequest, sink: TraceSink) -> None:
        head = self._head
        mode = FEEDBACK_OFF
        if not isinstance(request, SpectroscopyRequest) and request.z_mode != CONSTANT_HEIGHT:
            mode = request.z_mode
            head.check_regulable(mode, head.signals)
        self._begin()
        if mode != FEEDBACK_OFF and not isinstance(request, SpectroscopyRequest) and request.setpoint is not None:
            head.set(setpoint_of(mode), request.setpoint)
        head.switch(mode)
        height = head.position.z
        first = motion_of(request, 0, height, head.speeds).first
        head.travel(Position(*first.tolist()) if mode == FEEDBACK_OFF else Position(first[0], first[1], height))
        self._acquisitions += 1
        head.forget()
        apex, exact = head.condition.apex, None
        if self.realism.is_clean and is_exact(request) and not apex.jump:
            imaging = head.specimen.imaging(apex.tip, head.signals["bias"])
            exact = exact_traces(request, imaging, height, head.speeds)
        self._acquisition = _Acquisition(request, sink, self._acquisitions, exact, height)
        for warning in head.specimen.surface.warnings:
            sink.warn(warning)
        head.leave()

    def _measure_exactly(self, acquisition: _Acquisition) -> bool:
        head = self._head
        assert acquisition.exact is not None
        try:
            measured = head.calculate(partial(next, acquisition.exact))
        except StoppedError:
            return False
        if head.spend(measured.motion.duration) < 1:
            return False
        acquisition.unconverged += measured.unconverged
        acquisition.hand_over(measured.trace, self.options)
        if head.pass_over(measured.motion):
            # With another tip from now on.
            acquisition.exact = None
            acquisition.crashes += 1
        return True

    def _measure(self, acquisition: _Acquisition) -> bool:
        head, request = self._head, acquisition.request

        def motions(trace: int) -> Motion | None:
            if trace >= request.trace_count:
                return None
            return motion_of(request, trace, acquisition.height, head.speeds)

        current = motions(acquisition.index)
        assert current is not None
        try:
            sampled = head.sampled(acquisition.index, motions, head.clock.now, acquisition.number)
        except StoppedError:
            return False
        if head.spend(current.duration) < 1:
            return False
        head.arrive(sampled)
        acquisition.unconverged += int((sampled.values[CONVERGED.name] == 0).sum())
        acquisition.out_of_reach += sampled.out_of_reach
        acquisition.crashes += sampled.crashed
        acquisition.hand_over(np.stack([sampled.values[name] for name in request.channels]), self.options)
        return True

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
