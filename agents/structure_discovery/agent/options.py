"""What an agent is asked to do, and what it may spend."""

from dataclasses import dataclass, fields

from twinscope.errors import InvalidRequestError
from twinscope.requests import Z_MODES

_NO_POSITIVE_NUMBER = ("center", "setpoint", "z_mode", "bands", "refine", "second_tip", "first_slices", "second_slices")
_MAY_BE_ZERO = ("margin",)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryOptions:
    """Settings of a :class:`~twinscope.agents.structure_discovery.agent.StructureDiscoveryAgent`, in SI units.

    Attributes
    ----------
    center, size
        Of the area in which molecules are looked for, in m.
    margin
        The overview reaches so far beyond the area, in m: molecules at its edge are whole in it.
    overview_pitch, overview_speed
        Of its pixels, in m, and of the tip, in m/s.
    z_mode, setpoint
        Of the overview; None for what the instrument has and the sample allows: constant current with 5 pA, or else
        constant height.
    shortest, longest
        Lengths of the molecules that are looked for, in m.
    molecules
        How many are solved.
    budget
        Instrument time for everything, in s.
    target_sigma
        A molecule is known when the mean standard deviation of its height maps is below this, in m.
    line_time, coarse_line_time
        Seconds per line of a slice, and of the small images of the approach.
    first_slices
        Which slices are measured before the first prediction, 0 for the highest and 9 for the lowest.
    bands
        Whether a slice may be only the band of lines in which the doubt is; else all of its lines are measured.
    update_lines
        How many lines are measured between two live predictions.
    highest_frequency_shift
        A slice ends where the frequency shift is above this, in Hz: the tip is too near.
    refine
        Whether the structure is fitted to the stack in the end.
    second_tip
        What is put at the end of the tip after all molecules were measured, to measure those again whose charges are
        not known well enough: "Xe"; None not to change the tip. It should be like that of the network's training.
    target_field_sigma
        The charges of a molecule are known when the mean standard deviation of its electrostatic map is below this, in
        V/m.
    second_slices
        Which slices are measured with the second tip until they are, in this order.
    exchange_time
        Budget that is put aside for an exchange of the tip, in s.

    Raises
    ------
    InvalidRequestError
        When a value makes no sense.
    """

    center: tuple[float, float] = (0.0, 0.0)
    size: tuple[float, float] = (3e-8, 3e-8)
    margin: float = 1.5e-9
    overview_pitch: float = 2.5e-10
    overview_speed: float = 3e-8
    z_mode: str | None = None
    setpoint: float | None = None
    shortest: float = 5e-10
    longest: float = 2e-9
    molecules: int = 1
    budget: float = 7200.0
    target_sigma: float = 1e-11
    line_time: float = 0.5
    coarse_line_time: float = 0.3
    first_slices: tuple[int, ...] = (2, 6)
    bands: bool = True
    update_lines: int = 32
    highest_frequency_shift: float = 60.0
    refine: bool = True
    second_tip: str | None = None
    target_field_sigma: float = 1e8
    second_slices: tuple[int, ...] = (4, 8, 0, 6, 2)
    exchange_time: float = 900.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name not in _NO_POSITIVE_NUMBER:
                _check_positive(field.name, getattr(self, field.name))
        if self.z_mode is not None and self.z_mode not in Z_MODES:
            raise InvalidRequestError(
                f"z_mode is {self.z_mode!r}: expected {', '.join(Z_MODES)} or None", name="z_mode"
            )
        for name in ("first_slices", "second_slices"):
            slices = getattr(self, name)
            if not slices or min(slices) < 0:
                raise InvalidRequestError(
                    f"{name} is {slices}: expected one or more numbers of slices from 0 on", name=name
                )
        if self.shortest >= self.longest:
            raise InvalidRequestError(
                f"shortest is {self.shortest} m and longest {self.longest} m: expected the longest to be longer",
                name="shortest",
            )


def _check_positive(name: str, value: float | tuple[float, float]) -> None:
    for number in value if isinstance(value, tuple) else (value,):
        if not (number > 0 or (number == 0 and name in _MAY_BE_ZERO)):
            raise InvalidRequestError(f"{name} is {value}: expected a number above zero", name=name)
