"""The oscilloscopes: a channel recorded at one place, as a path that stays where it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from twinscope import _checks
from twinscope.capabilities import Capabilities
from twinscope.errors import OutOfRangeError
from twinscope.gateway.call import Call
from twinscope.gateway.codes import meaning, refuse_unless
from twinscope.gateway.tasks import Task
from twinscope.requests import CONSTANT_HEIGHT, PathRequest
from twinscope.state import FEEDBACK_OFF

_HIGH_RESOLUTION, _ONE_CHANNEL = "the high-resolution oscilloscope", "the oscilloscope"
# Of the high-resolution one, in s; each step of the oversampling doubles it.
_SHORTEST = 1e-6
_OVERSAMPLINGS = 11
_MOST_SAMPLES = 2**20
_TIMEBASES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_SAMPLES = 256
_IMMEDIATE_ONLY = "this instrument has none, it begins at once"


@dataclass(frozen=True, slots=True)
class ScopeSettings:
    """What the oscilloscopes record.

    Attributes
    ----------
    channel, samples, oversampling
        Of the high-resolution one: index of the signal, number of samples, and how often their interval is doubled.
    single_channel, timebase
        Of the other: index of the signal, and which of the timebases.
    """

    channel: int = 0
    samples: int = 1000
    oversampling: int = 0
    single_channel: int = 0
    timebase: int = 3

    @classmethod
    def initial(cls, capabilities: Capabilities) -> Self:
        """Return the settings for the first signal."""
        del capabilities
        return cls()


@dataclass(frozen=True, slots=True)
class Aim:
    """What is to be recorded: a channel, so many samples, and their interval, in s."""

    channel: str
    samples: int
    interval: float


@dataclass(frozen=True, slots=True)
class Capture:
    """What was recorded: by which aim, from which instrument time on, in s, and the values."""

    aim: Aim
    start: float
    values: np.ndarray


def _capture(call: Call, name: str, aim: Aim) -> Task:
    state = call.operator.state()
    here = call.operator.position()
    request = PathRequest(
        positions=((here.x, here.y),),
        channels=(aim.channel,),
        passes=aim.samples,
        separate=True,
        point_time=aim.interval,
        z_mode=CONSTANT_HEIGHT if state.feedback == FEEDBACK_OFF else state.feedback,
    )
    call.operator.check("acquire", kind=request.kind, request=request.to_dict())
    return call.controller.tasks.begin(
        name, lambda task: Capture(aim, state.time, np.asarray(task.acquire(request)[aim.channel].values[0]))
    )


def _data(call: Call, name: str, aim: Aim, *, anew: bool) -> Task:
    """Return the latest capture when it will do, or begin another."""
    latest = call.controller.tasks.latest(name)
    if latest is not None and not latest.done.is_set():
        return latest
    if latest is None or latest.error is not None or latest.result.aim != aim or anew:
        return _capture(call, name, aim)
    return latest


# ---------------------------------------------------------------------- high resolution


def _set_channel(call: Call, given: Mapping[str, Any]) -> None:
    call.signals.recorded_at(given["channel_index"])
    call.settings.change(ScopeSettings, channel=given["channel_index"])


def _get_channel(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"channel_index": call.settings.of(ScopeSettings).channel}


def _set_oversampling(call: Call, given: Mapping[str, Any]) -> None:
    index = meaning("oversampling_index", given["oversampling_index"], range(_OVERSAMPLINGS))
    call.settings.change(ScopeSettings, oversampling=index)


def _get_oversampling(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"oversampling_index": call.settings.of(ScopeSettings).oversampling}


def _set_samples(call: Call, given: Mapping[str, Any]) -> None:
    samples = _checks.count("number_of_samples", given["number_of_samples"])
    if samples > _MOST_SAMPLES:
        raise OutOfRangeError(f"number_of_samples is {samples}: expected at most {_MOST_SAMPLES}")
    call.settings.change(ScopeSettings, samples=samples)


def _get_samples(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"number_of_samples": call.settings.of(ScopeSettings).samples}


def _set_calibration(call: Call, given: Mapping[str, Any]) -> None:
    del call
    refuse_unless(given["calibration_mode"] == 1, "a record of raw values", "all values are in physical units, give 1")


def _get_calibration(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del call, given
    return {"calibration_mode": 1}


def _set_trigger_mode(call: Call, given: Mapping[str, Any]) -> None:
    del call
    refuse_unless(given["trigger_mode"] == 0, "a trigger", _IMMEDIATE_ONLY)


def _get_trigger_mode(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del call, given
    return {"trigger_mode": 0}


def _run(call: Call, given: Mapping[str, Any]) -> None:
    del given
    _data(call, _HIGH_RESOLUTION, _aim(call), anew=True)


def _aim(call: Call) -> Aim:
    settings = call.settings.of(ScopeSettings)
    channel = call.signals.recorded_at(settings.channel).name
    return Aim(channel, settings.samples, _SHORTEST * 2.0**settings.oversampling)


def _get_data(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    anew = meaning("data_to_get", given["data_to_get"], (False, True))
    task = _data(call, _HIGH_RESOLUTION, _aim(call), anew=anew)
    timeout = given["timeout"]
    if not call.wait_until(task.done.wait, timeout if timeout >= 0 else None):
        return {"timeout": 1}
    capture: Capture = call.wait_for(task)
    return {"data_t0": f"{capture.start:.6f}", "data_dt": capture.aim.interval, "data_y": capture.values}


# ---------------------------------------------------------------------- one channel


def _set_single(call: Call, given: Mapping[str, Any]) -> None:
    call.signals.recorded_at(given["channel_index"])
    call.settings.change(ScopeSettings, single_channel=given["channel_index"])


def _get_single(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"channel_index": call.settings.of(ScopeSettings).single_channel}


def _set_timebase(call: Call, given: Mapping[str, Any]) -> None:
    index = meaning("timebase_index", given["timebase_index"], range(len(_TIMEBASES)))
    call.settings.change(ScopeSettings, timebase=index)


def _get_timebase(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"timebase_index": call.settings.of(ScopeSettings).timebase, "timebases": _TIMEBASES}


def _run_single(call: Call, given: Mapping[str, Any]) -> None:
    del given
    _single(call, anew=True)


def _single(call: Call, *, anew: bool) -> Task:
    settings = call.settings.of(ScopeSettings)
    channel = call.signals.recorded_at(settings.single_channel).name
    aim = Aim(channel, _SAMPLES, _TIMEBASES[settings.timebase] / _SAMPLES)
    return _data(call, _ONE_CHANNEL, aim, anew=anew)


def _get_single_data(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    anew = meaning("data_to_get", given["data_to_get"], (False, True, True))
    capture: Capture = call.wait_for(_single(call, anew=anew))
    return {"data_t0": capture.start, "data_dt": capture.aim.interval, "data_y": capture.values.astype(float)}


HANDLERS = {
    "OsciHR.ChSet": _set_channel,
    "OsciHR.ChGet": _get_channel,
    "OsciHR.OversamplSet": _set_oversampling,
    "OsciHR.OversamplGet": _get_oversampling,
    "OsciHR.SamplesSet": _set_samples,
    "OsciHR.SamplesGet": _get_samples,
    "OsciHR.CalibrModeSet": _set_calibration,
    "OsciHR.CalibrModeGet": _get_calibration,
    "OsciHR.TrigModeSet": _set_trigger_mode,
    "OsciHR.TrigModeGet": _get_trigger_mode,
    "OsciHR.Run": _run,
    "OsciHR.OsciDataGet": _get_data,
    "Osci1T.ChSet": _set_single,
    "Osci1T.ChGet": _get_single,
    "Osci1T.TimebaseSet": _set_timebase,
    "Osci1T.TimebaseGet": _get_timebase,
    "Osci1T.TrigSet": _set_trigger_mode,
    "Osci1T.TrigGet": _get_trigger_mode,
    "Osci1T.Run": _run_single,
    "Osci1T.DataGet": _get_single_data,
}
