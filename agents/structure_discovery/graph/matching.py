"""How right a predicted structure is: its atoms and bonds against the true ones.

The definitions follow the GraphStats of Oinonen et al., MRS Bull. 47, 895 (2022), but are strict about depth. An image
tells little about deep atoms, so only those count that lie at most `depth` (0.8 Å) below the highest one, and the limit
itself is not sharp, because the predicted depth has an error. Every true and every predicted atom is therefore one of

=========  ==========================================================  ========================================
kind       true atom                                                   predicted atom
=========  ==========================================================  ========================================
counted    at most `depth` deep: right when matched, else missing      right when matched to a counted true atom,
                                                                       however deep it was put; extra when matched
                                                                       to none and put at most `depth` deep
ignored    at most `depth + margin` deep (0.8 to 1.2 Å)                matched to an ignored true atom, or matched
                                                                       to none and put deeper than `depth`
not there  deeper: is matched to nothing                               --
=========  ==========================================================  ========================================

Atoms are matched one to one within `cutoff` (0.35 Å) so that, in this order, the number of matched counted atoms is
largest, the number of matched ignored atoms is largest, and the sum of the distances is smallest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

from twinscope.agents.structure_discovery.structure import NUMBERS, Structure
from twinscope.errors import InvalidRequestError

Metric = Literal["3d", "lateral"]
"""Which distance tells whether two atoms are the same: along all axes, or along x and y only."""

_COLUMNS: Mapping[str, slice] = {"3d": slice(0, 3), "lateral": slice(0, 2)}

RIGHT, EXTRA, IGNORED = 1, 0, -1
"""Verdicts on a predicted atom."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """A predicted structure beside the true one.

    Attributes
    ----------
    verdicts
        Of every predicted atom: :data:`RIGHT`, :data:`EXTRA` or :data:`IGNORED`, shape (predicted atoms,).
    pairs
        Indices (predicted, true) of the right atoms, shape (k, 2).
    missing
        Indices of the true atoms that were missed.
    displacements
        Predicted minus true positions of the right atoms, in Å, shape (k, 3).
    confusion
        Right atoms by element, shape (len(ELEMENTS), len(ELEMENTS)): rows are true, columns predicted ones.
    hausdorff
        Å: the largest distance from a counted atom of one structure to the nearest atom of the other, true atoms below
        the ignored ones left out; infinite where only one of them has counted atoms.
    right_bonds, extra_bonds, missing_bonds
        Numbers of bonds. True ones join counted atoms, predicted ones atoms that are right or extra.
    right_orders
        How many of the right bonds have the right order.
    """

    verdicts: np.ndarray
    pairs: np.ndarray
    missing: np.ndarray
    displacements: np.ndarray
    confusion: np.ndarray
    hausdorff: float
    right_bonds: int
    extra_bonds: int
    missing_bonds: int
    right_orders: int

    @property
    def extra(self) -> np.ndarray:
        """Indices of the predicted atoms that are none."""
        return np.flatnonzero(self.verdicts == EXTRA)

    @property
    def same_atoms(self) -> bool:
        """Whether no atom is missing, extra or of another element."""
        right = int(self.confusion.sum()) == int(np.trace(self.confusion))
        return right and not len(self.missing) and not len(self.extra)

    @property
    def bond_count_difference(self) -> int:
        """Predicted minus true number of bonds."""
        return self.extra_bonds - self.missing_bonds


def compare(
    predicted: Structure,
    true: Structure,
    *,
    metric: Metric = "3d",
    cutoff: float = 0.35,
    depth: float = 0.8,
    margin: float = 0.4,
) -> Comparison:
    """Compare a predicted structure with the true one, see the module for what counts.

    Parameters
    ----------
    metric
        Whether `cutoff` and the Hausdorff distance mean distances along all axes, or along x and y.
    cutoff
        Å: atoms farther apart are not the same.
    depth, margin
        Å below the height zero of each structure: the depth of the lowest atoms that count, and how much deeper true
        atoms may lie that neither count nor harm.

    Raises
    ------
    InvalidRequestError
        For another metric, or a distance that is negative.
    """
    if metric not in _COLUMNS or min(cutoff, depth, margin) < 0:
        raise InvalidRequestError(
            f"metric {metric!r}, cutoff {cutoff}, depth {depth}, margin {margin}: expected a metric of"
            f" {', '.join(_COLUMNS)} and distances in Å, not negative"
        )
    counted = true.positions[:, 2] >= -depth
    known = true.positions[:, 2] >= -(depth + margin)
    differences = predicted.positions[:, None] - true.positions
    distances = np.linalg.norm(differences[..., _COLUMNS[metric]], axis=-1)
    matched = _match(np.where(known, distances, np.inf), counted, cutoff)
    right = matched[counted[matched[:, 1]]]
    verdicts = np.where(predicted.positions[:, 2] >= -depth, EXTRA, IGNORED)
    verdicts[matched[:, 0]] = np.where(counted[matched[:, 1]], RIGHT, IGNORED)
    right_bonds, extra_bonds, missing_bonds, right_orders = _compare_bonds(predicted, true, right, verdicts, counted)
    return Comparison(
        verdicts,
        right,
        np.setdiff1d(np.flatnonzero(counted), right[:, 1]),
        differences[right[:, 0], right[:, 1]],
        _confusion(predicted.numbers[right[:, 0]], true.numbers[right[:, 1]]),
        _hausdorff(distances, verdicts != IGNORED, counted, known),
        right_bonds,
        extra_bonds,
        missing_bonds,
        right_orders,
    )


def _match(distances: np.ndarray, counted: np.ndarray, cutoff: float) -> np.ndarray:
    """Pairs of indices, shape (k, 2), that are the best one-to-one assignment; see the module."""
    most = min(distances.shape) + 1
    # One match more is worth more than all distances, one counted match more than all ignored ones.
    worth = (1 + cutoff * most) * np.where(counted, most, 1)
    gains = np.where(distances <= cutoff, worth - np.where(distances <= cutoff, distances, 0.0), 0.0)
    pairs = np.stack(linear_sum_assignment(gains, maximize=True), axis=1)
    return pairs[gains[pairs[:, 0], pairs[:, 1]] > 0]


def _confusion(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    known = np.array(NUMBERS)
    return (true[:, None] == known).T.astype(int) @ (predicted[:, None] == known).astype(int)


def _hausdorff(distances: np.ndarray, of_predicted: np.ndarray, counted: np.ndarray, known: np.ndarray) -> float:
    to_true = distances[np.ix_(of_predicted, known)].min(axis=1, initial=np.inf)
    to_predicted = distances[:, counted].min(axis=0, initial=np.inf)
    return float(max(to_true.max(initial=0.0), to_predicted.max(initial=0.0)))


def _compare_bonds(
    predicted: Structure, true: Structure, right: np.ndarray, verdicts: np.ndarray, counted: np.ndarray
) -> tuple[int, int, int, int]:
    """Numbers of right, extra and missing bonds, and of right orders."""
    partner = dict(right.tolist())
    expected = {
        frozenset(bond): order
        for bond, order in zip(true.bonds.tolist(), true.bond_orders.tolist(), strict=True)
        if counted[bond].all()
    }
    found = [
        (frozenset(partner.get(atom, -1 - atom) for atom in bond), order)
        for bond, order in zip(predicted.bonds.tolist(), predicted.bond_orders.tolist(), strict=True)
        if (verdicts[bond] != IGNORED).all()
    ]
    right_bonds = [(bond, order) for bond, order in found if bond in expected]
    right_orders = sum(order == expected[bond] for bond, order in right_bonds)
    return len(right_bonds), len(found) - len(right_bonds), len(expected) - len(right_bonds), right_orders
