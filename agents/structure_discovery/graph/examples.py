"""What a graph network learns from: peaks that another network has found, beside the atoms that are there."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import jax
import numpy as np

from twinscope.agents.structure_discovery.graph.graph_network import BOND_CLASSES, GraphInput
from twinscope.agents.structure_discovery.graph.matching import compare
from twinscope.agents.structure_discovery.graph.peaks import Peaks
from twinscope.agents.structure_discovery.structure import NUMBERS, Structure
from twinscope.errors import InvalidRequestError

DEEPEST = 1.5
"""Å: deeper atoms are not seen."""

# Å: a peak farther from every atom shows none.
_FARTHEST = 0.5
_TINY = 1e-9


class Examples(NamedTuple):
    """Molecules as they were found, and as they are; padded.

    Attributes
    ----------
    given
        What was found.
    real
        Whether a peak shows an atom, shape (b, n).
    elements
        Of these atoms, as indices in ELEMENTS, shape (b, n); any number for the others.
    positions
        Å, shape (b, n, 3); likewise.
    bonds
        Between all pairs: indices in BOND_CLASSES, shape (b, n, n); zero for peaks that show no atom.
    """

    given: GraphInput
    real: jax.Array | np.ndarray
    elements: jax.Array | np.ndarray
    positions: jax.Array | np.ndarray
    bonds: jax.Array | np.ndarray

    def taken(self, numbers: np.ndarray) -> Self:
        """Return some of the molecules."""
        return jax.tree.map(lambda part: part[numbers], self)


def graph_input(peaks: Peaks, size: int) -> GraphInput:
    """Write peaks as the graph network takes them, alone in a batch.

    Parameters
    ----------
    peaks
        What :func:`.find_atoms` has found.
    size
        Up to which they are padded.
    """
    count = len(peaks)
    seen = np.log(np.maximum(peaks.probabilities, _TINY))
    seen, positions, heights = (
        np.pad(values, [(0, size - count)] + [(0, 0)] * (values.ndim - 1))[None].astype(np.float32)
        for values in (seen, peaks.positions, peaks.heights)
    )
    return GraphInput(seen, positions, heights, (np.arange(size) < count)[None])


def examples_of(found: Sequence[Peaks], true: Sequence[Structure]) -> Examples:
    """Tell of every peak whether it shows an atom, and which.

    Parameters
    ----------
    found
        Peaks of each molecule.
    true
        The molecules, in the same coordinates.

    Raises
    ------
    InvalidRequestError
        When there are not as many of one as of the other, or nothing was found at all.
    """
    size = max((len(peaks) for peaks in found), default=0)
    if len(found) != len(true) or not size:
        raise InvalidRequestError(
            f"up to {size} peaks of {len(found)} molecules, and {len(true)} true molecules: expected as many, and"
            " peaks to learn from"
        )
    every = [_example(peaks, structure, size) for peaks, structure in zip(found, true, strict=True)]
    return Examples(
        GraphInput(*(np.concatenate(parts) for parts in zip(*(given for given, *_ in every), strict=True))),
        *(np.stack(parts) for parts in zip(*(rest for _, *rest in every), strict=True)),
    )


def _example(
    peaks: Peaks, true: Structure, size: int
) -> tuple[GraphInput, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    as_found = Structure.known(np.full(len(peaks), NUMBERS[0]), peaks.positions)
    pairs = compare(as_found, true, cutoff=_FARTHEST, depth=DEEPEST, margin=0.0).pairs
    peak, atom = pairs.T
    partner = np.full(len(true), -1)
    partner[atom] = peak
    real = np.zeros(size, bool)
    elements, positions, bonds = (
        np.zeros(size, np.int32),
        np.zeros((size, 3), np.float32),
        np.zeros((size, size), np.int32),
    )
    real[peak] = True
    elements[peak] = np.searchsorted(NUMBERS, true.numbers[atom])
    positions[peak] = true.positions[atom]
    for ends, order in zip(partner[true.bonds], np.searchsorted(BOND_CLASSES, true.bond_orders), strict=True):
        if (ends >= 0).all():
            bonds[tuple(ends)] = bonds[tuple(ends[::-1])] = order
    return graph_input(peaks, size), real, elements, positions, bonds
