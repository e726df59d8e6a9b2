"""How well electrons tunnel into the atoms of a sample, for the current channel."""

from collections.abc import Mapping

import numpy as np

WORK_FUNCTIONS: Mapping[str, float] = {
    "Ag": 4.74,
    "Al": 4.24,
    "Au": 5.31,
    "Cu": 4.94,
    "Ir": 5.76,
    "Ni": 5.35,
    "Pd": 5.60,
    "Pt": 5.70,
}
"""Of the (111) faces, in eV (Michaelson, J. Appl. Phys. 48, 4729 (1977); Pt, Pd: the later values of his review)."""

# Of other metals, and where there is none.
_USUAL_WORK_FUNCTION = 4.7
# Weights in `kernels.TunnelSites`. With that of light atoms a flat aromatic molecule 3 Å above gold, far from
# resonance, stands out by 1 Å in a constant-current image, and so does an adatom with that of a metal, as they do in
# experiments. They are chosen for that, not computed.
_LIGHT, _METAL = 1e-4, 0.05
_NONMETALS = frozenset((1, 2, *range(5, 11), *range(14, 19), *range(33, 37), *range(52, 55)))


def work_function(metal: str | None) -> float:
    """Work function of a surface, in eV; 4.7 eV where it is not listed."""
    return WORK_FUNCTIONS.get(metal or "", _USUAL_WORK_FUNCTION)


def tunnel_weights(numbers: np.ndarray) -> np.ndarray:
    """Weights of atoms, shape (n,), for :class:`~twinscope.kernels.TunnelSites`."""
    return np.where(np.isin(numbers, list(_NONMETALS)), _LIGHT, _METAL)
