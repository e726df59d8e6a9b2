"""Instrument time: what is done takes as long as it was asked to."""

import math

import pytest

from twinscope.conformance.bench import Bench, Direct
from twinscope.conformance.checks.acquisitions import need
from twinscope.requests import AcquisitionRequest

CONTRACT = "twinscope.drivers.base.Driver.read, twinscope.clock.Clock, and docs/drivers.md, 'Time'"

_LINES = 6
# Clocks of controllers tick, and rounding is no haste.
_SHORTEST = 0.9


def check_duration(bench: Bench, took: float, wanted: float, what: str) -> None:
    """Check that something took its time, and not many times longer."""
    assert took >= _SHORTEST * wanted, f"{what} took {took:.4g} s of instrument time: expected {wanted:.4g} s"
    longest = bench.settings.slowness * wanted
    assert took <= longest, (
        f"{what} took {took:.4g} s of instrument time: expected {wanted:.4g} s, at most {longest:.4g} s (slowness in"
        " [conformance] allows more)"
    )


def time_per_trace(direct: Direct, request: AcquisitionRequest) -> float:
    """Return how long each trace takes after the first, in s of instrument time."""
    sink = direct.start(request)
    times: dict[int, float] = {}
    more = True
    while more:
        more = direct.poll(sink)
        times.setdefault(len(sink.array()), direct.read().time)
    counts = [count for count in times if count]
    assert counts[-1] == request.trace_count, (
        f"the acquisition ended after {counts[-1]} of {request.trace_count} traces"
    )
    if len(counts) < 2:
        pytest.skip("this driver measures all traces at once")
    return (times[counts[-1]] - times[counts[0]]) / (counts[-1] - counts[0])


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_time_per_line(direct: Direct, direction: str) -> None:
    """Each direction of each line of a scan takes its line time, and not much longer."""
    need(direct, "scan")
    pixels = (direct.settings.pixels[0], _LINES)
    request = direct.work.scan(direction=direction, pixels=pixels, line_time=4 * direct.settings.line_time)
    took = time_per_trace(direct, request)
    check_duration(direct, took, request.line_time, f"a line of {request.line_time} s ({direction})")


def test_time_per_pass(direct: Direct) -> None:
    """Each pass of a path takes the time of its points."""
    need(direct, "path")
    request = direct.work.path(passes=4)
    took = time_per_trace(direct, request)
    check_duration(direct, took, request.point_time * request.trace_length, "a pass of a path")


def test_time_per_spectrum(direct: Direct) -> None:
    """Each spectrum takes the time of its points, at least."""
    need(direct, "spectroscopy")
    for swept in direct.capabilities.sweeps:
        request = direct.work.spectroscopy(swept, positions=(direct.work.center,) * 3)
        took = time_per_trace(direct, request)
        wanted = request.point_time * request.trace_length
        assert took >= _SHORTEST * wanted, f"a sweep of {swept} took {took:.4g} s: expected {wanted:.4g} s"


def test_time_of_moves(bench: Bench) -> None:
    """A move with a speed is not faster than that."""
    x, y = bench.work.offset(0.5)
    length = math.hypot(x - bench.work.center[0], y - bench.work.center[1])
    limits = bench.capabilities.limits.get("speed")
    speed = length / 0.2
    if limits is not None:
        speed = min(max(speed, limits.low), limits.high)
    before = bench.read().time
    took = bench.perform("move_to", x=x, y=y, speed=speed).time - before
    wanted = length / speed
    assert took >= _SHORTEST * wanted, f"a move that takes {wanted:.3g} s at its speed took {took:.3g} s"


def test_time_goes_on(bench: Bench) -> None:
    """Time never goes back, whatever is done."""
    times = [bench.read().time]
    times.append(bench.perform("withdraw").time)
    times.append(bench.perform("approach").time)
    if "scan" in bench.capabilities.acquisitions:
        bench.acquire(bench.work.scan())
        times.append(bench.read().time)
    assert times == sorted(times), f"the times of a withdrawal, an approach and a scan are {times}"
    assert times[-1] > times[0], f"no time has passed: {times}"
