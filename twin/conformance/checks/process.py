"""A driver whose process dies: it is started again, and finds the instrument."""

import pytest

from twinscope.conformance.bench import LEASE, PERMISSIONS
from twinscope.conformance.settings import Subject
from twinscope.conformance.sinks import StrictSink
from twinscope.conformance.stand import Stand
from twinscope.conformance.work import Work
from twinscope.driver_process import DriverProcess
from twinscope.errors import DriverDiedError
from twinscope.interlocks import Interlocks
from twinscope.requests import ScanRequest
from twinscope.state import FEEDBACK_OFF

CONTRACT = "twinscope.driver_process.DriverProcess, and docs/drivers.md, 'Its process'"


def test_kill_and_reopen(subject: Subject, stand: Stand) -> None:
    """After its process was killed in the middle of a scan, a driver opens in a new one and works."""
    stand.clear()
    rules = Interlocks.from_dict(PERMISSIONS)
    process = DriverProcess(subject.name, subject.options, rules, stand.data_folder())
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
            while process.poll()[0]:
                pass
            assert len(sink.traces) == work.scan().trace_count, "a scan in the new process is not whole"
    finally:
        process.close()


def _begin(process: DriverProcess, request: ScanRequest) -> StrictSink:
    sink = StrictSink(request)
    process.start(LEASE, request, sink)
    return sink
