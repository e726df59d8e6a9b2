"""A driver whose process dies: it is started again, and finds the instrument."""

import time

import pytest

from twinscope.conformance.bench import LEASE, PERMISSIONS
from twinscope.conformance.factory import BenchFactory
from twinscope.conformance.settings import Subject
from twinscope.conformance.sinks import StrictSink
from twinscope.conformance.work import Work
from twinscope.driver_process import DriverProcess
from twinscope.errors import DriverDiedError
from twinscope.interlocks import Interlocks
from twinscope.requests import ScanRequest
from twinscope.state import FEEDBACK_OFF

CONTRACT = "twinscope.driver_process.DriverProcess, and docs/drivers.md, 'Its process'"


def test_kill_and_reopen(subject: Subject, factory: BenchFactory) -> None:
    """After its process was killed in the middle of a scan, a driver opens in a new one and works."""
    factory.clear()
    rules = Interlocks.from_dict(PERMISSIONS)
    process = DriverProcess(subject.name, subject.options, rules, factory.data_folder())
    try:
        work = Work(process.capabilities(), subject.settings, process.open())
        kinds, first = process.capabilities().acquisitions, process.pid
        if "scan" in kinds:
            _begin(process, work.endless_scan())
            process.poll()
        process.kill()
        with pytest.raises(DriverDiedError):
            process.read()
        process.restart()
        assert process.pid != first
        process.read()
        process.perform(LEASE, "withdraw")
        if process.perform(LEASE, "approach").feedback != FEEDBACK_OFF:
            process.perform(LEASE, "set_feedback", mode=FEEDBACK_OFF)
        if "scan" in kinds:
            x, y = work.center
            process.perform(LEASE, "move_to", x=x, y=y, z=work.height, speed=None)
            sink = _begin(process, work.scan())
            deadline = time.monotonic() + subject.settings.timeout
            while process.poll()[0]:
                assert time.monotonic() < deadline, (
                    f"the scan was not over after {subject.settings.timeout} s (timeout)"
                )
            assert len(sink.traces) == work.scan().trace_count, "a scan in the new process is not whole"
    finally:
        process.close()


def _begin(process: DriverProcess, request: ScanRequest) -> StrictSink:
    sink = StrictSink(request)
    process.start(LEASE, request, sink)
    return sink
