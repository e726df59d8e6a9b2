"""What can be asked of a microscope: immutable, checked when made, with one plain-data form for wire and file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from twinscope import _checks
from twinscope._plain import PlainData, nested, set_field
from twinscope.errors import InvalidRequestError

Direction = Literal["forward", "backward"]
_DIRECTIONS = ("forward", "backward", "both")
_SLOW_DIRECTIONS = ("up", "down")
CONSTANT_HEIGHT = "constant_height"
"""The z-mode in which the z-controller is off."""

_FEEDBACK_PREFIX = "constant_"
Z_MODES = (CONSTANT_HEIGHT, "constant_frequency_shift", "constant_current")
_SWEPT = ("z", "bias")


def setpoint_of(z_mode: str) -> str:
    """Name of the signal that is the setpoint of a z-mode: "setpoint_current" for "constant_current"."""
    return f"setpoint_{z_mode.removeprefix(_FEEDBACK_PREFIX)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanFrame(PlainData):
    """Where a scan looks: a rectangle in the plane of the sample.

    Attributes
    ----------
    size
        Width and height, in m.
    center
        x and y of the middle, in m.
    angle
        Rotation about the middle, in degrees, counter-clockwise.
    """

    size: tuple[float, float]
    center: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0

    def __post_init__(self) -> None:
        width, height = _checks.pair("frame.size", self.size)
        x, y = _checks.pair("frame.center", self.center)
        set_field(self, "size", (_checks.positive("frame.size[0]", width), _checks.positive("frame.size[1]", height)))
        set_field(self, "center", (_checks.finite("frame.center[0]", x), _checks.finite("frame.center[1]", y)))
        set_field(self, "angle", _checks.finite("frame.angle", self.angle))

    def to_sample(self, along: np.ndarray, across: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn offsets from the middle, along the fast and the slow axis (m), into x and y of the sample (m)."""
        cos, sin = np.cos(np.radians(self.angle)), np.sin(np.radians(self.angle))
        return self.center[0] + along * cos - across * sin, self.center[1] + along * sin + across * cos

    def grid(self, pixels: tuple[int, int]) -> tuple[tuple[float, float], ...]:
        """Positions (x, y), in m, of the middles of nx by ny cells, row by row from the bottom: a grid of spectra."""
        nx, ny = _checks.pair("pixels", pixels)
        nx, ny = _checks.count("pixels[0]", nx), _checks.count("pixels[1]", ny)
        width, height = self.size
        along, across = np.meshgrid(cell_middles(nx, width), cell_middles(ny, height))
        x, y = self.to_sample(along.ravel(), across.ravel())
        return tuple(zip(x.tolist(), y.tolist(), strict=True))

    def corners(self) -> np.ndarray:
        """X and y of the four corners, in m, shape (4, 2)."""
        half = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.array(self.size) / 2
        return np.stack(self.to_sample(half[:, 0], half[:, 1]), axis=-1)


def line_positions(start: tuple[float, float], stop: tuple[float, float], points: int) -> list[tuple[float, float]]:
    """Positions (x, y), in m, of equidistant points on a straight line, ends included."""
    ends = [_checks.pair(name, end) for name, end in (("start", start), ("stop", stop))]
    count = _checks.count("points", points)
    x, y = (
        np.linspace(_checks.finite("start", a), _checks.finite("stop", b), count) for a, b in zip(*ends, strict=True)
    )
    return list(zip(x.tolist(), y.tolist(), strict=True))


def cell_middles(count: int, size: float) -> np.ndarray:
    """Offsets from the middle of the middles of `count` cells that share a length `size`."""
    return ((np.arange(count) + 0.5) / count - 0.5) * size


@dataclass(frozen=True, slots=True)
class TraceAddress:
    """Which part of a scan a trace is: the row counts from the bottom of the image, the layer from the first height."""

    layer: int
    row: int
    direction: Direction


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRequest(PlainData):
    """An image, or a stack of images, taken line by line.

    Attributes
    ----------
    frame
        Where to look.
    pixels
        Pixels along the fast and the slow axis; a pixel stands for the middle of its cell of the frame.
    channels
        Names of the channels to record.
    heights
        Heights of the tip, in m, one constant-height image each, in the order in which they are taken; None for one
        image at the present height.
    direction
        Which way of the fast axis is recorded: forward, backward or both.
    slow_direction
        "up" begins with the bottom row, "down" with the top row.
    line_time
        Seconds per line and direction.
    z_mode
        "constant_height", or what the z-controller holds constant: "constant_frequency_shift", "constant_current".
    setpoint
        Of the z-controller, in the unit of what it holds constant; None for its present one.
    """

    kind: ClassVar[str] = "scan"

    frame: ScanFrame
    pixels: tuple[int, int]
    channels: tuple[str, ...]
    heights: tuple[float, ...] | None = None
    direction: str = "forward"
    slow_direction: str = "up"
    line_time: float = 1.0
    z_mode: str = CONSTANT_HEIGHT
    setpoint: float | None = None

    def __post_init__(self) -> None:
        set_field(self, "frame", nested("frame", self.frame, ScanFrame))
        nx, ny = _checks.pair("pixels", self.pixels)
        set_field(self, "pixels", (_checks.count("pixels[0]", nx), _checks.count("pixels[1]", ny)))
        set_field(self, "channels", _channel_names(self.channels))
        if self.heights is not None:
            heights = tuple(_checks.finite("heights", z) for z in _checks.items("heights", self.heights))
            if not heights:
                raise InvalidRequestError("heights is empty: give at least one height, or None for the present one")
            set_field(self, "heights", heights)
        _checks.choice("direction", self.direction, _DIRECTIONS)
        _checks.choice("slow_direction", self.slow_direction, _SLOW_DIRECTIONS)
        set_field(self, "line_time", _checks.positive("line_time", self.line_time))
        set_field(self, "setpoint", _checked_setpoint(self.z_mode, self.setpoint, "heights", self.heights))

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Directions recorded in each row, in their order."""
        both: tuple[Direction, ...] = ("forward", "backward")
        return tuple(way for way in both if self.direction in (way, "both"))

    @property
    def layers(self) -> int:
        """Number of images."""
        return len(self.heights or (0.0,))

    @property
    def trace_count(self) -> int:
        """Number of traces: lines times directions times images."""
        return self.layers * self.pixels[1] * len(self.directions)

    @property
    def trace_length(self) -> int:
        """Values in a trace."""
        return self.pixels[0]

    def address(self, trace: int) -> TraceAddress:
        """Tell which layer, row and direction the trace with this number is."""
        line, way = divmod(trace, len(self.directions))
        layer, row = divmod(line, self.pixels[1])
        if self.slow_direction == "down":
            row = self.pixels[1] - 1 - row
        return TraceAddress(layer, row, self.directions[way])

    def offsets(self) -> tuple[np.ndarray, np.ndarray]:
        """Offsets of the pixels from the middle, in m: (nx,) along the fast and (ny,) along the slow axis."""
        nx, ny = self.pixels
        width, height = self.frame.size
        return cell_middles(nx, width), cell_middles(ny, height)

    def row_positions(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """X and y of the pixels of one row on the sample, in m, (nx,) each."""
        along, across = self.offsets()
        return self.frame.to_sample(along, np.full_like(along, across[row]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep(PlainData):
    """Values that a spectroscopy steps through, equidistant, ends included.

    Attributes
    ----------
    start, stop
        First and last value, in the unit of what is swept.
    points
        Number of values, two or more.
    """

    start: float
    stop: float
    points: int

    def __post_init__(self) -> None:
        set_field(self, "start", _checks.finite("sweep.start", self.start))
        set_field(self, "stop", _checks.finite("sweep.stop", self.stop))
        set_field(self, "points", _checks.count("sweep.points", self.points))
        if self.points < 2 or self.start == self.stop:
            raise InvalidRequestError(
                f"the sweep goes from {self.start} to {self.stop} in {self.points} points: expected two different ends"
                " and at least 2 points"
            )

    def values(self) -> np.ndarray:
        """Return all values, shape (points,)."""
        return np.linspace(self.start, self.stop, self.points)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathRequest(PlainData):
    """A walk over positions: along a line, along any path, or over points that have nothing to do with each other.

    Attributes
    ----------
    positions
        x and y on the sample, in m, of each sample, in their order.
    channels
        Names of the channels to record.
    passes
        How often the path is followed, or how many samples are taken at each separate point.
    separate
        False: a path, on which the tip stays at its height; each pass is one trace. True: points, between which the
        tip is lifted; each point is one trace.
    lift
        By how much the tip is raised between separate points, in m.
    height
        Of the tip, in m; None for the present one.
    point_time
        Seconds per sample.
    z_mode, setpoint
        As in :class:`ScanRequest`.
    """

    kind: ClassVar[str] = "path"

    positions: tuple[tuple[float, float], ...]
    channels: tuple[str, ...]
    passes: int = 1
    separate: bool = False
    lift: float = 0.0
    height: float | None = None
    point_time: float = 0.01
    z_mode: str = CONSTANT_HEIGHT
    setpoint: float | None = None

    def __post_init__(self) -> None:
        set_field(self, "positions", _checked_positions(self.positions))
        set_field(self, "channels", _channel_names(self.channels))
        set_field(self, "passes", _checks.count("passes", self.passes))
        _checks.flag("separate", self.separate)
        set_field(self, "lift", _checks.not_negative("lift", self.lift))
        if self.lift and not self.separate:
            raise InvalidRequestError(f"lift is {self.lift} m: on a path the tip is not lifted, give separate=True")
        if self.height is not None:
            set_field(self, "height", _checks.finite("height", self.height))
        set_field(self, "point_time", _checks.positive("point_time", self.point_time))
        set_field(self, "setpoint", _checked_setpoint(self.z_mode, self.setpoint, "height", self.height))

    @property
    def trace_count(self) -> int:
        """Passes of a path, or separate points."""
        return len(self.positions) if self.separate else self.passes

    @property
    def trace_length(self) -> int:
        """Values in a trace."""
        return self.passes if self.separate else len(self.positions)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectroscopyRequest(PlainData):
    """Spectra at one or more positions.

    Attributes
    ----------
    swept
        What is swept: "z", the height of the tip in m, or "bias", in V.
    positions
        x and y on the sample, in m, of each spectrum.
    sweep
        The values to step through.
    channels
        Names of the channels to record.
    height
        Of the tip while something else than z is swept, in m; None for the present one.
    point_time
        Seconds per point.
    """

    kind: ClassVar[str] = "spectroscopy"

    swept: str
    positions: tuple[tuple[float, float], ...]
    sweep: Sweep
    channels: tuple[str, ...]
    height: float | None = None
    point_time: float = 0.02

    def __post_init__(self) -> None:
        _checks.choice("swept", self.swept, _SWEPT)
        set_field(self, "positions", _checked_positions(self.positions))
        set_field(self, "sweep", nested("sweep", self.sweep, Sweep))
        set_field(self, "channels", _channel_names(self.channels))
        if self.height is not None:
            set_field(self, "height", _checks.finite("height", self.height))
            if self.swept == "z":
                raise InvalidRequestError(f"height is {self.height} m: a sweep of z has no fixed height, leave it out")
        set_field(self, "point_time", _checks.positive("point_time", self.point_time))

    @property
    def trace_count(self) -> int:
        """Number of spectra."""
        return len(self.positions)

    @property
    def trace_length(self) -> int:
        """Points in a spectrum."""
        return self.sweep.points


AcquisitionRequest = ScanRequest | PathRequest | SpectroscopyRequest


def request_from_dict(kind: str, data: Mapping[str, Any]) -> AcquisitionRequest:
    """Build the request of a kind ("scan", "path" or "spectroscopy") from its plain data."""
    kinds: dict[str, type[ScanRequest] | type[PathRequest] | type[SpectroscopyRequest]] = {
        cls.kind: cls for cls in (ScanRequest, PathRequest, SpectroscopyRequest)
    }
    request: AcquisitionRequest = kinds[_checks.choice("kind", kind, tuple(kinds))].from_dict(data)
    return request


def _channel_names(value: Any) -> tuple[str, ...]:
    names = _checks.items("channels", value)
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidRequestError(f"channels is {value!r}: expected a list of one or more channel names")
    if len(set(names)) != len(names):
        raise InvalidRequestError(f"channels is {value!r}: expected each channel once")
    return names


def _checked_positions(value: Any) -> tuple[tuple[float, float], ...]:
    positions = []
    for position in _checks.items("positions", value):
        x, y = _checks.pair("positions", position)
        positions.append((_checks.finite("positions", x), _checks.finite("positions", y)))
    if not positions:
        raise InvalidRequestError("positions is empty: give at least one (x, y)")
    return tuple(positions)


def _checked_setpoint(z_mode: str, setpoint: Any, heights_name: str, heights: Any) -> float | None:
    """Return the setpoint; a z-controller and given heights exclude each other."""
    if _checks.choice("z_mode", z_mode, Z_MODES) != CONSTANT_HEIGHT:
        if heights is not None:
            raise InvalidRequestError(f"{heights_name} is {heights!r}: with z_mode {z_mode!r} the z-controller sets z")
        return None if setpoint is None else _checks.finite("setpoint", setpoint)
    if setpoint is not None:
        raise InvalidRequestError(f"setpoint is {setpoint!r}: z_mode {CONSTANT_HEIGHT!r} has none, leave it out")
    return None
