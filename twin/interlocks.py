"""Interlocks: rules that keep a tip safe. They refuse; they never change what was asked for.

The instrument checks them before a command goes to the driver, and the :class:`~twinscope.guard.Guard` checks them
again in front of the driver, so that neither a mistake of the one nor a command from elsewhere gets past.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from twinscope import _checks
from twinscope._plain import PlainData, nested, set_field
from twinscope.capabilities import Capabilities
from twinscope.errors import ConfigurationError, InterlockError, InvalidRequestError, TripError
from twinscope.requests import CONSTANT_HEIGHT, AcquisitionRequest, PathRequest, ScanRequest, SpectroscopyRequest
from twinscope.state import FEEDBACK_OFF, Position, Reading, TipState

PERMISSIONS = ("pulse", "tip_shaping", "tip_exchange")
"""What is forbidden unless it was allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRule(PlainData):
    """Limits of one signal, narrower than those of the instrument; None is no limit.

    Attributes
    ----------
    low, high
        Its range.
    max_step
        Largest change at once.
    max_slew
        Fastest change, in its unit per second.
    """

    low: float | None = None
    high: float | None = None
    max_step: float | None = None
    max_slew: float | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            if getattr(self, name) is not None:
                set_field(self, name, _checks.finite(name, getattr(self, name)))
        for name in ("max_step", "max_slew"):
            if getattr(self, name) is not None:
                set_field(self, name, _checks.positive(name, getattr(self, name)))
        if self.low is not None and self.high is not None and self.low > self.high:
            raise InvalidRequestError(f"low is {self.low} and high is {self.high}: expected low below high")

    def check_range(self, name: str, value: float) -> None:
        """Raise :class:`InterlockError` when `value` is outside the soft limits."""
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if not low <= value <= high:
            raise _refusal(name, value, f"a soft limit allows {low:.6g} to {high:.6g}", low=low, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region(PlainData):
    """A rectangle along x and y where the tip must not be.

    Attributes
    ----------
    name
        For people.
    low, high
        Its corners (x, y), in m.
    below
        The rule holds below this height, in m; None: at any height.
    """

    name: str
    low: tuple[float, float]
    high: tuple[float, float]
    below: float | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            x, y = _checks.pair(name, getattr(self, name))
            set_field(self, name, (_checks.finite(name, x), _checks.finite(name, y)))
        if self.below is not None:
            set_field(self, "below", _checks.finite("below", self.below))
        if not (self.low[0] < self.high[0] and self.low[1] < self.high[1]):
            raise InvalidRequestError(
                f"the region {self.name!r} goes from {self.low} to {self.high}: expected low < high"
            )

    def applies(self, lowest: float | None) -> bool:
        """Whether the rule holds for a tip that comes as low as this; None when the z-controller decides that."""
        return self.below is None or lowest is None or lowest < self.below

    def overlaps(self, corners: np.ndarray) -> bool:
        """Whether it shares a point with the convex polygon of these corners (n, 2), by its separating axes."""
        own = np.array([self.low, (self.high[0], self.low[1]), self.high, (self.low[0], self.high[1])])
        sides = np.concatenate([np.roll(polygon, -1, axis=0) - polygon for polygon in (own, corners)])
        normals = np.stack([sides[:, 1], -sides[:, 0]])
        ours, theirs = own @ normals, corners @ normals
        return bool(((ours.max(axis=0) >= theirs.min(axis=0)) & (theirs.max(axis=0) >= ours.min(axis=0))).all())

    def touches(self, points: np.ndarray) -> bool:
        """Whether the straight lines between successive points (n, 2), or a single point, touch it."""
        low, high = np.array(self.low), np.array(self.high)
        start = points[:-1] if len(points) > 1 else points
        along = points[1:] - start if len(points) > 1 else np.zeros_like(start)
        # Where along each line, 0 to 1, it is between the two sides of either axis (the slab method).
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            first, second = (low - start) / along, (high - start) / along
        inside = (start >= low) & (start <= high)
        enter = np.where(along == 0, np.where(inside, -np.inf, np.inf), np.fmin(first, second)).max(axis=1)
        leave = np.where(along == 0, np.where(inside, np.inf, -np.inf), np.fmax(first, second)).min(axis=1)
        return bool((np.maximum(enter, 0) <= np.minimum(leave, 1)).any())


@dataclass(frozen=True, slots=True, kw_only=True)
class Interlocks(PlainData):
    """The rules of one instrument. Without any, only the instrument's own limits hold.

    Attributes
    ----------
    signals
        Rules by the name of a signal; x, y and z are signals, too.
    forbidden
        Where the tip must not be.
    least_move_height
        The tip is moved sideways with the z-controller off only at this height or above, in m.
    least_scan_height
        Scans and paths at constant height, and sweeps of z, go no deeper than this, in m.
    trips
        Allowed range (low, high) of a channel or signal unless the tip is withdrawn: outside of it the tip is withdrawn
        (SafeTip). None is no limit.
    allow
        What is forbidden without: "pulse", "tip_shaping", "tip_exchange".
    """

    signals: Mapping[str, SignalRule] = field(default_factory=dict)
    forbidden: tuple[Region, ...] = ()
    least_move_height: float | None = None
    least_scan_height: float | None = None
    trips: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rules = _checks.mapping("signals", self.signals)
        set_field(self, "signals", {name: nested(f"signals.{name}", rule, SignalRule) for name, rule in rules.items()})
        regions = _checks.items("forbidden", self.forbidden)
        set_field(self, "forbidden", tuple(nested("forbidden", region, Region) for region in regions))
        for name in ("least_move_height", "least_scan_height"):
            if getattr(self, name) is not None:
                set_field(self, name, _checks.finite(name, getattr(self, name)))
        trips = _checks.mapping("trips", self.trips)
        set_field(self, "trips", {name: _trip(name, window) for name, window in trips.items()})
        allowed = _checks.items("allow", self.allow)
        set_field(self, "allow", tuple(_checks.choice("allow", name, PERMISSIONS) for name in allowed))

    def check_names(self, capabilities: Capabilities) -> None:
        """Raise :class:`ConfigurationError` when a rule is about something that the instrument does not have."""
        settable = ("x", "y", "z", *capabilities.settable)
        for name in self.signals:
            if name not in settable:
                raise ConfigurationError(
                    f"an interlock is about {name!r}: expected one of {', '.join(settable)}", name=name
                )
        channels = {channel.name for channel in (*capabilities.channels, *capabilities.signals)}
        for name in self.trips:
            if name not in channels:
                known = ", ".join(sorted(channels))
                raise ConfigurationError(f"a trip is about {name!r}: expected one of {known}", name=name)

    # ------------------------------------------------------------------ before something is done

    def check_signal(self, reading: Reading, name: str, value: float, rate: float | None) -> None:
        """Raise :class:`InterlockError` when the signal must not go to `value`, at `rate` per second or at once."""
        rule = self.signals.get(name, SignalRule())
        rule.check_range(name, value)
        # A present value of NaN is not known: no step from it is small.
        step = abs(value - reading.signals[name])
        if rate is None:
            if rule.max_slew is not None and step != 0:
                why = f"it may change by {rule.max_slew:.6g} per second: give a rate"
                raise _refusal(name, value, why, max_slew=rule.max_slew)
            if rule.max_step is not None and not step <= rule.max_step:
                why = f"a step of {step:.6g} is more than {rule.max_step:.6g}: give a rate"
                raise _refusal(name, value, why, step=step, max_step=rule.max_step)
        elif rule.max_slew is not None and rate > rule.max_slew:
            why = f"the rate {rate:.6g} is above {rule.max_slew:.6g} per second"
            raise _refusal(name, value, why, rate=rate, max_slew=rule.max_slew)

    def check_move(self, reading: Reading, target: Position, speed: float) -> None:
        """Raise :class:`InterlockError` when the tip must not move to `target` with `speed` m/s."""
        start = reading.position
        way = {"x": target.x - start.x, "y": target.y - start.y, "z": target.z - start.z}
        length = math.hypot(*way.values())
        for name, distance in way.items():
            rule = self.signals.get(name)
            if rule is None or distance == 0:
                continue
            rule.check_range(name, getattr(target, name))
            if rule.max_step is not None and abs(distance) > rule.max_step:
                why = f"the way of {abs(distance):.6g} m is more than {rule.max_step:.6g} m: go in smaller steps"
                raise _refusal(name, getattr(target, name), why, step=abs(distance), max_step=rule.max_step)
            self._check_slew(name, speed * abs(distance) / length)
        sideways = math.hypot(way["x"], way["y"])
        lowest = min(start.z, target.z)
        off = reading.feedback == FEEDBACK_OFF
        if sideways > 0 and off and self.least_move_height is not None and lowest < self.least_move_height:
            raise InterlockError(
                f"z = {lowest:.6g} m is below {self.least_move_height:.6g} m, the least height for sideways moves"
                " with the z-controller off: raise the tip, or switch the z-controller on",
                name="z",
                value=lowest,
                low=self.least_move_height,
            )
        for region in self.forbidden:
            way_along_xy = np.array([[start.x, start.y], [target.x, target.y]])
            if region.applies(lowest if off else None) and region.touches(way_along_xy):
                raise _forbidden(region)

    def check_request(self, reading: Reading, request: AcquisitionRequest) -> None:
        """Raise :class:`InterlockError` when an acquisition must not be done."""
        points = _corners(request)
        for i, name in enumerate(("x", "y")):
            for value in (points[:, i].min(), points[:, i].max()):
                self.signals.get(name, SignalRule()).check_range(name, float(value))
            self._check_slew(name, _speed(request, i))
        heights = _heights(request, reading)
        for height in heights:
            self.signals.get("z", SignalRule()).check_range("z", height)
            if self.least_scan_height is not None and height < self.least_scan_height:
                why = f"the least height for this is {self.least_scan_height:.6g} m"
                raise _refusal("z", height, why, low=self.least_scan_height)
        if isinstance(request, SpectroscopyRequest):
            rule = self.signals.get(request.swept, SignalRule())
            for value in (request.sweep.start, request.sweep.stop):
                rule.check_range(request.swept, value)
            step = abs(request.sweep.stop - request.sweep.start) / (request.sweep.points - 1)
            if rule.max_step is not None and step > rule.max_step:
                why = f"a step of {step:.6g} between two points is more than {rule.max_step:.6g}: take more points"
                raise _refusal(request.swept, request.sweep.stop, why, step=step, max_step=rule.max_step)
            self._check_slew(request.swept, step / request.point_time)
        # The tip comes from where it is, at the lower one of the two heights.
        lowest = min([*heights, reading.position.z]) if heights else None
        here = np.array([reading.position.x, reading.position.y])
        for region in self.forbidden:
            if region.applies(lowest) and _reaches(region, here, request):
                raise _forbidden(region)

    def check_place(self, reading: Reading) -> None:
        """Raise :class:`InterlockError` when the tip is above a forbidden region, so that it must not come down."""
        here = np.array([[reading.position.x, reading.position.y]])
        for region in self.forbidden:
            if region.touches(here):
                raise _forbidden(region)

    def check_coarse(self, reading: Reading, axis: str, steps: int) -> None:
        """Raise :class:`InterlockError` unless the tip is withdrawn; steps away from the sample are always allowed."""
        if axis == "z" and steps > 0:
            return
        if reading.tip is not TipState.WITHDRAWN:
            raise InterlockError(
                f"coarse motion along {axis} by {steps} steps while the tip is {reading.tip}: withdraw it first",
                name="tip",
                value=reading.tip.value,
            )

    def check_permission(self, what: str) -> None:
        """Raise :class:`InterlockError` unless `what` was allowed."""
        if what not in self.allow:
            raise InterlockError(
                f"{what} can change the tip and is not allowed: the instrument's owner can allow it in the interlocks",
                name=what,
            )

    # ------------------------------------------------------------------ while something is done

    def tripped(self, values: Mapping[str, np.ndarray | float]) -> TripError | None:
        """Return the error for the first value outside its allowed range, or None. NaN is not a value."""
        for name, (low, high) in self.trips.items():
            if name not in values:
                continue
            array = np.asarray(values[name], dtype=float)
            bottom, top = -math.inf if low is None else low, math.inf if high is None else high
            outside = array[(array < bottom) | (array > top)]
            if outside.size:
                worst = float(outside[0])
                return TripError(
                    f"{name} reached {worst:.6g}, allowed are {bottom:.6g} to {top:.6g}: the tip was withdrawn",
                    name=name,
                    value=worst,
                    low=low,
                    high=high,
                )
        return None

    def _check_slew(self, name: str, rate: float) -> None:
        rule = self.signals.get(name)
        if rule is not None and rule.max_slew is not None and rate > rule.max_slew * (1 + 1e-9):
            raise InterlockError(
                f"{name} would change by {rate:.6g} per second: allowed are {rule.max_slew:.6g}, be slower",
                name=name,
                value=rate,
                max_slew=rule.max_slew,
            )


def _trip(name: str, window: Any) -> tuple[float | None, float | None]:
    bottom, top = _checks.pair(f"trips.{name}", window)
    # A file in TOML has no None, but infinities.
    low = None if bottom in (None, -math.inf) else _checks.finite(f"trips.{name}", bottom)
    high = None if top in (None, math.inf) else _checks.finite(f"trips.{name}", top)
    if low is not None and high is not None and low >= high:
        raise InvalidRequestError(f"trips.{name} is {window!r}: expected (low, high) with low below high")
    return low, high


def _corners(request: AcquisitionRequest) -> np.ndarray:
    """Points (n, 2) between which the tip stays."""
    return request.frame.corners() if isinstance(request, ScanRequest) else np.array(request.positions)


def _reaches(region: Region, here: np.ndarray, request: AcquisitionRequest) -> bool:
    """Whether an acquisition touches a region, on the way to it from `here` (2,) or in it."""
    points = _corners(request)
    if isinstance(request, ScanRequest):
        # Wherever in the frame it begins, the way there lies within these triangles.
        ways = [np.array([here, a, b]) for a, b in zip(points, np.roll(points, -1, axis=0), strict=True)]
        return region.overlaps(points) or any(region.overlaps(way) for way in ways)
    returns = isinstance(request, PathRequest) and not request.separate and request.passes > 1
    return region.touches(np.concatenate([[here], points, points[:1] if returns else points[:0]]))


def _heights(request: AcquisitionRequest, reading: Reading) -> list[float]:
    """Heights at which the tip is held; none when the z-controller decides."""
    if isinstance(request, SpectroscopyRequest):
        if request.swept == "z":
            return [request.sweep.start, request.sweep.stop]
        return [reading.position.z if request.height is None else request.height]
    if request.z_mode != CONSTANT_HEIGHT:
        return []
    if isinstance(request, ScanRequest):
        return list(request.heights or [reading.position.z])
    return [reading.position.z if request.height is None else request.height]


def _speed(request: AcquisitionRequest, axis: int) -> float:
    """Fastest motion along x (0) or y (1), in m/s."""
    if isinstance(request, ScanRequest):
        angle = math.radians(request.frame.angle)
        return request.frame.size[0] / request.line_time * abs((math.cos(angle), math.sin(angle))[axis])
    if isinstance(request, PathRequest) and not request.separate and len(request.positions) > 1:
        return float(np.abs(np.diff(np.array(request.positions)[:, axis])).max()) / request.point_time
    return 0.0


def _refusal(name: str, value: float, why: str, **details: Any) -> InterlockError:
    return InterlockError(f"{name} = {value:.6g} is refused: {why}", name=name, value=value, **details)


def _forbidden(region: Region) -> InterlockError:
    return InterlockError(
        f"the way touches the forbidden region {region.name!r}, x and y from {region.low} to {region.high} m"
        + ("" if region.below is None else f" below z = {region.below:.6g} m"),
        name=region.name,
        low=region.low,
        high=region.high,
        below=region.below,
    )
