"""Atoms are exchanged, left out and added as long as the stack is explained better than that costs."""

from dataclasses import replace

import numpy as np

from twinscope.agents.structure_discovery.refinement.beliefs import Beliefs
from twinscope.agents.structure_discovery.refinement.changes import Change, additions, applied, removals, replacements
from twinscope.agents.structure_discovery.refinement.choice import best_together, prices
from twinscope.agents.structure_discovery.refinement.effects import Effects, effects_of
from twinscope.agents.structure_discovery.refinement.options import RefinementOptions
from twinscope.agents.structure_discovery.refinement.refined import Step
from twinscope.agents.structure_discovery.refinement.result import misfit
from twinscope.agents.structure_discovery.refinement.rounds import CORRELATED, in_rounds
from twinscope.agents.structure_discovery.refinement.solver import Problem, State

# How often changes are looked for, how many are made together, and how many choices are tried in one pass.
_PASSES, _TOGETHER, _TRIED = 10, 6, 3
# Atoms move no farther at once to make up for others, in Å.
_LONGEST_MOVE = 0.3
# How often atoms are added before the fit has converged.
_COMPLETIONS = 4


def completed(
    problem: Problem, state: State, beliefs: Beliefs, options: RefinementOptions, history: list[Step]
) -> tuple[Problem, State, Beliefs]:
    """Add what is clearly missing, before the other atoms move to make up for ."""
    early = replace(options, rounds=1)
    for _ in range(_COMPLETIONS):
        found = _pass(problem, state, beliefs, early, history, additions(problem, state))
        if found is None:
            break
        problem, state, beliefs = found
    return problem, state, beliefs


def with_changes(
    problem: Problem, state: State, beliefs: Beliefs, options: RefinementOptions, history: list[Step]
) -> tuple[Problem, State, Beliefs]:
    """Change atoms, several at a time, until no change pays."""
    for _ in range(_PASSES):
        changes = replacements(problem, state) + removals(problem, state) + additions(problem, state)
        found = _pass(problem, state, beliefs, options, history, changes)
        if found is None:
            break
        problem, state, beliefs = found
    return problem, state, beliefs


def _pass(
    problem: Problem,
    state: State,
    beliefs: Beliefs,
    options: RefinementOptions,
    history: list[Step],
    changes: list[Change],
) -> tuple[Problem, State, Beliefs] | None:
    """Make the best choice of changes that a fit confirms, and fit again; None when there is none."""
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
        if trial.loss + costs[choice].sum() < state.loss:
            history.append(Step("; ".join(map(str, chosen)), trial.loss, misfit(other, trial)))
            after = in_rounds(other.model, other.priors, trial.parameters, options, CORRELATED[0], history)
            return *after, beliefs.changed(chosen)
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
