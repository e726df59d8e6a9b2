import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinscope import ScanFrame, ScanRequest, SpectroscopyRequest, Sweep
from twinscope.errors import InvalidRequestError
from twinscope.requests import request_from_dict

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
