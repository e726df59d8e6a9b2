"""Thermal drift of the tip over the sample, as a function of instrument time."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._modes import Modes, coloured_noise
from twinscope.kernels._parameters import check_not_negative, check_positive
from twinscope.kernels._types import ArrayLike


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Drift:
    """Drift at constant velocity, one that relaxes after a disturbance, and a random walk.

    ``velocity t + relaxing (1 - exp(-(t - t0) / relaxation_time)) + walk(t) - walk(0)``: after a coarse approach or a
    change of temperature the microscope moves towards a new equilibrium; what stays is slow and without a direction.

    Attributes
    ----------
    velocity
        Å/s, shape (3,).
    relaxing
        The way from the disturbance to the new equilibrium, in Å, shape (3,).
    relaxation_time
        s; hours for a large microscope.
    walk
        Å, from :func:`random_walk`; None for none.
    """

    velocity: ArrayLike = (0.0, 0.0, 0.0)
    relaxing: ArrayLike = (0.0, 0.0, 0.0)
    relaxation_time: ArrayLike = 3600.0
    walk: Modes | None = None

    def at(self, times: ArrayLike, origin: ArrayLike = 0.0, disturbed: ArrayLike = 0.0) -> jax.Array:
        """Displacement since the time zero.

        Parameters
        ----------
        times
            s after `origin`, shape (n,).
        origin
            s; see :meth:`Modes.at`.
        disturbed
            Time t0 of the last approach or coarse motion, in s. Before it nothing relaxes.

        Returns
        -------
        jax.Array
            Å, shape (n, 3).

        Raises
        ------
        ValueError
            When velocity or relaxing are no vectors, or the relaxation time is not positive.
        """
        for name in ("velocity", "relaxing"):
            if np.shape(getattr(self, name)) != (3,):
                raise ValueError(f"drift.{name} has shape {np.shape(getattr(self, name))}: expected (3,)")
        check_positive("s", relaxation_time=self.relaxation_time)
        times = jnp.asarray(times, jnp.result_type(jnp.asarray(times), jnp.float32))
        velocity, relaxing = (jnp.asarray(value, times.dtype) for value in (self.velocity, self.relaxing))
        relaxed = -jnp.expm1(-jnp.maximum(times + (origin - disturbed), 0) / self.relaxation_time)
        moved = (times + origin)[:, None] * velocity + relaxed[:, None] * relaxing
        if self.walk is None:
            return moved
        return moved + self.walk.at(times, origin) - self.walk.at(jnp.zeros(1, times.dtype))


def random_walk(key: jax.Array, diffusion: ArrayLike, *, low: float = 1e-6, high: float = 1.0) -> Modes:
    """Random walk of x, y and z, each with the mean square ``2 diffusion t`` after a time t.

    Its spectral density is diffusion / (pi f)². It walks over times from 1/high to 1/low; over shorter ones it is
    smooth, over longer ones it stays.

    Parameters
    ----------
    key
        Random key of JAX.
    diffusion
        Å²/s: 1/7200 is 1 Å in an hour along each axis.
    low, high
        Hz.

    Raises
    ------
    ValueError
        As for :func:`coloured_noise`.
    """
    check_not_negative("Å²/s", diffusion=diffusion)
    return coloured_noise(key, diffusion / np.pi**2, 2.0, low=low, high=high, shape=(3,))
