"""Recorded spectra at any position: the nearest one, or one between those around it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinscope._optional import import_optional
from twinscope.drivers.replay.branches import Branch
from twinscope.errors import InvalidRequestError
from twinscope.requests import Sweep

# Parts of the distance of positions that are rounding.
_ROUNDING = 1e-9
# Positions by which the distance of neighbours is found.
_ASKED = 256


@dataclass(frozen=True)
class Part:
    """Spectra that share what was swept, and how they answer a request.

    Attributes
    ----------
    positions
        In m, shape (n, 2).
    data
        As recorded, shape (n, channels of the recording, points of the recording).
    rows
        Which of the channels are asked for.
    branch, sweep
        What is asked for.
    """

    positions: np.ndarray
    data: np.ndarray
    rows: Sequence[int]
    branch: Branch
    sweep: Sweep

    def spectra(self, chosen: np.ndarray) -> np.ndarray:
        """Return some of them (m,) along the sweep, shape (m, channels, points)."""
        return self.branch.along(self.data[chosen][:, self.rows].astype(float), self.sweep)


class Curves:
    """Spectra that can answer a request.

    Parameters
    ----------
    parts
        All of them.
    mesh
        From :func:`mesh_of`, to interpolate between positions; None for the nearest spectrum.
    warnings
        What is not as it was asked for.
    """

    def __init__(self, parts: Sequence[Part], mesh: Any, warnings: Sequence[str]) -> None:
        self.warnings = warnings
        self._parts = parts
        self._mesh = mesh
        self._positions = np.concatenate([part.positions for part in parts])
        self._firsts = np.cumsum([0, *(len(part.positions) for part in parts)])
        self._spacing = spacing_of(self._positions)
        self._shape = len(parts[0].rows), parts[0].sweep.points

    def has(self, places: np.ndarray) -> np.ndarray:
        """Tell which places (m, 2), in m, are among the spectra, or not farther away than half of their distance."""
        low, high = box_of(self._positions, self._spacing)
        return np.asarray(((places >= low) & (places <= high)).all(axis=1))

    def at(self, places: np.ndarray) -> np.ndarray:
        """Return the spectra of places (m, 2), in m; NaN where there are none; shape (m, channels, points)."""
        result = np.full((len(places), *self._shape), np.nan)
        inside = self.has(places)
        if inside.any():
            between = self._nearest if self._mesh is None else self._interpolated
            result[inside] = between(places[inside])
        return result

    def _nearest(self, places: np.ndarray) -> np.ndarray:
        return self._recorded([np.argmin(((self._positions - place) ** 2).sum(axis=1)) for place in places])

    def _interpolated(self, places: np.ndarray) -> np.ndarray:
        """Interpolate between the three spectra around each place; at the edges take the nearest one."""
        scaled = places / self._spacing
        simplices = self._mesh.find_simplex(scaled, tol=_ROUNDING)
        affine = self._mesh.transform[simplices]
        two = np.einsum("nij,nj->ni", affine[:, :2], scaled - affine[:, 2])
        factors = np.concatenate([two, 1 - two.sum(axis=1, keepdims=True)], axis=1)
        factors[abs(factors) < _ROUNDING] = 0.0
        result = np.zeros((len(places), *self._shape))
        for corner in range(3):
            factor = factors[:, corner, None, None]
            part = factor * self._recorded(self._mesh.simplices[simplices, corner])
            # A spectrum that does not count must not spread what it does not know.
            result += np.where(factor == 0, 0.0, part)
        beyond = simplices < 0
        if beyond.any():
            result[beyond] = self._nearest(places[beyond])
        return result

    def _recorded(self, chosen: Sequence[Any] | np.ndarray) -> np.ndarray:
        """Return the spectra with some numbers (m,)."""
        numbers = np.asarray(chosen)
        result = np.empty((len(numbers), *self._shape))
        for part, first in zip(self._parts, self._firsts[:-1], strict=True):
            own = (numbers >= first) & (numbers < first + len(part.positions))
            result[own] = part.spectra(numbers[own] - first)
        return result


def interpolation_package() -> Any:
    """Return the package that interpolates between positions.

    Raises
    ------
    MissingPackageError
        When SciPy is not installed.
    """
    return import_optional("scipy.spatial", "replay", "spectra = 'linear'")


def mesh_of(positions: np.ndarray) -> Any:
    """Return triangles between positions (n, 2), in m.

    Raises
    ------
    InvalidRequestError
        When there are none, because the positions lie on a line.
    MissingPackageError
        When SciPy is not installed.
    """
    spatial = interpolation_package()
    try:
        return spatial.Delaunay(positions / spacing_of(positions))
    except (spatial.QhullError, ValueError) as exc:
        raise InvalidRequestError(
            f"the {len(positions)} recorded positions lie on a line or are fewer than three: nothing can be"
            " interpolated between them, set spectra='nearest'",
            name="spectra",
        ) from exc


def spacing_of(positions: np.ndarray) -> float:
    """Return the usual distance of a position (n, 2) from its nearest neighbour; infinity for one that is alone."""
    asked = positions[:: max(len(positions) // _ASKED, 1)]
    nearest = np.array([_nearest_other(positions, position) for position in asked])
    return float(np.median(nearest)) if np.isfinite(nearest).any() else float("inf")


def box_of(positions: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest x and y of positions (n, 2) and what is half a distance around them."""
    half = spacing / 2 * (1 + _ROUNDING)
    return positions.min(axis=0) - half, positions.max(axis=0) + half


def _nearest_other(positions: np.ndarray, position: np.ndarray) -> float:
    distances = np.hypot(*(positions - position).T)
    return float(min(distances[distances > 0], default=np.inf))
