"""Options of the Nanonis driver."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from twinscope import _checks
from twinscope.drivers.options import DriverOptions
from twinscope.errors import ConfigurationError, InvalidRequestError
from twinscope.requests import CONSTANT_HEIGHT, Z_MODES

_MAY_BE_ZERO = ("motor_group",)


@dataclass(frozen=True, slots=True, kw_only=True)
class NanonisOptions(DriverOptions):
    """How to reach a controller, and what it does not tell about itself; in SI units.

    Attributes
    ----------
    host
        Name or address of the computer on which the Nanonis software runs.
    ports
        Where it listens. Two of them must be free: one is for stopping.
    timeout
        The controller answers within this time, in s, besides the time that a command itself takes.
    error_dialect
        What stands in front of the text of an error: "short" as in the protocol document, "long" with a code, "auto" to
        see for oneself.
    channels
        Names of the channels that can be recorded; none for all signals of the controller that have a name.
    names
        Names for signals, by what the controller calls them: ``{"Input 3 (V)" = "photodiode"}``. The usual ones have
        one: current, bias, z, frequency_shift, ...
    controllers
        Name of the z-controller for each z-mode; by default it is found by its name.
    setpoint_limits
        Lowest and highest setpoint for each z-mode; by default from the range of the signal.
    lateral_speed, vertical_speed
        Of moves, and of moves towards the sample, in m/s; upwards the tip moves at once.
    highest_speed
        That may be asked for, in m/s.
    position_tolerance
        The tip is where it was sent when the controller tells a place that is not further away than this, in m.
    settling_part
        Part of the time of each point of a spectroscopy in which nothing is measured.
    z_sweep_sign
        1 when a positive sweep distance of the z spectroscopy retracts the tip, -1 when it approaches it.
    frame_order
        Order of rows and pixels in the data of a frame: "measured" when the first is the one that was measured first,
        "position" when it is the lower left one whatever the direction.
    line_timeout
        A scan in which no line comes for so long, in s, besides the time of a line, is an error.
    withdraw_timeout, approach_timeout, motor_timeout, tip_shaping_timeout
        The longest that each may take, in s.
    pulse, tip_shaping, motor
        Whether there are these features.
    pulse_duration
        Shortest and longest pulse, in s.
    tip_shaping_depth
        Deepest dip, in m.
    tip_shaping_time
        For each way of a dip, in s.
    coarse_steps
        Most steps of the coarse motor at once.
    motor_group
        Group of the motor control, from 0.
    motor_retracts
        The direction of the motor that takes the tip away from the sample.
    motor_frequency, motor_amplitude
        Of the steps, in Hz and V; None to leave what the controller has.
    require_safe_tip
        Whether the driver opens only when Safe Tip is armed.
    largest_acquisition
        Bytes of data in one acquisition.
    """

    host: str = "127.0.0.1"
    ports: tuple[int, ...] = (6501, 6502, 6503, 6504)
    timeout: float = 5.0
    error_dialect: Literal["auto", "short", "long"] = "auto"
    channels: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    controllers: Mapping[str, str] = field(default_factory=dict)
    setpoint_limits: Mapping[str, Any] = field(default_factory=dict)
    lateral_speed: float = 20e-9
    vertical_speed: float = 20e-9
    highest_speed: float = 1e-6
    position_tolerance: float = 1e-11
    settling_part: float = 0.25
    z_sweep_sign: Literal[1, -1] = 1
    frame_order: Literal["measured", "position"] = "measured"
    line_timeout: float = 60.0
    withdraw_timeout: float = 60.0
    approach_timeout: float = 3600.0
    motor_timeout: float = 60.0
    tip_shaping_timeout: float = 30.0
    pulse: bool = True
    tip_shaping: bool = True
    motor: bool = False
    pulse_duration: tuple[float, float] = (1e-3, 10.0)
    tip_shaping_depth: float = 5e-9
    tip_shaping_time: float = 0.1
    coarse_steps: int = 100
    motor_group: int = 0
    motor_retracts: Literal["z+", "z-"] = "z+"
    motor_frequency: float | None = None
    motor_amplitude: float | None = None
    require_safe_tip: bool = False
    largest_acquisition: int = 2**28

    def __post_init__(self) -> None:
        DriverOptions.__post_init__(self)
        for one in fields(self):
            value = getattr(self, one.name)
            if type(value) in (float, int) and one.name != "z_sweep_sign":
                _check_sign(one.name, value)
        self._check_ports()
        if not 0 < self.pulse_duration[0] < self.pulse_duration[1]:
            raise _wrong("pulse_duration", self.pulse_duration, "the shortest above zero, and a longer one")
        if self.settling_part >= 1:
            raise _wrong("settling_part", self.settling_part, "a part below 1")
        if max(self.lateral_speed, self.vertical_speed) > self.highest_speed:
            raise _wrong("highest_speed", self.highest_speed, "at least the speeds of moves")
        self._check_tables()
        object.__setattr__(self, "setpoint_limits", _checked_limits(self.setpoint_limits))

    def _check_tables(self) -> None:
        for name in ("controllers", "setpoint_limits"):
            for mode in getattr(self, name):
                if mode not in Z_MODES or mode == CONSTANT_HEIGHT:
                    raise _wrong(name, mode, f"one of {', '.join(Z_MODES[1:])} for each key")
        for name in ("names", "controllers"):
            if not all(isinstance(value, str) and value for value in getattr(self, name).values()):
                raise _wrong(name, getattr(self, name), "a name for each key")

    def _check_ports(self) -> None:
        if len(set(self.ports)) != len(self.ports) or len(self.ports) < 2:
            raise _wrong("ports", self.ports, "two or more different ones")
        if not all(0 < port < 2**16 for port in self.ports):
            raise _wrong("ports", self.ports, "numbers of 1 to 65535")
        if not self.host:
            raise _wrong("host", self.host, "a name or an address")


def _checked_limits(given: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    limits = {}
    for mode, value in given.items():
        try:
            low, high = (_checks.finite(mode, end) for end in _checks.pair(mode, value))
        except InvalidRequestError as exc:
            raise ConfigurationError(f"the option setpoint_limits: {exc}", name="setpoint_limits") from exc
        if not low < high:
            raise _wrong("setpoint_limits", value, "the lower limit first")
        limits[mode] = (low, high)
    return limits


def _check_sign(name: str, value: float) -> None:
    if value < 0 or (value == 0 and name not in _MAY_BE_ZERO):
        raise _wrong(name, value, "a number above zero")


def _wrong(name: str, value: Any, expected: str) -> ConfigurationError:
    return ConfigurationError(f"the option {name} is {value!r}: expected {expected}", name=name)
