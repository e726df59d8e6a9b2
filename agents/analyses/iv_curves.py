"""Kinds of current-voltage curves: islands are found in the topography and told apart by the shape of their curves.

Jany groups the curves of conductive AFM by k-means. What decides is not the clustering: the absolute currents of
islands of one kind differ more than those of two kinds, and a mask made from currents takes the blur of the tip for a
kind of its own. So the mask comes from the height, which is recorded anyway, and curves are brought to one length.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from sklearn.cluster import KMeans

from twinscope._optional import import_optional
from twinscope.agents.noise import MEDIAN_TO_SIGMA
from twinscope.errors import InvalidRequestError

# Times the noise of the bare surface, an island is higher; smaller ones (pixels) are none.
_NOISE_FACTOR = 4.0
_SMALLEST = 6
_SMOOTHING = 0.5
# A line is as long as this part of the largest one, or nothing flows.
_NOTHING = 0.02
_ROUNDS = 5


@dataclass(frozen=True, eq=False)
class CurveKinds:
    """What :func:`curve_kinds` finds.

    Attributes
    ----------
    islands
        Number of the island at each pixel from 1, 0 beside them, shape (ny, nx).
    labels
        Kind of each pixel from 1, 0 beside islands.
    kinds
        Kind of each island from 1, in the order of their numbers; 0 where nothing was measured.
    agreement
        Part of the curves of each island that are of its kind; NaN where nothing was measured.
    curves
        Mean shape of each kind, of the length one: shape (kinds, n).
    """

    islands: np.ndarray
    labels: np.ndarray
    kinds: np.ndarray
    agreement: np.ndarray
    curves: np.ndarray


def find_islands(height: np.ndarray) -> np.ndarray:
    """Find what stands on a tilted plane: number of the island at each pixel (ny, nx) from 1, 0 beside them.

    Raises
    ------
    InvalidRequestError
        When the image is no matrix, has a NaN, or nothing stands out.
    """
    if height.ndim != 2 or not np.isfinite(height).all():
        raise InvalidRequestError(
            f"the height has the shape {height.shape} and {int(np.sum(~np.isfinite(height)))} values that are no"
            " numbers: expected rows and columns of numbers"
        )
    segmentation = import_optional("skimage.segmentation", "agents", "finding islands")
    above, noise = _above_plane(height)
    ground = above < _NOISE_FACTOR * noise
    if ground.all():
        raise InvalidRequestError("nothing stands out of the topography: expected islands on a plane")
    high = above > np.median(above[~ground]) / 2
    # The edge is where the slope is steepest, however high the island.
    slope = ndimage.gaussian_gradient_magnitude(above, _SMOOTHING)
    inside = segmentation.watershed(slope, np.where(high & ~ground, 2, np.where(ground, 1, 0))) == 2
    labels, count = ndimage.label(inside)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    kept = 1 + np.flatnonzero(sizes[1:] >= _SMALLEST)
    if not len(kept):
        raise InvalidRequestError("nothing stands out of the topography: expected islands on a plane")
    numbers = np.zeros(count + 1, int)
    numbers[kept] = np.arange(1, len(kept) + 1)
    return np.asarray(numbers[labels])


def curve_kinds(current: np.ndarray, islands: np.ndarray, kinds: int = 2, seed: int = 0) -> CurveKinds:
    """Group the curves of islands by their shape.

    Parameters
    ----------
    current
        A, shape (ny, nx, n); pixels with a NaN were not measured. A few curves of each island will do.
    islands
        Of :func:`find_islands`.
    kinds
        How many.
    seed
        Of the clustering.

    Raises
    ------
    InvalidRequestError
        When shapes do not fit together, or there are fewer curves on islands than kinds.
    """
    if current.ndim != 3 or current.shape[:2] != islands.shape:
        raise InvalidRequestError(
            f"current has the shape {current.shape} and islands {islands.shape}: expected curves of the same length,"
            " one for each pixel; bring spectra of unequal length to the same voltages first"
        )
    known = (islands > 0) & np.isfinite(current).all(axis=-1)
    curves = current[known]
    if not 1 <= kinds <= len(curves):
        raise InvalidRequestError(
            f"kinds is {kinds} and there are {len(curves)} curves on islands: expected 1 to {len(curves)}", name="kinds"
        )
    lengths = np.linalg.norm(curves, axis=1)
    shapes = curves / np.maximum(lengths, max(_NOTHING * float(np.median(lengths)), 1e-30))[:, None]
    model = KMeans(kinds, n_init=10, random_state=seed).fit(shapes)
    order = np.argsort(-np.bincount(model.labels_, minlength=kinds), kind="stable")
    place = np.empty(kinds, int)
    place[order] = np.arange(1, kinds + 1)
    labels = np.zeros(islands.shape, int)
    labels[known] = place[model.labels_]
    votes = np.zeros((int(islands.max()), kinds + 1))
    np.add.at(votes, (islands[known] - 1, labels[known]), 1.0)
    totals = votes.sum(axis=1)
    of_islands = np.where(totals > 0, votes.argmax(axis=1), 0)
    with np.errstate(invalid="ignore"):
        agreement = np.where(totals > 0, votes.max(axis=1) / totals, np.nan)
    return CurveKinds(islands, labels, of_islands, agreement, np.asarray(model.cluster_centers_[order]))


def _above_plane(height: np.ndarray) -> tuple[np.ndarray, float]:
    """Return heights above the plane of what is lowest, and their noise on it."""
    rows, columns = np.indices(height.shape)
    terms = np.stack([np.ones(height.size), rows.ravel(), columns.ravel()], axis=1).astype(float)
    values = height.ravel().astype(float)
    bare = np.ones(len(values), bool)
    above, noise = values, 0.0
    for _ in range(_ROUNDS):
        plane, *_rest = np.linalg.lstsq(terms[bare], values[bare], rcond=None)
        above = values - terms @ plane
        low = above[above <= np.median(above[bare])]
        noise = MEDIAN_TO_SIGMA * float(np.median(np.abs(low - low.max())))
        bare = above <= np.median(above[bare]) + 2 * noise
    return above.reshape(height.shape), noise
