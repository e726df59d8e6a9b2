"""The simulator as a driver."""

import logging
import math
import threading
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np

from twinscope._version import __version__
from twinscope.capabilities import Capabilities, Limits
from twinscope.clock import Clock
from twinscope.drivers.base import TraceSink
from twinscope.drivers.simulator import jax_setup
from twinscope.drivers.simulator.acquisition import Measured, add_noise, scan_traces, spectroscopy_traces
from twinscope.drivers.simulator.imaging import CHANNELS, FREQUENCY_SHIFT, Imaging
from twinscope.drivers.simulator.options import SimulatorOptions
from twinscope.drivers.simulator.sample import load_sample
from twinscope.drivers.simulator.tips import tip_from_option
from twinscope.drivers.simulator.units import ANGSTROM
from twinscope.errors import DriverError
from twinscope.kernels import Cantilever
from twinscope.requests import ScanRequest, SpectroscopyRequest
from twinscope.state import Position, TipState

log = logging.getLogger(__name__)


class Simulator:
    """A simulated non-contact AFM; see :class:`~twinscope.drivers.base.Driver` for the methods.

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
    summary: ClassVar[str] = "digital twin: non-contact AFM with a probe-particle tip, in JAX"

    def __init__(self, **options: Any) -> None:
        self.options = SimulatorOptions.from_keywords(options)
        self._clock = Clock.parse(self.options.clock)
        tip = tip_from_option(self.options.tip)
        self._sample = load_sample(
            self.options.sample,
            tip,
            self.options.orientation,
            self.options.surface,
            self.options.surface_distance / ANGSTROM,
        )
        cantilever = Cantilever(
            self.options.resonance_frequency, self.options.spring_constant, self.options.amplitude / ANGSTROM
        )
        self._imaging = Imaging(self._sample, tip, cantilever)
        self._position = Position(0.0, 0.0, self.options.working_height)
        self._stop = threading.Event()
        self._traces: Iterator[Measured] | None = None
        self._sink: TraceSink | None = None
        self._channels: tuple[str, ...] = ()
        self._index = 0
        self._acquisitions = 0
        self._unconverged = 0

    def open(self) -> None:
        """Compile the kernels for the shapes of an ordinary scan."""
        jax_setup.keep_compiled_code()
        # One block of lines and one single point: the two shapes that scans and spectra mostly have.
        heights = np.array([self.options.lowest_height])
        for count in (4096, 1):
            self._imaging.measure(np.zeros((count, 2)), heights, (FREQUENCY_SHIFT.name,))

    def close(self) -> None:
        """Forget the acquisition in progress."""
        self._traces = None

    def capabilities(self) -> Capabilities:
        """Tell what the twin can do."""
        options = self.options
        reach = options.lateral_range
        return Capabilities(
            instrument=f"simulated nc-AFM over {self._sample.name}",
            driver=self.name,
            driver_version=__version__,
            simulated=True,
            channels=CHANNELS,
            limits={
                "x": Limits(-reach, reach, "m"),
                "y": Limits(-reach, reach, "m"),
                "z": Limits(options.lowest_height, options.withdrawn_height, "m"),
            },
            scan_modes=("constant_height",),
            sweeps=("z",),
            largest_acquisition=options.largest_acquisition,
            settings={
                **asdict(options),
                "sample": self._sample.name,
                "sample_source": self._sample.source,
                "atoms": len(self._sample.atoms.numbers),
                "tip_model": asdict(self._imaging.tip),
                "warnings": list(self._sample.warnings),
            },
        )

    @property
    def time(self) -> float:
        """Instrument time, in s."""
        return self._clock.now

    @property
    def position(self) -> Position:
        """Where the tip is."""
        return self._position

    @property
    def tip(self) -> TipState:
        """Whether the tip is near the sample."""
        withdrawn = self._position.z >= self.options.withdrawn_height
        return TipState.WITHDRAWN if withdrawn else TipState.IN_RANGE

    def move_to(self, x: float, y: float, z: float) -> None:
        """Move along a straight line, as long as the speeds ask for."""
        self._stop.clear()
        self._travel(Position(x, y, z))

    def withdraw(self) -> None:
        """Move straight up to the withdrawn height."""
        self.move_to(self._position.x, self._position.y, self.options.withdrawn_height)

    def approach(self) -> None:
        """Move straight down to the working height."""
        self.move_to(self._position.x, self._position.y, self.options.working_height)

    def start_scan(self, request: ScanRequest, sink: TraceSink) -> None:
        """Move to the first pixel and begin."""
        height = self._position.z if request.heights is None else request.heights[0]
        first = request.address(0)
        x, y = request.row_positions(first.row)
        begin = 0 if first.direction == "forward" else -1
        self._start(request.channels, scan_traces(request, self._imaging, height), sink)
        self._travel(Position(float(x[begin]), float(y[begin]), height))

    def start_spectroscopy(self, request: SpectroscopyRequest, sink: TraceSink) -> None:
        """Move to the first position and begin."""
        x, y = request.positions[0]
        self._start(request.channels, spectroscopy_traces(request, self._imaging), sink)
        self._travel(Position(x, y, request.sweep.start))

    def poll(self) -> bool:
        """Measure the next trace."""
        if self._traces is None or self._sink is None:
            raise DriverError("there is no acquisition to carry on: start one")
        measured = None if self._stop.is_set() else next(self._traces, None)
        if measured is None or self._clock.spend(measured.duration, self._stop) < 1:
            self._finish()
            return False
        seed = (self.options.seed, self._acquisitions, self._index)
        trace = add_noise(measured.trace, self._channels, self.options.noise, seed)
        self._position = Position(*measured.end)
        self._unconverged += measured.unconverged
        self._sink.write(self._index, trace[None])
        self._index += 1
        return True

    def stop(self) -> None:
        """Stop after the time step in progress."""
        self._stop.set()

    def _start(self, channels: tuple[str, ...], traces: Iterator[Measured], sink: TraceSink) -> None:
        self._stop.clear()
        self._traces, self._sink, self._channels = traces, sink, channels
        self._index, self._unconverged = 0, 0
        self._acquisitions += 1
        for warning in self._sample.warnings:
            sink.warn(warning)

    def _finish(self) -> None:
        if self._unconverged and self._sink is not None:
            self._sink.warn(f"the probe relaxation did not converge at {self._unconverged} points: see `converged`")
        self._traces, self._sink = None, None

    def _travel(self, target: Position) -> None:
        """Spend the time that a move takes; a stop leaves the tip on the way."""
        start = self._position
        lateral = math.hypot(target.x - start.x, target.y - start.y) / self.options.lateral_speed
        duration = max(lateral, abs(target.z - start.z) / self.options.vertical_speed)
        self._clock.catch_up()
        done = self._clock.spend(duration, self._stop)
        if done < 1:
            log.info("a move was stopped after %.0f %% of the way", 100 * done)
        x, y, z = (a + done * (b - a) for a, b in zip(_coordinates(start), _coordinates(target), strict=True))
        self._position = target if done == 1 else Position(x, y, z)


def _coordinates(position: Position) -> tuple[float, float, float]:
    return position.x, position.y, position.z
