"""Regions of an image that look alike inside: grains, and the phases that they are of.

Spectra of windows change abruptly at boundaries and hardly elsewhere. Regions are the basins of a watershed (Beucher
and Lantuéjoul, 1979) of this change, so that their number follows from the image; their mean spectra without direction
say which of them are the same, turned.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from sklearn.cluster import KMeans

from twinscope._optional import import_optional
from twinscope.agents.analyses.nmf import singular_spectrum
from twinscope.agents.analyses.recipes import ROBUST, Recipe
from twinscope.agents.analyses.windows import Spectra, window_middles, window_spectra
from twinscope.errors import InvalidRequestError

# The change of spectra is looked at in so many directions of largest variance, and smoothed by this many windows.
_DIRECTIONS = 20
_SMOOTHING = 0.7
# Windows in the heart of a region; smaller ones are no regions.
_SMALLEST_HEART = 8
# What changes over more rings than this is no peak of a lattice.
_BROAD = 3.0


@dataclass(frozen=True, eq=False)
class Regions:
    """What :func:`find_regions` finds.

    Attributes
    ----------
    grains
        Number of the region of each window, from 0, shape (my, mx); -1 where the image is not known.
    phases
        Number of the phase of each window, the largest first; None unless their number was given.
    boundary
        How much the spectrum changes at each window, shape (my, mx).
    x, y
        Middles of the windows, in pixels from the first one's, shapes (mx,) and (my,).
    """

    grains: np.ndarray
    phases: np.ndarray | None
    boundary: np.ndarray
    x: np.ndarray
    y: np.ndarray

    @property
    def grain_count(self) -> int:
        """Number of regions."""
        return int(self.grains.max()) + 1


def find_regions(image: np.ndarray, recipe: Recipe = ROBUST, phases: int | None = None) -> Regions:
    """Find the regions of an image, and which are of the same phase.

    Parameters
    ----------
    image
        Shape (ny, nx), in any unit; windows with a NaN belong to no region.
    recipe
        Of spectra that know directions. Windows should be at most half as wide as the regions, and steps a quarter of
        the windows.
    phases
        How many, if regions are to be grouped. The number is not found: how well groups fall apart (their silhouette)
        was as good for four groups of one phase as for four phases.

    Raises
    ------
    InvalidRequestError
        As :func:`~.windows.window_spectra`; or when the spectra know no directions, or there are fewer regions than
        phases.
    MissingPackageError
        When scikit-image is not there.
    """
    if recipe.spectrum == "radial":
        raise InvalidRequestError(
            f"the recipe {recipe.name!r} averages over directions, by which grains differ: expected another spectrum"
        )
    spectra = window_spectra(np.asarray(image), recipe)
    boundary = _boundary(spectra.features * np.sqrt(spectra.counts), spectra.known)
    grains = _watershed(boundary, spectra.known)
    y, x = (window_middles(length, recipe) for length in image.shape)
    grouped = None if phases is None else _phases(image, grains, recipe, phases)
    return Regions(grains, grouped, boundary, x, y)


def _phases(image: np.ndarray, grains: np.ndarray, recipe: Recipe, number: int) -> np.ndarray:
    """Group regions whose spectra without direction are alike; -1 where nothing is known."""
    count = int(grains.max()) + 1
    if not 1 <= number <= count:
        raise InvalidRequestError(
            f"phases is {number} and there are {count} regions: expected 1 to {count}", name="phases"
        )
    turned = window_spectra(np.asarray(image), replace(recipe, spectrum="radial"))
    groups = KMeans(number, n_init=10, random_state=0).fit(_peaks(turned, grains, count)).labels_
    of_grains = _by_size(np.asarray(groups), np.bincount(grains[grains >= 0], minlength=count))
    return np.where(grains >= 0, of_grains[grains], -1)


def _boundary(features: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return how much features (n, d) change from window to window: shape (my, mx), infinite where not known."""
    centred = features - features.mean(axis=0)
    found = singular_spectrum(centred, number=min(_DIRECTIONS, *centred.shape))
    scores = found.vectors * found.values
    change = np.zeros(known.shape)
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    for score in scores.T:
        picture = np.zeros(known.shape)
        picture[known] = score
        # What is not known is like what is next to it: its edge is none of a grain.
        picture = ndimage.gaussian_filter(picture[tuple(nearest)], _SMOOTHING)
        change += ndimage.sobel(picture, 0) ** 2 + ndimage.sobel(picture, 1) ** 2
    change = ndimage.gaussian_filter(np.sqrt(change), _SMOOTHING)
    return np.where(known, change, np.inf)


def _watershed(boundary: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Give each basin of the change a number, from 0; -1 where nothing is known."""
    filters = import_optional("skimage.filters", "agents", "finding regions")
    segmentation = import_optional("skimage.segmentation", "agents", "finding regions")
    heights = np.log(np.maximum(boundary, 1e-30))
    inside = heights[known]
    threshold = filters.threshold_otsu(inside) if np.ptp(inside) > 0 else np.inf
    hearts, count = ndimage.label(known & (heights <= threshold))
    sizes = np.bincount(hearts.ravel(), minlength=count + 1)
    small = sizes < _SMALLEST_HEART
    small[1 + int(np.argmax(sizes[1:]))] = False
    hearts[small[hearts]] = 0
    basins = segmentation.watershed(np.where(known, heights, heights[known].max()), hearts, mask=known)
    # A place that is cut off from all hearts belongs to none.
    numbers = np.full(int(basins.max()) + 1, -1)
    kept = np.unique(basins[basins > 0])
    numbers[kept] = np.arange(len(kept))
    return np.asarray(numbers[basins])


def _peaks(turned: Spectra, grains: np.ndarray, count: int) -> np.ndarray:
    """Return mean radial spectra of regions, without what changes slowly along them, and of the length one: (n, d)."""
    # At boundaries windows show two regions.
    same = ndimage.maximum_filter(grains, 3) == ndimage.minimum_filter(grains, 3)
    which, heart = grains[turned.known], same[turned.known]
    means = []
    for one in range(count):
        inside = which == one
        chosen = inside & heart if (inside & heart).any() else inside
        means.append(turned.features[chosen].mean(axis=0))
    sharp = np.array(means) - ndimage.gaussian_filter1d(np.array(means), _BROAD, axis=1)
    return np.asarray(sharp / np.maximum(np.linalg.norm(sharp, axis=1, keepdims=True), 1e-30))


def _by_size(labels: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Give groups their numbers by falling size."""
    whole = np.bincount(labels, weights=sizes)
    place = np.empty(len(whole), int)
    place[np.argsort(-whole, kind="stable")] = np.arange(len(whole))
    return place[labels]
