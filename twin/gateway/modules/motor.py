"""Coarse motors."""

from collections.abc import Mapping
from typing import Any

from twinscope.gateway.call import Call
from twinscope.gateway.codes import meaning, refuse_unless

# Axis and sign of the directions; along z, plus is away from the sample.
_DIRECTIONS = (("x", 1), ("x", -1), ("y", 1), ("y", -1), ("z", 1), ("z", -1))


def _move(call: Call, given: Mapping[str, Any]) -> None:
    refuse_unless(given["group"] == 0, f"the group {given['group']}", "the motors have one, 0")
    axis, sign = meaning("direction", given["direction"], _DIRECTIONS)
    steps = sign * given["number_of_steps"]
    call.begin("coarse_move", wait=bool(given["wait_until_finished"]), axis=axis, steps=steps)


def _stop(call: Call, given: Mapping[str, Any]) -> None:
    del given
    call.controller.abort("coarse_move")


HANDLERS = {"Motor.StartMove": _move, "Motor.StopMove": _stop}
