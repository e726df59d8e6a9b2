"""Frequency shift of an oscillating tip, from the force along z."""

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._checks import check_cantilever, check_heights
from twinscope.kernels._constants import NEWTON_PER_METRE
from twinscope.kernels._types import ArrayLike, Cantilever

# Points of the quadrature over one oscillation: exact for polynomials of degree 95 in z.
_QUADRATURE = 48
# Heights that differ by less than this (Å) are the same: float32 leaves 5e-7 Å at 10 Å.
_SAME_HEIGHT = 1e-5


def frequency_shift(force_z: ArrayLike, z: ArrayLike, cantilever: Cantilever) -> tuple[jax.Array, jax.Array]:
    """Frequency shift at every height of a stack around which the whole oscillation fits into it.

    Parameters
    ----------
    force_z
        Force on the tip along z, in eV/Å, shape (nz, ...).
    z
        Heights, in Å, shape (nz,), from far to near.
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
        When the stack is lower than the amplitude or z does not go from far to near.
    """
    check_cantilever(cantilever)
    check_heights(z)
    levels = np.asarray(z, dtype=float)
    reach = float(cantilever.amplitude) / 2 - _SAME_HEIGHT
    centres = levels[(levels + reach <= levels[0]) & (levels - reach >= levels[-1])]
    if len(centres) == 0:
        raise ValueError(
            f"the amplitude of {cantilever.amplitude} Å (peak to peak) does not fit into the z range of"
            f" {levels[0] - levels[-1]:.4g} Å around any height: extend the range or reduce the amplitude"
        )
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
        When an oscillation leaves the range of `z`.
    """
    check_cantilever(cantilever)
    check_heights(z)
    force_z = jnp.asarray(force_z)
    weights = frequency_shift_weights(centres, z, float(cantilever.amplitude))
    gradient = jnp.tensordot(jnp.asarray(weights, force_z.dtype), force_z, axes=1, precision=jax.lax.Precision.HIGHEST)
    # f0/k in Hz m/N times eV/Å² in N/m.
    return -(cantilever.frequency / cantilever.stiffness / NEWTON_PER_METRE) * gradient


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
    levels = np.asarray(z, dtype=float)
    centres = np.atleast_1d(np.asarray(centres, dtype=float))
    if len(np.unique(levels)) < 4:
        raise ValueError(f"z has {len(np.unique(levels))} different heights: a frequency shift needs at least 4")
    low, high = centres.min() - amplitude / 2, centres.max() + amplitude / 2
    if low < levels[-1] - _SAME_HEIGHT or high > levels[0] + _SAME_HEIGHT:
        raise ValueError(
            f"the oscillation reaches from {low:.6g} to {high:.6g} Å, the forces are known from"
            f" {levels[-1]:.6g} to {levels[0]:.6g} Å: extend the range or reduce the amplitude of {amplitude} Å"
        )
    nodes = np.cos((2 * np.arange(_QUADRATURE) + 1) * np.pi / (2 * _QUADRATURE))
    positions = centres[:, None] + amplitude / 2 * nodes
    integral = np.einsum("j,mjz->mz", nodes, interpolation_weights(positions, levels)) * np.pi / _QUADRATURE
    return 2 / (np.pi * amplitude) * integral


def interpolation_weights(positions: ArrayLike, z: ArrayLike) -> np.ndarray:
    """Weights (..., nz) that interpolate values at the heights `z` (nz,) to `positions` (...), in Å.

    Between two heights it is the cubic polynomial through the four nearest.
    """
    positions, levels = np.asarray(positions, dtype=float), np.asarray(z, dtype=float)
    ascending, where = np.unique(levels, return_index=True)
    first = np.clip(np.searchsorted(ascending, positions) - 2, 0, len(ascending) - 4)
    chosen = np.expand_dims(first, -1) + np.arange(4)
    knots = ascending[chosen]
    weights = np.zeros((*positions.shape, len(levels)))
    for j in range(4):
        others = [k for k in range(4) if k != j]
        lagrange = np.prod([(positions - knots[..., k]) / (knots[..., j] - knots[..., k]) for k in others], axis=0)
        np.put_along_axis(weights, where[chosen[..., j]][..., None], lagrange[..., None], axis=-1)
    return weights
