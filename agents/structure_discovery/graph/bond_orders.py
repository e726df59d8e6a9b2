"""Orders of bonds, from rings, lengths and valences.

Atoms that are too deep to be seen have bonds, too, so that valences are upper limits of what is left for the others,
and nothing tells that a bond must be a double one. What stays unclear is a single bond.
"""

import numpy as np

from twinscope.agents.structure_discovery.graph.bond_lengths import LENGTHS, ORDERS, SPREAD, VALENCES
from twinscope.agents.structure_discovery.graph.rings import small_rings
from twinscope.agents.structure_discovery.structure import ELEMENTS

# An aromatic ring lies in a plane within this many Å, and its bonds are this much shorter than single ones on average.
_FLATNESS = 0.25
_SHORTENING = 0.07
_AROMATIC_ELEMENTS = [ELEMENTS.index(symbol) for symbol in ("C", "N", "O", "S")]
_NITROGEN, _OXYGEN = ELEMENTS.index("N"), ELEMENTS.index("O")
# Shares of single, double and triple bonds that are not in aromatic rings.
_SHARES = np.array([0.75, 0.0, 0.2, 0.05])


def bond_orders(elements: np.ndarray, positions: np.ndarray, bonds: np.ndarray, error: float) -> np.ndarray:
    """Tell the orders of bonds.

    Parameters
    ----------
    elements
        Indices in ELEMENTS, shape (n,).
    positions
        Å, shape (n, 3).
    bonds
        Pairs of atoms, shape (m, 2).
    error
        Å: standard deviation of the positions, along each axis.

    Returns
    -------
    ndarray, shape (m,)
        1, 1.5 (aromatic), 2 or 3.
    """
    orders = np.ones(len(bonds))
    if not len(bonds):
        return orders
    neighbours = np.bincount(bonds.ravel(), minlength=len(elements))
    lengths = np.linalg.norm(positions[bonds[:, 0]] - positions[bonds[:, 1]], axis=1)
    known = LENGTHS[:, elements[bonds[:, 0]], elements[bonds[:, 1]]].T
    aromatic = _aromatic_bonds(elements, positions, bonds, neighbours, lengths - known[:, 0])
    orders[aromatic] = 1.5
    free = VALENCES[elements] + _charged_nitrogen(elements, bonds, neighbours) - neighbours
    # An atom of aromatic bonds has spent one valence on all of them together.
    free[np.unique(bonds[aromatic])] -= 1
    scores = -0.5 * ((lengths[:, None] - known) / np.hypot(SPREAD, np.sqrt(2) * error)) ** 2
    scores = np.where(np.isnan(scores) | (_SHARES == 0), -np.inf, scores + np.log(np.maximum(_SHARES, 1e-9)))
    gains = np.where(aromatic, -np.inf, scores[:, 1:].max(axis=1) - scores[:, 0])
    # The clearest ones first, as long as both atoms have a valence left.
    for bond in np.argsort(-gains):
        most = min(free[bonds[bond]]) + 1
        if gains[bond] <= 0 or most < 2:
            continue
        allowed = np.array(ORDERS) <= most
        orders[bond] = ORDERS[int(np.argmax(np.where(allowed, scores[bond], -np.inf)))]
        free[bonds[bond]] -= int(orders[bond]) - 1
    return orders


def _charged_nitrogen(elements: np.ndarray, bonds: np.ndarray, neighbours: np.ndarray) -> np.ndarray:
    """Tell which atoms are nitrogen with four valences: that of ammonium, and of nitro groups and N-oxides."""
    last_oxygen = (elements == _OXYGEN) & (neighbours == 1)
    next_to_oxygen = np.zeros(len(elements), dtype=bool)
    for one, other in (bonds.T, bonds.T[::-1]):
        next_to_oxygen[one[last_oxygen[other]]] = True
    return (elements == _NITROGEN) & ((neighbours == 4) | ((neighbours == 3) & next_to_oxygen))


def _aromatic_bonds(
    elements: np.ndarray, positions: np.ndarray, bonds: np.ndarray, neighbours: np.ndarray, stretches: np.ndarray
) -> np.ndarray:
    """Tell which bonds lie in flat rings of five or six atoms with bonds shorter than single ones: shape (m,)."""
    numbers = {frozenset(bond): number for number, bond in enumerate(bonds.tolist())}
    aromatic = np.zeros(len(bonds), dtype=bool)
    for ring in small_rings(len(elements), bonds.tolist()):
        atoms = list(ring)
        flat = len(atoms) > 4 and np.linalg.svd(positions[atoms] - positions[atoms].mean(axis=0))[1][2] < _FLATNESS
        planar = np.isin(elements[atoms], _AROMATIC_ELEMENTS).all() and (neighbours[atoms] <= 3).all()
        inside = [numbers[frozenset(pair)] for pair in zip(atoms, atoms[1:] + atoms[:1], strict=True)]
        if flat and planar and stretches[inside].mean() < -_SHORTENING:
            aromatic[inside] = True
    return aromatic
