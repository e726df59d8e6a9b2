"""From atoms to a molecule: bonds, and elements that fit to them."""

import numpy as np

from twinscope.agents.structure_discovery.graph.bond_lengths import MOST_NEIGHBOURS
from twinscope.agents.structure_discovery.graph.bond_orders import bond_orders
from twinscope.agents.structure_discovery.graph.confidence import Confidence
from twinscope.agents.structure_discovery.graph.elements import distance_densities, infer_elements, neighbour_pairs
from twinscope.agents.structure_discovery.graph.peaks import Peaks
from twinscope.agents.structure_discovery.structure import NUMBERS, Structure
from twinscope.errors import InvalidRequestError

POSITION_ERROR = 0.06
"""Å: standard deviation of the positions along each axis, unless the caller knows better."""


def connected(peaks: Peaks, *, error: float = POSITION_ERROR, confidence: Confidence | None = None) -> Structure:
    """Make a structure of peaks: elements and bonds are those that distances, pictures and valences tell together.

    Parameters
    ----------
    peaks
        What :func:`find_atoms` has found.
    error
        Å: standard deviation of the positions, along each axis. It decides how much a distance can tell.
    confidence
        Makes probabilities of the heights of peaks; unless given, the height itself is it, at most 1.

    Returns
    -------
    Structure
        Atoms in the order of the peaks.

    Raises
    ------
    InvalidRequestError
        When `error` is not a positive number.
    """
    if not error > 0:
        raise InvalidRequestError(f"error is {error}: expected the standard deviation of the positions in Å, above 0")
    probabilities = infer_elements(peaks.probabilities, peaks.positions, error)
    elements = probabilities.argmax(axis=1)
    bonds = find_bonds(elements, peaks.positions, error)
    return Structure(
        numbers=np.array(NUMBERS)[elements],
        positions=peaks.positions,
        confidence=(confidence or Confidence())(peaks.heights),
        probabilities=probabilities,
        sigma=np.full((len(peaks), 3), np.nan),
        bonds=bonds,
        bond_orders=bond_orders(elements, peaks.positions, bonds, error),
    )


def find_bonds(elements: np.ndarray, positions: np.ndarray, error: float = POSITION_ERROR) -> np.ndarray:
    """Find the pairs of atoms that are rather bonded than not, the likeliest first as long as both have a bond left.

    Parameters
    ----------
    elements
        Indices in ELEMENTS, shape (n,).
    positions
        Å, shape (n, 3).
    error
        Å: standard deviation of the positions, along each axis.

    Returns
    -------
    ndarray, shape (m, 2)
        In rising order, the lower index first.
    """
    pairs, distances = neighbour_pairs(positions)
    bonded, apart = distance_densities(distances, error)
    first, second = elements[pairs].T
    each = np.arange(len(pairs))
    chances = bonded.sum(axis=1)[each, first, second]
    odds = chances / apart[each, first, second]
    left = MOST_NEIGHBOURS[elements].copy()
    bonds = []
    for pair in np.argsort(-odds, kind="stable"):
        if odds[pair] > 1 and left[pairs[pair]].min() > 0:
            bonds.append(pairs[pair])
            left[pairs[pair]] -= 1
    return np.array(sorted(map(tuple, bonds)), dtype=int).reshape(-1, 2)
