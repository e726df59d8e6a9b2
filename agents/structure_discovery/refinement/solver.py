"""Levenberg-Marquardt on the comparison of a measurement with the model, and on what is known beside it."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from twinscope.agents.structure_discovery.refinement.model import Derivatives, Model, Simulated
from twinscope.agents.structure_discovery.refinement.priors import Priors
from twinscope.agents.structure_discovery.refinement.weighting import Weighting

# Deviations beyond this many standard deviations count linearly (Huber, Ann. Math. Stat. 35, 73 (1964)).
_HUBER = 2.5
# Damping at the start, after a good and after a bad step, and when no step helps any more.
_DAMPING, _LESS, _MORE, _MOST = 1e-2, 0.2, 5.0, 1e4
# An atom moves no farther than this in one step, in Å, and the tip no more than this many standard deviations.
_LONGEST_MOVE = 0.2
_FARTHEST = 1.0
# A step that gains less than this of the loss is the last.
_GAIN = 1e-4


@dataclass(frozen=True, eq=False)
class State:
    """Where the fit is: parameters, their simulation, and the loss."""

    parameters: np.ndarray
    simulated: Simulated
    loss: float


@dataclass(frozen=True, eq=False)
class Normal:
    """Normal equations at a state: the matrix (p, p) and the gradient (p,) of half of the loss, and their origin.

    `left` are the weighted deviations (nz, n), and `scale` is what the derivatives of force gradients were multiplied
    with.
    """

    matrix: np.ndarray
    gradient: np.ndarray
    derivatives: Derivatives
    left: np.ndarray
    scale: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """Of the parameters, shape (p, p)."""
        return cho_solve(cho_factor(self.matrix), np.eye(len(self.matrix)))


@dataclass(frozen=True, eq=False)
class Problem:
    """A fit.

    Attributes
    ----------
    model
        Simulates.
    priors
        Hold what the measurement does not tell.
    weighting
        How much each value counts.
    """

    model: Model
    priors: Priors
    weighting: Weighting

    def state(self, parameters: np.ndarray) -> State:
        """Simulate, and compare."""
        return self.judged(parameters, self.model.simulate(parameters))

    def judged(self, parameters: np.ndarray, simulated: Simulated) -> State:
        """Compare a simulation that is there already."""
        off = np.abs(self.deviations(simulated))
        loss = np.where(off < _HUBER, off**2, _HUBER * (2 * off - _HUBER)).sum() / self.weighting.repeats
        return State(parameters, simulated, float(loss + (self.priors.residuals(parameters)[0] ** 2).sum()))

    def deviations(self, simulated: Simulated) -> np.ndarray:
        """Measured minus simulated in units of sigma, shape (nz, n); what cannot be compared counts as the limit."""
        measured = self.model.measurement.measured.reshape(simulated.values.shape)
        off = self.weighting.deviations(simulated.values)
        return np.where(measured, np.where(simulated.valid, off, _HUBER), 0)

    def normal(self, state: State) -> Normal:
        """Set up the normal equations."""
        derivatives = self.model.differentiate(state.simulated)
        off = self.deviations(state.simulated)
        own, rows = self.priors.residuals(state.parameters)
        matrix, gradient = rows.T @ rows, rows.T @ own
        weights = np.sqrt(np.minimum(1, _HUBER / np.maximum(np.abs(off), _HUBER)) / self.weighting.repeats)
        weights = weights * derivatives.valid
        scale = weights * self.weighting.slope(state.simulated.values)
        # Slice after slice: sums of millions of products in single precision would lose the small eigenvalues.
        for slopes, one, left in zip(derivatives.values.swapaxes(0, 1), scale, weights * off, strict=True):
            scaled = slopes * one
            matrix += scaled @ scaled.T
            gradient -= scaled @ left
        return Normal(matrix, gradient, derivatives, weights * off, scale)

    def solve(self, state: State, iterations: int) -> State:
        """Improve a state by so many steps, or fewer when they gain next to nothing."""
        damping = _DAMPING
        for _ in range(iterations):
            better, damping = self._step(state, self.normal(state), damping)
            if better is None:
                break
            gain, state = state.loss - better.loss, better
            if gain < _GAIN * state.loss:
                break
        return state

    def _step(self, state: State, normal: Normal, damping: float) -> tuple[State | None, float]:
        """Take one step that lowers the loss, with as much damping as it needs; None when there is none."""
        while damping < _MOST:
            moved = state.parameters + self._move(normal, damping)
            better = self.state(moved) if self.model.allows(moved) else None
            if better is not None and better.loss < state.loss:
                return better, damping * _LESS
            damping *= _MORE
        return None, damping

    def _move(self, normal: Normal, damping: float) -> np.ndarray:
        damped = normal.matrix + damping * np.diag(np.diag(normal.matrix))
        move = -cho_solve(cho_factor(damped), normal.gradient)
        layout = self.priors.layout
        farthest = np.abs(move[layout.positions]).max(initial=0) / _LONGEST_MOVE
        tip = (np.abs(move[layout.tip]) / (_FARTHEST * self.priors.sigma[layout.tip])).max()
        return move / max(1.0, farthest, tip)
