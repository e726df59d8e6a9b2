"""The Tip Move Recorder."""

from collections.abc import Mapping
from typing import Any

from twinscope.errors import OutOfRangeError
from twinscope.gateway.call import Call

_LARGEST = 10_000


def _set_size(call: Call, given: Mapping[str, Any]) -> None:
    size = given["buffer_size"]
    if not 1 <= size <= _LARGEST:
        raise OutOfRangeError(f"buffer_size is {size}: expected 1 to {_LARGEST}", name="buffer_size")
    call.controller.recorder.resize(size)


def _get_size(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"buffer_size": call.controller.recorder.size}


def _clear(call: Call, given: Mapping[str, Any]) -> None:
    del given
    call.controller.recorder.clear()


def _data(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    indexes, values = call.controller.recorder.data(call.signals)
    return {"channel_indexes": indexes, "data": values}


HANDLERS = {
    "TipRec.BufferSizeSet": _set_size,
    "TipRec.BufferSizeGet": _get_size,
    "TipRec.BufferClear": _clear,
    "TipRec.DataGet": _data,
}
