"""Kinds of things that lie on the metal of a world: molecules of the library, and dirt."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from twinscope.drivers.simulator.sample import load_sample
from twinscope.kernels import Tip, atomic_number

# A molecule is flat when its atoms are within this (Å) of a plane.
_FLAT = 0.3
# Carbon of CO above the nuclei of the atom below it, and C-O, in Å (Cu(111): Bartels et al., Surf. Sci. 432, L621
# (1999), within 0.1 Å of other metals).
_METAL_CARBON, _CARBON_OXYGEN = 1.85, 1.15
# Half-balls of metal.
_CLUMP_RADII = (4.0, 5.0, 6.0)


@dataclass(frozen=True, eq=False)
class Species:
    """One kind.

    Attributes
    ----------
    name
        As in the library.
    numbers
        Atomic numbers, shape (n,).
    positions
        Å, shape (n, 3): the middle of the lateral extent at x = y = 0, the lowest atom at z = 0.
    charges
        e, shape (n,).
    altitude
        Of its lowest atom, in Å, over that of a flat molecule.
    source
        File name and SHA-256 of a molecule.
    warnings
        What a user should know about it.
    """

    name: str
    numbers: np.ndarray
    positions: np.ndarray
    charges: np.ndarray
    altitude: float = 0.0
    source: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @cached_property
    def radius(self) -> float:
        """Of the circle around all its atoms, in Å."""
        return float(np.hypot(self.positions[:, 0], self.positions[:, 1]).max())

    @property
    def extent(self) -> tuple[float, float]:
        """Along x and y, in Å."""
        along_x, along_y = np.ptp(self.positions[:, :2], axis=0)
        return float(along_x), float(along_y)

    @property
    def flat(self) -> bool:
        """Whether all its atoms are in one plane."""
        return bool(np.ptp(self.positions[:, 2]) < _FLAT)


def molecule(name: str) -> Species:
    """Read a molecule of the library, or from a file, and lay it flat.

    Raises
    ------
    ConfigurationError
        When there is no such molecule.
    """
    sample = load_sample(name, Tip(), "flat")
    numbers, charges = np.asarray(sample.atoms.numbers), sample.atoms.charges
    given = np.zeros(len(numbers)) if charges is None else np.asarray(charges, float)
    lying = _centred(sample.name, numbers, np.asarray(sample.atoms.positions, float), given)
    return replace(lying, source=sample.source, warnings=sample.warnings)


def dirt(metal: str, spacing: float, distance: float) -> dict[str, Species]:
    """Make adatoms, CO molecules and clumps on a metal.

    Parameters
    ----------
    metal
        Symbol.
    spacing
        Of its layers, in Å. The surface begins half of it above the topmost nuclei.
    distance
        From the surface to the atoms of a flat molecule, in Å.
    """
    number = atomic_number(metal)
    adatom = _centred("adatom", np.array([number]), np.zeros((1, 3)), altitude=spacing / 2 - distance)
    oxygen = np.array([[0, 0, 0], [0, 0, _CARBON_OXYGEN]])
    carbonyl = _centred("CO", np.array([6, 8]), oxygen, altitude=_METAL_CARBON - spacing / 2 - distance)
    clumps = [_clump(number, index, radius, spacing, distance) for index, radius in enumerate(_CLUMP_RADII)]
    return {species.name: species for species in (adatom, carbonyl, *clumps)}


def _clump(number: int, index: int, radius: float, spacing: float, distance: float) -> Species:
    """Cut a half-ball out of a crystal that is turned at random."""
    rng = np.random.default_rng(index)
    constant = spacing * np.sqrt(3)
    steps = np.arange(-8, 9)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    crystal = grid[grid.sum(axis=1) % 2 == 0] * constant / 2
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turned = crystal @ turn.T
    inside = turned[(np.linalg.norm(turned, axis=1) < radius) & (turned[:, 2] >= 0)]
    return _centred(f"clump{index}", np.full(len(inside), number), inside, altitude=spacing / 2 - distance)


def _centred(
    name: str, numbers: np.ndarray, positions: np.ndarray, charges: np.ndarray | None = None, altitude: float = 0.0
) -> Species:
    low, high = positions.min(axis=0), positions.max(axis=0)
    middle = np.array([*(low + high)[:2] / 2, low[2]])
    return Species(name, numbers, positions - middle, np.zeros(len(numbers)) if charges is None else charges, altitude)
