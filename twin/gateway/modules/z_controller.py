"""The z-controller: on and off, setpoint, gains, z itself, withdrawing and home."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from twinscope import _checks
from twinscope.capabilities import Capabilities
from twinscope.gateway.call import Call, seconds
from twinscope.gateway.codes import meaning, on_or_off, refuse_unless
from twinscope.gateway.decimals import shortest
from twinscope.requests import setpoint_of
from twinscope.state import FEEDBACK_OFF

_LONGEST_DELAY = 10.0
_AVERAGING_INTERVAL = 0.05
_LABELS = {"constant_current": "log Current", "constant_frequency_shift": "Frequency Shift"}
_OFF, _ON, _SAFE_TIP, _WITHDRAWING = 1, 2, 5, 6


@dataclass(frozen=True, slots=True)
class ZSettings:
    """How the z-controller is switched, and where home is.

    Attributes
    ----------
    switch_off_delay
        Seconds over which z is averaged before the controller is switched off.
    tip_lift
        By how much the tip is raised when it is switched off, in m.
    home_is_relative
        Whether home counts from the present z.
    home
        In m.
    """

    home: float
    home_is_relative: bool = False
    switch_off_delay: float = 0.0
    tip_lift: float = 0.0

    @classmethod
    def initial(cls, capabilities: Capabilities) -> Self:
        """Return home at the upper end."""
        return cls(capabilities.limits["z"].high)


# ---------------------------------------------------------------------- on and off


def _switch(call: Call, given: Mapping[str, Any]) -> None:
    wanted = on_or_off("z_controller_status", given["z_controller_status"])
    # Switched on once more, it would have to find its height once more.
    if wanted == (call.operator.state().feedback != FEEDBACK_OFF):
        return
    if wanted:
        call.do("set_feedback", mode=call.controller.active_mode())
    else:
        _switch_off(call)


def _switch_off(call: Call) -> None:
    settings = call.settings.of(ZSettings)
    height = _mean_height(call, settings.switch_off_delay) if settings.switch_off_delay else None
    call.do("set_feedback", mode=FEEDBACK_OFF)
    if height is None and not settings.tip_lift:
        return
    start = call.operator.position().z if height is None else height
    call.do("move_to", z=start + settings.tip_lift)


def _mean_height(call: Call, delay: float) -> float:
    """Average z over a while, in s, as the instrument tells it."""
    end = time.monotonic() + delay
    heights = [call.operator.position().z]
    while time.monotonic() < end:
        call.check_client()
        time.sleep(min(_AVERAGING_INTERVAL, delay))
        heights.append(call.operator.position().z)
    return sum(heights) / len(heights)


def _is_on(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"z_controller_status": int(call.operator.state().feedback != FEEDBACK_OFF)}


def _status(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    state = call.operator.state()
    job = call.operator.job_in_progress()
    if job is not None and job["verb"] == "withdraw":
        status = _WITHDRAWING
    elif state.blocked is not None:
        status = _SAFE_TIP
    else:
        status = _OFF if state.feedback == FEEDBACK_OFF else _ON
    return {"z_controller_status": status}


def _set_delay(call: Call, given: Mapping[str, Any]) -> None:
    delay = _checks.not_negative("z_controller_switch_off_delay", given["z_controller_switch_off_delay"])
    refuse_unless(delay <= _LONGEST_DELAY, f"a delay of {delay:g} s", f"expected at most {_LONGEST_DELAY:g} s")
    call.settings.change(ZSettings, switch_off_delay=delay)


def _get_delay(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"z_controller_switch_off_delay": call.settings.of(ZSettings).switch_off_delay}


def _set_lift(call: Call, given: Mapping[str, Any]) -> None:
    call.settings.change(ZSettings, tip_lift=_checks.finite("tip_lift", given["tip_lift"]))


def _get_lift(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"tip_lift": call.settings.of(ZSettings).tip_lift}


# ---------------------------------------------------------------------- which controller, setpoint and gains


def _set_active(call: Call, given: Mapping[str, Any]) -> None:
    modes = call.capabilities.feedback_modes
    mode = meaning("z_controller_index", given["z_controller_index"], modes)
    if call.operator.state().feedback not in (FEEDBACK_OFF, mode):
        call.do("set_feedback", mode=mode)
    call.controller.choose_mode(mode)


def _list_controllers(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    modes = call.capabilities.feedback_modes
    labels = tuple(_LABELS.get(mode, mode) for mode in modes)
    active = modes.index(call.controller.active_mode()) if modes else -1
    return {"list_of_controllers": labels, "active_z_controller_index": active}


def _set_setpoint(call: Call, given: Mapping[str, Any]) -> None:
    name = setpoint_of(call.controller.active_mode())
    call.do("set_signal", name=name, value=given["z_controller_setpoint"])


def _get_setpoint(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"z_controller_setpoint": call.controller.signal(setpoint_of(call.controller.active_mode()))}


def _gain_names(call: Call) -> tuple[str, str]:
    held = setpoint_of(call.controller.active_mode()).removeprefix("setpoint_")
    return f"proportional_{held}", f"time_constant_{held}"


def _set_gains(call: Call, given: Mapping[str, Any]) -> None:
    # The integral gain follows from the two.
    wanted = dict(zip(_gain_names(call), (given["p_gain"], given["time_constant"]), strict=True))
    for name, value in wanted.items():
        call.operator.check("set_signal", name=name, value=value)
    for name, value in wanted.items():
        call.do("set_signal", name=name, value=value)


def _get_gains(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    proportional, time_constant = (call.controller.signal(name) for name in _gain_names(call))
    return {"p_gain": proportional, "time_constant": time_constant, "i_gain": proportional / time_constant}


# ---------------------------------------------------------------------- z itself


def _set_height(call: Call, given: Mapping[str, Any]) -> None:
    call.do("move_to", z=given["z_position"])


def _get_height(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"z_position": call.operator.position().z}


def _withdraw(call: Call, given: Mapping[str, Any]) -> None:
    # Nothing that was begun before may bring the tip back.
    call.controller.tasks.halt_all()
    call.begin("withdraw", wait=bool(given["wait_until_finished"]), timeout=seconds(given["timeout"]))


def _get_rate(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"withdraw_slew_rate": call.controller.setup("vertical_speed")}


def _home(call: Call, given: Mapping[str, Any]) -> None:
    del given
    settings = call.settings.of(ZSettings)
    start = call.operator.position().z if settings.home_is_relative else 0.0
    call.do("move_to", z=start + settings.home)


def _set_home(call: Call, given: Mapping[str, Any]) -> None:
    relative = meaning("relative_or_absolute", given["relative_or_absolute"], (None, False, True))
    chosen = call.settings.of(ZSettings).home_is_relative if relative is None else relative
    home = _checks.finite("home_position", given["home_position"])
    if not chosen:
        call.capabilities.check_position(z=home)
    call.settings.change(ZSettings, home_is_relative=chosen, home=home)


def _get_home(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    settings = call.settings.of(ZSettings)
    return {"relative_or_absolute": int(settings.home_is_relative), "home_position": settings.home}


def _enable_limits(call: Call, given: Mapping[str, Any]) -> None:
    del call
    enabled = on_or_off("limit_z_status", given["limit_z_status"])
    refuse_unless(enabled, "switching the limits of z off", "the instrument always holds to them")


def _limits_enabled(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del call, given
    return {"limit_z_status": 1}


def _set_limits(call: Call, given: Mapping[str, Any]) -> None:
    limits = call.capabilities.limits["z"]
    same = (given["z_low_limit"], given["z_high_limit"]) == (shortest(limits.low), shortest(limits.high))
    refuse_unless(
        same,
        f"another range of z than {limits.low:g} m to {limits.high:g} m",
        "narrower limits are rules of the interlocks, which the owner of the instrument gives to the server",
    )


def _get_limits(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    limits = call.capabilities.limits["z"]
    return {"z_high_limit": limits.high, "z_low_limit": limits.low}


HANDLERS = {
    "ZCtrl.OnOffSet": _switch,
    "ZCtrl.OnOffGet": _is_on,
    "ZCtrl.StatusGet": _status,
    "ZCtrl.SwitchOffDelaySet": _set_delay,
    "ZCtrl.SwitchOffDelayGet": _get_delay,
    "ZCtrl.TipLiftSet": _set_lift,
    "ZCtrl.TipLiftGet": _get_lift,
    "ZCtrl.ActiveCtrlSet": _set_active,
    "ZCtrl.CtrlListGet": _list_controllers,
    "ZCtrl.SetpntSet": _set_setpoint,
    "ZCtrl.SetpntGet": _get_setpoint,
    "ZCtrl.GainSet": _set_gains,
    "ZCtrl.GainGet": _get_gains,
    "ZCtrl.ZPosSet": _set_height,
    "ZCtrl.ZPosGet": _get_height,
    "ZCtrl.Withdraw": _withdraw,
    "ZCtrl.WithdrawRateGet": _get_rate,
    "ZCtrl.Home": _home,
    "ZCtrl.HomePropsSet": _set_home,
    "ZCtrl.HomePropsGet": _get_home,
    "ZCtrl.LimitsEnabledSet": _enable_limits,
    "ZCtrl.LimitsEnabledGet": _limits_enabled,
    "ZCtrl.LimitsSet": _set_limits,
    "ZCtrl.LimitsGet": _get_limits,
}
