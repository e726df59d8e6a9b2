"""The force between the body of the tip and the metal under the sample, which depends on the bias."""

from functools import lru_cache

import numpy as np

from twinscope.drivers.common.realism import Realism
from twinscope.drivers.common.units import ANGSTROM, EV_PER_ANGSTROM
from twinscope.kernels import Cantilever, capacitive_force, frequency_shift_at

# From the height of the probe above a flat molecule to that of the tip's body above the metal (Å): the probe hangs 3 Å
# below the body, and the molecule lies 3 Å above the metal.
_STANDOFF = 6.0
# Heights (Å) for which it is computed; lower down the probe is in the metal, higher up there is nothing to feel.
_LOWEST, _HIGHEST, _LEVEL_STEP = -4.0, 100.0, 0.05


def body_force(
    heights: np.ndarray, ground: np.ndarray, bias: np.ndarray, realism: Realism, cantilever: Cantilever
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the body of the tip adds to the frequency shift, in Hz, and to the force, in N.

    Parameters
    ----------
    heights
        Of the probe, in Å, shape (m,).
    ground
        Of flat molecules under the tip, in Å, shape (n,): few different numbers.
    bias
        V, shape (n,).

    Returns
    -------
    shift, force
        Shape (m, n).
    """
    shift, force = np.empty((2, len(heights), len(ground)))
    squared = (bias - realism.contact_potential) ** 2
    for level in np.unique(ground):
        chosen = ground == level
        centres, *of_one_volt = _of_one_volt(realism.tip_radius / ANGSTROM, cantilever)
        shift[:, chosen], force[:, chosen] = (
            np.interp(heights - level, centres, values)[:, None] * squared[chosen] for values in of_one_volt
        )
    return shift, force


@lru_cache(8)
def _of_one_volt(radius: float, cantilever: Cantilever) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heights above a flat molecule, in Å, ascending; frequency shift, in Hz, and force, in N, at each."""
    levels = np.arange(_HIGHEST, _LOWEST, -_LEVEL_STEP)
    margin = cantilever.amplitude / 2 + 2 * _LEVEL_STEP
    centres = levels[(levels < _HIGHEST - margin) & (levels > _LOWEST + margin)][::-1]
    forces = np.asarray(capacitive_force(levels + _STANDOFF, 1.0, radius=radius), float)
    shift = np.asarray(frequency_shift_at(centres, forces[:, None], levels, cantilever), float)[:, 0]
    return centres, shift, np.interp(centres, levels[::-1], forces[::-1]) * EV_PER_ANGSTROM
