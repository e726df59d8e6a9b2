"""Refinement of a structure against a stack: the simulation is fitted to the measurement."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from twinscope.agents.structure_discovery.refinement.changes import Change, applied, proposals
from twinscope.agents.structure_discovery.refinement.hidden import lattice
from twinscope.agents.structure_discovery.refinement.measurement import select
from twinscope.agents.structure_discovery.refinement.model import Model
from twinscope.agents.structure_discovery.refinement.options import RefinementOptions
from twinscope.agents.structure_discovery.refinement.parameters import TIP
from twinscope.agents.structure_discovery.refinement.priors import Distances, Priors, priors_of
from twinscope.agents.structure_discovery.refinement.refined import Refined, Step
from twinscope.agents.structure_discovery.refinement.result import misfit, refined_of, verdict
from twinscope.agents.structure_discovery.refinement.solver import Problem, State
from twinscope.agents.structure_discovery.refinement.weighting import Weighting
from twinscope.agents.structure_discovery.stack import ImageStack
from twinscope.agents.structure_discovery.structure import Structure
from twinscope.errors import InvalidRequestError
from twinscope.kernels import Tip

# Neighbours count as correlated at most so much: the more, the more what is known holds the start. Tried in turn.
_CORRELATED = (0.33, 0.5, 0.2)
# Heights at which the fit may begin, in standard deviations from what is expected.
_OFFSETS = (0.0, -0.5, 0.5, -1.0, 1.0, 1.5)
# The fit ends after so many rounds in which what is left fell by less than this part and no atom moved farther (Å).
_IDLE, _PROGRESS, _MOVE = 2, 0.01, 0.005
# Proposals that are fitted at a time, how often new ones are made, and how far from each other new atoms are, in Å.
_TRIED, _PASSES, _APART = 4, 8, 1.0
# What a change costs: parameters, each of which must lower the loss by the logarithm of the number of values (Schwarz,
# Ann. Stat. 6, 461 (1978)). An atom has four, an element is chosen of ten.
_PRICE = {"replace": 1, "remove": -1, "add": 4}


def refine(
    stack: ImageStack,
    structure: Structure,
    *,
    tip: Tip | None = None,
    conditions: Mapping[str, tuple[float, float]] | None = None,
    options: RefinementOptions | None = None,
) -> Refined:
    """Move atoms and tip until the simulated images are the measured ones.

    Parameters
    ----------
    stack
        What was measured.
    structure
        Where to begin: atoms within some 0.3 Å of where they are, as a network predicts them. Their standard
        deviations are believed, but not below 0.15 Å.
    tip
        Its probe particle, radial spring and length are taken as they are, the rest is where to begin. None for CO.
    conditions
        What is known about the measurement, as value and standard deviation by the names of prediction.CONDITIONS, or
        "tip_quadrupole" (e Å²). What is not named has a wide standard deviation about the tip.
    options
        See there.

    Returns
    -------
    Refined
        Look at `believable` first.

    Raises
    ------
    InvalidRequestError
        When there are no atoms, a condition is unknown, or the stack has nothing where the atoms are.

    Notes
    -----
    Levenberg-Marquardt steps (Marquardt, J. Soc. Ind. Appl. Math. 11, 431 (1963)) with the derivatives of
    :func:`twinscope.kernels.sensitivity`. Besides the images, lengths of bonds, angles and typical charges count: they
    hold atoms that are hardly seen. After each round slices and pixels are weighed anew by what is left of them.
    """
    options = options or RefinementOptions()
    conditions = conditions or {}
    if not len(structure):
        raise InvalidRequestError("the structure has no atoms: expected at least one to refine")
    unknown = sorted(set(conditions) - set(TIP))
    if unknown:
        raise InvalidRequestError(f"unknown conditions {', '.join(unknown)}: expected some of {', '.join(TIP)}")
    tip = tip or Tip()
    measurement = select(stack, structure.positions, options)
    places = lattice(measurement.x, measurement.y) if options.hidden_matter else np.zeros((0, 3))
    model = Model(measurement, np.asarray(structure.numbers), tip, places)
    priors = priors_of(structure, tip, model.layout, conditions)
    history: list[Step] = []
    problem, state = _converged(model, priors, _at_best_height(model, priors), options, history)
    probabilities = structure.probabilities
    if options.change_atoms:
        problem, state, probabilities = _with_changes(problem, state, probabilities, options, history)
    return refined_of(problem, state, probabilities, options, tuple(history))


def _at_best_height(model: Model, priors: Priors) -> np.ndarray:
    """Return parameters to begin with: what is expected, at the height that leaves least."""
    index = model.layout.tip.start
    tried = []
    for offset in _OFFSETS:
        parameters = priors.mean.copy()
        parameters[index] += offset * priors.sigma[index]
        simulated = model.simulate(parameters)
        weighting = Weighting.of(model.measurement, simulated.values, simulated.valid, _CORRELATED[0])
        problem = Problem(model, priors, weighting)
        tried.append((misfit(problem, problem.judged(parameters, simulated)), offset, parameters))
    return min(tried, key=lambda entry: entry[:2])[2]


def _converged(
    model: Model, priors: Priors, parameters: np.ndarray, options: RefinementOptions, history: list[Step]
) -> tuple[Problem, State]:
    """Fit in rounds; from the start again with more or less trust in what is known, until the result is believable."""
    ends: list[tuple[Problem, State]] = []
    for correlated in _CORRELATED:
        ends.append(_in_rounds(model, priors, parameters, options, correlated, history))
        if verdict(*ends[-1], options)[0]:
            return ends[-1]
    return min(ends, key=lambda end: misfit(*end))


def _in_rounds(
    model: Model,
    priors: Priors,
    parameters: np.ndarray,
    options: RefinementOptions,
    correlated: float,
    history: list[Step],
) -> tuple[Problem, State]:
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


def _with_changes(
    problem: Problem, state: State, probabilities: np.ndarray, options: RefinementOptions, history: list[Step]
) -> tuple[Problem, State, np.ndarray]:
    """Change atoms as long as the loss falls by more than the parameters that it costs."""
    for _ in range(_PASSES):
        candidates = _best_of_each(proposals(problem, state, problem.normal(state)))
        for change in candidates[:_TRIED]:
            values = problem.model.measurement.measured.sum() / problem.weighting.repeats
            price = _PRICE[change.kind] * float(np.log(values))
            if change.gain < price:
                continue
            other, start = applied(change, problem, state.parameters)
            trial = other.solve(other.state(start), options.iterations * 2)
            if trial.loss + price < state.loss:
                history.append(Step(str(change), trial.loss, misfit(other, trial)))
                probabilities = _rearranged(probabilities, change)
                problem, state = _in_rounds(
                    other.model, other.priors, trial.parameters, options, _CORRELATED[0], history
                )
                break
        else:
            break
    return problem, state, probabilities


def _best_of_each(candidates: list[Change]) -> list[Change]:
    """Leave only the best proposal for each atom, and of new atoms those that are apart; best first."""
    chosen: list[Change] = []
    for change in candidates:
        rivals = [c for c in chosen if c.atom == change.atom]
        if all(change.atom < 0 and np.linalg.norm(c.position - change.position) > _APART for c in rivals):
            chosen.append(change)
        if len(chosen) == _TRIED:
            break
    return chosen


def _rearranged(probabilities: np.ndarray, change: Change) -> np.ndarray:
    if change.kind == "remove":
        return np.delete(probabilities, change.atom, axis=0)
    if change.kind == "add":
        return np.concatenate([probabilities, np.full((1, probabilities.shape[1]), 1 / probabilities.shape[1])])
    return probabilities
