"""What changes of atoms would do to the loss, together and alone, without a simulation.

The force of an atom, times the lever of the probe, is its change of the images. The normal equations tell how far all
parameters would then make up for it. So the loss is a quadratic function of which changes are made: it tells pairs that
gain only together, and what is left to gain when the best is done (orthogonal matching pursuit: Pati, Rezaiifar and
Krishnaprasad, Asilomar Conf. 40 (1993)).
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from twinscope.agents.structure_discovery.refinement.changes import Change
from twinscope.agents.structure_discovery.refinement.chemistry import typical_charges
from twinscope.agents.structure_discovery.refinement.response import response, sites
from twinscope.agents.structure_discovery.refinement.solver import Normal, Problem, State


@dataclass(frozen=True, eq=False)
class Effects:
    """By how much the loss falls with changes: ``2 linear @ s - s @ coupling @ s``, s being 1 for those that are made.

    Attributes
    ----------
    changes
        The proposals.
    linear, square
        Shape (changes,): the linear term, and the diagonal of the coupling.
    """

    changes: list[Change]
    linear: np.ndarray
    square: np.ndarray
    _seen: np.ndarray
    _followed: np.ndarray
    _made_up: np.ndarray

    @property
    def gains(self) -> np.ndarray:
        """By how much the loss falls with each change alone, shape (changes,)."""
        return 2 * self.linear - self.square

    def move(self, chosen: list[int]) -> np.ndarray:
        """By how much the parameters follow some changes, shape (parameters,)."""
        return -self._made_up[:, chosen].sum(axis=1)

    def coupling(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return a part of the coupling of changes, shape (rows, columns)."""
        direct = self._seen[rows] @ self._seen[columns].T
        return direct.astype(float) - self._followed[:, rows].T @ self._made_up[:, columns]


def effects_of(problem: Problem, state: State, normal: Normal, changes: list[Change]) -> Effects:
    """Compute what proposals would do at the end of a fit."""
    seen = _images(problem, state, normal, changes)
    slopes = (normal.derivatives.values * normal.scale).reshape(len(normal.matrix), -1)
    followed = (slopes @ seen.T).astype(float)
    linear = (seen @ normal.left.reshape(-1)).astype(float)
    square = np.einsum("cn,cn->c", seen, seen).astype(float)
    # Another element has another typical charge: as if the images told another charge of it.
    layout, priors = problem.model.layout, problem.priors
    for number, change in enumerate(changes):
        if change.kind == "replace":
            old, new = typical_charges(np.array([problem.model.numbers[change.atom], change.number]))[0]
            place = layout.charges.start + change.atom
            shift = (old - new) / priors.sigma[place]
            followed[place, number] += shift / priors.sigma[place]
            linear[number] += shift * (priors.mean[place] - state.parameters[place]) / priors.sigma[place]
            square[number] += shift**2
    factor = cho_factor(normal.matrix)
    made_up = cho_solve(factor, followed)
    linear += normal.gradient @ made_up
    return Effects(changes, linear, square - np.einsum("pc,pc->c", followed, made_up), seen, followed, made_up)


def _images(problem: Problem, state: State, normal: Normal, changes: list[Change]) -> np.ndarray:
    """Return the change of the images, in standard deviations, shape (changes, nz n)."""
    model, tip, derivatives = problem.model, state.simulated.tip, normal.derivatives
    positions = state.parameters[model.layout.positions].reshape(-1, 3)
    new = [change for change in changes if change.number]

    def images(numbers: np.ndarray, places: np.ndarray) -> np.ndarray:
        acting = sites(numbers, places, np.ones(len(numbers)), tip)
        found = response(acting, derivatives.probe, derivatives.lever, model.measurement.weights)
        return found[: len(numbers)] * normal.scale.astype(np.float32)

    before = images(model.numbers, positions)
    after = iter(images(np.array([c.number for c in new]), np.array([c.position for c in new]).reshape(-1, 3)))
    seen = np.zeros((len(changes), *normal.left.shape), np.float32)
    for row, change in zip(seen, changes, strict=True):
        if change.number:
            row += next(after)
        if change.atom >= 0:
            row -= before[change.atom]
    return seen.reshape(len(changes), -1)
