"""Grid experiments: a spectroscopy at each point of a grid, a line or a cloud."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from twinscope import _checks
from twinscope.capabilities import Capabilities
from twinscope.errors import InvalidRequestError
from twinscope.gateway.call import Call
from twinscope.gateway.codes import meaning, on_or_off, refuse_unless
from twinscope.gateway.modules import _recordings, bias_spectroscopy, z_spectroscopy
from twinscope.gateway.modules.bias_spectroscopy import BiasSettings
from twinscope.gateway.modules.z_spectroscopy import ZSweepSettings
from twinscope.gateway.scan_settings import ScanSettings, check_frame, from_nanonis, nanonis_angle
from twinscope.gateway.spectroscopy import check_spectra
from twinscope.requests import ScanFrame, line_positions

_NAME = "the grid experiment"
_EXPERIMENTS: Mapping[str, type[BiasSettings] | type[ZSweepSettings]] = {
    bias_spectroscopy.EXPERIMENT: BiasSettings,
    z_spectroscopy.EXPERIMENT: ZSweepSettings,
}
_PATTERNS = (None, "grid", "line", "cloud")

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class PatternSettings:
    """What the next grid experiment will be.

    Attributes
    ----------
    active
        Which pattern: "grid", "line" or "cloud".
    frame, counts
        The grid: where, and how many points along both axes.
    ends, count
        The line: its ends (x, y), in m, and how many points.
    cloud
        Points (x, y), in m.
    experiment
        Its name.
    told
        What is told back and changes nothing.
    """

    frame: ScanFrame
    ends: Points
    active: str = "grid"
    counts: tuple[int, int] = (8, 8)
    count: int = 8
    cloud: Points = ()
    experiment: str = bias_spectroscopy.EXPERIMENT
    told: Mapping[str, Any] = field(default_factory=lambda: {"external_vi_path": "", "save_scan_channels": 0})

    @classmethod
    def initial(cls, capabilities: Capabilities) -> Self:
        """Return a grid over the frame that a controller begins with."""
        frame = ScanSettings.initial(capabilities).frame
        return cls(frame, _diagonal(frame))

    def positions(self) -> Sequence[tuple[float, float]]:
        """Return the points of the active pattern."""
        if self.active == "grid":
            return self.frame.grid(self.counts)
        if self.active == "line":
            start, stop = self.ends
            return line_positions(start, stop, self.count)
        if not self.cloud:
            raise InvalidRequestError("there are no points in the cloud: give them with Pattern.CloudSet")
        return self.cloud


def _diagonal(frame: ScanFrame) -> Points:
    corners = frame.corners().tolist()
    return (corners[0][0], corners[0][1]), (corners[2][0], corners[2][1])


# ---------------------------------------------------------------------- the experiment


def _open(call: Call, given: Mapping[str, Any]) -> None:
    del call, given


def _start(call: Call, given: Mapping[str, Any]) -> None:
    chosen = meaning("pattern", given["pattern"], _PATTERNS)
    if chosen is not None:
        call.settings.change(PatternSettings, active=chosen)
    settings = call.settings.of(PatternSettings)
    experiment = call.settings.of(_EXPERIMENTS[settings.experiment])
    plan = experiment.plan(tuple(settings.positions()), call.operator.position().z)
    _recordings.start(call, _NAME, plan)


def _pause(call: Call, given: Mapping[str, Any]) -> None:
    pauses = on_or_off("pause_resume", given["pause_resume"])
    task = call.controller.tasks.latest(_NAME)
    if task is None or task.done.is_set() or task.acquisition is None:
        raise InvalidRequestError("there is no grid experiment to pause or resume: start one")
    call.operator.command("pause" if pauses else "resume", id=task.acquisition.id)


def _stop(call: Call, given: Mapping[str, Any]) -> None:
    del given
    call.controller.tasks.stop(_NAME)


def _status(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return {"status": int(call.controller.tasks.running(_NAME))}


def _set_props(call: Call, given: Mapping[str, Any]) -> None:
    experiment = _checks.choice("selected_experiment", given["selected_experiment"], tuple(_EXPERIMENTS))
    refuse_unless(given["pre_measure_delay"] == 0, "a pause before each point", "the instrument makes none, give 0")
    told = {name: given[name] for name in ("external_vi_path", "save_scan_channels")}
    call.settings.change(PatternSettings, experiment=experiment, told=told)


def _get_props(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    settings = call.settings.of(PatternSettings)
    chosen = {"list_of_experiments": tuple(_EXPERIMENTS), "selected_experiment": settings.experiment}
    return {**settings.told, **chosen}


# ---------------------------------------------------------------------- the patterns


def _change(call: Call, given: Mapping[str, Any], pattern: str, **fields: Any) -> None:
    if on_or_off("set_active_pattern", given["set_active_pattern"]):
        fields["active"] = pattern
    call.settings.change(PatternSettings, **fields)


def _set_grid(call: Call, given: Mapping[str, Any]) -> None:
    counts = tuple(_checks.count(name, given[name]) for name in ("number_of_points_in_x", "number_of_points_in_y"))
    check_spectra(math.prod(counts))
    if on_or_off("grid_is_scan_frame", given["grid_is_scan_frame"]):
        frame = call.settings.of(ScanSettings).frame
    else:
        center, size = (given["center_x"], given["center_y"]), (given["width"], given["height"])
        frame = from_nanonis(center, size, given["angle"])
        check_frame(frame, call.capabilities)
    _change(call, given, "grid", frame=frame, counts=counts)


def _get_grid(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    settings = call.settings.of(PatternSettings)
    frame = settings.frame
    return {
        "number_of_points_in_x": settings.counts[0],
        "number_of_points_in_y": settings.counts[1],
        "center_x": frame.center[0],
        "center_y": frame.center[1],
        "width": frame.size[0],
        "height": frame.size[1],
        "angle": nanonis_angle(frame),
    }


def _set_line(call: Call, given: Mapping[str, Any]) -> None:
    count = _checks.count("number_of_points", given["number_of_points"])
    check_spectra(count)
    if on_or_off("line_is_scan_frame", given["line_is_scan_frame"]):
        ends = _diagonal(call.settings.of(ScanSettings).frame)
    else:
        ends = tuple((given[f"line_point_{end}_x"], given[f"line_point_{end}_y"]) for end in (1, 2))
        _check_points(call, ends)
    _change(call, given, "line", ends=ends, count=count)


def _get_line(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    settings = call.settings.of(PatternSettings)
    told: dict[str, Any] = {"number_of_points": settings.count}
    for number, (x, y) in enumerate(settings.ends, 1):
        told |= {f"line_point_{number}_x": x, f"line_point_{number}_y": y}
    return told


def _set_cloud(call: Call, given: Mapping[str, Any]) -> None:
    cloud = tuple(zip(given["x_coordinates"].tolist(), given["y_coordinates"].tolist(), strict=True))
    _check_points(call, cloud)
    _change(call, given, "cloud", cloud=cloud)


def _get_cloud(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    cloud = call.settings.of(PatternSettings).cloud
    return {"x_coordinates": [x for x, _ in cloud], "y_coordinates": [y for _, y in cloud]}


def _check_points(call: Call, points: Points) -> None:
    for x, y in points:
        call.capabilities.check_position(x=x, y=y)


HANDLERS = {
    "Pattern.ExpOpen": _open,
    "Pattern.ExpStart": _start,
    "Pattern.ExpPause": _pause,
    "Pattern.ExpStop": _stop,
    "Pattern.ExpStatusGet": _status,
    "Pattern.PropsSet": _set_props,
    "Pattern.PropsGet": _get_props,
    "Pattern.GridSet": _set_grid,
    "Pattern.GridGet": _get_grid,
    "Pattern.LineSet": _set_line,
    "Pattern.LineGet": _get_line,
    "Pattern.CloudSet": _set_cloud,
    "Pattern.CloudGet": _get_cloud,
}
