"""Random places on an endless plane that are the same however one comes to them.

The plane is cut into square cells. What is drawn in a cell depends on the seed and on the cell alone, and what is kept
of it on the eight cells around it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress
from typing import Any, Protocol

import numpy as np

from twinscope.errors import ConfigurationError

Cell = tuple[int, int]
# Cells that are remembered: those of a frame of some 500 nm.
_REMEMBERED = 2048
# Nearer to the densest packing than exp(-8) nothing is gained by drawing more.
_MOST_CONFLICTS = 8.0
_ROUNDS = 1000


class Round(Protocol):
    """Anything that takes a disc, in Å."""

    @property
    def x(self) -> float:
        """Of its middle."""
        ...

    @property
    def y(self) -> float:
        """Of its middle."""
        ...

    @property
    def radius(self) -> float:
        """Of the disc."""
        ...


@dataclass(frozen=True, eq=False)
class Disc:
    """A place that something wants to take.

    Attributes
    ----------
    x, y, radius
        Å.
    priority
        Of two that overlap the one with the higher priority may stay.
    mark
        What is there.
    """

    x: float
    y: float
    radius: float
    priority: float
    mark: Any


@dataclass(frozen=True)
class Kind:
    """What is drawn, and how often.

    Attributes
    ----------
    density
        That shall be kept where nothing else is, in 1/Å².
    radius
        Å.
    draw
        Returns the mark of one disc.
    """

    density: float
    radius: float
    draw: Callable[[np.random.Generator], Any]


Allowed = Callable[[Cell, Sequence[Disc]], np.ndarray]


def generator(*seed: int) -> np.random.Generator:
    """Return a generator for a list of whole numbers, of which some may be negative."""
    return np.random.default_rng([number % 2**32 for number in seed])


def around(cell: Cell) -> list[Cell]:
    """List a cell and its eight neighbours."""
    return [(cell[0] + i, cell[1] + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]


def overlaps(discs: Sequence[Round], others: Sequence[Round], gap: float) -> np.ndarray:
    """Tell which discs come nearer to which others than `gap` (Å), shape (n, m)."""
    (x, y, r), (ox, oy, other) = _columns(discs), _columns(others)
    near: np.ndarray = np.hypot(x[:, None] - ox, y[:, None] - oy) < r[:, None] + other + gap
    return near


def middles(discs: Sequence[Round]) -> np.ndarray:
    """Middles of discs, in Å, shape (n, 2)."""
    return _columns(discs)[:2].T


def _columns(discs: Sequence[Round]) -> np.ndarray:
    return np.array([(disc.x, disc.y, disc.radius) for disc in discs]).reshape(-1, 3).T


class Scattered:
    """Discs at random places that do not overlap.

    They are Poisson points of which those are kept that overlap none of a higher priority: the second process of
    Matern (Spatial Variation, 2nd ed. (1986), sec. 3.6), here with several kinds. As many more are drawn as get lost.

    Parameters
    ----------
    seed
        Of this process.
    side
        Of the cells, in Å: no less than the distance at which the largest discs touch.
    kinds
        What is drawn.
    gap
        Between discs, in Å.
    allowed
        Tells which of the discs drawn in a cell may be there at all, shape (n,).

    Raises
    ------
    ConfigurationError
        When the densities are so high that hardly more could be kept.
    """

    def __init__(
        self,
        seed: tuple[int, ...],
        side: float,
        kinds: Sequence[Kind],
        gap: float,
        allowed: Allowed,
    ) -> None:
        self._seed, self._side, self._kinds, self._gap, self._allowed = seed, side, kinds, gap, allowed
        self._drawn = drawn_densities([kind.density for kind in kinds], [kind.radius for kind in kinds], gap)
        self._candidates = lru_cache(_REMEMBERED)(self._draw)
        self.kept = lru_cache(_REMEMBERED)(self._keep)

    def _draw(self, cell: Cell) -> tuple[Disc, ...]:
        total = float(self._drawn.sum())
        if total == 0:
            return ()
        rng = generator(*self._seed, *cell)
        discs = []
        for _ in range(rng.poisson(total * self._side**2)):
            x, y = (np.array(cell) + rng.random(2)) * self._side
            priority = rng.random()
            kind = self._kinds[rng.choice(len(self._kinds), p=self._drawn / total)]
            discs.append(Disc(float(x), float(y), kind.radius, priority, kind.draw(rng)))
        return tuple(compress(discs, self._allowed(cell, discs)))

    def _keep(self, cell: Cell) -> tuple[Disc, ...]:
        here, near = self._candidates(cell), [disc for one in around(cell) for disc in self._candidates(one)]
        higher = np.array([disc.priority for disc in near]) > np.array([disc.priority for disc in here])[:, None]
        beaten: np.ndarray = overlaps(here, near, self._gap) & higher
        return tuple(compress(here, ~np.any(beaten, axis=1)))


def drawn_densities(kept: Sequence[float], radii: Sequence[float], gap: float) -> np.ndarray:
    """Densities (1/Å²) that have to be drawn so that in the mean those of `kept` stay.

    A disc in whose way L others are drawn in the mean stays with the probability ``(1 - exp(-L)) / L``.

    Raises
    ------
    ConfigurationError
        When there is no room for them.
    """
    wanted, reach = np.array(kept, float), np.array(radii, float)
    conflict = np.pi * (reach[:, None] + reach + gap) ** 2
    drawn = wanted.copy()
    for _ in range(_ROUNDS):
        met = np.maximum(conflict @ drawn, 1e-12)
        if met.max() > _MOST_CONFLICTS:
            break
        before = drawn
        drawn = np.asarray(wanted * met / -np.expm1(-met))
        if np.allclose(before, drawn, rtol=1e-9, atol=0):
            return drawn
    raise ConfigurationError(
        f"the world shall have {wanted.sum() * 1e20:.3g} per m² of things with a radius of up to"
        f" {reach.max() * 1e-10:.2g} m at random places: expected fewer, for so many do not find room; lower the"
        " density, the islands or the contamination",
        name="world",
    )
