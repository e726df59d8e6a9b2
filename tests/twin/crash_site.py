"""A server, its driver and a client, each a process that can be killed, and what must hold after that."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import twinscope
from tests.conftest import ServerProcess, start_server
from twinscope import Status, TipState
from twinscope.errors import InterlockError
from twinscope.ledger import JOURNAL
from twinscope.network.remote import PyroTransport, _request
from twinscope.storage.journal import Entry, read

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent.parent)}
FINAL = {"done", "failed", "aborted", "interrupted"}


class CrashSite:
    """A server with a fast driver, a client that never rests, and an operator who comes after each accident.

    Attributes
    ----------
    unseen
        Most lines of a file that no client had seen, by the kind of the accident.
    endings
        How many acquisitions ended how, by their files; "running" is one that an accident has cut off.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.data = folder / "data"
        self.unseen: Counter[str] = Counter()
        self.endings: Counter[str] = Counter()
        self._log = folder / "seen"
        self._log.touch()
        self._pid = folder / "pid"
        self._seed = seed
        self._checked: set[Path] = set()
        self.server = self._started("0")
        self._port = str(self.server.port)
        self.transport = PyroTransport(self.server.uri)
        self.scope = twinscope.Microscope(transport=self.transport)
        self._client = self._new_client()

    def close(self) -> None:
        self._client.kill()
        self._client.wait()
        self.scope.close()
        self.server.kill()

    # ------------------------------------------------------------------ accidents

    def kill_server(self, again: float | None = None) -> None:
        """Kill it, and perhaps once more some seconds after its next start."""
        session = self.transport._session
        request = uuid.uuid4().hex
        before = self.ask_for_control(request)
        self.server.kill()
        self.check_files("server")
        if again is not None:
            command = [sys.executable, "-m", "twinscope", "serve", "--data", str(self.data), *self._options(self._port)]
            with subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
            ) as one:
                time.sleep(again)
                one.kill()
        self.server = self._started(self._port)
        assert self.transport.call("hello").result["instrument"] == "ramp"
        assert self.transport._session == session, "the session was not taken up again"
        assert self.ask_for_control(request) == before, "a request was carried out twice"
        state = self.scope.state()
        assert state.tip is TipState.UNKNOWN
        assert state.lease is None or state.lease["number"] > self.last_lease()
        self.check_catalogue()
        self.recover("server")

    def kill_driver(self) -> None:
        pid = int(self._pid.read_text())
        os.kill(pid, signal.SIGKILL)
        self.wait_for(lambda: self.scope.state().blocked is not None)
        assert self.scope.state().tip is TipState.UNKNOWN
        self.recover("driver")
        assert int(self._pid.read_text()) != pid

    def kill_client(self) -> None:
        self._client.kill()
        self._client.wait()
        self._client = self._new_client()
        with self.control():
            # What it has begun goes on without it.
            self.wait_for(lambda: self.scope.state().status is Status.IDLE)
            self.check_files("client")
            self.check_that_it_works()

    def fill_disk(self, room: int, seconds: float) -> None:
        """Let no file of the server grow, or be written, beyond some bytes for a while."""
        import resource

        pid = self.server.process.pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
        time.sleep(seconds)
        assert self.scope.state().status is not Status.FAILED
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        with self.control():
            self.wait_for(lambda: self.scope.state().status is Status.IDLE)
            self.check_files("disk")
            self.check_that_it_works()

    # ------------------------------------------------------------------ what must hold

    def recover(self, kind: str) -> None:
        """Nothing moves until the operator has looked, then everything does."""
        assert self.scope.wait_ready(20)
        with self.control():
            self.check_files(kind)
            assert self.scope.state().blocked is not None
            with contextlib.suppress(InterlockError):
                self.scope.move_to(x=0.0)
                raise AssertionError("the tip moved before anyone had looked where it is")
            self.scope.acknowledge()
            self.check_that_it_works()

    def check_that_it_works(self) -> None:
        target = np.random.default_rng(self._seed).uniform(-1e-8, 1e-8)
        assert self.scope.move_to(x=target).x == target
        assert self.scope.state().tip is not TipState.UNKNOWN

    def check_files(self, kind: str) -> None:
        """Every file is whole and holds all that was seen."""
        seen = self.seen()
        for path in set(self.data.glob("*.h5")) - self._checked:
            done, ending = check_file(path)
            assert done >= seen.get(path.stem, 0), f"{path}: {done} lines, but {seen[path.stem]} were seen"
            self.unseen[kind] = max(self.unseen[kind], done - seen.get(path.stem, 0))
            self.endings[ending] += 1
            self._checked.add(path)
        assert {f"{name}.h5" for name in seen} <= {path.name for path in self.data.glob("*.h5")}

    def check_catalogue(self) -> None:
        """After a restart, it lists every file, and how it ended."""
        listed = {Path(one["file"]).name: one for one in self.scope.find(limit=10_000)}
        # The client may have begun a new one.
        assert {path.name for path in self._checked} <= set(listed)
        assert all(listed[path.name]["state"] in FINAL for path in self._checked)

    def check_journal(self) -> Counter[str]:
        """No line was changed or lost, and no request was carried out twice; returns how many entries of each kind."""
        entries = list(read(self.data / JOURNAL, strict=True))
        requests = [(entry.fields["session"], entry.fields["request_id"]) for entry in self.of("request", entries)]
        assert len(set(requests)) == len(requests)
        return Counter(entry.kind for entry in entries)

    def last_lease(self) -> int:
        """Greatest number of a lease before the last start."""
        entries = list(read(self.data / JOURNAL))
        last = max(entry.number for entry in self.of("started", entries))
        return max((e.fields["number"] for e in self.of("lease", entries) if e.number < last), default=0)

    # ------------------------------------------------------------------ inside

    @contextlib.contextmanager
    def control(self) -> Iterator[None]:
        """Take control as soon as the client lets go, or its lease is over."""
        self.wait_for(lambda: self.scope.state().lease is None)
        with self.scope.control(wait=5):
            yield

    @staticmethod
    def of(kind: str, entries: list[Entry]) -> Iterator[Entry]:
        return (entry for entry in entries if entry.kind == kind)

    def ask_for_control(self, request: str) -> Any:
        """Ask for the lease under a given name of the request, and return the answer, whatever it is."""
        envelope = {"request_id": request, "lease": None, "dry_run": False}
        content, _ = self.transport._answered(_request("acquire_lease", {"purpose": "", "duration": 0.01}, envelope))
        return content

    def seen(self) -> dict[str, int]:
        """How many lines of each acquisition a client has seen."""
        lines = [line.split() for line in self._log.read_text().splitlines() if not line.startswith("#")]
        return {name: int(index) + 1 for name, index in lines}

    def errors(self) -> Counter[str]:
        """How often the client has met which error."""
        return Counter(line.split()[1] for line in self._log.read_text().splitlines() if line.startswith("#"))

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def _started(self, port: str) -> ServerProcess:
        return start_server(self.data, *self._options(port), **ENVIRONMENT)

    def _options(self, port: str) -> list[str]:
        driver = ["--driver", "tests.twin.drivers_that_fail:TellsItsProcess"]
        return ["--port", port, *driver, "--set", f"file={self._pid}", "--set", "rate=5"]

    def _new_client(self) -> "subprocess.Popen[bytes]":
        self._seed += 1
        program = Path(__file__).with_name("crash_client.py")
        return subprocess.Popen([sys.executable, str(program), self.server.uri, str(self._log), str(self._seed)])


def check_file(path: Path) -> tuple[int, str]:
    """Anyone can open it, what it says it holds is right, and the rest is empty; returns its lines and its state."""
    with h5py.File(path) as file:
        done = int(file["progress/traces_done"][()])
    stored = twinscope.load(path)
    request = stored.request
    assert stored.metadata["traces_done"] == done <= request.trace_count
    rows = np.array([request.row_positions(row) for row in range(request.trace_count)])
    for axis, channel in enumerate(("at_x", "at_y")):
        values, expected = stored[channel].values, rows[:, axis].astype(np.float32)
        np.testing.assert_array_equal(values[:done], expected[:done])
        # The line in flight may be there before it is counted.
        for row in range(done, len(values)):
            assert np.isnan(values[row]).all() or (row == done and np.array_equal(values[row], expected[row]))
    return done, stored.metadata["state"]
