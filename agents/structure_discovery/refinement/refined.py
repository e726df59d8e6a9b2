"""What a refinement finds."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from twinscope.agents.structure_discovery.structure import Structure
from twinscope.kernels import Tip


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a refinement: what was done, the loss after it, and what is left, as a part of the contrast."""

    action: str
    loss: float
    residual: float


@dataclass(frozen=True, eq=False)
class Refined:
    """A structure that explains a stack, as far as one does.

    Attributes
    ----------
    structure
        The atoms, with standard deviations of their positions and probabilities of their elements.
    conditions
        Value and standard deviation by the names of prediction.CONDITIONS, and "tip_quadrupole" in e Å².
    tip
        The tip with these conditions.
    slices
        Indices of the slices that were compared, shape (m,).
    residual, noise, contrast
        Root mean square of what is left, standard deviation of the noise, and of the image, in N/m, shape (m,).
    believable
        Whether the simulation explains the stack down to its noise and the error that a model may have, and no atom is
        far likelier another element. It is no proof. Of 32 fits of a network's structures to noisy simulated stacks (12
        molecules, several settings of the fit, at most 500 pixels a slice, a model error of 0.05) it held for all 9
        structures with all atoms near the top and the right elements, and for 10 of the 23 others.
    reason
        Why, for people; and how many atoms may be other elements, as far as is to be seen.
    x, y
        Å, shapes (nx,) and (ny,): the pixels that were compared.
    simulated, measured
        Force gradients in N/m, shape (m, ny, nx); NaN where the simulation has none or nothing was measured.
    history
        What was done.
    changed
        Whether elements or the number of atoms may differ from those of the start: False where the atoms only moved.
    """

    structure: Structure
    conditions: Mapping[str, tuple[float, float]]
    tip: Tip
    slices: np.ndarray
    residual: np.ndarray
    noise: np.ndarray
    contrast: np.ndarray
    believable: bool
    reason: str
    x: np.ndarray
    y: np.ndarray
    simulated: np.ndarray
    measured: np.ndarray
    history: tuple[Step, ...]
    changed: bool = False
