"""How long it takes until one can begin: the client's import, the server's start, the first image."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from _processes import cache, serving
from _report import Figure, Report, arguments, interleaved

import twinscope

_CLIENT = """
import sys, twinscope
with twinscope.connect({uri!r}) as scope:
    scope.state()
assert "jax" not in sys.modules, "the client has loaded jax"
"""
_CLIENT_ROUNDS = 7
_COLD_STARTS, _WARM_STARTS = 3, 4
_PIXELS = (128, 128)


@dataclass(frozen=True, slots=True)
class _Start:
    """Seconds from the start of one server to what a client sees of it."""

    ready: float
    answered: float
    status: str
    idle: float
    image: float


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__)
    report = Report("Start: client import and server")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        cold = [start(root, root / f"cache{number}") for number in range(_COLD_STARTS)]
        warm = [start(root, root / "cache0") for _ in range(_WARM_STARTS)]
        with serving(directory=root / "data", environment=cache(root / "cache0")) as server:
            with twinscope.connect(server.uri) as scope:
                scope.wait_ready(60)
            report_client(report, server.uri)
    report_server(report, cold, warm)
    statuses = ", ".join(sorted({found.status for found in cold + warm}))
    report.notes += [
        "the client's process ends with an assertion that jax is not loaded: it held in every run",
        f"status at the first answer of the server: {statuses}",
        "not measured in this run: DTMicroscope, elsewhere: ready 18.8 s cold, 6.6 s warm; first scan at the client"
        " 10.1 s warm",
    ]
    report.finish(options.json)


def report_client(report: Report, uri: str) -> None:
    """Measure processes that end at once."""
    programs = {
        "bare python": "pass",
        "import numpy": "import numpy",
        "import twinscope": "import twinscope",
        "client": _CLIENT.format(uri=uri),
        "import jax": "import jax",
    }
    found = dict(zip(programs, interleaved([_process(p) for p in programs.values()], _CLIENT_ROUNDS), strict=True))
    numpy, python = ("python -c 'import numpy'", found["import numpy"]), ("bare python", found["bare python"])
    report.add("process: import twinscope + connect + state", found["client"], peer=numpy, target=0.5)
    report.add("process: import twinscope alone", found["import twinscope"], peer=python)
    report.add("process: import jax (what the client avoids)", found["import jax"], peer=numpy)


def report_server(report: Report, cold: list[_Start], warm: list[_Start]) -> None:
    """Add what was seen of the servers."""
    for name, starts in (("cold", cold), ("warm", warm)):

        def figure(part: str, starts: list[_Start] = starts) -> Figure:
            return Figure(tuple(getattr(found, part) for found in starts))

        report.add(f"server, {name} cache: start -> ready", figure("ready"), target=3.0)
        report.add(f"server, {name} cache: start -> first answer (state)", figure("answered"))
        report.add(f"server, {name} cache: start -> idle (compiled)", figure("idle"))
        report.add(f"server, {name} cache: start -> first 128x128 image at the client", figure("image"))


def start(root: Path, cache_directory: Path) -> _Start:
    """Start a server, take one image, and stop it."""
    with serving("--clock", "accelerated", directory=root / "data", environment=cache(cache_directory)) as server:
        with twinscope.connect(server.uri) as scope:
            status = scope.state().status
            answered = time.perf_counter() - server.begun
            scope.wait_ready(60)
            idle = time.perf_counter() - server.begun
            with scope.control(purpose="benchmark"):
                frame = twinscope.ScanFrame(size=(2e-9, 2e-9))
                scan = scope.scan(frame=frame, pixels=_PIXELS, channels=["frequency_shift"]).result(60)
            image = time.perf_counter() - server.begun
        assert scan["frequency_shift"].shape == _PIXELS
        return _Start(server.ready, answered, status.value, idle, image)


def _process(program: str) -> Callable[[], object]:
    return partial(subprocess.run, [sys.executable, "-c", program], check=True)


if __name__ == "__main__":
    main()
