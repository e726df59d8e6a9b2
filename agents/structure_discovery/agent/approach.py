"""The way down to a molecule: image by image, until the first place in the frame turns repulsive.

While the probe comes down over a place, the frequency shift falls, and rises again when Pauli repulsion sets in; over
the highest atoms this happens first. The height at which the first pixel of the frame has risen above its own minimum
by as much as a force gradient of 0.06 N/m makes (0.5 Hz of a qPlus sensor) needs no model of the molecule, and a
metal under it does not matter. Networks are trained with a lowest slice in which the gap between probe and highest
atom is 0.35 Å less than their radii together. Simulated with the CO tip of the kernels, for 24 molecules of 12 to 38
atoms (C, H, N, O, F, Si, P, S, Cl, Br), each flat and turned at random, with gold 3 Å below or without, that pixel
turns 0.71 Å above this height, with a standard deviation of 0.10 Å and at most 0.2 Å off, up to a noise of 0.2 Hz.
A xenon tip of 0.3 e turns 0.02 Å higher than CO over the same molecules, with a standard deviation of 0.12 Å.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from twinscope.agents.noise import MEDIAN_TO_SIGMA
from twinscope.agents.structure_discovery.agent.operator import Operator, Place
from twinscope.agents.structure_discovery.agent.overview import Overview
from twinscope.agents.structure_discovery.agent.segmentation import Region
from twinscope.agents.structure_discovery.stack import ImageStack, gradient_per_hertz
from twinscope.errors import AcquisitionError

log = logging.getLogger(__name__)

# Above everything that was seen, in Å: to go from place to place, and to begin an approach over one molecule.
_TRAVEL_CLEARANCE, _APPROACH_CLEARANCE = 5.0, 0.5
# Rise of the force gradient (N/m) that counts, and how far above the lowest slice (Å) it is found.
_RISE = 0.06
_TURNING_ABOVE_LOWEST = 0.71
# Between the images of the approach, in Å, and how many there can be.
_STEP = 0.2
_MOST_STEPS = 40
_PIXELS = 32
# Over the frame, the noise of single pixels, times this, is nothing.
_NOISE_FACTOR = 6.0
# What smoothing by a pixel leaves of the noise of single pixels.
_SMOOTHED = 0.28
# A molecule is in the middle when it is not farther off than this, in Å; how often the frame follows it.
_MIDDLE = 0.8
_MOST_MOVES = 3


@dataclass(frozen=True, eq=False)
class Framed:
    """A molecule in the middle of a frame, and how near the tip may come.

    Attributes
    ----------
    place
        The frame, with the pixels of the approach.
    turning
        Å: height at which the first place turned repulsive; NaN when limits or interlocks ended the approach before.
    lowest
        Å: height of the lowest slice.
    heights
        Å: of the images of the approach.
    images
        Those images.
    note
        Why the approach ended, for people.
    """

    place: Place
    turning: float
    lowest: float
    heights: tuple[float, ...]
    images: tuple[ImageStack, ...]
    note: str


def approach_region(operator: Operator, overview: Overview, region: Region, size: float, line_time: float) -> Framed:
    """Go to where something was seen, high above all, and do :func:`approach_molecule` from just above what is there.

    Parameters
    ----------
    operator
        Of the microscope.
    overview, region
        What was seen, and which of it.
    size, line_time
        As there.

    Raises
    ------
    AcquisitionError
        As there.
    """
    operator.travel(region.x, region.y, overview.highest + _TRAVEL_CLEARANCE)
    start = overview.height_near(region.x, region.y, size / 2) + _APPROACH_CLEARANCE
    return approach_molecule(operator, region.x, region.y, start, size, line_time)


def approach_molecule(operator: Operator, x: float, y: float, start: float, size: float, line_time: float) -> Framed:
    """Bring a molecule to the middle of a frame and find the height of its lowest slice.

    Parameters
    ----------
    operator
        Of the microscope; its tip may be anywhere above `start`.
    x, y
        Å: where the molecule was seen.
    start
        Å: a height that is safe over the whole frame.
    size
        Of the frame, in Å.
    line_time
        Of the small images, in s.

    Raises
    ------
    AcquisitionError
        When nothing is seen down to where the approach has to end.
    """
    place, height = _centred(operator, Place(x, y, size, size, (_PIXELS, _PIXELS)), start, line_time)
    heights: list[float] = []
    images: list[ImageStack] = []
    turning, note = None, "limits or interlocks end the approach"
    while turning is None and len(heights) < _MOST_STEPS and operator.allowed(place, height):
        heights.append(height)
        images.append(operator.image(place, height, line_time))
        turning = _turning(heights, images)
        height -= _STEP
    if turning is not None:
        note = "the first place in the frame is repulsive"
    elif not heights or len(heights) == _MOST_STEPS:
        raise AcquisitionError(
            f"the molecule at ({place.x:.1f}, {place.y:.1f}) Å did not turn repulsive from {start:.1f} Å down to"
            f" {height:.1f} Å: is it still there?"
        )
    lowest = heights[-1] if turning is None else turning - _TURNING_ABOVE_LOWEST
    log.info("approach at (%.1f, %.1f) Å: %s; the lowest slice is at %.2f Å", place.x, place.y, note, lowest)
    return Framed(place, np.nan if turning is None else turning, lowest, tuple(heights), tuple(images), note)


def _centred(operator: Operator, place: Place, height: float, line_time: float) -> tuple[Place, float]:
    """Come down until something is seen, and follow it with the frame; return the frame and the height."""
    start, moves = height, 0
    while start - height < _MOST_STEPS * _STEP and operator.allowed(place, height):
        offset = _offset(operator.image(place, height, line_time).frequency_shift[0], place)
        if offset is None:
            height -= _STEP
        elif moves == _MOST_MOVES or np.hypot(*offset) <= _MIDDLE:
            return place, height
        else:
            place = replace(place, x=place.x + offset[0], y=place.y + offset[1])
            moves += 1
    raise AcquisitionError(
        f"no molecule was seen at ({place.x:.1f}, {place.y:.1f}) Å from {start:.1f} Å down to {height:.1f} Å, where the"
        " approach has to end: is it still there?"
    )


def _noise(image: np.ndarray) -> float:
    """Estimate the standard deviation of single pixels, in Hz, from what neighbours do not share."""
    rough = image[:, 2:] - 2 * image[:, 1:-1] + image[:, :-2]
    return MEDIAN_TO_SIGMA * float(np.median(np.abs(rough))) / np.sqrt(6.0)


def _offset(image: np.ndarray, place: Place) -> tuple[float, float] | None:
    """Where the molecule is, in Å from the middle of the frame; None while nothing is seen."""
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    attraction = np.median(border) - ndimage.gaussian_filter(image, 1.0)
    if attraction.max() < max(_NOISE_FACTOR * _noise(image), 0.05):
        return None
    labels = np.asarray(ndimage.label(attraction > 0.5 * attraction.max())[0])
    indices = np.indices(image.shape)
    rows, columns = indices[0], indices[1]
    middle = (np.array(image.shape) - 1) / 2
    inside = labels > 0
    nearest = int(np.argmin(np.where(inside, np.hypot(rows - middle[0], columns - middle[1]), np.inf)))
    mine = labels == labels.ravel()[nearest]
    pitch = place.width / image.shape[1]
    across = [
        (float(index[mine].min() + index[mine].max()) / 2 - half) * pitch
        for index, half in zip((columns, rows), middle[::-1], strict=True)
    ]
    return across[0], across[1]


def _turning(heights: list[float], images: list[ImageStack]) -> float | None:
    """Height at which the first place has risen above its minimum; None while none has."""
    if len(images) < 2:
        return None
    rise = _RISE / abs(gradient_per_hertz(images[-1].cantilever))
    return turning_height(np.array(heights), np.array([image.frequency_shift[0] for image in images]), rise)


def turning_height(heights: np.ndarray, shifts: np.ndarray, rise: float) -> float | None:
    """Find where the first place has risen above its minimum.

    Parameters
    ----------
    heights
        Å, shape (m,), falling.
    shifts
        Frequency shift in Hz, shape (m, ny, nx). Each image is smoothed by a pixel; the first and last lines and
        pixels do not count.
    rise
        That counts, in Hz; more where the noise is higher.

    Returns
    -------
    float or None
        Å: between the last two heights, where the rise is taken as linear; None while nothing has risen so much.
    """
    noise = _NOISE_FACTOR * _SMOOTHED * max(_noise(image) for image in shifts)
    smooth = np.array([ndimage.gaussian_filter(image, 1.0)[1:-1, 1:-1] for image in shifts])
    lowest = smooth.min(axis=0)
    place = int(np.argmax(smooth[-1] - lowest))
    risen, before = float((smooth[-1] - lowest).flat[place]), float((smooth[-2] - lowest).flat[place])
    enough = max(rise, noise)
    if risen < enough:
        return None
    share = (enough - before) / (risen - before)
    return float(heights[-2] + share * (heights[-1] - heights[-2]))
