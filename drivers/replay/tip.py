"""What a blunt or a double tip makes of a recorded topography: its grey-scale dilation with the shape of the tip."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from twinscope import _checks
from twinscope._plain import PlainData, set_field
from twinscope.errors import ConfigurationError, InvalidRequestError

SHAPES = ("parabola", "cone")
# Comparisons of a pixel with a part of a tip: about a minute.
_MOST_WORK = 4e10


@dataclass(frozen=True, slots=True, kw_only=True)
class TipShape(PlainData):
    """Shape of a tip that scans a recorded topography.

    Attributes
    ----------
    shape
        "parabola", or "cone" with a spherical end.
    radius
        Of the end, in m; a cone may have zero.
    half_angle
        Of a cone, between its axis and its side, in degrees.
    second_offset
        Where a second, equal apex is beside the first, along x and y, in m; None for none.
    second_height
        How much higher than the first it ends, in m.
    """

    shape: str = "parabola"
    radius: float = 0.0
    half_angle: float = 20.0
    second_offset: tuple[float, float] | None = None
    second_height: float = 0.0

    def __post_init__(self) -> None:
        try:
            _checks.choice("shape", self.shape, SHAPES)
            check = _checks.positive if self.shape == "parabola" else _checks.not_negative
            set_field(self, "radius", check("radius", self.radius))
            set_field(self, "half_angle", _checks.positive("half_angle", self.half_angle))
            if self.half_angle >= 90:
                raise InvalidRequestError(f"half_angle is {self.half_angle}: expected less than 90 degrees")
            if self.second_offset is not None:
                x, y = _checks.pair("second_offset", self.second_offset)
                offset = _checks.finite("second_offset", x), _checks.finite("second_offset", y)
                set_field(self, "second_offset", offset)
            set_field(self, "second_height", _checks.not_negative("second_height", self.second_height))
        except InvalidRequestError as exc:
            raise ConfigurationError(f"tip: {exc.message}", name="tip") from exc

    def profile(self, distance: np.ndarray) -> np.ndarray:
        """Height of its surface above the apex at distances from the axis, all in m."""
        if self.shape == "parabola":
            return np.asarray(distance**2 / (2 * self.radius))
        touching, height = self._joint
        inside = np.minimum(distance, touching)
        sphere = self.radius - np.sqrt(self.radius**2 - inside**2)
        cone = height + (distance - touching) / math.tan(math.radians(self.half_angle))
        return np.where(distance < touching, sphere, cone)

    def width(self, height: float) -> float:
        """Radius, in m, at a height above the apex, in m."""
        if self.shape == "parabola":
            return math.sqrt(2 * self.radius * height)
        touching, joint = self._joint
        if height <= joint:
            return math.sqrt(height * (2 * self.radius - height))
        return touching + (height - joint) * math.tan(math.radians(self.half_angle))

    @property
    def _joint(self) -> tuple[float, float]:
        """Distance from the axis and height at which the sphere goes over into the cone."""
        angle = math.radians(self.half_angle)
        return self.radius * math.cos(angle), self.radius * (1 - math.sin(angle))


def dilated(heights: np.ndarray, pixel: tuple[float, float], tip: TipShape, angle: float = 0.0) -> np.ndarray:
    """Return the topography that a tip records: in each pixel the highest it is lifted to by anything it touches.

    Parameters
    ----------
    heights
        Topography, in m, shape (ny, nx). NaN stays NaN, and touches nothing; beyond the edges there is nothing.
    pixel
        Size of a pixel along the fast and the slow axis, in m.
    tip
        Its shape.
    angle
        Of the scan frame, in degrees: the second apex is where it is on the sample.

    Raises
    ------
    ConfigurationError
        When the tip is so blunt that it would take very long.
    """
    holes = np.isnan(heights)
    if holes.all():
        return heights
    ground = np.where(holes, -np.inf, heights)
    result = np.full(ground.shape, -np.inf)
    for offset, lift in _apexes(tip, angle):
        spread = _spread_by_parabola if tip.shape == "parabola" else _spread
        result = np.maximum(result, spread(ground, pixel, tip, offset, lift) - lift)
    return np.where(holes, np.nan, result)


def _apexes(tip: TipShape, angle: float) -> Iterator[tuple[tuple[float, float], float]]:
    """Yield the place of each apex along the axes of a frame, and how much higher than the first it ends, in m."""
    yield (0.0, 0.0), 0.0
    if tip.second_offset is not None:
        (x, y), turn = tip.second_offset, math.radians(angle)
        yield (
            (x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)),
            tip.second_height,
        )


def _reach(ground: np.ndarray, tip: TipShape, lift: float) -> float:
    """How far from its axis, in m, a tip can touch anything that lifts it higher than what is below its apex."""
    known = ground[np.isfinite(ground)]
    return tip.width(max(float(np.ptp(known)) - lift, 0.0))


def _steps(reach: float, offset: float, pixel: float, count: int) -> np.ndarray:
    """Pixels along an axis that are not farther from an apex at the offset than the reach, all in m."""
    steps = np.arange(math.floor((offset - reach) / pixel), math.ceil((offset + reach) / pixel) + 1)
    return steps[abs(steps) < count]


def _spread_by_parabola(
    ground: np.ndarray, pixel: tuple[float, float], tip: TipShape, offset: tuple[float, float], lift: float
) -> np.ndarray:
    """Dilate with a paraboloid, which is the sum of one parabola along each axis: so one axis after the other."""
    reach = _reach(ground, tip, lift)
    for axis in (0, 1):
        size, shift = pixel[1 - axis], offset[1 - axis]
        steps = _steps(reach, shift, size, ground.shape[axis])
        heights = tip.profile(abs(steps * size - shift))
        moves = [(int(step), 0) if axis == 0 else (0, int(step)) for step in steps]
        ground = _highest(ground, moves, heights)
    return ground


def _spread(
    ground: np.ndarray, pixel: tuple[float, float], tip: TipShape, offset: tuple[float, float], lift: float
) -> np.ndarray:
    """Dilate with any tip that is round."""
    reach = _reach(ground, tip, lift)
    columns, rows = (_steps(reach, offset[axis], pixel[axis], ground.shape[1 - axis]) for axis in (0, 1))
    distances = np.hypot(columns * pixel[0] - offset[0], (rows * pixel[1] - offset[1])[:, None])
    near = distances <= reach + math.hypot(*pixel)
    if ground.size * near.sum() > _MOST_WORK:
        raise ConfigurationError(
            f"tip: it touches {near.sum()} pixels of the recording at once, whose image has {ground.size}: give a"
            " sharper one, or a parabola, which is faster",
            name="tip",
        )
    moves = [(int(rows[i]), int(columns[j])) for i, j in np.argwhere(near)]
    return _highest(ground, moves, tip.profile(distances[near]))


def _highest(ground: np.ndarray, moves: list[tuple[int, int]], heights: np.ndarray) -> np.ndarray:
    """Return in each pixel the highest of the pixels that are moved away from it, less the tip's height there."""
    result = np.full(ground.shape, -np.inf)
    for (rows, columns), height in zip(moves, heights.tolist(), strict=True):
        here, there = zip(_overlap(rows, ground.shape[0]), _overlap(columns, ground.shape[1]), strict=True)
        np.maximum(result[here], ground[there] - height, out=result[here])
    return result


def _overlap(move: int, count: int) -> tuple[slice, slice]:
    """Return the pixels of an axis from which a move leads to another one, and those to which it leads."""
    return slice(max(-move, 0), count - max(move, 0)), slice(max(move, 0), count + min(move, 0))
