"""From occupancy to atoms: peaks of known shape, found on a grid and fitted between its points."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter, maximum_filter

from twinscope.agents.structure_discovery.graph.peak_fit import Grid, PeakShape, Windows, fit_peaks
from twinscope.agents.structure_discovery.structure import ELEMENTS
from twinscope.errors import InvalidRequestError

THRESHOLD = 0.35
"""Height of the lowest peak that counts as an atom, unless the caller knows a better one."""

SMALLEST_DISTANCE = 0.7
"""Å: two peaks nearer than this are one atom. The shortest bond that we know of is O-H, 0.95 Å."""

# Å: pixels as near as this to an atom tell where it is, and their average is the atom's place unless it is this far
# from the peak, as where one atom lies below another.
_VOTERS = 0.4
_FARTHEST_VOTE = 0.35

# Voxels: smooths plateaus, so that they have one highest point, and hardly widens a peak.
_SMOOTHING = 0.5


@dataclass(frozen=True, eq=False)
class Peaks:
    """Peaks of an occupancy, the highest first.

    Attributes
    ----------
    positions
        Å, shape (n, 3): x, y and the depth, which is zero at the height of the highest atom. That height is the
        network's: by its error an atom may lie a little above zero.
    heights
        Of the fitted peaks, shape (n,): 1 for an atom without any doubt; noise lifts some above it.
    probabilities
        Of the elements, shape (n, len(ELEMENTS)); rows add up to 1.
    """

    positions: np.ndarray
    heights: np.ndarray
    probabilities: np.ndarray

    def __len__(self) -> int:
        return len(self.heights)


def find_atoms(
    occupancy: ArrayLike,
    depths: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    element_probabilities: ArrayLike,
    *,
    offsets: ArrayLike | None = None,
    threshold: float = THRESHOLD,
    smallest_distance: float = SMALLEST_DISTANCE,
    shape: PeakShape | None = None,
) -> Peaks:
    """Find atoms as peaks of the occupancy.

    A peak is a voxel that is not lower than its 26 neighbours. Around it, the logarithm of the occupancy is a parabola
    of known curvature, whose top is found by linear least squares; the widths may differ a little from the known ones.

    Parameters
    ----------
    occupancy
        Shape (nd, ny, nx), from 0 to 1, as networks put it out after the sigmoid.
    depths, x, y
        Å, shapes (nd,), (nx,) and (ny,), equidistant; `depths` falls, `x` and `y` rise.
    element_probabilities
        Shape (len(ELEMENTS), ny, nx).
    offsets
        Where the nearest atom is, in Å, shape (3, ny, nx): x and y from the pixel, and its depth. Unless None, their
        average around a peak is where the atom is, which found 1 % more of the atoms of 100 molecules; errors of
        positions were the same.
    threshold
        Lowest height of a fitted peak.
    smallest_distance
        Å: of two nearer peaks only the higher one is an atom.
    shape
        What the network was trained to put out; unless given, the default of :class:`PeakShape`.

    Raises
    ------
    InvalidRequestError
        When shapes do not fit together, or a value is not finite.
    """
    grid = Grid.of(depths, x, y)
    values = _checked("occupancy", occupancy, grid.shape)
    elements = _checked("element_probabilities", element_probabilities, (len(ELEMENTS), *grid.shape[1:]))
    shape = shape or PeakShape()
    voxels = _highest_voxels(values, threshold)
    positions, heights = fit_peaks(Windows.around(voxels, values, grid), grid, shape)
    kept = np.flatnonzero(heights >= threshold)
    kept = _apart(positions, kept[np.argsort(-heights[kept], kind="stable")], smallest_distance)
    # The second fit leaves out what belongs to a neighbour: where peaks meet, the occupancy is that of the higher one.
    windows = Windows.around(voxels[kept], values, grid).without_neighbours(positions[kept], grid, shape)
    positions, heights = fit_peaks(windows, grid, shape)
    kept = np.flatnonzero((heights >= threshold) & grid.holds(positions))
    kept = _apart(positions, kept[np.argsort(-heights[kept], kind="stable")], smallest_distance)
    probabilities = _elements_at(elements, positions[kept], grid, shape)
    if offsets is None:
        return Peaks(positions[kept], heights[kept], probabilities)
    votes = _voted(_checked("offsets", offsets, (3, *grid.shape[1:])), positions[kept], grid)
    near = np.linalg.norm(votes - positions[kept], axis=1, keepdims=True) < _FARTHEST_VOTE
    return Peaks(np.where(near, votes, positions[kept]), heights[kept], probabilities)


def _checked(name: str, given: ArrayLike, expected: tuple[int, ...]) -> np.ndarray:
    values = np.asarray(given, dtype=float)
    if values.shape != expected:
        raise InvalidRequestError(f"{name} has the shape {values.shape}: expected {expected}", name=name)
    if not np.isfinite(values).all():
        raise InvalidRequestError(f"{name} has {np.count_nonzero(~np.isfinite(values))} values that are not finite")
    return values


def _highest_voxels(values: np.ndarray, threshold: float) -> np.ndarray:
    """Find voxels that are the highest of their neighbourhood: indices, shape (n, 3)."""
    smooth = gaussian_filter(values, _SMOOTHING, mode="nearest")
    # A peak between the voxels is higher than each of them, by a fifth at most on the usual grid.
    return np.argwhere((maximum_filter(smooth, size=3, mode="nearest") == smooth) & (values >= 0.5 * threshold))


def _apart(positions: np.ndarray, order: np.ndarray, distance: float) -> np.ndarray:
    """Those indices of `order` whose positions keep their distance from all that were taken before them."""
    taken: list[int] = []
    for index in order:
        if not taken or np.linalg.norm(positions[taken] - positions[index], axis=1).min() >= distance:
            taken.append(index)
    return np.array(taken, dtype=int)


def _voted(offsets: np.ndarray, positions: np.ndarray, grid: Grid) -> np.ndarray:
    """Where the pixels around the positions say that their atom is, shape (n, 3); NaN where there are no pixels."""
    y, x = (grid.origin[axis] + np.arange(grid.shape[axis]) * grid.step[axis] for axis in (1, 2))
    squared_x, squared_y = ((axis - positions[:, column, None]) ** 2 for column, axis in enumerate((x, y)))
    voters = squared_y[:, :, None] + squared_x[:, None, :] < _VOTERS**2
    places = offsets + np.stack([*np.broadcast_arrays(x, y[:, None]), np.zeros(grid.shape[1:])])
    count = voters.sum(axis=(1, 2))
    sums = np.einsum("nyx,cyx->nc", voters, places)
    return np.where(count[:, None] > 0, sums / np.maximum(count, 1)[:, None], np.nan)


def _elements_at(elements: np.ndarray, positions: np.ndarray, grid: Grid, shape: PeakShape) -> np.ndarray:
    """Average probabilities around the positions, weighted with the square of the peak: shape (n, elements)."""
    axes = [grid.origin[axis] + np.arange(grid.shape[axis]) * grid.step[axis] for axis in (1, 2)]
    along_y, along_x = (
        np.exp(-(((coordinates - positions[:, column, None]) / shape.lateral) ** 2))
        for column, coordinates in zip((1, 0), axes, strict=True)
    )
    sums = np.einsum("ny,eyx,nx->ne", along_y, elements, along_x, optimize=True)
    return sums / np.maximum(sums.sum(axis=1, keepdims=True), np.finfo(float).tiny)
