"""What is under the tip, for any tip."""

import numpy as np

from twinscope.drivers.common.units import ANGSTROM
from twinscope.drivers.simulator.imaging import Imaging
from twinscope.drivers.simulator.options import SimulatorOptions
from twinscope.drivers.simulator.sample import load_sample
from twinscope.drivers.simulator.surface import Surface
from twinscope.drivers.simulator.world import World
from twinscope.drivers.simulator.world_options import WorldOptions
from twinscope.kernels import Cantilever, Tip


class Specimen:
    """A sample or a world, as each tip sees it.

    Parameters
    ----------
    options
        Of the simulator.
    tip
        The tip that is there at first.

    Raises
    ------
    ConfigurationError
        When the sample or the world cannot be made.
    """

    def __init__(self, options: SimulatorOptions, tip: Tip) -> None:
        self._options = options
        self._surfaces: dict[int | str, Surface] = {}
        self.surface = self.under(tip)
        """As the first tip sees it."""
        self.cantilever = Cantilever(options.resonance_frequency, options.spring_constant, options.amplitude / ANGSTROM)
        """The force sensor."""

    @property
    def reach(self) -> float:
        """How far x and y go to either side, in m."""
        surface = self.surface
        return surface.options.size / 2 if isinstance(surface, World) else self._options.lateral_range

    @property
    def depth(self) -> float:
        """How far z may go below the lowest height, in m: over lower terraces there is room."""
        return self._options.terrace_depth if isinstance(self.surface, World) else 0.0

    @property
    def lowest_height(self) -> float:
        """The least height above the ground, in m: there the tip touches the sample."""
        # Not by rounding: an image at this very height is allowed.
        return self._options.lowest_height * (1 - 1e-3)

    def under(self, tip: Tip) -> Surface:
        """Return the surface, whose metal feels the element of the probe."""
        if tip.element not in self._surfaces:
            self._surfaces[tip.element] = _surface(self._options, tip)
        return self._surfaces[tip.element]

    def imaging(self, tip: Tip, bias: float) -> Imaging:
        """Return what a tip sees, at a bias in V."""
        return Imaging(self.under(tip), tip, self.cantilever, bias)

    def ground(self, points: np.ndarray) -> np.ndarray:
        """Height of flat molecules at positions (n, 2), all in m; zero on the reference terrace."""
        return self.surface.ground(points / ANGSTROM) * ANGSTROM

    def touches(self, points: np.ndarray, heights: np.ndarray) -> bool:
        """Whether the tip is too low anywhere: at positions (n, 2) and heights (n,), in m."""
        return bool((heights < self.ground(points) + self.lowest_height).any())


def _surface(options: SimulatorOptions, tip: Tip) -> Surface:
    if options.world is not None:
        return World(WorldOptions.from_mapping(options.world), tip, options.seed)
    sample = "pentacene" if options.sample is None else options.sample
    return load_sample(sample, tip, options.orientation, options.surface, options.surface_distance / ANGSTROM)
