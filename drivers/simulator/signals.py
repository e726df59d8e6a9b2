"""Signals of the simulated microscope, and what the z-controller makes of them."""

import math
from collections.abc import Mapping

import numpy as np

from twinscope.capabilities import Channel, Limits
from twinscope.drivers.common.units import ANGSTROM
from twinscope.drivers.simulator.imaging import CURRENT, FREQUENCY_SHIFT
from twinscope.errors import InvalidRequestError
from twinscope.kernels import ZController
from twinscope.requests import setpoint_of

CONTROLLED: Mapping[str, str] = {
    "constant_frequency_shift": FREQUENCY_SHIFT.name,
    "constant_current": CURRENT.name,
}
"""Channel that each z-mode holds constant."""

SETTINGS = (
    Channel("bias", "V", "Bias of the sample"),
    Channel("setpoint_frequency_shift", "Hz", "Setpoint of the frequency shift"),
    Channel("setpoint_current", "A", "Setpoint of the current"),
    Channel("proportional_frequency_shift", "m/Hz", "Proportional gain for the frequency shift"),
    Channel("proportional_current", "m", "Proportional gain for the logarithm of the current"),
    Channel("time_constant_frequency_shift", "s", "Proportional over integral gain for the frequency shift"),
    Channel("time_constant_current", "s", "Proportional over integral gain for the current"),
)
"""What can be set."""

SIGNALS = (*SETTINGS, FREQUENCY_SHIFT, CURRENT)

LIMITS: Mapping[str, Limits] = {
    "bias": Limits(-10.0, 10.0, "V"),
    "setpoint_frequency_shift": Limits(-1000.0, 1000.0, "Hz"),
    "setpoint_current": Limits(1e-14, 1e-7, "A"),
    "proportional_frequency_shift": Limits(0.0, 1e-9, "m/Hz"),
    "proportional_current": Limits(0.0, 1e-8, "m"),
    "time_constant_frequency_shift": Limits(1e-6, 1.0, "s"),
    "time_constant_current": Limits(1e-6, 1.0, "s"),
}

DEFAULTS: Mapping[str, float] = {
    "bias": 0.1,
    # On the attractive branch, where a flat molecule is a few Å away.
    "setpoint_frequency_shift": -2.0,
    "setpoint_current": 1e-11,
    # Slow enough to be stable behind the phase-locked loop where the frequency shift is steepest, 10 Hz/Å.
    "proportional_frequency_shift": 3e-12,
    "time_constant_frequency_shift": 3e-3,
    # Follows within 3 ms: half a pixel of a line of 128 in a second.
    "proportional_current": 1e-11,
    "time_constant_current": 7e-4,
}

# Slopes of the signals (1/Å) for which the z-controller is simulated in steps that are short enough: 10 Hz/Å, and twice
# the decay of a wave function.
_SLOPES: Mapping[str, float] = {FREQUENCY_SHIFT.name: 10.0, CURRENT.name: 2.3}
# Of the time in which the loop follows.
_LONGEST_STEP = 0.25
_SUBSTEPS = (8, 64)
_FROM_ABOVE = 5e-10


def controller_of(
    mode: str, settings: Mapping[str, float], bandwidth: float, slew: float, reach: tuple[float, float]
) -> ZController:
    """Return the z-controller of a mode.

    Parameters
    ----------
    mode
        One of :data:`CONTROLLED`.
    settings
        Value of each of :data:`SETTINGS`.
    bandwidth
        Of the measurement, in Hz; infinity for one that follows at once.
    slew
        Fastest motion, in m/s; infinity for no limit.
    reach
        Lowest and highest height, in m.
    """
    setpoint = settings[setpoint_of(mode)]
    channel = CONTROLLED[mode]
    proportional = settings[f"proportional_{channel}"] / ANGSTROM
    current = channel == CURRENT.name
    return ZController(
        setpoint=setpoint,
        proportional=proportional,
        integral=_integral(channel, settings),
        # A frequency shift below zero is one of the attractive branch.
        retracts_above=current or setpoint > 0,
        bandwidth=bandwidth,
        slew=slew / ANGSTROM,
        reach=(reach[0] / ANGSTROM, reach[1] / ANGSTROM),
        logarithmic=current,
    )


def loop_steps(mode: str, settings: Mapping[str, float], interval: float, bandwidth: float) -> tuple[int, float]:
    """Return how often the z-controller acts in each sample, and with which interval, in s.

    In samples that are very long beside the time in which it follows, it acts at their beginning only: it has settled
    by then, and longer steps would make it unstable.
    """
    channel = CONTROLLED[mode]
    rate = _integral(channel, settings) * _SLOPES[channel]
    longest = _LONGEST_STEP / rate if rate else math.inf
    count = max(math.ceil(interval / longest), resolving_substeps(interval, bandwidth, *_SUBSTEPS))
    count = min(count, _SUBSTEPS[1])
    return count, min(interval / count, longest)


def resolving_substeps(interval: float, bandwidth: float, slowest: int, fastest: int) -> int:
    """Return in how many parts a sample has to be cut to resolve a bandwidth, in Hz, within bounds."""
    return int(np.clip(np.ceil(8 * bandwidth * interval) if np.isfinite(bandwidth) else slowest, slowest, fastest))


def _integral(channel: str, settings: Mapping[str, float]) -> float:
    """Integral gain, in Å/s per unit of the error."""
    return settings[f"proportional_{channel}"] / settings[f"time_constant_{channel}"] / ANGSTROM


def begins_higher(mode: str, signals: Mapping[str, float]) -> float:
    """By how much, in m, the tip is lifted when the z-controller is switched on.

    On the attractive branch it has to come from above: nearer than the minimum of the frequency shift it would run into
    the sample.
    """
    return _FROM_ABOVE if CONTROLLED[mode] == FREQUENCY_SHIFT.name and signals[setpoint_of(mode)] <= 0 else 0.0


def check_regulable(mode: str, signals: Mapping[str, float]) -> None:
    """Raise :class:`InvalidRequestError` when there is nothing that the z-controller could hold constant."""
    if CONTROLLED[mode] == CURRENT.name and signals["bias"] == 0:
        raise InvalidRequestError(
            "bias is 0 V: there is no current that the z-controller could hold constant, set a bias or switch it off",
            name="bias",
        )
