"""Options of the simulator."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from twinscope.drivers.options import DriverOptions
from twinscope.errors import ConfigurationError

_NOT_NEGATIVE = ("noise", "seed")
_ANY_SIGN = ("bias",)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorOptions(DriverOptions):
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
        "CO", "Xe", "Cl", "H2O", "Cu" (bare and stiff), a name in `probes`, or a mapping of the fields of
        :class:`twinscope.kernels.Tip`.
    probes
        Further tips to exchange the first one for, by name, or others in the place of those: mappings as for `tip`.
    amplitude
        Oscillation amplitude, peak to peak, in m.
    resonance_frequency, spring_constant
        Of the force sensor, in Hz and N/m.
    realism
        What is imperfect: "clean", "low_temperature" or "room_temperature", or a mapping of the fields of
        :class:`~twinscope.drivers.common.realism.Realism`, with "profile" for what it starts from.
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
    tip_exchange_time
        How long it takes to put something else at the end of the tip, in s.
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
    probes: Mapping[str, Any] | None = None
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
    tip_exchange_time: float = 600.0
    oracle: bool = False
    largest_acquisition: int = 2**30

    def __post_init__(self) -> None:
        DriverOptions.__post_init__(self)
        for field in fields(self):
            if field.type in (float, int) and field.name not in _ANY_SIGN:
                _check_sign(field.name, getattr(self, field.name))
        for name in ("sample", "surface"):
            if self.world is not None and getattr(self, name) is not None:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name)!r} but there is a world, which has its own: give one of them",
                    name=name,
                )
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


def _check_sign(name: str, value: float) -> None:
    if value < 0 or (value == 0 and name not in _NOT_NEGATIVE):
        allowed = "of zero or above" if name in _NOT_NEGATIVE else "above zero"
        raise ConfigurationError(f"the option {name} is {value!r}: expected a number {allowed}", name=name)
