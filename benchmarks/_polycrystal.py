"""Images of polycrystals whose grains and lattices are known."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

# Distances of atoms along the two vectors of each lattice, in pixels, and the angle between these, in degrees.
LATTICES = {"hexagonal": (7.0, 7.0, 60.0), "square": (8.5, 8.5, 90.0), "rectangular": (6.5, 11.0, 90.0)}
AMORPHOUS = len(LATTICES)
"""Number of the phase without a lattice."""

_BLUR = 1.6


@dataclass(frozen=True, eq=False)
class Polycrystal:
    """An image and its truth.

    Attributes
    ----------
    image
        Shape (size, size).
    phases
        Number of the lattice at each pixel, in the order of LATTICES.
    grains
        Number of the grain at each pixel.
    """

    image: np.ndarray
    phases: np.ndarray
    grains: np.ndarray


def polycrystal(seed: int, size: int = 1024, grains: int = 14, noise: float = 0.5) -> Polycrystal:
    """Make one: grains are the regions nearest to random places, lattices and their angles are random.

    Parameters
    ----------
    seed
        Of everything.
    size, grains
        Of the image, in pixels, and how many.
    noise
        Standard deviation, in units of that of the lattice.
    """
    random = np.random.default_rng(seed)
    rows, columns = np.indices((size, size))
    seeds = _apart(random, grains, size)
    label = np.argmin([(rows - y) ** 2 + (columns - x) ** 2 for y, x in seeds], axis=0)
    # Each phase is there; of the one without a lattice there is one grain, for two that touch could not be told apart.
    phase_of = np.concatenate([np.arange(AMORPHOUS + 1), random.integers(AMORPHOUS, size=grains)])[:grains]
    image = np.zeros((size, size))
    for grain, phase in enumerate(phase_of):
        inside = label == grain
        picture = _amorphous(random, size) if phase == AMORPHOUS else _lattice(random, size, phase)
        image[inside] = (picture[inside] - picture.mean()) / picture.std()
    image += noise * random.normal(size=image.shape)
    slope = ndimage.gaussian_filter(random.normal(size=image.shape), size / 6)
    return Polycrystal(100 + 20 * (image + slope / slope.std()), phase_of[label], label)


def _apart(random: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Draw places that are not too near to each other."""
    places: list[np.ndarray] = []
    while len(places) < count:
        one = random.uniform(0, size, 2)
        if all(np.hypot(*(one - other)) > 0.6 * size / np.sqrt(count) for other in places):
            places.append(one)
    return np.array(places)


def _lattice(random: np.random.Generator, size: int, phase: int) -> np.ndarray:
    first, second, angle = list(LATTICES.values())[phase]
    turn, corner = random.uniform(0, np.pi), np.radians(angle)
    vectors = np.array([[first * np.cos(turn), first * np.sin(turn)]] * 2)
    vectors[1] = second * np.cos(turn + corner), second * np.sin(turn + corner)
    reach = int(1.5 * size / min(first, second))
    steps = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2), axis=-1).reshape(-1, 2)
    places = np.rint(steps @ vectors + size / 2).astype(int)
    inside = ((places >= 0) & (places < size)).all(axis=1)
    points = np.zeros((size, size))
    np.add.at(points, tuple(places[inside].T), 1.0)
    return ndimage.gaussian_filter(points, _BLUR)


def _amorphous(random: np.random.Generator, size: int) -> np.ndarray:
    return ndimage.gaussian_filter((random.random((size, size)) < 1 / 60).astype(float), _BLUR)
