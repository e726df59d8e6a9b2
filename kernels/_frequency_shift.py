"""Frequency shift of an oscillating tip, from the force along z."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._checks import check_cantilever, check_heights
from twinscope.kernels._constants import NEWTON_PER_METRE
from twinscope.kernels._types import ArrayLike, Cantilever
from twinscope.kernels._volume import is_known

_QUADRATURE = 48  # Points over one oscillation: exact for polynomials of degree 95 in z.
# Heights that differ by less than this (Å) are the same: float32 leaves 5e-7 Å at 10 Å.
_SAME_HEIGHT = 1e-5


def frequency_shift(force_z: ArrayLike, z: ArrayLike, cantilever: Cantilever) -> tuple[jax.Array, jax.Array]:
    """Frequency shift at every height of a stack around which the whole oscillation fits into it.

    Parameters
    ----------
    force_z
        Force on the tip along z, in eV/Å, shape (nz, ...). Forces that are not finite make NaN only of the frequency
        shifts in whose oscillation they take part.
    z
        Heights, in Å, shape (nz,), from far to near. They and the amplitude must be known under :func:`jax.jit`.
    cantilever
        Resonance frequency, stiffness and peak-to-peak amplitude of the sensor.

    Returns
    -------
    frequency_shift
        Hz, shape (nz', ...).
    heights
        Å, shape (nz',): the centres of the oscillation, a part of `z`.

    Raises
    ------
    ValueError
        When the stack is lower than the amplitude, z does not go from far to near, or the shapes do not fit.
    """
    levels = check_force_stack("force_z", force_z, z, cantilever)
    centres = centres_that_fit(levels, cantilever)
    return frequency_shift_at(centres, force_z, levels, cantilever), jnp.asarray(centres, jnp.asarray(z).dtype)


def frequency_shift_at(centres: ArrayLike, force_z: ArrayLike, z: ArrayLike, cantilever: Cantilever) -> jax.Array:
    """Frequency shift with the oscillation centred at any heights.

    Parameters
    ----------
    centres
        Heights of the centre of the oscillation, in Å, shape (m,).
    force_z, z, cantilever
        As for :func:`frequency_shift`. The heights need not be equidistant.

    Returns
    -------
    jax.Array
        Hz, shape (m, ...).

    Raises
    ------
    ValueError
        When an oscillation leaves the range of `z`, or the shapes do not fit.
    """
    levels = check_force_stack("force_z", force_z, z, cantilever)
    gradient = weighted_sum(*_tables_of(centres, levels, float(cantilever.amplitude)), force_z)
    # f0/k in Hz m/N times eV/Å² in N/m.
    return -(cantilever.frequency / cantilever.stiffness / NEWTON_PER_METRE) * gradient


def centres_that_fit(levels: np.ndarray, cantilever: Cantilever) -> np.ndarray:
    """Return the heights around which the whole oscillation fits; ValueError when there are none."""
    reach = float(cantilever.amplitude) / 2 - _SAME_HEIGHT
    centres = levels[(levels + reach <= levels[0]) & (levels - reach >= levels[-1])]
    if len(centres) == 0:
        raise ValueError(
            f"the amplitude of {cantilever.amplitude} Å (peak to peak) does not fit into the z range of"
            f" {levels[0] - levels[-1]:.4g} Å around any height: extend the range or reduce the amplitude"
        )
    return centres


def check_force_stack(name: str, values: ArrayLike, z: ArrayLike, cantilever: Cantilever) -> np.ndarray:
    """Return the heights as float64; ValueError unless they, the stack (nz, ...) and the cantilever fit together."""
    check_cantilever(cantilever)
    for label, value in (("z", z), ("cantilever.amplitude", cantilever.amplitude)):
        if not is_known(value):
            raise ValueError(
                f"{label} is traced: it decides which shapes come out, so pass it to jax.jit as a constant"
            )
    check_heights(z)
    if np.ndim(values) == 0 or np.shape(values)[0] != len(z):
        raise ValueError(f"{name} has shape {np.shape(values)}: expected ({len(z)}, ...), one value for every height z")
    return np.asarray(z, dtype=float)


def weighted_sum(weights: np.ndarray, used: np.ndarray, values: ArrayLike) -> jax.Array:
    """Return ``weights @ values`` for weights (m, nz) and values (nz, ...).

    A value that is not finite makes NaN of the sums that use it, even with the weight zero, and of no others.
    """
    values = jnp.asarray(values)
    dtype = jnp.result_type(values, jnp.float32)
    return _weighted_sum(jnp.asarray(weights, dtype), jnp.asarray(used, dtype), values.astype(dtype))


@jax.jit
def _weighted_sum(weights: jax.Array, used: jax.Array, values: jax.Array) -> jax.Array:
    finite = jnp.isfinite(values)
    total = _product(weights, jnp.where(finite, values, 0))
    # The second sum costs as much as the first: only where something is missing.
    spoiled = jax.lax.cond(
        jnp.all(finite),
        lambda _: jnp.zeros(total.shape, bool),
        lambda bad: _product(used, bad.astype(used.dtype)) > 0,
        ~finite,
    )
    return jnp.where(spoiled, jnp.nan, total)


def _product(table: jax.Array, stack: jax.Array) -> jax.Array:
    return jnp.tensordot(table, stack, axes=1, precision=jax.lax.Precision.HIGHEST)


def frequency_shift_weights(centres: ArrayLike, z: ArrayLike, amplitude: float) -> np.ndarray:
    """Weights W (m, nz), in 1/Å, with ``frequency shift = -(f0 / k) W @ force_z``.

    For an amplitude A, peak to peak, around the centre z_c (Giessibl, Appl. Phys. Lett. 78, 123 (2001))::

        df(z_c) = -(f0 / k) (2 / (pi A)) integral_{-1}^{1} F(z_c + (A/2) t) t / sqrt(1 - t²) dt

    The integral is a Gauss-Chebyshev sum; between the given heights the force is the cubic polynomial through the four
    nearest. The limit of a small amplitude is the slope: df = -(f0 / 2k) dF/dz.

    Raises
    ------
    ValueError
        When an oscillation leaves the range of `z`, or there are fewer than four heights.
    """
    return _tables_of(centres, np.asarray(z, dtype=float), amplitude)[0].copy()


def _tables_of(centres: ArrayLike, levels: np.ndarray, amplitude: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights (m, nz), and which heights an oscillation touches, out of the cache."""
    centres = np.atleast_1d(np.asarray(centres, dtype=float))
    if centres.ndim != 1 or len(centres) == 0 or not np.isfinite(centres).all():
        raise ValueError(f"centres of the oscillation are {centres}: expected a list (m,) of finite heights")
    return _tables(centres.tobytes(), levels.tobytes(), amplitude)


@lru_cache(maxsize=32)  # One for each z grid and amplitude in use; 100 x 200 heights are 0.3 MB.
def _tables(centres_bytes: bytes, levels_bytes: bytes, amplitude: float) -> tuple[np.ndarray, np.ndarray]:
    centres, levels = np.frombuffer(centres_bytes), np.frombuffer(levels_bytes)
    check_different_heights(levels)
    low, high = centres.min() - amplitude / 2, centres.max() + amplitude / 2
    if low < levels[-1] - _SAME_HEIGHT or high > levels[0] + _SAME_HEIGHT:
        raise ValueError(
            f"the oscillation reaches from {low:.6g} to {high:.6g} Å, the forces are known from"
            f" {levels[-1]:.6g} to {levels[0]:.6g} Å: extend the range or reduce the amplitude of {amplitude} Å"
        )
    nodes = np.cos((2 * np.arange(_QUADRATURE) + 1) * np.pi / (2 * _QUADRATURE))
    interpolation = interpolation_weights(centres[:, None] + amplitude / 2 * nodes, levels)
    weights = 2 / (amplitude * _QUADRATURE) * np.einsum("j,mjz->mz", nodes, interpolation)
    return weights, (interpolation != 0).any(axis=1)


def check_different_heights(levels: np.ndarray) -> None:
    """Raise ValueError when there are too few heights for a cubic polynomial."""
    count = len(np.unique(levels))
    if count < 4:
        raise ValueError(f"z has {count} different heights: at least 4 are needed")


def interpolation_weights(positions: ArrayLike, z: ArrayLike, *, slope: bool = False) -> np.ndarray:
    """Weights (..., nz) that interpolate values at the heights `z` (nz,) to `positions` (...), in Å.

    Between two heights it is the cubic polynomial through the four nearest; with `slope`, in 1/Å, its derivative.
    """
    positions, levels = np.asarray(positions, dtype=float), np.asarray(z, dtype=float)
    ascending, where = np.unique(levels, return_index=True)
    first = np.clip(np.searchsorted(ascending, positions) - 2, 0, len(ascending) - 4)
    chosen = np.expand_dims(first, -1) + np.arange(4)
    knots = ascending[chosen]
    weights = np.zeros((*positions.shape, len(levels)))
    for j in range(4):
        others = [k for k in range(4) if k != j]
        distances = [positions - knots[..., k] for k in others]
        if slope:
            a, b, c = distances
            lagrange = b * c + a * c + a * b
        else:
            lagrange = np.prod(distances, axis=0)
        lagrange = lagrange / np.prod([knots[..., j] - knots[..., k] for k in others], axis=0)
        np.put_along_axis(weights, where[chosen[..., j]][..., None], lagrange[..., None], axis=-1)
    return weights
