"""Checks of what enters a simulation. Values are looked at only where they are known, not under a JAX trace."""

from typing import Any

import jax
import numpy as np

from twinscope.kernels._elements import atomic_number
from twinscope.kernels._types import ArrayLike, Atoms, Cantilever, ScanGrid, Tip

# Charges are quoted with three or four digits.
_NEUTRAL = 1e-3
# Cell vectors that are parallel within this.
_FLAT = 1e-6


def check_atoms(atoms: Atoms) -> None:
    """Raise ValueError when `atoms` cannot be simulated."""
    shape = _shape("atoms.numbers", atoms.numbers)
    if len(shape) != 1 or shape[0] == 0:
        raise ValueError(f"atoms.numbers has shape {shape}: expected (n,) with n >= 1")
    (count,) = shape
    _check_elements(atoms.numbers)
    _check_array("atoms.positions", atoms.positions, (count, 3))
    if atoms.charges is not None:
        _check_array("atoms.charges", atoms.charges, (count,))
        if _known(atoms.charges, atoms.numbers) and np.array_equal(atoms.charges, atoms.numbers):
            raise ValueError(
                f"atoms.charges are the atomic numbers {_short(atoms.numbers)}: expected the point charges of the "
                "atoms, in e, which add up to the charge of the sample; None for a sample without"
            )
    if atoms.lennard_jones is not None:
        _check_array("atoms.lennard_jones", atoms.lennard_jones, (count, 2))
        _check_lennard_jones("atoms.lennard_jones", atoms.lennard_jones)
    _check_periodicity(atoms)


def check_tip(tip: Tip) -> None:
    """Raise ValueError when `tip` is no tip: an unknown element, a rest position or a stiffness that cannot be."""
    if not isinstance(tip.element, str) and not (_is_number(tip.element) and tip.element == int(tip.element)):
        raise ValueError(f"tip.element is {tip.element!r}: expected a chemical symbol or an atomic number")
    atomic_number(tip.element)
    _check_list("tip.rest", tip.rest, 3)
    x0, y0, length = tip.rest
    if _known(x0, y0, length) and not length > np.hypot(x0, y0):
        raise ValueError(f"tip.rest is {tip.rest}: the length R must exceed the lateral offset")
    _check_list("tip.stiffness", tip.stiffness, 4)
    if _known(tip.stiffness):
        _check_stiffness(tip)
    _check_tip_charges(tip.charges)
    if tip.lennard_jones is not None:
        _check_list("tip.lennard_jones", tip.lennard_jones, 2)
        _check_lennard_jones("tip.lennard_jones", [tip.lennard_jones])


def check_neutral(atoms: Atoms, tip: Tip) -> None:
    """Raise ValueError when a charged cell is repeated under a charged tip.

    The sum over the images of a charged cell has no limit: forces would depend on how many images there are.
    """
    if atoms.charges is None or not tip.charges or not any(atoms.periodic_images) or not _known(atoms.charges):
        return
    total = float(np.sum(np.asarray(atoms.charges, float)))
    if abs(total) > _NEUTRAL:
        raise ValueError(
            f"atoms.charges add up to {total:.6g} e per cell, but a cell that is repeated must be neutral within "
            f"{_NEUTRAL} e: give other charges (charges - charges.mean() spreads the rest over all atoms), "
            "periodic_images=(0, 0, 0), or a tip without charges"
        )


def check_charges(atoms: Atoms, expected: float = 0.0, tolerance: float = 1e-3) -> None:
    """Raise ValueError unless the charges of a sample add up to what they should.

    Charges that were rounded, cut off from a larger system or taken from the wrong column seldom do.

    Parameters
    ----------
    atoms
        Sample. One without charges has the charge zero.
    expected
        Charge of the sample, or of its cell, in e.
    tolerance
        e.
    """
    if atoms.charges is None:
        total = 0.0
    else:
        _check_array("atoms.charges", atoms.charges, _shape("atoms.numbers", atoms.numbers))
        if not _known(atoms.charges):
            return
        total = float(np.sum(np.asarray(atoms.charges, float)))
    if not abs(total - expected) <= tolerance:
        raise ValueError(
            f"atoms.charges add up to {total:.6g} e: expected {expected:g} e within {tolerance:g} e; look for missing "
            "atoms, or for charges of another kind"
        )


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


def check_reach(reach: float, sample: Any, points: ArrayLike) -> None:
    """Raise ValueError unless `reach` is a positive number and everything else is known."""
    if not _known(reach, *jax.tree.leaves(sample), points):
        raise ValueError("with a reach, it, atoms, tip and positions must be known: differentiate with reach=None")
    if not _is_number(reach) or not (np.isfinite(reach) and reach > 0):
        raise ValueError(f"reach is {reach!r}: expected a positive number, in Å, or None to sum over all atoms")


def check_substeps(substeps: int) -> None:
    """Raise ValueError unless `substeps` is a whole number from 1 to 100."""
    if isinstance(substeps, bool) or not isinstance(substeps, int | np.integer) or not 1 <= substeps <= 100:
        raise ValueError(f"substeps is {substeps!r}: expected a whole number from 1 to 100")


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


def _check_elements(numbers: ArrayLike) -> None:
    if not _known(numbers):
        return
    if np.asarray(numbers).dtype.kind not in "iuf":
        raise ValueError(
            f"atoms.numbers are {_short(numbers)}: expected atomic numbers, such as 6; atomic_number('C') tells them"
        )
    for index, number in enumerate(np.asarray(numbers)):
        if not np.isfinite(number) or number != int(number):
            raise ValueError(f"atoms.numbers[{index}] is {number}: expected a whole number, the element")
    for number in np.unique(np.asarray(numbers)):
        atomic_number(int(number))


def _check_periodicity(atoms: Atoms) -> None:
    images = atoms.periodic_images
    if np.shape(images) != (3,) or any(not _is_number(n) or n != int(n) or n < 0 for n in images):
        raise ValueError(f"atoms.periodic_images is {images}: expected three whole numbers >= 0")
    if atoms.cell is None:
        if any(images):
            raise ValueError(f"atoms.periodic_images is {images} but atoms.cell is None: give the cell")
        return
    _check_array("atoms.cell", atoms.cell, (3, 3))
    if not _known(atoms.cell):
        return
    # A vector along which nothing is repeated may be anything: that of a layer is often zero.
    repeated = np.asarray(atoms.cell, float)[np.asarray(images) > 0]
    volume = np.sqrt(np.linalg.det(repeated @ repeated.T)) if len(repeated) else 1.0
    if not volume > _FLAT * np.prod(np.linalg.norm(repeated, axis=1)):
        raise ValueError(
            f"atoms.cell has the rows {repeated.tolist()} along which periodic_images {images} repeat it: expected "
            "vectors that are not zero and not parallel to each other"
        )


def _check_stiffness(tip: Tip) -> None:
    if not min(tip.stiffness) >= 0:
        raise ValueError(f"tip.stiffness is {tip.stiffness} N/m: expected four numbers >= 0")
    *_, along, radial = tip.stiffness
    if along == radial == 0 and not tip.rigid:
        raise ValueError(
            f"tip.stiffness is {tip.stiffness} N/m: kz and k_radial are both zero, so the probe would fall off; give "
            "one of them, or rigid=True for a probe that cannot move"
        )


def _check_tip_charges(charges: ArrayLike) -> None:
    if _length(charges) < 0:
        raise ValueError(f"tip.charges is {charges!r}: expected pairs ((q, z), ...), and () for none")
    for pair in charges:
        if _length(pair) != 2:
            raise ValueError(f"tip.charges has {pair!r}: expected pairs (q, z) of a charge in e and a height in Å")
        charge, height = pair
        if _known(charge, height) and not (_is_number(charge) and _is_number(height)):
            raise ValueError(f"tip.charges has ({charge}, {height}): expected finite numbers")


def _check_lennard_jones(name: str, parameters: ArrayLike) -> None:
    if not _known(parameters):
        return
    for index, (radius, depth) in enumerate(np.asarray(parameters)):
        if not (radius > 0 and depth >= 0):
            place = f"{name}[{index}]" if len(parameters) > 1 or name.startswith("atoms") else name
            raise ValueError(f"{place} is ({radius}, {depth}): expected a radius > 0 in Å and a depth >= 0 in eV")


def _known(*values: ArrayLike) -> bool:
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def _is_number(value: ArrayLike) -> bool:
    """Tell whether a known value is one finite number."""
    try:
        return np.ndim(value) == 0 and bool(np.isfinite(float(value)))
    except (TypeError, ValueError):
        return False


def _length(values: ArrayLike) -> int:
    """Count what may be traced, which NumPy cannot look at; -1 for a single value."""
    try:
        return len(values)
    except TypeError:
        return -1


def _short(values: ArrayLike) -> str:
    """Write a list down, without its middle when it is long."""
    return " ".join(np.array2string(np.asarray(values), separator=", ", threshold=8, edgeitems=2).split())


def _shape(name: str, array: ArrayLike) -> tuple[int, ...]:
    try:
        return tuple(np.shape(array))
    except ValueError as exc:
        raise ValueError(f"{name} has rows of different length: expected an array ({exc})") from exc


def _check_array(name: str, array: ArrayLike, shape: tuple[int, ...]) -> None:
    _check_shape(name, array, shape)
    _check_finite(name, array)


def _check_list(name: str, values: ArrayLike, count: int) -> None:
    """Check a tuple of numbers, of which some may be traced."""
    if _length(values) != count:
        raise ValueError(f"{name} is {values}: expected {count} numbers")
    if _known(values) and not all(map(_is_number, values)):
        raise ValueError(f"{name} is {values}: expected {count} finite numbers")


def _check_shape(name: str, array: ArrayLike, shape: tuple[int, ...]) -> None:
    if _shape(name, array) != shape:
        raise ValueError(f"{name} has shape {np.shape(array)}: expected {shape}")


def _check_finite(name: str, array: ArrayLike) -> None:
    if not _known(array):
        return
    if np.asarray(array).dtype.kind not in "iuf":
        raise ValueError(f"{name} are {_short(array)}: expected real numbers")
    bad = np.argwhere(~np.isfinite(np.asarray(array)))
    if len(bad):
        index = tuple(int(i) for i in bad[0])
        raise ValueError(f"{name}{list(index)} is {np.asarray(array)[index]}: expected finite numbers")
