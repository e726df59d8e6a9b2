"""What the detector makes of a signal that changes: phase-locked loop and lock-in filter, along the time axis."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._parameters import check_count, check_positive
from twinscope.kernels._types import ArrayLike

# Steps of a scan that are compiled as one: the loop itself costs as much as several of them.
_UNROLL = 4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LowPass:
    """A linear filter with gain one at rest, in discrete time: exact for a signal that is constant over each interval.

    The state x goes to ``steady u + transition (x - steady u)`` while the signal is u; the filter shows
    ``output · x`` at the end of the interval.

    Attributes
    ----------
    transition
        Shape (m, m).
    steady
        The state for the signal one at rest, shape (m,).
    output
        Shape (m,).
    """

    transition: ArrayLike
    steady: ArrayLike
    output: ArrayLike

    def settled(self, signal: ArrayLike) -> jax.Array:
        """State (..., m) after the signal (...) has been constant for ever."""
        signal = jnp.asarray(signal, jnp.result_type(jnp.asarray(signal), jnp.float32))
        return signal[..., None] * jnp.asarray(self.steady, signal.dtype)

    def apply(self, signal: ArrayLike, state: ArrayLike) -> tuple[jax.Array, jax.Array]:
        """Filter a time series.

        Parameters
        ----------
        signal
            Shape (n, ...), one value for every interval.
        state
            Shape (..., m): from :meth:`settled`, or that at the end of the line before.

        Returns
        -------
        filtered
            Shape (n, ...), at the end of the intervals.
        state
            For the series that follows this one.
        """
        signal = jnp.asarray(signal, jnp.result_type(jnp.asarray(signal), jnp.float32))
        arrays = (jnp.asarray(part, signal.dtype) for part in (state, self.transition, self.steady, self.output))
        return _filtered(signal, *arrays)


@jax.jit
def _filtered(
    signal: jax.Array, state: jax.Array, transition: jax.Array, steady: jax.Array, output: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def step(before: jax.Array, value: jax.Array) -> tuple[jax.Array, jax.Array]:
        target = value[..., None] * steady
        # A product of 2 x 2 numbers, written as a sum: a matrix product would be a call of its own.
        after = target + jnp.sum(transition * (before - target)[..., None, :], axis=-1)
        return after, jnp.sum(after * output, axis=-1)

    last, filtered = jax.lax.scan(step, state, signal, unroll=_UNROLL)
    return filtered, last


def phase_locked_loop(bandwidth: float, interval: float, damping: float = math.sqrt(0.5)) -> LowPass:
    """Frequency that a phase-locked loop with a PI controller reports, as a response to the true one.

    ``H(s) = (2 d w s + w²) / (s² + 2 d w s + w²)`` (Loppacher et al., Appl. Phys. A 66, S215 (1998); Kilpatrick et
    al., Rev. Sci. Instrum. 80, 023701 (2009)); w is such that the gain is 1/sqrt(2) at the bandwidth. After a step it
    overshoots: by 21 % with the default damping.

    Parameters
    ----------
    bandwidth
        Hz, at -3 dB.
    interval
        Between samples, in s.
    damping
        The number d, between 0 and 1.

    Raises
    ------
    ValueError
        When bandwidth or interval are not positive, or the damping is not between 0 and 1.
    """
    check_positive("Hz", bandwidth=bandwidth)
    check_positive("s", interval=interval)
    if not 0 < damping < 1:
        raise ValueError(f"damping is {damping}: expected a number between 0 and 1, such as 0.71")
    half = 1 + 2 * damping**2
    natural = 2 * math.pi * bandwidth / math.sqrt(half + math.sqrt(half**2 + 1))
    ringing = math.sqrt(1 - damping**2)
    # Time in units of 1/w.
    elapsed = natural * interval
    generator = np.array([[0.0, 1.0], [-1.0, -2 * damping]])
    decay = math.exp(-damping * elapsed)
    turned = math.cos(ringing * elapsed) * np.eye(2)
    mixed = math.sin(ringing * elapsed) / ringing * (generator + damping * np.eye(2))
    return LowPass(decay * (turned + mixed), np.array([1.0, 0.0]), np.array([1.0, 2 * damping]))


def low_pass(bandwidth: float, interval: float, order: int = 1) -> LowPass:
    """Low-pass of a lock-in or a preamplifier: a cascade of equal RC filters.

    Parameters
    ----------
    bandwidth
        Of the whole cascade, in Hz, at -3 dB.
    interval
        Between samples, in s.
    order
        Number of filters: 6 dB per octave each.

    Raises
    ------
    ValueError
        When bandwidth or interval are not positive, or the order is no whole number >= 1.
    """
    check_positive("Hz", bandwidth=bandwidth)
    check_positive("s", interval=interval)
    check_count(order=order)
    elapsed = 2 * math.pi * bandwidth * interval / math.sqrt(2 ** (1 / order) - 1)
    # The exponential of equal poles, each driven by the one before.
    transition = sum(math.exp(-elapsed) * elapsed**k / math.factorial(k) * np.eye(order, k=-k) for k in range(order))
    return LowPass(transition, np.ones(order), np.eye(order)[-1])
