"""Taking the tilt, the drift and the terraces off a topograph: what is left stands on the bare surface."""

import numpy as np
from scipy import ndimage

# A slope (Å/Å) below which a place may be bare metal: molecules are rounder, and steps steeper. Noise may be more.
_FLAT_SLOPE = 0.008
_NOISE_FACTOR = 3.0
# Smoothing before the slope is taken, in pixels.
_SMOOTHING = 1.0
# A bare patch says how high a terrace is when a disc of this radius (Å) has room in it: on top of molecules, and of
# their islands, there is less.
_SMALLEST_TERRACE = 7.0
# Things are this near (Å) to the terrace on which they stand.
_REACH = 25.0
# So far (Å) the edge of a step is blurred towards its lower side; nothing is seen there.
_SLOPE_OF_STEP = 5.0
# Of terraces: a place belongs to the highest one that it is not below by more than this (Å).
_TOLERANCE = 0.4


def without_tilt(heights: np.ndarray) -> np.ndarray:
    """Take off the slope along the lines, and the offsets between them: tilt and drift.

    Both come from the places that change least, so that steps and molecules do not count.

    Parameters
    ----------
    heights
        Å, shape (ny, nx), line by line.
    """
    along = np.diff(heights, axis=1)
    heights = heights - np.median(along) * np.arange(heights.shape[1])
    quiet = np.abs(np.gradient(heights, axis=1))
    quiet = quiet <= np.median(quiet, axis=1, keepdims=True)
    between = np.diff(heights, axis=0)
    offsets = [
        np.median(row[both] if both.any() else row) for row, both in zip(between, quiet[1:] & quiet[:-1], strict=True)
    ]
    return heights - np.cumsum([0.0, *offsets])[:, None]


def above_ground(heights: np.ndarray, pitch: float) -> np.ndarray:
    """Height of every place above the terrace on which it is.

    Terraces are the flat patches. A place belongs to the highest of those near it that it is not below: beside a step,
    what lies on the lower side is higher than the lower terrace and lower than the upper one. On the blurred edge of a
    step itself the height is zero.

    Parameters
    ----------
    heights
        Å, shape (ny, nx), without tilt.
    pitch
        Of the pixels, in Å.

    Returns
    -------
    numpy.ndarray
        Å, shape (ny, nx).
    """
    slope = ndimage.gaussian_gradient_magnitude(heights, _SMOOTHING) / pitch
    flat = slope < max(_FLAT_SLOPE, _NOISE_FACTOR * float(np.percentile(slope, 10)))
    patches, count = ndimage.label(flat)
    room = ndimage.maximum(ndimage.distance_transform_edt(flat), patches, np.arange(1, count + 1)) * pitch
    terraces = np.flatnonzero(room >= _SMALLEST_TERRACE) + 1
    if not len(terraces):
        return heights - np.median(heights)
    ground = np.full(heights.shape, -np.inf)
    nearest, away = np.zeros(heights.shape), np.full(heights.shape, np.inf)
    lowest = np.full(heights.shape, np.inf)
    for terrace in terraces:
        inside = patches == terrace
        level = float(np.median(heights[inside]))
        distance = ndimage.distance_transform_edt(~inside) * pitch
        near = distance < _REACH
        nearest = np.where(distance < away, level, nearest)
        away = np.minimum(away, distance)
        lowest = np.where(near, np.minimum(lowest, level), lowest)
        ground = np.where(near & (level <= heights + _TOLERANCE), np.maximum(ground, level), ground)
    ground = np.where(np.isfinite(ground), ground, np.where(np.isfinite(lowest), lowest, nearest))
    across = 2 * round(_SLOPE_OF_STEP / pitch) + 1
    beside_step = ndimage.maximum_filter(ground, size=across) > ground + _TOLERANCE
    return np.where(beside_step, 0.0, heights - ground)
