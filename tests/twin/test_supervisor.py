"""``twinscope serve --restart``: a server that dies comes back at the same address, and waits for an operator."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import twinscope
from tests.conftest import ServerProcess
from twinscope import Status, TipState, supervisor
from twinscope.errors import InterlockError
from twinscope.ledger import JOURNAL
from twinscope.storage.journal import read
from twinscope.supervisor import Supervisor

ROOT = Path(__file__).resolve().parent.parent.parent
# Fails as often as it is told to, and leaves a letter for each time.
FAILS = """
import pathlib, sys
file, times, code = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
starts = len(file.read_text()) + 1 if file.exists() else 1
file.write_text("x" * starts)
sys.exit(code if starts <= times else 0)
"""
# Ends with 7 when it is told to end.
SLEEPS = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); time.sleep(60)"
Serve = Callable[..., ServerProcess]


def fails(folder: Path, times: int, code: int) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", FAILS, str(folder / "starts"), str(times), str(code)]


def starts(folder: Path) -> int:
    return len((folder / "starts").read_text())


def test_a_command_that_fails_is_started_again_until_it_ends_well(tmp_path: Path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_PAUSE", 0.01)
    assert Supervisor(fails(tmp_path, times=3, code=1), hopeless=2).run() == 0
    assert starts(tmp_path) == 4
    pauses = [record.getMessage().rpartition(" in ")[2] for record in caplog.records]
    assert pauses == ["0.01 s", "0.02 s", "0.04 s"]


def test_a_wrong_command_is_not_tried_again(tmp_path: Path) -> None:
    assert Supervisor(fails(tmp_path, times=3, code=2), hopeless=2).run() == 2
    assert starts(tmp_path) == 1


def test_what_was_right_once_is_tried_again_also_when_it_looks_wrong(tmp_path: Path, monkeypatch) -> None:
    """Somebody else may have the port for a moment."""
    monkeypatch.setattr(supervisor, "_FIRST_PAUSE", 0.01)
    program = FAILS.replace("code if", "1 if starts == 1 else code if")
    command = [program if part == FAILS else part for part in fails(tmp_path, times=3, code=2)]
    assert Supervisor(command, hopeless=2).run() == 0
    assert starts(tmp_path) == 4


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to pass on")
def test_a_signal_ends_the_command_and_the_supervisor() -> None:
    before = signal.getsignal(signal.SIGTERM)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    begin = time.monotonic()
    assert Supervisor([sys.executable, "-I", "-S", "-c", SLEEPS], hopeless=2).run() == 7
    assert time.monotonic() - begin < 5
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to pass on")
def test_a_signal_during_a_pause_ends_the_supervisor(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(supervisor, "_FIRST_PAUSE", 60.0)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert Supervisor(fails(tmp_path, times=3, code=1), hopeless=2).run() == 1
    assert starts(tmp_path) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="processes are killed by their numbers")
def test_a_server_that_was_killed_comes_back_and_waits_for_an_operator(serve: Serve, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    driver = ["--driver", "tests.twin.drivers_that_fail:TellsItsProcess", "--set", f"file={pid}"]
    server = serve("--restart", *driver, PYTHONPATH=str(ROOT))
    with twinscope.connect(server.uri) as scope:
        assert scope.wait_ready(20)
        with scope.control():
            acquisition = scope.scan(
                frame=twinscope.ScanFrame(size=(1e-9, 1e-9)), pixels=(8, 1000), channels=["at_x"], line_time=0.01
            )
            next(acquisition.lines())
            for child in children(server.process.pid):
                os.kill(child, signal.SIGKILL)
        # The same address, the same session; the lease is gone.
        assert scope.wait_ready(20)
        state = scope.state()
        assert (state.status, state.tip, state.lease) == (Status.IDLE, TipState.UNKNOWN, None)
        assert "without bringing the tip to safety" in state.blocked
        with scope.control():
            with pytest.raises(InterlockError, match="acknowledges"):
                scope.move_to(x=1e-9)
            scope.acknowledge()
            assert scope.move_to(x=1e-9).x == 1e-9
        assert scope.acquisition(acquisition.id).partial().metadata["traces_done"] >= 1
    code, said = server.stop()
    assert code == 0, said
    assert "ended with signal 9: starting it again" in said
    entries = [entry.kind for entry in read(server.data / JOURNAL) if entry.kind in ("started", "stopped")]
    assert entries == ["started", "started", "stopped"]


def children(pid: int) -> list[int]:
    """Numbers of the child processes."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True)
    return [int(word) for word in listed.stdout.split()]


def test_a_crash_that_nobody_has_looked_at_is_remembered_over_an_orderly_stop(serve: Serve) -> None:
    first = serve("--driver", "tests.conftest:RampDriver", PYTHONPATH=str(ROOT))
    first.kill()
    again = ["--data", str(first.data), "--driver", "tests.conftest:RampDriver"]
    second = serve(*again, PYTHONPATH=str(ROOT))
    assert second.stop()[0] == 0
    third = serve(*again, PYTHONPATH=str(ROOT))
    with twinscope.connect(third.uri) as scope:
        assert "without bringing the tip to safety" in scope.state().blocked


def test_a_server_with_wrong_values_is_not_started_again(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "twinscope", "serve", "--restart", "--data", str(tmp_path), "--port", "0"]
    run = subprocess.run([*command, "--driver", "telescope"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 2
    assert "unknown driver 'telescope'" in run.stderr
    assert "again" not in run.stderr


# ---------------------------------------------------------------------- the rules of the server


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("least_scan_height = 'low'", "least_scan_height is 'low'"),
        ("least_hight = 1e-10", "least_hight"),
        ("[signals.bias]\nmax_step = -1", "max_step"),
        ("[signals.telescope]\nmax_step = 1", "an interlock is about 'telescope': expected one of x, y, z, bias"),
        ("allow = 'pulse'", "allow"),
        ("this is no TOML", "cannot be used"),
    ],
)
def test_rules_that_make_no_sense_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "interlocks.toml"
    file.write_text(text)
    run = served_with(file, tmp_path)
    assert run.returncode == 2, run.stderr
    assert message in run.stderr
    if "telescope" not in text:
        assert str(file) in run.stderr


def test_a_file_of_rules_that_is_not_there_is_named(tmp_path: Path) -> None:
    run = served_with(tmp_path / "nowhere.toml", tmp_path)
    assert run.returncode == 2
    assert "nowhere.toml" in run.stderr


def served_with(file: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "twinscope", "serve", "--driver", "tests.conftest:RampDriver", "--port", "0"]
    command += ["--data", str(folder / "data"), "--interlocks", str(file)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


def test_the_rules_of_a_file_hold(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "interlocks.toml"
    file.write_text("allow = ['pulse']\n[signals.bias]\nlow = -0.5\nhigh = 0.5\n")
    server = serve("--driver", "tests.conftest:RampDriver", "--interlocks", str(file), PYTHONPATH=str(ROOT))
    with twinscope.connect(server.uri) as scope, scope.control():
        with pytest.raises(InterlockError, match="bias"):
            scope.set_signal("bias", 0.6)
        scope.set_signal("bias", 0.4)
        scope.pulse(1.0, 0.01)
