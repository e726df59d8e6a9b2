"""A driver whose process dies: it is started again, and finds the instrument."""

import pytest

from twinscope.conformance.bench import PERMISSIONS
from twinscope.conformance.settings import Subject
from twinscope.conformance.sinks import StrictSink
from twinscope.conformance.stand import Stand
from twinscope.conformance.work import Work
from twinscope.driver_process import DriverProcess
from twinscope.errors import DriverDiedError
from twinscope.interlocks import Interlocks

CONTRACT = "twinscope.driver_process.DriverProcess, and docs/drivers.md, 'Its process'"


@pytest.mark.parametrize("doing", ["idle", "scanning"])
def test_kill_and_reopen(subject: Subject, stand: Stand, doing: str) -> None:
    """After its process was killed, in the middle of a scan or not, a driver opens in a new one and works."""
    stand.clear()
    rules = Interlocks.from_dict(PERMISSIONS)
    process = DriverProcess(subject.name, subject.options, rules, stand.data_folder())
    try:
        work = Work(process.capabilities(), subject.settings, process.open())
        can_scan = "scan" in process.capabilities().acquisitions
        if doing == "scanning":
            if not can_scan:
                pytest.skip("this instrument has no scan")
            request = work.scan(pixels=(subject.settings.pixels[0], 400), line_time=0.5)
            process.start(1, request, StrictSink(request))
            process.poll()
        first = process.pid
        process.kill()
        with pytest.raises(DriverDiedError):
            process.read()
        process.restart()
        assert process.pid != first
        process.read()
        process.perform(1, "withdraw")
        process.perform(1, "approach")
        if can_scan:
            request = work.scan()
            sink = StrictSink(request)
            process.start(1, request, sink)
            while process.poll()[0]:
                sink.active = True
            assert len(sink.array()) == request.trace_count
    finally:
        process.close()
