"""The current and its amplifier."""

from collections.abc import Mapping
from typing import Any

from twinscope.gateway.call import Call
from twinscope.gateway.codes import refuse_unless

_UNCHANGED = (-1, 0)


def _get(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"current_value": call.controller.signal("current")}


def _set_gain(call: Call, given: Mapping[str, Any]) -> None:
    del call
    gain = given["gain_index"]
    refuse_unless(gain in _UNCHANGED, f"the gain {gain}", "the amplifier has one, 0")
    # Older clients do not know of filters.
    kept = given["filter_index"] is None or given["filter_index"] in _UNCHANGED
    refuse_unless(kept, f"the filter {given['filter_index']}", "the amplifier has none")


def _get_gains(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    # It says whether there is a current at all.
    call.controller.signal("current")
    return {"gains": ("fixed",), "gain_index": 0, "filters": (), "filter_index": 0}


HANDLERS = {"Current.Get": _get, "Current.GainSet": _set_gain, "Current.GainsGet": _get_gains}
