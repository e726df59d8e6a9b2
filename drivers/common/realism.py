"""What is imperfect about the simulated microscope: one number for each imperfection, zero for none."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from twinscope import _checks
from twinscope._plain import PlainData, set_field
from twinscope.errors import ConfigurationError, InvalidRequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class Realism(PlainData):
    """Imperfections of a microscope, in SI units. Each is off at zero; models and sources stand in docs/kernels.md.

    Attributes
    ----------
    temperature
        K: thermal motion of the cantilever, as noise of the frequency shift.
    quality
        Quality factor of the cantilever, for its noise.
    detector_noise
        Of the deflection, in m/sqrt(Hz), as noise of the frequency shift.
    flicker
        1/f noise of the frequency shift at 1 Hz, in Hz/sqrt(Hz).
    current_noise
        White noise of the current, in A/sqrt(Hz).
    hum
        Amplitudes of the mains and its harmonics in the frequency shift, in Hz.
    mains_frequency
        Hz.
    pll_bandwidth
        Of the phase-locked loop, in Hz, at -3 dB; 0 for one that follows at once.
    vibration
        Root mean square of the distance between tip and sample, in m, as 1/f noise from 0.1 Hz to 1 kHz.
    drift_velocity
        Along x, y and z, in m/s.
    drift_relaxing, drift_time
        Drift that follows the start: its whole way along x, y and z, in m, and its time constant, in s.
    drift_diffusion
        Random walk, in m²/s.
    creep
        Part of each move that the piezo adds in a decade of time.
    hysteresis
        Width of the piezo's loop over its whole range, as a part of it.
    tilt
        Slope of the sample along x and y, in degrees.
    slew
        Fastest motion of the z-controller, in m/s; 0 for no limit.
    tip_change_rate
        Mean number of spontaneous tip changes per s.
    tip_change_tilt, tip_change_charge, tip_change_jump, tip_loss
        How far such a change goes: see :class:`twinscope.kernels.TipChange`; lengths in m.
    tip_radius, contact_potential
        Radius of the tip's body, in m, and its contact potential to the sample, in V: a force that depends on the bias.
    """

    temperature: float = 0.0
    quality: float = 30_000.0
    detector_noise: float = 0.0
    flicker: float = 0.0
    current_noise: float = 0.0
    hum: tuple[float, ...] = ()
    mains_frequency: float = 50.0
    pll_bandwidth: float = 0.0
    vibration: float = 0.0
    drift_velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)
    drift_relaxing: tuple[float, float, float] = (0.0, 0.0, 0.0)
    drift_time: float = 3600.0
    drift_diffusion: float = 0.0
    creep: float = 0.0
    hysteresis: float = 0.0
    tilt: tuple[float, float] = (0.0, 0.0)
    slew: float = 0.0
    tip_change_rate: float = 0.0
    tip_change_tilt: float = 3e-11
    tip_change_charge: float = 0.2
    tip_change_jump: float = 5e-11
    tip_loss: float = 0.1
    tip_radius: float = 0.0
    contact_potential: float = 0.0

    def __post_init__(self) -> None:
        try:
            for field in fields(self):
                set_field(self, field.name, _checked(field.name, getattr(self, field.name)))
        except InvalidRequestError as exc:
            raise ConfigurationError(f"realism: {exc.message}", name="realism") from exc
        if self.hysteresis >= 0.5 or self.tip_loss > 1:
            raise ConfigurationError(
                f"realism: hysteresis is {self.hysteresis} and tip_loss {self.tip_loss}: expected below 0.5 and at most"
                " 1",
                name="realism",
            )

    @property
    def moves(self) -> bool:
        """Whether the tip is anywhere else than it was sent to."""
        displaced = (*self.drift_velocity, *self.drift_relaxing, *self.tilt)
        return any(displaced) or any((self.drift_diffusion, self.creep, self.hysteresis, self.vibration))

    @property
    def is_clean(self) -> bool:
        """Whether an image at constant height is what the kernels say."""
        signals = (self.temperature, self.detector_noise, self.flicker, self.current_noise, self.pll_bandwidth)
        return not (self.moves or any(signals) or any(self.hum) or self.tip_change_rate or self.tip_radius)


PROFILES: Mapping[str, Mapping[str, Any]] = {
    "clean": {},
    # A qPlus sensor at 4.8 K in a quiet laboratory: noise and drift as good instruments reach them. See
    # Giessibl, Rev. Sci. Instrum. 90, 011101 (2019) for the sensor and its detector.
    "low_temperature": {
        "temperature": 4.8,
        "quality": 30_000.0,
        "detector_noise": 5e-14,
        "flicker": 0.01,
        "current_noise": 5e-15,
        "hum": (0.02, 0.0, 0.01),
        "pll_bandwidth": 30.0,
        "vibration": 5e-13,
        "drift_velocity": (1e-14, -6e-15, 3e-15),
        "drift_relaxing": (2e-10, 1e-10, -1e-10),
        "drift_diffusion": 1e-26,
        "creep": 0.005,
        "hysteresis": 0.02,
        "tilt": (0.2, -0.1),
        "slew": 1e-7,
        "tip_change_rate": 1e-5,
        "tip_radius": 5e-9,
        "contact_potential": 0.2,
    },
    # The same sensor at room temperature: more of everything.
    "room_temperature": {
        "temperature": 300.0,
        "quality": 3_000.0,
        "detector_noise": 1e-13,
        "flicker": 0.05,
        "current_noise": 1e-14,
        "hum": (0.1, 0.02, 0.05),
        "pll_bandwidth": 60.0,
        "vibration": 2e-12,
        "drift_velocity": (3e-12, -2e-12, 1e-12),
        "drift_relaxing": (3e-9, 2e-9, -1e-9),
        "drift_time": 1800.0,
        "drift_diffusion": 1e-23,
        "creep": 0.02,
        "hysteresis": 0.1,
        "tilt": (0.8, -0.5),
        "slew": 1e-6,
        "tip_change_rate": 3e-4,
        "tip_radius": 1e-8,
        "contact_potential": 0.2,
    },
}
"""Sets of imperfections by name."""


def realism_from_option(option: Any) -> Realism:
    """Return a profile by name, or one that a mapping describes: its key "profile" names what it starts from.

    Raises
    ------
    ConfigurationError
        When there is no such profile, or a value is wrong.
    """
    if isinstance(option, str):
        option = {"profile": option}
    if not isinstance(option, Mapping):
        raise ConfigurationError(f"realism is {option!r}: expected {_names()}, or a mapping", name="realism")
    given = dict(option)
    profile = given.pop("profile", "clean")
    if profile not in PROFILES:
        raise ConfigurationError(f"realism is {profile!r}: expected {_names()}", name="realism")
    try:
        realism: Realism = Realism.from_dict({**PROFILES[profile], **given})
    except InvalidRequestError as exc:
        raise ConfigurationError(f"realism: {exc.message}", name="realism") from exc
    return realism


def _names() -> str:
    return ", ".join(PROFILES)


def _checked(name: str, value: Any) -> Any:
    """Numbers of any sign where a direction or a potential is meant, else zero or above."""
    if name in _VECTORS:
        numbers = tuple(_checks.finite(name, number) for number in _checks.items(name, value))
        if len(numbers) != _VECTORS[name]:
            raise InvalidRequestError(f"{name} is {value!r}: expected {_VECTORS[name]} numbers")
        return numbers
    if name == "hum":
        return tuple(_checks.not_negative(name, number) for number in _checks.items(name, value))
    if name == "contact_potential":
        return _checks.finite(name, value)
    check = _checks.positive if name in ("quality", "mains_frequency", "drift_time") else _checks.not_negative
    return check(name, value)


_VECTORS = {"drift_velocity": 3, "drift_relaxing": 3, "tilt": 2}
