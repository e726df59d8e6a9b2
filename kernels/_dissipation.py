"""What an oscillation costs when the probe comes back on another branch than it went."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._constants import NEWTON_PER_METRE
from twinscope.kernels._frequency_shift import centres_that_fit, check_force_stack, frequency_shift_weights
from twinscope.kernels._types import ArrayLike, Cantilever

# Forces that differ by less, in eV/Å, belong to the same branch; relaxation in single precision leaves 1e-5.
SAME_BRANCH = 1e-4
# Heights that differ by less than this (Å) are the same.
_SAME_HEIGHT = 1e-5


def dissipated_energy(
    approach_force_z: ArrayLike,
    retract_force_z: ArrayLike,
    z: ArrayLike,
    cantilever: Cantilever,
    *,
    same_branch: float = SAME_BRANCH,
) -> tuple[jax.Array, jax.Array]:
    """Energy that the oscillation loses in each cycle, at every height around which the whole oscillation fits.

    Where the probe snaps, it comes back another way than it went, and the loop between both costs its area
    (Hoffmann et al., Phys. Rev. Lett. 87, 265502 (2001))::

        E = integral (F_approach - F_retract) dz    from the lower to the upper turning point

    An oscillation pays for a loop only if it goes all the way around: down past the snap in and up past the snap out.
    Inside of a loop the probe stays on one branch, and nothing is lost.

    Parameters
    ----------
    approach_force_z, retract_force_z
        Force on the tip along z on the way down and on the way up, in eV/Å, shape (nz, ...). Where one is not finite
        the oscillations through it give NaN.
    z
        Heights of both, in Å, shape (nz,), from far to near.
    cantilever
        Its peak-to-peak amplitude counts.
    same_branch
        Forces that differ by no more than this, in eV/Å, are on the same branch: there a loop begins and ends. With
        infinity all that lies between the turning points is counted, as for measured curves with noise.

    Returns
    -------
    energy
        eV per cycle, shape (nz', ...); negative would be a gain.
    heights
        Å, shape (nz',): the centres of the oscillation, as :func:`~twinscope.kernels.frequency_shift` gives them.

    Raises
    ------
    ValueError
        As for :func:`~twinscope.kernels.frequency_shift`, and when the shapes of the forces differ.
    """
    loop = _Loop.of(approach_force_z, retract_force_z, z, cantilever, same_branch)
    nothing = jnp.zeros_like(loop.approach)
    weights = area_weights(loop.centres - loop.half, loop.centres + loop.half, loop.levels)
    return loop.sums(weights, loop.approach - loop.retract, nothing, nothing), loop.heights


def hysteretic_frequency_shift(
    approach_force_z: ArrayLike,
    retract_force_z: ArrayLike,
    z: ArrayLike,
    cantilever: Cantilever,
    *,
    same_branch: float = SAME_BRANCH,
) -> tuple[jax.Array, jax.Array]:
    """Frequency shift of an oscillation that goes down one branch and up the other.

    The mean of both branches shifts the frequency, their difference only damps. Where the oscillation does not go all
    the way around a loop, its force is that of the branch it is on: the approach, unless it has snapped and does not
    come back up far enough.

    Parameters
    ----------
    approach_force_z, retract_force_z, z, cantilever, same_branch
        As for :func:`dissipated_energy`.

    Returns
    -------
    frequency_shift
        Hz, shape (nz', ...).
    heights
        Å, shape (nz',).

    Raises
    ------
    ValueError
        As for :func:`dissipated_energy`.
    """
    loop = _Loop.of(approach_force_z, retract_force_z, z, cantilever, same_branch)
    weights = frequency_shift_weights(loop.centres, loop.levels, 2 * loop.half)
    gradient = loop.sums(weights, (loop.approach + loop.retract) / 2, loop.approach, loop.retract)
    return -(cantilever.frequency / cantilever.stiffness / NEWTON_PER_METRE) * gradient, loop.heights


def area_weights(low: np.ndarray, high: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Weights (m, nz), in Å, that integrate values at the heights `levels` (nz,) from `low` to `high`, each (m,).

    Between heights the values are linear. The difference of two branches ends in a jump, where a polynomial of higher
    degree would overshoot; and so no loop of one sense can come out with the other.
    """
    top, bottom = levels[:-1], levels[1:]
    width = np.where(top > bottom, top - bottom, 1)
    start, end = (np.clip(ends[:, None], bottom, top) for ends in (low, high))
    weights = np.zeros((len(low), len(levels)))
    weights[:, :-1] += ((end - bottom) ** 2 - (start - bottom) ** 2) / (2 * width)
    weights[:, 1:] += ((top - start) ** 2 - (top - end) ** 2) / (2 * width)
    return weights


@dataclass(frozen=True)
class _Loop:
    """Both branches, the heights (float64) and the centres of those oscillations that fit into them."""

    approach: jax.Array
    retract: jax.Array
    levels: np.ndarray
    centres: np.ndarray
    half: float
    heights: jax.Array
    same_branch: float

    @classmethod
    def of(
        cls, approach: ArrayLike, retract: ArrayLike, z: ArrayLike, cantilever: Cantilever, same_branch: float
    ) -> "_Loop":
        check_force_stack("approach_force_z", approach, z, cantilever)
        levels = check_force_stack("retract_force_z", retract, z, cantilever)
        if np.shape(approach) != np.shape(retract):
            raise ValueError(
                f"approach_force_z has shape {np.shape(approach)} and retract_force_z {np.shape(retract)}: expected the"
                " same"
            )
        if not same_branch >= 0:
            raise ValueError(f"same_branch is {same_branch} eV/Å: expected a number >= 0")
        centres = centres_that_fit(levels, cantilever)
        dtype = jnp.result_type(jnp.asarray(approach), jnp.asarray(retract), jnp.float32)
        return cls(
            jnp.asarray(approach, dtype),
            jnp.asarray(retract, dtype),
            levels,
            centres,
            float(cantilever.amplitude) / 2,
            jnp.asarray(centres, jnp.asarray(z).dtype),
            same_branch,
        )

    def sums(self, weights: np.ndarray, around: jax.Array, before: jax.Array, after: jax.Array) -> jax.Array:
        """Return ``weights @ values`` with the values of every oscillation, for weights (m, nz).

        They are those in `around` where it goes around a loop, `before` where it has not snapped, `after` where it has
        and stays.
        """
        return _sums(
            *(jnp.asarray(part, around.dtype) for part in (weights, self.centres, self.levels, self.half)),
            jnp.abs(self.approach - self.retract) <= self.same_branch,
            (around, before, after),
        )


@jax.jit
def _sums(
    weights: jax.Array,
    centres: jax.Array,
    levels: jax.Array,
    half: jax.Array,
    closed: jax.Array,
    values: tuple[jax.Array, jax.Array, jax.Array],
) -> jax.Array:
    finite = jnp.isfinite(values[0])
    around, before, after = (jnp.where(finite, part, 0) for part in values)
    column = levels.reshape(-1, *[1] * (around.ndim - 1))
    # Where the loop that each height lies in, if in any, begins and ends.
    ends = jax.lax.cummin(jnp.where(closed, column, jnp.inf), axis=0)
    begins = jax.lax.cummax(jnp.where(closed, column, -jnp.inf), axis=0, reverse=True)

    def of_one(oscillation: tuple[jax.Array, jax.Array]) -> jax.Array:
        weight, centre = oscillation
        low, high = centre - half - _SAME_HEIGHT, centre + half + _SAME_HEIGHT
        snaps, returns = begins >= low, ends <= high
        force = jnp.where(snaps, jnp.where(returns, around, after), before)
        total = jnp.tensordot(weight, force, axes=1, precision=jax.lax.Precision.HIGHEST)
        touched = (weight.reshape(column.shape) != 0) | ((column >= low) & (column <= high))
        return jnp.where(jnp.any(touched & ~finite, axis=0), jnp.nan, total)

    # One centre after the other: each needs a copy of the stack.
    return jax.lax.map(of_one, (weights, centres))
