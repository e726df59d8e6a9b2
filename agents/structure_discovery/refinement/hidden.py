"""Matter below the atoms, of which nobody knows where it is: it attracts the tip, smoothly, and its charges act far.

A stack shows the atoms down to some 1 Å below the highest. What is deeper adds a weak, smooth force. A coarse lattice
of sites spans these fields: each holds a fraction of a carbon atom, and a charge. The charges matter more: 0.3 e on an
atom 6 Å below a probe with 0.1 e pull twenty times as strongly as its dispersion does. Without them other parameters
make up for the missing force, and take visible atoms along.
"""

import numpy as np

from twinscope.agents.structure_discovery.refinement.response import sites
from twinscope.kernels import PairSites, Tip

_PITCH = 2.0
_DEPTH = 2.2
_CARBON = 6


def lattice(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Places of hidden matter in Å, shape (d, 3), below a rectangle with the axes `x` and `y`."""
    flat = np.stack(np.meshgrid(_spread(x[0], x[-1]), _spread(y[0], y[-1])), axis=-1).reshape(-1, 2)
    return np.column_stack([flat, np.full(len(flat), -_DEPTH)])


def matter(places: np.ndarray, fractions: np.ndarray, charges: np.ndarray, tip: Tip) -> PairSites:
    """Return what hidden matter at places (d, 3) does to the probe.

    Parameters
    ----------
    places
        In Å, shape (d, 3).
    fractions
        Of carbon atoms, shape (d,).
    charges
        Charge of the place times that of the tip, in e², shape (d,).
    tip
        Its probe particle.
    """
    return sites(np.full(len(places), _CARBON), places, fractions, tip, charges)


def _spread(low: float, high: float) -> np.ndarray:
    count = max(round((high - low) / _PITCH), 1)
    return low + (np.arange(count) + 0.5) * (high - low) / count
