"""What a controller can do, read from the controller."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from twinscope._version import __version__
from twinscope.capabilities import ACQUISITIONS, Capabilities, Channel, Limits
from twinscope.drivers.nanonis.connection import RefusedError
from twinscope.drivers.nanonis.controller import Controller
from twinscope.drivers.nanonis.options import NanonisOptions
from twinscope.drivers.nanonis.signals import Signal, read_signals
from twinscope.errors import ConfigurationError, DriverError
from twinscope.requests import CONSTANT_HEIGHT, PathRequest, setpoint_of

HELD: Mapping[str, str] = {"constant_current": "current", "constant_frequency_shift": "frequency_shift"}
"""Channel that each z-mode holds constant."""

# What the name of a z-controller has in it, the best first.
_CALLED: Mapping[str, tuple[str, ...]] = {
    "constant_current": ("log current", "current"),
    "constant_frequency_shift": ("freq", "df"),
}
# Signals that are read at any moment when the controller has them.
_LIVE = ("current", "frequency_shift", "amplitude", "excitation", "phase")
# The lowest setpoint of a current that flows one way only, as a part of the range.
_LOWEST_PART = 1e-6
_SLOWEST = 1e-13


@dataclass(frozen=True, slots=True)
class Description:
    """What was found.

    Attributes
    ----------
    capabilities
        For the instrument.
    signals
        Signals of the controller by the names of their channels.
    live
        Names of those that :meth:`Driver.read` tells, besides what can be set.
    controllers
        Number of the z-controller for each z-mode.
    """

    capabilities: Capabilities
    signals: Mapping[str, Signal]
    live: tuple[str, ...]
    controllers: Mapping[str, int]


def describe(controller: Controller, options: NanonisOptions, name: str) -> Description:
    """Read what a connected controller can do; nothing is changed by that.

    Raises
    ------
    ConfigurationError
        When an option does not fit to this controller.
    DriverError
        When it does not answer.
    """
    signals = read_signals(controller, options)
    channels = options.channels or tuple(signals)
    modes = _find_controllers(controller, options)
    values = _live(controller, signals, dict.fromkeys((*_LIVE, *channels)))
    live = tuple(one for one in values if one in _LIVE)
    limits = _limits(controller, options, signals, modes)
    set_points = tuple(_setpoint(mode, signals) for mode in modes)
    bias = signals["bias"].channel if "bias" in signals else Channel("bias", "V", "Bias")
    # A path is followed by reading signals at each place: all that may be asked for must be readable.
    acquisitions = tuple(
        kind for kind in ACQUISITIONS if kind != PathRequest.kind or all(one in values for one in channels)
    )
    capabilities = Capabilities(
        instrument="Nanonis controller",
        driver=name,
        driver_version=__version__,
        simulated=False,
        channels=tuple(signals[one].channel for one in channels),
        limits=limits,
        scan_modes=(CONSTANT_HEIGHT, *modes),
        sweeps=("z", "bias"),
        largest_acquisition=options.largest_acquisition,
        settings=_settings(controller, options, signals),
        signals=(bias, *set_points, *(signals[one].channel for one in live)),
        features=_features(controller, options),
        acquisitions=acquisitions,
    )
    return Description(capabilities, signals, live, modes)


def _find_controllers(controller: Controller, options: NanonisOptions) -> dict[str, int]:
    labels = controller.call("ZCtrl.CtrlListGet")["list_of_controllers"]
    found = {}
    for mode, called in _CALLED.items():
        wanted = options.controllers.get(mode)
        if wanted is not None and wanted not in labels:
            raise ConfigurationError(
                f"the option controllers has {wanted!r} for {mode}: the z-controllers are {', '.join(labels)}",
                name="controllers",
            )
        fitting = (
            [index for word in called for index, label in enumerate(labels) if word in label.lower()]
            if wanted is None
            else [labels.index(wanted)]
        )
        if fitting:
            found[mode] = fitting[0]
    return found


def _live(controller: Controller, signals: Mapping[str, Signal], names: Iterable[str]) -> list[str]:
    """Return those whose value can be read outside of an acquisition."""
    known = [name for name in names if name in signals]
    if not known:
        return []
    indexes = [signals[name].index for name in known]
    if controller.attempt("Signals.ValsGet", signals_indexes=indexes, wait_for_newest_data=0) is not None:
        return known
    return [
        name
        for name in known
        if controller.attempt("Signals.ValGet", signal_index=signals[name].index, wait_for_newest_data=0) is not None
    ]


# ---------------------------------------------------------------------- limits


def _limits(
    controller: Controller, options: NanonisOptions, signals: Mapping[str, Signal], modes: Iterable[str]
) -> dict[str, Limits]:
    piezo = controller.call("Piezo.RangeGet")
    bias = _range(controller, signals, "bias")
    if bias is None:
        raise ConfigurationError("the controller does not tell the range of its bias: it has no signal for it")
    voltage = Limits(bias[0], bias[1], "V")
    shortest, longest = options.pulse_duration
    limits = {
        "x": _centered(piezo["range_x"]),
        "y": _centered(piezo["range_y"]),
        "z": _height_limits(controller, piezo["range_z"]),
        "speed": Limits(_SLOWEST, options.highest_speed, "m/s"),
        "bias": voltage,
        **{setpoint_of(mode): _setpoint_limits(controller, options, signals, mode) for mode in modes},
        "pulse_voltage": voltage,
        "pulse_duration": Limits(shortest, longest, "s"),
        "tip_shaping_depth": Limits(0.0, options.tip_shaping_depth, "m"),
        "tip_shaping_voltage": voltage,
        "coarse_steps": Limits(-options.coarse_steps, options.coarse_steps, "1"),
    }
    for name, one in limits.items():
        if not -math.inf < one.low < one.high < math.inf:
            raise DriverError(
                f"the controller tells that {name} goes from {one.low:g} to {one.high:g}: that is no range"
            )
    return limits


def _centered(width: float) -> Limits:
    return Limits(-width / 2, width / 2, "m")


def _height_limits(controller: Controller, width: float) -> Limits:
    enabled = controller.attempt("ZCtrl.LimitsEnabledGet")
    if enabled is not None and not enabled["limit_z_status"]:
        return _centered(width)
    given = controller.call("ZCtrl.LimitsGet")
    return Limits(given["z_low_limit"], given["z_high_limit"], "m")


def _range(controller: Controller, signals: Mapping[str, Signal], name: str) -> tuple[float, float] | None:
    """Return the lowest and the highest value of a signal, or None when the controller does not tell."""
    if name not in signals:
        return None
    given = controller.attempt("Signals.RangeGet", signal_index=signals[name].index)
    if given is None:
        return None
    low, high = sorted((given["minimum_limit"], given["maximum_limit"]))
    return low, high


def _setpoint_limits(
    controller: Controller, options: NanonisOptions, signals: Mapping[str, Signal], mode: str
) -> Limits:
    unit = _setpoint(mode, signals).unit
    given = options.setpoint_limits.get(mode)
    if given is not None:
        low, high = given
        return Limits(low, high, unit)
    found = _range(controller, signals, HELD[mode])
    if found is None:
        raise ConfigurationError(
            f"the controller does not tell the range of {HELD[mode]}: give the option setpoint_limits for {mode}",
            name="setpoint_limits",
        )
    low, high = found
    # The controller takes the magnitude of a current.
    return Limits(high * _LOWEST_PART if mode == "constant_current" else low, high, unit)


def _setpoint(mode: str, signals: Mapping[str, Signal]) -> Channel:
    held = HELD[mode]
    unit = signals[held].channel.unit if held in signals else {"current": "A"}.get(held, "Hz")
    return Channel(setpoint_of(mode), unit, f"Setpoint of {held.replace('_', ' ')}")


# ---------------------------------------------------------------------- the rest


def _features(controller: Controller, options: NanonisOptions) -> tuple[str, ...]:
    wanted = {
        "coarse_motion": options.motor,
        "pulse": options.pulse,
        "tip_shaping": options.tip_shaping and controller.attempt("TipShaper.PropsGet") is not None,
    }
    return tuple(feature for feature, there in wanted.items() if there)


def _settings(controller: Controller, options: NanonisOptions, signals: Mapping[str, Signal]) -> dict[str, Any]:
    """Return how the instrument is set up, as far as the controller tells."""
    settings: dict[str, Any] = {
        "host": options.host,
        "signal_labels": {name: signal.label for name, signal in signals.items()},
    }
    try:
        version = controller.call("Util.VersionGet")
        settings["controller"] = f"{version['product_line']} {version['version']}"
        settings["release"] = version["rt_engine_release"]
    except RefusedError:
        settings["controller"] = "unknown"
    asked: tuple[tuple[str, dict[str, Any]], ...] = (
        ("PLL.CenterFreqGet", {"modulator_index": 1}),
        ("PLL.AmpCtrlSetpntGet", {"modulator_index": 1}),
        ("SafeTip.OnOffGet", {}),
        ("SafeTip.PropsGet", {}),
    )
    for name, arguments in asked:
        told = controller.attempt(name, **arguments)
        if told is not None:
            family = name.partition(".")[0].lower()
            settings |= {f"{family}_{key}": value for key, value in told.items()}
    return settings
