"""Checks of what enters a simulation. Values are looked at only where they are known, not under a JAX trace."""

import jax
import numpy as np

from twinscope.kernels._elements import atomic_number
from twinscope.kernels._types import ArrayLike, Atoms, Cantilever, ScanGrid, Tip


def check_atoms(atoms: Atoms) -> None:
    """Raise ValueError when `atoms` cannot be simulated."""
    count = np.shape(atoms.numbers)[0] if np.ndim(atoms.numbers) == 1 else 0
    if count == 0:
        raise ValueError(f"atoms.numbers has shape {np.shape(atoms.numbers)}: expected (n,) with n >= 1")
    _check_shape("atoms.positions", atoms.positions, (count, 3))
    _check_finite("atoms.positions", atoms.positions)
    if atoms.charges is not None:
        _check_shape("atoms.charges", atoms.charges, (count,))
        _check_finite("atoms.charges", atoms.charges)
    for number in np.unique(np.asarray(atoms.numbers)):
        atomic_number(int(number))
    images = atoms.periodic_images
    if len(images) != 3 or any(n != int(n) or n < 0 for n in images):
        raise ValueError(f"atoms.periodic_images is {images}: expected three whole numbers >= 0")
    if atoms.cell is None:
        if any(atoms.periodic_images):
            raise ValueError(f"atoms.periodic_images is {atoms.periodic_images} but atoms.cell is None: give the cell")
    else:
        _check_shape("atoms.cell", atoms.cell, (3, 3))
        _check_finite("atoms.cell", atoms.cell)


def check_tip(tip: Tip) -> None:
    """Raise ValueError when `tip` is no tip: an unknown element, a rest position or a stiffness that cannot be."""
    atomic_number(tip.element)
    for name, values, count in (("rest", tip.rest, 3), ("stiffness", tip.stiffness, 4)):
        if len(values) != count:
            raise ValueError(f"tip.{name} is {values}: expected {count} numbers")
    x0, y0, length = tip.rest
    if _known(x0, y0, length) and not length > np.hypot(x0, y0):
        raise ValueError(f"tip.rest is {tip.rest}: the length R must exceed the lateral offset")
    if _known(*tip.stiffness) and not (min(tip.stiffness) >= 0 and np.isfinite(tip.stiffness).all()):
        raise ValueError(f"tip.stiffness is {tip.stiffness} N/m: expected four finite numbers >= 0")
    for charge, height in tip.charges:
        if _known(charge, height) and not np.isfinite([charge, height]).all():
            raise ValueError(f"tip.charges has ({charge}, {height}): expected finite numbers")


def check_points(points: ArrayLike) -> None:
    """Raise ValueError unless `points` is a finite, not empty (n, 2) array."""
    if np.ndim(points) != 2 or np.shape(points)[1] != 2 or np.shape(points)[0] == 0:
        raise ValueError(f"lateral positions have shape {np.shape(points)}: expected (n, 2) with n >= 1")
    _check_finite("lateral positions", points)


def check_heights(heights: ArrayLike) -> None:
    """Raise ValueError unless `heights` is a finite list from far to near."""
    if np.ndim(heights) != 1 or np.shape(heights)[0] == 0:
        raise ValueError(f"z has shape {np.shape(heights)}: expected (nz,) with nz >= 1")
    _check_finite("z", heights)
    if _known(heights) and (np.diff(np.asarray(heights)) > 0).any():
        raise ValueError("z must go from far to near: expected values that do not increase")


def check_grid(grid: ScanGrid) -> None:
    """Raise ValueError unless the axes of `grid` are finite lists, z from far to near."""
    for name in ("x", "y"):
        axis = getattr(grid, name)
        if np.ndim(axis) != 1 or np.shape(axis)[0] == 0:
            raise ValueError(f"grid.{name} has shape {np.shape(axis)}: expected (n,) with n >= 1")
        _check_finite(f"grid.{name}", axis)
    check_heights(grid.z)


def check_displacement(displacement: ArrayLike, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless `displacement` is finite and has the shape of the scan."""
    _check_shape("displacement", displacement, shape)
    _check_finite("displacement", displacement)


def check_cantilever(cantilever: Cantilever) -> None:
    """Raise ValueError unless frequency, stiffness and amplitude are positive."""
    for name in ("frequency", "stiffness", "amplitude"):
        value = getattr(cantilever, name)
        if _known(value) and not (np.isfinite(value) and value > 0):
            raise ValueError(f"cantilever.{name} is {value}: expected a positive number")


def _known(*values: ArrayLike) -> bool:
    return not any(isinstance(value, jax.core.Tracer) for value in values)


def _check_shape(name: str, array: ArrayLike, shape: tuple[int, ...]) -> None:
    if np.shape(array) != shape:
        raise ValueError(f"{name} has shape {np.shape(array)}: expected {shape}")


def _check_finite(name: str, array: ArrayLike) -> None:
    if not _known(array):
        return
    bad = np.argwhere(~np.isfinite(np.asarray(array)))
    if len(bad):
        index = tuple(int(i) for i in bad[0])
        raise ValueError(f"{name}{list(index)} is {np.asarray(array)[index]}: expected finite numbers")
