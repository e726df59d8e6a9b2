"""A driver in a process of its own: whatever it does to that process, the server, the data and the tip survive it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import twinscope
from tests.twin.drivers_that_fail import GOOD_TRACES
from twinscope import JobState, ScanFrame, Status, TipState, driver_host, driver_process, instrument
from twinscope.driver_process import DriverProcess
from twinscope.errors import (
    ConfigurationError,
    DriverDiedError,
    DriverError,
    InterlockError,
    OutOfRangeError,
    TwinscopeError,
)
from twinscope.interlocks import Interlocks
from twinscope.local import LocalTransport, served_instrument
from twinscope.storage import file_lock

ROOT = Path(__file__).resolve().parent.parent.parent
FRAME = ScanFrame(size=(1e-9, 2e-9), center=(5e-9, -3e-9))
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="this is about what POSIX does to a process")
Serve = Callable[..., twinscope.Microscope]


@pytest.fixture(autouse=True)
def _drivers_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new process looks for modules where this one does."""
    monkeypatch.syspath_prepend(ROOT)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serve]:
    """Microscopes as a server makes them; they are closed with the test."""
    opened: list[twinscope.Microscope] = []

    def serve(driver: str, **options: object) -> twinscope.Microscope:
        served = served_instrument(f"tests.twin.drivers_that_fail:{driver}", tmp_path, options, {})
        served.start()
        opened.append(twinscope.Microscope(transport=LocalTransport(served)))
        return opened[-1]

    yield serve
    for scope in opened:
        scope.close()


def scan(scope: twinscope.Microscope, rows: int = 10, **change: object) -> twinscope.Acquisition:
    wanted = {"frame": FRAME, "pixels": (5, rows), "channels": ["at_x", "at_y"], "line_time": 0.01}
    return scope.scan(**(wanted | change))


def check_lines(file: str, lines: int) -> None:
    """Those that were measured are right, the others are NaN."""
    stored = twinscope.load(file)
    values = stored["at_y"].values
    rows = np.stack([stored.request.row_positions(row)[1] for row in range(len(values))])
    np.testing.assert_allclose(values[:lines], rows[:lines], rtol=1e-6)
    assert np.isnan(values[lines:]).all()
    assert stored.metadata["traces_done"] == lines


# ---------------------------------------------------------------------- what a driver can do


@pytest.mark.parametrize(
    ("driver", "error", "message"),
    [
        ("Exits", DriverDiedError, "exit code 3: where the tip is, is not known"),
        ("ExitsPolitely", DriverError, "SystemExit: 5"),
        pytest.param("Crashes", DriverDiedError, "SIGSEGV", marks=POSIX),
        pytest.param("RunsOutOfMemory", DriverError, "MemoryError", marks=POSIX),
        ("Raises", DriverError, "ZeroDivisionError: the piezo of nothing"),
        ("LosesItsInstrument", DriverError, "ConnectionResetError: the controller has hung up"),
        ("WritesAWrongShape", DriverError, r"traces of shape \(1, 1, 3\)"),
        ("WritesNumbersWithoutAShape", DriverError, r"traces of shape \(\)"),
        ("WritesFarTooMuch", DriverError, "up to 10 in all"),
        ("WritesWhatWasWritten", DriverError, "at 0: expected .* at 3"),
    ],
)
def test_a_driver_that_fails_ends_its_job_and_is_started_again(served: Serve, driver, error, message) -> None:
    scope = served(driver)
    with scope.control():
        acquisition = scan(scope)
        with pytest.raises(error, match=message):
            acquisition.result(timeout=20)
        check_lines(acquisition.file, GOOD_TRACES)
        assert acquisition.progress().state is JobState.FAILED
        assert scope.state().tip is TipState.UNKNOWN
        assert scope.wait_ready(20)
        check_that_nothing_moves_before_an_operator_has_looked(scope)


def test_the_limits_are_those_of_the_driver_that_was_made_anew(served: Serve, tmp_path: Path) -> None:
    scope = served("FindsLessEachTime", file=str(tmp_path / "times"))
    with scope.control():
        scope.move_to(x=0.9e-6)
        scan(scope).wait(20)
        assert scope.wait_ready(20)
        scope.acknowledge()
        with pytest.raises(OutOfRangeError, match="5e-07"):
            scope.move_to(x=0.9e-6)
        with pytest.raises(OutOfRangeError, match="5e-07"):
            scope.check("move_to", x=0.9e-6)


def check_that_nothing_moves_before_an_operator_has_looked(scope: twinscope.Microscope) -> None:
    assert scope.state().status is Status.IDLE
    assert scope.state().tip is TipState.UNKNOWN
    for action in (lambda: scope.move_to(x=1e-9), lambda: scan(scope, rows=2), scope.approach):
        with pytest.raises(InterlockError, match="nothing moves until an operator acknowledges"):
            action()
    scope.acknowledge()
    assert scope.move_to(x=1e-9).x == 1e-9
    assert scan(scope, rows=2).result(timeout=10).complete


def test_a_driver_that_ends_early_fails_its_job_only(served: Serve) -> None:
    scope = served("EndsEarly")
    with scope.control():
        acquisition = scan(scope)
        with pytest.raises(DriverError, match="after 3 of 10 traces"):
            acquisition.result(timeout=20)
        check_lines(acquisition.file, GOOD_TRACES)
        assert scope.move_to(x=1e-9).x == 1e-9


def test_the_driver_that_is_started_again_has_a_new_process(tmp_path: Path) -> None:
    driver = DriverProcess("tests.twin.drivers_that_fail:Exits", {}, Interlocks(), tmp_path)
    driver.open()
    first = driver.pid
    driver.kill()
    with pytest.raises(DriverDiedError, match="where the tip is"):
        driver.read()
    driver.restart()
    assert driver.pid != first
    assert driver.read().tip is TipState.IN_RANGE
    driver.close()


def test_a_driver_that_does_not_stop_is_killed(served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrument, "_STOP_TIMEOUT", 0.5)
    scope = served("Sleeps")
    with scope.control():
        acquisition = scan(scope)
        wait_for_lines(acquisition, GOOD_TRACES)
        begin = time.monotonic()
        acquisition.abort()
        with pytest.raises(DriverDiedError):
            acquisition.result(timeout=5)
        assert time.monotonic() - begin < 3
        check_lines(acquisition.file, GOOD_TRACES)
        assert scope.wait_ready(20)
        check_that_nothing_moves_before_an_operator_has_looked(scope)


@POSIX
def test_a_driver_that_holds_the_interpreter_is_found_out_and_killed(
    served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_process, "_PING_INTERVAL", 0.1)
    scope = served("HoldsTheInterpreter")
    with scope.control():
        assert scope.wait_ready(20)
        monkeypatch.setattr(driver_process, "_SILENCE", 2.5)
        acquisition = scan(scope)
        with pytest.raises(DriverDiedError, match="SIGKILL"):
            acquisition.result(timeout=20)
        check_lines(acquisition.file, GOOD_TRACES)
        monkeypatch.setattr(driver_process, "_SILENCE", 30.0)
        assert scope.wait_ready(20)
        check_that_nothing_moves_before_an_operator_has_looked(scope)


@pytest.mark.parametrize("driver", ["StopsSlowly", "CannotStop"])
def test_a_driver_whose_stop_is_slow_or_fails_is_stopped_all_the_same(served: Serve, driver: str) -> None:
    scope = served(driver, rate="realtime")
    with scope.control():
        assert scope.wait_ready(20)
        acquisition = scan(scope, line_time=10.0)
        begin = time.monotonic()
        acquisition.abort()
        assert time.monotonic() - begin < 3
        assert acquisition.progress().state is JobState.ABORTED
        assert scope.move_to(x=1e-9).x == 1e-9


def wait_for_lines(acquisition: twinscope.Acquisition, lines: int) -> None:
    deadline = time.monotonic() + 20
    while acquisition.progress().done < lines:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_driver_that_cannot_be_made_says_why() -> None:
    for name, message in (
        ("CannotBeMade", "KeyError: 'serial number'"),
        ("Nothing", "Nothing"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            DriverProcess(f"tests.twin.drivers_that_fail:{name}", {}, Interlocks())
    with pytest.raises(ConfigurationError, match="unexpected keyword argument 'speeed'"):
        DriverProcess("tests.conftest:RampDriver", {"speeed": 1}, Interlocks())


def test_a_driver_that_cannot_be_opened_fails_and_can_be_tried_again(
    served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinscope.worker._RETRIES", (0.1,))
    scope = served("CannotBeOpened")
    assert scope.wait_ready(20)
    assert scope.state().status is Status.FAILED
    assert "no such device: /dev/stm0" in scope.state().error
    with scope.control():
        with pytest.raises(DriverError, match="no such device"):
            scope.move_to(x=0.0)
        with pytest.raises(TwinscopeError, match="no such device"):
            scope.restart()
    assert scope.state().status is Status.FAILED


def test_an_instrument_can_be_closed_whose_driver_never_opens(served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrument, "_OPEN_TIMEOUT", 0.3)
    scope = served("OpensForEver")
    begin = time.monotonic()
    scope.close()
    assert time.monotonic() - begin < 5


def test_an_instrument_can_be_closed_whose_driver_never_withdraws(served: Serve, monkeypatch) -> None:
    monkeypatch.setattr(instrument, "_WITHDRAW_TIMEOUT", 0.3)
    scope = served("WithdrawsForEver")
    assert scope.wait_ready(20)
    begin = time.monotonic()
    scope.close()
    assert time.monotonic() - begin < 5


def test_what_a_driver_prints_goes_to_the_log(served: Serve, capfd: pytest.CaptureFixture[str]) -> None:
    scope = served("Prints")
    with scope.control():
        assert scan(scope, rows=200).result(timeout=20).complete
    scope.close()
    output, log = capfd.readouterr()
    assert output == ""
    assert "and from below" in log
    assert "line 199" in log


# ---------------------------------------------------------------------- what goes through the pipe


def test_data_are_those_of_a_driver_in_this_process_bit_by_bit(served: Serve, tmp_path: Path) -> None:
    name = "tests.twin.drivers_that_fail:Noise"
    with twinscope.Microscope(name, directory=tmp_path / "near") as near, near.control():
        here = scan(near, rows=64, pixels=(33, 64)).result()
    far = served("Noise")
    with far.control():
        there = scan(far, rows=64, pixels=(33, 64)).result(timeout=20)
    for channel in ("at_x", "at_y"):
        bits = there[channel].values.view(np.uint32)
        assert len(np.unique(bits)) > 2000
        np.testing.assert_array_equal(bits, here[channel].values.view(np.uint32))


def test_an_obedient_driver_stops_within_200_ms(served: Serve) -> None:
    scope = served("Marks", file=os.devnull)
    took = []
    with scope.control():
        assert scope.wait_ready(20)
        for _ in range(3):
            acquisition = scan(scope, line_time=10.0)
            time.sleep(0.2)
            begin = time.monotonic()
            acquisition.abort()
            took.append(time.monotonic() - begin)
            assert acquisition.progress().state is JobState.ABORTED
    assert min(took) < 0.2, took


# ---------------------------------------------------------------------- when the server is gone

SERVER = """
import sys, threading, time
from pathlib import Path
from twinscope.driver_process import DriverProcess
from twinscope.interlocks import Interlocks
from twinscope.requests import ScanFrame, ScanRequest

class Sink:
    def write(self, first, traces): pass
    def warn(self, message): pass

if __name__ == "__main__":
    doing, driver, folder, moving = sys.argv[1:]
    options = {"file": folder + "/marks", "moving": float(moving)}
    process = DriverProcess("tests.twin.drivers_that_fail:" + driver, options, Interlocks(), Path(folder))
    process.open()
    print("open", flush=True)
    if doing == "moving":
        process.perform(1, "move_to", x=1e-9, y=None, z=None, speed=None)
    elif doing == "scanning":
        frame = ScanFrame(size=(1e-9, 1e-9))
        process.start(1, ScanRequest(frame=frame, pixels=(4, 1000), channels=("at_x",), line_time=0.05), Sink())
        while process.poll()[0]:
            pass
    time.sleep(3600)
"""


def kill_a_server(folder: Path, doing: str, driver: str = "Marks", moving: float = 3600) -> None:
    """Start a process that commands a driver, and kill it as soon as the driver does what it was to do."""
    program = folder / "server.py"
    program.write_text(SERVER)
    command = [sys.executable, str(program), doing, driver, str(folder), str(moving)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "open\n"
            wait_for_mark(folder, {"idle": "open", "moving": "move", "scanning": "poll"}[doing])
        finally:
            server.kill()


def wait_for_mark(folder: Path, mark: str) -> None:
    deadline = time.monotonic() + 20
    while mark not in (text.partition(" ")[2] for text in marks(folder)):
        assert time.monotonic() < deadline, marks(folder)
        time.sleep(0.01)


def marks(folder: Path) -> list[str]:
    file = folder / "marks"
    return file.read_text().splitlines() if file.exists() else []


def wait_for_the_end(folder: Path, timeout: float) -> None:
    """A driver's process holds its lock until it has ended."""
    held = file_lock.lock(folder / driver_host.LOCK, timeout)
    assert held is not None, "the driver's process has not ended"
    held.close()


@pytest.mark.parametrize("doing", ["idle", "moving", "scanning"])
def test_a_driver_whose_server_is_killed_withdraws_closes_and_ends(tmp_path: Path, doing: str) -> None:
    kill_a_server(tmp_path, doing)
    wait_for_the_end(tmp_path, timeout=5)
    ended = [mark.partition(" ")[2] for mark in marks(tmp_path)]
    assert ended[-2:] == ["moved to 1e-06", "close"], "the tip was not withdrawn the whole way"
    if doing == "moving":
        assert ended[:3] == ["open", "move", "moved to 1e-09"], "the move was not stopped"


def test_a_driver_that_hangs_ends_all_the_same_when_its_server_is_killed(tmp_path: Path) -> None:
    kill_a_server(tmp_path, "scanning", "MarksAndHangs")
    wait_for_the_end(tmp_path, timeout=5)


def test_a_new_driver_waits_until_that_of_the_killed_server_has_ended(tmp_path: Path) -> None:
    kill_a_server(tmp_path, "scanning")
    options = {"file": str(tmp_path / "marks")}
    driver = DriverProcess("tests.twin.drivers_that_fail:Marks", options, Interlocks(), tmp_path)
    driver.open()
    first, second = (f"{pid} " for pid in dict.fromkeys(mark.split()[0] for mark in marks(tmp_path)))
    done = marks(tmp_path)
    driver.close()
    assert second == f"{driver.pid} "
    assert done.index(f"{first}close") < done.index(f"{second}open")


def test_a_second_driver_is_refused_while_the_first_commands_the_instrument(tmp_path: Path) -> None:
    first, second = (
        DriverProcess("tests.twin.drivers_that_fail:WaitsBriefly", {}, Interlocks(), tmp_path) for _ in range(2)
    )
    first.open()
    with pytest.raises(DriverError, match=r"another process commands the instrument.*driver\.lock"):
        second.open()
    first.close()
    assert second.open().tip is TipState.IN_RANGE
    second.close()


def test_a_terminal_that_interrupts_everything_leaves_the_driver_to_the_server(tmp_path: Path) -> None:
    driver = DriverProcess("tests.conftest:RampDriver", {}, Interlocks(), tmp_path)
    driver.open()
    assert driver.pid is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        if sys.platform != "win32":
            os.kill(driver.pid, number)
    assert driver.perform(None, "withdraw").tip is TipState.WITHDRAWN
    driver.close()
