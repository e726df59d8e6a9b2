"""The list of signals and their values."""

from collections.abc import Mapping
from typing import Any

from twinscope.gateway.call import Call


def _names(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"signals_names": call.signals.labels()}


def _calibration(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    call.signals.at(given["signal_index"])
    # All values are in physical units.
    return {"calibration_per_volt": 1.0, "offset_in_physical_units": 0.0}


def _range(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    low, high = call.signals.range(given["signal_index"])
    return {"maximum_limit": high, "minimum_limit": low}


def _value(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"signal_value": call.signals.value(given["signal_index"], call.operator.state())}


def _values(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    state = call.operator.state()
    return {"signals_values": [call.signals.value(int(index), state) for index in given["signals_indexes"]]}


def _measurement_names(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"measurement_channels_list": call.signals.labels()}


HANDLERS = {
    "Signals.NamesGet": _names,
    "Signals.CalibrGet": _calibration,
    "Signals.RangeGet": _range,
    "Signals.ValGet": _value,
    "Signals.ValsGet": _values,
    "Signals.MeasNamesGet": _measurement_names,
}
