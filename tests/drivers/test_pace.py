"""A stop is heard whatever is being calculated: compiling a kernel takes seconds, on a busy machine very many."""

import threading
import time
from collections.abc import Callable

import pytest

from tests.drivers._acquiring import Sink
from twinscope.drivers.common.pace import Pace, StoppedError
from twinscope.drivers.simulator import Simulator
from twinscope.drivers.simulator.measuring import Measuring
from twinscope.requests import ScanFrame, ScanRequest
from twinscope.state import TipState

CURRENT = "constant_current"


def test_work_that_is_not_stopped_gives_its_result_or_its_error() -> None:
    pace = Pace("accelerated")
    assert pace.calculate(lambda: 7) == 7
    with pytest.raises(TimeoutError, match="of the work"):
        pace.calculate(lambda: (_ for _ in ()).throw(TimeoutError("of the work")))


def test_work_that_is_nearly_done_is_done_in_spite_of_a_stop() -> None:
    pace = Pace("accelerated")
    pace.interrupt.set()
    assert pace.calculate(lambda: time.sleep(0.05) or 7) == 7


def test_work_that_goes_on_is_left_to_itself() -> None:
    pace, release, ended = Pace("accelerated"), threading.Event(), threading.Event()
    threading.Timer(0.1, pace.interrupt.set).start()
    with pytest.raises(StoppedError):
        pace.calculate(lambda: (release.wait(60), ended.set()))
    assert not ended.is_set()
    pace.begin()
    assert pace.calculate(lambda: 8) == 8
    release.set()
    assert ended.wait(10)


@pytest.fixture
def gold() -> Simulator:
    driver = Simulator(sample="benzene", surface="Au")
    driver.open()
    return driver


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch) -> "Callable[[], threading.Event]":
    """Let the next measurement take for ever, as if a kernel were compiled; returns what ends it."""
    released: list[threading.Event] = []

    def begin() -> threading.Event:
        release, measure = threading.Event(), Measuring.measure

        def slow(self, *arguments, **more):
            monkeypatch.setattr(Measuring, "measure", measure)
            release.wait(120)
            return measure(self, *arguments, **more)

        monkeypatch.setattr(Measuring, "measure", slow)
        released.append(release)
        return release

    yield begin
    for release in released:
        release.set()


@pytest.mark.parametrize("what", ["feedback", "move", "scan"])
def test_a_stop_does_not_wait_for_a_kernel_that_is_compiled(gold: Simulator, compiling, what: str) -> None:
    if what != "feedback":
        gold.set_feedback(CURRENT)
    before = gold.read()
    release = compiling()
    threading.Timer(0.2, gold.stop).start()
    if what == "feedback":
        gold.set_feedback(CURRENT)
    elif what == "move":
        gold.move_to(1e-9, 0, before.position.z)
        assert gold.read().position == before.position
    else:
        frame = ScanFrame(size=(1e-9, 1e-9))
        request = ScanRequest(frame=frame, pixels=(4, 2), channels=("z",), z_mode=CURRENT)
        sink = Sink()
        # The way to the first pixel is what takes for ever.
        gold.start_scan(request, sink)
        assert not gold.poll()
        assert sink.traces == []
    assert not release.is_set()
    # The instrument is of use while the kernel is still being compiled.
    gold.withdraw()
    assert gold.read().tip is TipState.WITHDRAWN
    gold.approach()
    gold.set_feedback(CURRENT)
    settled = gold.read().position.z
    release.set()
    gold.move_to(0.0, 0.0, settled)
    assert gold.read().position.z == pytest.approx(settled, abs=1e-12)
