"""How a molecule lies under the tip."""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=8)
def even_rotations(count: int) -> np.ndarray:
    """Rotations (count, 3, 3) that turn evenly distributed directions up: those of a golden spiral on the sphere."""
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    z = 1 - (2 * np.arange(count) + 1) / count
    radius = np.sqrt(1 - z * z)
    up = np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=-1)
    first = np.stack([-np.sin(angle), np.cos(angle), np.zeros(count)], axis=-1)
    rotations = np.stack([first, np.cross(up, first), up], axis=1)
    rotations.setflags(write=False)
    return rotations


def visible_atoms(positions: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """Rank rotations (m, 3, 3) of a molecule (n, 3), in Å, by how many atoms lie near the top.

    Returns
    -------
    numpy.ndarray
        ``sum_i exp(z_i - z_max)``, shape (m,): from 1 for a molecule that stands on end to n for a flat one
        (Alldritt et al., Sci. Adv. 6, eaay6913 (2020), who call it entropy).
    """
    z = np.einsum("mk,nk->mn", rotations[:, 2], positions)
    return np.exp(z - z.max(axis=1, keepdims=True)).sum(axis=1)


def flattest_rotations(positions: np.ndarray, orientations: int, count: int) -> np.ndarray:
    """Choose the even rotations that show most atoms, the best first, shape (count, 3, 3)."""
    rotations = even_rotations(orientations)
    return rotations[np.argsort(-visible_atoms(positions, rotations), kind="stable")[:count]]


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    """Any rotation (3, 3), all equally likely (from a normally distributed quaternion)."""
    w, x, y, z = (quaternion := rng.normal(size=4)) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def spun(angle: float) -> np.ndarray:
    """Rotation (3, 3) about the z axis, in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def centred(positions: np.ndarray) -> np.ndarray:
    """Move a molecule (n, 3) so that its bounding box is centred on x = y = 0 and its highest atom is at z = 0."""
    low, high = positions.min(axis=0), positions.max(axis=0)
    return positions - np.array([*(low + high)[:2] / 2, high[2]])
