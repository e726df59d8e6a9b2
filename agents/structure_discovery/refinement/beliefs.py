"""What was believed about the atoms before the stack was fitted."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from twinscope.agents.structure_discovery.refinement.changes import Change, new_order
from twinscope.agents.structure_discovery.structure import Structure

# How frequent elements are among those that come in nobody's expectation, in the order of NUMBERS.
_FREQUENCIES = np.array([0.42, 0.42, 0.06, 0.06, 0.015, 0.003, 0.003, 0.008, 0.007, 0.004])
# The share of that in what is believed: a network may be wrong.
_SHARE = 0.1
# New atoms are hydrogen or carbon, until something tells what else.
_NEW = (1 - _SHARE) * np.array([0.5, 0.5, *[0.0] * 8]) + _SHARE * _FREQUENCIES


@dataclass(frozen=True, eq=False)
class Beliefs:
    """Probabilities of the elements, shape (n, len(NUMBERS)), and of the atoms themselves, shape (n,)."""

    elements: np.ndarray
    confidence: np.ndarray

    @classmethod
    def of(cls, structure: Structure) -> Self:
        """Take what a network tells, with some doubt."""
        return cls((1 - _SHARE) * structure.probabilities + _SHARE * _FREQUENCIES, structure.confidence)

    def changed(self, changes: list[Change]) -> Self:
        """Return those about the atoms after changes; of new ones nothing is known."""
        order = new_order(changes, len(self.confidence))
        elements = np.where(order[:, None] >= 0, self.elements[order], _NEW)
        return type(self)(elements, np.where(order >= 0, self.confidence[order], 0.5))
