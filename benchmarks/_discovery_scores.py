"""How good maps are, in numbers."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

_ON_MOLECULE = 1e-3  # Å: the spheres begin where their map is higher.
_SPHERES = 1
_WIDTH = 1.6449  # Standard deviations on either side that hold 90 % of a Gaussian.
_MOST_PIXELS = 200_000


@dataclass(frozen=True, slots=True)
class MapScore:
    """Errors of one map over many samples.

    Attributes
    ----------
    squared
        Mean squared error, in the unit of the map squared.
    absolute
        Mean absolute error.
    explained
        Part of the variance that is explained, R².
    on_molecule
        Mean absolute error where the vdW spheres are.
    """

    squared: float
    absolute: float
    explained: float
    on_molecule: float


def map_score(values: np.ndarray, truth: np.ndarray, channel: int) -> MapScore:
    """Score one channel of maps (n, maps, ny, nx)."""
    wanted = truth[:, channel]
    difference = values[:, channel] - wanted
    squared = float(np.mean(difference**2))
    inside = truth[:, _SPHERES] > _ON_MOLECULE
    return MapScore(
        squared,
        float(np.abs(difference).mean()),
        1 - squared / float(wanted.var()),
        float(np.abs(difference[inside]).mean()),
    )


def coverage(errors: np.ndarray, sigma: np.ndarray) -> float:
    """Return the part of the errors that lies in the interval that should hold 90 % of them."""
    return float(np.mean(np.abs(errors) <= _WIDTH * sigma))


def rank_correlation(errors: np.ndarray, sigma: np.ndarray, seed: int = 0) -> float:
    """Spearman's correlation of standard deviations with absolute errors, over pixels drawn at random."""
    errors, sigma = np.abs(errors).ravel(), sigma.ravel()
    if errors.size > _MOST_PIXELS:
        chosen = np.random.default_rng(seed).choice(errors.size, _MOST_PIXELS, replace=False)
        errors, sigma = errors[chosen], sigma[chosen]
    return float(spearmanr(errors, sigma).statistic)
