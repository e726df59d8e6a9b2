"""What all tests share: a clean environment, servers in processes of their own, and a driver without physics."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import twinscope
from twinscope.capabilities import Capabilities, Channel, Limits
from twinscope.clock import Clock
from twinscope.instrument import Instrument
from twinscope.local import LocalTransport
from twinscope.state import Position, TipState

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


@pytest.fixture(scope="session", autouse=True)
def _clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests do not depend on the user's token, working directory or caches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TWINSCOPE_TOKEN", raising=False)
        patch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("jax-cache")))
        patch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
        patch.chdir(tmp_path_factory.mktemp("cwd"))
        yield


@pytest.fixture
def shared() -> Path:
    """Folder of the reference data."""
    if not SHARED.is_dir():
        pytest.skip(f"the reference data are not here: {SHARED}")
    return SHARED


@dataclass
class ServerProcess:
    """A ``twinscope serve`` that runs."""

    process: "subprocess.Popen[str]"
    uri: str
    data: Path

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.uri.rpartition(":")[2])

    def kill(self) -> None:
        """End it, whatever it is doing; does nothing when it has ended."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def stop(self) -> tuple[int, str]:
        """Stop it as Ctrl-C would; returns the exit code and what it said."""
        self.process.send_signal(signal.SIGINT)
        output, _ = self.process.communicate(timeout=60)
        return self.process.returncode, output


def start_server(data: Path, *arguments: str, **environment: str) -> ServerProcess:
    """Start a server on a free port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "twinscope", "serve", "--port", "0", "--data", str(data), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environment,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("at PYRO:"):
            return ServerProcess(process, line.removeprefix("at ").split(";")[0], data)
    process.communicate()
    raise AssertionError(f"the server did not start: {''.join(said)}")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Start servers that end with the test."""
    started: list[ServerProcess] = []

    def start(*arguments: str, **environment: str) -> ServerProcess:
        started.append(start_server(tmp_path / f"data{len(started)}", *arguments, **environment))
        return started[-1]

    yield start
    for server in started:
        server.kill()


@pytest.fixture(scope="session")
def _benzene_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    running = start_server(tmp_path_factory.mktemp("server"), "--sample", "benzene")
    yield running
    running.kill()


@pytest.fixture
def server(_benzene_server: ServerProcess) -> ServerProcess:
    """A server over benzene that all tests share; it must have survived the tests before."""
    assert _benzene_server.process.poll() is None, "a test before this one has brought the server down"
    return _benzene_server


@pytest.fixture
def scope(server: ServerProcess) -> Iterator[twinscope.Microscope]:
    """A client of the shared server."""
    with twinscope.connect(server.uri) as microscope:
        yield microscope


class RampDriver:
    """An instrument without physics: the channels `at_x`, `at_y` and `at_z` record where the tip is, in m."""

    name: ClassVar[str] = "ramp"
    vendor: ClassVar[str] = "tests"
    summary: ClassVar[str] = "records where the tip is"

    def __init__(self, rate: float | str = "accelerated") -> None:
        self.clock = Clock.parse(rate)
        self.position = Position(0.0, 0.0, 1e-9)
        self.tip = TipState.IN_RANGE
        self.stopped = threading.Event()
        self.closed = False

    def open(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    @property
    def time(self) -> float:
        return self.clock.now

    def capabilities(self) -> Capabilities:
        return Capabilities(
            instrument="ramp",
            driver="ramp",
            driver_version="0",
            simulated=True,
            channels=tuple(Channel(name, "m", name) for name in ("at_x", "at_y", "at_z")),
            limits={name: Limits(-1e-6, 1e-6, "m") for name in ("x", "y", "z")},
            scan_modes=("constant_height",),
            sweeps=("z",),
            largest_acquisition=2**20,
            settings={},
        )

    def move_to(self, x: float, y: float, z: float) -> None:
        self.stopped.clear()
        if self.clock.spend(0.1, self.stopped) == 1:
            self.position = Position(x, y, z)

    def withdraw(self) -> None:
        self.move_to(self.position.x, self.position.y, 1e-6)
        self.tip = TipState.WITHDRAWN

    def approach(self) -> None:
        self.move_to(self.position.x, self.position.y, 1e-9)
        self.tip = TipState.IN_RANGE

    def start_scan(self, request: Any, sink: Any) -> None:
        self._begin(request, sink)

    def start_spectroscopy(self, request: Any, sink: Any) -> None:
        self._begin(request, sink)

    def _begin(self, request: Any, sink: Any) -> None:
        self.stopped.clear()
        self.request, self.sink, self.index = request, sink, 0

    def trace(self, index: int) -> dict[str, np.ndarray]:
        request = self.request
        if request.kind == "spectroscopy":
            z = request.sweep.values()
            x, y = request.positions[index]
            return {"at_x": np.full_like(z, x), "at_y": np.full_like(z, y), "at_z": z}
        address = request.address(index)
        x, y = request.row_positions(address.row)
        height = self.position.z if request.heights is None else request.heights[address.layer]
        # Backward lines are marked, so that a mix-up of directions shows.
        shift = 1e-3 if address.direction == "backward" else 0.0
        return {"at_x": x + shift, "at_y": y + shift, "at_z": np.full_like(x, height)}

    def poll(self) -> bool:
        if self.index == self.request.trace_count or self.stopped.is_set():
            return False
        if self.clock.spend(getattr(self.request, "line_time", 0.01), self.stopped) < 1:
            return False
        values = self.trace(self.index)
        self.sink.write(self.index, np.stack([values[name] for name in self.request.channels])[None])
        self.index += 1
        return True

    def stop(self) -> None:
        self.stopped.set()


@pytest.fixture
def instrument(tmp_path: Path) -> Iterator[Callable[..., Instrument]]:
    """Start instruments with a driver of the test; they are closed with it."""
    started: list[Instrument] = []

    def start(driver: Any = None) -> Instrument:
        started.append(Instrument(driver or RampDriver(), tmp_path / "data"))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def ramp(instrument: Callable[..., Instrument]) -> Iterator[twinscope.Microscope]:
    """A microscope in this process that records where its tip is."""
    with twinscope.Microscope(transport=LocalTransport(instrument())) as microscope:
        yield microscope


@pytest.fixture
def ramp_driver() -> type[RampDriver]:
    """The driver behind :func:`ramp`, to be changed by a test."""
    return RampDriver
