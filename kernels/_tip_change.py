"""Tips that change by themselves: when it happens, what is different afterwards, and what tip shaping may repair."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._checks import check_tip
from twinscope.kernels._parameters import check_not_negative, check_positive
from twinscope.kernels._types import Tip

# More changes than this in a cell where one is expected: a chance of 1e-15.
_MOST = 16


def tip_changes(key: jax.Array, rate: float, start: float, end: float) -> np.ndarray:
    """Draw the times of the changes in [start, end): a Poisson process that needs no state.

    Time is cut into cells in which one change is expected, and each cell has its own random numbers. So what happens
    in an interval does not depend on how the session was cut into intervals. A dose may stand in the place of time.

    Parameters
    ----------
    key
        Random key of JAX: one for a whole session.
    rate
        Changes per s (or per unit of the dose).
    start, end
        s (or dose), zero or above.

    Returns
    -------
    numpy.ndarray
        s, ascending, shape (n,), in double precision; empty when nothing happens. Its length is random, so this is no
        function to compile.

    Raises
    ------
    ValueError
        When the rate or `start` is negative, or `end` is before `start`.
    """
    check_not_negative(rate=rate, start=start)
    if not (np.isfinite(end) and end >= start):
        raise ValueError(f"end is {end} and start {start}: expected a finite end that is not before the start")
    if rate == 0:
        return np.empty(0)
    first = int(start * rate)
    count = int(end * rate) - first + 1
    # A power of two, so that few lengths are compiled; what is too much lies behind the end.
    cells = first + np.arange(1 << (count - 1).bit_length())
    within = np.asarray(_places_in_cells(key, cells), float)
    times = (cells[:, None] + within)[within < 1] / rate
    return times[(times >= start) & (times < end)]


@jax.jit
def _places_in_cells(key: jax.Array, cells: jax.Array) -> jax.Array:
    """Places of the changes of every cell, in units of it, shape (n, 16); those from 1 on are not in it."""
    keys = jax.vmap(partial(jax.random.fold_in, key))(cells)
    return jnp.cumsum(jax.vmap(lambda own: jax.random.exponential(own, (_MOST,)))(keys), axis=1)


@dataclass(frozen=True)
class TipChange:
    """How far tips change; zero leaves as it is.

    Attributes
    ----------
    tilt
        Largest change of the rest position of the probe, in Å: uniform in a disk of this radius.
    charge
        Standard deviation of the logarithm of the factor on all charges of the tip.
    jump
        Standard deviation of the change of the tip's length, in Å.
    loss
        Probability that the probe particle is lost.
    """

    tilt: float = 0.3
    charge: float = 0.2
    jump: float = 0.5
    loss: float = 0.1


@dataclass(frozen=True)
class ChangedTip:
    """A tip after a change.

    Attributes
    ----------
    tip
        What it is now.
    jump
        By how much it reaches farther down, in Å: the distance to the sample is smaller by this.
    lost
        True when the probe particle is gone.
    """

    tip: Tip
    jump: float
    lost: bool


def changed_tip(tip: Tip, key: jax.Array, change: TipChange, bare: Tip) -> ChangedTip:
    """Change a tip by chance.

    Tilted CO molecules, and tips with another charge, are what images are explained with (Hapala et al., Phys. Rev. B
    90, 085421 (2014); Neu et al., Phys. Rev. B 89, 205407 (2014)). How often and how far tips change is not known from
    first principles: the numbers of :class:`TipChange` are a choice.

    Parameters
    ----------
    tip
        Before the change.
    key
        Random key of JAX: one for each change.
    change
        How far it goes.
    bare
        The tip that is left when the probe particle is lost.

    Raises
    ------
    ValueError
        When a number of `change` cannot be, or the tilt leads farther aside than the probe is long.
    """
    check_not_negative("Å", tilt=change.tilt, jump=change.jump)
    check_not_negative(charge=change.charge)
    if not 0 <= change.loss <= 1:
        raise ValueError(f"change.loss is {change.loss}: expected a probability from 0 to 1")
    fate, turn, way = (float(number) for number in jax.random.uniform(key, (3,)))
    charge, jump = (float(number) for number in jax.random.normal(jax.random.fold_in(key, 1), (2,)))
    if fate < change.loss:
        return ChangedTip(bare, change.jump * jump, lost=True)
    x, y, length = tip.rest
    # The root makes the area uniform.
    aside = change.tilt * way**0.5
    rest = (x + aside * np.cos(2 * np.pi * turn), y + aside * np.sin(2 * np.pi * turn), length)
    factor = np.exp(change.charge * charge)
    changed = replace(tip, rest=rest, charges=tuple((q * factor, z) for q, z in tip.charges))
    check_tip(changed)
    return ChangedTip(changed, change.jump * jump, lost=False)


def recovery_probability(
    depth: float, bias: float, *, best_depth: float = 8.0, needed_bias: float = 5.0, best: float = 0.5
) -> float:
    """Chance that one tip shaping, a dip into the metal or a pulse, or both, mends a tip.

    A phenomenological form, not a law: there is no theory, and success in the literature is counted, not derived. A
    dip helps most at one depth; a shallow one does nothing, a deeper one blunts the tip, ``x² exp(1 - x²)`` with
    ``x = depth / best_depth``. A pulse helps from some voltage on, ``1 - exp(-(bias / needed_bias)⁴)``. Both are
    independent chances.

    Parameters
    ----------
    depth
        Below the contact to the metal, in Å.
    bias
        Of the pulse, in V, of either sign.
    best_depth
        Å.
    needed_bias
        V: where 63 % of what pulses can do is reached.
    best
        The chance of the best dip, and of a very high pulse.

    Raises
    ------
    ValueError
        When the depth is negative, or a parameter cannot be.
    """
    check_not_negative("Å", depth=depth)
    check_positive("Å", best_depth=best_depth)
    check_positive("V", needed_bias=needed_bias)
    if not np.isfinite(bias):
        raise ValueError(f"bias is {bias} V: expected a finite number")
    if not 0 <= best <= 1:
        raise ValueError(f"best is {best}: expected a probability from 0 to 1")
    x = (depth / best_depth) ** 2
    dip = best * x * np.exp(1 - x)
    pulse = -best * np.expm1(-((bias / needed_bias) ** 4))
    return float(1 - (1 - dip) * (1 - pulse))
