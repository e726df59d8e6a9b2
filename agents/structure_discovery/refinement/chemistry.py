"""What is known about molecules before any image: lengths of bonds, typical charges."""

import numpy as np

COVALENT_RADII: dict[int, float] = {
    1: 0.31, 6: 0.73, 7: 0.71, 8: 0.66, 9: 0.57, 14: 1.11, 15: 1.07, 16: 1.05, 17: 1.02, 35: 1.20,
}  # fmt: skip
"""Å (Cordero et al., Dalton Trans. 2832 (2008); carbon between sp2 and sp3)."""

# Of the length of a bond, in Å: single, aromatic and double ones of a pair differ that much; hydrogen has only single.
_WIDTH = 0.07
_WIDTH_HYDROGEN = 0.04
# Where two radii are no good: C=O and C-O, C=N and C-N, and bonds of H.
_LENGTHS = {(6, 6): 1.43, (6, 7): 1.38, (6, 8): 1.30, (1, 6): 1.09, (1, 7): 1.02, (1, 8): 0.97}
# Two atoms this many times farther apart than their radii are not bonded.
_LONGEST_BOND = 1.3
_MOST_BONDS = {1: 1, 6: 4, 7: 4, 8: 2, 9: 1, 14: 4, 15: 5, 16: 6, 17: 1, 35: 1}
# Mean and standard deviation of the partial charge, in e (Gasteiger and Marsili, Tetrahedron 36, 3219 (1980)).
_CHARGES = {
    1: (0.07, 0.06), 6: (0.03, 0.12), 7: (-0.28, 0.10), 8: (-0.32, 0.12), 9: (-0.20, 0.06), 14: (0.10, 0.15),
    15: (0.10, 0.15), 16: (-0.10, 0.12), 17: (-0.08, 0.06), 35: (-0.05, 0.06),
}  # fmt: skip
_UNKNOWN_CHARGE = (0.0, 0.2)
# Neighbours that an atom has at most without a charge.
_VALENCES = {1: 1, 6: 4, 7: 3, 8: 2, 9: 1, 14: 4, 15: 4, 16: 2, 17: 1, 35: 1}
_UNKNOWN_RADIUS = 1.2


def radius(number: int) -> float:
    """Covalent radius of an element, in Å."""
    return COVALENT_RADII.get(int(number), _UNKNOWN_RADIUS)


def bond_length(first: int, second: int) -> tuple[float, float]:
    """Length of a bond of two elements and how widely it varies, in Å."""
    pair = (int(min(first, second)), int(max(first, second)))
    width = _WIDTH_HYDROGEN if pair[0] == 1 else _WIDTH
    return _LENGTHS.get(pair, radius(first) + radius(second)), width


def typical_charges(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the charges of elements, in e, shapes (n,)."""
    pairs = np.array([_CHARGES.get(int(number), _UNKNOWN_CHARGE) for number in numbers]).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def find_bonds(numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Find atoms near enough for a bond, as pairs (m, 2), the lower index first.

    The nearest are taken first, as long as valences last.
    """
    count = len(numbers)
    first, second = np.triu_indices(count, 1)
    radii = np.array([radius(number) for number in numbers])
    stretch = np.linalg.norm(positions[first] - positions[second], axis=1) / (radii[first] + radii[second])
    free = np.array([_MOST_BONDS.get(int(number), count) for number in numbers])
    bonds = []
    for pair in np.argsort(stretch):
        if stretch[pair] > _LONGEST_BOND:
            break
        i, j = int(first[pair]), int(second[pair])
        if free[i] > 0 and free[j] > 0:
            bonds.append((i, j))
            free[[i, j]] -= 1
    return np.array(sorted(bonds), dtype=int).reshape(-1, 2)


def free_valences(numbers: np.ndarray, bonds: np.ndarray) -> np.ndarray:
    """Count the neighbours that each atom may have besides those in `bonds`, shape (n,)."""
    most = np.array([_VALENCES.get(int(number), 0) for number in numbers], dtype=int)
    return most - np.bincount(bonds.ravel(), minlength=len(numbers))


def crowding(number: int, position: np.ndarray, numbers: np.ndarray, positions: np.ndarray) -> int:
    """Count the neighbours that an element at a place has beyond those that it may have; -1 for an atom with none.

    Parameters
    ----------
    number, position
        Of the atom.
    numbers, positions
        Of the others, shapes (n,) and (n, 3), in Å.
    """
    reach = _LONGEST_BOND * (radius(number) + np.array([radius(one) for one in numbers]))
    # Hydrogens are no neighbours of each other, however near they are.
    near = (np.linalg.norm(positions - position, axis=1) < reach) & ~((numbers == 1) & (number == 1))
    count = int(np.count_nonzero(near))
    return max(count - _VALENCES.get(int(number), count), 0) if count else -1
