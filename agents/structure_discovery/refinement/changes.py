"""Other atoms: proposals of another element, one atom less, or one more, and what each would gain.

A proposal is judged without a simulation: its force, times the lever of the probe, is its change of the images, and the
normal equations tell how far all parameters would then make up for it. Only the best are fitted.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from twinscope.agents.structure_discovery.refinement.chemistry import radius, typical_charges
from twinscope.agents.structure_discovery.refinement.model import Model
from twinscope.agents.structure_discovery.refinement.parameters import Layout
from twinscope.agents.structure_discovery.refinement.priors import Distances, Priors
from twinscope.agents.structure_discovery.refinement.response import response, uncharged_sites
from twinscope.agents.structure_discovery.refinement.solver import Normal, Problem, State
from twinscope.agents.structure_discovery.structure import NUMBERS
from twinscope.kernels import Atoms, Tip, lennard_jones_coefficients

# Atoms deeper than this below the highest are not seen well enough to be changed, in Å.
_DEEPEST = 1.5
# Where new atoms are tried: on a lattice of this pitch, at these depths, and so far from another, in its bond lengths.
_PITCH, _DEPTHS = 0.5, (0.0, 0.4, 0.8)
_NEAREST, _FARTHEST = 0.85, 1.25
_NEW_ELEMENTS = (1, 6)
# Of the position of a new atom, in Å.
_POSITION = 0.4


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
    gain
        By how much the loss would fall, estimated.
    """

    kind: Literal["replace", "remove", "add"]
    atom: int
    number: int
    position: np.ndarray
    gain: float = 0.0

    def __str__(self) -> str:
        x, y, z = self.position
        what = {"replace": f"atom {self.atom} becomes element {self.number}", "remove": f"atom {self.atom} is removed"}
        return what.get(self.kind, f"element {self.number} is added") + f" at ({x:.2f}, {y:.2f}, {z:.2f}) Å"


def proposals(problem: Problem, state: State, normal: Normal) -> list[Change]:
    """Judge all proposals, those that gain most first."""
    model, layout = problem.model, problem.model.layout
    positions = state.parameters[layout.positions].reshape(-1, 3)
    visible = np.flatnonzero(positions[:, 2] > positions[:, 2].max() - _DEEPEST)
    height = float(state.parameters[layout.tip][0])
    tip = state.simulated.tip
    changes = [
        Change("replace", int(atom), number, _lowered(positions[atom], height, model.numbers[atom], number, tip))
        for atom in visible
        for number in NUMBERS
        if number != model.numbers[atom]
    ]
    changes += [Change("remove", int(atom), 0, positions[atom]) for atom in visible] if len(positions) > 1 else []
    changes += [Change("add", -1, number, place) for number in _NEW_ELEMENTS for place in _places(model, positions)]
    gains = _gains(problem, state, normal, changes)
    return sorted((replace(c, gain=float(g)) for c, g in zip(changes, gains, strict=True)), key=lambda c: -c.gain)


def applied(change: Change, problem: Problem, parameters: np.ndarray) -> tuple[Problem, np.ndarray]:
    """Return the fit with other atoms, and where it begins."""
    layout, numbers = problem.model.layout, problem.model.numbers
    kept = [atom for atom in range(layout.atoms) if atom != change.atom]
    order = kept if change.kind == "remove" else [*kept, -1]
    # A changed atom stays where it is in the list.
    if change.kind == "replace":
        order = [-1 if atom == change.atom else atom for atom in range(layout.atoms)]
    numbers = np.array([change.number if atom < 0 else numbers[atom] for atom in order])
    typical, width = (float(values[0]) for values in typical_charges(np.array([max(change.number, 1)])))

    def reordered(values: np.ndarray, position: np.ndarray, charge: float) -> np.ndarray:
        points = values[layout.positions].reshape(-1, 3)
        charges = values[layout.charges]
        return np.concatenate(
            [
                np.array([position if atom < 0 else points[atom] for atom in order]).reshape(-1),
                np.array([charge if atom < 0 else charges[atom] for atom in order]),
                values[layout.charges.stop :],
            ]
        )

    parameters = reordered(parameters, change.position, typical)
    model = replace(problem.model, numbers=numbers)
    priors = Priors(
        model.layout,
        reordered(problem.priors.mean, change.position, typical),
        reordered(problem.priors.sigma, np.full(3, _POSITION), width),
        Distances.of(numbers, _positions(parameters, model.layout)),
    )
    return replace(problem, model=model, priors=priors), parameters


def _positions(parameters: np.ndarray, layout: Layout) -> np.ndarray:
    return parameters[layout.positions].reshape(-1, 3)


def _gains(problem: Problem, state: State, normal: Normal, changes: list[Change]) -> np.ndarray:
    """Estimate by how much the loss falls with each change, when everything else follows."""
    model, tip = problem.model, state.simulated.tip
    positions = _positions(state.parameters, model.layout)
    with_atom = [c for c in changes if c.number]
    new = uncharged_sites(
        np.array([c.number for c in with_atom]), np.array([c.position for c in with_atom]), np.ones(len(with_atom)), tip
    )
    old = uncharged_sites(model.numbers, positions, np.ones(len(positions)), tip)
    weights, derivatives = model.measurement.weights, normal.derivatives
    fresh = iter(response(new, derivatives.probe, derivatives.lever, weights))
    before = response(old, derivatives.probe, derivatives.lever, weights)
    effects = np.stack(
        [(next(fresh) if c.number else 0) - (before[c.atom] if c.atom >= 0 else 0) for c in changes]
    )  # (changes, nz, n)
    effects = (effects * normal.scale).reshape(len(changes), -1)
    slopes = (derivatives.values * normal.scale).reshape(len(normal.matrix), -1)
    followed = normal.gradient[:, None] + slopes @ effects.T
    made_up = np.einsum("pc,pc->c", followed, cho_solve(cho_factor(normal.matrix), followed))
    return 2 * effects @ normal.left.reshape(-1) - (effects**2).sum(axis=1) + made_up


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


def _places(model: Model, positions: np.ndarray) -> np.ndarray:
    """Return places (n, 3) at which an atom could be bonded to one that is there."""
    measurement = model.measurement
    axes = [np.arange(values[0], values[-1] + _PITCH / 2, _PITCH) for values in (measurement.x, measurement.y)]
    depths = positions[:, 2].max() - np.array(_DEPTHS)
    places = np.stack(np.meshgrid(*axes, depths), axis=-1).reshape(-1, 3)
    lengths = np.array([radius(number) for number in model.numbers]) + radius(6)
    stretch = np.linalg.norm(places[:, None] - positions, axis=-1) / lengths
    return places[(stretch.min(axis=1) > _NEAREST) & (stretch.min(axis=1) < _FARTHEST)]
