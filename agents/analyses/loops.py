"""Hysteresis loops of piezoresponse: nine numbers for each.

The loop function of Jesse, Lee and Kalinin, Rev. Sci. Instrum. 77, 073702 (2006), as the pycroscopy family fits it:
each branch is an error function about its coercive voltage, with other widths on its two sides.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf
from numpy.typing import ArrayLike
from scipy import ndimage

from twinscope.agents.analyses.least_squares import fit_many
from twinscope.agents.noise import MEDIAN_TO_SIGMA
from twinscope.errors import InvalidRequestError

NAMES = (
    "offset",
    "height",
    "coercive_up",
    "coercive_down",
    "slope",
    "width_up_before",
    "width_up_after",
    "width_down_before",
    "width_down_after",
)
"""Of the parameters: `up` is the branch on which the voltage rises."""

# In units of half the range of voltages: from one width to the other within this; between what widths are; a first one.
_CHANGE, _NARROWEST, _WIDEST, _FIRST_WIDTH = 0.01, 0.01, 2.0, 0.2
_LOG_RANGE = math.log(_WIDEST / _NARROWEST)
_FEWEST = 6
# A coercive voltage begins within this part of the voltages.
_INSIDE = 0.9
_NEIGHBOURS, _FAR = 5, 6.0


@dataclass(frozen=True, eq=False)
class LoopFits:
    """Fitted loops.

    Attributes
    ----------
    values, sigma
        Parameters and their standard deviations by name, each of the shape of the map; NaN where nothing was measured.
    residual
        Root mean square of what is left.
    outliers
        How many points of each loop were left out.
    converged
        Whether the fit settled.
    """

    values: dict[str, np.ndarray]
    sigma: dict[str, np.ndarray]
    residual: np.ndarray
    outliers: np.ndarray
    converged: np.ndarray

    @property
    def work(self) -> np.ndarray:
        """Area of the loops: the height times the difference of the coercive voltages, exact for steep branches."""
        return self.values["height"] * (self.values["coercive_up"] - self.values["coercive_down"])

    @property
    def imprint(self) -> np.ndarray:
        """Mean of the coercive voltages."""
        return (self.values["coercive_up"] + self.values["coercive_down"]) / 2


def fit_loops(voltage: np.ndarray, response: np.ndarray) -> LoopFits:
    """Fit the loop function to every loop of a map.

    Parameters
    ----------
    voltage
        V, shape (n,): once up and once down, from wherever it begins.
    response
        In any unit, shape (..., n); loops with a NaN were not measured. Single points that have nothing to do with
        their neighbours are left out: the resonances that they come from were not found.

    Raises
    ------
    InvalidRequestError
        When shapes do not fit together, the voltage does not go up and down once, or nothing was measured.
    """
    voltage, response = np.asarray(voltage, float), np.asarray(response, float)
    if voltage.ndim != 1 or response.shape[-1:] != voltage.shape:
        raise InvalidRequestError(
            f"voltage has the shape {voltage.shape} and response {response.shape}: expected loops of one length, with a"
            " voltage for each of their points"
        )
    rising = _rising(voltage)
    curves = response.reshape(-1, len(voltage))
    known = np.isfinite(curves).all(axis=1)
    if not known.any():
        raise InvalidRequestError("no loop was measured: expected one without NaN")
    # Everything of the order of one: single precision is enough then.
    middle, half = (voltage.max() + voltage.min()) / 2, (voltage.max() - voltage.min()) / 2
    places = (voltage - middle) / half
    smooth, wild = _outliers(curves[known])
    used = np.where(wild, smooth, curves[known])
    low, size = _level(used)
    scaled = (used - low[:, None]) / size[:, None]
    found = fit_many(_loop, np.stack([places, rising]), scaled, _start(places, rising, scaled), ~wild)
    units = np.full(found.parameters.shape, half)
    units[:, :2], units[:, 4] = size[:, None], size / half
    inside, change = (np.asarray(part, float) for part in _bounded_and_change(jnp.asarray(found.parameters)))
    values, sigma = inside * units, found.sigma * change * units
    values[:, 0] += low - values[:, 4] * middle
    values[:, [2, 3]] += middle

    def spread(column: np.ndarray) -> np.ndarray:
        full = np.full(len(curves), np.nan)
        full[known] = column
        return full.reshape(response.shape[:-1])

    settled = np.zeros(len(curves), bool)
    settled[known] = found.converged
    return LoopFits(
        {name: spread(column) for name, column in zip(NAMES, values.T, strict=True)},
        {name: spread(column) for name, column in zip(NAMES, sigma.T, strict=True)},
        spread(found.residual * size),
        spread(wild.sum(axis=1)),
        settled.reshape(response.shape[:-1]),
    )


def loop(voltage: np.ndarray, parameters: Mapping[str, ArrayLike]) -> np.ndarray:
    """Return the response of loops with these parameters, numbers or arrays of one shape: shape (..., n).

    The voltage (n,) goes up and down once.
    """
    voltage = np.asarray(voltage, float)
    ordered = np.stack(np.broadcast_arrays(*(np.asarray(parameters[name], float) for name in NAMES)), axis=-1)
    change = _CHANGE * (voltage.max() - voltage.min()) / 2
    every = _every_loop(_rising(voltage), ordered.reshape(-1, len(NAMES)), voltage, change)
    return np.asarray(every, float).reshape(*ordered.shape[:-1], len(voltage))


def _rising(voltage: np.ndarray) -> np.ndarray:
    """Tell which points are on the branch on which the voltage rises."""
    steps = np.diff(voltage, append=voltage[:1])
    rising = steps > 0
    turns = np.count_nonzero(rising != np.roll(rising, 1))
    branches = np.count_nonzero(rising), np.count_nonzero(~rising)
    if min(branches) < _FEWEST or turns != 2 or not np.isfinite(voltage).all():
        raise InvalidRequestError(
            f"the voltage has {len(voltage)} points, {branches[0]} of them rising, and turns {turns} times: expected"
            f" one way up and one down, of at least {_FEWEST} points"
        )
    # At a turning point the branch that comes and the one that goes meet: it is on the one on which it was reached.
    return np.roll(rising, 1)


def _loop(parameters: jax.Array, places: jax.Array) -> jax.Array:
    voltage, rising = places
    return _branches(rising > 0, _bounded(parameters), voltage, _CHANGE)


def _bounded(parameters: jax.Array) -> jax.Array:
    """Hold coercive voltages within the voltages, and widths between the narrowest and the widest."""
    coercive = jnp.tanh(parameters[2:4])
    widths = _NARROWEST * jnp.exp(_LOG_RANGE * jax.nn.sigmoid(parameters[5:]))
    return jnp.concatenate([parameters[:2], coercive, parameters[4:5], widths])


@jax.jit
@jax.vmap
def _bounded_and_change(parameters: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return parameters within their bounds, and how fast each changes with what is fitted."""
    return _bounded(parameters), jnp.diagonal(jax.jacfwd(_bounded)(parameters))


def _branches(rising: jax.Array, parameters: jax.Array, voltage: jax.Array, change: float) -> jax.Array:
    """Go from one state to the other by error functions about the coercive voltages."""
    offset, height, up, down, slope, before_up, after_up, before_down, after_down = parameters
    ups = _branch(voltage - up, before_up, after_up, change)
    downs = _branch(voltage - down, before_down, after_down, change)
    return offset + height * jnp.where(rising, ups, downs) + slope * voltage


_every_loop = jax.jit(jax.vmap(_branches, in_axes=(None, 0, None, None)))


def _branch(away: jax.Array, before: jax.Array, after: jax.Array, change: float) -> jax.Array:
    width = before + (after - before) * (erf(away / change) + 1) / 2
    # From 0 to 1, steady where the width changes.
    return (width * erf(away / width) + before) / (before + after)


def _outliers(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what neighbours say of each point of loops (n, m), and which points are far from that."""
    smooth = ndimage.median_filter(curves, size=(1, _NEIGHBOURS), mode="wrap")
    away = np.abs(curves - smooth)
    noise = MEDIAN_TO_SIGMA * np.median(away, axis=1, keepdims=True)
    low, high = np.percentile(smooth, [10, 90], axis=1)
    # Where a loop switches it is steep: that is no outlier.
    return smooth, away > np.maximum(_FAR * noise, (high - low)[:, None] / 2)


def _level(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest value of each loop, and the range of its values."""
    low = curves.min(axis=1)
    size = curves.max(axis=1) - low
    return low, np.where(size > 0, size, 1.0)


def _start(places: np.ndarray, rising: np.ndarray, scaled: np.ndarray) -> np.ndarray:
    """Begin at the middle between the states: there each branch crosses it first."""
    start = np.zeros((len(scaled), len(NAMES)))
    # The state at high voltage may be the lower one.
    order = np.argsort(places)
    ends = max(len(places) // 8, 1)
    low, high = scaled[:, order[:ends]].mean(axis=1), scaled[:, order[-ends:]].mean(axis=1)
    start[:, 0], start[:, 1] = low, high - low
    middle = (low + high)[:, None] / 2
    for column, branch in ((2, rising), (3, ~rising)):
        along = np.flatnonzero(branch)[np.argsort(places[branch])]
        above = (scaled[:, along] > middle) == (high > low)[:, None]
        crossing = np.where(above.any(axis=1), above.argmax(axis=1), len(along) // 2)
        start[:, column] = np.arctanh(np.clip(places[along][crossing], -_INSIDE, _INSIDE))
    share = math.log(_FIRST_WIDTH / _NARROWEST) / _LOG_RANGE
    start[:, 5:] = math.log(share / (1 - share))
    return start
