import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinscope import ScanFrame, ScanRequest, SpectroscopyRequest, Sweep
from twinscope.errors import InvalidRequestError
from twinscope.requests import PathRequest, line_positions, request_from_dict, setpoint_of

FRAME = ScanFrame(size=(2e-9, 1e-9), center=(0.5e-9, -0.5e-9))

lengths = st.floats(1e-12, 1e-6)
offsets = st.floats(-1e-6, 1e-6)
frames = st.builds(
    ScanFrame,
    size=st.tuples(lengths, lengths),
    center=st.tuples(offsets, offsets),
    angle=st.floats(-360, 360),
)
scans = st.builds(
    ScanRequest,
    frame=frames,
    pixels=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4, unique=True),
    heights=st.none() | st.lists(offsets, min_size=1, max_size=4),
    direction=st.sampled_from(["forward", "backward", "both"]),
    slow_direction=st.sampled_from(["up", "down"]),
    line_time=st.floats(1e-3, 10),
)


@given(scans)
def test_a_scan_request_survives_json(request_: ScanRequest) -> None:
    assert request_from_dict("scan", json.loads(json.dumps(request_.to_dict()))) == request_


def test_a_spectroscopy_request_survives_json() -> None:
    request_ = SpectroscopyRequest(
        swept="z", positions=((0, 1e-9),), sweep=Sweep(start=5e-10, stop=3e-10, points=21), channels=("a",)
    )
    assert request_from_dict("spectroscopy", json.loads(json.dumps(request_.to_dict()))) == request_


@given(scans)
def test_every_place_of_a_scan_is_addressed_once(request_: ScanRequest) -> None:
    addresses = {request_.address(trace) for trace in range(request_.trace_count)}
    assert len(addresses) == request_.layers * request_.pixels[1] * len(request_.directions)
    assert {address.row for address in addresses} == set(range(request_.pixels[1]))


def test_rows_begin_at_the_bottom_or_at_the_top() -> None:
    up = ScanRequest(frame=FRAME, pixels=(4, 3), channels=("a",), slow_direction="up")
    down = ScanRequest(frame=FRAME, pixels=(4, 3), channels=("a",), slow_direction="down")
    assert [up.address(i).row for i in range(3)] == [0, 1, 2]
    assert [down.address(i).row for i in range(3)] == [2, 1, 0]


def test_pixels_are_the_middles_of_their_cells() -> None:
    request_ = ScanRequest(frame=FRAME, pixels=(4, 2), channels=("a",))
    x, y = request_.row_positions(0)
    np.testing.assert_allclose(x, [-0.25e-9, 0.25e-9, 0.75e-9, 1.25e-9], atol=1e-18)
    np.testing.assert_allclose(y, -0.75e-9, atol=1e-18)


def test_an_angle_turns_the_frame_counter_clockwise_about_its_middle() -> None:
    frame = ScanFrame(size=(2e-9, 1e-9), center=(1e-9, 0), angle=90)
    x, y = frame.to_sample(np.array([1e-9]), np.array([0.0]))
    np.testing.assert_allclose([x[0], y[0]], [1e-9, 1e-9], atol=1e-18)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "1", None, True])
def test_numbers_must_be_finite_numbers(bad: object) -> None:
    with pytest.raises(InvalidRequestError, match=r"frame\.center\[1\]"):
        ScanFrame(size=(1e-9, 1e-9), center=(0, bad))


@pytest.mark.parametrize("size", [(0, 1e-9), (1e-9, -1e-9)])
def test_sizes_must_be_positive(size: tuple[float, float]) -> None:
    with pytest.raises(InvalidRequestError, match="above zero"):
        ScanFrame(size=size)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixels": (0, 4)}, r"pixels\[0\] is 0"),
        ({"pixels": (4, 2.5)}, r"pixels\[1\] is 2\.5"),
        ({"pixels": 128}, "pixels is 128"),
        ({"channels": ()}, "channels"),
        ({"channels": "a"}, "expected a list"),
        ({"channels": ("a", "a")}, "each channel once"),
        ({"heights": ()}, "heights is empty"),
        ({"heights": (math.nan,)}, "heights is nan"),
        ({"direction": "sideways"}, "'sideways'"),
        ({"slow_direction": "diagonal"}, "'diagonal'"),
        ({"line_time": -3}, "line_time is -3"),
        ({"z_mode": "magic"}, "'magic'"),
        ({"frame": None}, "frame is None"),
    ],
)
def test_a_malformed_scan_cannot_be_made(change: dict[str, object], message: str) -> None:
    good = {"frame": FRAME, "pixels": (4, 3), "channels": ("a",)}
    with pytest.raises(InvalidRequestError, match=message):
        ScanRequest(**(good | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"swept": "tomato"}, "'tomato'"),
        ({"positions": ()}, "positions is empty"),
        ({"positions": ((0, math.inf),)}, "inf"),
        ({"positions": ((0, 0, 0),)}, "two elements"),
        ({"sweep": {"start": 1, "stop": 1, "points": 5}}, "two different ends"),
        ({"sweep": {"start": 1, "stop": 2, "points": 1}}, "at least 2 points"),
        ({"point_time": 0}, "point_time is 0"),
    ],
)
def test_a_malformed_spectroscopy_cannot_be_made(change: dict[str, object], message: str) -> None:
    good = {"swept": "z", "positions": ((0, 0),), "sweep": Sweep(start=1, stop=2, points=3), "channels": ("a",)}
    with pytest.raises(InvalidRequestError, match=message):
        SpectroscopyRequest(**(good | change))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"pixels": [4, 4], "channels": ["a"]}, "cannot be made"),
        ({"pixels": [4, 4], "channels": ["a"], "frame": {"size": [1, 1]}, "speed": 3}, "unknown key 'speed'"),
        ({"pixels": [4, 4], "channels": ["a"], "frame": {"sise": [1, 1]}}, "unknown key 'sise'"),
        ([1, 2], "expected a mapping"),
    ],
)
def test_plain_data_that_does_not_fit_is_refused(data: object, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        request_from_dict("scan", data)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="'movie'"):
        request_from_dict("movie", {})


# ---------------------------------------------------------------------- z-controller, paths, bias, grids


POSITIONS = ((0.0, 0.0), (1e-9, 0.0), (1e-9, 2e-9))
SPECTRA = {"positions": POSITIONS, "sweep": Sweep(start=-1, stop=1, points=3), "channels": ("a",)}

paths = st.builds(
    PathRequest,
    positions=st.lists(st.tuples(offsets, offsets), min_size=1, max_size=5),
    channels=st.lists(st.sampled_from("abc"), min_size=1, unique=True),
    passes=st.integers(1, 5),
    separate=st.just(True),
    lift=st.floats(0, 1e-8),
    height=st.none() | offsets,
    point_time=st.floats(1e-3, 1),
) | st.builds(
    PathRequest,
    positions=st.lists(st.tuples(offsets, offsets), min_size=1, max_size=5),
    channels=st.just(("a",)),
    z_mode=st.just("constant_current"),
    setpoint=st.none() | st.floats(1e-12, 1e-9),
)


@given(paths)
def test_a_path_request_survives_json(request_: PathRequest) -> None:
    assert request_from_dict("path", json.loads(json.dumps(request_.to_dict()))) == request_


@given(offsets, st.floats(1e-3, 1))
def test_a_bias_spectroscopy_survives_json(height: float, point_time: float) -> None:
    request_ = SpectroscopyRequest(swept="bias", height=height, point_time=point_time, **SPECTRA)
    assert request_from_dict("spectroscopy", json.loads(json.dumps(request_.to_dict()))) == request_


def test_a_path_gives_a_trace_for_each_pass_and_points_one_for_each_point() -> None:
    path = PathRequest(positions=POSITIONS, channels=("a",), passes=5)
    points = PathRequest(positions=POSITIONS, channels=("a",), passes=5, separate=True)
    assert (path.trace_count, path.trace_length) == (5, 3)
    assert (points.trace_count, points.trace_length) == (3, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": ()}, "positions is empty"),
        ({"positions": ((0, math.nan),)}, "positions is nan"),
        ({"positions": "ab"}, "expected a list"),
        ({"passes": 0}, "passes is 0"),
        ({"passes": 1.5}, r"passes is 1\.5"),
        ({"separate": 1}, "separate is 1: expected true or false"),
        ({"lift": 1e-9}, "on a path the tip is not lifted, give separate=True"),
        ({"lift": -1e-9, "separate": True}, "lift is -1e-09"),
        ({"height": math.inf}, "height is inf"),
        ({"point_time": 0}, "point_time is 0"),
        ({"z_mode": "constant_current", "height": 1e-9}, "height is 1e-09: with z_mode 'constant_current'"),
        ({"setpoint": 1e-11}, "setpoint is 1e-11: z_mode 'constant_height' has none"),
        ({"channels": ("a", "a")}, "each channel once"),
    ],
)
def test_a_malformed_path_cannot_be_made(change: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        PathRequest(**({"positions": POSITIONS, "channels": ("a",)} | change))


@pytest.mark.parametrize("bad", [math.nan, "1e-11", True])
@pytest.mark.parametrize("z_mode", ["constant_current", "constant_frequency_shift"])
def test_a_scan_with_the_z_controller_has_a_setpoint_and_no_heights(z_mode: str, bad: object) -> None:
    good = {"frame": FRAME, "pixels": (4, 3), "channels": ("a",), "z_mode": z_mode}
    assert ScanRequest(**good, setpoint=1e-11).setpoint == 1e-11
    assert ScanRequest(**good).setpoint is None
    with pytest.raises(InvalidRequestError, match=r"heights is \(1e-09,\): with z_mode .* the z-controller sets z"):
        ScanRequest(**good, heights=(1e-9,))
    with pytest.raises(InvalidRequestError, match="setpoint is"):
        ScanRequest(**good, setpoint=bad)


def test_a_scan_at_constant_height_has_no_setpoint() -> None:
    with pytest.raises(InvalidRequestError, match="z_mode 'constant_height' has none, leave it out"):
        ScanRequest(frame=FRAME, pixels=(4, 3), channels=("a",), setpoint=1e-11)


def test_the_setpoint_of_a_mode_is_the_signal_of_its_name() -> None:
    assert setpoint_of("constant_current") == "setpoint_current"
    assert setpoint_of("constant_frequency_shift") == "setpoint_frequency_shift"


def test_only_a_sweep_of_something_else_has_a_height() -> None:
    assert SpectroscopyRequest(swept="bias", height=1e-9, **SPECTRA).height == 1e-9
    with pytest.raises(InvalidRequestError, match="height is 1e-09 m: a sweep of z has no fixed height"):
        SpectroscopyRequest(swept="z", height=1e-9, **SPECTRA)
    with pytest.raises(InvalidRequestError, match="height is 'low'"):
        SpectroscopyRequest(swept="bias", height="low", **SPECTRA)


@pytest.mark.parametrize("angle", [0, 30, -90])
def test_a_grid_is_the_pixels_of_a_scan_of_the_same_frame(angle: float) -> None:
    frame = ScanFrame(size=(4e-9, 3e-9), center=(1e-9, -2e-9), angle=angle)
    scan = ScanRequest(frame=frame, pixels=(4, 3), channels=("a",))
    rows = [np.stack(scan.row_positions(row), axis=-1) for row in range(3)]
    np.testing.assert_allclose(frame.grid((4, 3)), np.concatenate(rows), atol=1e-20)


@pytest.mark.parametrize("pixels", [(0, 1), (1.5, 2), 3, (1, 2, 3)])
def test_a_grid_needs_whole_numbers(pixels: object) -> None:
    with pytest.raises(InvalidRequestError, match="pixels"):
        FRAME.grid(pixels)


def test_a_line_has_equidistant_points_and_both_ends() -> None:
    line = line_positions((1e-9, 0.0), (4e-9, -6e-9), 4)
    np.testing.assert_allclose(line, [(1e-9, 0), (2e-9, -2e-9), (3e-9, -4e-9), (4e-9, -6e-9)], atol=1e-20)
    assert line_positions((1, 2), (3, 4), 1) == [(1.0, 2.0)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0, 0), (1, 1), 0), "points is 0"),
        (((0, math.nan), (1, 1), 3), "start is nan"),
        (((0, 0), (1,), 3), "stop is"),
        ((0, (1, 1), 3), "start is 0"),
    ],
)
def test_a_malformed_line_is_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        line_positions(*arguments)
