"""The command line, run as its users run it: in a process of its own."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import twinscope
from tests.conftest import ServerProcess, until
from twinscope import ScanFrame
from twinscope.errors import LeaseError

Serve = Callable[..., ServerProcess]


def run(*arguments: str, timeout: float = 120) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "twinscope", *arguments], capture_output=True, text=True, timeout=timeout
    )


def test_the_version_stands_in_one_place() -> None:
    from importlib.metadata import version

    assert (
        run("--version").stdout.strip() == f"twinscope {twinscope.__version__}" == f"twinscope {version('twinscope')}"
    )


def test_help_names_every_command() -> None:
    text = run("--help").stdout
    commands = (
        "serve",
        "status",
        "watch",
        "approach",
        "withdraw",
        "scan",
        "simulate",
        "drivers",
        "demo",
        "events",
        "jobs",
    )
    commands += ("find", "stop", "acknowledge", "restart", "pause", "resume", "abort", "break-lease", "info", "export")
    for command in (*commands, "journal", "keys"):
        assert command in text
    assert "usage" in run("break-lease", "--help").stdout


def test_drivers_are_listed() -> None:
    listed = run("drivers")
    assert listed.returncode == 0
    assert "simulator" in listed.stdout
    assert "constant_current" in listed.stdout


def test_the_options_of_a_driver_are_listed() -> None:
    listed = run("drivers", "simulator").stdout.splitlines()
    assert "digital twin" in listed[0]
    assert "amplitude            a finite number (default 1e-10)" in listed
    assert run("drivers", "nanoscope").returncode == 2


def test_a_file_sets_up_the_driver_and_options_of_the_command_come_on_top(serve, tmp_path: Path) -> None:
    file = tmp_path / "driver.toml"
    file.write_text('sample = "benzene"\nseed = 3\namplitude = 2e-10\n')
    server = serve("--driver-config", str(file), "--seed", "4")
    with twinscope.connect(server.uri) as scope:
        settings = scope.capabilities().settings
    assert (settings["sample"], settings["seed"], settings["amplitude"]) == ("benzene", 4, 2e-10)


@pytest.mark.slow
def test_simulate_turns_a_molecule_into_data_and_a_picture(tmp_path: Path) -> None:
    data, picture = tmp_path / "out.h5", tmp_path / "out.png"
    arguments = ["simulate", "benzene", "--size", "1.2x1", "--pixels", "24x20", "--heights", "400:350:3"]
    arguments += ["--data", str(tmp_path / "data"), "--output", str(data), "--png", str(picture)]
    ended = run(*arguments)
    assert ended.returncode == 0, ended.stderr
    assert str(data) in ended.stdout
    stack = twinscope.load(data)
    assert stack["frequency_shift"].shape == (3, 20, 24)
    assert stack.request.frame.size == (1.2e-9, 1e-9)
    assert picture.read_bytes().startswith(b"\x89PNG")
    again = run(*arguments)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert run(*arguments, "--overwrite").returncode == 0


def test_scan_and_status_and_watch_work_on_a_server(server: ServerProcess, tmp_path: Path) -> None:
    data = tmp_path / "scan.h5"
    ended = run("scan", "--address", server.uri, "--pixels", "16", "--size", "1", "--output", str(data))
    assert ended.returncode == 0, ended.stderr
    assert "16/16" in ended.stderr
    scan = twinscope.load(data)
    assert scan.complete
    status = run("status", "--address", server.uri)
    assert status.returncode == 0
    assert "idle" in status.stdout
    assert "frequency_shift (Hz)" in status.stdout
    for line in ("your role    admin", "feedback     off", "bias 100 mV", "range of x   -50 to 50 nm"):
        assert line in status.stdout
    assert "blocked" not in status.stdout
    assert "5.0000 nm" in run("withdraw", "--address", server.uri).stdout
    assert "withdrawn, with CO" in run("status", "--address", server.uri).stdout
    assert "0.3700 nm" in run("approach", "--address", server.uri).stdout
    watched = run("watch", "--address", server.uri)
    assert watched.returncode == 0
    assert scan.metadata["id"] in watched.stdout


def test_a_stop_holds_until_somebody_acknowledges_it(server: ServerProcess) -> None:
    here = ("--address", server.uri)
    stopped = run("stop", *here, "--reason", "a strange noise")
    assert stopped.returncode == 0, stopped.stderr
    assert "the tip is withdrawn" in stopped.stdout
    assert "emergency stop by local: a strange noise" in run("status", *here).stdout
    refused = run("approach", *here)
    assert refused.returncode == 1
    assert "a strange noise" in refused.stderr
    assert "a strange noise" in run("acknowledge", *here).stdout
    assert run("approach", *here).returncode == 0
    nothing = run("acknowledge", *here)
    assert nothing.returncode == 2
    assert "nothing to acknowledge" in nothing.stderr


def test_commands_that_need_control_say_who_has_it_and_it_can_be_broken(server: ServerProcess) -> None:
    here = ("--address", server.uri)
    with twinscope.connect(server.uri) as scope, scope.control(purpose="a long night"):
        for command in ("approach", "acknowledge", "pause"):
            refused = run(command, *here)
            assert refused.returncode == 1
            assert "a long night" in refused.stderr
        holder = scope.state().lease
        assert holder is not None
        assert holder["holder"] in run("break-lease", *here).stdout
        with pytest.raises(LeaseError, match="was broken"):
            scope.move_to(x=0)
    assert "nobody holds the instrument" in run("break-lease", *here).stderr
    assert "has not failed" in run("restart", *here).stderr


def test_a_scan_whose_client_has_gone_is_paused_resumed_and_aborted(serve: Serve) -> None:
    server = serve("--sample", "benzene", "--clock", "100")
    here = ("--address", server.uri)
    with twinscope.connect(server.uri) as scope:
        with scope.control():
            scan = scope.scan(
                frame=ScanFrame(size=(1e-9, 1e-9)), pixels=(8, 2000), channels=["frequency_shift"], heights=[4e-10]
            )
            next(scan.lines())
        assert f"{scan.id}: pause was asked for" in run("pause", *here).stdout
        until(lambda: scan.progress().state == "paused")
        # A job that is not the one in progress can be named.
        assert run("resume", scan.id, *here).returncode == 0
        until(lambda: scan.progress().state == "running")
        assert "aborted" in run("abort", *here).stdout
        until(lambda: scope.state().job is None)
    assert "no acquisition is in progress" in run("abort", *here).stderr
    listed = [json.loads(line) for line in run("jobs", "--json", *here).stdout.splitlines()]
    assert [job["state"] for job in listed] == ["aborted"]
    assert f"{scan.id}  aborted" in run("jobs", *here).stdout
    # The journal of a server that runs can be read.
    told = run("journal", str(server.data), "--verify", "--kind", "lease", "--json")
    assert "none was changed" in told.stderr
    entries = [json.loads(line) for line in told.stdout.splitlines()]
    assert [entry["what"] for entry in entries] == ["acquired", "released"] * 5
    assert not run("journal", str(server.data), "--since", "2999-01-01").stdout
    assert "lease" in run("journal", str(server.data / "journal.jsonl")).stdout
    _change_a_line(server.data / "journal.jsonl")
    altered = run("journal", str(server.data), "--verify")
    assert altered.returncode == 1
    assert "line 2" in altered.stderr
    assert run("journal", str(server.data)).returncode == 0


def _change_a_line(journal: Path) -> None:
    first, second, *rest = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([first, second.replace("local", "vocal"), *rest]))


def test_events_are_printed_as_they_happen(server: ServerProcess) -> None:
    command = [sys.executable, "-m", "twinscope", "events", "--address", server.uri, "--kind", "lease", "--json"]
    with subprocess.Popen([*command, "--timeout", "3"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with twinscope.connect(server.uri) as scope:
            # Until it listens, there is nothing to see.
            while not select.select([process.stdout], [], [], 0.3)[0]:
                with scope.control(purpose="seen"):
                    pass
        event = json.loads(process.stdout.readline())
        assert (event["kind"], event["data"]["purpose"]) == ("lease", "seen")
        process.send_signal(signal.SIGINT)
    assert process.returncode == 130


def test_what_was_measured_is_found_described_and_exported(server: ServerProcess, tmp_path: Path) -> None:
    here = ("--address", server.uri)
    data, exported = tmp_path / "found.h5", tmp_path / "found.nxs"
    arguments = ("scan", *here, "--pixels", "8x4", "--size", "1", "--center", "20,20", "--heights", "400:380:2")
    asked = run(*arguments, "--dry-run")
    assert "8 lines in 8 s" in asked.stdout
    assert run("find", *here, "--within", "19,19,21,21").stdout == ""
    assert run(*arguments, "--output", str(data)).returncode == 0
    identifier = twinscope.load(data).metadata["id"]
    found = run("find", *here, "--within", "19,19,21,21", "--state", "done", "--kind", "scan").stdout
    assert found.startswith(identifier)
    assert "at 20.00, 20.00 nm" in found
    assert json.loads(run("find", *here, "--limit", "1", "--json").stdout)["id"] == identifier
    told = run("info", str(data)).stdout
    for text in (identifier, "8 of 8 lines", "1 x 1 nm at 20, 20 nm", "2 x 4 x 8", "as they were written"):
        assert text in told
    assert run("export", str(data), str(exported)).returncode == 0
    assert h5py.is_hdf5(exported)
    refused = run("export", str(data), str(tmp_path / "found.doc"))
    assert refused.returncode == 2
    with h5py.File(data, "r+") as file:
        file["Measurement_000/Channel_000/frequency_shift/frequency_shift"][0, 0, 0] += 1
    damaged = run("info", str(data))
    assert damaged.returncode == 1
    assert "damaged" in damaged.stderr


def test_a_dry_run_refuses_what_the_scan_would_be_refused_for(server: ServerProcess) -> None:
    refused = run("scan", "--address", server.uri, "--heights", "100:90:2", "--dry-run")
    assert refused.returncode == 2
    assert "outside its range" in refused.stderr
    refused = run("scan", "--address", server.uri, "--dry-run", "--on-lease-loss", "cry")
    assert refused.returncode == 2
    assert "abort_and_withdraw" in refused.stderr


def test_ctrl_c_withdraws_the_tip_and_leaves_readable_files(serve: Serve, tmp_path: Path) -> None:
    server = serve("--sample", "benzene", "--clock", "realtime")
    data = tmp_path / "partial.h5"
    with twinscope.connect(server.uri) as scope:
        scope.wait_ready(60)
        command = [sys.executable, "-m", "twinscope", "scan", "--address", server.uri, "--pixels", "16x300"]
        command += ["--size", "1", "--line-time", "0.1", "--heights", "400:380:3"]
        command += ["--output", str(data), "--png", str(tmp_path / "partial.png")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            deadline = time.monotonic() + 60
            while (acquisition := scope.current_acquisition()) is None or acquisition.progress().done < 3:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        assert process.returncode == 130, said
        assert "withdrawing" in said
        assert "Traceback" not in said
        state = scope.state()
        assert state.tip is twinscope.TipState.WITHDRAWN
        assert state.status is twinscope.Status.IDLE
        assert state.lease is None
    for path in (data, Path(acquisition.file)):
        stored = twinscope.load(path)
        assert stored.metadata["state"] == "aborted"
        assert np.isfinite(stored["frequency_shift"].values[0, :3]).all()
    assert (tmp_path / "partial.png").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["simulate", "unobtainium"], 2, "'unobtainium'"),
        (["simulate", "benzene", "--tip", "Pb"], 2, "tip is 'Pb'"),
        (["simulate", "benzene", "--set", "amplitud=1"], 2, "unknown option 'amplitud'"),
        (["simulate", "benzene", "--channels", "topography"], 2, "unknown channel 'topography'"),
        (["simulate", "benzene", "--pixels", "many"], 2, "expected something like 128"),
        (["simulate", "benzene", "--pixels", "0"], 2, "pixels[0] is 0"),
        (["simulate", "benzene", "--size", "-1"], 2, "size"),
        (["simulate", "benzene", "--size", "nan"], 2, "nan"),
        (["simulate", "benzene", "--png", "picture.foo"], 2, ".png"),
        (["simulate", "benzene", "--heights", "400:350"], 2, "450:360:10"),
        (["simulate", "benzene", "--heights", "40:35:2"], 2, "outside its range"),
        (["serve", "--driver", "nanoscope"], 2, "unknown driver 'nanoscope': installed drivers are "),
        (["serve", "--driver", "nowhere.driver:Driver"], 2, "no module 'nowhere' is installed"),
        (["serve", "--driver-config", "nowhere.toml"], 2, "nowhere.toml cannot be read"),
        (["serve", "--nanonis-ports", "0"], 2, "give --nanonis, too"),
        (["serve", "--nanonis", "--nanonis-ports", "6501,0,6501,0"], 2, "expected each port once"),
        (["serve", "--set", "nonsense"], 2, "KEY=VALUE"),
        (["serve", "--port", "70000"], 2, "70000"),
        (["simulate", "--realism", "lunar"], 2, "'lunar'"),
        (["simulate", "benzene", "--world"], 2, "there is a world"),
        (["simulate", "--z-mode", "constant_height", "--setpoint", "1e-11"], 2, "setpoint"),
        (["simulate", "--z-mode", "constant_current", "--heights", "450:400:2"], 2, "the z-controller sets z"),
        (["journal", "nowhere"], 1, "nowhere"),
        (["journal", ".", "--since", "yesterday"], 2, "ISO 8601"),
        (["info", "nothing.h5"], 1, "nothing.h5"),
        (["status", "--address", "localhost:1"], 3, "no server answers"),
        (["status", "--address", "not:an:address"], 2, "expected host"),
        (["fly"], 2, "invalid choice"),
    ],
)
def test_what_cannot_be_done_ends_with_a_sentence_and_a_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run(*arguments)
    assert ended.returncode == code, ended.stderr
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.glob("*.h5"))


def test_a_port_that_is_taken_is_named(server: ServerProcess, tmp_path: Path) -> None:
    ended = run("serve", "--sample", "benzene", "--port", str(server.port), "--data", str(tmp_path))
    assert ended.returncode == 2
    assert str(server.port) in ended.stderr


def test_a_token_file_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name in ("empty", "absent"):
        ended = run("status", "--token-file", str(tmp_path / name))
        assert ended.returncode == 2
        assert name in ended.stderr


@pytest.mark.slow
def test_the_demonstration_ends_with_a_picture(tmp_path: Path) -> None:
    ended = run("demo", "naphthalene", "--output", str(tmp_path), timeout=200)
    assert ended.returncode == 0, ended.stderr
    picture, *_ = tmp_path.glob("*.png")
    # The agent leaves files, too, later ones.
    data, *_ = sorted(tmp_path.glob("*.h5"))
    for text in (str(picture), str(data), "total", "scan, live"):
        assert text in ended.stdout
    # Naphthalene has 18 atoms.
    seen = re.search(r"the agent sees (\d+) atoms", ended.stdout)
    assert seen is not None, ended.stdout
    assert 12 <= int(seen[1]) <= 24
    report, *_ = tmp_path.glob("discovery-*/report.html")
    assert str(report) in ended.stdout
    stack = twinscope.load(data)
    assert stack.complete
    nearest = stack["frequency_shift"].values[-1]
    assert np.ptp(nearest) > 3
    # No server is left behind.
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=False).stdout
    assert str(tmp_path) not in listed


def test_the_demonstration_says_what_is_wrong_with_a_molecule(tmp_path: Path) -> None:
    (tmp_path / "bad.xyz").write_text("2\n\nC 0 0 0\nC 0 0 0\n")
    ended = run("demo", str(tmp_path / "bad.xyz"), "--output", str(tmp_path / "out"))
    assert ended.returncode == 2
    assert "same place" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_output_into_a_closed_pipe_is_no_traceback() -> None:
    shell = f"'{sys.executable}' -m twinscope drivers | true"
    ended = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, env=os.environ)
    assert "Traceback" not in ended.stderr
