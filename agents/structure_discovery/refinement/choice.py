"""Which changes are made together: those that gain most for their price."""

import numpy as np

from twinscope.agents.structure_discovery.refinement.beliefs import Beliefs
from twinscope.agents.structure_discovery.refinement.changes import Change
from twinscope.agents.structure_discovery.refinement.chemistry import crowding
from twinscope.agents.structure_discovery.refinement.effects import Effects
from twinscope.agents.structure_discovery.structure import NUMBERS

# The confidence in an atom is believed to be no nearer to zero or one.
_DOUBT = 0.02
# An element less likely beforehand is not tried: nearly everything is explained a little better by silicon.
_LEAST = 1e-3
# A changed element costs this beside its improbability: the loss is quadratic only nearby.
_CAUTION = 2.0
# What a neighbour too many costs, or none at all.
_CROWDED = 12.0
# An atom has four parameters.
_PARAMETERS = 4


def prices(
    changes: list[Change], numbers: np.ndarray, positions: np.ndarray, beliefs: Beliefs, values: float
) -> np.ndarray:
    """Tell by how much the loss must fall at least for each change, shape (changes,).

    Parameters
    ----------
    changes
        The proposals.
    numbers, positions
        Of the atoms that are there, shapes (n,) and (n, 3), in Å.
    beliefs
        About them, beforehand.
    values
        How many independent values there are: each parameter must lower the loss by its logarithm (Schwarz, Ann. Stat.
        6, 461 (1978)).
    """
    logs = np.where(beliefs.elements < _LEAST, -np.inf, np.log(beliefs.elements))
    sure = np.clip(beliefs.confidence, _DOUBT, 1 - _DOUBT)
    odds = np.log(sure / (1 - sure))

    def strain(atom: int, number: int, position: np.ndarray) -> float:
        others = np.arange(len(numbers)) != atom
        return _CROWDED * abs(crowding(number, position, numbers[others], positions[others]))

    def price(change: Change) -> float:
        if change.kind == "add":
            return _PARAMETERS * float(np.log(values)) + strain(-1, change.number, change.position)
        if change.kind == "remove":
            return float(2 * odds[change.atom] - np.log(values))
        old = NUMBERS.index(int(numbers[change.atom])) if numbers[change.atom] in NUMBERS else -1
        before = np.log(beliefs.elements[change.atom, old] if old >= 0 else _DOUBT)
        after = logs[change.atom, NUMBERS.index(change.number)]
        # Both where the old one is: the new one may be off before it is fitted.
        here = positions[change.atom]
        strained = strain(change.atom, change.number, here) - strain(change.atom, int(numbers[change.atom]), here)
        return float(2 * (before - after)) + _CAUTION + strained

    return np.array([price(change) for change in changes])


def best_together(effects: Effects, costs: np.ndarray, most: int) -> list[int]:
    """Choose changes that gain more than they cost together: a pair or a single one first, then one after the other."""
    changes = effects.changes
    left = effects.gains - costs
    chosen: list[int] = []

    def take(number: int) -> None:
        chosen.append(number)
        left[:] -= 2 * effects.coupling(np.arange(len(changes)), np.array([number]))[:, 0]
        left[[changes[number].excludes(other) for other in changes]] = -np.inf

    for number in _best_pair(effects, left):
        take(number)
    while len(chosen) < most and len(changes) and left.max() > 0:
        take(int(left.argmax()))
    return chosen


def _best_pair(effects: Effects, left: np.ndarray) -> list[int]:
    """Return the two replacements that gain most together, if that is more than any change alone gains."""
    rows = np.array([k for k, change in enumerate(effects.changes) if change.kind == "replace"], dtype=int)
    if not len(rows):
        return []
    joint = pair_gains(effects, rows, left)
    first, second = np.unravel_index(int(joint.argmax()), joint.shape)
    better = joint[first, second] > max(float(left.max()), 0.0)
    return [int(rows[first]), int(rows[second])] if better else []


def pair_gains(effects: Effects, rows: np.ndarray, alone: np.ndarray) -> np.ndarray:
    """Return what two of some replacements gain together, shape (rows, rows); minus infinity for the same atom."""
    joint = alone[rows][:, None] + alone[rows] - 2 * effects.coupling(rows, rows)
    atoms = np.array([effects.changes[row].atom for row in rows])
    return np.where(atoms[:, None] == atoms, -np.inf, joint)


def element_probabilities(effects: Effects, numbers: np.ndarray, positions: np.ndarray, beliefs: Beliefs) -> np.ndarray:
    """Weigh all assignments of elements that differ from the present one in up to two atoms.

    Parameters
    ----------
    effects
        Of replacements.
    numbers, positions
        Of the atoms, shapes (n,) and (n, 3), in Å.
    beliefs
        About them, beforehand.

    Returns
    -------
    ndarray, shape (n, len(NUMBERS))
        Rows add up to 1; those of atoms that are hardly seen are as they were.
    """
    changes = effects.changes
    rows = np.array([k for k, change in enumerate(changes) if change.kind == "replace"], dtype=int)
    if not len(rows):
        return beliefs.elements
    alone = effects.gains - prices(changes, numbers, positions, beliefs, 1.0) + _CAUTION
    pairs = pair_gains(effects, rows, alone)
    highest = max(0.0, float(alone[rows].max()), float(pairs.max()))
    single = np.exp((alone[rows] - highest) / 2)
    double = np.exp((pairs - highest) / 2)
    present = np.exp(-highest / 2)
    # A pair stands in two rows of the table, and counts once in the sum.
    total = present + single.sum() + double.sum() / 2
    with_change = (single + double.sum(axis=1)) / total
    found = beliefs.elements.copy()
    for atom in {changes[row].atom for row in rows}:
        mine = [k for k, row in enumerate(rows) if changes[row].atom == atom]
        found[atom] = 0.0
        found[atom, [NUMBERS.index(changes[rows[k]].number) for k in mine]] = with_change[mine]
        if numbers[atom] in NUMBERS:
            found[atom, NUMBERS.index(int(numbers[atom]))] = max(1 - float(with_change[mine].sum()), 0.0)
        found[atom] /= found[atom].sum()
    return found
