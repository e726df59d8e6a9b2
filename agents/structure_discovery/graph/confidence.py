"""How likely a peak is an atom: heights of peaks, calibrated on molecules that are known."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from twinscope.agents.structure_discovery.graph.matching import IGNORED, RIGHT, Comparison
from twinscope.errors import InvalidRequestError

_BINS = 20


@dataclass(frozen=True)
class Confidence:
    """Probability of an atom as a function of the height of its peak: linear between points, constant beyond them.

    Attributes
    ----------
    heights, probabilities
        Of the points; neither falls. The default takes the height itself, at most 1.
    """

    heights: tuple[float, ...] = (0.0, 1.0)
    probabilities: tuple[float, ...] = (0.0, 1.0)

    def __call__(self, heights: ArrayLike) -> np.ndarray:
        """Return the probabilities, shape of the heights."""
        return np.interp(np.asarray(heights, dtype=float), self.heights, self.probabilities)

    @classmethod
    def fitted(cls, heights: Sequence[np.ndarray], comparisons: Sequence[Comparison]) -> Self:
        """Fit the function to peaks of which it is known whether they are atoms.

        Isotonic regression (Zadrozny and Elkan, KDD 694 (2002)), of the mean over groups of equally many peaks.

        Parameters
        ----------
        heights
            Of the peaks of each molecule.
        comparisons
            Of the structures that were made of them with the true ones; ignored atoms are left out.

        Raises
        ------
        InvalidRequestError
            When heights and comparisons do not belong together, or no peak is left.
        """
        if [len(each) for each in heights] != [len(each.verdicts) for each in comparisons]:
            raise InvalidRequestError(
                f"heights of {sum(map(len, heights))} peaks in {len(heights)} molecules do not belong to"
                f" {len(comparisons)} comparisons: expected one for each molecule, with as many atoms"
            )
        verdicts = np.concatenate([each.verdicts for each in comparisons]) if comparisons else np.zeros(0)
        judged = np.flatnonzero(verdicts != IGNORED)
        if not len(judged):
            raise InvalidRequestError("no peak was judged right or extra: expected some to calibrate with")
        seen = np.concatenate(heights)[judged]
        groups = np.array_split(np.argsort(seen), min(_BINS, len(seen)))
        middles = [float(seen[group].mean()) for group in groups]
        shares = [float((verdicts[judged][group] == RIGHT).mean()) for group in groups]
        rising = isotonic_regression(shares, weights=[len(group) for group in groups]).x
        return cls(tuple(middles), tuple(rising.tolist()))
