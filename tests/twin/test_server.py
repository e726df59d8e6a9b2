"""A real server in its own process, and what can be done to it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

import twinscope
from tests.conftest import ServerProcess
from twinscope import JobState, ScanFrame, Status, Sweep, TipState
from twinscope.errors import (
    AuthenticationError,
    InvalidRequestError,
    LeaseError,
    OutOfRangeError,
    RemoteError,
    ServerUnreachableError,
    TwinscopeError,
    UnknownChannelError,
)
from twinscope.network.remote import PyroTransport

FRAME = ScanFrame(size=(1e-9, 1e-9))
Serve = Callable[..., ServerProcess]


def scan(scope: twinscope.Microscope, **change: object) -> twinscope.Acquisition:
    wanted = {"frame": FRAME, "pixels": (32, 32), "channels": ["frequency_shift"], "heights": [3.6e-10]}
    return scope.scan(**(wanted | change))


@pytest.mark.slow
def test_a_scan_from_another_process_equals_one_in_this_process(server: ServerProcess, scope, tmp_path) -> None:
    with scope.control():
        far = scan(scope, channels=["frequency_shift", "force_z", "z", "converged"]).result()
    with twinscope.Microscope(sample="benzene", directory=tmp_path) as here, here.control():
        near = scan(here, channels=["frequency_shift", "force_z", "z", "converged"]).result()
    for name in far:
        np.testing.assert_array_equal(far[name], near[name])
    assert far["frequency_shift"].unit == "Hz"


def test_the_file_of_the_server_holds_the_same(scope) -> None:
    with scope.control():
        acquisition = scan(scope)
        result = acquisition.result()
    np.testing.assert_array_equal(twinscope.load(acquisition.file)["frequency_shift"], result["frequency_shift"])


def test_data_larger_than_a_message_arrive_whole(scope) -> None:
    with scope.control():
        acquisition = scan(scope, pixels=(512, 512), channels=["z", "converged"])
        result = acquisition.result()
    np.testing.assert_allclose(result["z"], 3.6e-10, rtol=1e-6)
    again = scope.acquisition(acquisition.id).result()
    np.testing.assert_array_equal(again["converged"], result["converged"])


def test_a_second_process_watches_live_while_the_first_holds_control(serve: Serve) -> None:
    server = serve("--sample", "benzene", "--clock", "realtime")
    watcher = """
import sys, time, twinscope
with twinscope.connect(sys.argv[1]) as scope:
    print("watching", flush=True)
    while (acquisition := scope.current_acquisition()) is None:
        time.sleep(0.05)
    for line in acquisition.lines():
        print(line.index, float(line.values["frequency_shift"].mean()), acquisition.progress().state, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", watcher, server.uri], stdout=subprocess.PIPE, text=True)
    with twinscope.connect(server.uri) as scope, scope.control(purpose="first"):
        assert scope.wait_ready(60)
        # A new process takes its time on a busy machine.
        assert process.stdout is not None
        assert process.stdout.readline() == "watching\n"
        acquisition = scan(scope, pixels=(16, 20), line_time=0.1)
        output, _ = process.communicate(timeout=60)
        result = acquisition.result()
    seen = [line.split() for line in output.splitlines()]
    assert [int(index) for index, _, _ in seen] == list(range(20))
    np.testing.assert_allclose(
        [float(mean) for _, mean, _ in seen], result["frequency_shift"].values[0].mean(axis=1), rtol=1e-5
    )
    assert sum(state == "running" for _, _, state in seen) > 10, "the lines came after the scan, not during it"


def test_threads_may_share_an_acquisition(scope) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with scope.control():
        acquisition = scan(scope, pixels=(64, 200), channels=["frequency_shift", "z"])
        with ThreadPoolExecutor(4) as pool:
            followers = [
                pool.submit(lambda: [line.values["z"].mean() for line in acquisition.lines()]) for _ in range(3)
            ]
            pool.submit(lambda: [acquisition.progress() for _ in range(200)]).result()
        result = acquisition.result()
    for follower in followers:
        np.testing.assert_allclose(follower.result(), 3.6e-10, rtol=1e-6)
    again = scope.acquisition(acquisition.id).result()
    np.testing.assert_array_equal(result["frequency_shift"], again["frequency_shift"])


def test_threads_that_have_ended_leave_no_connections(server: ServerProcess) -> None:
    transport = PyroTransport(server.uri)
    for _ in range(100):
        thread = threading.Thread(target=transport.call, args=("state",))
        thread.start()
        thread.join()
    assert len(transport._all) <= 2
    transport.close()


def test_a_client_that_joins_late_gets_everything(scope, server: ServerProcess) -> None:
    with scope.control():
        result = scan(scope).result()
    with twinscope.connect(server.uri) as late:
        np.testing.assert_array_equal(late.current_acquisition().result()["frequency_shift"], result["frequency_shift"])


def test_an_acquisition_survives_its_client_and_control_becomes_free(serve: Serve) -> None:
    server = serve("--sample", "benzene", "--clock", "realtime")
    client = """
import sys, time, twinscope
scope = twinscope.connect(sys.argv[1])
with scope.control(duration=1):
    scope.wait_ready()
    acquisition = scope.scan(frame=twinscope.ScanFrame(size=(1e-9, 1e-9)), pixels=(16, 30),
                             channels=["frequency_shift"], heights=[3.6e-10], line_time=0.1)
    for line in acquisition.lines():
        print(line.index, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", client, server.uri], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    with twinscope.connect(server.uri) as other:
        with pytest.raises(LeaseError), other.control():
            pass
        with other.control(wait=10):
            acquisition = other.current_acquisition()
            assert acquisition.result(timeout=30).complete


def test_an_abort_from_another_thread_is_fast_and_keeps_the_data(serve: Serve) -> None:
    server = serve("--sample", "benzene", "--clock", "realtime")
    with twinscope.connect(server.uri) as scope, scope.control():
        scope.wait_ready(60)
        acquisition = scan(scope, pixels=(16, 200), line_time=0.2)
        took: list[float] = []

        def abort() -> None:
            begin = time.monotonic()
            acquisition.abort()
            took.append(time.monotonic() - begin)

        lines = 0
        with pytest.raises(twinscope.TwinscopeError, match="aborted"):
            for _ in acquisition.lines():
                lines += 1
                if lines == 3:
                    thread = threading.Thread(target=abort)
                    thread.start()
        thread.join()
        assert took[0] < 2
        assert acquisition.progress().state is JobState.ABORTED
        assert scope.state().status is Status.IDLE
        assert lines < 100


def test_kill_9_of_the_server_leaves_every_line_that_a_client_saw(serve: Serve) -> None:
    server = serve("--sample", "benzene", "--clock", "realtime")
    scope = twinscope.connect(server.uri, timeout=1)
    with pytest.raises(ServerUnreachableError), scope.control():
        scope.wait_ready(60)
        acquisition = scan(scope, pixels=(16, 200), line_time=0.02)
        seen = {}
        for line in acquisition.lines():
            seen[line.address.row] = line.values["frequency_shift"]
            if line.index == 25:
                os.kill(server.process.pid, signal.SIGKILL)
    stored = twinscope.load(acquisition.file)
    assert not stored.complete
    assert len(seen) >= 25
    for row, values in seen.items():
        np.testing.assert_array_equal(stored["frequency_shift"].values[0, row], values)


@pytest.mark.slow
def test_ctrl_c_aborts_withdraws_and_ends_well(serve: Serve) -> None:
    server = serve("--sample", "benzene", "--clock", "realtime")
    with twinscope.connect(server.uri, timeout=1) as scope:
        with scope.control():
            scope.wait_ready(60)
            acquisition = scan(scope, pixels=(16, 200), line_time=0.1)
            next(acquisition.lines())
        code, said = server.stop()
        assert code == 0, said
        assert "withdrawing the tip" in said
        assert "Traceback" not in said
        stored = twinscope.load(acquisition.file)
        assert stored.metadata["state"] == "aborted"
        with pytest.raises(ServerUnreachableError, match="twinscope serve"):
            scope.state()


def test_a_client_finds_a_server_that_was_restarted(serve: Serve) -> None:
    first = serve("--sample", "benzene")
    with twinscope.connect(first.uri, timeout=1) as scope:
        scope.state()
        first.process.kill()
        first.process.communicate()
        with pytest.raises(ServerUnreachableError):
            scope.state()
        serve("--sample", "benzene", "--port", str(first.port))
        assert scope.state().status in (Status.WARMING, Status.IDLE)


# ---------------------------------------------------------------------- bad input: the server stays up and usable


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"channels": ["frequency_shift", "topography"]},
            UnknownChannelError,
            "'topography'.*frequency_shift, force_z",
        ),
        ({"frame": ScanFrame(size=(1e-9, 1e-9), center=(60e-9, 0))}, OutOfRangeError, "frame corner x"),
        ({"heights": [1e-10]}, OutOfRangeError, "height = 1e-10 m is outside its range of 2.5e-10"),
        ({"pixels": (200_000, 200_000)}, OutOfRangeError, "160 GB.*at most"),
    ],
)
def test_what_the_twin_cannot_do_arrives_as_a_clear_error(scope, change, error, message) -> None:
    with scope.control():
        with pytest.raises(error, match=message):
            scan(scope, **change)
        assert scan(scope, pixels=(4, 4)).result().complete


@pytest.mark.parametrize(
    ("verb", "parameters", "message"),
    [
        ("fly", {}, "no verb 'fly'"),
        (7, {}, "no verb 7"),
        ("__init__", {}, "no verb"),
        ("_instrument", {}, "no verb"),
        ("call", {}, "no verb 'call'"),
        ("state", {"x": 1}, "do not fit"),
        ("move_to", {}, "no coordinate"),
        ("wait_ready", {"timeout": float("nan")}, "timeout is nan"),
        ("pull", {"id": "x", "offset": 0, "timeout": 0}, "no job 'x'"),
        ("acquire", {"kind": "scan", "request": {"pixels": "many"}}, "cannot be made"),
        ("acquire", {"kind": "scan", "request": 7}, "expected a mapping"),
        ("acquire_lease", {"purpose": "", "duration": 1e9}, "at most"),
        ("acquire_lease", {"purpose": "", "duration": -1}, "above zero"),
    ],
)
def test_calls_that_make_no_sense_are_refused(server: ServerProcess, verb, parameters, message) -> None:
    with contextlib.closing(PyroTransport(server.uri)) as transport:
        with pytest.raises(TwinscopeError, match=message):
            transport.call(verb, parameters)
        assert transport.call("state").result["status"] in ("idle", "warming")


def test_no_server(scope) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ServerUnreachableError, match=f"127.0.0.1:{port}.*twinscope serve"):
        twinscope.connect(f"127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["", "PYRO:", "host:port", "PYRO:x@host", "a b:1:2:x", None, 7])
def test_an_address_that_cannot_be_one(address) -> None:
    with pytest.raises(InvalidRequestError, match="expected host, host:port"):
        twinscope.connect(address)


def test_something_else_at_the_address(server: ServerProcess) -> None:
    with pytest.raises(RemoteError, match="not a twinscope server"):
        twinscope.connect(f"PYRO:telescope@127.0.0.1:{server.port}")


def test_a_closed_connection_says_so(server: ServerProcess) -> None:
    scope = twinscope.connect(server.uri)
    scope.state()
    scope.close()
    with pytest.raises(RemoteError, match="closed"):
        scope.state()


# ---------------------------------------------------------------------- security


def test_a_token_is_asked_for_and_compared(serve: Serve, tmp_path) -> None:
    secret = tmp_path / "token"
    secret.write_text("open sesame\n")
    server = serve("--sample", "benzene", "--token-file", str(secret))
    for wrong in (None, "", "open sesam", "öffne dich"):
        with pytest.raises(AuthenticationError, match="token"):
            twinscope.connect(server.uri, token=wrong)
    with twinscope.connect(server.uri, token="open sesame") as scope:
        assert scope.capabilities().simulated


def test_the_tip_moves_and_its_spectrum_is_taken(scope) -> None:
    with scope.control():
        position = scope.move_to(x=0.1e-9, y=-0.2e-9)
        assert (position.x, position.y) == (0.1e-9, -0.2e-9)
        sweep = Sweep(start=1e-9, stop=3e-10, points=36)
        spectrum = scope.spectroscopy("z", positions=[(0, 0), (0.14e-9, 0)], sweep=sweep).result()
        curve = spectrum["frequency_shift"].values
        assert curve.shape == (2, 36)
        assert abs(curve[:, 0]).max() < 0.1, "far away there is nothing"
        assert curve.min() < -1, "then the tip is attracted"
        assert scope.withdraw().z == pytest.approx(5e-9)
        assert scope.state().tip is TipState.WITHDRAWN
        scope.approach()
        assert scope.state().tip is TipState.IN_RANGE
