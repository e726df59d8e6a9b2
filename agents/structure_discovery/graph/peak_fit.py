"""Fit of peaks of known shape to an occupancy on a grid, one by one."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from twinscope.errors import InvalidRequestError

# How much the steps of an axis may differ, as part of them.
_UNEVEN = 1e-3
# Voxels below this part of the middle one tell nothing about the top of a peak.
_FLOOR = 0.05
# How firmly the six numbers of a fit are held to zero, in units of the weight of one voxel at the top of the peak: the
# widths to the known ones, the others only so that a lone voxel can be fitted.
_FIRMNESS = (0, 1e-9, 1e-9, 1e-9, 0.3, 0.3)
# In units of the known curvature: no top is sought farther away than a peak so flat has it.
_FLATTEST = 0.3
_OFFSETS = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], [-1, 0, 1], indexing="ij"), axis=-1).reshape(-1, 3)
_CENTRE = len(_OFFSETS) // 2


@dataclass(frozen=True, slots=True)
class PeakShape:
    """The occupancy around an atom at the origin, exp(-(x² + y²) / 2 lateral² - z² / 2 depth²).

    Attributes
    ----------
    lateral, depth
        Standard deviations, in Å.
    """

    lateral: float = 0.35
    depth: float = 0.25

    @property
    def widths(self) -> np.ndarray:
        """Standard deviations along x, y and z, in Å, shape (3,)."""
        return np.array([self.lateral, self.lateral, self.depth])

    def occupancy(self, positions: ArrayLike, depths: ArrayLike, x: ArrayLike, y: ArrayLike) -> np.ndarray:
        """Occupancy of atoms, the highest of their peaks at every point: what networks learn to tell.

        Parameters
        ----------
        positions
            Å, shape (n, 3).
        depths, x, y
            Å, shapes (nd,), (nx,) and (ny,).

        Returns
        -------
        ndarray, shape (nd, ny, nx)
        """
        atoms = np.asarray(positions, dtype=float).reshape(-1, 3)
        axes = (x, y, depths)
        factors = [
            np.exp(-0.5 * ((np.asarray(axis, dtype=float)[None] - atoms[:, column, None]) / width) ** 2)
            for column, (axis, width) in enumerate(zip(axes, self.widths, strict=True))
        ]
        peaks = factors[2][:, :, None, None] * factors[1][:, None, :, None] * factors[0][:, None, None, :]
        return peaks.max(axis=0, initial=0.0)


@dataclass(frozen=True, slots=True)
class Grid:
    """A grid of equal steps.

    Attributes
    ----------
    origin, step
        Å, shapes (3,): along (depth, y, x), as voxels are counted.
    shape
        Number of voxels.
    """

    origin: np.ndarray
    step: np.ndarray
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, depths: ArrayLike, x: ArrayLike, y: ArrayLike) -> Self:
        """Make a grid of its axes.

        Raises
        ------
        InvalidRequestError
            When the steps of an axis are not equal, or depths do not fall, or x or y do not rise.
        """
        axes = {name: np.asarray(axis, dtype=float) for name, axis in (("depths", depths), ("y", y), ("x", x))}
        step = np.array([_step(name, values) for name, values in axes.items()])
        nd, ny, nx = (len(values) for values in axes.values())
        return cls(np.array([values[0] for values in axes.values()]), step, (nd, ny, nx))

    def holds(self, positions: np.ndarray) -> np.ndarray:
        """Whether positions (x, y, z) lie in one of the voxels: half a step beyond the outer ones is within."""
        voxels = (positions[:, ::-1] - self.origin) / self.step
        return ((voxels >= -0.5) & (voxels <= np.array(self.shape) - 0.5)).all(axis=1)


def _step(name: str, values: np.ndarray) -> float:
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise InvalidRequestError(f"{name} of the occupancy is {values}: expected at least two coordinates, in Å")
    steps = np.diff(values)
    mean = float(steps.mean())
    rising = name != "depths"
    if mean == 0 or (mean > 0) != rising or np.abs(steps - mean).max() > _UNEVEN * abs(mean):
        raise InvalidRequestError(
            f"{name} of the occupancy goes from {values[0]:g} to {values[-1]:g} Å in steps from {steps.min():g} to"
            f" {steps.max():g} Å: expected equal steps {'up' if rising else 'down'}",
            name=name,
        )
    return mean


@dataclass(frozen=True, slots=True)
class Windows:
    """The 27 voxels around each of n voxels: indices (n, 27, 3), values (n, 27), and which are its own."""

    voxels: np.ndarray
    values: np.ndarray
    own: np.ndarray

    @classmethod
    def around(cls, voxels: np.ndarray, values: np.ndarray, grid: Grid) -> Self:
        """Cut them out of the values on the grid, shape of the grid; voxels have the shape (n, 3)."""
        neighbours = voxels[:, None] + _OFFSETS
        inside = ((neighbours >= 0) & (neighbours < grid.shape)).all(axis=-1)
        neighbours = np.clip(neighbours, 0, np.array(grid.shape) - 1)
        windows = values[tuple(np.moveaxis(neighbours, -1, 0))]
        return cls(neighbours, windows, inside)

    def without_neighbours(self, positions: np.ndarray, grid: Grid, shape: PeakShape) -> Self:
        """Leave out voxels that another of the n peaks is nearer to, in units of the widths."""
        at = (grid.origin + self.voxels * grid.step)[..., ::-1]
        distances = (((at[:, :, None] - positions) / shape.widths) ** 2).sum(axis=-1)
        nearest = np.einsum("nkn->nk", distances) <= distances.min(axis=-1, initial=np.inf)
        nearest[:, _CENTRE] = True
        return replace(self, own=self.own & nearest)


def fit_peaks(windows: Windows, grid: Grid, shape: PeakShape) -> tuple[np.ndarray, np.ndarray]:
    """Positions (n, 3) in Å and heights (n,) of the Gaussians in the windows; the height is 0 where there is no top.

    With r in units of the widths, log occupancy = a + b·r - (1 + c) (x² + y²) / 2 - (1 + d) z² / 2, linear in the six
    numbers a, b, c and d. Errors of the logarithm go with the inverse of the occupancy, so that its square is the
    weight. c and d are drawn towards zero; they are there because doubt widens the peaks of a network, and a fit of too
    narrow a peak would be drawn towards the middle of the voxel.
    """
    parts = windows.values / windows.values[:, _CENTRE, None]
    used = windows.own & (parts > _FLOOR)
    weights = np.where(used, parts, 0.0) ** 2
    offsets = _OFFSETS * grid.step / shape.widths[::-1]
    lateral, deep = -0.5 * (offsets[:, 1:] ** 2).sum(axis=1), -0.5 * offsets[:, 0] ** 2
    terms = np.column_stack([np.ones(len(offsets)), offsets, lateral, deep])
    measured = np.log(np.where(used, windows.values, 1.0)) - (lateral + deep)
    normal = np.einsum("nk,ki,kj->nij", weights, terms, terms) + np.diag(_FIRMNESS)
    right = np.einsum("nk,ki,nk->ni", weights, terms, measured)
    solution = np.linalg.solve(normal, right[..., None])[..., 0]
    curvatures = np.maximum(1 + solution[:, [5, 4, 4]], _FLATTEST)
    tops = solution[:, 1:4] / curvatures
    # The height over all voxels, not that of the parabola: a spike of noise in one voxel makes no high peak.
    peaks = windows.own * np.exp(-0.5 * ((offsets - tops[:, None]) ** 2).sum(axis=-1))
    heights = (peaks * windows.values).sum(axis=1) / np.maximum((peaks**2).sum(axis=1), np.finfo(float).tiny)
    shifts = tops * shape.widths[::-1]
    heights = np.where((np.abs(shifts) <= np.abs(grid.step)).all(axis=1), heights, 0.0)
    positions = grid.origin + windows.voxels[:, _CENTRE] * grid.step + shifts
    return positions[:, ::-1], heights
