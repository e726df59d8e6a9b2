"""What all tests share: a clean environment, servers in processes of their own, and a driver without physics."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import twinscope
from twinscope.capabilities import Capabilities, Channel, Limits
from twinscope.clock import Clock
from twinscope.drivers.options import DriverOptions
from twinscope.guard import Guard
from twinscope.instrument import Instrument
from twinscope.interlocks import Interlocks
from twinscope.ledger import Ledger
from twinscope.local import LocalTransport
from twinscope.service import Service
from twinscope.sessions import Identity, Role, Session
from twinscope.state import Position, Reading, TipState

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
_MOST_WORKERS = 16

# What one process has compiled all others load: the workers of xdist, servers and notebooks inherit the variables. They
# are set here because JAX reads them when it is imported, and test modules import it before any fixture is called.
# Processes of drivers import this module, too: they have inherited the folder already.
_PREFIX = "twinscope-compiled-"
_COMPILED: "tempfile.TemporaryDirectory[str] | None" = None
if _PREFIX not in os.environ.get("JAX_COMPILATION_CACHE_DIR", ""):
    _COMPILED = tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def pytest_unconfigure() -> None:
    """Remove what was compiled, when all workers have ended."""
    if _COMPILED is not None:
        _COMPILED.cleanup()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """One more than cores: tests of servers mostly wait. Each worker needs some 3 GB, so there are not many."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores + 1, _MOST_WORKERS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with notebooks and files that have slow tests: at the end no worker shall wait for one of them."""
    notebooks = [item for item in items if item.path.suffix == ".ipynb"]
    for notebook in notebooks:
        notebook.add_marker(pytest.mark.slow)
        # Twice as long as a test has: it computes a lot, and other files compile beside it.
        notebook.add_marker(pytest.mark.timeout(600))
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session", autouse=True)
def _clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests do not depend on the user's token, working directory or caches."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TWINSCOPE_TOKEN", "TWINSCOPE_KEYS"):
            patch.delenv(name, raising=False)
        patch.chdir(tmp_path_factory.mktemp("cwd"))
        yield


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_code() -> Iterator[None]:
    """Compiled code would fill 7 GB by the end; what another module needs again is on disk."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


@pytest.fixture(scope="module")
def quickly_compiled() -> Iterator[None]:
    """Let XLA leave out most optimisations, for modules whose time goes into compiling, not into what was compiled.

    Not for tests of the compiled code itself, those against the golden data for example: users run it optimised.
    Processes that a test starts compile as always.
    """
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RampOptions(DriverOptions):
    """How fast the ramp driver lives."""

    rate: float | str = "accelerated"


class RampDriver:
    """An instrument without physics: the channels `at_x`, `at_y` and `at_z` record where the tip is, in m."""

    name: ClassVar[str] = "ramp"
    vendor: ClassVar[str] = "tests"
    summary: ClassVar[str] = "records where the tip is"
    api_versions: ClassVar[tuple[int, int]] = (1, 1)
    options_type: ClassVar[type[DriverOptions]] = RampOptions
    provides: ClassVar[tuple[str, ...]] = ("scan", "path", "spectroscopy")

    def __init__(self, rate: float | str = "accelerated") -> None:
        self.clock = Clock.parse(rate)
        self.position = Position(0.0, 0.0, 1e-9)
        self.tip = TipState.IN_RANGE
        self.signals = {"bias": 0.1, "setpoint_current": 1e-11, "current": 1e-12}
        self.feedback = "off"
        self.probe = "CO"
        self.calls: list[tuple[Any, ...]] = []
        self.stopped = threading.Event()
        self.closed = False

    def open(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    def read(self) -> Reading:
        return Reading(self.clock.now, self.position, self.tip, dict(self.signals), self.feedback, self.probe)

    def capabilities(self) -> Capabilities:
        return Capabilities(
            instrument="ramp",
            driver="ramp",
            driver_version="0",
            simulated=True,
            channels=tuple(Channel(name, "m", name) for name in ("at_x", "at_y", "at_z")),
            limits={name: Limits(-1e-6, 1e-6, "m") for name in ("x", "y", "z", "tip_shaping_depth")}
            | {name: Limits(-10, 10, "V") for name in ("bias", "pulse_voltage", "tip_shaping_voltage")}
            | {
                "setpoint_current": Limits(1e-12, 1e-8, "A"),
                "speed": Limits(1e-12, 1e-5, "m/s"),
                "pulse_duration": Limits(1e-3, 1.0, "s"),
                "coarse_steps": Limits(-1000, 1000, "1"),
            },
            scan_modes=("constant_height", "constant_current"),
            sweeps=("z", "bias"),
            largest_acquisition=2**20,
            settings={},
            signals=tuple(
                Channel(name, unit, name) for name, unit in (("bias", "V"), ("setpoint_current", "A"), ("current", "A"))
            ),
            features=("coarse_motion", "pulse", "tip_shaping", "tip_exchange"),
            probes=("CO", "Xe"),
        )

    def write(self, name: str, value: float, rate: float | None = None) -> None:
        self.calls.append(("write", name, value, rate))
        self.signals[name] = value

    def set_feedback(self, mode: str) -> None:
        self.calls.append(("set_feedback", mode))
        self.feedback = mode

    def coarse_move(self, axis: str, steps: int) -> None:
        self.calls.append(("coarse_move", axis, steps))

    def pulse(self, voltage: float, duration: float) -> None:
        self.calls.append(("pulse", voltage, duration))

    def shape_tip(self, depth: float, voltage: float) -> None:
        self.calls.append(("shape_tip", depth, voltage))

    def exchange_tip(self, probe: str) -> None:
        self.calls.append(("exchange_tip", probe))
        self.withdraw()
        self.probe = probe

    def move_to(self, x: float, y: float, z: float, speed: float | None = None) -> None:
        self.calls.append(("move_to", x, y, z, speed))
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

    def start_path(self, request: Any, sink: Any) -> None:
        self._begin(request, sink)

    def start_spectroscopy(self, request: Any, sink: Any) -> None:
        self._begin(request, sink)

    def _begin(self, request: Any, sink: Any) -> None:
        self.calls.append(("start", request.kind))
        self.stopped.clear()
        self.request, self.sink, self.index = request, sink, 0

    def trace(self, index: int) -> dict[str, np.ndarray]:
        request = self.request
        if request.kind == "spectroscopy":
            swept = request.sweep.values()
            x, y = request.positions[index]
            z = swept if request.swept == "z" else np.full_like(swept, request.height or self.position.z)
            return {"at_x": np.full_like(swept, x), "at_y": np.full_like(swept, y), "at_z": z}
        if request.kind == "path":
            points = np.array(request.positions)
            x, y = points.T if not request.separate else np.repeat(points[index : index + 1], request.passes, axis=0).T
            return {"at_x": x, "at_y": y, "at_z": np.full_like(x, request.height or self.position.z)}
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

    def start(
        driver: Any = None, ledger: Ledger | None = None, folder: Path | None = None, **interlocks: Any
    ) -> Instrument:
        rules = Interlocks.from_dict(interlocks)
        started.append(Instrument(Guard(driver or RampDriver(), rules), folder or tmp_path / "data", rules, ledger))
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


def until(condition: Callable[[], Any], timeout: float = 3.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.005)


@dataclass
class Client:
    """Someone who calls a service, as a front end does for them."""

    service: Service
    session: Session
    lease: int | None = None

    def __call__(self, verb: str, /, *, request_id: str | None = None, dry_run: bool = False, **parameters: Any) -> Any:
        """Call a verb with the lease that was taken last, and return what it answers."""
        reply = self.service.call(
            self.session, verb, parameters, request_id=request_id, lease=self.lease, dry_run=dry_run
        )
        return reply.result

    def take(self, duration: float = 10.0, purpose: str = "") -> int:
        """Take control and return the number of the lease."""
        self.lease = self("acquire_lease", purpose=purpose, duration=duration)["lease"]
        return self.lease

    def do(self, verb: str, /, **parameters: Any) -> dict[str, Any]:
        """Begin a job, wait for its end, and return its last progress."""
        return self.wait(self(verb, **parameters)["id"])

    def wait(self, job: str) -> dict[str, Any]:
        """Wait for the end of a job, and return its last progress."""
        progress = self("wait_job", id=job, timeout=5.0)
        assert progress["over"], f"{job} is not over: {progress}"
        return progress


@pytest.fixture
def service(instrument: Callable[..., Instrument]) -> Callable[..., Service]:
    """Start services; the parameters are those of :func:`instrument`."""
    return lambda *arguments, **interlocks: Service(instrument(*arguments, **interlocks))


@pytest.fixture
def enter() -> Callable[..., Client]:
    """Let someone enter a service: ``enter(service, "observer", name="ann")``."""

    def begin(service: Service, role: str = "operator", *, name: str = "ann", session: str | None = None) -> Client:
        return Client(service, service.sessions.enter(Identity(name, Role.parse(role)), f"{name}@here", session))

    return begin
