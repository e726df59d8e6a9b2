"""What an image is made of: windows, their Fourier transforms, and the few factors that all of them are mixed of.

Jany, Janas and Krok, Micron 130, 102800 (2020): regions with other lattices, textures or orientations have other
spectra; non-negative factors of these are spectra again, and their weights are maps of where they are.
"""

import logging
from dataclasses import dataclass, replace

import numpy as np

from twinscope.agents.analyses.nmf import factorise, project, singular_spectrum
from twinscope.agents.analyses.recipes import ROBUST, Recipe
from twinscope.agents.analyses.windows import Spectra, full_spectrum, window_middles, window_spectra
from twinscope.errors import InvalidRequestError

log = logging.getLogger(__name__)

# Of the singular values, so many are looked at for the number of components.
_SCREE = 50


@dataclass(frozen=True, eq=False)
class Factors:
    """What the spectra of windows are mixed of, with which other images can be looked at.

    Attributes
    ----------
    values
        Shape (k, d).
    counts
        How often each feature counts, shape (d,).
    unit
        Of the power.
    recipe
        How the features were made; `components` is k.
    """

    values: np.ndarray
    counts: np.ndarray
    unit: float
    recipe: Recipe

    @property
    def pictures(self) -> np.ndarray:
        """The factors as spectra: (k, window, window) with the frequency zero in the middle, or (k, rings)."""
        return full_spectrum(self.values, self.recipe)


@dataclass(frozen=True, eq=False)
class Components:
    """What :func:`analyse` finds.

    Attributes
    ----------
    loadings
        How much of each factor is in each window, shape (k, my, mx); NaN where the image is not known.
    factors
        What the loadings are weights of.
    novelty
        Part of a window's spectrum that the factors do not explain, shape (my, mx): root of the squared error over that
        of the spectrum.
    x, y
        Middles of the windows, in pixels from the first one's, shapes (mx,) and (my,).
    explained
        Parts of the variance that the first singular vectors explain; empty where they were not computed.
    iterations
        Of the factorisation.
    """

    loadings: np.ndarray
    factors: Factors
    novelty: np.ndarray
    x: np.ndarray
    y: np.ndarray
    explained: np.ndarray
    iterations: int

    @property
    def labels(self) -> np.ndarray:
        """The factor with the largest loading, each in units of its own largest: shape (my, mx), -1 where unknown."""
        largest = np.nanmax(self.loadings, axis=(1, 2), keepdims=True)
        relative = np.nan_to_num(self.loadings / np.maximum(largest, 1e-30), nan=-1.0)
        return np.where(np.isfinite(self.novelty), relative.argmax(axis=0), -1)


def analyse(image: np.ndarray, recipe: Recipe = ROBUST) -> Components:
    """Find the factors of an image.

    Parameters
    ----------
    image
        Shape (ny, nx), in any unit; windows with a NaN are left out.
    recipe
        How.

    Raises
    ------
    InvalidRequestError
        When the image is smaller than a window, constant or not known anywhere, or when there are fewer windows than
        components.
    """
    spectra = window_spectra(np.asarray(image), recipe)
    count = len(spectra.features)
    if recipe.components is not None and recipe.components > count:
        raise InvalidRequestError(
            f"components is {recipe.components} and the image has {count} windows of {recipe.window} pixels that are"
            " known: expected at most as many components; take smaller steps or fewer components",
            name="components",
        )
    singular = singular_spectrum(spectra.features, spectra.counts, max(_SCREE, recipe.components or 0))
    explained = (singular.values**2 / singular.total)[:_SCREE]
    wanted = recipe.components or component_number(explained)
    log.info("%d windows, %d components", count, wanted)
    found = factorise(
        spectra.features,
        wanted,
        counts=spectra.counts,
        spectrum=singular,
        iterations=recipe.iterations,
        tolerance=recipe.tolerance,
    )
    factors = Factors(found.factors, spectra.counts, spectra.unit, replace(recipe, components=wanted))
    return _components(image.shape, spectra, factors, found.weights, explained, found.iterations)


def apply(image: np.ndarray, factors: Factors) -> Components:
    """Look at another image of the same unit with factors that are known.

    Raises
    ------
    InvalidRequestError
        As :func:`analyse`.
    """
    spectra = window_spectra(np.asarray(image), factors.recipe, factors.unit)
    weights = project(spectra.features, factors.values, factors.counts)
    return _components(image.shape, spectra, factors, weights, np.zeros(0), 0)


def component_number(explained: np.ndarray) -> int:
    """Choose a number of components: where the gradient of the explained variance has its first local maximum.

    That of the published program; on one image it can be far from what another rule says.
    """
    if len(explained) < 3:
        return len(explained)
    gradient = np.gradient(explained)
    inner = gradient[1:-1]
    peaks = np.flatnonzero((inner > gradient[:-2]) & (inner > gradient[2:])) + 1
    return int(peaks[0]) + 1 if len(peaks) else len(explained)


def _components(
    shape: tuple[int, ...], spectra: Spectra, factors: Factors, weights: np.ndarray, explained: np.ndarray, count: int
) -> Components:
    recipe = factors.recipe
    left = (spectra.features - weights @ factors.values) ** 2 @ spectra.counts
    whole = spectra.features**2 @ spectra.counts
    y, x = (window_middles(length, recipe) for length in shape)
    return Components(
        np.moveaxis(spectra.spread(weights), -1, 0),
        factors,
        spectra.spread(np.sqrt(left / np.maximum(whole, 1e-30))),
        x,
        y,
        explained,
        count,
    )
