"""Atom tracking, which this instrument does not have: it is off, and stays so."""

from collections.abc import Mapping
from typing import Any

from twinscope.gateway.call import Call
from twinscope.gateway.codes import meaning, on_or_off, refuse_unless

_CONTROLS = ("the modulation", "the controller", "the drift measurement")


def _switch(call: Call, given: Mapping[str, Any]) -> None:
    del call
    control = meaning("at_control", given["at_control"], _CONTROLS)
    wanted = on_or_off("status", given["status"])
    refuse_unless(not wanted, f"switching {control} on", "the instrument has no atom tracking")


def _is_on(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del call
    meaning("at_control", given["at_control"], _CONTROLS)
    return {"status": 0}


HANDLERS = {"AtomTrack.CtrlSet": _switch, "AtomTrack.StatusGet": _is_on}
