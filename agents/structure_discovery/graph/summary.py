"""Scores over many molecules, pooled: every atom counts the same, wherever it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twinscope.agents.structure_discovery.graph.matching import RIGHT, Comparison
from twinscope.errors import InvalidRequestError


@dataclass(frozen=True, eq=False)
class Summary:
    """Scores of many predictions; NaN where nothing was there to be scored.

    Attributes
    ----------
    molecules
        How many.
    precision, recall
        Right atoms among all that were predicted, and among all that are there.
    rms_lateral, rms_z, rms
        Root of the mean squared displacement of right atoms in the plane, along z, and in space, in Å.
    missing, extra
        Atoms per molecule.
    perfect
        Part of the molecules with neither a missing nor an extra atom.
    hausdorff
        Median over molecules, in Å.
    confusion
        Right atoms by element, shape (len(ELEMENTS), len(ELEMENTS)): rows are true, columns predicted ones.
    accuracy, balanced_accuracy
        Part of the right atoms with the right element; mean of this part over the elements that are there.
    bond_precision, bond_recall
        Right bonds among all that were predicted, and among all that are there.
    order_accuracy
        Part of the right bonds with the right order.
    bond_count_difference
        Mean over molecules of predicted minus true number of bonds.
    """

    molecules: int
    precision: float
    recall: float
    rms_lateral: float
    rms_z: float
    rms: float
    missing: float
    extra: float
    perfect: float
    hausdorff: float
    confusion: np.ndarray
    accuracy: float
    balanced_accuracy: float
    bond_precision: float
    bond_recall: float
    order_accuracy: float
    bond_count_difference: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.precision * self.recall / (self.precision + self.recall or np.nan)


def summarise(comparisons: Sequence[Comparison]) -> Summary:
    """Pool the comparisons of many molecules.

    Raises
    ------
    InvalidRequestError
        When there are none.
    """
    if not comparisons:
        raise InvalidRequestError("there are no comparisons: expected those of at least one molecule")
    right = sum(int(np.count_nonzero(one.verdicts == RIGHT)) for one in comparisons)
    missing = np.array([len(one.missing) for one in comparisons])
    extra = np.array([len(one.extra) for one in comparisons])
    squares = np.concatenate([one.displacements for one in comparisons]) ** 2
    confusion = np.sum([one.confusion for one in comparisons], axis=0)
    rows = confusion.sum(axis=1)
    recalls = confusion.diagonal()[rows > 0] / rows[rows > 0]
    right_bonds = sum(one.right_bonds for one in comparisons)
    return Summary(
        molecules=len(comparisons),
        precision=_part(right, right + extra.sum()),
        recall=_part(right, right + missing.sum()),
        rms_lateral=_root_mean(squares[:, :2].sum(axis=1)),
        rms_z=_root_mean(squares[:, 2]),
        rms=_root_mean(squares.sum(axis=1)),
        missing=float(missing.mean()),
        extra=float(extra.mean()),
        perfect=float(((missing == 0) & (extra == 0)).mean()),
        hausdorff=float(np.median([one.hausdorff for one in comparisons])),
        confusion=confusion,
        accuracy=_part(confusion.trace(), confusion.sum()),
        balanced_accuracy=float(recalls.mean()) if len(recalls) else np.nan,
        bond_precision=_part(right_bonds, right_bonds + sum(one.extra_bonds for one in comparisons)),
        bond_recall=_part(right_bonds, right_bonds + sum(one.missing_bonds for one in comparisons)),
        order_accuracy=_part(sum(one.right_orders for one in comparisons), right_bonds),
        bond_count_difference=float(np.mean([one.bond_count_difference for one in comparisons])),
    )


def _part(count: float, total: float) -> float:
    return float(count / total) if total else np.nan


def _root_mean(squares: np.ndarray) -> float:
    return float(np.sqrt(squares.mean())) if len(squares) else np.nan
