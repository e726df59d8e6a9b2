"""The first look at a surface that nobody knows: a topograph, and what stands on it."""

import logging
from dataclasses import dataclass, replace

import numpy as np

from twinscope.agents.structure_discovery.agent.levelling import above_ground, without_tilt
from twinscope.agents.structure_discovery.agent.operator import ANGSTROM, Operator, Place
from twinscope.agents.structure_discovery.agent.options import DiscoveryOptions
from twinscope.agents.structure_discovery.agent.segmentation import MOLECULE, NEIGHBOUR, Region, SizeRange, find_regions
from twinscope.requests import CONSTANT_HEIGHT

log = logging.getLogger(__name__)

_CONSTANT_CURRENT = "constant_current"
_SETPOINT = 5e-12
# With less than this part of the setpoint at the height of an approach there is no metal, and no current to hold.
_LEAST_CURRENT = 0.02
# At constant height the tip stays this much (Å) above where the approach ends.
_LIFT = 1.0
# And its image has this many times the pixels of a topograph, along x and along y.
_FINER = 2
# Things are longer in a topograph than their atoms, by so much (Å); the frequency shift at constant height is sharper.
_TOPOGRAPH_HALO, _SHIFT_HALO = 6.0, 1.0
# A molecule that has as much room around it (Å) as a frame is alone in its image.
_ROOM = 10.0


@dataclass(frozen=True, eq=False)
class Overview:
    """An area and what is in it.

    Attributes
    ----------
    x, y
        Å on the sample, shapes (nx,) and (ny,).
    heights
        Of the tip at every pixel, in Å, shape (ny, nx).
    relief
        What stands out: Å above the bare surface, or Hz below its frequency shift, shape (ny, nx).
    unit
        Of the relief.
    z_mode
        How the image was taken.
    regions
        Everything that stands out in the area, its margin left out.
    """

    x: np.ndarray
    y: np.ndarray
    heights: np.ndarray
    relief: np.ndarray
    unit: str
    z_mode: str
    regions: tuple[Region, ...]

    @property
    def molecules(self) -> tuple[Region, ...]:
        """Molecules, those that touch others included."""
        return tuple(region for region in self.regions if region.kind in (MOLECULE, NEIGHBOUR))

    @property
    def highest(self) -> float:
        """The highest position of the tip, in Å."""
        return float(self.heights.max())

    def height_near(self, x: float, y: float, reach: float) -> float:
        """Return the highest position of the tip near a place; Å."""
        near = np.hypot(self.x - x, self.y[:, None] - y) <= reach
        return float(self.heights[near].max()) if near.any() else self.highest

    def ranked(self) -> tuple[Region, ...]:
        """Molecules, the most promising first: alone in their images, then the nearest to the middle of the area."""
        middle_x, middle_y = self.x.mean(), self.y.mean()

        def rank(region: Region) -> tuple[bool, float, float]:
            crowded = max(_ROOM - region.room, 0.0) // 2.0
            return region.kind != MOLECULE, crowded, float(np.hypot(region.x - middle_x, region.y - middle_y))

        return tuple(sorted(self.molecules, key=rank))


def take_overview(operator: Operator, options: DiscoveryOptions) -> Overview:
    """Scan the area and find what is on it.

    Parameters
    ----------
    operator
        Of the microscope. Its tip is withdrawn, taken to the first corner and approached there.
    options
        Where, and how.
    """
    place = _place(options, operator)
    corner = place.x - place.width / 2, place.y - place.height / 2
    operator.approach_at(*corner)
    z_mode = options.z_mode or _usable_mode(operator)
    line_time = place.width * ANGSTROM / options.overview_speed
    x, y = _axis(place.x, place.width, place.pixels[0]), _axis(place.y, place.height, place.pixels[1])
    pitch = float(x[1] - x[0])
    if z_mode == CONSTANT_HEIGHT:
        # Here a narrow molecule is no wider than its atoms: it would get lost between coarse pixels.
        place = replace(place, pixels=(_FINER * place.pixels[0], _FINER * place.pixels[1]))
        x, y = _axis(place.x, place.width, place.pixels[0]), _axis(place.y, place.height, place.pixels[1])
        height = operator.height + _LIFT
        image = operator.image(place, height, line_time).frequency_shift[0]
        heights, relief, unit = np.full(image.shape, height), np.median(image) - image, "Hz"
    else:
        setpoint = options.setpoint
        if setpoint is None and z_mode == _CONSTANT_CURRENT:
            setpoint = _SETPOINT
        heights = operator.topograph(place, z_mode, setpoint, line_time)
        relief, unit = above_ground(without_tilt(heights), pitch), "Å"
    halo = _SHIFT_HALO if z_mode == CONSTANT_HEIGHT else _TOPOGRAPH_HALO
    sizes = SizeRange(options.shortest / ANGSTROM, options.longest / ANGSTROM, halo)
    inside = [region for region in find_regions(relief, x, y, sizes) if _is_inside(region, options)]
    overview = Overview(x, y, heights, relief, unit, z_mode, tuple(inside))
    log.info("%d things stand out, %d of them are molecules", len(inside), len(overview.molecules))
    return overview


def _usable_mode(operator: Operator) -> str:
    """Return constant current where there is one, else constant height.

    A frequency shift is not held constant unless that is asked for: which one is on the attractive branch of a surface
    that nobody knows is not known either.
    """
    current = operator.signal("current")
    if _CONSTANT_CURRENT not in operator.capabilities.feedback_modes or current is None:
        return CONSTANT_HEIGHT
    return _CONSTANT_CURRENT if abs(current) > _LEAST_CURRENT * _SETPOINT else CONSTANT_HEIGHT


def _place(options: DiscoveryOptions, operator: Operator) -> Place:
    """Return the area with its margin, as far as the piezos reach."""
    ends = []
    for axis, middle, size in zip("xy", options.center, options.size, strict=True):
        limits = operator.capabilities.limits[axis]
        operator.capabilities.check_position(**{axis: middle - size / 2})
        operator.capabilities.check_position(**{axis: middle + size / 2})
        low = max(middle - size / 2 - options.margin, limits.low)
        high = min(middle + size / 2 + options.margin, limits.high)
        ends.append((low / ANGSTROM, high / ANGSTROM))
    (left, right), (bottom, top) = ends
    pitch = options.overview_pitch / ANGSTROM
    pixels = max(round((right - left) / pitch), 2), max(round((top - bottom) / pitch), 2)
    return Place((left + right) / 2, (bottom + top) / 2, right - left, top - bottom, pixels)


def _axis(middle: float, size: float, count: int) -> np.ndarray:
    axis: np.ndarray = middle + ((np.arange(count) + 0.5) / count - 0.5) * size
    return axis


def _is_inside(region: Region, options: DiscoveryOptions) -> bool:
    x, y = region.x * ANGSTROM - options.center[0], region.y * ANGSTROM - options.center[1]
    return abs(x) <= options.size[0] / 2 and abs(y) <= options.size[1] / 2
