"""What every part of the work on molecules uses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from twinscope.agents.structure_discovery.agent.operator import Operator
from twinscope.agents.structure_discovery.agent.options import DiscoveryOptions
from twinscope.agents.structure_discovery.agent.planning import StackPredictor
from twinscope.agents.structure_discovery.prediction import Prediction
from twinscope.agents.structure_discovery.refinement import Refined
from twinscope.agents.structure_discovery.stack import ImageStack, StackGrid
from twinscope.agents.structure_discovery.structure import Structure


class Refiner(Protocol):
    """Fits a structure to a stack, such as :func:`~twinscope.agents.structure_discovery.refinement.refine`."""

    def __call__(
        self, stack: ImageStack, structure: Structure, *, conditions: Mapping[str, tuple[float, float]]
    ) -> Refined:
        """Return what was found, beginning with the conditions of the prediction."""


@dataclass(frozen=True, slots=True)
class LiveProgress:
    """How far the measurement of a molecule is.

    Attributes
    ----------
    molecule
        Number of the molecule, from 0.
    layer
        The slice in progress, from far to near.
    lines, total
        Lines of it that are done, and all.
    time
        Instrument time at the end of the measurement before, in s.
    """

    molecule: int
    layer: int
    lines: int
    total: int
    time: float


OnUpdate = Callable[[Prediction, LiveProgress], None]


@dataclass(frozen=True, eq=False)
class Equipment:
    """Hands, networks and orders.

    Attributes
    ----------
    operator
        Of the microscope.
    predictor, refiner
        Make molecules of stacks, and fit them; no refiner leaves structures as predicted.
    options
        What is asked for.
    grid
        Of the predictor.
    on_update
        Called with each prediction, if anybody listens.
    """

    operator: Operator
    predictor: StackPredictor
    refiner: Refiner | None
    options: DiscoveryOptions
    grid: StackGrid
    on_update: OnUpdate | None

    @property
    def frame_size(self) -> float:
        """Side of the frame around a molecule, in Å."""
        return self.grid.pixels * self.grid.pitch
