"""What lies on the terraces of a world, cell by cell: molecules at steps, islands, single molecules, dirt.

Each of these keeps clear of those before it, so a cell depends on a few cells around it and on nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import compress

import numpy as np

from twinscope.drivers.common.units import ANGSTROM
from twinscope.drivers.simulator import islands
from twinscope.drivers.simulator.cells import (
    Allowed,
    Cell,
    Disc,
    Kind,
    Round,
    Scattered,
    around,
    generator,
    middles,
    overlaps,
)
from twinscope.drivers.simulator.placements import DIRT, Placement, Pose
from twinscope.drivers.simulator.species import Species, dirt, molecule
from twinscope.drivers.simulator.steps import Steps
from twinscope.drivers.simulator.world_options import WorldOptions

# Between the atoms of neighbours, in Å: a bit more than where they touch.
GAP = 3.0
# Between the edge of a step and the atoms beside it, in Å.
_BESIDE_STEP = 2.5
# Of all dirt; the rest are clumps, all sizes alike.
_ADATOMS, _CARBONYLS = 0.5, 0.35
# Cells that are remembered: those of a frame of some 500 nm.
_REMEMBERED = 2048
# One process of random numbers each.
_STEPS, _EDGES, _ISLANDS, _MOLECULES, _DIRT = range(5)


@dataclass(frozen=True, eq=False)
class _Turned:
    """A mark: one thing of a kind, and how it lies."""

    species: Species
    pose: Pose


class Layers:
    """All that lies on the metal.

    Parameters
    ----------
    options
        What there is.
    seed
        Of everything random.

    Raises
    ------
    ConfigurationError
        When a molecule cannot be read, or there is no room for so many.
    """

    def __init__(self, options: WorldOptions, seed: int) -> None:
        self._options, self._seed = options, seed
        self.species = tuple(molecule(name) for name in options.molecules)
        weights = np.array(list(options.molecules.values()))
        self._shares = weights / weights.sum()
        spacing, distance = options.layer_spacing, options.distance / ANGSTROM
        self.steps = Steps(
            (seed, _STEPS),
            spacing,
            1 / (options.step_density * ANGSTROM) if options.step_density else np.inf,
            np.radians(options.step_direction),
        )
        mean = options.island_radius / ANGSTROM
        dirt_kinds = self._dirt_kinds(dirt(options.substrate, spacing, distance))
        widest = max(species.radius for species in self.species)
        self._slot = 2 * widest + GAP
        island_kinds = self._island_kinds(mean)
        self.side = 2 * max(kind.radius for kind in (*island_kinds, *dirt_kinds)) + GAP
        self._islands = self._scattered(_ISLANDS, island_kinds, _anywhere)
        self._singles = self._scattered(_MOLECULES, self._single_kinds(), self._free_of_order)
        self._dirt = self._scattered(_DIRT, dirt_kinds, self._free)
        self.cell = lru_cache(_REMEMBERED)(self._cell)
        self._ordered = lru_cache(_REMEMBERED)(self._ordered_in)
        self._at_edges = lru_cache(_REMEMBERED)(self._at_edges_in)
        # A place at an edge is asked for by all cells that it may be in.
        self._at_edge = lru_cache(_REMEMBERED)(self._draw_at_edge)

    def islands_in(self, cell: Cell) -> tuple[Disc, ...]:
        """Islands whose middle is in a cell; the marks are their :class:`~.islands.Outline`."""
        return self._islands.kept(cell)

    def _cell(self, cell: Cell) -> tuple[Placement, ...]:
        """All whose middle is in a cell."""
        singles = self._placed("molecule", cell, self._singles)
        return (*self._ordered(cell), *singles, *self._placed(DIRT, cell, self._dirt))

    def _ordered_in(self, cell: Cell) -> tuple[Placement, ...]:
        return (*self._at_edges(cell), *self._in_islands(cell))

    def _at_edges_in(self, cell: Cell) -> tuple[Placement, ...]:
        """Molecules that line the lower side of a step, at regular places of which some are empty."""
        corners = (np.array(cell) + np.array([(0, 0), (0, 1), (1, 0), (1, 1)])) * self.side
        direction = self.steps.direction
        along = corners @ np.array([-np.sin(direction), np.cos(direction)])
        slots = range(int(np.floor(along.min() / self._slot)) - 1, int(np.ceil(along.max() / self._slot)) + 1)
        edges = self.steps.indices(corners, self._slot)
        every = (self._at_edge(edge, slot) for edge in edges for slot in slots)
        return tuple(one for one in every if one is not None and self._cell_of(one.x, one.y) == cell)

    def _draw_at_edge(self, edge: int, slot: int) -> Placement | None:
        rng = generator(self._seed, _EDGES, edge, slot)
        if rng.random() >= self._options.decorated:
            return None
        species = self.species[rng.choice(len(self.species), p=self._shares)]
        point = self.steps.edge_point(edge, (slot + 0.5) * self._slot)
        away = species.extent[1] / 2 + _BESIDE_STEP
        x, y = point.x + away * point.down[0], point.y + away * point.down[1]
        return Placement(f"edge:{edge}:{slot}", species, x, y, self._ground(x, y), Pose(point.along))

    def _in_islands(self, cell: Cell) -> tuple[Placement, ...]:
        """Molecules of islands; an island ends at a step and keeps clear of what lines it."""
        before = [one for near in around(cell) for one in self._at_edges(near)]
        every = [
            one
            for origin in around(cell)
            for number, disc in enumerate(self._islands.kept(origin))
            for one in self._island_part(f"island:{origin[0]}:{origin[1]}:{number}", disc, cell)
        ]
        return tuple(compress(every, self._clear(every, before)))

    def _island_part(self, name: str, disc: Disc, cell: Cell) -> list[Placement]:
        """Molecules of an island that are in a cell and on the terrace of its middle."""
        island: islands.Outline = disc.mark
        sites = island.sites() + np.array([disc.x, disc.y])
        ground = self._ground(disc.x, disc.y)
        (inside,) = np.nonzero((np.floor(sites / self.side) == cell).all(axis=1))
        same = self.steps.terrace(sites[inside]) * self.steps.height == ground
        pose = Pose(island.angle)
        return [
            Placement(f"{name}:{index}", island.species, float(sites[index, 0]), float(sites[index, 1]), ground, pose)
            for index in inside[same]
        ]

    def _placed(self, name: str, cell: Cell, layer: Scattered) -> tuple[Placement, ...]:
        discs = layer.kept(cell)
        grounds = self.steps.terrace(middles(discs)) * self.steps.height
        return tuple(
            Placement(
                f"{name}:{cell[0]}:{cell[1]}:{number}",
                disc.mark.species,
                disc.x,
                disc.y,
                float(ground),
                disc.mark.pose,
            )
            for number, (disc, ground) in enumerate(zip(discs, grounds, strict=True))
        )

    def _free_of_order(self, cell: Cell, discs: Sequence[Disc]) -> np.ndarray:
        return self._clear(discs, [one for near in around(cell) for one in self._ordered(near)])

    def _free(self, cell: Cell, discs: Sequence[Disc]) -> np.ndarray:
        singles = [one for near in around(cell) for one in self._singles.kept(near)]
        return self._free_of_order(cell, discs) & ~overlaps(discs, singles, GAP).any(axis=1)

    def _clear(self, discs: Sequence[Round], others: Sequence[Round]) -> np.ndarray:
        """Tell which are clear of others and of the steps, shape (n,)."""
        radii = np.array([disc.radius for disc in discs])
        from_steps = self.steps.distance(middles(discs)) > radii + _BESIDE_STEP
        return from_steps & ~overlaps(discs, others, GAP).any(axis=1)

    def _ground(self, x: float, y: float) -> float:
        return float(self.steps.terrace(np.array([[x, y]]))[0] * self.steps.height)

    def _cell_of(self, x: float, y: float) -> Cell:
        return int(np.floor(x / self.side)), int(np.floor(y / self.side))

    def _scattered(self, process: int, kinds: Sequence[Kind], allowed: Allowed) -> Scattered:
        return Scattered((self._seed, process), self.side, kinds, GAP, allowed)

    def _island_kinds(self, mean: float) -> list[Kind]:
        sizes = list(islands.radii(mean))
        density = self._options.islands / (np.pi * np.mean(np.square(sizes))) / len(sizes)
        row = np.radians(self._options.lattice_angle)
        return [
            Kind(
                density * share,
                islands.largest_radius(size) + species.radius,
                partial(islands.outline, species, size, row),
            )
            for species, share in zip(self.species, self._shares, strict=True)
            for size in sizes
        ]

    def _single_kinds(self) -> list[Kind]:
        density = self._options.density * ANGSTROM**2
        return [
            Kind(density * share, species.radius, partial(self._turned, species))
            for species, share in zip(self.species, self._shares, strict=True)
        ]

    def _dirt_kinds(self, kinds: dict[str, Species]) -> list[Kind]:
        clumps = (1 - _ADATOMS - _CARBONYLS) / (len(kinds) - 2)
        shares = {"adatom": _ADATOMS, "CO": _CARBONYLS}
        density = self._options.contamination * ANGSTROM**2
        return [
            Kind(
                density * shares.get(name, clumps),
                species.radius,
                partial(_turned_in_plane, species),
            )
            for name, species in kinds.items()
        ]

    def _turned(self, species: Species, rng: np.random.Generator) -> _Turned:
        """Draw how a single molecule lies. The same numbers are drawn for each, used or not."""
        options = self._options
        aligned, tilted, flipped = rng.random(3) < (options.aligned, options.tilted, options.flipped)
        row = np.radians(options.lattice_angle) + rng.integers(6) * np.pi / 3
        anyhow, axis = rng.uniform(0, 2 * np.pi, 2)
        tilt = np.radians(rng.uniform(0, options.largest_tilt))
        angle = float(row if aligned else anyhow)
        if not species.flat:
            return _Turned(species, Pose(angle))
        return _Turned(species, Pose(angle, float(tilt) if tilted else 0.0, float(axis), bool(flipped)))


def _anywhere(_cell: Cell, discs: Sequence[Disc]) -> np.ndarray:
    return np.ones(len(discs), bool)


def _turned_in_plane(species: Species, rng: np.random.Generator) -> _Turned:
    return _Turned(species, Pose(float(rng.uniform(0, 2 * np.pi))))
