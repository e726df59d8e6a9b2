"""The lock-in amplifier that this instrument does not have: it is off, and stays so."""

from collections.abc import Mapping
from typing import Any

from twinscope.gateway.call import Call
from twinscope.gateway.codes import on_or_off, refuse_unless


def _switch(call: Call, given: Mapping[str, Any]) -> None:
    del call
    wanted = on_or_off("lock_in_on_off", given["lock_in_on_off"])
    refuse_unless(not wanted, "a run of the lock-in", "the instrument has no lock-in amplifier")


def _is_on(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del call, given
    return {"lock_in_on_off": 0}


HANDLERS = {"LockIn.ModOnOffSet": _switch, "LockIn.ModOnOffGet": _is_on}
