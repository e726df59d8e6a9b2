"""Refinement of a structure against a stack: the simulation is fitted to the measurement."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from twinscope.agents.structure_discovery.refinement.beliefs import Beliefs
from twinscope.agents.structure_discovery.refinement.hidden import lattice
from twinscope.agents.structure_discovery.refinement.measurement import select
from twinscope.agents.structure_discovery.refinement.model import Model
from twinscope.agents.structure_discovery.refinement.options import RefinementOptions
from twinscope.agents.structure_discovery.refinement.parameters import CO_TIPS, TIP
from twinscope.agents.structure_discovery.refinement.priors import Priors, priors_of
from twinscope.agents.structure_discovery.refinement.refined import Refined, Step
from twinscope.agents.structure_discovery.refinement.result import misfit, refined_of
from twinscope.agents.structure_discovery.refinement.rounds import CORRELATED, at_best_height, converged, in_rounds
from twinscope.agents.structure_discovery.refinement.search import Candidate, completed, with_changes
from twinscope.agents.structure_discovery.stack import ImageStack
from twinscope.agents.structure_discovery.structure import Structure
from twinscope.errors import InvalidRequestError
from twinscope.kernels import Tip

# Of a slice, and of the fit, to tell which tip it was: 12 of 12 were told right, with 2 rounds 11.
_FEW_PIXELS = 500
_FEW_ROUNDS = 4


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
        Its probe particle, radial spring and length are taken as they are, the rest is where to begin. None for CO: the
        one of :data:`~.parameters.CO_TIPS` that explains the stack better.
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

    With `change_atoms` the fit with other atoms is taken only where it is better, for the price of its changes, than
    the one in which the atoms of the start have only moved; `changed` tells which it is.
    """
    options = options or RefinementOptions()
    conditions = conditions or {}
    if not len(structure):
        raise InvalidRequestError("the structure has no atoms: expected at least one to refine")
    unknown = sorted(set(conditions) - set(TIP))
    if unknown:
        raise InvalidRequestError(f"unknown conditions {', '.join(unknown)}: expected some of {', '.join(TIP)}")
    if tip is None:
        tip = _likelier_tip(stack, structure, conditions, options)
    history: list[Step] = []
    fit = _Fit.of(stack, structure, tip, conditions, options, history)
    best = fit.relaxed
    if options.change_atoms:
        changed = fit.changed(options, history)
        better = changed.better_than(best, options)
        best = changed if better else best
        what = "changed atoms are kept" if better else "changed atoms are dropped for the relaxed ones"
        history.append(Step(what, best.state.loss, misfit(best.problem, best.state)))
    other_atoms = best.problem.model is not fit.model
    return refined_of(best.problem, best.state, best.beliefs, options, tuple(history), changed=other_atoms)


def _likelier_tip(
    stack: ImageStack, structure: Structure, conditions: Mapping[str, tuple[float, float]], options: RefinementOptions
) -> Tip:
    """Choose the CO tip that explains some of the pixels better."""
    few = replace(options, pixels=min(options.pixels, _FEW_PIXELS), rounds=min(options.rounds, _FEW_ROUNDS))
    first, *others = (_Fit.of(stack, structure, one, conditions, few, []) for one in CO_TIPS)
    for other in others:
        first = other if other.relaxed.better_than(first.relaxed, options) else first
    return first.model.tip


@dataclass(frozen=True, eq=False)
class _Fit:
    """A fit of the atoms of the start with one tip: what it begins with, and where it ended."""

    model: Model
    priors: Priors
    start: np.ndarray
    relaxed: Candidate

    @classmethod
    def of(
        cls,
        stack: ImageStack,
        structure: Structure,
        tip: Tip,
        conditions: Mapping[str, tuple[float, float]],
        options: RefinementOptions,
        history: list[Step],
    ) -> Self:
        measurement = select(stack, structure.positions, options)
        places = lattice(measurement.x, measurement.y) if options.hidden_matter else np.zeros((0, 3))
        model = Model(measurement, np.asarray(structure.numbers), tip, places)
        priors = priors_of(structure, tip, model.layout, conditions)
        start = at_best_height(model, priors)
        relaxed = Candidate(*converged(model, priors, start, options, history), Beliefs.of(structure))
        return cls(model, priors, start, relaxed)

    def changed(self, options: RefinementOptions, history: list[Step]) -> Candidate:
        """Fit with other atoms, from the start again: add what is missing first, then change what does not fit."""
        early = in_rounds(self.model, self.priors, self.start, replace(options, rounds=1), CORRELATED[0], history)
        whole = completed(Candidate(*early, self.relaxed.beliefs), options, history)
        parameters = whole.state.parameters
        fitted = in_rounds(whole.problem.model, whole.problem.priors, parameters, options, CORRELATED[0], history)
        return with_changes(Candidate(*fitted, whole.beliefs, whole.price), options, history)
