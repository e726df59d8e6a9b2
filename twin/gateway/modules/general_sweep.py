"""The Generic Sweeper: sweeps the bias or z between two limits."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from twinscope import _checks
from twinscope.capabilities import Capabilities
from twinscope.errors import InvalidRequestError
from twinscope.gateway.call import Call
from twinscope.gateway.codes import meaning, on_or_off, refuse_unless
from twinscope.gateway.modules import _recordings
from twinscope.gateway.spectroscopy import Plan, Recording, Timing, axis_of
from twinscope.requests import Sweep
from twinscope.state import FEEDBACK_OFF

_NAME = "the generic sweep"
_MILLI = 1e-3
_UNCHANGED = -1


@dataclass(frozen=True, slots=True)
class SweeperSettings:
    """How the next sweep will be.

    Attributes
    ----------
    recording
        What is recorded.
    swept
        "bias" or "z".
    low, high
        Its limits.
    """

    recording: Recording
    swept: str
    low: float
    high: float

    @classmethod
    def initial(cls, capabilities: Capabilities) -> Self:
        """Return a sweep over the whole range of what can be swept first."""
        swept = capabilities.sweeps[0] if capabilities.sweeps else "z"
        limits = capabilities.limits[swept]
        return cls(Recording.initial(capabilities), swept, limits.low, limits.high)


def _open(call: Call, given: Mapping[str, Any]) -> None:
    del given
    refuse_unless(bool(call.capabilities.sweeps), "a sweep", "this instrument can sweep nothing")


def _set_signal(call: Call, given: Mapping[str, Any]) -> None:
    signal = call.signals.with_label(given["sweep_channel_name"])
    known = " or ".join(_sweep_labels(call))
    refuse_unless(signal.name in call.capabilities.sweeps, f"a sweep of {signal.label}", f"expected {known}")
    call.settings.change(SweeperSettings, swept=signal.name)


def _get_signal(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"sweep_channel_name": _label(call), "channels_names": _sweep_labels(call)}


def _label(call: Call) -> str:
    return call.signals.at(call.signals.index_of(call.settings.of(SweeperSettings).swept)).label


def _sweep_labels(call: Call) -> tuple[str, ...]:
    return tuple(call.signals.at(call.signals.index_of(name)).label for name in call.capabilities.sweeps)


def _set_channels(call: Call, given: Mapping[str, Any]) -> None:
    indexes = given["channel_indexes"]
    if len(indexes):
        names = _recordings.channels_from(call, indexes)
    else:
        labels = given["channel_names"] or ()
        names = tuple(dict.fromkeys(_recordable(call, label) for label in labels))
    if not names:
        raise InvalidRequestError("there are neither channel_indexes nor channel_names: choose at least one channel")
    recording = call.settings.of(SweeperSettings).recording
    call.settings.change(SweeperSettings, recording=replace(recording, channels=names))


def _recordable(call: Call, label: str) -> str:
    name = call.signals.with_label(label).name
    return call.signals.recorded_at(call.signals.index_of(name)).name


def _get_channels(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    channels = call.settings.of(SweeperSettings).recording.channels
    return {"channel_indexes": [call.signals.index_of(name) for name in channels]}


def _set_limits(call: Call, given: Mapping[str, Any]) -> None:
    limits = call.controller.limits(call.settings.of(SweeperSettings).swept)
    for name in ("lower_limit", "upper_limit"):
        limits.check(name, _checks.finite(name, given[name]))
    call.settings.change(SweeperSettings, low=given["lower_limit"], high=given["upper_limit"])


def _get_limits(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    settings = call.settings.of(SweeperSettings)
    return {"lower_limit": settings.low, "upper_limit": settings.high}


def _set_props(call: Call, given: Mapping[str, Any]) -> None:
    before = call.settings.of(SweeperSettings).recording
    timing = Timing(
        initial_settling_time=_checks.not_negative("initial_settling_time", given["initial_settling_time"]) * _MILLI,
        maximum_slew_rate=_recordings.slew_rate_from(given),
        settling_time=_checks.not_negative("settling_time", given["settling_time"]) * _MILLI,
        integration_time=given["period"] * _MILLI if given["period"] else before.timing.integration_time,
    )
    points = _checks.count("number_of_steps", given["number_of_steps"] or before.points)
    known = dict(before.flags)
    for name in ("autosave", "save_dialog_box"):
        if given[name] != _UNCHANGED:
            known[name] = on_or_off(name, given[name])
    recording = replace(before, timing=timing, points=points, flags=tuple(known.items()))
    call.settings.change(SweeperSettings, recording=recording)


def _get_props(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    recording = call.settings.of(SweeperSettings).recording
    timing, known = recording.timing, dict(recording.flags)
    return {
        "initial_settling_time": timing.initial_settling_time / _MILLI,
        "maximum_slew_rate": timing.maximum_slew_rate,
        "number_of_steps": recording.points,
        "period": round(timing.integration_time / _MILLI),
        "autosave": int(known.get("autosave", True)),
        "save_dialog_box": int(known.get("save_dialog_box", False)),
        "settling_time": timing.settling_time / _MILLI,
    }


def _start(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any] | None:
    keeps_on = meaning("z_controller", given["z_controller"], (False, False, True))
    feedback = call.operator.state().feedback
    refuse_unless(
        not keeps_on or feedback == FEEDBACK_OFF,
        "a sweep with the z-controller on",
        "the instrument switches it off for a sweep, and on again after it",
    )
    settings = call.settings.of(SweeperSettings)
    upwards = on_or_off("sweep_direction", given["sweep_direction"])
    low, high = (settings.low, settings.high) if upwards else (settings.high, settings.low)
    part = settings.recording.timing.part(Sweep(start=low, stop=high, points=settings.recording.points))
    here = call.operator.position()
    resets = on_or_off("reset_signal", given["reset_signal"])
    plan = Plan(settings.swept, ((here.x, here.y),), (part,), settings.recording, resets=resets)
    task = _recordings.start(call, _NAME, plan)
    if not given["get_data"]:
        return None
    return _recordings.table(call, (_label(call), axis_of(plan, 0.0)), call.wait_for(task))


def _stop(call: Call, given: Mapping[str, Any]) -> None:
    del given
    call.controller.tasks.stop(_NAME)


HANDLERS = {
    "GenSwp.Open": _open,
    "GenSwp.SwpSignalSet": _set_signal,
    "GenSwp.SwpSignalGet": _get_signal,
    "GenSwp.AcqChsSet": _set_channels,
    "GenSwp.AcqChsGet": _get_channels,
    "GenSwp.LimitsSet": _set_limits,
    "GenSwp.LimitsGet": _get_limits,
    "GenSwp.PropsSet": _set_props,
    "GenSwp.PropsGet": _get_props,
    "GenSwp.Start": _start,
    "GenSwp.Stop": _stop,
}
