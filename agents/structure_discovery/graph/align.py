"""Where a structure lies relative to another one: a shift, without a turn."""

from dataclasses import replace

import numpy as np

from twinscope.agents.structure_discovery.graph.matching import compare
from twinscope.agents.structure_discovery.structure import Structure
from twinscope.errors import InvalidRequestError

_MOST_STEPS = 20
_SETTLED = 1e-3


def shifted(structure: Structure, shift: np.ndarray) -> Structure:
    """Return the structure moved by `shift`, in Å, shape (3,)."""
    return replace(structure, positions=structure.positions + np.asarray(shift, dtype=float))


def find_shift(predicted: Structure, true: Structure, *, reach: float = 1.0, depth: float = 1.2) -> np.ndarray:
    """Find the shift that lays a predicted structure onto the true one.

    A tip that hangs askew moves the whole picture, and where the highest atom was missed, all heights are too large.
    Atoms are matched within a reach that shrinks from step to step, as in iterative closest points (Besl and McKay,
    IEEE Trans. Pattern Anal. Mach. Intell. 14, 239 (1992)); the median of their displacements does not mind a few
    wrong pairs.

    Parameters
    ----------
    reach
        Å: the largest distance of atoms that may be the same. It should be less than half the nearest distance of
        atoms plus the shift that is expected, or a shift by one bond looks right too.
    depth
        Å: how deep true atoms may lie that are matched.

    Returns
    -------
    ndarray, shape (3,)
        Å, to be added to the positions of `predicted`.

    Raises
    ------
    InvalidRequestError
        When no atom lies within reach of another.
    """
    shift = np.zeros(3)
    for step in range(_MOST_STEPS):
        cutoff = max(reach / 2**step, 0.35)
        matched = compare(shifted(predicted, shift), true, cutoff=cutoff, depth=depth, margin=0.0)
        if not len(matched.pairs):
            raise InvalidRequestError(
                f"no predicted atom lies within {cutoff:.2f} Å of a true one: expected structures that overlap; try a"
                f" larger reach than {reach} Å"
            )
        correction = np.median(matched.displacements, axis=0)
        shift -= correction
        if np.abs(correction).max() < _SETTLED and cutoff <= 0.35:
            break
    return shift
