"""Maps of current-voltage curves over metal islands of two electrical types, whose truth is known."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

_ISLAND = (3.0, 6.0)  # Radius, in pixels.
_THERMAL = 0.0257  # V
_FLOOR = 2e-12  # A, rms
_SATURATION = 10e-9  # A
OHMIC, SCHOTTKY = 0, 1


@dataclass(frozen=True, eq=False)
class Electrodes:
    """A map and its truth.

    Attributes
    ----------
    voltage
        V, shape (n,).
    current
        A, shape (ny, nx, n).
    height
        m, shape (ny, nx).
    islands
        Number of the island at each pixel from 1, 0 beside them.
    types
        Electrical type of each island, shape (islands,).
    """

    voltage: np.ndarray
    current: np.ndarray
    height: np.ndarray
    islands: np.ndarray
    types: np.ndarray

    @property
    def classes(self) -> np.ndarray:
        """Type at each pixel from 1, 0 beside islands: shape (ny, nx)."""
        return np.concatenate([[0], self.types + 1])[self.islands]


def electrodes(seed: int, shape: tuple[int, int] = (60, 120), count: int = 24, points: int = 200) -> Electrodes:
    """Make one: ohmic islands and Schottky contacts, each with its own parameters, seen by a blunt tip.

    Parameters
    ----------
    seed
        Of everything.
    shape
        Pixels (ny, nx).
    count, points
        How many islands, and points of each curve.
    """
    random = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    islands = np.zeros(shape, int)
    height = np.zeros(shape)
    number = 0
    while number < count:
        y, x, radius = *random.uniform((4, 4), np.array(shape) - 4), random.uniform(*_ISLAND)
        away = np.hypot(rows - y, columns - x)
        if (islands[away < radius + 2.5] > 0).any():
            continue
        number += 1
        inside = away < radius
        islands[inside] = number
        # Flat tops and sharp ones, whatever the type.
        top = random.uniform(4e-9, 9e-9)
        height[inside] = top if random.random() < 0.5 else top * (1.3 - 0.8 * away[inside] / radius)
    types = random.permutation(np.arange(count) % 2)
    voltage = np.linspace(-1.0, 1.0, points)
    current = np.zeros((*shape, points))
    for island, kind in enumerate(types, start=1):
        area = random.uniform(0.5, 2.0)
        current[islands == island] = area * (_ohmic if kind == OHMIC else _schottky)(voltage, random)
    # The tip touches more than a pixel.
    current = ndimage.gaussian_filter(current, (0.6, 0.6, 0))
    current += _FLOOR * random.normal(size=current.shape) + 0.02 * np.abs(current) * random.normal(size=current.shape)
    slope = 2e-11 * columns - 3e-11 * rows
    seen = ndimage.gaussian_filter(height, 0.5) + slope + 1.5e-10 * random.normal(size=shape)
    return Electrodes(voltage, np.clip(current, -_SATURATION, _SATURATION), seen, islands, types)


def _ohmic(voltage: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return voltage / random.uniform(0.5e9, 2e9)


def _schottky(voltage: np.ndarray, random: np.random.Generator) -> np.ndarray:
    saturation, ideality = 10 ** random.uniform(-12, -11), random.uniform(1.5, 3.0)
    forward = saturation * np.expm1(np.clip(voltage / (ideality * _THERMAL), -50, 25))
    series = np.abs(voltage) / random.uniform(0.3e9, 1e9)
    # The smaller of the barrier's and of the series resistance's current, smoothly.
    return np.where(forward > 0, forward * series / np.maximum(forward + series, 1e-30), forward)
