"""Options of the simulator."""

from dataclasses import dataclass, fields
from typing import Any

from twinscope.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorOptions:
    """How the simulated microscope is set up, in SI units.

    Attributes
    ----------
    sample
        Name of a molecule of the library, or path of a file that ASE can read.
    orientation
        "file" leaves the atoms as they are; "flat" lays a molecule flat.
    surface, surface_distance
        Symbol of a metal to put under the atoms, and its distance from the lowest, in m.
    tip
        "CO", "Xe", "Cl", "H2O", "Cu" (bare and stiff), or a mapping of the fields of :class:`twinscope.kernels.Tip`.
    amplitude
        Oscillation amplitude, peak to peak, in m.
    resonance_frequency, spring_constant
        Of the force sensor, in Hz and N/m.
    noise
        Standard deviation of white noise on the frequency shift, in Hz.
    seed
        Of all randomness.
    clock
        "realtime", "accelerated" (does not wait), or how many times faster than real time.
    lateral_range
        x and y go from minus to plus this, in m.
    closest_approach
        The lowest point of the oscillation may come as near as this to the sample's highest atom, in m.
    withdrawn_height, working_height
        Height of the tip after a withdrawal and after an approach, in m. The microscope starts approached.
    lateral_speed, vertical_speed
        Of moves, in m/s.
    largest_acquisition
        Bytes of data in one acquisition.
    """

    sample: str = "pentacene"
    orientation: str = "file"
    surface: str | None = None
    surface_distance: float = 3e-10
    tip: Any = "CO"
    amplitude: float = 1e-10
    resonance_frequency: float = 30300.0
    spring_constant: float = 1800.0
    noise: float = 0.0
    seed: int = 0
    clock: str | float = "accelerated"
    lateral_range: float = 50e-9
    closest_approach: float = 2e-10
    withdrawn_height: float = 5e-9
    working_height: float = 3.7e-10
    lateral_speed: float = 20e-9
    vertical_speed: float = 10e-9
    largest_acquisition: int = 2**30

    def __post_init__(self) -> None:
        not_negative = ("noise", "seed")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type not in (float, int):
                continue
            try:
                number = (int if field.type is int else float)(value)
            except (TypeError, ValueError):
                number = float("nan")
            if not (0 < number < float("inf") or (number == 0 and field.name in not_negative)):
                expected = "zero or above" if field.name in not_negative else "above zero"
                raise ConfigurationError(
                    f"the simulator option {field.name} is {value!r}: expected a finite number {expected}",
                    name=field.name,
                )
            object.__setattr__(self, field.name, number)
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
