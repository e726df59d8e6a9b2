"""What is known beside the stack, as residuals: each is a deviation in units of its standard deviation."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from twinscope.agents.structure_discovery.refinement.chemistry import (
    bond_length,
    find_bonds,
    radius,
    typical_charges,
)
from twinscope.agents.structure_discovery.refinement.parameters import TIP, Layout, moments
from twinscope.agents.structure_discovery.structure import Structure
from twinscope.kernels import Tip

# Of positions, where the structure does not tell its own, and the least that is believed of it, in Å.
_POSITION = 0.3
_LEAST = 0.15
# Of known charges, in e.
_CHARGE = 0.08
# Of the condition in :data:`TIP`, where nobody tells: about the given tip, in its unit; the height stands for itself.
_CONDITIONS = (0.3, 0.06, 0.1, 0.2, 0.2, 0.15)
_HEIGHT = 3.3
_OFFSET = 0.1
# Of hidden matter, in carbon atoms, and of its charge times that of the tip, in e².
_FRACTION, _COUPLING = 0.5, 0.03
# Angles between bonds and how widely they vary, in degrees.
_ANGLE, _ANGLE_WIDTH = 116.0, 9.0
# Atoms that are not bonded do not come nearer than this many times their radii, within this, in Å.
_NEAREST, _NEAREST_WIDTH = 1.35, 0.1


@dataclass(frozen=True, eq=False)
class Distances:
    """Springs between pairs of atoms: (m, 2) indices, lengths (m,) and widths (m,) in Å; some only push."""

    pairs: np.ndarray
    lengths: np.ndarray
    widths: np.ndarray
    pushing: np.ndarray

    @classmethod
    def of(cls, numbers: np.ndarray, positions: np.ndarray) -> "Distances":
        """Find bonds, angles and what stands too near."""
        bonds = find_bonds(numbers, positions)
        rows = [(i, j, *bond_length(numbers[i], numbers[j]), False) for i, j in bonds.tolist()]
        neighbours: list[list[int]] = [[] for _ in numbers]
        for i, j in bonds.tolist():
            neighbours[i].append(j)
            neighbours[j].append(i)
        bonded = {tuple(pair) for pair in bonds.tolist()}
        across: set[tuple[int, int]] = set()
        for middle, around in enumerate(neighbours):
            for i, j in ((i, j) for i in around for j in around if i < j and (i, j) not in bonded | across):
                across.add((i, j))
                a, b = (bond_length(numbers[middle], numbers[end])[0] for end in (i, j))
                rows.append((i, j, *_across(a, b), False))
        for i, j in zip(*np.triu_indices(len(numbers), 1), strict=True):
            if (i, j) not in bonded | across:
                least = _NEAREST * (radius(numbers[i]) + radius(numbers[j]))
                rows.append((i, j, least, _NEAREST_WIDTH, True))
        table = np.array(rows, dtype=float).reshape(-1, 5)
        return cls(table[:, :2].astype(int), table[:, 2], table[:, 3], table[:, 4].astype(bool))

    def residuals(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the residuals (m,) and their derivatives (m, 3 n) for positions (n, 3)."""
        i, j = self.pairs.T
        apart = positions[i] - positions[j]
        distance = np.maximum(np.linalg.norm(apart, axis=1), 1e-6)
        off = (distance - self.lengths) / self.widths
        acting = ~self.pushing | (off < 0)
        along = np.where(acting, 1 / (distance * self.widths), 0)[:, None] * apart
        rows = np.zeros((len(i), len(positions), 3))
        number = np.arange(len(i))
        rows[number, i], rows[number, j] = along, -along
        return np.where(acting, off, 0), rows.reshape(len(i), -1)


@dataclass(frozen=True, eq=False)
class Priors:
    """Normal distributions of all parameters, and distances between atoms.

    Attributes
    ----------
    layout
        Of the parameters.
    mean, sigma
        Shape (parameters,).
    distances
        Between the atoms.
    """

    layout: Layout
    mean: np.ndarray
    sigma: np.ndarray
    distances: Distances

    def residuals(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the residuals (m,) and their derivatives (m, parameters)."""
        off, rows = self.distances.residuals(parameters[self.layout.positions].reshape(-1, 3))
        padded = np.zeros((len(off), self.layout.size))
        padded[:, self.layout.positions] = rows
        own = (parameters - self.mean) / self.sigma
        return np.concatenate([own, off]), np.concatenate([np.diag(1 / self.sigma), padded])


def priors_of(structure: Structure, tip: Tip, layout: Layout, conditions: Mapping[str, tuple[float, float]]) -> Priors:
    """Collect what is known.

    Parameters
    ----------
    structure
        The atoms at the start.
    tip
        The tip at the start.
    layout
        Of the parameters.
    conditions
        Value and standard deviation by the names of :data:`TIP`.
    """
    mean, sigma = np.zeros(layout.size), np.ones(layout.size)
    mean[layout.positions] = structure.positions.reshape(-1)
    known = np.where(np.isfinite(structure.sigma) & (structure.sigma > 0), structure.sigma, _POSITION)
    sigma[layout.positions] = np.maximum(known, _LEAST).reshape(-1)
    usual, width = typical_charges(structure.numbers)
    mean[layout.charges] = usual if structure.charges is None else structure.charges
    sigma[layout.charges] = width if structure.charges is None else _CHARGE
    charge, quadrupole = moments(tip)
    x0, y0, _ = map(float, tip.rest)
    at_start = (_HEIGHT, float(tip.stiffness[0]), charge, x0, y0, quadrupole)
    told = [conditions.get(name, pair) for name, *pair in zip(TIP, at_start, _CONDITIONS, strict=True)]
    mean[layout.tip], sigma[layout.tip] = np.array(told).T
    sigma[layout.offsets] = _OFFSET
    sigma[layout.hidden_matter], sigma[layout.hidden_charges] = _FRACTION, _COUPLING
    return Priors(layout, mean, sigma, Distances.of(structure.numbers, structure.positions))


def _across(a: float, b: float) -> tuple[float, float]:
    """Distance of the ends of two bonds with an angle between them, and how widely it varies, in Å."""
    low, middle, high = np.deg2rad([_ANGLE - _ANGLE_WIDTH, _ANGLE, _ANGLE + _ANGLE_WIDTH])
    nearest, usual, farthest = (np.sqrt(a * a + b * b - 2 * a * b * np.cos(angle)) for angle in (low, middle, high))
    return float(usual), float(farthest - nearest) / 2
