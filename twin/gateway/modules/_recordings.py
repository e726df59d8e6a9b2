"""What the handlers of the two spectroscopies share."""

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Protocol

import numpy as np

from twinscope import _checks
from twinscope.errors import InvalidRequestError
from twinscope.gateway.call import Call, Handler
from twinscope.gateway.codes import refuse_unless, switched
from twinscope.gateway.settings import Section
from twinscope.gateway.spectroscopy import Columns, Plan, Recording, Timing, flags, measure
from twinscope.gateway.tasks import Task

_UNCHANGED = 0
_SLEW_RATE = "maximum_slew_rate"


def channels_from(call: Call, indexes: np.ndarray) -> tuple[str, ...]:
    """Return the channels with these indexes, each once."""
    names = tuple(dict.fromkeys(call.signals.recorded_at(int(index)).name for index in indexes))
    if not names:
        raise InvalidRequestError("channel_indexes is empty: choose at least one channel to record")
    return names


class Recorded(Section, Protocol):
    """Settings of a spectroscopy."""

    @property
    def recording(self) -> Recording:
        """What is recorded."""
        ...


def handlers(module: str, name: str, kind: type[Recorded]) -> Mapping[str, Handler]:
    """Return the handlers that both have in the same way: how to stop it and look at it, and its channels.

    Parameters
    ----------
    module
        Of the commands.
    name
        Of the task.
    kind
        Its settings.
    """

    def stop(call: Call, given: Mapping[str, Any]) -> None:
        del given
        call.controller.tasks.stop(name)

    def status(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
        del given
        return {"status": int(call.controller.tasks.running(name))}

    def set_channels(call: Call, given: Mapping[str, Any]) -> None:
        channels = channels_from(call, given["channel_indexes"])
        call.settings.change(kind, recording=replace(call.settings.of(kind).recording, channels=channels))

    def get_channels(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
        del given
        indexes = [call.signals.index_of(channel) for channel in call.settings.of(kind).recording.channels]
        return {"channel_indexes": indexes, "channels": tuple(call.signals.at(index).label for index in indexes)}

    of_module = {"Stop": stop, "StatusGet": status, "ChsSet": set_channels, "ChsGet": get_channels}
    return {f"{module}.{command}": handler for command, handler in of_module.items()}


def with_props(given: Mapping[str, Any], before: Recording) -> Recording:
    """Return a recording with the properties of a PropsSet; 0 changes nothing."""
    for name in ("number_of_points", "number_of_sweeps"):
        if given[name] < _UNCHANGED:
            raise InvalidRequestError(f"{name} is {given[name]}: expected 0 for no change, or at least 1", name=name)
    return replace(
        before,
        points=given["number_of_points"] or before.points,
        sweeps=given["number_of_sweeps"] or before.sweeps,
        backward=switched("backward_sweep", given["backward_sweep"], before.backward),
        flags=flags(given, before, "save_all", "autosave", "show_save_dialog"),
    )


def props_told(recording: Recording) -> dict[str, Any]:
    """Return the results of a PropsGet that both have."""
    known = dict(recording.flags)
    return {
        "number_of_points": recording.points,
        "number_of_sweeps": recording.sweeps,
        "backward_sweep": int(recording.backward),
        "save_all": int(known.get("save_all", False)),
        "autosave": int(known.get("autosave", True)),
        "show_save_dialog": int(known.get("show_save_dialog", False)),
    }


def timing_from(given: Mapping[str, Any]) -> Timing:
    """Return the times of a TimingSet."""
    times = [field.name for field in fields(Timing) if field.name != _SLEW_RATE]
    slew_rate = slew_rate_from(given)
    timing = Timing(maximum_slew_rate=slew_rate, **{name: _checks.not_negative(name, given[name]) for name in times})
    _checks.positive("settling_time + integration_time", timing.point_time)
    return timing


def slew_rate_from(given: Mapping[str, Any]) -> float:
    """Return the maximum slew rate; infinity is no limit."""
    rate: float = given[_SLEW_RATE]
    return rate if rate == math.inf else _checks.not_negative(_SLEW_RATE, rate)


def timing_told(timing: Timing) -> dict[str, Any]:
    """Return the results of a TimingGet that both have."""
    return {field.name: getattr(timing, field.name) for field in fields(Timing)}


def start(call: Call, name: str, plan: Plan) -> Task:
    """Begin a spectroscopy; what is refused is refused before anything has begun."""
    for _, parts in plan.ways():
        for part in parts:
            request = plan.request(part)
            call.operator.check("acquire", kind=request.kind, request=request.to_dict())
    return call.controller.tasks.begin(name, lambda task: measure(task, plan))


def table(call: Call, axis: tuple[str, np.ndarray], columns: Columns) -> Mapping[str, Any]:
    """Return the channels and the data of a Start: one row for what was swept, and one for each channel."""
    label, values = axis
    names = [label]
    rows = [values]
    for (channel, note), spectra in columns.items():
        signal = call.signals.at(call.signals.index_of(channel))
        names.append(signal.with_note(note) if note else signal.label)
        rows.append(spectra[0])
    return {"channels_names": tuple(names), "data": np.stack(rows).astype(np.float32)}


def with_advanced(given: Mapping[str, Any], before: Recording) -> Recording:
    """Return a recording with the switches of an AdvPropsSet that both have."""
    refuse_unless(not switched("lockin_run", given["lockin_run"], False), "a run of the lock-in", "there is none")
    return replace(before, flags=flags(given, before, "record_final_z"))


def advanced_told(recording: Recording) -> dict[str, Any]:
    """Return the results of an AdvPropsGet that both have."""
    return {"record_final_z": int(dict(recording.flags).get("record_final_z", False))}
