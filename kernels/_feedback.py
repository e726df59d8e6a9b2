"""The z-controller: a PI loop that follows the sample with limited bandwidth, speed and range."""

import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._checks import check_heights
from twinscope.kernels._controller import ControlledTrace, ControllerState, ZController, check_controller
from twinscope.kernels._frequency_shift import check_different_heights
from twinscope.kernels._images import namespace
from twinscope.kernels._parameters import check_count, check_positive
from twinscope.kernels._types import ArrayLike
from twinscope.kernels._volume import is_known

# Steps of the scan that are compiled as one. Measured for 256 pixels: 1.3 ms with one, 0.8 with four, no gain beyond.
_UNROLL = 4


def follow_trace(
    controller: ZController,
    table: ArrayLike,
    heights: ArrayLike,
    interval: ArrayLike,
    state: ControllerState,
    *,
    substeps: int = 8,
    noise: ArrayLike = 0.0,
    disturbance: ArrayLike = 0.0,
    contact: ArrayLike | None = None,
) -> tuple[ControlledTrace, ControllerState]:
    """Follow a trace with the z-controller, step by step in time.

    In each substep the signal is measured at the place and height of the tip, filtered, compared, and z is moved. In z
    the signal is the cubic polynomial through the four nearest heights, along the trace it is linear.

    Parameters
    ----------
    controller
        Its settings may be traced, so may all arrays: :func:`jax.vmap` runs independent traces side by side.
    table
        The controlled signal, finite, shape (nz, n): at every height, in every pixel in the order of the motion.
    heights
        Å, shape (nz,), from far to near. Above the first the signal is that of the first.
    interval
        Of a substep, in s; a pixel takes `substeps` of them. A loop that is faster than this is not resolved.
    state
        :meth:`ControllerState.holding`, or that at the end of the trace before.
    substeps
        In each pixel.
    noise
        On the measured signal, in its unit, a number or shape (n substeps,).
    disturbance
        Added to the distance between tip and sample, in Å, a number or shape (n substeps,): vibration, hum, drift.
    contact
        Height at which the tip touches the sample, in Å, a number or shape (n,), linear along the trace; None for the
        lowest of the table. Below it the pixel is marked, and the controller goes on.

    Returns
    -------
    trace
        See :class:`ControlledTrace`.
    state
        For the trace that follows.

    Raises
    ------
    ValueError
        When the controller cannot be, the shapes do not fit, the table is not finite, or its heights are fewer than
        four or do not go from far to near.
    """
    check_controller(controller)
    _check_table(table, heights)
    check_positive("s", interval=interval)
    check_count(substeps=substeps)
    signals = jnp.asarray(table, jnp.result_type(jnp.asarray(table), jnp.float32))
    steps = signals.shape[1] * substeps
    for name, series in (("noise", noise), ("disturbance", disturbance)):
        if np.shape(series) not in ((), (steps,)):
            raise ValueError(f"{name} has shape {np.shape(series)}: expected a number or ({steps},), one per substep")
    if contact is None:
        contact = heights[-1]
    if np.shape(contact) not in ((), (signals.shape[1],)):
        raise ValueError(
            f"contact has shape {np.shape(contact)}: expected a number or ({signals.shape[1]},), per pixel"
        )
    arrays = (controller, heights, interval, state, noise, disturbance, contact)
    return _followed(signals, *jax.tree.map(partial(_of_type, signals.dtype), arrays), substeps=substeps)


def _of_type(dtype: jnp.dtype, value: ArrayLike) -> ArrayLike:
    # NumPy takes a number in a tenth of the time that JAX does, and there are many of them.
    return namespace(value).asarray(value, dtype)


def _check_table(table: ArrayLike, heights: ArrayLike) -> None:
    check_heights(heights)
    if is_known(heights):
        check_different_heights(np.asarray(heights))
    if np.ndim(table) != 2 or np.shape(table)[0] != np.shape(heights)[0] or np.shape(table)[1] == 0:
        raise ValueError(f"table has shape {np.shape(table)}: expected ({np.shape(heights)[0]}, n), n >= 1 pixels")
    if is_known(table) and not np.isfinite(table).all():
        height, pixel = np.argwhere(~np.isfinite(np.asarray(table)))[0]
        raise ValueError(
            f"table is not finite at height {height}, pixel {pixel}: a controller cannot act on it; leave out heights"
            " at which nothing was computed"
        )


@partial(jax.jit, static_argnames="substeps")
def _followed(
    table: jax.Array,
    controller: ZController,
    heights: jax.Array,
    interval: jax.Array,
    state: ControllerState,
    noise: jax.Array,
    disturbance: jax.Array,
    contact: jax.Array,
    *,
    substeps: int,
) -> tuple[ControlledTrace, ControllerState]:
    pixels = table.shape[1]
    # The substeps of a pixel lie symmetrically around its place.
    places = (jnp.arange(pixels * substeps, dtype=table.dtype) + 0.5) / substeps - 0.5
    places = jnp.clip(places, 0, pixels - 1)
    columns = jnp.clip(places.astype(int), 0, max(pixels - 2, 0))
    series = (columns, places - columns, *(jnp.broadcast_to(part, places.shape) for part in (noise, disturbance)))
    passed = -jnp.expm1(-2 * jnp.pi * controller.bandwidth * interval)
    loop = _Loop(controller, heights, table, interval, passed)
    last, (z, signal, error, gap) = jax.lax.scan(loop.step, state, series, unroll=_UNROLL)

    def of_pixels(values: jax.Array) -> jax.Array:
        return values.reshape(pixels, substeps)

    touching = jnp.interp(places, jnp.arange(pixels, dtype=places.dtype), jnp.broadcast_to(contact, (pixels,)))
    low, high = controller.reach
    stopped = (z <= low) | (z >= high)
    return ControlledTrace(
        of_pixels(z).mean(axis=1),
        of_pixels(signal).mean(axis=1),
        of_pixels(error).mean(axis=1),
        of_pixels(gap < touching).any(axis=1),
        of_pixels(stopped).any(axis=1),
    ), last


@dataclass(frozen=True)
class _Loop:
    """One substep of the loop; a part of the compiled function."""

    controller: ZController
    heights: jax.Array
    table: jax.Array
    interval: jax.Array
    passed: jax.Array

    def step(self, state: ControllerState, now: tuple[jax.Array, ...]) -> tuple[ControllerState, tuple[jax.Array, ...]]:
        column, along, noise, disturbance = now
        controller, interval = self.controller, self.interval
        gap = state.z + disturbance
        measured = self.signal(gap, column, along) + noise
        filtered = state.filtered + self.passed * (measured - state.filtered)
        error = self.error(filtered)
        upwards = error if controller.retracts_above else -error
        low, high = controller.reach
        integral = jnp.clip(state.integral + controller.integral * interval * upwards, low, high)
        wanted = jnp.clip(integral + controller.proportional * upwards, low, high)
        way = controller.slew * interval
        z = state.z + jnp.clip(wanted - state.z, -way, way)
        return ControllerState(z, integral, filtered), (state.z, filtered, error, gap)

    def error(self, signal: jax.Array) -> jax.Array:
        if not self.controller.logarithmic:
            return signal - self.controller.setpoint
        return jnp.log(jnp.maximum(jnp.abs(signal / self.controller.setpoint), self.controller.floor))

    def signal(self, z: jax.Array, column: jax.Array, along: jax.Array) -> jax.Array:
        """Signal of the table at a height, `along` of the way from a column to the next."""
        heights, table = self.heights, self.table
        z = jnp.clip(z, heights[-1], heights[0])
        above = jnp.sum(heights > z)
        first = jnp.clip(above - 2, 0, len(heights) - 4)
        near = jax.lax.dynamic_slice(table, (first, column), (4, min(2, table.shape[1])))
        knots = jax.lax.dynamic_slice(heights, (first,), (4,))
        values = near[:, 0] * (1 - along) + near[:, -1] * along
        return sum((values[j] * _lagrange(z, knots, j) for j in range(4)), start=jnp.zeros_like(z))


def _lagrange(z: jax.Array, knots: jax.Array, j: int) -> jax.Array:
    others = [k for k in range(4) if k != j]
    return math.prod(((z - knots[k]) / (knots[j] - knots[k]) for k in others), start=jnp.ones_like(z))
