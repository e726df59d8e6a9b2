"""Rounds of fits: what each leaves tells how much slices and pixels count in the next."""

from dataclasses import replace

import numpy as np

from twinscope.agents.structure_discovery.refinement.model import Model
from twinscope.agents.structure_discovery.refinement.options import RefinementOptions
from twinscope.agents.structure_discovery.refinement.priors import Distances, Priors
from twinscope.agents.structure_discovery.refinement.refined import Step
from twinscope.agents.structure_discovery.refinement.result import misfit, verdict
from twinscope.agents.structure_discovery.refinement.solver import Problem, State
from twinscope.agents.structure_discovery.refinement.weighting import Weighting

CORRELATED = (0.33, 0.5, 0.2)
"""Neighbours count as correlated at most so much: the more, the more what is known holds the start. Tried in turn."""

# Heights at which the fit may begin, in standard deviations from what is expected.
_OFFSETS = (0.0, -0.5, 0.5, -1.0, 1.0, 1.5)
# The fit ends after so many rounds in which what is left fell by less than this part and no atom moved farther (Å).
_IDLE, _PROGRESS, _MOVE = 2, 0.01, 0.003


def at_best_height(model: Model, priors: Priors) -> np.ndarray:
    """Return parameters to begin with: what is expected, at the height that leaves least."""
    index = model.layout.tip.start
    tried = []
    for offset in _OFFSETS:
        parameters = priors.mean.copy()
        parameters[index] += offset * priors.sigma[index]
        simulated = model.simulate(parameters)
        weighting = Weighting.of(model.measurement, simulated.values, simulated.valid, CORRELATED[0])
        problem = Problem(model, priors, weighting)
        tried.append((misfit(problem, problem.judged(parameters, simulated)), offset, parameters))
    return min(tried, key=lambda entry: entry[:2])[2]


def converged(
    model: Model, priors: Priors, parameters: np.ndarray, options: RefinementOptions, history: list[Step]
) -> tuple[Problem, State]:
    """Fit in rounds; from the start again with more or less trust in what is known, until the result is believable."""
    ends: list[tuple[Problem, State]] = []
    for correlated in CORRELATED:
        ends.append(in_rounds(model, priors, parameters, options, correlated, history))
        if verdict(*ends[-1], options)[0]:
            return ends[-1]
    return min(ends, key=lambda end: misfit(*end))


def in_rounds(
    model: Model,
    priors: Priors,
    parameters: np.ndarray,
    options: RefinementOptions,
    correlated: float,
    history: list[Step],
) -> tuple[Problem, State]:
    """Fit in rounds until nothing moves; `correlated` as in :data:`CORRELATED`."""
    simulated, before, idle = model.simulate(parameters), np.inf, 0
    for number in range(options.rounds):
        positions = parameters[model.layout.positions].reshape(-1, 3)
        problem = Problem(
            model,
            replace(priors, distances=Distances.of(model.numbers, positions)),
            Weighting.of(model.measurement, simulated.values, simulated.valid, correlated),
        )
        state = problem.solve(problem.judged(parameters, simulated), options.iterations)
        moved = np.abs(state.parameters - parameters)[model.layout.positions].max()
        parameters, simulated = state.parameters, state.simulated
        now = misfit(problem, state)
        history.append(Step(f"round {number + 1}", state.loss, now))
        idle = idle + 1 if now > (1 - _PROGRESS) * before and moved < _MOVE else 0
        before = min(before, now)
        if idle == _IDLE:
            break
    return problem, state
