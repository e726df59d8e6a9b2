"""Telling molecules from everything else that stands on a surface."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from twinscope.agents.noise import MEDIAN_TO_SIGMA

MOLECULE = "molecule"
"""One that stands alone."""

NEIGHBOUR = "neighbour"
"""A molecule that touches others: of a pair, or of an island."""

DIRT = "dirt"
"""Something too small, too high, or cut by the edge of the image."""

# A thing begins at this share of the height at which things stand on this surface.
_THRESHOLD = 0.45
_FIRST = 0.2
# The noise of the bare surface, times this, is nothing.
_NOISE_FACTOR = 6.0
# What is higher than the usual molecule by this factor is a clump; a molecule that lies on its edge is not.
_HIGHEST = 3.0
# Middles of molecules that touch are at least this far apart (Å), each the top of a bulge; smoothing for the search, Å.
_CLOSEST = 6.0
_SMOOTHING = 1.7
# How much of the ellipse with its moments one molecule fills.
_FILLED = 0.86


@dataclass(frozen=True)
class Region:
    """Something that stands out.

    Attributes
    ----------
    x, y
        Å, of its middle.
    extent
        Å, (shorter, longer): axes of the ellipse with its moments.
    angle
        Of the longer axis, counter-clockwise from x, in radians.
    area
        Å².
    height
        How far it stands out: in Å, or in whatever the picture is of.
    kind
        :data:`MOLECULE`, :data:`NEIGHBOUR` or :data:`DIRT`.
    room
        Å, from its edge to that of the nearest other thing; infinite without one.
    """

    x: float
    y: float
    extent: tuple[float, float]
    angle: float
    area: float
    height: float
    kind: str
    room: float


@dataclass(frozen=True)
class SizeRange:
    """Sizes of things in a picture.

    Attributes
    ----------
    smallest, largest
        Lengths of molecules, in Å: what is shorter is dirt, what is longer several.
    halo
        By how much (Å) the image of a large thing is longer than its atoms; that of a small one by half of it.
    """

    smallest: float
    largest: float
    halo: float


def find_regions(relief: np.ndarray, x: np.ndarray, y: np.ndarray, sizes: SizeRange) -> list[Region]:
    """Find what stands out of a flat picture, and say what is a molecule.

    Parameters
    ----------
    relief
        Shape (ny, nx): zero on the bare surface, more on things.
    x, y
        Å, coordinates of the pixels, equidistant and the same way along both axes.
    sizes
        Of the molecules that are looked for.
    """
    pitch = float(x[1] - x[0])
    mask = _standing_out(relief)
    labels, count = ndimage.label(mask)
    parts: list[tuple[np.ndarray, bool]] = []
    for number in range(1, count + 1):
        pixels = np.argwhere(labels == number)
        parts += [(part, alone) for part, alone in _parts(relief, pixels, pitch, sizes)]
    edges = [_outline(part, x, y) for part, _ in parts]
    usual = float(np.median([relief[tuple(part.T)].max() for part, _ in parts])) if parts else 0.0
    return [
        _region(relief, part, alone, x, y, sizes, usual, _room(edges, number))
        for number, (part, alone) in enumerate(parts)
    ]


def _standing_out(relief: np.ndarray) -> np.ndarray:
    """Mask of things, each down to a share of the height that most of them have."""
    noise = _NOISE_FACTOR * MEDIAN_TO_SIGMA * float(np.median(np.abs(relief - np.median(relief))))
    first = ndimage.binary_opening(relief > max(noise, _FIRST * float(np.percentile(relief, 98))))
    labels, count = ndimage.label(first)
    if not count:
        return first
    usual = float(np.median(ndimage.maximum(relief, labels, np.arange(1, count + 1))))
    return ndimage.binary_opening(relief > max(_THRESHOLD * usual, noise))


def _parts(relief: np.ndarray, pixels: np.ndarray, pitch: float, sizes: SizeRange) -> Iterator[tuple[np.ndarray, bool]]:
    """Cut what is too long, or no ellipse, at its peaks; yield pixels (n, 2) and whether they stand alone."""
    extent, _, filled = _ellipse(pixels, pitch)
    if extent[1] <= sizes.largest + sizes.halo and filled >= _FILLED:
        yield pixels, True
        return
    peaks = _peaks(relief, pixels, pitch)
    if len(peaks) < 2:
        yield pixels, True
        return
    parts = KMeans(len(peaks), init=peaks.astype(float), n_init=1, random_state=0).fit_predict(pixels.astype(float))
    for number in range(len(peaks)):
        if (parts == number).any():
            yield pixels[parts == number], False


def _peaks(relief: np.ndarray, pixels: np.ndarray, pitch: float) -> np.ndarray:
    """Highest places (n, 2) of a thing, apart from each other."""
    low, high = np.maximum(pixels.min(axis=0) - 3, 0), pixels.max(axis=0) + 4
    window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    smooth = ndimage.gaussian_filter(relief[window], _SMOOTHING / pitch)
    across = 2 * max(round(_CLOSEST / pitch / 2), 1) + 1
    inside = pixels - low
    top = smooth == ndimage.maximum_filter(smooth, size=across)
    return pixels[top[tuple(inside.T)]]


def _ellipse(pixels: np.ndarray, pitch: float) -> tuple[tuple[float, float], float, float]:
    """Axes (Å) of the ellipse with the moments of some pixels, angle of the longer one, and how much is filled."""
    # A pixel is a square: it has moments of its own.
    moments = np.cov(pixels.T, bias=True) if len(pixels) > 1 else np.zeros((2, 2))
    values, vectors = np.linalg.eigh((moments + np.eye(2) / 12) * pitch**2)
    short, long = (4 * np.sqrt(values)).tolist()
    along_y, along_x = vectors[:, 1]
    return (short, long), float(np.arctan2(along_y, along_x)), len(pixels) * pitch**2 / (np.pi / 4 * short * long)


def _outline(pixels: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Places (n, 2) of the pixels of a part, in Å."""
    return np.stack([x[pixels[:, 1]], y[pixels[:, 0]]], axis=-1)


def _room(edges: list[np.ndarray], number: int) -> float:
    """Å, from a part to the nearest other one."""
    own = edges[number]
    middle, reach = own.mean(axis=0), np.ptp(own, axis=0).max()
    others = [edge for i, edge in enumerate(edges) if i != number]
    near = [edge for edge in others if np.hypot(*(edge.mean(axis=0) - middle)) < reach + 2 * np.ptp(edge) + 40.0]
    return min((float(cdist(own, edge).min()) for edge in near), default=np.inf)


def _region(
    relief: np.ndarray,
    pixels: np.ndarray,
    alone: bool,
    x: np.ndarray,
    y: np.ndarray,
    sizes: SizeRange,
    usual: float,
    room: float,
) -> Region:
    pitch = float(x[1] - x[0])
    extent, angle, _ = _ellipse(pixels, pitch)
    height = float(relief[tuple(pixels.T)].max())
    cut = bool((pixels == 0).any() or (pixels == np.array(relief.shape) - 1).any())
    fits = sizes.smallest <= extent[1] - sizes.halo / 2 and extent[1] <= sizes.largest + sizes.halo
    right = fits and height < _HIGHEST * usual and not cut
    kind = (MOLECULE if alone else NEIGHBOUR) if right else DIRT
    row, column = pixels.mean(axis=0)
    return Region(
        float(np.interp(column, np.arange(len(x)), x)),
        float(np.interp(row, np.arange(len(y)), y)),
        extent,
        angle,
        len(pixels) * pitch**2,
        height,
        kind,
        room,
    )
