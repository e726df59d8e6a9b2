"""Kelvin probe: the contact potential out of frequency shifts at several voltages, and the pull of the tip's body."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._constants import COULOMB
from twinscope.kernels._types import ArrayLike
from twinscope.kernels._volume import is_known

# Voltages that differ by less than this part of their range are the same.
_SAME_VOLTAGE = 1e-6
# A parabola that bends by less than this many units in the last place of the frequency shifts is a straight line.
_STRAIGHT = 32


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class KelvinParabola:
    """Parabolas ``df(V) = vertex + curvature (V - contact_potential)²``, all of the shape (...) of the pixels.

    Attributes
    ----------
    contact_potential
        The bias at the extremum, in V: the local contact potential difference (LCPD). NaN where `valid` is False.
    curvature
        Hz/V²; negative where the field attracts the tip, as it should. NaN where a frequency shift is not finite.
    vertex
        Frequency shift at the extremum, in Hz: what is left without electric field. NaN where `valid` is False.
    residual
        Root mean square of what the parabola leaves over, in Hz; rounding alone when there are three voltages.
    valid
        False where the curvature vanishes beside the rounding of the frequency shifts, or one of them is not finite:
        there is no extremum.
    """

    contact_potential: jax.Array
    curvature: jax.Array
    vertex: jax.Array
    residual: jax.Array
    valid: jax.Array


def kelvin_parabola(frequency_shift: ArrayLike, bias: ArrayLike) -> KelvinParabola:
    """Fit a parabola to the frequency shifts of every pixel; exact for three voltages, least squares for more.

    Parameters
    ----------
    frequency_shift
        Hz, shape (nv, ...).
    bias
        V, shape (nv,), in any order. It must be known under :func:`jax.jit`.

    Returns
    -------
    KelvinParabola
        In the shape (...).

    Raises
    ------
    ValueError
        When there are fewer than three different voltages, they are not finite, or the shapes do not fit.
    """
    voltages = _checked_bias(bias)
    shifts = jnp.asarray(frequency_shift)
    if shifts.ndim == 0 or len(shifts) != len(voltages):
        raise ValueError(
            f"frequency_shift has shape {shifts.shape}: expected ({len(voltages)}, ...), one value for every bias"
        )
    dtype = jnp.result_type(shifts, jnp.float32)
    # Centred and scaled to -1...1, and without the offset of the first image: nothing large is left to cancel.
    centre, reach = (voltages.max() + voltages.min()) / 2, (voltages.max() - voltages.min()) / 2
    powers = np.vander((voltages - centre) / reach, 3, increasing=True)
    offset = shifts[0].astype(dtype)
    left = shifts - offset

    def times(matrix: np.ndarray, stack: jax.Array) -> jax.Array:
        return jnp.tensordot(jnp.asarray(matrix, dtype), stack, axes=1, precision=jax.lax.Precision.HIGHEST)

    coefficients = times(np.linalg.pinv(powers), left)
    constant, linear, quadratic = coefficients
    residual = jnp.sqrt(jnp.mean((left - times(powers, coefficients)) ** 2, axis=0))
    rounding = _STRAIGHT * np.finfo(dtype).eps * jnp.max(jnp.abs(shifts), axis=0)
    valid = jnp.abs(quadratic) > rounding
    bend = jnp.where(valid, quadratic, 1)
    extremum = -linear / (2 * bend)
    return KelvinParabola(
        jnp.where(valid, centre + reach * extremum, jnp.nan),
        quadratic / reach**2,
        jnp.where(valid, offset + constant + linear * extremum / 2, jnp.nan),
        residual,
        valid,
    )


def capacitive_force(
    heights: ArrayLike, bias: ArrayLike, contact_potential: ArrayLike = 0.0, *, radius: float = 30.0
) -> jax.Array:
    """Force between the tip's body, a conducting sphere, and the grounded surface under the sample.

    It acts on the tip, not on the probe particle: add it to the forces after the relaxation. (Hudlet et al., Eur. Phys.
    J. B 2, 5 (1998); the effective radius of 30 Å is the one that ppafm takes)::

        F = -pi eps0 radius² / (h (h + radius)) (bias - contact_potential)²

    Parameters
    ----------
    heights
        Of the lowest point of the sphere above the conducting surface, in Å, shape (nz,).
    bias
        V, a number or shape (nv,).
    contact_potential
        Between the bodies of tip and surface, in V.
    radius
        Of the sphere, in Å.

    Returns
    -------
    jax.Array
        eV/Å, shape (nz,), or (nv, nz) for several voltages; negative is attractive.

    Raises
    ------
    ValueError
        When the tip touches the surface, the radius is not positive, or the shapes do not fit.
    """
    if np.ndim(heights) != 1:
        raise ValueError(f"heights have shape {np.shape(heights)}: expected (nz,)")
    if np.ndim(bias) > 1:
        raise ValueError(f"bias has shape {np.shape(bias)}: expected a number or (nv,)")
    if is_known(heights) and not (np.asarray(heights) > 0).all():
        raise ValueError(f"heights reach down to {np.min(heights)} Å: expected positive heights above the surface")
    if is_known(radius) and not radius > 0:
        raise ValueError(f"radius is {radius} Å: expected a positive length")
    heights = jnp.asarray(heights, jnp.result_type(jnp.asarray(heights), jnp.float32))
    voltage = jnp.asarray(bias, heights.dtype) - jnp.asarray(contact_potential, heights.dtype)
    # pi eps0 in e/(V Å) is 1 / (4 COULOMB).
    return -(voltage[..., None] ** 2) * radius**2 / (4 * COULOMB * heights * (heights + radius))


def _checked_bias(bias: ArrayLike) -> np.ndarray:
    if not is_known(bias):
        raise ValueError("bias is traced: pass it to jax.jit as a constant")
    voltages = np.asarray(bias, dtype=float)
    if voltages.ndim != 1 or not np.isfinite(voltages).all():
        raise ValueError(f"bias is {bias}: expected a list (nv,) of finite voltages")
    span = np.ptp(voltages) if len(voltages) else 0.0
    different = (
        1 + int(np.sum(np.diff(np.sort(voltages)) > _SAME_VOLTAGE * span)) if span > 0 else min(len(voltages), 1)
    )
    if different < 3:
        raise ValueError(
            f"bias has {different} different voltages in {voltages.tolist()} V: a parabola needs at least 3"
        )
    return voltages
