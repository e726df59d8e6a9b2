"""The force between the body of the tip and the metal under the sample, which depends on the bias."""

import numpy as np

from twinscope.drivers.simulator.realism import Realism
from twinscope.drivers.simulator.units import ANGSTROM, EV_PER_ANGSTROM
from twinscope.kernels import Cantilever, capacitive_force, frequency_shift_at

# From the height of the probe above a flat molecule to that of the tip's body above the metal (Å): the probe hangs 3 Å
# below the body, and the molecule lies 3 Å above the metal.
_STANDOFF = 6.0
_LEVEL_STEP = 0.05


def body_force(
    heights: np.ndarray, bias: np.ndarray, realism: Realism, cantilever: Cantilever
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the body of the tip adds to the frequency shift, in Hz, and to the force, in N.

    Parameters
    ----------
    heights
        Of the probe, in Å, shape (m,).
    bias
        V, shape (n,).

    Returns
    -------
    shift, force
        Shape (m, n).
    """
    half = cantilever.amplitude / 2
    count = int(np.ceil((np.ptp(heights) + 2 * half) / _LEVEL_STEP)) + 8
    levels = np.linspace(heights.max() + half + 2 * _LEVEL_STEP, heights.min() - half - 2 * _LEVEL_STEP, count)
    radius = realism.tip_radius / ANGSTROM
    of_one_volt = np.asarray(capacitive_force(levels + _STANDOFF, 1.0, radius=radius), float)
    shift = np.asarray(frequency_shift_at(heights, of_one_volt[:, None], levels, cantilever), float)
    force = np.interp(heights, levels[::-1], of_one_volt[::-1])[:, None] * EV_PER_ANGSTROM
    squared = (bias - realism.contact_potential) ** 2
    return shift * squared, force * squared
