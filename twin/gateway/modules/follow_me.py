"""Follow Me: moves of the tip along x and y."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from twinscope import _checks
from twinscope.capabilities import Capabilities
from twinscope.gateway.call import Call
from twinscope.gateway.codes import on_or_off, refuse_unless
from twinscope.gateway.recorder import MoveRecorder
from twinscope.gateway.scan_settings import ScanSettings


@dataclass(frozen=True, slots=True)
class MoveSettings:
    """How fast the tip is moved.

    Attributes
    ----------
    speed
        In m/s.
    custom
        Whether it is used; else that of the scan.
    """

    speed: float
    custom: bool = True

    @classmethod
    def initial(cls, capabilities: Capabilities) -> Self:
        """Return the fastest speed; an instrument that does not tell it moves with that of the scan."""
        limits = capabilities.limits.get("speed")
        return cls(0.0, custom=False) if limits is None else cls(limits.high)


def speed(call: Call) -> float:
    """Return the speed of moves, in m/s."""
    settings = call.settings.of(MoveSettings)
    return settings.speed if settings.custom else call.settings.of(ScanSettings).metres_per_second


def _move(call: Call, given: Mapping[str, Any]) -> None:
    recorder = call.controller.recorder
    progress = call.operator.command("move_to", patient=True, x=given["x"], y=given["y"], speed=speed(call))
    if given["wait_end_of_move"]:
        recorder.note()
        call.operator.finish(progress, lambda: _watch(call, recorder))
        recorder.note()


def _watch(call: Call, recorder: MoveRecorder) -> None:
    call.check_client()
    recorder.note()


def _position(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    position = call.operator.position()
    return {"x": position.x, "y": position.y}


def _set_speed(call: Call, given: Mapping[str, Any]) -> None:
    custom = on_or_off("custom_speed", given["custom_speed"])
    wanted = (_checks.positive if custom else _checks.not_negative)("speed", given["speed"])
    limits = call.capabilities.limits.get("speed")
    if custom and limits is not None:
        limits.check("speed", wanted)
    call.settings.change(MoveSettings, speed=wanted, custom=custom)


def _get_speed(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    settings = call.settings.of(MoveSettings)
    return {"speed": settings.speed, "custom_speed": int(settings.custom)}


def _stop(call: Call, given: Mapping[str, Any]) -> None:
    del given
    call.controller.abort("move_to")


def _set_point_and_shoot(call: Call, given: Mapping[str, Any]) -> None:
    del call
    wanted = on_or_off("point_shoot_status", given["point_shoot_status"])
    refuse_unless(not wanted, "Point & Shoot", "start the spectroscopy by its own command after the move")


def _get_point_and_shoot(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del call, given
    return {"point_shoot_status": 0}


HANDLERS = {
    "FolMe.XYPosSet": _move,
    "FolMe.XYPosGet": _position,
    "Scan.XYPosGet": _position,
    "FolMe.SpeedSet": _set_speed,
    "FolMe.SpeedGet": _get_speed,
    "FolMe.Stop": _stop,
    "FolMe.PSOnOffSet": _set_point_and_shoot,
    "FolMe.PSOnOffGet": _get_point_and_shoot,
}
