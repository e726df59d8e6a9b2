"""The scan: action, frame, buffer, speed, properties and data."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from twinscope import _checks
from twinscope.errors import InvalidRequestError, OutOfRangeError
from twinscope.gateway.call import Call, seconds
from twinscope.gateway.codes import meaning, on_or_off, refuse_unless, switched
from twinscope.gateway.modules.follow_me import speed as speed_of_moves
from twinscope.gateway.scan_settings import (
    ScanSettings,
    check_frame,
    from_nanonis,
    nanonis_angle,
)

_DIRECTIONS = ("down", "up")
_AUTOSAVE_OFF = 2
# What a response can hold.
_MOST_PIXELS = 8192**2


# ---------------------------------------------------------------------- control


def _act(call: Call, given: Mapping[str, Any]) -> None:
    action = meaning("scan_action", given["scan_action"], _ACTIONS)
    action(call, meaning("scan_direction", given["scan_direction"], _DIRECTIONS))


def _start(call: Call, direction: str) -> None:
    call.controller.scanner.start(direction)


def _stop(call: Call, direction: str) -> None:
    del direction
    call.controller.scanner.stop()


def _pause(call: Call, direction: str) -> None:
    del direction
    call.controller.scanner.pause()


def _resume(call: Call, direction: str) -> None:
    del direction
    call.controller.scanner.resume()


def _go_to_center(call: Call, direction: str) -> None:
    del direction
    x, y = call.settings.of(ScanSettings).frame.center
    call.do("move_to", x=x, y=y, speed=speed_of_moves(call))


# Start, stop, pause, resume, freeze, unfreeze, go to the centre: a frozen scan is one that rests.
_ACTIONS: tuple[Callable[[Call, str], None], ...] = (
    _start,
    _stop,
    _pause,
    _resume,
    _pause,
    _resume,
    _go_to_center,
)


def _status(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"scan_status": int(call.controller.scanner.running)}


def _wait_for_end(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    frame = call.controller.scanner.current
    if frame is None:
        return {}

    def over(timeout: float) -> bool:
        return frame.wait(timeout) or frame.progress().state.is_final

    if not call.wait_until(over, seconds(given["timeout"])):
        return {"timeout_status": 1}
    call.controller.scanner.check(frame)
    told = call.settings.of(ScanSettings).autosave != _AUTOSAVE_OFF
    return {"file_path": frame.file if told else ""}


# ---------------------------------------------------------------------- frame and buffer


def _set_frame(call: Call, given: Mapping[str, Any]) -> None:
    frame = from_nanonis((given["center_x"], given["center_y"]), (given["width"], given["height"]), given["angle"])
    check_frame(frame, call.capabilities)
    call.settings.change(ScanSettings, frame=frame)


def _get_frame(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    frame = call.settings.of(ScanSettings).frame
    return {
        "center_x": frame.center[0],
        "center_y": frame.center[1],
        "width": frame.size[0],
        "height": frame.size[1],
        "angle": nanonis_angle(frame),
    }


def _set_buffer(call: Call, given: Mapping[str, Any]) -> None:
    before = call.settings.of(ScanSettings)
    indexes = [int(index) for index in given["channel_indexes"]]
    names = tuple(dict.fromkeys(call.signals.recorded_at(index).name for index in indexes))
    if not names:
        raise InvalidRequestError("channel_indexes is empty: choose at least one channel to record")
    pixels = _checks.count("pixels", given["pixels"])
    # Without a number of lines their ratio to the pixels stays.
    lines = given["lines"] or max(round(pixels * before.lines / before.pixels), 1)
    lines = _checks.count("lines", lines)
    if pixels * lines > _MOST_PIXELS:
        raise OutOfRangeError(
            f"the buffer would have {pixels} x {lines} pixels: expected at most {_MOST_PIXELS} in all"
        )
    call.settings.change(ScanSettings, channels=names, pixels=pixels, lines=lines)


def _get_buffer(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    settings = call.settings.of(ScanSettings)
    indexes = [call.signals.index_of(name) for name in settings.channels]
    return {"channel_indexes": indexes, "pixels": settings.pixels, "lines": settings.lines}


# ---------------------------------------------------------------------- speed and properties


def _set_speed(call: Call, given: Mapping[str, Any]) -> None:
    before = call.settings.of(ScanSettings)
    keep = meaning("keep_parameter_constant", given["keep_parameter_constant"], (None, "speed", "time"))
    keeps_speed = before.speed is not None if keep is None else keep == "speed"
    # Controllers take the way back from the ratio alone.
    ratio = given["speed_ratio"]
    refuse_unless(
        ratio == 0 or math.isclose(ratio, 1, rel_tol=0.01),
        f"a speed ratio of {ratio:g}",
        "this instrument scans both ways with the same speed, give 1",
    )
    # A value of 0 is none.
    if keeps_speed:
        speed = given["forward_linear_speed"] or before.metres_per_second
        call.settings.change(ScanSettings, speed=_checks.positive("forward_linear_speed", speed))
    else:
        time = _checks.positive("forward_time_per_line", given["forward_time_per_line"] or before.seconds_per_line)
        call.settings.change(ScanSettings, line_time=time, speed=None)


def _get_speed(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    settings = call.settings.of(ScanSettings)
    return {
        "forward_linear_speed": settings.metres_per_second,
        "backward_linear_speed": settings.metres_per_second,
        "forward_time_per_line": settings.seconds_per_line,
        "backward_time_per_line": settings.seconds_per_line,
        "keep_parameter_constant": int(settings.speed is None),
        "speed_ratio": 1.0,
    }


def _set_props(call: Call, given: Mapping[str, Any]) -> None:
    before = call.settings.of(ScanSettings)
    autosave = meaning("autosave", given["autosave"], (None, 0, 1, _AUTOSAVE_OFF))
    call.settings.change(
        ScanSettings,
        continuous=switched("continuous_scan", given["continuous_scan"], before.continuous),
        bouncy=switched("bouncy_scan", given["bouncy_scan"], before.bouncy),
        autosave=before.autosave if autosave is None else autosave,
        series_name=given["series_name"] or before.series_name,
        comment=given["comment"] or before.comment,
    )


def _get_props(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    settings = call.settings.of(ScanSettings)
    return {
        "continuous_scan": int(settings.continuous),
        "bouncy_scan": int(settings.bouncy),
        "autosave": settings.autosave,
        "series_name": settings.series_name,
        "comment": settings.comment,
    }


# ---------------------------------------------------------------------- data


def _grab(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    signal = call.signals.recorded_at(given["channel_index"])
    forward = on_or_off("data_direction", given["data_direction"])
    data, direction = call.controller.scanner.data(signal.name, forward=forward)
    return {"channel_name": signal.label, "scan_data": data, "scan_direction": _DIRECTIONS.index(direction)}


def _save(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    # Each line is in the file of the scan before anyone sees it.
    if call.controller.scanner.current is None:
        raise InvalidRequestError("there is no scan to save: start one")
    return {"timed_out": 0}


HANDLERS = {
    "Scan.Action": _act,
    "Scan.StatusGet": _status,
    "Scan.WaitEndOfScan": _wait_for_end,
    "Scan.FrameSet": _set_frame,
    "Scan.FrameGet": _get_frame,
    "Scan.BufferSet": _set_buffer,
    "Scan.BufferGet": _get_buffer,
    "Scan.SpeedSet": _set_speed,
    "Scan.SpeedGet": _get_speed,
    "Scan.PropsSet": _set_props,
    "Scan.PropsGet": _get_props,
    "Scan.FrameDataGrab": _grab,
    "Scan.Save": _save,
}
