"""Child processes of the benchmarks: started, awaited and stopped."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
_LONGEST_START = 60.0
_LONGEST_STOP = 30.0


@dataclass(slots=True)
class Running:
    """A child that has said that it is ready.

    Attributes
    ----------
    process
        The child.
    begun
        When it was started, by :func:`time.perf_counter`.
    ready
        Seconds until it said so.
    line
        What it said.
    """

    process: "subprocess.Popen[str]"
    begun: float
    ready: float
    line: str

    @property
    def uri(self) -> str:
        """Address in the line of a twinscope server."""
        return self.line.removeprefix("at ").split(";")[0]


@contextlib.contextmanager
def started(command: Sequence[str], prefix: str, environment: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Start a command, wait for the line that begins with `prefix`, and stop it in the end as Ctrl-C would."""
    begun = time.perf_counter()
    # Harmless messages of XLA's cache would run through the table.
    env = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | dict(environment or {})
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, start_new_session=True)
    overdue = threading.Timer(_LONGEST_START, process.kill)
    overdue.start()
    try:
        line = _awaited(process, prefix)
        overdue.cancel()
        yield Running(process, begun, time.perf_counter() - begun, line)
    finally:
        overdue.cancel()
        _stop(process)


def serving(
    *options: str, directory: Path, environment: Mapping[str, str] | None = None
) -> contextlib.AbstractContextManager[Running]:
    """Run ``twinscope serve`` on a free port of the loopback interface."""
    command = [sys.executable, "-m", "twinscope", "serve", "--port", "0", "--data", str(directory), *options]
    return started(command, "at PYRO:", environment)


def helper(
    script: str, *parameters: str, prefix: str = "at ", environment: Mapping[str, str] | None = None
) -> contextlib.AbstractContextManager[Running]:
    """Run another file of this folder."""
    return started([sys.executable, str(HERE / script), *parameters], prefix, environment)


def cache(directory: Path) -> dict[str, str]:
    """Environment in which compiled kernels are kept in `directory`, as a server does in the user's cache by itself."""
    return {"JAX_COMPILATION_CACHE_DIR": str(directory), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


def _awaited(process: "subprocess.Popen[str]", prefix: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(prefix):
            return line.strip()
    raise RuntimeError(f"{process.args!r} ended with exit code {process.wait()} before it said {prefix!r}")


def _stop(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=_LONGEST_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
