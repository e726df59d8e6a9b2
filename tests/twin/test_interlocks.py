"""Each rule that keeps a tip safe: what it refuses, what it lets pass, and what its error says."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twinscope.errors import ConfigurationError, InterlockError, InvalidRequestError
from twinscope.interlocks import Interlocks, Region, SignalRule
from twinscope.requests import PathRequest, ScanFrame, ScanRequest, SpectroscopyRequest, Sweep
from twinscope.state import Position, Reading, TipState

NM = 1e-9
HERE = Reading(0.0, Position(0.0, 0.0, 1 * NM), TipState.IN_RANGE, {"bias": 0.1, "setpoint_current": 1e-11}, "off")
SCAN = ScanRequest(frame=ScanFrame(size=(2 * NM, 2 * NM)), pixels=(4, 4), channels=("a",))
WALL = Region(name="wall", low=(2 * NM, -1 * NM), high=(3 * NM, 1 * NM))


def at(x: float, y: float, z: float = 1 * NM, **change: Any) -> Reading:
    return replace(HERE, position=Position(x, y, z), **change)


@contextmanager
def refused(details: dict[str, Any], match: str) -> Iterator[None]:
    """Expect a refusal that says this to people, and this to programs."""
    with pytest.raises(InterlockError, match=match) as caught:
        yield
    assert {name: caught.value.details.get(name) for name in details} == pytest.approx(details)


# ---------------------------------------------------------------------- signals


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (None, 1.0), (-1.0, None)])
@given(value=st.floats(-5, 5))
def test_a_soft_limit_lets_pass_what_is_within_and_nothing_else(
    low: float | None, high: float | None, value: float
) -> None:
    rules = Interlocks(signals={"bias": SignalRule(low=low, high=high)})
    if (low is None or value >= low) and (high is None or value <= high):
        rules.check_signal(HERE, "bias", value, None)
    else:
        bottom, top = -math.inf if low is None else low, math.inf if high is None else high
        with refused({"name": "bias", "value": value, "low": bottom, "high": top}, "bias = .* soft limit"):
            rules.check_signal(HERE, "bias", value, None)


@given(value=st.floats(-1, 1))
@example(0.1)
def test_a_step_is_limited_unless_a_rate_is_given(value: float) -> None:
    rules = Interlocks(signals={"bias": SignalRule(max_step=0.25)})
    rules.check_signal(HERE, "bias", value, 1e-3)
    if abs(value - 0.1) <= 0.25:
        rules.check_signal(HERE, "bias", value, None)
    else:
        step = {"name": "bias", "value": value, "step": abs(value - 0.1), "max_step": 0.25}
        with refused(step, r"bias = .* is more than 0\.25: give a rate"):
            rules.check_signal(HERE, "bias", value, None)


def test_a_limited_rate_must_be_given_and_kept() -> None:
    rules = Interlocks(signals={"bias": SignalRule(max_slew=0.5)})
    rules.check_signal(HERE, "bias", 0.6, 0.5)
    # It is there already.
    rules.check_signal(HERE, "bias", 0.1, None)
    with refused({"name": "bias", "value": 0.6, "max_slew": 0.5}, "bias = 0.6 .* give a rate"):
        rules.check_signal(HERE, "bias", 0.6, None)
    with refused({"name": "bias", "value": 0.6, "rate": 0.7, "max_slew": 0.5}, r"the rate 0\.7 is above 0\.5"):
        rules.check_signal(HERE, "bias", 0.6, 0.7)


@pytest.mark.parametrize("rule", [SignalRule(max_step=100.0), SignalRule(max_slew=100.0)])
def test_no_step_is_small_from_a_value_that_is_not_known(rule: SignalRule) -> None:
    unknown = replace(HERE, signals={"bias": math.nan})
    with pytest.raises(InterlockError, match="give a rate"):
        Interlocks(signals={"bias": rule}).check_signal(unknown, "bias", 0.0, None)


def test_a_signal_without_a_rule_is_free() -> None:
    Interlocks(signals={"bias": SignalRule(high=0.0)}).check_signal(HERE, "setpoint_current", 1.0, None)


# ---------------------------------------------------------------------- moves


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_coordinates_are_signals_too(axis: str) -> None:
    rules = Interlocks(signals={axis: SignalRule(low=-5 * NM, high=5 * NM, max_step=3 * NM)})
    target = replace(HERE.position, **{axis: 4 * NM})
    rules.check_move(replace(HERE, position=replace(HERE.position, **{axis: 2 * NM})), target, 1.0)
    with refused({"name": axis, "value": 6 * NM, "high": 5 * NM}, f"{axis} = 6e-09 .* soft limit"):
        rules.check_move(HERE, replace(HERE.position, **{axis: 6 * NM}), 1.0)
    far = replace(HERE, position=replace(HERE.position, **{axis: -1 * NM}))
    with refused({"name": axis, "step": 5 * NM, "max_step": 3 * NM}, f"{axis} = 4e-09 .* 5e-09 m is more than 3e-09"):
        rules.check_move(far, target, 1.0)


def test_the_speed_along_an_axis_is_its_share_of_the_whole() -> None:
    rules = Interlocks(signals={"x": SignalRule(max_slew=3 * NM)})
    rules.check_move(HERE, Position(3 * NM, 4 * NM, 1 * NM), 5 * NM)
    rules.check_move(HERE, Position(0.0, 4 * NM, 1 * NM), 100.0)
    with refused({"name": "x", "value": 3.6 * NM, "max_slew": 3 * NM}, "x would change by 3.6e-09 per second"):
        rules.check_move(HERE, Position(3 * NM, 4 * NM, 1 * NM), 6 * NM)
    # A driver that chooses the speed itself could choose any.
    with refused({"name": "x", "value": math.inf}, "be slower"):
        rules.check_move(HERE, Position(3 * NM, 0.0, 1 * NM), math.inf)


@pytest.mark.parametrize(
    ("start", "target", "allowed"),
    [
        ((0, 0, 2), (1, 0, 2), True),
        ((0, 0, 2), (0, 1, 1.9), False),
        ((0, 0, 1), (1, 0, 5), False),
        ((0, 0, 1), (0, 0, 0.5), True),
    ],
)
def test_sideways_only_at_the_least_height_or_above(start: Any, target: Any, allowed: bool) -> None:
    rules = Interlocks(least_move_height=2 * NM)
    here, there = at(*(NM * v for v in start)), Position(*(NM * v for v in target))
    rules.check_move(replace(here, feedback="constant_current"), there, 1.0)
    if allowed:
        rules.check_move(here, there, 1.0)
    else:
        lowest = NM * min(start[2], target[2])
        with refused({"name": "z", "value": lowest, "low": 2 * NM}, "z = .* is below 2e-09 m, the least height"):
            rules.check_move(here, there, 1.0)


# ---------------------------------------------------------------------- regions


coordinates = st.integers(-6, 6).map(float) | st.floats(-6, 6)
points = st.tuples(coordinates, coordinates)
BOX = Region(name="box", low=(-1.0, -2.0), high=(2.0, 1.0))


def depth(sampled: np.ndarray) -> float:
    """How far the sampled points (n, 2) come into the box, in its units; below zero: how far they stay away."""
    low, high = np.array(BOX.low), np.array(BOX.high)
    return float(np.minimum(sampled - low, high - sampled).min(axis=1).max())


@settings(max_examples=200, deadline=None)
@given(st.lists(points, min_size=1, max_size=4))
@example([(-3.0, 0.0), (3.0, 0.0)])
@example([(-1.0, -5.0), (-1.0, 5.0)])
@example([(0.0, 0.0)])
@example([(3.0, 3.0), (3.0, 3.0)])
def test_a_path_touches_a_region_as_its_points_do(corners: list[tuple[float, float]]) -> None:
    path = np.array(corners)
    steps = np.linspace(0, 1, 2001)[:, None]
    sampled = np.concatenate([path, *(a + steps * (b - a) for a, b in pairwise(path))])
    spacing = 20 / 2000
    if BOX.touches(path):
        assert depth(sampled) >= -spacing
    else:
        assert depth(sampled) < 0


@settings(max_examples=200, deadline=None)
@given(center=points, size=st.tuples(st.floats(0.1, 6), st.floats(0.1, 6)), angle=st.floats(-180, 180))
@example((0.0, 0.0), (0.1, 0.1), 0.0)
@example((0.5, -0.5), (12.0, 12.0), 45.0)
def test_a_frame_overlaps_a_region_as_its_points_do(
    center: tuple[float, float], size: tuple[float, float], angle: float
) -> None:
    frame = ScanFrame(center=center, size=size, angle=angle)
    along, across = np.meshgrid(*(np.linspace(-length / 2, length / 2, 121) for length in size))
    sampled = np.stack(frame.to_sample(along.ravel(), across.ravel()), axis=-1)
    if BOX.overlaps(frame.corners()):
        assert depth(sampled) >= -max(size) / 120
    else:
        assert depth(sampled) < 1e-9


def test_a_move_through_a_forbidden_region_is_refused() -> None:
    rules = Interlocks(forbidden=(WALL,))
    rules.check_move(at(0, 0), Position(1.9 * NM, 0, 1 * NM), 1.0)
    rules.check_move(at(0, 2 * NM), Position(5 * NM, 2 * NM, 1 * NM), 1.0)
    says = {"name": "wall", "low": WALL.low, "high": WALL.high, "below": None}
    with pytest.raises(InterlockError, match="touches the forbidden region 'wall'") as caught:
        rules.check_move(at(0, 0), Position(5 * NM, 0, 1 * NM), 1.0)
    assert caught.value.details == says


def test_above_its_height_a_region_is_free_unless_the_z_controller_decides() -> None:
    rules = Interlocks(forbidden=(replace(WALL, below=5 * NM),))
    high = at(0, 0, 5 * NM)
    rules.check_move(high, Position(5 * NM, 0, 6 * NM), 1.0)
    with pytest.raises(InterlockError, match="below z = 5e-09"):
        rules.check_move(high, Position(5 * NM, 0, 4.9 * NM), 1.0)
    with pytest.raises(InterlockError, match="wall"):
        rules.check_move(replace(high, feedback="constant_current"), Position(5 * NM, 0, 5 * NM), 1.0)


def test_above_a_region_the_tip_may_not_come_down() -> None:
    rules = Interlocks(forbidden=(replace(WALL, below=5 * NM),))
    above = at(2.5 * NM, 0, 9 * NM)
    with pytest.raises(InterlockError, match="wall"):
        rules.check_place(above)
    with pytest.raises(InterlockError, match="wall"):
        rules.check_move(above, Position(2.5 * NM, 0, 1 * NM), 1.0)
    rules.check_place(at(0, 0, 9 * NM))


@pytest.mark.parametrize(
    ("frame", "allowed"),
    [
        (ScanFrame(size=(2 * NM, 2 * NM)), True),
        (ScanFrame(size=(6 * NM, 2 * NM)), False),
        # Its corners are outside, its middle is not.
        (ScanFrame(size=(0.5 * NM, 0.5 * NM), center=(2.5 * NM, 0)), False),
        (ScanFrame(size=(9 * NM, 0.1 * NM), angle=20), False),
        # The frame is behind the wall: the way there leads through it.
        (ScanFrame(size=(1 * NM, 1 * NM), center=(5 * NM, 0)), False),
        # Only the way to its upper left corner touches the wall, and a scan may begin there.
        (ScanFrame(size=(1 * NM, 8 * NM), center=(5 * NM, -6 * NM)), False),
    ],
)
def test_a_scan_keeps_away_from_a_forbidden_region(frame: ScanFrame, allowed: bool) -> None:
    rules = Interlocks(forbidden=(WALL,))
    request = replace(SCAN, frame=frame)
    if allowed:
        rules.check_request(HERE, request)
    else:
        with pytest.raises(InterlockError, match="wall"):
            rules.check_request(HERE, request)


def test_the_way_to_a_high_scan_begins_where_the_tip_is() -> None:
    rules = Interlocks(forbidden=(replace(WALL, below=5 * NM),))
    behind = replace(SCAN, frame=ScanFrame(size=(1 * NM, 1 * NM), center=(5 * NM, 0)), heights=(6 * NM,))
    rules.check_request(at(0, 0, 6 * NM), behind)
    with pytest.raises(InterlockError, match="wall"):
        rules.check_request(at(0, 0, 1 * NM), behind)


def test_a_path_may_not_cross_a_region_on_its_way_back_either() -> None:
    rules = Interlocks(forbidden=(WALL,))
    around = ((1 * NM, 0.0), (1 * NM, 3 * NM), (5 * NM, 3 * NM), (5 * NM, 0.0))
    path = PathRequest(positions=around, channels=("a",))
    rules.check_request(HERE, path)
    rules.check_request(HERE, replace(path, separate=True, passes=3))
    with pytest.raises(InterlockError, match="wall"):
        rules.check_request(HERE, replace(path, passes=2))


def test_spectra_keep_away_from_a_forbidden_region() -> None:
    rules = Interlocks(forbidden=(WALL,))
    spectra = SpectroscopyRequest(
        swept="bias", positions=((1 * NM, 0),), sweep=Sweep(start=0, stop=1, points=3), channels=("a",)
    )
    rules.check_request(HERE, spectra)
    with pytest.raises(InterlockError, match="wall"):
        rules.check_request(HERE, replace(spectra, positions=((1 * NM, 0), (2.5 * NM, 0))))


# ---------------------------------------------------------------------- acquisitions


def test_scans_and_sweeps_go_no_deeper_than_the_least_height() -> None:
    rules = Interlocks(least_scan_height=0.4 * NM)
    says = {"name": "z", "value": 0.3 * NM, "low": 0.4 * NM}
    rules.check_request(HERE, SCAN)
    rules.check_request(HERE, replace(SCAN, heights=(0.5 * NM, 0.4 * NM)))
    with refused(says, "z = 3e-10 .* least height for this is 4e-10"):
        rules.check_request(HERE, replace(SCAN, heights=(0.5 * NM, 0.3 * NM)))
    with refused(says, "least height"):
        rules.check_request(at(0, 0, 0.3 * NM), SCAN)
    # With the z-controller on, there is no height to be checked.
    rules.check_request(at(0, 0, 0.3 * NM), replace(SCAN, z_mode="constant_current"))
    path = PathRequest(positions=((0, 0),), channels=("a",), height=0.3 * NM)
    with refused(says, "least height"):
        rules.check_request(HERE, path)
    sweep = SpectroscopyRequest(
        swept="z", positions=((0, 0),), sweep=Sweep(start=1 * NM, stop=0.3 * NM, points=8), channels=("a",)
    )
    with refused(says, "least height"):
        rules.check_request(HERE, sweep)


def test_soft_limits_of_coordinates_hold_for_all_of_a_frame() -> None:
    rules = Interlocks(signals={"x": SignalRule(high=1.2 * NM), "z": SignalRule(low=0.5 * NM)})
    rules.check_request(HERE, SCAN)
    turned = replace(SCAN, frame=replace(SCAN.frame, angle=45))
    with refused({"name": "x", "value": math.sqrt(2) * NM}, "x = 1.414"):
        rules.check_request(HERE, turned)
    with refused({"name": "z", "value": 0.4 * NM}, "z = 4e-10"):
        rules.check_request(HERE, replace(SCAN, heights=(0.4 * NM,)))


@pytest.mark.parametrize("angle", [0, 30, 90, 180])
def test_the_slew_of_a_scan_is_its_line_in_its_time(angle: float) -> None:
    along_x = abs(math.cos(math.radians(angle))) * 2 * NM / 0.5
    request = replace(SCAN, line_time=0.5, frame=replace(SCAN.frame, angle=angle))
    limit = 1 * NM
    rules = Interlocks(signals={"x": SignalRule(max_slew=limit)})
    if along_x <= limit:
        rules.check_request(HERE, request)
    else:
        with refused({"name": "x", "value": along_x, "max_slew": limit}, "x would change by"):
            rules.check_request(HERE, request)


def test_the_slew_of_a_path_is_that_of_its_longest_step() -> None:
    rules = Interlocks(signals={"y": SignalRule(max_slew=100 * NM)})
    path = PathRequest(positions=((0, 0), (0, 1 * NM), (0, 3 * NM)), channels=("a",), point_time=0.02)
    rules.check_request(HERE, path)
    with refused({"name": "y", "value": 200 * NM, "max_slew": 100 * NM}, "y would change by 2e-07"):
        rules.check_request(HERE, replace(path, point_time=0.01))
    # Between separate points the tip is lifted, and goes at its own speed.
    rules.check_request(HERE, replace(path, point_time=0.01, separate=True))


def test_the_slew_of_a_sweep_is_its_span_in_its_time() -> None:
    rules = Interlocks(signals={"bias": SignalRule(low=-1, high=1, max_slew=1.0)})
    spectra = SpectroscopyRequest(
        swept="bias",
        positions=((0, 0),),
        sweep=Sweep(start=-1, stop=1, points=201),
        channels=("a",),
        point_time=0.01,
    )
    rules.check_request(HERE, spectra)
    with refused({"name": "bias", "value": 2.0, "max_slew": 1.0}, "bias would change by 2 per second"):
        rules.check_request(HERE, replace(spectra, point_time=0.005))
    with refused({"name": "bias", "value": 1.5, "high": 1.0}, "bias = 1.5"):
        rules.check_request(HERE, replace(spectra, sweep=Sweep(start=0, stop=1.5, points=1001)))


def test_the_steps_of_a_sweep_are_limited_too() -> None:
    rules = Interlocks(signals={"bias": SignalRule(max_step=0.25)})
    spectra = SpectroscopyRequest(
        swept="bias", positions=((0, 0),), sweep=Sweep(start=1, stop=-1, points=9), channels=("a",)
    )
    rules.check_request(HERE, spectra)
    with refused({"name": "bias", "step": 0.5, "max_step": 0.25}, r"0\.5 between two points is more than 0\.25"):
        rules.check_request(HERE, replace(spectra, sweep=Sweep(start=1, stop=-1, points=5)))


# ---------------------------------------------------------------------- coarse motion, what can change a tip, trips


@pytest.mark.parametrize("tip", [TipState.IN_RANGE, TipState.UNKNOWN, TipState.CRASHED])
def test_coarse_motion_needs_a_withdrawn_tip_unless_it_leads_away(tip: TipState) -> None:
    here = replace(HERE, tip=tip)
    Interlocks().check_coarse(here, "z", 10)
    for axis, steps in (("z", -1), ("x", 1), ("x", -1), ("y", 5)):
        with refused(
            {"name": "tip", "value": tip.value}, f"along {axis} by {steps} steps while the tip is {tip.value}"
        ):
            Interlocks().check_coarse(here, axis, steps)
        Interlocks().check_coarse(replace(HERE, tip=TipState.WITHDRAWN), axis, steps)


@pytest.mark.parametrize("what", ["pulse", "tip_shaping", "tip_exchange"])
def test_what_can_change_a_tip_must_be_allowed(what: str) -> None:
    Interlocks(allow=(what,)).check_permission(what)
    with refused({"name": what}, f"{what} can change the tip and is not allowed"):
        Interlocks().check_permission(what)


@pytest.mark.parametrize(
    ("window", "values", "worst"),
    [
        ((-1, 1), [0.0, 1.0, -1.0], None),
        ((-1, 1), [0.0, 1.1, 5.0], 1.1),
        ((-1, None), [5.0, -2.0], -2.0),
        ((None, 1), [-5.0, 2.0], 2.0),
        ((None, None), [1e30], None),
        ((-1, 1), [math.nan, 0.0], None),
        ((-1, 1), [math.nan, math.inf], math.inf),
    ],
)
def test_a_trip_is_the_first_value_outside(window: Any, values: list[float], worst: float | None) -> None:
    rules = Interlocks(trips={"current": window})
    error = rules.tripped({"current": np.array(values, np.float32), "bias": 99.0})
    if worst is None:
        assert error is None
    else:
        assert error.details["value"] == pytest.approx(worst)
        assert (error.details["name"], error.details["low"], error.details["high"]) == ("current", *window)
        assert "the tip was withdrawn" in error.message
        # A signal is a number, a channel an array.
        assert rules.tripped({"current": worst}).details == pytest.approx(error.details)


# ---------------------------------------------------------------------- rules as data


numbers = st.floats(-10, 10, allow_subnormal=False)
pairs = st.tuples(numbers, numbers).map(sorted).filter(lambda pair: pair[0] < pair[1])
regions = st.builds(
    lambda x, y, below: Region(name="r", low=(x[0], y[0]), high=(x[1], y[1]), below=below),
    pairs,
    pairs,
    st.none() | numbers,
)
rule_sets = st.builds(
    Interlocks,
    signals=st.dictionaries(
        st.sampled_from(["bias", "x", "z"]),
        st.builds(lambda pair, step: SignalRule(low=pair[0], high=pair[1], max_step=step), pairs, st.floats(0.1, 5)),
    ),
    forbidden=st.lists(regions, max_size=2),
    least_move_height=st.none() | numbers,
    least_scan_height=st.none() | numbers,
    trips=st.dictionaries(st.sampled_from(["current", "a"]), pairs | st.tuples(st.none(), numbers)),
    allow=st.lists(st.sampled_from(["pulse", "tip_shaping"]), unique=True),
)


@settings(max_examples=50)
@given(rule_sets)
def test_rules_survive_json(rules: Interlocks) -> None:
    assert Interlocks.from_dict(json.loads(json.dumps(rules.to_dict()))) == rules


@pytest.mark.parametrize("bad", [math.nan, math.inf, "1", True, [1]])
@pytest.mark.parametrize(
    "make",
    [
        lambda bad: {"signals": {"bias": {"low": bad}}},
        lambda bad: {"signals": {"bias": {"max_slew": bad}}},
        lambda bad: {"forbidden": [{"name": "r", "low": [bad, 0], "high": [1, 1]}]},
        lambda bad: {"forbidden": [{"name": "r", "low": [0, 0], "high": [1, 1], "below": bad}]},
        lambda bad: {"least_move_height": bad},
        lambda bad: {"least_scan_height": bad},
        lambda bad: {"trips": {"current": [bad, 1]}},
    ],
)
def test_a_rule_needs_finite_numbers(make: Any, bad: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"expected a (finite number|number above zero)"):
        Interlocks.from_dict(make(bad))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"signals": {"bias": {"low": 2, "high": 1}}}, "expected low below high"),
        ({"signals": {"bias": {"max_step": 0}}}, "max_step is 0"),
        ({"signals": {"bias": {"maximum": 1}}}, "unknown key 'maximum'"),
        ({"signals": {"bias": 3}}, "signals.bias is 3"),
        ({"signals": [1]}, "signals is"),
        ({"forbidden": [{"name": "r", "low": [1, 0], "high": [0, 1]}]}, "expected low < high"),
        ({"forbidden": "everywhere"}, "expected a list"),
        ({"trips": {"current": [1, 1]}}, "expected .* low below high"),
        ({"trips": {"current": 1}}, "trips.current is 1"),
        ({"allow": ["everything"]}, "expected one of pulse, tip_shaping, tip_exchange"),
        ({"safe": True}, "unknown key 'safe'"),
    ],
)
def test_a_malformed_rule_is_refused_by_name(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        Interlocks.from_dict(rules)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"signals": {"biass": {"high": 1}}}, "'biass': expected one of x, y, z, bias"),
        # What can only be read cannot be limited, but it can trip.
        ({"signals": {"current": {"high": 1}}}, "'current'"),
        ({"trips": {"curent": [0, 1]}}, "'curent': expected one of at_x"),
    ],
)
def test_a_rule_about_what_the_instrument_does_not_have_is_refused(ramp_driver, rules: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Interlocks.from_dict(rules).check_names(ramp_driver().capabilities())
