"""Charge and electron densities of the tip, as grids around the probe."""

import math
from collections.abc import Mapping

import numpy as np

from twinscope.kernels._grid_energy import interpolate
from twinscope.kernels._types import ArrayLike
from twinscope.kernels._volume import Volume, check_volume, is_known, known_array

# A Gaussian ends here, in units of its width: of a quadrupole, two parts in a million lie beyond.
_REACH = 6.0

# Polynomials in r / sigma: factors of products of the coordinates.
_SHAPES = {
    "s": {"": 1.0},
    "px": {"x": 1.0},
    "py": {"y": 1.0},
    "pz": {"z": 1.0},
    "dx2": {"xx": 0.5, "yy": -0.25, "zz": -0.25},
    "dy2": {"xx": -0.25, "yy": 0.5, "zz": -0.25},
    "dz2": {"xx": -0.25, "yy": -0.25, "zz": 0.5},
    "dxy": {"xy": 1.0},
    "dxz": {"xz": 1.0},
    "dyz": {"yz": 1.0},
}


def multipole_density(
    multipoles: Mapping[str, ArrayLike], sigma: float, like: Volume, rotation: ArrayLike | None = None
) -> Volume:
    """Charge density of Gaussian multipoles at the probe.

    The density is ``N exp(-r² / 2 sigma²) * sum(c S(r / sigma))``, with the shapes S = 1 for "s", x for "px" (also
    "py", "pz"), ``(2 z² - x² - y²) / 4`` for "dz2" (also "dx2", "dy2") and x y for "dxy" (also "dxz", "dyz"). N makes
    the sum of the Gaussian over the grid 1. So "s" has the charge c, "pz" the dipole ``c sigma``, "dz2" the
    quadrupole ``∫ rho z² = c sigma²`` and ``∫ rho x² = -c sigma² / 2``, and "dxy" ``∫ rho x y = c sigma²``.

    Parameters
    ----------
    multipoles
        The numbers c by name, in e. A CO tip is usually taken as ``{"dz2": -0.1}``.
    sigma
        Width of the Gaussian, in Å.
    like
        The field that the tip will be put into: its steps are used.
    rotation
        Shape (3, 3): turns the tip, ``rotation @ r``; None for a tip that is not turned.

    Returns
    -------
    Volume
        e/Å³, positive charges are positive; not periodic, the probe is at (0, 0, 0).

    Raises
    ------
    ValueError
        When a name is unknown, a number is not finite, or the steps are longer than sigma.

    References
    ----------
    P. Hapala et al., Phys. Rev. B 90, 085421 (2014); N. Oinonen et al., Comput. Phys. Commun. 305, 109341 (2024).
    """
    check_volume("like", like)
    unknown = sorted(set(multipoles) - set(_SHAPES))
    if unknown or not multipoles:
        raise ValueError(f"tip multipoles are {sorted(multipoles)}: expected one or more of {', '.join(_SHAPES)}")
    for name, value in multipoles.items():
        if is_known(value) and not np.isfinite(value):
            raise ValueError(f"tip multipole {name!r} is {value}: expected a finite number")
    if not (np.isfinite(sigma) and sigma > 0):
        raise ValueError(f"sigma is {sigma} Å: expected a positive number")
    steps = np.asarray(like.steps)
    longest = np.linalg.norm(steps, axis=1).max()
    if longest > sigma:
        raise ValueError(
            f"the grid is too coarse for the tip: its steps are up to {longest:.2f} Å long, but sigma is {sigma} Å;"
            " give the field on a finer grid"
        )
    # So many planes of points, along each vector, does a sphere around the probe cut.
    half = np.ceil(_REACH * sigma * np.linalg.norm(np.linalg.inv(steps), axis=0)).astype(int)
    points = _lattice(-half, half, steps) @ _rotation(rotation) / sigma
    coordinates = dict(zip("xyz", np.moveaxis(points, -1, 0), strict=True))
    gaussian = np.exp(-np.sum(points**2, axis=-1) / 2)
    gaussian /= gaussian.sum() * abs(np.linalg.det(steps))
    values: ArrayLike = 0.0
    for name, c in multipoles.items():
        for product, factor in _SHAPES[name].items():
            values = values + c * (factor * math.prod((coordinates[letter] for letter in product), start=gaussian))
    return Volume(values, steps * np.array(gaussian.shape)[:, None], -half @ steps, (False, False, False))


def tip_density(volume: Volume, probe: ArrayLike, like: Volume, rotation: ArrayLike | None = None) -> Volume:
    """Cut a density of the tip out of its cell, put the probe at the origin and bring it on the steps of a field.

    Along a periodic vector, half of the cell on each side of the probe belongs to the tip; outside there is nothing.
    Between the points of `volume` it is interpolated by cubic splines.

    Parameters
    ----------
    volume
        Any density of the tip, as it was read.
    probe
        Where the probe, the outermost atom of the tip, is in `volume`; Å, shape (3,).
    like
        The field that the tip will be put into: its steps are used.
    rotation
        Shape (3, 3): turns the tip around the probe; None for a tip that is not turned.

    Returns
    -------
    Volume
        In the unit of `volume`; not periodic, the probe is at (0, 0, 0).

    Raises
    ------
    ValueError
        When shapes are wrong, numbers are not finite, or the probe is outside of a grid that is not periodic.
    """
    check_volume("tip density", volume)
    check_volume("like", like)
    probe = known_array(probe)
    if probe.shape != (3,) or not np.isfinite(probe).all():
        raise ValueError(f"probe is {probe.tolist()}: expected three finite numbers, a position in Å")
    turn = _rotation(rotation)
    tip_steps, steps = np.asarray(volume.steps), np.asarray(like.steps)
    at = (probe - known_array(volume.origin)) @ np.linalg.inv(tip_steps)
    counts, periodic = np.array(np.shape(volume.values)), np.array(volume.periodic)
    if (~periodic & ((at < 0) | (at > counts - 1))).any():
        raise ValueError(
            f"the probe at {probe.tolist()} Å is outside of the grid of the tip density: expected it inside"
        )
    # The box of the tip, in steps of its own grid from the probe.
    low, high = np.where(periodic, -counts / 2, -at), np.where(periodic, counts / 2, counts - 1 - at)
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), axis=-1).reshape(-1, 3)
    reach = corners @ tip_steps @ turn.T @ np.linalg.inv(steps)
    first, last = np.floor(reach.min(axis=0)).astype(int), np.ceil(reach.max(axis=0)).astype(int)
    place = _lattice(first, last, steps) @ turn
    in_tip = place @ np.linalg.inv(tip_steps)
    # A point on the border of a periodic cell belongs to one side only.
    inside = np.where(periodic, (in_tip >= low) & (in_tip < high), (in_tip >= low - 1e-6) & (in_tip <= high + 1e-6))
    inside = inside.all(axis=-1)
    values = np.zeros(inside.shape)
    values[inside] = interpolate(volume, place[inside] + probe)
    return Volume(values, steps * np.array(values.shape)[:, None], first @ steps, (False, False, False))


def _lattice(first: np.ndarray, last: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Points (n1, n2, n3, 3), in Å, with the indices from first to last."""
    ranges = (np.arange(a, b + 1) for a, b in zip(first, last, strict=True))
    index = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1)
    return np.asarray(index @ steps, float)


def _rotation(rotation: ArrayLike | None) -> np.ndarray:
    if rotation is None:
        return np.eye(3)
    matrix = known_array(rotation)
    if matrix.shape != (3, 3) or not np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-6):
        raise ValueError(f"rotation is {matrix.tolist()}: expected an orthogonal matrix of shape (3, 3)")
    return matrix
