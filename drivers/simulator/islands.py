"""Close-packed islands of one kind of molecule."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from twinscope.drivers.simulator.species import Species

# Between the nuclei of neighbouring molecules, in Å: two hydrogen atoms touch at 2.4.
SPACING = 2.8
# The outline is a circle with waves: how many of them go round, and how high they are in units of the radius.
_WAVES, _RIPPLE = (2, 3, 5), 0.1


@dataclass(frozen=True, eq=False)
class Outline:
    """An island: what it is of, and its shape.

    Attributes
    ----------
    species
        Kind.
    radius
        Mean one, in Å.
    angle
        Of its first lattice vector, the molecules' x axis, in radians.
    phases
        Of the waves of the outline, in radians.
    """

    species: Species
    radius: float
    angle: float
    phases: tuple[float, float, float]

    @property
    def lattice(self) -> np.ndarray:
        """Two lattice vectors as rows, in Å: the molecule's extent with a gap, every other row moved by a half."""
        a, b = (extent + SPACING for extent in self.species.extent)
        cosine, sine = np.cos(self.angle), np.sin(self.angle)
        vectors: np.ndarray = np.array([[a, 0.0], [a / 2, b]]) @ np.array([[cosine, sine], [-sine, cosine]])
        return vectors

    @property
    def reach(self) -> float:
        """Farther from its middle than this no molecule of it has its own, in Å."""
        return self.radius * largest_radius(1.0)

    def sites(self) -> np.ndarray:
        """Places of its molecules from its middle, in Å, shape (n, 2)."""
        return _sites(self)


def largest_radius(mean: float) -> float:
    """Of the outline of an island with a mean radius."""
    return mean * (1 + _RIPPLE * len(_WAVES))


def radii(mean: float) -> Iterator[float]:
    """Sizes in which islands come, around a mean one."""
    return (mean * factor for factor in (0.6, 0.8, 1.0, 1.2, 1.4))


def outline(species: Species, radius: float, lattice_angle: float, rng: np.random.Generator) -> Outline:
    """Draw an island whose first lattice vector is along one of the three dense rows of the metal."""
    angle = lattice_angle + rng.integers(6) * np.pi / 3
    phases = rng.uniform(0, 2 * np.pi, len(_WAVES))
    return Outline(species, radius, float(angle), (float(phases[0]), float(phases[1]), float(phases[2])))


@lru_cache(1024)
def _sites(island: Outline) -> np.ndarray:
    lattice = island.lattice
    # Lines of the lattice are never closer than the shorter side.
    count = int(np.ceil(island.reach / np.linalg.norm(lattice, axis=1).min())) * 2
    steps = np.arange(-count, count + 1)
    sites = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2) @ lattice
    around = np.arctan2(sites[:, 1], sites[:, 0])
    waves = sum(np.cos(n * around + phase) for n, phase in zip(_WAVES, island.phases, strict=True))
    inside: np.ndarray = sites[np.hypot(sites[:, 0], sites[:, 1]) <= island.radius * (1 + _RIPPLE * waves)]
    return inside
