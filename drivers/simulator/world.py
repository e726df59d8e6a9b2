"""A surface of a metal with very many molecules, made where the tip comes near."""

from collections.abc import Iterator
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np

from twinscope.drivers.common.units import ANGSTROM
from twinscope.drivers.simulator.cells import Cell, Disc
from twinscope.drivers.simulator.currents import work_function
from twinscope.drivers.simulator.layers import Layers
from twinscope.drivers.simulator.placements import Placement
from twinscope.drivers.simulator.sample import metal_plane
from twinscope.drivers.simulator.surface import Block
from twinscope.drivers.simulator.world_options import WorldOptions
from twinscope.kernels import ELEMENTS, Atoms, Plane, Terraces, Tip

# Whole molecules as far as this (Å) from a block belong to it: the attraction of an atom there is 1e-6 of that in
# contact, and whole molecules have no charge.
_REACH = 16.0
# Sizes of blocks: the tiles of the kernels. A block that is wider than this (Å) is cut, for every one of its positions
# is relaxed with all atoms near any of them.
_SIZES = (4096, 512, 64)
_WIDEST = 40.0
# The shortest list of atoms; longer ones are four times as long, and so on. Each length is compiled once, for seconds,
# while atoms that only fill a list up cost milliseconds.
_FEWEST, _LONGER = 128, 4
# Atoms that only fill a list up stand here (Å) and do nothing.
_NOWHERE = (0.0, 0.0, -1000.0)
_REMEMBERED = 2048


class World:
    """Terraces with molecules, islands and dirt; a :class:`~twinscope.drivers.simulator.surface.Surface`.

    z = 0 is the height of the atoms of a flat molecule on the terrace in the middle, x = y = 0. A height is measured
    from there everywhere: over a terrace n steps up the tip is nearer to its molecules by n times the height of a step,
    see :meth:`ground`. There is no border; `size` only says how far the tip can go.

    Nothing is made before it is asked for, and what is at a place does not depend on what was asked for before.
    Lengths are in Å.

    Parameters
    ----------
    options
        What there is.
    tip
        The tip that will look at it.
    seed
        Where the options have none.

    Raises
    ------
    ConfigurationError
        When a molecule cannot be read, or there is no room for so many.
    """

    def __init__(self, options: WorldOptions, tip: Tip, seed: int = 0) -> None:
        self.options = options
        self.seed = seed if options.seed is None else options.seed
        self.layers = Layers(options, self.seed)
        self._metal = metal_plane(options.substrate, -options.distance / ANGSTROM, tip)
        self._coordinates = lru_cache(_REMEMBERED)(self._coordinates_in)

    @property
    def name(self) -> str:
        """For people."""
        names = ", ".join(species.name for species in self.layers.species)
        return f"{names} on {self.options.substrate}(111)"

    @property
    def source(self) -> dict[str, Any]:
        """Options, seed, and the files of the molecules."""
        molecules = {species.name: dict(species.source) for species in self.layers.species}
        return {"world": asdict(self.options) | {"seed": self.seed}, "molecules": molecules}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know about the molecules."""
        return tuple(warning for species in self.layers.species for warning in species.warnings)

    @property
    def atom_count(self) -> None:
        """Unknown: they are made when the tip comes near."""
        return

    @property
    def work_function(self) -> float:
        """Of the metal, in eV."""
        return work_function(self.options.substrate)

    def ground(self, points: np.ndarray) -> np.ndarray:
        """Height (Å) of the atoms of a flat molecule at positions (n, 2): the terrace times the height of a step."""
        return self.layers.steps.terrace(points) * self.layers.steps.height

    def molecules(self, x0: float, y0: float, x1: float, y1: float) -> list[Placement]:
        """Everything whose middle is in a rectangle, molecules and dirt."""
        return [
            one
            for cell in self._cells(x0, y0, x1, y1)
            for one in self.layers.cell(cell)
            if x0 <= one.x < x1 and y0 <= one.y < y1
        ]

    def islands(self, x0: float, y0: float, x1: float, y1: float) -> list[Disc]:
        """Islands whose middle is in a rectangle; the marks are their outlines."""
        return [
            one
            for cell in self._cells(x0, y0, x1, y1)
            for one in self.layers.islands_in(cell)
            if x0 <= one.x < x1 and y0 <= one.y < y1
        ]

    def atoms(self, x0: float, y0: float, x1: float, y1: float, reach: float = _REACH) -> Atoms:
        """Atoms, in double precision, of everything that comes nearer than `reach` to a rectangle; maybe none."""
        widest = self.layers.side / 2 + reach
        cells = self._cells(x0 - widest, y0 - widest, x1 + widest, y1 + widest)
        numbers, positions, charges, outlines, lengths = (
            np.concatenate(arrays) for arrays in zip(*map(self._coordinates, cells), strict=True)
        )
        x, y, radius = outlines.T
        # From the middle of a disc to the nearest point of the rectangle.
        away = np.hypot(np.maximum(np.maximum(x0 - x, x - x1), 0), np.maximum(np.maximum(y0 - y, y - y1), 0))
        near = np.repeat(away < radius + reach, lengths)
        return Atoms(numbers[near], positions[near], charges[near])

    def terms(self, points: np.ndarray, origin: np.ndarray) -> Plane | Terraces:
        """Return the metal under positions (n, 2), seen from an origin."""
        if np.isinf(self.layers.steps.width):
            return self._metal
        level, edges = self.layers.steps.near(points, origin)
        return Terraces(Plane(self._metal.height + level, self._metal.c3, self._metal.c9), edges)

    def blocks(self, points: np.ndarray) -> Iterator[Block]:
        """Cut positions (n, 2) into blocks, each with the atoms and the metal near it."""
        for chosen in _compact(points, np.arange(len(points)), 0):
            inside = points[chosen]
            low, high = inside.min(axis=0), inside.max(axis=0)
            origin = np.round((low + high) / 2)
            atoms = self.atoms(*low, *high)
            yield Block(chosen, inside - origin, _filled_up(atoms, origin), self.terms(inside, origin))

    def _cells(self, x0: float, y0: float, x1: float, y1: float) -> list[Cell]:
        side = self.layers.side
        first, last = np.floor(np.array([x0, y0]) / side), np.floor(np.array([x1, y1]) / side)
        columns, rows = (range(int(a), int(b) + 1) for a, b in zip(first, last, strict=True))
        return [(ix, iy) for iy in rows for ix in columns]

    def _coordinates_in(self, cell: Cell) -> tuple[np.ndarray, ...]:
        """Atoms of a cell; discs (m, 3) around the things they belong to, and how many atoms each of these has."""
        every = self.layers.cell(cell)
        return (
            np.concatenate([one.species.numbers for one in every] or [np.zeros(0, int)]),
            np.concatenate([one.positions for one in every] or [np.zeros((0, 3))]),
            np.concatenate([one.species.charges for one in every] or [np.zeros(0)]),
            np.array([(one.x, one.y, one.radius) for one in every]).reshape(-1, 3),
            np.array([len(one.species.numbers) for one in every], int),
        )


def _compact(points: np.ndarray, chosen: np.ndarray, level: int) -> Iterator[np.ndarray]:
    """Bisect positions until each part is small enough for the size of its level, and narrow or of the last size."""
    size = _SIZES[level]
    extent = np.ptp(points[chosen], axis=0)
    if len(chosen) > size:
        order = chosen[np.argsort(points[chosen, int(extent.argmax())], kind="stable")]
        # Parts are full where they can be: the last tile is filled up.
        half = max(round(len(order) / 2 / size), 1) * size
        yield from _compact(points, order[:half], level)
        yield from _compact(points, order[half:], level)
    elif extent.max() > _WIDEST and level + 1 < len(_SIZES):
        yield from _compact(points, chosen, level + 1)
    else:
        yield chosen


def _filled_up(atoms: Atoms, origin: np.ndarray) -> Atoms:
    """Move atoms to an origin, and fill their list up with atoms that do nothing."""
    count = len(atoms.numbers)
    size = _FEWEST
    while size < count:
        size *= _LONGER
    missing = size - count
    moved = np.asarray(atoms.positions) - np.array([*origin, 0.0])
    parameters = np.array([(element.radius, element.depth) for element in ELEMENTS])[np.asarray(atoms.numbers) - 1]
    return Atoms(
        np.pad(np.asarray(atoms.numbers), (0, missing), constant_values=1),
        np.concatenate([moved, np.broadcast_to(_NOWHERE, (missing, 3))]).astype(np.float32),
        np.pad(np.asarray(atoms.charges, np.float32), (0, missing)),
        lennard_jones=np.concatenate([parameters, np.broadcast_to((1.0, 0.0), (missing, 2))]),
    )
