"""What a world is made of."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ase.data import reference_states

from twinscope.errors import ConfigurationError
from twinscope.kernels import atomic_number

# From and to, in the units of the fields.
_BOUNDS = {
    "size": (1e-9, 1e-4),
    "density": (0.0, 1e19),
    "aligned": (0.0, 1.0),
    "tilted": (0.0, 1.0),
    # What is tilted more stands rather than lies.
    "largest_tilt": (0.0, 30.0),
    "flipped": (0.0, 1.0),
    # An island is kept where no other is in its way: hardly more than this finds room.
    "islands": (0.0, 0.12),
    "island_radius": (1e-9, 5e-8),
    "lattice_angle": (-360.0, 360.0),
    "distance": (1e-10, 1e-9),
    # The meander of steps that are closer would leave no room for a molecule.
    "step_density": (0.0, 2e8),
    "step_direction": (-360.0, 360.0),
    "decorated": (0.0, 1.0),
    "contamination": (0.0, 1e18),
}
# Of a kind of molecules, and its inverse.
_LEAST_SHARE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldOptions:
    """A (111) surface of a metal with molecules at random, in SI units.

    Attributes
    ----------
    size
        The tip goes from minus to plus half of it in x and y, in m.
    seed
        Of everything that is random; None for the seed of the simulator.
    molecules
        How many there are of each kind, relative to each other: names of the library, or files.
    density
        Of the molecules between islands and steps, in 1/m².
    aligned
        Fraction of these that lie along one of the dense rows of the metal; the others are turned at random.
    tilted, largest_tilt
        Fraction of them, if flat, that are tilted, and by how much at most, in degrees.
    flipped
        Fraction of them, if flat, that lie on their other side.
    islands, island_radius
        Fraction of the surface under close-packed islands, and their mean radius, in m.
    substrate
        Symbol of a metal with an fcc lattice.
    lattice_angle
        Of a dense row, counter-clockwise from x, in degrees.
    distance
        From the surface of the metal to a flat molecule, in m.
    step_density
        Steps per m, across them.
    step_direction
        Down the steps, counter-clockwise from x, in degrees.
    decorated
        Fraction of the lower sides of the steps that molecules line.
    contamination
        Adatoms, CO molecules and clumps of metal, in 1/m².
    """

    size: float = 1e-6
    seed: int | None = None
    molecules: Mapping[str, float] = field(default_factory=lambda: {"ptcda": 1.0, "pentacene": 1.0, "coronene": 1.0})
    density: float = 3e16
    aligned: float = 0.5
    tilted: float = 0.1
    largest_tilt: float = 5.0
    flipped: float = 0.5
    islands: float = 0.06
    island_radius: float = 4e-9
    substrate: str = "Au"
    lattice_angle: float = 0.0
    distance: float = 3e-10
    step_density: float = 2e7
    step_direction: float = 20.0
    decorated: float = 0.3
    contamination: float = 3e15

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            object.__setattr__(self, name, _number(name, getattr(self, name), low, high))
        self._check_seed()
        self._check_molecules()
        self._check_substrate()

    @property
    def layer_spacing(self) -> float:
        """Between the (111) layers of the metal, the height of a step, in Å."""
        state: dict[str, Any] = reference_states[atomic_number(self.substrate)] or {}
        return float(state["a"]) / math.sqrt(3)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "WorldOptions":
        """Build from the simulator's option `world`.

        Raises
        ------
        ConfigurationError
            When a name is unknown or a value is wrong; the message names it.
        """
        if not isinstance(mapping, Mapping):
            raise ConfigurationError(
                f"world is {mapping!r}: expected a mapping of options, {{}} for the usual world", name="world"
            )
        known = [one.name for one in fields(cls)]
        unknown = sorted(set(mapping) - set(known))
        if unknown:
            raise ConfigurationError(
                f"unknown option of a world {unknown[0]!r}: expected {', '.join(known)}", name="world"
            )
        return cls(**mapping)

    def _check_seed(self) -> None:
        if self.seed is not None and (not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0):
            raise ConfigurationError(
                f"the world's seed is {self.seed!r}: expected a whole number, zero or above", name="world"
            )

    def _check_molecules(self) -> None:
        if not isinstance(self.molecules, Mapping) or not self.molecules:
            raise ConfigurationError(
                f"the world's molecules are {self.molecules!r}: expected a mapping of names to numbers above zero",
                name="world",
            )
        weights = {
            str(name): _number(f"molecules[{name!r}]", weight, _LEAST_SHARE, 1 / _LEAST_SHARE)
            for name, weight in self.molecules.items()
        }
        object.__setattr__(self, "molecules", weights)

    def _check_substrate(self) -> None:
        try:
            state: dict[str, Any] = reference_states[atomic_number(self.substrate)] or {}
        except (ValueError, TypeError, AttributeError):
            state = {}
        if state.get("symmetry") != "fcc":
            raise ConfigurationError(
                f"the world's substrate is {self.substrate!r}: expected the symbol of an fcc metal, such as Cu, Ag, Au",
                name="world",
            )


def _number(name: str, value: Any, low: float, high: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number <= high:
        raise ConfigurationError(
            f"the world's {name} is {value!r}: expected a number from {low:g} to {high:g}", name="world"
        )
    return number
