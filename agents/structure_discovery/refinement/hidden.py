"""Matter below the atoms, of which nobody knows where it is: it attracts the tip, smoothly.

A stack shows the atoms down to some 1 Å below the highest. What is deeper adds a weak, smooth attraction that decays
as the Lennard-Jones force of an atom does. A coarse lattice of fractions of carbon atoms spans these fields.
"""

import numpy as np

from twinscope.agents.structure_discovery.refinement.response import uncharged_sites
from twinscope.kernels import PairSites, Tip

_PITCH = 3.0
_DEPTH = 3.0
_CARBON = 6


def lattice(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Places of hidden matter in Å, shape (d, 3), below a rectangle with the axes `x` and `y`."""
    flat = np.stack(np.meshgrid(_spread(x[0], x[-1]), _spread(y[0], y[-1])), axis=-1).reshape(-1, 2)
    return np.column_stack([flat, np.full(len(flat), -_DEPTH)])


def matter(places: np.ndarray, fractions: np.ndarray, tip: Tip) -> PairSites:
    """Return what fractions (d,) of carbon atoms at places (d, 3) do to the probe."""
    return uncharged_sites(np.full(len(places), _CARBON), places, fractions, tip)


def _spread(low: float, high: float) -> np.ndarray:
    count = max(round((high - low) / _PITCH), 1)
    return low + (np.arange(count) + 0.5) * (high - low) / count
