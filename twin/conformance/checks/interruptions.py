"""Acquisitions that are looked at, stopped, or followed by something else before they are over."""

from collections.abc import Callable

import numpy as np
import pytest

from twinscope.acquisition import Acquisition
from twinscope.conformance.bench import Bench, Direct, Served
from twinscope.conformance.checks.acquisitions import need
from twinscope.conformance.sinks import StrictSink
from twinscope.errors import AbortedError, BusyError
from twinscope.requests import ScanRequest
from twinscope.storage.store import load

CONTRACT = "twinscope.drivers.base.Driver.poll and stop, and docs/drivers.md, 'Acquisitions' and 'Stopping'"


def begun(direct: Direct, request: ScanRequest) -> StrictSink:
    """Begin a scan and poll until the first trace is there."""
    sink = direct.start(request)
    while not sink.traces:
        assert direct.poll(sink), "the scan was over before its first trace"
    return sink


def test_reading_while_acquiring(direct: Direct) -> None:
    """Between two calls of poll() a driver can be read: time goes on, and the tip is where it measures."""
    need(direct, "scan")
    request = direct.work.scan(pixels=(direct.settings.pixels[0], 6))
    sink = begun(direct, request)
    times = [direct.read().time]
    while direct.poll(sink):
        reading = direct.read()
        times.append(reading.time)
        x, y = reading.position.x - direct.work.center[0], reading.position.y - direct.work.center[1]
        off = max(abs(x) / request.frame.size[0], abs(y) / request.frame.size[1])
        assert off < 0.6, "while it scans, read() tells a position outside of the frame"
    assert times == sorted(times), f"while it scanned, time went back: {times}"
    assert len(sink.array()) == request.trace_count


def test_a_stopped_scan_ends(direct: Direct) -> None:
    """After stop() poll() returns False soon, and what was not measured is not written."""
    need(direct, "scan")
    request = direct.work.long_scan()
    sink = begun(direct, request)
    done = len(sink.traces)
    if done == request.trace_count:
        pytest.skip("this driver measures all lines at once")
    direct.driver.stop()
    # The block in progress may still come.
    polls = 0
    while direct.poll(sink):
        polls += 1
        assert polls <= 2, "poll() goes on after stop()"
    more = len(sink.array()) - done
    assert more <= 2 * done, f"after stop() {more} more traces were written: they cannot have been measured"


def test_a_scan_after_a_stopped_one(direct: Direct) -> None:
    """What begins ends the acquisition before, which need not have been polled to its end; nothing is mixed up."""
    need(direct, "scan")
    first = begun(direct, direct.work.long_scan())
    direct.driver.stop()
    known = len(first.traces)
    assert len(direct.acquire(direct.work.scan())) == direct.work.scan().trace_count
    assert len(first.traces) == known, "traces of the new scan went into the sink of the one before"
    begun(direct, direct.work.long_scan())
    assert len(direct.acquire(direct.work.scan())) == direct.work.scan().trace_count


def test_a_command_after_an_unfinished_scan(direct: Direct) -> None:
    """A move after a scan that was stopped works, also if nobody has polled since."""
    need(direct, "scan")
    begun(direct, direct.work.long_scan())
    direct.driver.stop()
    x, y = direct.work.offset(0.25)
    position = direct.perform("move_to", x=x, y=y).position
    assert (position.x, position.y) == (x, y), "a stop that came before the move has stopped it"


def aborted(bench: Served, meanwhile: Callable[[], object] = lambda: None) -> Acquisition:
    """Begin a scan, do something after its first line, and abort it."""
    acquisition = bench.scope.acquire(bench.work.endless_scan())
    next(acquisition.lines())
    meanwhile()
    acquisition.abort()
    with pytest.raises(AbortedError):
        acquisition.result(bench.settings.timeout)
    return acquisition


def test_the_rest_of_an_aborted_scan_is_nan(bench: Bench) -> None:
    """In the file of an aborted scan, what was not measured is NaN, and what was measured is there."""
    need(bench, "scan")
    if not isinstance(bench, Served):
        pytest.skip("files are written by the server")
    acquisition = aborted(bench)
    result = load(acquisition.file)
    done = result.metadata["traces_done"]
    lines = result[bench.work.channels[0]].values.reshape(-1, bench.settings.pixels[0])
    assert 0 < done < len(lines), f"{done} of {len(lines)} lines were measured before the abort"
    assert np.isfinite(lines[:done]).any(), "nothing was measured in the lines before the abort"
    assert np.isnan(lines[done:]).all(), "there are values in lines that were not measured"


def test_writing_while_acquiring(bench: Bench) -> None:
    """Through a server nothing is set while something is acquired, and the acquisition is not disturbed by trying."""
    need(bench, "scan")
    if not isinstance(bench, Served):
        pytest.skip("it is the server that refuses it")

    def try_to_set() -> None:
        for name in bench.capabilities.settable[:1]:
            with pytest.raises(BusyError):
                bench.scope.set_signal(name, bench.work.found.signals[name])

    aborted(bench, try_to_set)
