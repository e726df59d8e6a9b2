"""Signals of the simulated microscope, and what the z-controller makes of them."""

from collections.abc import Mapping

import numpy as np

from twinscope.capabilities import Channel, Limits
from twinscope.drivers.simulator.imaging import CURRENT, FREQUENCY_SHIFT
from twinscope.drivers.simulator.units import ANGSTROM
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
    Channel("time_constant", "s", "Time constant of the z-controller: proportional over integral gain"),
)
"""What can be set."""

SIGNALS = (*SETTINGS, FREQUENCY_SHIFT, CURRENT)

LIMITS: Mapping[str, Limits] = {
    "bias": Limits(-10.0, 10.0, "V"),
    "setpoint_frequency_shift": Limits(-1000.0, 1000.0, "Hz"),
    "setpoint_current": Limits(1e-14, 1e-7, "A"),
    "proportional_frequency_shift": Limits(0.0, 1e-9, "m/Hz"),
    "proportional_current": Limits(0.0, 1e-8, "m"),
    "time_constant": Limits(1e-6, 1.0, "s"),
}

DEFAULTS: Mapping[str, float] = {
    "bias": 0.1,
    # On the attractive branch, where a flat molecule is a few Å away.
    "setpoint_frequency_shift": -2.0,
    "setpoint_current": 1e-11,
    # Slow enough to be stable where the frequency shift is steepest on this branch, 10 Hz/Å.
    "proportional_frequency_shift": 3e-12,
    "proportional_current": 5e-12,
    "time_constant": 3e-3,
}


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
        integral=proportional / settings["time_constant"],
        # A frequency shift below zero is one of the attractive branch.
        retracts_above=current or setpoint > 0,
        bandwidth=bandwidth,
        slew=slew / ANGSTROM,
        reach=(reach[0] / ANGSTROM, reach[1] / ANGSTROM),
        logarithmic=current,
    )


def resolving_substeps(interval: float, bandwidth: float, slowest: int, fastest: int) -> int:
    """Return in how many parts a sample has to be cut to resolve a bandwidth, in Hz, within bounds."""
    return int(np.clip(np.ceil(8 * bandwidth * interval) if np.isfinite(bandwidth) else slowest, slowest, fastest))
