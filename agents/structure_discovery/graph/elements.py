"""What element an atom is, as its picture and its neighbours tell together.

A network judges each atom by its picture. Distances to its neighbours know more: nothing but hydrogen is 1.1 Å from
carbon, and an atom with three bonds is no oxygen. Both are factors of one probability,

    p(elements) ~ prod_i p_i(e_i) prod_ij f(d_ij | e_i, e_j),

where f(d | a, b) is the density of distances of two such atoms, be they bonded or not. Its marginals are computed by
belief propagation (Pearl, Probabilistic Reasoning in Intelligent Systems (1988)), which is exact on trees and good on
rings. Numbers of bonds enter as further factors of single atoms, by the expected number of bonds.
"""

import numpy as np

from twinscope.agents.structure_discovery.graph.bond_lengths import LENGTHS, MOST_NEIGHBOURS, SPREAD

REACH = 2.6
"""Å: atoms farther apart tell nothing about each other's element."""

# How frequent bonds of each order are, among pairs of atoms that could have one of them.
_SHARES = np.array([0.5, 0.3, 0.15, 0.05])
# Atoms that are not bonded keep this distance, in Å, beyond that of a single bond, within a width.
_CLEARANCE, _CLEARANCE_WIDTH = 0.6, 0.08
# Per Å: density of the distances of atoms that are not bonded, beyond the clearance and below it.
_DENSITY, _LEAST_DENSITY = 0.4, 1e-4
# What one bond too many costs, as the logarithm of a probability.
_COST = 5.0
_ROUNDS = 3
_SWEEPS = 12
_DAMPING = 0.3
_TINY = 1e-9


def neighbour_pairs(positions: np.ndarray, reach: float = REACH) -> tuple[np.ndarray, np.ndarray]:
    """Find atoms near each other: pairs, the lower index first, shape (m, 2), and their distances in Å, shape (m,)."""
    first, second = np.triu_indices(len(positions), 1)
    distances = np.linalg.norm(positions[first] - positions[second], axis=1)
    near = distances <= reach
    return np.stack([first[near], second[near]], axis=1), distances[near]


def distance_densities(distances: np.ndarray, error: float) -> tuple[np.ndarray, np.ndarray]:
    """Tell how likely distances are, for all pairs of elements.

    Parameters
    ----------
    distances
        Å, shape (m,).
    error
        Å: standard deviation of the positions, along each axis.

    Returns
    -------
    bonded
        Density for bonds of each order, 1/Å, shape (m, orders, elements, elements); zero where there is no such bond.
    apart
        Density for atoms that are not bonded, 1/Å, shape (m, elements, elements).
    """
    width = np.hypot(SPREAD, np.sqrt(2) * error)
    deviations = (distances[:, None, None, None] - LENGTHS) / width
    bonded = _SHARES[:, None, None] * np.exp(-0.5 * deviations**2) / (np.sqrt(2 * np.pi) * width)
    beyond = (distances[:, None, None] - LENGTHS[0] - _CLEARANCE) / np.hypot(_CLEARANCE_WIDTH, error)
    apart = _LEAST_DENSITY + _DENSITY / (1 + np.exp(-np.clip(2 * beyond, -50, 50)))
    return np.nan_to_num(bonded), apart


def infer_elements(probabilities: np.ndarray, positions: np.ndarray, error: float) -> np.ndarray:
    """Improve element probabilities by distances and numbers of bonds.

    Parameters
    ----------
    probabilities
        Of the elements, by the picture alone, shape (n, len(ELEMENTS)).
    positions
        Å, shape (n, 3).
    error
        Å: standard deviation of the positions, along each axis.

    Returns
    -------
    ndarray, shape (n, len(ELEMENTS))
        Rows add up to 1.
    """
    pairs, distances = neighbour_pairs(positions)
    bonded, apart = distance_densities(distances, error)
    bonded = bonded.sum(axis=1)
    factors = bonded + apart
    chances = bonded / factors
    seen = np.log(np.maximum(probabilities, _TINY))
    improved = _normalised(seen)
    for _ in range(_ROUNDS):
        excess = np.maximum(_expected_bonds(improved, pairs, chances) - MOST_NEIGHBOURS - 0.5, 0.0)
        improved = _propagate(_normalised(seen - _COST * excess), pairs, factors)
    return improved


def _expected_bonds(beliefs: np.ndarray, pairs: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """Count the bonds that every atom would have, were it of each element: shape (n, elements)."""
    expected = np.zeros_like(beliefs)
    np.add.at(expected, pairs[:, 0], np.einsum("mab,mb->ma", chances, beliefs[pairs[:, 1]]))
    np.add.at(expected, pairs[:, 1], np.einsum("mab,ma->mb", chances, beliefs[pairs[:, 0]]))
    return expected


def _propagate(seen: np.ndarray, pairs: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Compute the marginals of the elements by sum-product messages along all pairs, both ways."""
    sources, targets = np.concatenate([pairs, pairs[:, ::-1]]).T
    both = np.concatenate([factors, factors.swapaxes(1, 2)])
    back = np.concatenate([np.arange(len(pairs)) + len(pairs), np.arange(len(pairs))])
    logs = np.log(seen)
    messages = np.zeros((len(sources), seen.shape[1]))
    for _ in range(_SWEEPS):
        totals = logs.copy()
        np.add.at(totals, targets, messages)
        outgoing = _normalised(totals[sources] - messages[back])
        new = np.log(np.einsum("mab,ma->mb", both, outgoing) + _TINY**2)
        messages = _DAMPING * messages + (1 - _DAMPING) * (new - new.max(axis=1, keepdims=True))
    np.add.at(logs, targets, messages)
    return _normalised(logs)


def _normalised(logs: np.ndarray) -> np.ndarray:
    values = np.exp(logs - logs.max(axis=1, keepdims=True, initial=-np.inf))
    return np.maximum(values / values.sum(axis=1, keepdims=True), _TINY**2)
