"""What can be asked of a microscope: immutable, checked when made, with one plain-data form for wire and file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np

from twinscope import _checks
from twinscope.errors import InvalidRequestError

Direction = Literal["forward", "backward"]
_DIRECTIONS = ("forward", "backward", "both")
_SLOW_DIRECTIONS = ("up", "down")
_Z_MODES = ("constant_height",)
_SWEPT = ("z",)


class _PlainData:
    """Conversion of a flat frozen dataclass to and from plain data."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: numbers, text, lists and None."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Any:
        """Build from :meth:`to_dict`.

        Raises
        ------
        InvalidRequestError
            When a key is unknown or missing, or a value is not allowed.
        """
        known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        values = _checks.fields(cls.__name__, data, known)
        try:
            return cls(**values)
        except TypeError as exc:
            raise InvalidRequestError(f"{cls.__name__} cannot be made from {sorted(values)}: {exc}") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanFrame(_PlainData):
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
        _set(self, "size", (_checks.positive("frame.size[0]", width), _checks.positive("frame.size[1]", height)))
        _set(self, "center", (_checks.finite("frame.center[0]", x), _checks.finite("frame.center[1]", y)))
        _set(self, "angle", _checks.finite("frame.angle", self.angle))

    def to_sample(self, along: np.ndarray, across: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn offsets from the middle, along the fast and the slow axis (m), into x and y of the sample (m)."""
        cos, sin = np.cos(np.radians(self.angle)), np.sin(np.radians(self.angle))
        return self.center[0] + along * cos - across * sin, self.center[1] + along * sin + across * cos

    def corners(self) -> np.ndarray:
        """X and y of the four corners, in m, shape (4, 2)."""
        half = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.array(self.size) / 2
        return np.stack(self.to_sample(half[:, 0], half[:, 1]), axis=-1)


@dataclass(frozen=True, slots=True)
class TraceAddress:
    """Which part of a scan a trace is: the row counts from the bottom of the image, the layer from the first height."""

    layer: int
    row: int
    direction: Direction


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRequest(_PlainData):
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
        How z is controlled. Only "constant_height" so far.
    """

    kind: ClassVar[str] = "scan"

    frame: ScanFrame
    pixels: tuple[int, int]
    channels: tuple[str, ...]
    heights: tuple[float, ...] | None = None
    direction: str = "forward"
    slow_direction: str = "up"
    line_time: float = 1.0
    z_mode: str = "constant_height"

    def __post_init__(self) -> None:
        _set(self, "frame", _nested("frame", self.frame, ScanFrame))
        nx, ny = _checks.pair("pixels", self.pixels)
        _set(self, "pixels", (_checks.count("pixels[0]", nx), _checks.count("pixels[1]", ny)))
        _set(self, "channels", _channel_names(self.channels))
        if self.heights is not None:
            heights = tuple(_checks.finite("heights", z) for z in _checks.items("heights", self.heights))
            if not heights:
                raise InvalidRequestError("heights is empty: give at least one height, or None for the present one")
            _set(self, "heights", heights)
        _checks.choice("direction", self.direction, _DIRECTIONS)
        _checks.choice("slow_direction", self.slow_direction, _SLOW_DIRECTIONS)
        _checks.choice("z_mode", self.z_mode, _Z_MODES)
        _set(self, "line_time", _checks.positive("line_time", self.line_time))

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
        return ((np.arange(nx) + 0.5) / nx - 0.5) * width, ((np.arange(ny) + 0.5) / ny - 0.5) * height

    def row_positions(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """X and y of the pixels of one row on the sample, in m, (nx,) each."""
        along, across = self.offsets()
        return self.frame.to_sample(along, np.full_like(along, across[row]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep(_PlainData):
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
        _set(self, "start", _checks.finite("sweep.start", self.start))
        _set(self, "stop", _checks.finite("sweep.stop", self.stop))
        _set(self, "points", _checks.count("sweep.points", self.points))
        if self.points < 2 or self.start == self.stop:
            raise InvalidRequestError(
                f"the sweep goes from {self.start} to {self.stop} in {self.points} points: expected two different ends"
                " and at least 2 points"
            )

    def values(self) -> np.ndarray:
        """Return all values, shape (points,)."""
        return np.linspace(self.start, self.stop, self.points)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpectroscopyRequest(_PlainData):
    """Spectra at one or more positions.

    Attributes
    ----------
    swept
        What is swept. Only "z" so far: the height of the tip, in m.
    positions
        x and y on the sample, in m, of each spectrum.
    sweep
        The values to step through.
    channels
        Names of the channels to record.
    point_time
        Seconds per point.
    """

    kind: ClassVar[str] = "spectroscopy"

    swept: str
    positions: tuple[tuple[float, float], ...]
    sweep: Sweep
    channels: tuple[str, ...]
    point_time: float = 0.02

    def __post_init__(self) -> None:
        _checks.choice("swept", self.swept, _SWEPT)
        positions = []
        for position in _checks.items("positions", self.positions):
            x, y = _checks.pair("positions", position)
            positions.append((_checks.finite("positions", x), _checks.finite("positions", y)))
        if not positions:
            raise InvalidRequestError("positions is empty: give at least one (x, y)")
        _set(self, "positions", tuple(positions))
        _set(self, "sweep", _nested("sweep", self.sweep, Sweep))
        _set(self, "channels", _channel_names(self.channels))
        _set(self, "point_time", _checks.positive("point_time", self.point_time))

    @property
    def trace_count(self) -> int:
        """Number of spectra."""
        return len(self.positions)

    @property
    def trace_length(self) -> int:
        """Points in a spectrum."""
        return self.sweep.points


AcquisitionRequest = ScanRequest | SpectroscopyRequest


def request_from_dict(kind: str, data: Mapping[str, Any]) -> AcquisitionRequest:
    """Build the request of a kind ("scan" or "spectroscopy") from its plain data."""
    kinds: dict[str, type[ScanRequest] | type[SpectroscopyRequest]] = {
        cls.kind: cls for cls in (ScanRequest, SpectroscopyRequest)
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


def _nested(name: str, value: Any, cls: type[_PlainData]) -> Any:
    if isinstance(value, Mapping):
        return cls.from_dict(value)
    if not isinstance(value, cls):
        raise InvalidRequestError(f"{name} is {value!r}: expected a {cls.__name__}")
    return value


def _set(frozen: Any, name: str, value: Any) -> None:
    object.__setattr__(frozen, name, value)


def _plain(value: Any) -> Any:
    if isinstance(value, _PlainData):
        return value.to_dict()
    if isinstance(value, str) or not isinstance(value, Iterable):
        return value
    return [_plain(element) for element in value]
