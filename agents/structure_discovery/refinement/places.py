"""Where an atom may be that was not seen: at a bond's length from one that was."""

import numpy as np

from twinscope.agents.structure_discovery.refinement.chemistry import bond_length, find_bonds, free_valences, radius

# The lattice that catches what no free valence points to: its pitch and depths below the highest atom, in Å.
_PITCH, _DEPTHS = 0.6, (0.0, 0.5)
# A place is so far from the nearest atom, in bond lengths, and no deeper than this below the highest atom, in Å.
_NEAREST, _FARTHEST = 0.85, 1.25
_DEEPEST = 1.5
# Bonds of a planar atom, and how far those of a tetrahedral one lean out of the plane.
_TURN = 2 * np.pi / 3
_LEANS = (0.0, 0.5, -0.5)
# How steeply the bond of a lonely atom goes down.
_SLOPES = (0.0, 0.6, 1.7)


def free_places(
    numbers: np.ndarray, positions: np.ndarray, x: np.ndarray, y: np.ndarray, number: int, *, everywhere: bool
) -> np.ndarray:
    """Return places (m, 3), in Å, at which an atom of an element would be bonded to one that is there.

    Parameters
    ----------
    numbers, positions
        The atoms, shapes (n,) and (n, 3), in Å.
    x, y
        Axes of the images, in Å: places lie between their ends.
    number
        Element of the new atom.
    everywhere
        Add those of a lattice to those to which free valences point.
    """
    parts = [_at_valences(numbers, positions, number)]
    if everywhere:
        axes = [np.arange(values[0], values[-1] + _PITCH / 2, _PITCH) for values in (x, y)]
        depths = positions[:, 2].max() - np.array(_DEPTHS)
        parts.append(np.stack(np.meshgrid(*axes, depths), axis=-1).reshape(-1, 3))
    places = np.concatenate(parts)
    lengths = np.array([radius(one) for one in numbers]) + radius(number)
    stretch = (np.linalg.norm(places[:, None] - positions, axis=-1) / lengths).min(axis=1)
    low, high = (np.array([values[end] for values in (x, y)]) for end in (0, -1))
    inside = ((places[:, :2] >= low) & (places[:, :2] <= high)).all(axis=1)
    shallow = places[:, 2] > positions[:, 2].max() - _DEEPEST
    return places[inside & shallow & (stretch > _NEAREST) & (stretch < _FARTHEST)]


def _at_valences(numbers: np.ndarray, positions: np.ndarray, number: int) -> np.ndarray:
    """Return places to which the free valences of the atoms point, shape (m, 3)."""
    bonds = find_bonds(numbers, positions)
    places = []
    for atom in np.flatnonzero(free_valences(numbers, bonds) > 0):
        around = [*bonds[bonds[:, 0] == atom, 1], *bonds[bonds[:, 1] == atom, 0]]
        length = bond_length(numbers[atom], number)[0]
        places += [positions[atom] + length * way for way in _directions(positions[around] - positions[atom])]
    return np.array(places).reshape(-1, 3)


def _directions(bonds: np.ndarray) -> list[np.ndarray]:
    """Return unit vectors away from the bonds (m, 3) that an atom has already."""
    if not len(bonds):
        # Below, too: what hangs on to a lonely hydrogen that stands up is hidden by it.
        around = [np.array([np.cos(a), np.sin(a), 0.0]) for a in np.arange(6) * np.pi / 3]
        return [_unit(way - [0.0, 0.0, lean]) for way in around for lean in _SLOPES] + [np.array([0.0, 0.0, -1.0])]
    units = bonds / np.linalg.norm(bonds, axis=1, keepdims=True)
    if len(bonds) == 1:
        return [
            _unit(_turned(units[0], angle) + np.array([0.0, 0.0, lean])) for angle in (_TURN, -_TURN) for lean in _LEANS
        ] + [-units[0]]
    away = -units.sum(axis=0)
    if np.linalg.norm(away) < 0.1:
        away = np.array([0.0, 0.0, 1.0])
    return [_unit(_unit(away) + np.array([0.0, 0.0, lean])) for lean in _LEANS]


def _turned(vector: np.ndarray, angle: float) -> np.ndarray:
    x, y, z = vector
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([cos * x - sin * y, sin * x + cos * y, z * cos])


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)
