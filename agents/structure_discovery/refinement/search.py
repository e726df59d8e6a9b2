"""Atoms are exchanged, left out and added as long as the stack is explained better than that costs."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from twinscope.agents.structure_discovery.refinement.beliefs import Beliefs
from twinscope.agents.structure_discovery.refinement.changes import Change, additions, applied, removals, replacements
from twinscope.agents.structure_discovery.refinement.chemistry import crowding
from twinscope.agents.structure_discovery.refinement.choice import best_together, prices
from twinscope.agents.structure_discovery.refinement.effects import Effects, effects_of
from twinscope.agents.structure_discovery.refinement.options import RefinementOptions
from twinscope.agents.structure_discovery.refinement.refined import Step
from twinscope.agents.structure_discovery.refinement.result import misfit, verdict
from twinscope.agents.structure_discovery.refinement.rounds import CORRELATED, in_rounds
from twinscope.agents.structure_discovery.refinement.solver import Problem, State

# How often changes are looked for, how many are made together, and how many choices are tried in one pass.
_PASSES, _TOGETHER, _TRIED = 10, 6, 3
# Atoms move no farther at once to make up for others, in Å.
_LONGEST_MOVE = 0.3
# How often atoms are added before the fit has converged.
_COMPLETIONS = 4


@dataclass(frozen=True, eq=False)
class Candidate:
    """A fit that may become the result.

    Attributes
    ----------
    problem, state
        The fit and where it ended.
    beliefs
        About its atoms, beforehand.
    price
        By how much its loss must be lower than that of the atoms at the start, for what was changed.
    """

    problem: Problem
    state: State
    beliefs: Beliefs
    price: float = 0.0

    def better_than(self, other: Self, options: RefinementOptions) -> bool:
        """Tell whether it explains the stack better than another, for its price, and is no worse as a molecule.

        Both are compared by what the other one leaves: it would be easy to be better by own standards.
        """
        own = replace(self.problem, weighting=other.problem.weighting)
        loss = own.judged(self.state.parameters, self.state.simulated).loss
        believed = verdict(self.problem, self.state, options)[0] >= verdict(other.problem, other.state, options)[0]
        return believed and self._faults() <= other._faults() and loss + self.price < other.state.loss + other.price

    def _faults(self) -> int:
        """Count neighbours too many and lonely atoms."""
        numbers, layout = self.problem.model.numbers, self.problem.model.layout
        positions = self.state.parameters[layout.positions].reshape(-1, 3)
        others = ~np.eye(len(numbers), dtype=bool)
        return sum(
            abs(crowding(int(number), position, numbers[rest], positions[rest]))
            for number, position, rest in zip(numbers, positions, others, strict=True)
        )


def completed(candidate: Candidate, options: RefinementOptions, history: list[Step]) -> Candidate:
    """Add what is clearly missing, before the other atoms move to make up for it."""
    early = replace(options, rounds=1)
    for _ in range(_COMPLETIONS):
        found = _pass(candidate, early, history, additions(candidate.problem, candidate.state))
        if found is None:
            break
        candidate = found
    return candidate


def with_changes(candidate: Candidate, options: RefinementOptions, history: list[Step]) -> Candidate:
    """Change atoms, several at a time, until no change pays."""
    for _ in range(_PASSES):
        problem, state = candidate.problem, candidate.state
        changes = replacements(problem, state) + removals(problem, state) + additions(problem, state)
        found = _pass(candidate, options, history, changes)
        if found is None:
            break
        candidate = found
    return candidate


def _pass(
    candidate: Candidate, options: RefinementOptions, history: list[Step], changes: list[Change]
) -> Candidate | None:
    """Make the best choice of changes that a fit confirms, and fit again; None when there is none."""
    problem, state, beliefs = candidate.problem, candidate.state, candidate.beliefs
    effects = effects_of(problem, state, problem.normal(state), changes)
    values = problem.model.measurement.measured.sum() / problem.weighting.repeats
    positions = state.parameters[problem.model.layout.positions].reshape(-1, 3)
    costs = prices(changes, problem.model.numbers, positions, beliefs, float(values))
    for choice in _choices(effects, costs):
        move = _shortened(effects.move(choice), problem)
        moves = move[problem.model.layout.positions].reshape(-1, 3)
        chosen = [changes[number].moved(moves) for number in choice]
        other, start = applied(chosen, problem, state.parameters + move)
        trial = other.solve(other.state(start), options.iterations * 2)
        price = float(costs[choice].sum())
        if trial.loss + price < state.loss:
            history.append(Step("; ".join(map(str, chosen)), trial.loss, misfit(other, trial)))
            after = in_rounds(other.model, other.priors, trial.parameters, options, CORRELATED[0], history)
            return Candidate(*after, beliefs.changed(chosen), candidate.price + price)
    return None


def _shortened(move: np.ndarray, problem: Problem) -> np.ndarray:
    """Shorten a move of all parameters until it is one that a quadratic function may tell."""
    layout = problem.model.layout
    atoms = np.abs(move[layout.positions]).max(initial=0) / _LONGEST_MOVE
    return move / max(1.0, atoms, (np.abs(move[layout.tip]) / problem.priors.sigma[layout.tip]).max())


def _choices(effects: Effects, costs: np.ndarray) -> list[list[int]]:
    """Return what to try: many changes together, fewer, and the best of each alone."""
    together = best_together(effects, costs, _TOGETHER)
    half = together[: max(len(together) // 2, 1)]
    left = effects.gains - costs
    alone: list[int] = []
    for number in np.argsort(-left):
        if left[number] <= 0 or len(alone) == _TRIED:
            break
        if not any(_same_place(effects.changes[number], effects.changes[taken]) for taken in alone):
            alone.append(int(number))
    choices = [together, half, *([number] for number in alone)] if together else [[number] for number in alone]
    unique: list[list[int]] = []
    for choice in choices:
        if choice and choice not in unique:
            unique.append(choice)
    return unique


def _same_place(first: Change, second: Change) -> bool:
    return first.kind == second.kind and first.excludes(second)
