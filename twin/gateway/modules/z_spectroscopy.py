"""Z spectroscopy: a sweep of the height, relative to where the tip is."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from twinscope import _checks
from twinscope.capabilities import Capabilities
from twinscope.gateway.call import Call
from twinscope.gateway.codes import refuse_unless, switched
from twinscope.gateway.modules import _recordings
from twinscope.gateway.spectroscopy import Plan, Recording, axis_of
from twinscope.requests import Sweep
from twinscope.state import Position

NAME = "the z spectroscopy"
EXPERIMENT = "Z Spectroscopy"

_DISTANCE = 1e-9
_FIXED = ("Z offset (m)", "Z sweep distance (m)")
_PARAMETERS = ("X (m)", "Y (m)", "Z (m)", "Settling time (s)", "Integration time (s)")


@dataclass(frozen=True, slots=True)
class ZSweepSettings:
    """How the next z spectroscopy will be.

    Attributes
    ----------
    recording
        What is recorded.
    offset
        From where the tip is to the start of the sweep, in m; above zero is away from the sample.
    distance
        From its start to its end, in m.
    resets
        Whether z returns to where it was.
    """

    recording: Recording
    offset: float = 0.0
    distance: float = _DISTANCE
    resets: bool = True

    @classmethod
    def initial(cls, capabilities: Capabilities) -> Self:
        """Return a sweep of all channels, away from the sample."""
        return cls(Recording.initial(capabilities))

    def plan(self, positions: tuple[tuple[float, float], ...], height: float) -> Plan:
        """Return the spectroscopy at some positions, counted from a height, in m."""
        start = height + self.offset
        sweep = Sweep(start=start, stop=start + self.distance, points=self.recording.points)
        return Plan("z", positions, (self.recording.timing.part(sweep),), self.recording, resets=self.resets)


def _open(call: Call, given: Mapping[str, Any]) -> None:
    del given
    refuse_unless("z" in call.capabilities.sweeps, "z spectroscopy", "this instrument cannot sweep z")


def _start(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any] | None:
    settings = call.settings.of(ZSweepSettings)
    here = call.operator.position()
    plan = settings.plan(((here.x, here.y),), here.z)
    task = _recordings.start(call, NAME, plan)
    if not given["get_data"]:
        return None
    columns = call.wait_for(task)
    axis = ("Z rel (m)", axis_of(plan, here.z))
    return {**_recordings.table(call, axis, columns), "parameters": _parameters(settings, here)}


def _parameters(settings: ZSweepSettings, here: Position) -> np.ndarray:
    timing = settings.recording.timing
    fixed = (settings.offset, settings.distance)
    return np.array([*fixed, here.x, here.y, here.z, timing.settling_time, timing.integration_time])


def _set_props(call: Call, given: Mapping[str, Any]) -> None:
    recording = _recordings.with_props(given, call.settings.of(ZSweepSettings).recording)
    call.settings.change(ZSweepSettings, recording=recording)


def _get_props(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    told = _recordings.props_told(call.settings.of(ZSweepSettings).recording)
    return told | {"parameters": _PARAMETERS, "fixed_parameters": _FIXED}


def _set_advanced(call: Call, given: Mapping[str, Any]) -> None:
    name = "time_between_forward_and_backward_sweep"
    refuse_unless(given[name] == 0, "a pause between the sweeps", "the instrument makes none, give 0")
    settings = call.settings.of(ZSweepSettings)
    recording = _recordings.with_advanced(given, settings.recording)
    resets = switched("reset_z", given["reset_z"], settings.resets)
    call.settings.change(ZSweepSettings, resets=resets, recording=recording)


def _get_advanced(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    settings = call.settings.of(ZSweepSettings)
    return _recordings.advanced_told(settings.recording) | {"reset_z": int(settings.resets)}


def _set_range(call: Call, given: Mapping[str, Any]) -> None:
    offset = _checks.finite("z_offset", given["z_offset"])
    distance = _checks.finite("z_sweep_distance", given["z_sweep_distance"])
    call.settings.change(ZSweepSettings, offset=offset, distance=distance)


def _get_range(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    settings = call.settings.of(ZSweepSettings)
    return {"z_offset": settings.offset, "z_sweep_distance": settings.distance}


def _set_timing(call: Call, given: Mapping[str, Any]) -> None:
    recording = call.settings.of(ZSweepSettings).recording
    call.settings.change(ZSweepSettings, recording=replace(recording, timing=_recordings.timing_from(given)))


def _get_timing(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return _recordings.timing_told(call.settings.of(ZSweepSettings).recording.timing)


def _set_delay(call: Call, given: Mapping[str, Any]) -> None:
    del call
    refuse_unless(given["retract_delay"] == 0, "a retract delay", "the instrument makes none, give 0")


def _get_delay(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del call, given
    return {"retract_delay": 0.0}


HANDLERS = {
    "ZSpectr.Open": _open,
    "ZSpectr.Start": _start,
    **_recordings.handlers("ZSpectr", NAME, ZSweepSettings),
    "ZSpectr.PropsSet": _set_props,
    "ZSpectr.PropsGet": _get_props,
    "ZSpectr.AdvPropsSet": _set_advanced,
    "ZSpectr.AdvPropsGet": _get_advanced,
    "ZSpectr.RangeSet": _set_range,
    "ZSpectr.RangeGet": _get_range,
    "ZSpectr.TimingSet": _set_timing,
    "ZSpectr.TimingGet": _get_timing,
    "ZSpectr.RetractDelaySet": _set_delay,
    "ZSpectr.RetractDelayGet": _get_delay,
}
