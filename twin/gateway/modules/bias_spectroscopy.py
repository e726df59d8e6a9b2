"""Bias spectroscopy: linear, or in several segments, once or averaged."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np

from twinscope import _checks
from twinscope.capabilities import Capabilities
from twinscope.errors import InvalidRequestError
from twinscope.gateway.call import Call
from twinscope.gateway.codes import refuse_unless, switched
from twinscope.gateway.modules import _recordings
from twinscope.gateway.spectroscopy import Part, Plan, Recording, axis_of
from twinscope.requests import Sweep
from twinscope.state import Position

NAME = "the bias spectroscopy"
EXPERIMENT = "Bias Spectroscopy"

_MOST_SEGMENTS = 16
_FIXED = ("Sweep Start", "Sweep End")
_PARAMETERS = ("X (m)", "Y (m)", "Z (m)", "Z offset (m)", "Settling time (s)", "Integration time (s)")


@dataclass(frozen=True, slots=True)
class Segment:
    """A line of the multiple line segments, with the names of the protocol."""

    bias_start: float
    bias_end: float
    initial_settling_time: float
    settling_time: float
    integration_time: float
    steps: int
    lock_in_run: int

    @property
    def sweep(self) -> Sweep:
        """What it sweeps."""
        return Sweep(start=self.bias_start, stop=self.bias_end, points=self.steps)

    @property
    def point_time(self) -> float:
        """Seconds per point."""
        return self.settling_time + self.integration_time


@dataclass(frozen=True, slots=True)
class BiasSettings:
    """How the next bias spectroscopy will be.

    Attributes
    ----------
    recording
        What is recorded.
    start, stop
        Ends of the linear sweep, in V.
    z_offset
        By how much the tip is raised for it, in m.
    resets
        Whether the bias returns to its value.
    in_segments
        Whether the segments are swept instead.
    segments
        In their order.
    """

    recording: Recording
    start: float = -1.0
    stop: float = 1.0
    z_offset: float = 0.0
    resets: bool = True
    in_segments: bool = False
    segments: tuple[Segment, ...] = ()

    @classmethod
    def initial(cls, capabilities: Capabilities) -> Self:
        """Return a sweep of all channels from -1 to 1 V."""
        return cls(Recording.initial(capabilities))

    def plan(self, positions: tuple[tuple[float, float], ...], height: float) -> Plan:
        """Return the spectroscopy at some positions, with the tip at a height, in m."""
        return Plan(
            swept="bias",
            positions=positions,
            parts=self._parts(),
            recording=self.recording,
            height=height + self.z_offset if self.z_offset else None,
            resets=self.resets,
        )

    def _parts(self) -> tuple[Part, ...]:
        timing = self.recording.timing
        if not self.in_segments:
            sweep = Sweep(start=self.start, stop=self.stop, points=self.recording.points)
            return (timing.part(sweep),)
        if not self.segments:
            raise InvalidRequestError("there are no segments to sweep: give them with BiasSpectr.MLSValsSet")
        return tuple(timing.part(segment.sweep, segment.point_time) for segment in self.segments)


def _open(call: Call, given: Mapping[str, Any]) -> None:
    del given
    refuse_unless("bias" in call.capabilities.sweeps, "bias spectroscopy", "this instrument cannot sweep the bias")


def _start(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any] | None:
    settings = call.settings.of(BiasSettings)
    here = call.operator.position()
    plan = settings.plan(((here.x, here.y),), here.z)
    task = _recordings.start(call, NAME, plan)
    if not given["get_data"]:
        return None
    columns = call.wait_for(task)
    axis = ("Bias calc (V)", axis_of(plan, 0.0))
    return {**_recordings.table(call, axis, columns), "parameters": _parameters(settings, here)}


def _parameters(settings: BiasSettings, here: Position) -> np.ndarray:
    timing = settings.recording.timing
    fixed = (settings.start, settings.stop)
    return np.array([*fixed, here.x, here.y, here.z, settings.z_offset, timing.settling_time, timing.integration_time])


def _set_props(call: Call, given: Mapping[str, Any]) -> None:
    recording = _recordings.with_props(given, call.settings.of(BiasSettings).recording)
    call.settings.change(BiasSettings, recording=recording, z_offset=_checks.finite("z_offset", given["z_offset"]))


def _get_props(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    told = _recordings.props_told(call.settings.of(BiasSettings).recording)
    return told | {"parameters": _PARAMETERS, "fixed_parameters": _FIXED}


def _set_advanced(call: Call, given: Mapping[str, Any]) -> None:
    resets = switched("reset_bias", given["reset_bias"], call.settings.of(BiasSettings).resets)
    holds = switched("z_controller_hold", given["z_controller_hold"], True)
    refuse_unless(holds, "a sweep with the z-controller on", "the instrument switches it off for a sweep")
    recording = _recordings.with_advanced(given, call.settings.of(BiasSettings).recording)
    call.settings.change(BiasSettings, resets=resets, recording=recording)


def _get_advanced(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    settings = call.settings.of(BiasSettings)
    told = _recordings.advanced_told(settings.recording)
    return told | {"reset_bias": int(settings.resets), "z_controller_hold": 1}


def _set_limits(call: Call, given: Mapping[str, Any]) -> None:
    limits = call.controller.limits("bias")
    for name in ("start_value", "end_value"):
        limits.check(name, _checks.finite(name, given[name]))
    call.settings.change(BiasSettings, start=given["start_value"], stop=given["end_value"])


def _get_limits(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    settings = call.settings.of(BiasSettings)
    return {"start_value": settings.start, "end_value": settings.stop}


def _set_timing(call: Call, given: Mapping[str, Any]) -> None:
    timing = _recordings.timing_from(given)
    recording = call.settings.of(BiasSettings).recording
    call.settings.change(
        BiasSettings,
        recording=replace(recording, timing=timing),
        z_offset=_checks.finite("z_offset", given["z_offset"]),
    )


def _get_timing(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    settings = call.settings.of(BiasSettings)
    return _recordings.timing_told(settings.recording.timing) | {"z_offset": settings.z_offset}


def _set_mode(call: Call, given: Mapping[str, Any]) -> None:
    mode = _checks.choice("sweep_mode", given["sweep_mode"], ("Linear", "MLS"))
    call.settings.change(BiasSettings, in_segments=mode == "MLS")


def _get_mode(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"sweep_mode": "MLS" if call.settings.of(BiasSettings).in_segments else "Linear"}


def _set_segments(call: Call, given: Mapping[str, Any]) -> None:
    columns = [given[field.name].tolist() for field in fields(Segment)]
    segments = tuple(Segment(*values) for values in zip(*columns, strict=True))
    if not 1 <= len(segments) <= _MOST_SEGMENTS:
        raise InvalidRequestError(f"{len(segments)} segments were given: expected 1 to {_MOST_SEGMENTS}")
    limits = call.controller.limits("bias")
    for segment in segments:
        _checks.positive("settling_time + integration_time", segment.point_time)
        limits.check("bias_start", segment.sweep.start)
        limits.check("bias_end", segment.sweep.stop)
        refuse_unless(not segment.lock_in_run, "a run of the lock-in", "the instrument has none")
    call.settings.change(BiasSettings, segments=segments)


def _get_segments(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    segments = call.settings.of(BiasSettings).segments
    return {field.name: [getattr(segment, field.name) for segment in segments] for field in fields(Segment)}


HANDLERS = {
    "BiasSpectr.Open": _open,
    "BiasSpectr.Start": _start,
    **_recordings.handlers("BiasSpectr", NAME, BiasSettings),
    "BiasSpectr.PropsSet": _set_props,
    "BiasSpectr.PropsGet": _get_props,
    "BiasSpectr.AdvPropsSet": _set_advanced,
    "BiasSpectr.AdvPropsGet": _get_advanced,
    "BiasSpectr.LimitsSet": _set_limits,
    "BiasSpectr.LimitsGet": _get_limits,
    "BiasSpectr.TimingSet": _set_timing,
    "BiasSpectr.TimingGet": _get_timing,
    "BiasSpectr.MLSModeSet": _set_mode,
    "BiasSpectr.MLSModeGet": _get_mode,
    "BiasSpectr.MLSValsSet": _set_segments,
    "BiasSpectr.MLSValsGet": _get_segments,
}
