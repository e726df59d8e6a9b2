"""An image cut into windows, and what their Fourier transforms look like."""

from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.agents.analyses.recipes import Recipe
from twinscope.errors import InvalidRequestError


@dataclass(frozen=True, eq=False)
class Spectra:
    """What the windows of an image look like.

    Attributes
    ----------
    features
        Shape (n, d), nothing below zero, one row for each window that is known.
    counts
        How often each feature counts, shape (d,).
    known
        Which windows are known, shape (my, mx): n of them, line by line.
    unit
        Of the power, in that of the image, squared; features of another image with the same unit can be compared.
    """

    features: np.ndarray
    counts: np.ndarray
    known: np.ndarray
    unit: float

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Put values of the known windows (n, ...) where the windows are: (my, mx, ...), NaN elsewhere."""
        full = np.full((*self.known.shape, *values.shape[1:]), np.nan, values.dtype)
        full[self.known] = values
        return full


def window_starts(length: int, recipe: Recipe) -> np.ndarray:
    """Return the first pixel of each window along an axis of an image.

    Raises
    ------
    InvalidRequestError
        When the image is smaller than a window.
    """
    if length < recipe.window:
        raise InvalidRequestError(
            f"the image is {length} pixels long and a window {recipe.window}: expected an image of at least one window;"
            " take smaller windows",
            name="window",
        )
    return np.arange(0, length - recipe.window + 1, recipe.step)


def window_middles(length: int, recipe: Recipe) -> np.ndarray:
    """Return the middle of each window along an axis of an image, in pixels from the middle of the first one."""
    return window_starts(length, recipe) + (recipe.window - 1) / 2


def window_spectra(image: np.ndarray, recipe: Recipe, unit: float | None = None) -> Spectra:
    """Compute the features of all windows of an image.

    Parameters
    ----------
    image
        Shape (ny, nx); windows with a NaN are not known.
    recipe
        How.
    unit
        Of the power; the median of this image's unless given.

    Raises
    ------
    InvalidRequestError
        When the image is no matrix, smaller than a window, has no window without NaN, or is constant.
    """
    if image.ndim != 2:
        raise InvalidRequestError(f"the image has the shape {image.shape}: expected rows and columns")
    rows, columns = (window_starts(length, recipe) for length in image.shape)
    image = np.asarray(image, float)
    measured = image[np.isfinite(image)]
    if len(measured) and measured.min() == measured.max():
        raise InvalidRequestError(f"the image is constant, {measured[0]:.6g}: expected one that shows something")
    if recipe.level and len(measured):
        # In single precision little would be left of small differences on top of a large mean.
        image = image - measured.mean()
    every = np.lib.stride_tricks.sliding_window_view(image, (recipe.window, recipe.window))
    # A line of windows at a time: all together would not fit into a cache, and perhaps not into memory.
    lines = [_line(every[row, columns], recipe) for row in rows]
    known = np.stack([known for _, known in lines])
    if not known.any():
        raise InvalidRequestError(
            f"every window of {recipe.window} pixels has a NaN: expected one without; take smaller windows, or fill in"
        )
    power = np.concatenate([power for power, _ in lines])
    unit = unit or _unit(power, recipe)
    if not unit > 0:
        raise InvalidRequestError("more than half of the image is constant: expected one that shows something")
    return Spectra(_features(power, recipe, unit), feature_counts(recipe), known, unit)


def full_spectrum(half: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Turn features (..., d) into pictures (..., window, window) with the frequency zero in the middle.

    Those of rings stay what they are: one value for each distance from the middle.
    """
    if recipe.spectrum == "radial":
        return half
    w = recipe.window
    left = half.reshape(*half.shape[:-1], w, w // 2 + 1)
    full = np.empty((*half.shape[:-1], w, w), half.dtype)
    full[..., : w // 2 + 1] = left
    # The spectrum of real numbers is the same on the other side.
    full[..., w // 2 + 1 :] = np.roll(left[..., ::-1, 1:-1][..., ::-1], 1, axis=-2)
    return np.fft.fftshift(full, axes=(-2, -1))


@lru_cache(maxsize=8)
def feature_counts(recipe: Recipe) -> np.ndarray:
    """Return how often each feature stands in the whole spectrum, shape (d,)."""
    return np.ones(recipe.window // 2) if recipe.spectrum == "radial" else _half_counts(recipe.window)


def _half_counts(window: int) -> np.ndarray:
    """Return how often each frequency of a half spectrum stands in the whole one: shape (d,)."""
    twice = np.full((window, window // 2 + 1), 2.0)
    twice[:, [0, -1]] = 1.0
    return twice.ravel()


def _line(windows: np.ndarray, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Return power spectra (m, w, w / 2 + 1) of the windows that are known, and which these are."""
    known: np.ndarray = np.isfinite(windows).all(axis=(1, 2))
    return np.asarray(_power(jnp.asarray(windows, jnp.float32), recipe.level))[known], known


@partial(jax.jit, static_argnums=1)
def _power(windows: jax.Array, level: bool) -> jax.Array:
    one = np.hanning(windows.shape[-1])
    mean = windows.mean((1, 2), keepdims=True) if level else 0.0
    return jnp.abs(jnp.fft.rfft2((windows - mean) * np.sqrt(np.outer(one, one)))) ** 2


def _unit(power: np.ndarray, recipe: Recipe) -> float:
    return recipe.offset if recipe.spectrum == "log_offset" else float(np.median(power))


def _features(power: np.ndarray, recipe: Recipe, unit: float) -> np.ndarray:
    if recipe.spectrum == "log_offset":
        return np.log(power + np.float32(unit)).reshape(len(power), -1)
    ratio = np.log1p(power / np.float32(unit)).reshape(len(power), -1)
    return ratio if recipe.spectrum == "log_ratio" else ratio @ _rings(recipe.window)


@lru_cache(maxsize=8)
def _rings(window: int) -> np.ndarray:
    """Return what averages a half spectrum over rings around its middle, shape (d, window / 2) for d frequencies."""
    ky, kx = np.meshgrid(np.fft.fftfreq(window) * window, np.arange(window // 2 + 1), indexing="ij")
    ring = np.rint(np.hypot(ky, kx)).astype(int).ravel()
    member = (ring[:, None] == np.arange(window // 2)) * _half_counts(window)[:, None]
    return (member / member.sum(axis=0)).astype(np.float32)
