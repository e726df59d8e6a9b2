"""Dunes: an STM over a made-up surface. It is a whole driver, and small: begin your own with a copy of it."""

import threading
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from twinscope.capabilities import ACQUISITIONS, Capabilities, Channel, Limits
from twinscope.clock import Clock
from twinscope.drivers.base import TraceSink
from twinscope.drivers.options import DriverOptions
from twinscope.errors import ConfigurationError, DriverError
from twinscope.requests import (
    CONSTANT_HEIGHT,
    AcquisitionRequest,
    PathRequest,
    ScanRequest,
    SpectroscopyRequest,
    setpoint_of,
)
from twinscope.state import FEEDBACK_OFF, Position, Reading, TipState

TOP = 100e-9  # m, where the withdrawn tip is
SPEED = 1e-6  # m/s
DECAY = 2.3e10  # 1/m, of the current
CONDUCTANCE = 1e-6  # S, at contact


@dataclass(frozen=True, slots=True, kw_only=True)
class DunesOptions(DriverOptions):
    """What can be set in a file or by keywords: how high and wide the dunes are, in m, and how fast time goes."""

    height: float = 2e-9
    spacing: float = 20e-9
    clock: float | str = "accelerated"

    def __post_init__(self) -> None:
        DriverOptions.__post_init__(self)
        if self.spacing <= 0:
            raise ConfigurationError(f"the option spacing is {self.spacing}: expected more than 0 m", name="spacing")


class Dunes:
    """An STM over dunes."""

    name: ClassVar[str] = "dunes"
    vendor: ClassVar[str] = "twinscope"
    summary: ClassVar[str] = "an STM over dunes, as an example of a driver"
    api_versions: ClassVar[tuple[int, int]] = (1, 1)
    options_type: ClassVar[type[DriverOptions]] = DunesOptions
    provides: ClassVar[tuple[str, ...]] = (*ACQUISITIONS, "sweep_z", "sweep_bias", "constant_current")

    def __init__(self, **options: Any) -> None:
        self._options = self.options_type.from_keywords(options)
        self._clock = Clock.parse(self._options.clock)
        self._stopped = threading.Event()
        self._is_open = False
        self._tip = np.array([0.0, 0.0, TOP])
        self._signals = {"bias": 0.1, "setpoint_current": 1e-11}
        self._feedback = FEEDBACK_OFF
        self._acquisition: tuple[AcquisitionRequest, TraceSink] | None = None
        self._index = 0

    # ------------------------------------------------------------------ its life

    def open(self) -> None:
        self._is_open = True

    def close(self) -> None:
        self._is_open, self._acquisition = False, None

    def stop(self) -> None:
        self._stopped.set()

    def _begin(self) -> None:
        """Begin a command: the stops of earlier ones are over, and so is the acquisition in progress."""
        self._check_open()
        self._stopped.clear()
        self._acquisition = None

    def _check_open(self) -> None:
        if not self._is_open:
            raise DriverError("the driver is closed: open it first")

    # ------------------------------------------------------------------ looking

    def capabilities(self) -> Capabilities:
        return Capabilities(
            instrument="STM over dunes",
            driver=self.name,
            driver_version="0.3.0",
            simulated=True,
            channels=(
                Channel("current", "A", "Tunnelling current"),
                Channel("sensor_x", "m", "Position along x"),
                Channel("sensor_y", "m", "Position along y"),
                Channel("sensor_z", "m", "Height of the tip"),
            ),
            signals=(
                Channel("bias", "V", "Bias of the sample"),
                Channel("setpoint_current", "A", "Setpoint of the current"),
                Channel("current", "A", "Tunnelling current"),
            ),
            limits={
                "x": Limits(-500e-9, 500e-9, "m"),
                "y": Limits(-500e-9, 500e-9, "m"),
                "z": Limits(0.0, TOP, "m"),
                "speed": Limits(1e-12, SPEED, "m/s"),
                "bias": Limits(-10.0, 10.0, "V"),
                "setpoint_current": Limits(1e-13, 1e-8, "A"),
            },
            scan_modes=(CONSTANT_HEIGHT, "constant_current"),
            sweeps=("z", "bias"),
            largest_acquisition=2**28,
            settings={"position_channels": {"x": "sensor_x", "y": "sensor_y"}, "height": self._options.height},
        )

    def read(self) -> Reading:
        self._check_open()
        tip = TipState.WITHDRAWN if self._tip[2] >= TOP else TipState.IN_RANGE
        signals = self._signals | {"current": float(self._current(self._tip, self._signals["bias"]))}
        return Reading(self._clock.now, Position(*self._tip.tolist()), tip, signals, self._feedback)

    # ------------------------------------------------------------------ commands

    def write(self, name: str, value: float, rate: float | None = None) -> None:
        self._begin()
        before = self._signals[name]
        done = 1.0 if rate is None else self._clock.spend(abs(value - before) / rate, self._stopped)
        self._signals[name] = value if done == 1 else before + done * (value - before)

    def set_feedback(self, mode: str) -> None:
        self._begin()
        self._feedback = mode
        self._tip = self._controlled(self._tip)

    def move_to(self, x: float, y: float, z: float, speed: float | None = None) -> None:
        self._begin()
        self._travel(np.array([x, y, z]), speed)

    def withdraw(self) -> None:
        self._begin()
        self._feedback = FEEDBACK_OFF
        self._travel(np.array([*self._tip[:2], TOP]))

    def approach(self) -> None:
        self._begin()
        self._travel(np.array([*self._tip[:2], self._working_height(self._tip)]))

    def _travel(self, target: np.ndarray, speed: float | None = None) -> None:
        """Go to a place (3,), in m, unless somebody stops it."""
        way = target - self._tip
        done = self._clock.spend(float(np.linalg.norm(way)) / (speed or SPEED), self._stopped)
        self._tip = self._controlled(target if done == 1 else self._tip + done * way)

    # ------------------------------------------------------------------ acquisitions

    def start_scan(self, request: AcquisitionRequest, sink: TraceSink) -> None:
        """Begin a scan, a path or a spectroscopy."""
        self._begin()
        self._feedback = FEEDBACK_OFF
        if not isinstance(request, SpectroscopyRequest) and request.z_mode != CONSTANT_HEIGHT:
            self._feedback = request.z_mode
            if request.setpoint is not None:
                self._signals[setpoint_of(request.z_mode)] = request.setpoint
        places, _, _ = self._trace(request, 0)
        # Not lower on the way than at its ends: up first, or down last.
        highest = max(places[0, 2], self._tip[2])
        for target in ([*self._tip[:2], highest], [*places[0, :2], highest], places[0]):
            self._travel(np.array(target))
        self._acquisition, self._index = (request, sink), 0

    start_path = start_spectroscopy = start_scan

    def poll(self) -> bool:
        self._check_open()
        if self._acquisition is None:
            return False
        request, sink = self._acquisition
        if self._index == request.trace_count or self._stopped.is_set():
            self._acquisition = None
            return False
        places, bias, seconds = self._trace(request, self._index)
        if self._clock.spend(seconds, self._stopped) < 1:
            self._acquisition = None
            return False
        recorded = {"current": self._current(places, bias)}
        recorded |= dict(zip(("sensor_x", "sensor_y", "sensor_z"), places.T, strict=True))
        sink.write(self._index, np.stack([recorded[name] for name in request.channels])[None])
        is_backward = isinstance(request, ScanRequest) and request.address(self._index).direction == "backward"
        self._tip = places[0 if is_backward else -1]
        self._index += 1
        return True

    def _trace(self, request: AcquisitionRequest, index: int) -> tuple[np.ndarray, Any, float]:
        """Return the places (n, 3), in m, of a trace, the bias there, and how long it takes, in s."""
        bias, height = self._signals["bias"], self._tip[2]
        if isinstance(request, ScanRequest):
            address = request.address(index)
            x, y = request.row_positions(address.row)
            height = height if request.heights is None else request.heights[address.layer]
            seconds = request.line_time
        else:
            is_way = isinstance(request, PathRequest) and not request.separate
            x, y = np.array(request.positions if is_way else request.positions[index : index + 1]).T
            x, y = (np.broadcast_to(values, request.trace_length) for values in (x, y))
            height = height if request.height is None else request.height
            seconds = request.point_time * request.trace_length
            if isinstance(request, PathRequest):
                seconds += 2 * request.lift / SPEED
            elif request.swept == "z":
                height = request.sweep.values()
            else:
                bias = request.sweep.values()
        places = np.stack([x, y, np.broadcast_to(height, x.shape)], axis=-1)
        return self._controlled(places), bias, seconds

    # ------------------------------------------------------------------ the dunes

    def _surface(self, places: np.ndarray) -> np.ndarray:
        waves = np.cos(2 * np.pi * places[..., :2] / self._options.spacing)
        return self._options.height * (2 + waves[..., 0] * (1 + waves[..., 1]) / 2) / 4

    def _current(self, places: np.ndarray, bias: Any) -> np.ndarray:
        return CONDUCTANCE * bias * np.exp(-DECAY * np.maximum(places[..., 2] - self._surface(places), 0))

    def _working_height(self, places: np.ndarray) -> np.ndarray:
        """Return where the current is its setpoint, as far as the tip reaches, in m."""
        strongest = CONDUCTANCE * max(abs(self._signals["bias"]), 1e-3)
        gap = max(np.log(strongest / self._signals["setpoint_current"]) / DECAY, 0)
        return np.clip(self._surface(places) + gap, 0, 0.99 * TOP)

    def _controlled(self, places: np.ndarray) -> np.ndarray:
        """Let the z-controller choose the height, when it is on."""
        if self._feedback == FEEDBACK_OFF:
            return places
        return np.concatenate([places[..., :2], self._working_height(places)[..., None]], axis=-1)
