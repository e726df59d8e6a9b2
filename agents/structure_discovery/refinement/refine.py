"""Refinement of a structure against a stack: the simulation is fitted to the measurement."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from twinscope.agents.structure_discovery.refinement.beliefs import Beliefs
from twinscope.agents.structure_discovery.refinement.hidden import lattice
from twinscope.agents.structure_discovery.refinement.measurement import select
from twinscope.agents.structure_discovery.refinement.model import Model
from twinscope.agents.structure_discovery.refinement.options import RefinementOptions
from twinscope.agents.structure_discovery.refinement.parameters import TIP
from twinscope.agents.structure_discovery.refinement.priors import priors_of
from twinscope.agents.structure_discovery.refinement.refined import Refined, Step
from twinscope.agents.structure_discovery.refinement.result import refined_of
from twinscope.agents.structure_discovery.refinement.rounds import CORRELATED, at_best_height, converged, in_rounds
from twinscope.agents.structure_discovery.refinement.search import completed, with_changes
from twinscope.agents.structure_discovery.stack import ImageStack
from twinscope.agents.structure_discovery.structure import Structure
from twinscope.errors import InvalidRequestError
from twinscope.kernels import Tip


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
    beliefs, start = Beliefs.of(structure), at_best_height(model, priors)
    if options.change_atoms:
        early = in_rounds(model, priors, start, replace(options, rounds=1), CORRELATED[0], history)
        problem, state, beliefs = completed(*early, beliefs, options, history)
        whole = in_rounds(problem.model, problem.priors, state.parameters, options, CORRELATED[0], history)
        problem, state, beliefs = with_changes(*whole, beliefs, options, history)
    else:
        problem, state = converged(model, priors, start, options, history)
    return refined_of(problem, state, beliefs, options, tuple(history))
