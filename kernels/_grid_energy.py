"""An energy that is known on a grid, with a smooth and exact force and Hessian between the points."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._terms import Hessian, Term, TermSum, Vector
from twinscope.kernels._types import ArrayLike
from twinscope.kernels._volume import Volume, check_volume, exact_namespace, is_known, known_array

# How far outside of a grid, in steps, a point still counts as inside: positions are rounded.
_ROUNDING = 1e-3
# Points interpolated by one call when a whole grid is resampled: their neighbours stay in the cache.
_TILE = 4096

# The four cubic B-splines around a point at t = 0...1 steps behind the second: coefficients of 1, t, t², t³.
_SPLINES = np.array([[1, -3, 3, -1], [4, 0, -6, 3], [1, 3, 3, -3], [0, 0, 0, 1]]) / 6
_DERIVATIVE = np.diag([1.0, 2.0, 3.0], k=-1)
# The same with their first and second derivatives, shape (3, 4, 4).
_PIECES = np.stack([_SPLINES, _SPLINES @ _DERIVATIVE, _SPLINES @ _DERIVATIVE @ _DERIVATIVE])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GridEnergy:
    """Interpolation of an energy on a grid by tricubic B-splines.

    The spline passes through all values of the grid and has continuous second derivatives. Force and Hessian are the
    derivatives of this energy, not interpolated on their own, so that they always fit together. Where a vector is not
    periodic, the spline ends "not-a-knot": it reproduces any cubic polynomial, up to the border.

    Outside of the grid, along vectors that are not periodic, energy, force and Hessian are NaN.

    Build one with :meth:`of`.

    Attributes
    ----------
    coefficients
        Of the B-splines, in eV, with one more in front of the grid and one or (periodic) two behind it, which saves
        wrapping of each index.
    origin
        Where the first point of the grid is, in Å, shape (3,).
    to_index
        1/Å, shape (3, 3): ``to_index @ (point - origin)`` counts steps of the grid.
    periodic
        Along which vectors of the grid the energy repeats itself.

    References
    ----------
    M. Unser, Splines: a perfect fit for signal and image processing, IEEE Signal Process. Mag. 16(6), 22 (1999).
    """

    coefficients: ArrayLike
    origin: ArrayLike
    to_index: ArrayLike
    periodic: tuple[bool, bool, bool] = field(metadata={"static": True})

    @classmethod
    def of(cls, volume: Volume) -> "GridEnergy":
        """Interpolate a volume of energies in eV, in the precision of its values.

        Raises
        ------
        ValueError
            When the volume has bad shapes, fewer than four points along a vector or numbers that are not finite.
        """
        check_volume("energy", volume)
        coefficients = known_array(volume.values)
        np_ = exact_namespace(coefficients)
        for periodic in volume.periodic:
            solve = _prefilter(coefficients.shape[0], periodic)
            # Each product moves the first index to the end. Three digits, which TF32 would leave, are not enough.
            if np_ is np:
                coefficients = np.tensordot(coefficients, solve, axes=(0, 1))
            else:
                coefficients = jnp.tensordot(
                    coefficients, solve.astype(coefficients.dtype), axes=(0, 1), precision=jax.lax.Precision.HIGHEST
                )
        dtype = jnp.result_type(volume.values, jnp.float32)
        steps = volume.steps
        to_index = exact_namespace(steps).linalg.inv(steps).T
        parts = [jnp.asarray(part, dtype) for part in (coefficients, volume.origin, to_index)]
        return cls(parts[0], parts[1], parts[2], volume.periodic)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of grid points along each vector."""
        nx, ny, nz = (n - (3 if p else 2) for n, p in zip(np.shape(self.coefficients)[-3:], self.periodic, strict=True))
        return nx, ny, nz

    def energy(self, points: jax.Array) -> jax.Array:
        """See :class:`~twinscope.kernels.Term`; NaN outside of the grid."""
        near, weights = self._neighbourhood(points, orders=1)
        return _product(near, weights)[0, 0, 0]

    def force_and_hessian(self, points: jax.Array) -> tuple[Vector, Hessian]:
        """See :class:`~twinscope.kernels.Term`; NaN outside of the grid."""
        near, weights = self._neighbourhood(points, orders=3)
        slopes = _product(near, weights)
        to_index = jnp.asarray(self.to_index, points.dtype)
        # How often to derive along each vector of the grid, for the gradient and for each row of the second derivative.
        first = np.eye(3, dtype=int)
        gradient = jnp.stack([slopes[tuple(a)] for a in first])
        second = jnp.stack([jnp.stack([slopes[tuple(a + b)] for b in first]) for a in first])
        fx, fy, fz = -_multiply(to_index.T, gradient)
        hessian = _multiply(to_index.T, _multiply(to_index.T, second).swapaxes(0, 1))
        (xx, xy, xz), (_, yy, yz), (_, _, zz) = hessian
        return (fx, fy, fz), (xx, xy, xz, yy, yz, zz)

    def _neighbourhood(self, points: jax.Array, orders: int) -> tuple[jax.Array, jax.Array]:
        """Return the 4 x 4 x 4 coefficients around each point, (z, y, x, n), and what to multiply them with.

        The weights have the shape (orders, 4, 3, n): derivative, place of the spline, vector of the grid, point.
        """
        count, periodic = np.array(self.shape)[:, None], np.array(self.periodic)[:, None]
        offset = points - jnp.asarray(self.origin, points.dtype)[:, None]
        index = _multiply(jnp.asarray(self.to_index, points.dtype), offset)
        inside = periodic | ((index >= -_ROUNDING) & (index <= count - 1 + _ROUNDING))
        index = jnp.where(inside, index, jnp.nan)
        corner = jnp.floor(index)
        corner = jnp.where(periodic, corner, jnp.clip(corner, 0, count - 2))
        # NaN becomes any number: what is read there does not matter, as long as it is read inside.
        whole = corner.astype(jnp.int32)
        whole = jnp.where(periodic, whole % count, jnp.clip(whole, 0, count - 2))
        # One window of 64 numbers per point is several times faster than 64 single reads.
        windows = jax.lax.gather(
            jnp.asarray(self.coefficients),
            whole.T,
            jax.lax.GatherDimensionNumbers(offset_dims=(1, 2, 3), collapsed_slice_dims=(), start_index_map=(0, 1, 2)),
            slice_sizes=(4, 4, 4),
            mode="promise_in_bounds",
        )
        t = index - corner
        powers = jnp.stack([jnp.ones_like(t), t, t * t, t * t * t])
        weights = _multiply(jnp.asarray(_PIECES[:orders].reshape(-1, 4), t.dtype), powers)
        return windows.astype(t.dtype).T, weights.reshape(orders, 4, *t.shape)


def check_inside(
    terms: tuple[Term, ...], points: ArrayLike, heights: ArrayLike, rest: ArrayLike, wander: ArrayLike
) -> None:
    """Raise ValueError when the probe of a scan would leave a grid among `terms`.

    Parameters
    ----------
    terms
        As for :func:`check_reach`.
    points, heights
        Of the tip anchor, in Å, shapes (n, 2) and (nz,).
    rest
        From the anchor to the probe at rest, in Å, shape (3,).
    wander
        How far the probe may move from there along x, y and z, in Å.
    """
    if not terms or not is_known(points, heights, rest):
        return
    lateral, z = np.asarray(points), np.asarray(heights)
    low, high = (np.array([*edge(lateral, axis=0), edge(z)]) for edge in (np.min, np.max))
    hanging, room = np.asarray(rest), np.asarray(wander)
    check_reach(TermSum(terms), low + hanging - room, high + hanging + room)


def check_reach(term: Term, low: ArrayLike, high: ArrayLike) -> None:
    """Raise ValueError when a probe that stays inside of a box leaves a grid of `term`.

    Parameters
    ----------
    term
        Any term or sum of terms; only the :class:`GridEnergy` in it are looked at.
    low, high
        Opposite corners of the box of probe positions, in Å, shape (3,).

    Raises
    ------
    ValueError
        The message says along which vector of the grid the box is too large, and by how much.
    """
    if not is_known(term, low, high):
        return
    grids = jax.tree.leaves(term, is_leaf=lambda part: isinstance(part, GridEnergy))
    corners = np.stack(np.meshgrid(*zip(known_array(low), known_array(high), strict=True)), axis=-1).reshape(-1, 3)
    for grid in grids:
        if not isinstance(grid, GridEnergy):
            continue
        to_index = known_array(grid.to_index)
        index = (corners - known_array(grid.origin)) @ to_index.T
        lengths = np.linalg.norm(np.linalg.inv(to_index), axis=0)
        for axis, (count, periodic) in enumerate(zip(grid.shape, grid.periodic, strict=True)):
            first, last = index[:, axis].min(), index[:, axis].max()
            too_far = max(-first, last - (count - 1))
            if not periodic and too_far > _ROUNDING:
                excess, start, end, size = (v * lengths[axis] for v in (too_far, first, last, count - 1))
                raise ValueError(
                    f"the probe would leave the energy grid along its vector {axis + 1} by {excess:.2f} Å: it goes from"
                    f" {start:.2f} to {end:.2f} Å of a grid that spans 0 to {size:.2f} Å; scan a smaller region, give"
                    " data on a larger grid, or mark the data as periodic if they are"
                )


def resample(volume: Volume, like: Volume) -> Volume:
    """Interpolate a volume at the grid points of another one, by the splines of :class:`GridEnergy`.

    Raises
    ------
    ValueError
        When a point lies outside of `volume` along a vector that is not periodic.
    """
    check_volume("volume", volume)
    check_volume("like", like)
    shape = np.shape(like.values)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1).reshape(-1, 3)
    values = interpolate(volume, index @ like.steps + known_array(like.origin)).reshape(shape)
    outside = np.sum(np.isnan(values))
    if outside:
        raise ValueError(f"{outside} of {values.size} points of the new grid lie outside of the old: expected none")
    return Volume(values, like.cell, like.origin, like.periodic)


def interpolate(volume: Volume, points: np.ndarray) -> np.ndarray:
    """Values of a known volume at points (n, 3) in Å, in double precision; NaN outside."""
    grid = GridEnergy.of(volume)
    count = len(points)
    tiles = np.pad(points, ((0, -count % _TILE), (0, 0)), mode="edge").reshape(-1, _TILE, 3).swapaxes(1, 2)
    return np.asarray(_energies(grid, jnp.asarray(tiles, grid.origin.dtype)), float).reshape(-1)[:count]


@jax.jit
def _energies(grid: GridEnergy, tiles: jax.Array) -> jax.Array:
    return jax.lax.map(grid.energy, tiles)


def _prefilter(count: int, periodic: bool) -> np.ndarray:
    """Matrix from n values to the coefficients of the spline through them, with those in front of and behind the grid.

    A dense matrix costs as much as a Fourier transform for the sizes in use, is exact, and works along each kind of
    vector.
    """
    if periodic:
        one = np.eye(count)
        collocation = (np.roll(one, 1, axis=1) + 4 * one + np.roll(one, -1, axis=1)) / 6
        return np.linalg.inv(collocation)[np.arange(-1, count + 2) % count]
    equations = np.zeros((count + 2, count + 2))
    # The third derivative does not jump at the second point and at the last but one.
    equations[0, :5] = equations[-1, -5:] = 1, -4, 6, -4, 1
    for row in range(1, count + 1):
        equations[row, row - 1 : row + 2] = 1 / 6, 4 / 6, 1 / 6
    return np.linalg.inv(equations)[:, 1:-1]


def _product(near: jax.Array, weights: jax.Array) -> jax.Array:
    """Sum over the splines around each point, (orders, orders, orders, n): one axis for each vector of the grid.

    Written in few and large operations: XLA takes a second to compile each use of a longer form.
    """

    def along(vector: int, values: jax.Array) -> jax.Array:
        # The places along this vector come first in the values, its derivatives in the sum.
        return jnp.sum(weights[:, :, vector, None, None] * values, axis=1)

    over_z = along(2, near)
    over_y = along(1, jnp.moveaxis(over_z, 1, 0))
    return along(0, jnp.moveaxis(over_y, 2, 0))


def _multiply(matrix: jax.Array, vectors: jax.Array) -> jax.Array:
    """Matrix times the first axis; the highest precision keeps TF32 out, whose three digits are not enough."""
    product = jnp.matmul(matrix, vectors.reshape(vectors.shape[0], -1), precision=jax.lax.Precision.HIGHEST)
    return product.reshape(-1, *vectors.shape[1:])
