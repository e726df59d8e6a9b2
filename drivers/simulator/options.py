"""Options of the simulator."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from twinscope.errors import ConfigurationError

_NOT_NEGATIVE = ("noise", "seed")
_ANY_SIGN = ("bias",)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorOptions:
    """How the simulated microscope is set up, in SI units.

    Attributes
    ----------
    sample
        Name of a molecule of the library, or path of a file that ASE can read; None for pentacene, or for the world.
    world
        A mapping of the fields of :class:`~twinscope.drivers.simulator.world_options.WorldOptions`, which takes the
        place of the sample: a metal with very many molecules. {} is the usual one; None for a sample.
    orientation
        "file" leaves the atoms as they are; "flat" lays a molecule flat.
    surface, surface_distance
        Symbol of a metal to put under the atoms, and its distance from the lowest, in m.
    bias
        Of the sample, in V: for the current, no force comes from it.
    tip
        "CO", "Xe", "Cl", "H2O", "Cu" (bare and stiff), or a mapping of the fields of :class:`twinscope.kernels.Tip`.
    amplitude
        Oscillation amplitude, peak to peak, in m.
    resonance_frequency, spring_constant
        Of the force sensor, in Hz and N/m.
    realism
        What is imperfect: "clean", "low_temperature" or "room_temperature", or a mapping of the fields of
        :class:`~twinscope.drivers.simulator.realism.Realism`, with "profile" for what it starts from.
    noise
        Standard deviation of white noise on the frequency shift, in Hz.
    seed
        Of all randomness.
    clock
        "realtime", "accelerated" (does not wait), or how many times faster than real time.
    lateral_range
        x and y go from minus to plus this, in m; over a world to the end of its size.
    closest_approach
        The lowest point of the oscillation may come as near as this to the sample's highest atom, in m.
    terrace_depth
        Over a world z may go lower than the closest approach by this, in m: to lower terraces.
    withdrawn_height, working_height
        Height of the tip after a withdrawal and after an approach, in m. The microscope starts approached.
    lateral_speed, vertical_speed
        Of moves, in m/s.
    oracle
        Whether the truth about the sample and the tip is told to an administrator who asks for it.
    largest_acquisition
        Bytes of data in one acquisition.
    """

    sample: str | None = None
    world: Mapping[str, Any] | None = None
    orientation: str = "file"
    surface: str | None = None
    surface_distance: float = 3e-10
    bias: float = 0.1
    tip: Any = "CO"
    amplitude: float = 1e-10
    resonance_frequency: float = 30300.0
    spring_constant: float = 1800.0
    realism: Any = "clean"
    noise: float = 0.0
    seed: int = 0
    clock: str | float = "accelerated"
    lateral_range: float = 50e-9
    closest_approach: float = 2e-10
    terrace_depth: float = 3e-9
    withdrawn_height: float = 5e-9
    working_height: float = 3.7e-10
    lateral_speed: float = 20e-9
    vertical_speed: float = 10e-9
    oracle: bool = False
    largest_acquisition: int = 2**30

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.type in (float, int):
                object.__setattr__(self, field.name, _number(field.name, getattr(self, field.name), field.type is int))
        for name in ("sample", "surface"):
            if self.world is not None and getattr(self, name) is not None:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)!r} but there is a world, which has its own: give one of them",
                    name=name,
                )
        if not isinstance(self.oracle, bool):
            raise ConfigurationError(f"oracle is {self.oracle!r}: expected true or false", name="oracle")
        if not self.lowest_height < self.working_height < self.withdrawn_height:
            raise ConfigurationError(
                f"working_height is {self.working_height} m: expected it between {self.lowest_height:.4g} m (the"
                f" closest approach plus half the amplitude) and the withdrawn height, {self.withdrawn_height} m",
                name="working_height",
            )

    @property
    def lowest_height(self) -> float:
        """The lowest allowed middle of the oscillation, in m."""
        return self.closest_approach + self.amplitude / 2

    @classmethod
    def from_keywords(cls, keywords: dict[str, Any]) -> "SimulatorOptions":
        """Build from keywords.

        Raises
        ------
        ConfigurationError
            When a keyword is unknown or a value is wrong; the message names it.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(keywords) - set(known))
        if unknown:
            raise ConfigurationError(
                f"unknown simulator option {unknown[0]!r}: expected {', '.join(known)}", name=unknown[0]
            )
        return cls(**keywords)


def _number(name: str, value: Any, whole: bool) -> float:
    try:
        number = (int if whole else float)(value)
    except (TypeError, ValueError):
        number = math.nan
    lowest = -math.inf if name in _ANY_SIGN else 0
    if not (lowest < number < math.inf or (number == 0 and name in _NOT_NEGATIVE)):
        allowed = " above zero"
        if name in (*_NOT_NEGATIVE, *_ANY_SIGN):
            allowed = " zero or above" if name in _NOT_NEGATIVE else ""
        raise ConfigurationError(
            f"the simulator option {name} is {value!r}: expected a finite number{allowed}", name=name
        )
    return number
