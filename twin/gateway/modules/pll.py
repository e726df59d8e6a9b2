"""The oscillation control: this instrument oscillates always, with the amplitude that it was set up with."""

from collections.abc import Callable, Mapping
from typing import Any

from twinscope.gateway.call import Call, Handler
from twinscope.gateway.codes import on_or_off, refuse_unless

_FREQUENCY_SHIFT = "frequency_shift"
# What counts as centred, in Hz.
_CENTRED = 1e-3
_SET_UP = "it is set up when the server is started, as an option of its driver"


def _check_modulator(call: Call, given: Mapping[str, Any]) -> None:
    refuse_unless(given["modulator_index"] == 1, f"the modulator {given['modulator_index']}", "there is one, 1")
    recorded = any(channel.name == _FREQUENCY_SHIFT for channel in call.capabilities.channels)
    refuse_unless(recorded, "oscillation control", "this instrument measures no frequency shift")


def _always_on(argument: str, what: str) -> Handler:
    """Return who switches something that cannot be switched off."""

    def switch(call: Call, given: Mapping[str, Any]) -> None:
        _check_modulator(call, given)
        wanted = on_or_off(argument, given[argument])
        refuse_unless(wanted, f"switching the {what} off", "this instrument keeps it on")

    return switch


def _tells(result: str, value: Callable[[Call], float]) -> Handler:
    """Return who tells one value."""

    def tell(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
        _check_modulator(call, given)
        return {result: value(call)}

    return tell


def _keeps(argument: str, value: Callable[[Call], float], what: str) -> Handler:
    """Return who sets what can only be set to the value that it has."""

    def keep(call: Call, given: Mapping[str, Any]) -> None:
        _check_modulator(call, given)
        present = value(call)
        same = abs(given[argument] - present) <= 1e-6 * abs(present)
        refuse_unless(same, f"{given[argument]:g} for the {what} instead of {present:g}", _SET_UP)

    return keep


def _on(call: Call) -> int:
    del call
    return 1


def _amplitude(call: Call) -> float:
    # Ours is from peak to peak.
    return call.controller.setup("amplitude") / 2


def _center(call: Call) -> float:
    return call.controller.setup("resonance_frequency")


def _shift(call: Call) -> float:
    return call.controller.signal(_FREQUENCY_SHIFT)


def _auto_center(call: Call, given: Mapping[str, Any]) -> None:
    _check_modulator(call, given)
    shift = _shift(call)
    refuse_unless(
        abs(shift) <= _CENTRED,
        f"centring a frequency shift of {shift:.4g} Hz",
        "this instrument counts it from the resonance of the free sensor; withdraw the tip to see that",
    )


HANDLERS: Mapping[str, Handler] = {
    "PLL.OutOnOffSet": _always_on("pll_output", "oscillation"),
    "PLL.OutOnOffGet": _tells("pll_output", _on),
    "PLL.AmpCtrlOnOffSet": _always_on("status", "amplitude controller"),
    "PLL.AmpCtrlOnOffGet": _tells("status", _on),
    "PLL.AmpCtrlSetpntSet": _keeps("setpoint", _amplitude, "amplitude"),
    "PLL.AmpCtrlSetpntGet": _tells("setpoint", _amplitude),
    "PLL.PhasCtrlOnOffSet": _always_on("status", "phase controller"),
    "PLL.PhasCtrlOnOffGet": _tells("status", _on),
    "PLL.CenterFreqSet": _keeps("center_frequency", _center, "resonance frequency"),
    "PLL.CenterFreqGet": _tells("center_frequency", _center),
    "PLL.FreqShiftGet": _tells("frequency_shift", _shift),
    "PLL.FreqShiftAutoCenter": _auto_center,
}
