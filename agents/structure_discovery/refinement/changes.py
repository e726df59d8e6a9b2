"""Other atoms: proposals of another element, one atom less, or one more, and the fit that begins with them."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from twinscope.agents.structure_discovery.refinement.chemistry import typical_charges
from twinscope.agents.structure_discovery.refinement.parameters import Layout
from twinscope.agents.structure_discovery.refinement.places import free_places
from twinscope.agents.structure_discovery.refinement.priors import Distances, Priors
from twinscope.agents.structure_discovery.refinement.solver import Problem, State
from twinscope.agents.structure_discovery.structure import NUMBERS
from twinscope.kernels import Atoms, Tip, lennard_jones_coefficients

# Atoms deeper than this below the highest are not seen well enough to be changed, in Å.
_DEEPEST = 1.5
# Elements of new atoms; the first is tried where nothing points to, too. What they really are turns out later.
_NEW_ELEMENTS = (6, 1)
# Of the position of a new atom, in Å.
_POSITION = 0.4
# New atoms nearer to each other than this are rivals, in Å.
_APART = 0.9


@dataclass(frozen=True, eq=False)
class Change:
    """One proposal.

    Attributes
    ----------
    kind
        What is done.
    atom
        Its index; -1 for a new one.
    number
        Its new element; 0 for an atom less.
    position
        Where it would be, in Å, shape (3,).
    """

    kind: Literal["replace", "remove", "add"]
    atom: int
    number: int
    position: np.ndarray

    def __str__(self) -> str:
        x, y, z = self.position
        what = {"replace": f"atom {self.atom} becomes element {self.number}", "remove": f"atom {self.atom} is removed"}
        return what.get(self.kind, f"element {self.number} is added") + f" at ({x:.2f}, {y:.2f}, {z:.2f}) Å"

    def moved(self, moves: np.ndarray) -> "Change":
        """Return the change where its atom has moved with the others, by moves (n, 3) in Å."""
        return self if self.atom < 0 else replace(self, position=self.position + moves[self.atom])

    def excludes(self, other: "Change") -> bool:
        """Tell whether only one of both can be made. Atoms are left out one at a time, so that some always stay."""
        if self.kind == other.kind == "remove":
            return True
        if self.kind == other.kind == "add":
            return bool(np.linalg.norm(self.position - other.position) < _APART)
        return self.atom == other.atom


def replacements(problem: Problem, state: State) -> list[Change]:
    """Propose every other element for each atom that is seen."""
    numbers, positions = problem.model.numbers, _positions(state.parameters, problem.model.layout)
    height, tip = float(state.parameters[problem.model.layout.tip][0]), state.simulated.tip
    return [
        Change("replace", atom, number, _lowered(positions[atom], height, int(numbers[atom]), number, tip))
        for atom in _seen(positions)
        for number in NUMBERS
        if number != numbers[atom]
    ]


def removals(problem: Problem, state: State) -> list[Change]:
    """Propose to leave out each atom that is seen, unless it is the only one."""
    positions = _positions(state.parameters, problem.model.layout)
    return [Change("remove", atom, 0, positions[atom]) for atom in _seen(positions)] if len(positions) > 1 else []


def additions(problem: Problem, state: State) -> list[Change]:
    """Propose atoms where one could be bonded to those that are there."""
    numbers, positions = problem.model.numbers, _positions(state.parameters, problem.model.layout)
    x, y = problem.model.measurement.x, problem.model.measurement.y
    return [
        Change("add", -1, number, place)
        for number in _NEW_ELEMENTS
        for place in free_places(numbers, positions, x, y, number, everywhere=number == _NEW_ELEMENTS[0])
    ]


def applied(changes: list[Change], problem: Problem, parameters: np.ndarray) -> tuple[Problem, np.ndarray]:
    """Return the fit with other atoms, and where it begins: changed atoms keep place and charge, new ones come last."""
    layout = problem.model.layout
    order = new_order(changes, layout.atoms)
    by_atom = {change.atom: change for change in changes if change.kind == "replace"}
    added = iter([change for change in changes if change.kind == "add"])
    made = [by_atom.get(int(atom)) if atom >= 0 else next(added) for atom in order]
    numbers = np.array(
        [
            problem.model.numbers[atom] if change is None else change.number
            for atom, change in zip(order, made, strict=True)
        ]
    )
    typical, widths = typical_charges(numbers)

    def rearranged(values: np.ndarray, position: np.ndarray | None, charges: np.ndarray) -> np.ndarray:
        points, known = values[layout.positions].reshape(-1, 3), values[layout.charges]
        rows = [
            points[atom] if change is None else change.position if position is None else position
            for atom, change in zip(order, made, strict=True)
        ]
        told = [
            known[atom] if change is None else charge for atom, change, charge in zip(order, made, charges, strict=True)
        ]
        return np.concatenate([np.concatenate(rows), told, values[layout.charges.stop :]])

    start = rearranged(parameters, None, np.where(order >= 0, parameters[layout.charges][order], typical))
    model = replace(problem.model, numbers=numbers)
    priors = Priors(
        model.layout,
        rearranged(problem.priors.mean, None, typical),
        rearranged(problem.priors.sigma, np.full(3, _POSITION), widths),
        Distances.of(numbers, _positions(start, model.layout)),
    )
    return replace(problem, model=model, priors=priors), start


def new_order(changes: list[Change], atoms: int) -> np.ndarray:
    """Return which of the old atoms each of the new ones was; -1 for those that were none."""
    removed = {change.atom for change in changes if change.kind == "remove"}
    kept = [atom for atom in range(atoms) if atom not in removed]
    return np.array(kept + [-1] * sum(change.kind == "add" for change in changes), dtype=int)


def _seen(positions: np.ndarray) -> list[int]:
    return [int(atom) for atom in np.flatnonzero(positions[:, 2] > positions[:, 2].max() - _DEEPEST)]


def _positions(parameters: np.ndarray, layout: Layout) -> np.ndarray:
    return parameters[layout.positions].reshape(-1, 3)


def _lowered(position: np.ndarray, height: float, old: int, new: int, tip: Tip) -> np.ndarray:
    """Move an atom along z so that it repels the probe at the lowest height as much as its predecessor did."""
    distance = np.linspace(1.5, 7.0, 551)
    atoms = Atoms(np.array([old, new]), np.zeros((2, 3)))
    c6, c12 = (np.asarray(values)[:, None] for values in lennard_jones_coefficients(atoms, tip))
    force = 12 * c12 / distance**13 - 6 * c6 / distance**7
    apart = min(max(height - position[2], distance[0]), distance[-1])
    wanted = np.interp(apart, distance, force[0])
    # On the branch from the wall down to the minimum of the force.
    lowest = int(force[1].argmin())
    there = np.interp(-wanted, -force[1, : lowest + 1], distance[: lowest + 1])
    return position + np.array([0.0, 0.0, apart - there])
