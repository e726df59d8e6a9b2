"""Values between recorded pixels: nearest, linear or cubic, with edges and holes where the recording has them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from twinscope.requests import ScanFrame

Interpolation = Literal["nearest", "linear", "cubic"]
INTERPOLATIONS = ("nearest", "linear", "cubic")
EDGE = 1e-9
"""By this part of its size a place may be beyond the edge of a frame and is still on it."""


# Places closer to the middle of a pixel than this part of one are in it: rounding must not call for its neighbours.
_ROUNDING = 1e-6
# Places that are interpolated together: what they need fits into the cache of a processor.
_BLOCK = 2**16


@dataclass(frozen=True)
class Weights:
    """Which pixels a number of places are made of.

    Attributes
    ----------
    indices
        Into the flattened image, shape (k, n).
    factors
        Shape (k, n); for each place they add up to one.
    inside
        Whether the place is in the frame, shape (n,).
    """

    indices: np.ndarray
    factors: np.ndarray
    inside: np.ndarray

    def apply(self, data: np.ndarray) -> np.ndarray:
        """Interpolate an image (ny, nx); NaN outside, and where a pixel that counts is NaN."""
        flat = data.reshape(-1)
        result = np.zeros(self.indices.shape[1])
        holes = bool(np.isnan(data.sum()))
        for index, factor in zip(self.indices, self.factors, strict=True):
            part = flat.take(index) * factor
            # What does not count must not spread what it does not know.
            result += np.where(factor == 0, 0.0, part) if holes else part
        result[~self.inside] = np.nan
        return result


def to_frame(frame: ScanFrame, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn x and y on the sample, in m, into parts of the frame: 0 to 1 along its fast and along its slow axis."""
    cos, sin = np.cos(np.radians(frame.angle)), np.sin(np.radians(frame.angle))
    dx, dy = x - frame.center[0], y - frame.center[1]
    width, height = frame.size
    return (dx * cos + dy * sin) / width + 0.5, (dy * cos - dx * sin) / height + 0.5


def is_inside(frame: ScanFrame, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Tell which places (n,), in m, are in a frame or on its edge."""
    parts = to_frame(frame, x, y)
    return np.asarray(np.logical_and.reduce([(part >= -EDGE) & (part <= 1 + EDGE) for part in parts]))


def weights(
    frame: ScanFrame, shape: tuple[int, int], x: np.ndarray, y: np.ndarray, interpolation: Interpolation
) -> Weights:
    """Return which pixels of an image make the values at places on the sample.

    A pixel is the value in the middle of its cell. From there to the edge of the frame the value is that of the pixels
    at the edge: nothing is extrapolated.

    Parameters
    ----------
    frame
        Of the image.
    shape
        Its pixels (ny, nx).
    x, y
        Places on the sample, in m, shape (n,).
    interpolation
        "nearest", "linear", or "cubic": Keys' cubic convolution over 4 x 4 pixels.
    """
    along, across = to_frame(frame, x, y)
    ny, nx = shape
    columns, column_factors = _along_axis(along * nx - 0.5, nx, interpolation)
    rows, row_factors = _along_axis(across * ny - 0.5, ny, interpolation)
    count = len(columns) * len(rows)
    indices = (rows[:, None] * nx + columns[None]).reshape(count, -1)
    factors = (row_factors[:, None] * column_factors[None]).reshape(count, -1)
    return Weights(indices, factors, is_inside(frame, x, y))


def sample(
    frame: ScanFrame, images: list[np.ndarray], x: np.ndarray, y: np.ndarray, interpolation: Interpolation
) -> np.ndarray:
    """Interpolate images of one frame and one shape at places (n,), in m; shape (images, n)."""
    result = np.empty((len(images), len(x)))
    for begin in range(0, len(x), _BLOCK):
        part = slice(begin, begin + _BLOCK)
        chosen = weights(frame, images[0].shape, x[part], y[part], interpolation)
        for row, image in zip(result, images, strict=True):
            row[part] = chosen.apply(image)
    return result


def _along_axis(at: np.ndarray, count: int, interpolation: Interpolation) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels (k, n) and their factors (k, n) for places in units of pixels, 0 in the middle of the first."""
    at = np.clip(at, 0, count - 1)
    whole = np.rint(at)
    at = np.where(abs(at - whole) < _ROUNDING, whole, at)
    if interpolation == "nearest" or count == 1:
        return np.floor(at + 0.5).astype(int).clip(0, count - 1)[None], np.ones((1, len(at)))
    first = np.minimum(np.floor(at).astype(int), count - 2)
    rest = at - first
    if interpolation == "linear":
        return np.stack([first, first + 1]), np.stack([1 - rest, rest])
    indices = np.stack([first - 1, first, first + 1, first + 2])
    return np.clip(indices, 0, count - 1), _folded(_cubic(rest), indices, count)


def _cubic(rest: np.ndarray) -> np.ndarray:
    """Keys' factors of the four pixels around a place that is `rest` behind the second."""
    square, cube = rest**2, rest**3
    return np.stack(
        [
            -0.5 * rest + square - 0.5 * cube,
            1 - 2.5 * square + 1.5 * cube,
            0.5 * rest + 2 * square - 1.5 * cube,
            -0.5 * square + 0.5 * cube,
        ]
    )


def _folded(factors: np.ndarray, indices: np.ndarray, count: int) -> np.ndarray:
    """Give the factors of pixels beyond the edges to those inside, as if the image went on straight."""
    low, high = indices[0] < 0, indices[3] >= count
    before, behind = np.where(low, factors[0], 0), np.where(high, factors[3], 0)
    return np.asarray(factors + np.stack([-before, 2 * before - behind, 2 * behind - before, -behind]))
