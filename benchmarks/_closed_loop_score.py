"""What an agent has found in a world, beside what its oracle knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.neighborlist import natural_cutoffs, neighbor_list
from scipy.optimize import linear_sum_assignment

from twinscope.agents.structure_discovery.agent import DiscoveryOptions, MoleculeRecord
from twinscope.agents.structure_discovery.agent.completing import completed
from twinscope.agents.structure_discovery.agent.operator import ANGSTROM
from twinscope.agents.structure_discovery.agent.overview import Overview
from twinscope.agents.structure_discovery.descriptors import descriptor_maps_of
from twinscope.agents.structure_discovery.graph.align import find_shift, shifted
from twinscope.agents.structure_discovery.graph.matching import Comparison, compare
from twinscope.agents.structure_discovery.prediction import DESCRIPTORS
from twinscope.agents.structure_discovery.predictor import Predictor
from twinscope.agents.structure_discovery.stack import PUBLISHED_GRID
from twinscope.agents.structure_discovery.structure import ELEMENTS, NUMBERS, Structure
from twinscope.errors import InvalidRequestError

# Whoever is nearer than this (Å) to a molecule has found it: half of a small one, and the creep of the piezo.
_FOUND = 8.0
# So far (Å) a right structure may lie beside the truth: by the creep of the piezo, and the tilt of the tip.
_REACH = 3.0

# A C-H bond is longer than ASE's covalent radii add up to.
_SLACK = 1.15

_FIELD = "electrostatic_map"

KINDS = {"molecule": "alone", "island": "in islands", "edge": "at steps"}
"""Where molecules are: the first part of their names, and words for people."""

Truth = Sequence[Mapping[str, Any]]
"""The molecules of the oracle."""


@dataclass(frozen=True)
class Detection:
    """What was seen in the overview.

    Attributes
    ----------
    found
        For each kind, whether each true molecule was found.
    missed
        Kinds and names of those that were not, with their places in nm, for people.
    false
        How many were seen where none is.
    """

    found: Mapping[str, Sequence[bool]]
    missed: Sequence[str]
    false: int


def score_detection(overview: Overview | None, truth: Truth, half: float) -> Detection:
    """Match what was seen with what is there, in an area that reaches `half` (Å) from the middle."""
    real = np.array([one["position"][:2] for one in truth]).reshape(-1, 2) / ANGSTROM
    regions = () if overview is None else overview.molecules
    seen = np.array([(one.x, one.y) for one in regions]).reshape(-1, 2)
    away = np.linalg.norm(real[:, None] - seen[None], axis=-1)
    rows, columns = linear_sum_assignment(np.minimum(away, 10 * _FOUND))
    near = away[rows, columns] < _FOUND
    # The edge of the area is as uncertain as the positions: what lies within that of it does not count.
    counts = (np.abs(real) < half - _FOUND).all(axis=1)
    found: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    missed = []
    for number, one in enumerate(truth):
        if counts[number]:
            kind, is_found = one["id"].partition(":")[0], number in rows[near]
            found[kind].append(is_found)
            if not is_found:
                x, y = real[number] / 10
                missed.append(f"{KINDS[kind]}: {one['kind']} at ({x:.1f}, {y:.1f}) nm")
    return Detection(found, missed, len(np.setdiff1d(np.arange(len(seen)), columns[near])))


def compare_molecule(molecule: MoleculeRecord, truth: Truth) -> Comparison:
    """Compare the structure of a molecule with the nearest true one."""
    assert molecule.structure is not None
    middle = np.array(molecule.center) / ANGSTROM
    real = _nearest(molecule, truth)
    expected = true_structure(real, middle)
    try:
        found = shifted(molecule.structure, find_shift(molecule.structure, expected, reach=_REACH))
    except InvalidRequestError:
        # No atom is near a true one.
        found = molecule.structure
    return compare(found, expected)


def _nearest(molecule: MoleculeRecord, truth: Truth) -> Mapping[str, Any]:
    """Return the true molecule that is nearest to the middle of a frame."""
    middle = np.array(molecule.center) / ANGSTROM
    return min(truth, key=lambda one: float(np.hypot(*(np.array(one["position"][:2]) / ANGSTROM - middle))))


def is_right(comparison: Comparison) -> bool:
    """Whether atoms, elements and bonds are all right, and there are some."""
    bonds = not comparison.missing_bonds and not comparison.extra_bonds
    return bool(comparison.same_atoms and comparison.confusion.any() and bonds)


def true_structure(molecule: Mapping[str, Any], middle: np.ndarray) -> Structure:
    """Return the truth in the coordinates of the frame."""
    numbers = [NUMBERS[ELEMENTS.index(symbol)] for symbol, *_ in molecule["atoms"]]
    positions = np.array([place for _, *place in molecule["atoms"]]) / ANGSTROM - [*middle, 0.0]
    positions[:, 2] -= positions[:, 2].max()
    first, second = neighbor_list("ij", Atoms(numbers, positions), natural_cutoffs(Atoms(numbers), mult=_SLACK))
    bonds = np.stack([first, second], axis=-1)[first < second]
    return Structure.known(numbers, positions, bonds=bonds, bond_orders=np.ones(len(bonds)))


def field_errors(molecule: MoleculeRecord, truth: Truth, predictor: Predictor) -> tuple[float, float]:
    """Root mean square errors of the electrostatic map (V/Å) from the first tip alone, and from all tips.

    The truth is laid where the first tip's prediction of the atoms fits it best.
    """
    assert molecule.stack is not None
    real = _nearest(molecule, truth)
    middle = np.array(molecule.center) / ANGSTROM
    first = predictor.predict(completed(molecule.stack))
    both = molecule.prediction
    assert both is not None
    expected = true_structure(real, middle)
    shift = find_shift(first.structure, expected, reach=_REACH)
    positions = expected.positions - shift * [1.0, 1.0, 0.0]
    maps = descriptor_maps_of(expected.numbers, positions, np.array(real["charges"]), first.x, first.y)
    field = maps[list(DESCRIPTORS).index(_FIELD)]
    one, several = (float(np.sqrt(np.mean((told.maps[_FIELD].values - field) ** 2))) for told in (first, both))
    return one, several


def raster_costs(options: DiscoveryOptions) -> tuple[float, float]:
    """Time (s) and area (nm²) of a raster that takes the network's stack everywhere, as fast as the agent its slices.

    Each of its heights counts. It needs no time to turn round at the ends of lines, and its frames do not overlap.
    """
    frame = (PUBLISHED_GRID.pixels * PUBLISHED_GRID.pitch) ** 2 / 100
    area = options.size[0] * options.size[1] * 1e18
    per_frame = 2 * options.line_time * PUBLISHED_GRID.pixels * PUBLISHED_GRID.slices
    return per_frame * area / frame, area * PUBLISHED_GRID.slices
