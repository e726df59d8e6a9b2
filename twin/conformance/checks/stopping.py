"""Stopping: from any thread, at any time, within 200 ms; then the driver stands still."""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest

from twinscope.conformance.bench import Bench, Direct, Served
from twinscope.conformance.checks.acquisitions import need
from twinscope.conformance.checks.interruptions import begun
from twinscope.drivers.base import Driver
from twinscope.requests import AcquisitionRequest

CONTRACT = "twinscope.drivers.base.Driver.stop, and docs/drivers.md, 'Stopping'"

_PROMISE = 0.2
_TRIES = 3
# How long something has been going on when it is stopped, in s.
_AFTER = 0.1
# What is to be stopped takes so long when it is not, in s of instrument time.
_LONG = 30.0
# More lines than a driver may measure in one call of poll().
_ENDLESS = 10_000


@dataclass
class Stop:
    """How stopping went, in s of the wall clock."""

    call: float
    rest: float


def _stop_soon(driver: Driver) -> tuple[float, float]:
    """Stop a driver after a while; returns how long that took, and when it was over."""
    time.sleep(_AFTER)
    begin = time.monotonic()
    driver.stop()
    end = time.monotonic()
    return end - begin, end


def stopped(driver: Driver, action: Callable[[], object]) -> Stop:
    """Do something and stop it from another thread."""
    with ThreadPoolExecutor(1) as other:
        stopping = other.submit(_stop_soon, driver)
        action()
        over = time.monotonic()
        took, end = stopping.result()
    return Stop(took, max(over - end, 0.0))


def check_stops(direct: Direct, prepare: Callable[[], Callable[[], object]], what: str) -> None:
    """Stop something several times, and check that it was stopped in time and stands still.

    Parameters
    ----------
    direct
        The instrument.
    prepare
        Makes everything ready, and returns what is to be stopped.
    what
        For the messages.
    """
    stops = []
    for _ in range(_TRIES):
        action = prepare()
        stops.append(stopped(direct.driver, action))
        check_stands_still(direct, what)
    check_promise(direct, [stop.call for stop in stops], f"stop() while {what}")
    slowest = max(stop.rest for stop in stops)
    assert slowest <= direct.settings.settle, (
        f"{slowest:.2g} s after stop() returned, it was still {what}: expected at most {direct.settings.settle} s"
        " (settle)"
    )


def check_promise(bench: Bench, took: list[float], what: str) -> None:
    """Check that the median of some durations is what drivers promise."""
    allowed = _PROMISE * bench.settings.patience
    median = statistics.median(took)
    assert median <= allowed, (
        f"{what} took {median:.3g} s: expected {_PROMISE} s at most, on a busy computer {allowed} s (patience)"
    )


def check_stands_still(direct: Direct, what: str) -> None:
    """Check that the tip does not move any more."""
    first = direct.driver.read()
    time.sleep(0.05)
    second = direct.driver.read()
    assert second.position == first.position, f"the tip was stopped while {what}, and goes on moving"


# ---------------------------------------------------------------------- at every stage


def test_stop_while_moving(direct: Direct) -> None:
    """A move that is stopped ends on its way, and read() tells where."""
    work = direct.work
    start, end = work.offset(-0.5, -0.5), work.offset(0.5, 0.5)
    length = float(np.hypot(end[0] - start[0], end[1] - start[1]))
    limits = direct.capabilities.limits.get("speed")
    speed = length / _LONG if limits is None else max(length / _LONG, limits.low)

    def prepare() -> Callable[[], object]:
        direct.perform("move_to", x=start[0], y=start[1])
        return lambda: direct.driver.move_to(*end, work.height, speed)

    check_stops(direct, prepare, "moving")
    position = direct.driver.read().position
    along = (position.x - start[0]) / (end[0] - start[0])
    across = (position.y - start[1]) / (end[1] - start[1])
    assert -0.01 <= along <= 1.01, f"the tip was stopped at {position}, which is not between {start} and {end}"
    assert abs(along - across) < 0.02, f"the tip was stopped at {position}, which is not between {start} and {end}"


def test_stop_while_approaching(direct: Direct) -> None:
    """An approach can be stopped."""

    def prepare() -> Callable[[], object]:
        direct.driver.withdraw()
        return direct.driver.approach

    check_stops(direct, prepare, "approaching")


def test_stop_while_withdrawing(direct: Direct) -> None:
    """A withdrawal can be stopped, and done again."""

    def prepare() -> Callable[[], object]:
        direct.driver.approach()
        return direct.driver.withdraw

    check_stops(direct, prepare, "withdrawing")
    direct.driver.withdraw()


def test_stop_while_scanning(direct: Direct) -> None:
    """A scan can be stopped in the middle of a line."""
    need(direct, "scan")
    check_stops(direct, lambda: _acquisition(direct, direct.work.long_scan()), "scanning")


def test_stop_on_a_path(direct: Direct) -> None:
    """A path can be stopped."""
    need(direct, "path")
    check_stops(direct, lambda: _acquisition(direct, direct.work.path(passes=12, point_time=0.5)), "on a path")


def test_stop_in_a_spectroscopy(direct: Direct) -> None:
    """A spectroscopy can be stopped in the middle of a sweep."""
    need(direct, "spectroscopy")
    for swept in direct.capabilities.sweeps:
        request = direct.work.spectroscopy(swept, point_time=2.0)
        check_stops(direct, lambda request=request: _acquisition(direct, request), "in a spectroscopy")  # type: ignore[misc]


def _acquisition(direct: Direct, request: AcquisitionRequest) -> Callable[[], object]:
    """Return what begins an acquisition and polls it to its end; the way to its start can be stopped, too."""
    return lambda: direct.poll_to_the_end(direct.start(request))


def test_stop_between_lines(direct: Direct) -> None:
    """A stop between two calls of poll() is not forgotten: the next ones end the scan."""
    need(direct, "scan")
    took = []
    for _ in range(_TRIES):
        sink = begun(direct, direct.work.endless_scan())
        begin = time.monotonic()
        direct.driver.stop()
        took.append(time.monotonic() - begin)
        begin = time.monotonic()
        direct.poll_to_the_end(sink)
        assert time.monotonic() - begin <= direct.settings.settle, "poll() goes on after a stop between two calls"
        assert len(sink.traces) < _ENDLESS, "poll() goes on after a stop between two calls"
        check_stands_still(direct, "between two lines")
    check_promise(direct, took, "stop() between two lines")


# ---------------------------------------------------------------------- when there is nothing to stop


def test_stop_when_idle(direct: Direct) -> None:
    """A stop when nothing is done is over at once, and does not stop what is begun after it."""
    took = []
    for along in (0.3, -0.3, 0.3):
        begin = time.monotonic()
        direct.driver.stop()
        took.append(time.monotonic() - begin)
        x, y = direct.work.offset(along)
        position = direct.perform("move_to", x=x, y=y).position
        assert (position.x, position.y) == (x, y), "a stop that came before a move has stopped it"
        if "scan" in direct.capabilities.acquisitions:
            direct.driver.stop()
            direct.acquire(direct.work.scan())
    check_promise(direct, took, "stop() when nothing was done")


def test_stop_from_many_threads(direct: Direct) -> None:
    """Several threads may stop at once."""
    need(direct, "scan")
    sink = begun(direct, direct.work.long_scan())
    with ThreadPoolExecutor(4) as others:
        stopping = [others.submit(_stop_soon, direct.driver) for _ in range(4)]
        direct.poll_to_the_end(sink)
        for one in stopping:
            one.result()
    assert len(direct.acquire(direct.work.scan())) == direct.work.scan().trace_count


# ---------------------------------------------------------------------- through a server


def test_abort_through_the_server(bench: Bench) -> None:
    """Aborting a scan returns when the driver stands still."""
    need(bench, "scan")
    if not isinstance(bench, Served):
        pytest.skip("this is about the server")
    took = []
    for _ in range(_TRIES):
        acquisition = bench.scope.acquire(bench.work.endless_scan())
        time.sleep(_AFTER)
        begin = time.monotonic()
        acquisition.abort()
        took.append(time.monotonic() - begin)
        assert acquisition.progress().state.is_final
    allowed = _PROMISE * bench.settings.patience + bench.settings.settle
    median = statistics.median(took)
    assert median <= allowed, f"an abort took {median:.3g} s: expected at most {allowed:.3g} s"
