"""What an instrument does not have, and values that are out of range, are refused, and nothing changes by that."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from twinscope.capabilities import ACQUISITIONS, FEATURES
from twinscope.conformance.bench import Bench
from twinscope.errors import InterlockError, InvalidRequestError
from twinscope.requests import Z_MODES, PathRequest, ScanRequest, SpectroscopyRequest, Sweep

CONTRACT = "twinscope.capabilities.Capabilities, twinscope.guard.Guard, and docs/drivers.md, 'What it can do'"

_BAD = (math.nan, math.inf, -math.inf)


@contextmanager
def refused(bench: Bench, what: str) -> Iterator[None]:
    """Check that what is done within is refused, and that the state is as before."""
    before = bench.read()
    try:
        yield
    except (InvalidRequestError, InterlockError):
        pass
    else:
        raise AssertionError(f"{what} was not refused")
    after = bench.read()
    assert after.position == before.position, f"{what} was refused, but the tip has moved"
    assert after.tip == before.tip, f"{what} was refused, but the tip is {after.tip} now"
    assert after.feedback == before.feedback, f"{what} was refused, but feedback is {after.feedback} now"
    for name in bench.capabilities.settable:
        assert after.signals[name] == before.signals[name], f"{what} was refused, but {name} has changed"


def beyond(bench: Bench, name: str) -> tuple[float, ...]:
    """Return values of something that are no numbers, or outside of its limits."""
    limits = bench.capabilities.limits[name]
    width = limits.high - limits.low
    # A limit that is not finite has nothing beyond it; what says so is another test.
    outside = (limits.high + 0.01 * width, limits.low - 0.01 * width)
    return (*_BAD, *(value for value in outside if math.isfinite(value)))


# ---------------------------------------------------------------------- values


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_moves_out_of_range(bench: Bench, axis: str) -> None:
    """A move to NaN, to infinity or beyond the limits is refused, and the tip stays."""
    for value in beyond(bench, axis):
        with refused(bench, f"a move to {axis} = {value}"):
            bench.perform("move_to", **{axis: value})


def test_signals_out_of_range(bench: Bench) -> None:
    """A signal is not set to NaN, to infinity or beyond its limits."""
    for name in bench.capabilities.settable:
        for value in beyond(bench, name):
            with refused(bench, f"{name} = {value}"):
                bench.perform("write", name=name, value=value)


def test_features_out_of_range(bench: Bench) -> None:
    """What a feature takes is checked against its limits."""
    calls: dict[str, tuple[str, dict[str, str], dict[str, Any]]] = {
        "coarse_motion": ("coarse_move", {"steps": "coarse_steps"}, {"axis": "z"}),
        "pulse": ("pulse", {"voltage": "pulse_voltage"}, {"duration": 1e-3}),
        "tip_shaping": ("shape_tip", {"voltage": "tip_shaping_voltage"}, {"depth": 1e-11}),
    }
    for feature, (command, taken, rest) in calls.items():
        if feature not in bench.capabilities.features:
            continue
        for argument, limit in taken.items():
            high = bench.capabilities.limits_of(limit).high
            value = int(high) + 1 if feature == "coarse_motion" else 2 * abs(high) + 1
            with refused(bench, f"{command} with {argument} = {value}"):
                bench.perform(command, **rest, **{argument: value})


def test_unknown_probes(bench: Bench) -> None:
    """What is no probe of the instrument cannot be put at the end of the tip."""
    if "tip_exchange" in bench.capabilities.features:
        with refused(bench, "a tip with no_such_probe"):
            bench.perform("exchange_tip", probe="no_such_probe")


def test_acquisitions_out_of_range(bench: Bench) -> None:
    """A frame, a path or a sweep that leaves the limits is refused as a whole before anything moves."""
    kinds, work, limits = bench.capabilities.acquisitions, bench.work, bench.capabilities.limits
    outside = limits["x"].high + 0.1 * (limits["x"].high - limits["x"].low)
    if "scan" in kinds:
        scan = work.scan()
        with refused(bench, "a frame that reaches out of the range"):
            bench.acquire(replace(scan, frame=replace(scan.frame, center=(outside, work.center[1]))))
    if "path" in kinds:
        path = work.path()
        with refused(bench, "a path that ends out of range"):
            bench.acquire(replace(path, positions=(*path.positions, (outside, work.center[1]))))
    for swept in bench.capabilities.sweeps if "spectroscopy" in kinds else ():
        low, high = limits[swept].low, limits[swept].high
        sweep = Sweep(start=low, stop=high + 0.1 * (high - low), points=3)
        with refused(bench, f"a sweep of {swept} beyond its range"):
            bench.acquire(replace(work.spectroscopy(swept), sweep=sweep))


# ---------------------------------------------------------------------- what is not there


def test_unknown_channels(bench: Bench) -> None:
    """A channel that does not exist is refused."""
    for request in _requests(bench):
        with refused(bench, f"a {request.kind} of the channel no_such_channel"):
            bench.acquire(replace(request, channels=("no_such_channel",)))


def test_signals_that_cannot_be_set(bench: Bench) -> None:
    """A signal without limits can only be read, and one that does not exist not at all."""
    only_read = [one.name for one in bench.capabilities.signals if one.name not in bench.capabilities.settable]
    for name in (*only_read, "no_such_signal"):
        with refused(bench, f"setting {name}"):
            bench.perform("write", name=name, value=0.0)


def test_undeclared_modes(bench: Bench) -> None:
    """A z-mode or a feedback mode that the capabilities do not list is refused."""
    others = [mode for mode in Z_MODES if mode not in bench.capabilities.scan_modes]
    for mode in (*others, "constant_luck"):
        with refused(bench, f"the feedback mode {mode}"):
            bench.perform("set_feedback", mode=mode)
    for mode in others:
        for request in _requests(bench):
            if isinstance(request, ScanRequest):
                with refused(bench, f"a scan with the z-mode {mode}"):
                    bench.acquire(replace(request, z_mode=mode, heights=None))


def test_undeclared_sweeps(bench: Bench) -> None:
    """A sweep that the capabilities do not list is refused."""
    if "spectroscopy" in bench.capabilities.acquisitions:
        for swept in {"z", "bias"} - set(bench.capabilities.sweeps):
            with refused(bench, f"a sweep of {swept}"):
                bench.acquire(_spectrum(bench, swept))


def test_undeclared_acquisitions(bench: Bench) -> None:
    """A kind of acquisition that the capabilities do not list is refused."""
    scan = replace(_SCAN, channels=bench.work.channels)
    undeclared: dict[str, Callable[[], Any]] = {
        "scan": lambda: scan,
        "path": lambda: PathRequest(positions=(bench.work.center,), channels=bench.work.channels),
        "spectroscopy": lambda: _spectrum(bench, "z"),
    }
    for kind in set(ACQUISITIONS) - set(bench.capabilities.acquisitions):
        with refused(bench, f"a {kind}"):
            bench.acquire(undeclared[kind]())


def test_undeclared_features(bench: Bench) -> None:
    """A feature that the capabilities do not list is refused."""
    calls: dict[str, tuple[str, dict[str, Any]]] = {
        "coarse_motion": ("coarse_move", {"axis": "z", "steps": 1}),
        "pulse": ("pulse", {"voltage": 0.1, "duration": 1e-3}),
        "tip_shaping": ("shape_tip", {"depth": 1e-11, "voltage": 0.0}),
        "tip_exchange": ("exchange_tip", {"probe": "CO"}),
    }
    for feature in set(FEATURES) - set(bench.capabilities.features) - {"oracle"}:
        command, arguments = calls[feature]
        with refused(bench, f"the feature {feature}"):
            bench.perform(command, **arguments)


_SCAN = ScanRequest.from_dict({"frame": {"size": [1e-9, 1e-9]}, "pixels": [2, 2], "channels": ["any"]})


def _requests(bench: Bench) -> list[ScanRequest | PathRequest | SpectroscopyRequest]:
    kinds, work = bench.capabilities.acquisitions, bench.work
    made: list[ScanRequest | PathRequest | SpectroscopyRequest] = []
    if "scan" in kinds:
        made.append(work.scan())
    if "path" in kinds:
        made.append(work.path())
    if "spectroscopy" in kinds:
        made.append(work.spectroscopy(bench.capabilities.sweeps[0]))
    return made


def _spectrum(bench: Bench, swept: str) -> SpectroscopyRequest:
    return SpectroscopyRequest(
        swept=swept,
        positions=(bench.work.center,),
        sweep=Sweep(start=bench.work.height, stop=0.9 * bench.work.height or 1e-12, points=3),
        channels=bench.work.channels,
    )
