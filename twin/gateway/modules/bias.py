"""Bias: its value, range and pulses."""

from collections.abc import Mapping
from typing import Any

from twinscope.gateway.call import Call
from twinscope.gateway.codes import meaning, refuse_unless
from twinscope.gateway.tasks import Task
from twinscope.state import FEEDBACK_OFF

_CALIBRATION = {"calibration": 1.0, "offset": 0.0}


def _set(call: Call, given: Mapping[str, Any]) -> None:
    call.do("set_signal", name="bias", value=given["bias_value"])


def _get(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"bias_value": call.controller.signal("bias")}


def _set_range(call: Call, given: Mapping[str, Any]) -> None:
    del call
    refuse_unless(given["bias_range_index"] == 0, f"the range {given['bias_range_index']}", "there is one only, 0")


def _get_range(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    limits = call.controller.limits("bias")
    return {"bias_ranges": (f"{limits.low:g} V to {limits.high:g} V",), "bias_range_index": 0}


def _set_calibration(call: Call, given: Mapping[str, Any]) -> None:
    del call
    refuse_unless(dict(given) == _CALIBRATION, "another calibration", "the bias is in V, calibrated by the instrument")


def _get_calibration(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del call, given
    return _CALIBRATION


def _pulse(call: Call, given: Mapping[str, Any]) -> None:
    hold = meaning("z_controller_on_hold", given["z_controller_on_hold"], (False, True, False))
    absolute = meaning("pulse_absolute_relative", given["pulse_absolute_relative"], (True, False, True))
    voltage = given["bias_value"] if absolute else given["bias_value"] + call.controller.signal("bias")
    parameters = {"voltage": voltage, "duration": given["bias_pulse_width"]}
    # What is refused is refused before the z-controller is touched.
    call.operator.check("pulse", **parameters)
    feedback = call.operator.state().feedback

    def steps(task: Task) -> None:
        held = hold and feedback != FEEDBACK_OFF
        if held:
            task.do("set_feedback", mode=FEEDBACK_OFF)
        try:
            task.do("pulse", **parameters)
        finally:
            if held:
                task.do("set_feedback", mode=feedback)

    task = call.controller.tasks.begin("the bias pulse", steps)
    if given["wait_until_done"]:
        call.wait_for(task)


HANDLERS = {
    "Bias.Set": _set,
    "Bias.Get": _get,
    "Bias.RangeSet": _set_range,
    "Bias.RangeGet": _get_range,
    "Bias.CalibrSet": _set_calibration,
    "Bias.CalibrGet": _get_calibration,
    "Bias.Pulse": _pulse,
}
