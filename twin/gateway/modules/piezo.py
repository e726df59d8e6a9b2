"""Piezos: their range, and corrections that this instrument does not make."""

from collections.abc import Mapping
from typing import Any

from twinscope.gateway.call import Call
from twinscope.gateway.codes import refuse_unless
from twinscope.gateway.decimals import shortest

_AXES = ("x", "y", "z")
_NO_DRIFT_COMPENSATION = "the instrument has none, move the frame between scans"


def _ranges(call: Call) -> Mapping[str, float]:
    limits = call.capabilities.limits
    return {f"range_{axis}": shortest(limits[axis].high - limits[axis].low) for axis in _AXES}


def _set_range(call: Call, given: Mapping[str, Any]) -> None:
    refuse_unless(dict(given) == _ranges(call), "another range of the piezos", "it is that of the instrument")


def _get_range(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return _ranges(call)


def _set_tilt(call: Call, given: Mapping[str, Any]) -> None:
    del call
    level = given["tilt_x"] == given["tilt_y"] == 0
    refuse_unless(level, "a correction of the tilt", "the instrument makes none, subtract a plane from the data")


def _get_tilt(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del call, given
    return {"tilt_x": 0.0, "tilt_y": 0.0}


def _set_drift_compensation(call: Call, given: Mapping[str, Any]) -> None:
    del call
    at_rest = given["vx"] == given["vy"] == given["vz"] == 0
    refuse_unless(given["compensation_on_off"] != 1 or at_rest, "drift compensation", _NO_DRIFT_COMPENSATION)


def _get_drift_compensation(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del call, given
    return {"compensation_status": 0}


HANDLERS = {
    "Piezo.RangeSet": _set_range,
    "Piezo.RangeGet": _get_range,
    "Piezo.TiltSet": _set_tilt,
    "Piezo.TiltGet": _get_tilt,
    "Piezo.DriftCompSet": _set_drift_compensation,
    "Piezo.DriftCompGet": _get_drift_compensation,
}
