"""Stacks of other sizes and spacings are brought to the grid that a network was trained on, where that is sound."""

from dataclasses import replace

import numpy as np
from scipy.ndimage import map_coordinates

from twinscope.agents.structure_discovery.stack import ImageStack, StackGrid
from twinscope.errors import InvalidRequestError

# Pixels may be as much coarser than those of the network; finer ones are averaged.
_COARSEST = 2.2
# How much larger or smaller than the network's images the frame may be.
_SMALLEST_SIZE, _LARGEST_SIZE = 0.6, 1.5
_SAME_SIZE = 0.02  # Of the size: as little is filled up at the edges with the last pixel.
_SAME_HEIGHT = 0.02  # Å
# Heights farther apart than this, in Å, are not interpolated: the probe bends and snaps between them.
_WIDEST_GAP = 0.16
_MULTIPLE = 8  # Pixels of an image are a multiple of this: the network halves it three times.


def resampled(stack: ImageStack, grid: StackGrid) -> ImageStack:
    """Bring a stack to the pitch and the heights of a network.

    The lowest slice becomes the lowest of the network; heights in between are interpolated where the gap is small, and
    are NaN where they were not measured.

    Parameters
    ----------
    stack
        As measured.
    grid
        Of the network.

    Returns
    -------
    ImageStack
        With square pixels of the pitch of the grid, as many as fit the frame, and as many heights as the grid has. The
        notes say what was done.

    Raises
    ------
    InvalidRequestError
        When pixels or heights are too far apart, the frame is too small or too large, or nothing varies.
    """
    _check_contrast(stack)
    return _heights(_pixels(stack, grid), grid)


def _pixels(stack: ImageStack, grid: StackGrid) -> ImageStack:
    notes = []
    axes = {}
    for name in ("x", "y"):
        values = getattr(stack, name)
        pitch = (values[-1] - values[0]) / (len(values) - 1)
        if not np.allclose(np.diff(values), pitch, rtol=0, atol=0.05 * pitch):
            raise InvalidRequestError(f"pixels along {name} are not equidistant: expected a scan over a regular grid")
        if pitch > _COARSEST * grid.pitch:
            raise InvalidRequestError(
                f"pixels along {name} are {pitch:.3g} Å apart: expected at most {_COARSEST * grid.pitch:.2g} Å, for the"
                f" network was trained with {grid.pitch:.3g} Å; scan with more pixels or a smaller frame"
            )
        size = values[-1] - values[0] + pitch
        share = size / (grid.pixels * grid.pitch)
        if not _SMALLEST_SIZE <= share <= _LARGEST_SIZE:
            raise InvalidRequestError(
                f"the frame is {size:.4g} Å along {name}: expected {_SMALLEST_SIZE * grid.size:.3g} to"
                f" {_LARGEST_SIZE * grid.size:.3g} Å; crop it, or scan one molecule"
            )
        count = grid.pixels if abs(share - 1) < _SAME_SIZE else _MULTIPLE * int(size / grid.pitch / _MULTIPLE)
        middle = (values[0] + values[-1]) / 2
        axes[name] = middle + (np.arange(count) - (count - 1) / 2) * grid.pitch
        if abs(pitch / grid.pitch - 1) > 1e-3:
            notes.append(f"pixels of {pitch:.4g} Å along {name} were interpolated to {grid.pitch:.4g} Å")
        if count != grid.pixels:
            notes.append(
                f"the frame is {size:.3g} Å along {name}, the network was trained with {grid.size:.3g} Å: errors may be"
                " larger"
            )
    if not notes:
        return stack
    values = np.stack([_interpolated(image, stack, axes["x"], axes["y"]) for image in stack.frequency_shift])
    return replace(stack, frequency_shift=values, **axes, notes=(*stack.notes, *notes))


def _interpolated(image: np.ndarray, stack: ImageStack, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Cubic where all is known, NaN where a neighbour is not."""
    columns = np.interp(x, stack.x, np.arange(len(stack.x)))
    rows = np.interp(y, stack.y, np.arange(len(stack.y)))
    where = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    missing = ~np.isfinite(image)
    known = np.where(missing, np.nanmean(image) if not missing.all() else 0.0, image)
    values: np.ndarray = map_coordinates(known, where, order=3, mode="nearest")
    unknown = map_coordinates(missing.astype(np.float32), where, order=1, mode="nearest") > 1e-3
    return np.where(unknown, np.nan, values).astype(np.float32)


def _heights(stack: ImageStack, grid: StackGrid) -> ImageStack:
    z = stack.z[-1] + grid.spacing * np.arange(grid.slices)[::-1]
    _, ny, nx = stack.shape
    values = np.full((grid.slices, ny, nx), np.nan, np.float32)
    notes = []
    interpolated = []
    for number, height in enumerate(z):
        distance = np.abs(stack.z - height)
        nearest = int(np.argmin(distance))
        if distance[nearest] < _SAME_HEIGHT:
            values[number] = stack.frequency_shift[nearest]
            continue
        above, below = np.flatnonzero(stack.z > height), np.flatnonzero(stack.z < height)
        if len(above) == 0 or len(below) == 0:
            continue
        high, low = above[-1], below[0]
        if stack.z[high] - stack.z[low] < _WIDEST_GAP:
            share = (height - stack.z[low]) / (stack.z[high] - stack.z[low])
            values[number] = share * stack.frequency_shift[high] + (1 - share) * stack.frequency_shift[low]
            interpolated.append(height)
    left_out = int((stack.z > z[0] + _SAME_HEIGHT).sum())
    if left_out:
        notes.append(f"{left_out} slices above the {grid.slices} lowest heights of the network were left out")
    if interpolated:
        notes.append(f"{len(interpolated)} slices were interpolated between heights")
    if not np.isfinite(values).any():
        raise InvalidRequestError("no height of the stack can be given to the network: expected steps of 0.1 Å")
    if np.isnan(values).all((1, 2)).any():
        missing = int(np.isnan(values).all((1, 2)).sum())
        notes.append(f"{missing} of {grid.slices} heights of the network are missing")
    return replace(stack, frequency_shift=values, z=z, notes=(*stack.notes, *notes))


def _check_contrast(stack: ImageStack) -> None:
    for number, image in enumerate(stack.frequency_shift):
        known = image[np.isfinite(image)]
        if known.size and np.ptp(known) <= 1e-6 * max(1.0, float(np.abs(known).max())):
            raise InvalidRequestError(
                f"slice {number} of the stack (z = {stack.z[number]:.4g} Å) is constant, {known[0]:.6g} Hz: there is"
                " nothing to see; scan nearer, or over a molecule"
            )
