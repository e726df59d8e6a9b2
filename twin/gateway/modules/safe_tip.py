"""Safe Tip: the trips of the interlocks, which a script can see and not change."""

from collections.abc import Mapping
from typing import Any

from twinscope.errors import InvalidRequestError
from twinscope.gateway.call import Call
from twinscope.gateway.codes import meaning, refuse_unless

_FIRST_CHOICE = "current"
_OWNER = "the trips are rules of the interlocks, which the owner of the instrument gives to the server"


def _signal(call: Call) -> str | None:
    """Name of the signal that trips; None when none does."""
    trips = call.controller.interlocks.trips
    return _FIRST_CHOICE if _FIRST_CHOICE in trips else next(iter(trips), None)


def _threshold(call: Call) -> float:
    name = _signal(call)
    if name is None:
        return 0.0
    ends = [abs(end) for end in call.controller.interlocks.trips[name] if end is not None]
    return max(ends, default=0.0)


def _switch(call: Call, given: Mapping[str, Any]) -> None:
    wanted = meaning("safe_tip_status", given["safe_tip_status"], (None, True, False))
    refuse_unless(wanted in (None, _signal(call) is not None), "switching Safe Tip", _OWNER)


def _is_on(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"safe_tip_status": int(_signal(call) is not None)}


def _value(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    name = _signal(call)
    if name is None:
        raise InvalidRequestError(f"no signal trips Safe Tip: {_OWNER}")
    return {"signal_value": call.controller.signal(name)}


def _set_props(call: Call, given: Mapping[str, Any]) -> None:
    same = given["auto_recovery"] == 0 and given["threshold"] == _threshold(call)
    refuse_unless(same, "another Safe Tip", _OWNER)


def _get_props(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    # A trip ends what is measured and withdraws the tip.
    return {"auto_recovery": 0, "auto_pause_scan": 1, "threshold": _threshold(call)}


HANDLERS = {
    "SafeTip.OnOffSet": _switch,
    "SafeTip.OnOffGet": _is_on,
    "SafeTip.SignalGet": _value,
    "SafeTip.PropsSet": _set_props,
    "SafeTip.PropsGet": _get_props,
}
