"""Scalar fields on regular grids: potentials and densities from electronic-structure codes."""

from dataclasses import dataclass, field, replace
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._types import ArrayLike

# A cubic spline needs this many points to be defined.
_FEWEST_POINTS = 4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Volume:
    """Values on a regular grid, whose cell may be of any shape.

    The point (i, j, k) is at ``origin + (i / nx) cell[0] + (j / ny) cell[1] + (k / nz) cell[2]``. This holds along
    every vector, periodic or not: n points are n steps of ``cell / n``, and the end of the cell is one step behind the
    last point. Along a periodic vector that end is the first point again, which the grid does not repeat.

    Attributes
    ----------
    values
        Shape (nx, ny, nz). The unit depends on the use: V for a potential, e/Å³ for a density.
    cell
        Å, shape (3, 3), rows are the vectors.
    origin
        Å, shape (3,): where the point (0, 0, 0) is.
    periodic
        Along which vectors the field repeats itself. Along the others it is unknown outside of the grid.
    """

    values: ArrayLike
    cell: ArrayLike
    origin: ArrayLike = (0.0, 0.0, 0.0)
    periodic: tuple[bool, bool, bool] = field(default=(True, True, True), metadata={"static": True})

    @property
    def steps(self) -> ArrayLike:
        """Vectors from a point to the next one along each index, in Å, rows of (3, 3)."""
        return known_array(self.cell) / np.asarray(np.shape(self.values))[:, None]

    @property
    def point_volume(self) -> ArrayLike:
        """Volume that belongs to one point, in Å³."""
        steps = self.steps
        np_ = exact_namespace(steps)
        return np_.abs(np_.linalg.det(steps))

    @property
    def integral(self) -> ArrayLike:
        """Sum of the values times the volume of a point: the charge, for a density."""
        return known_array(self.values).sum() * self.point_volume

    def shifted(self, by: ArrayLike) -> "Volume":
        """Return the same field, moved by a vector (3,) in Å."""
        return replace(self, origin=known_array(self.origin) + known_array(by))


def is_known(*values: ArrayLike) -> bool:
    """Tell whether all values are numbers, not traced by JAX."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def exact_namespace(*values: ArrayLike) -> ModuleType:
    """NumPy for what is known, JAX for what is traced.

    Fourier transforms of densities lose digits: next to a nucleus an overlap is a million times larger than where the
    probe goes. So what is known is computed in double precision, whatever JAX is set to.
    """
    return np if is_known(*values) else jnp


def known_array(values: ArrayLike) -> ArrayLike:
    """Return known values as a NumPy array in double precision, and traced ones as they are."""
    return np.asarray(values, float) if is_known(values) else jnp.asarray(values)


def check_volume(name: str, volume: Volume) -> None:
    """Raise ValueError when `volume` is no grid that can be interpolated: wrong shapes, too few points, bad numbers."""
    shape = np.shape(volume.values)
    if len(shape) != 3 or min(shape) < _FEWEST_POINTS:
        raise ValueError(
            f"{name}.values has shape {shape}: expected (nx, ny, nz) with at least {_FEWEST_POINTS} points each"
        )
    if len(volume.periodic) != 3 or not all(isinstance(p, (bool, np.bool_)) for p in volume.periodic):
        raise ValueError(f"{name}.periodic is {volume.periodic}: expected True or False for each of three vectors")
    for part, expected in (("cell", (3, 3)), ("origin", (3,))):
        if np.shape(getattr(volume, part)) != expected:
            raise ValueError(f"{name}.{part} has shape {np.shape(getattr(volume, part))}: expected {expected}")
    for part in ("values", "cell", "origin"):
        _check_finite(f"{name}.{part}", getattr(volume, part))
    if is_known(volume.cell):
        cell = np.asarray(volume.cell, float)
        if abs(np.linalg.det(cell)) < 1e-6 * np.prod(np.linalg.norm(cell, axis=1)):
            raise ValueError(f"{name}.cell is {cell.tolist()}: expected three vectors that span a volume")


def _check_finite(name: str, values: ArrayLike) -> None:
    if not is_known(values):
        return
    finite = np.isfinite(np.asarray(values))
    if not finite.all():
        index = tuple(int(i) for i in np.argwhere(~finite)[0])
        raise ValueError(
            f"{name}{list(index)} is {np.asarray(values)[index]}, one of {np.sum(~finite)}: expected finite numbers"
        )
