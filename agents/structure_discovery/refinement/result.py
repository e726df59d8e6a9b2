"""From the end of a fit to what is told about it."""

from dataclasses import replace

import numpy as np

from twinscope.agents.structure_discovery.refinement.beliefs import Beliefs
from twinscope.agents.structure_discovery.refinement.changes import replacements
from twinscope.agents.structure_discovery.refinement.chemistry import find_bonds
from twinscope.agents.structure_discovery.refinement.choice import element_probabilities
from twinscope.agents.structure_discovery.refinement.effects import effects_of
from twinscope.agents.structure_discovery.refinement.options import RefinementOptions
from twinscope.agents.structure_discovery.refinement.parameters import TIP
from twinscope.agents.structure_discovery.refinement.refined import Refined, Step
from twinscope.agents.structure_discovery.refinement.solver import Normal, Problem, State
from twinscope.agents.structure_discovery.refinement.weighting import Weighting
from twinscope.agents.structure_discovery.structure import NUMBERS, Structure

# What is left may be this many times what noise and model explain.
_TOLERATED = 1.5
_FEWEST_VALID = 0.7
# A condition farther from what was told than this many standard deviations is not believed.
_FARTHEST = 4.0
# An element less likely than the first is uncertain, and one less likely than the second is not believed.
_SURE, _UNLIKELY = 0.9, 0.05
_MOST_CORRELATED = 0.9


def misfit(problem: Problem, state: State) -> float:
    """Root mean square of what is left, as a part of the contrast, both compressed."""
    known = problem.model.measurement.measured.reshape(state.simulated.values.shape) & state.simulated.valid
    compressed = problem.weighting.compressed
    left = compressed - np.arcsinh(state.simulated.values / problem.weighting.scale)
    if not known.any():
        return np.inf
    return float(np.sqrt(np.mean(left[known] ** 2)) / np.std(compressed[known]))


def residual_rms(problem: Problem, state: State) -> np.ndarray:
    """Root mean square of what is left in each slice, in N/m, shape (nz,); NaN where nothing can be compared."""
    left = _left(problem, state)
    known = np.isfinite(left)
    total = np.where(known, left, 0) ** 2
    count = known.sum(axis=(1, 2))
    return np.sqrt(np.divide(total.sum(axis=(1, 2)), count, out=np.full(len(left), np.nan), where=count > 0))


def unexplained(problem: Problem, state: State) -> float:
    """Root mean square of what noise does not explain of what is left, as a part of the contrast.

    What is left of a wrong structure is alike in neighbouring slices, noise is not: this shows errors far below it.
    """
    left = _left(problem, state) / problem.model.measurement.contrast[:, None, None]
    alike = left[1:] * left[:-1]
    known = alike[np.isfinite(alike)]
    return float(np.sqrt(max(known.mean(), 0.0))) if len(known) else np.inf


def verdict(problem: Problem, state: State, options: RefinementOptions) -> tuple[bool, str]:
    """Tell whether the fit explains the measurement, and why."""
    measurement = problem.model.measurement
    compared = (state.simulated.valid & measurement.measured.reshape(state.simulated.valid.shape)).sum()
    part = compared / measurement.measured.sum()
    if part < _FEWEST_VALID:
        return False, f"the simulated probe is unstable in {1 - part:.0%} of the pixels: the tip may be higher"
    explained = np.hypot(measurement.noise, options.model_error * measurement.contrast)
    ratio = float(np.sqrt(np.nanmean((residual_rms(problem, state) / explained) ** 2)))
    told = f"what is left is {ratio:.1f} times noise and a model error of {options.model_error:.0%}"
    if not ratio < _TOLERATED:
        return False, f"{told}: atoms are missing or wrong, or another minimum was found"
    alike = unexplained(problem, state)
    if np.isinf(alike):
        return False, "no two neighbouring slices can be compared: noise cannot be told from what is wrong"
    if not alike < options.model_error:
        return False, f"{alike:.1%} of the contrast is neither noise nor the simulation: atoms are missing or wrong"
    layout, priors = problem.model.layout, problem.priors
    parameters = state.parameters.copy()
    # Heights are told from the highest atom, which may be another one now.
    parameters[layout.tip.start] -= parameters[layout.positions].reshape(-1, 3)[:, 2].max()
    away = np.abs((parameters - priors.mean) / priors.sigma)[layout.tip]
    if away.max() > _FARTHEST:
        return False, f"{TIP[int(away.argmax())]} is {away.max():.0f} standard deviations from what was told"
    return True, told


def refined_of(
    problem: Problem,
    state: State,
    beliefs: Beliefs,
    options: RefinementOptions,
    history: tuple[Step, ...],
    *,
    changed: bool,
) -> Refined:
    """Put together what is told about a fit."""
    measurement, simulated = problem.model.measurement, state.simulated
    # The errors of a model are alike in neighbouring pixels: what seems many measurements are few.
    weighting = Weighting.of(measurement, simulated.values, simulated.valid, _MOST_CORRELATED)
    normal = replace(problem, weighting=weighting).normal(state)
    effects = effects_of(replace(problem, weighting=weighting), state, normal, replacements(problem, state))
    positions = state.parameters[problem.model.layout.positions].reshape(-1, 3)
    probabilities = element_probabilities(effects, problem.model.numbers, positions, beliefs)
    believable, reason = _judged(*verdict(problem, state, options), probabilities, problem.model.numbers)
    shape = measurement.values.shape
    return Refined(
        _structure(problem, state, normal, probabilities),
        _conditions(problem, state, normal),
        state.simulated.tip,
        measurement.slices,
        residual_rms(problem, state),
        measurement.noise,
        measurement.contrast,
        believable,
        reason,
        measurement.x,
        measurement.y,
        np.where(state.simulated.valid, state.simulated.values, np.nan).reshape(shape),
        np.where(measurement.measured, measurement.values, np.nan),
        history,
        changed,
    )


def _left(problem: Problem, state: State) -> np.ndarray:
    measurement = problem.model.measurement
    simulated = np.where(state.simulated.valid, state.simulated.values, np.nan).reshape(measurement.values.shape)
    return np.where(measurement.measured, measurement.values, np.nan) - simulated


def _structure(problem: Problem, state: State, normal: Normal, probabilities: np.ndarray) -> Structure:
    layout, numbers = problem.model.layout, problem.model.numbers
    positions = state.parameters[layout.positions].reshape(-1, 3)
    top = int(positions[:, 2].argmax())
    covariance = normal.covariance
    variances = np.diag(covariance)[layout.positions].reshape(-1, 3).copy()
    # Depths are counted from the highest atom, which may itself be anywhere.
    depths = np.arange(layout.atoms) * 3 + 2
    variances[:, 2] += covariance[depths[top], depths[top]] - 2 * covariance[depths, depths[top]]
    bonds = find_bonds(numbers, positions)
    return Structure(
        numbers,
        positions - np.array([0.0, 0.0, positions[top, 2]]),
        np.ones(layout.atoms),
        probabilities,
        np.sqrt(np.maximum(variances, 0)),
        bonds,
        np.ones(len(bonds)),
        state.parameters[layout.charges],
    )


def _conditions(problem: Problem, state: State, normal: Normal) -> dict[str, tuple[float, float]]:
    layout = problem.model.layout
    positions = state.parameters[layout.positions].reshape(-1, 3)
    top = int(positions[:, 2].argmax())
    values = state.parameters[layout.tip].copy()
    values[0] -= positions[top, 2]
    covariance = normal.covariance
    variances = np.diag(covariance)[layout.tip].copy()
    depth, height = 3 * top + 2, layout.tip.start
    variances[0] += covariance[depth, depth] - 2 * covariance[height, depth]
    sigma = np.sqrt(np.maximum(variances, 0))
    return {name: (float(value), float(width)) for name, value, width in zip(TIP, values, sigma, strict=True)}


def _judged(believable: bool, reason: str, probabilities: np.ndarray, numbers: np.ndarray) -> tuple[bool, str]:
    """Add to a verdict what is to be thought of the elements (n,) with their probabilities (n, len(NUMBERS))."""
    known = np.isin(numbers, NUMBERS)
    chosen = probabilities[known, [NUMBERS.index(int(number)) for number in numbers[known]]]
    unsure, unlikely = np.count_nonzero(chosen < _SURE), np.count_nonzero(chosen < _UNLIKELY)
    if unlikely:
        return False, f"{reason}; {unlikely} of {len(numbers)} atoms are rather other elements"
    if unsure:
        return believable, f"{reason}; the elements of {unsure} of {len(numbers)} atoms are uncertain"
    return believable, reason
