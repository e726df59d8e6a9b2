"""A server under load: calls while others watch, large data against bare sockets, memory, and a long run."""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from _load import RawFetcher
from _processes import HERE, Running, helper
from _report import Figure, Report, arguments, durations, interleaved

import twinscope
from twinscope.errors import InvalidRequestError, LeaseError
from twinscope.network.remote import PyroTransport

_WATCHERS = 20
_CALL_ROUNDS, _CALLS = 20, 50
_FETCH_ROUNDS = 15
_PIXELS = (2048, 2048)
_CHANNELS = ("frequency_shift", "force_z", "z", "converged")
_FRAME = twinscope.ScanFrame(size=(2e-9, 2e-9))
# 64 MiB: what is fetched is compared with as many bytes over a bare socket.
_BYTES = 4 * 4 * _PIXELS[0] * _PIXELS[1]
_SOAK, _WARMUP = 100_000, 20_000


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__)
    report = Report("Server under load (all within one machine)")
    for kind, share in (("TCP", 0.5), ("Unix socket", 0.8)):
        with _served(kind) as (server, raw), twinscope.connect(server.uri) as scope:
            scope.wait_ready(60)
            if kind == "TCP":
                report_calls(report, server.uri, raw)
            report_fetch(report, kind, share, scope, server.uri, raw)
            if kind == "TCP":
                report_soak(report, server)
    report.notes += [
        f"each of the {_WATCHERS} watching clients has a connection of its own and asks for the state twice a second",
        f"fetching: {_BYTES / 2**20:.0f} MiB, from nothing to arrays with axes; the bare socket ends with bytes",
        "memory: growth of the highest resident memory of a client that fetches once, against the size of the data",
        f"long run: {_SOAK} requests of five kinds after {_WARMUP} that do not count",
    ]
    report.finish(options.json)


def report_calls(report: Report, uri: str, raw: RawFetcher) -> None:
    """Measure short calls, alone and while others watch."""
    transport = PyroTransport(uri)
    actions = [lambda: transport.call("state"), lambda: raw.fetch(256)]
    alone, limit = interleaved(actions, _CALL_ROUNDS, calls=_CALLS, warmup=5)
    report.add("control call: state", alone, peer=("TCP socket ping-pong", limit), target=0.3e-3)
    with helper("_load.py", "watch", uri, str(_WATCHERS), prefix="ready"):
        watched, limit = interleaved(actions, _CALL_ROUNDS, calls=_CALLS, warmup=5)
    name = f"control call: state, {_WATCHERS} others watching"
    report.add(name, watched, peer=("TCP socket ping-pong", limit), target=0.3e-3)
    transport.close()


def report_fetch(
    report: Report, kind: str, share: float, scope: twinscope.Microscope, uri: str, raw: RawFetcher
) -> None:
    """Measure how fast finished data come to a client that has nothing of them, and what memory it needs."""
    with scope.control(purpose="benchmark"):
        acquisition = scope.scan(frame=_FRAME, pixels=_PIXELS, channels=_CHANNELS)
        acquisition.result(300)
    actions = [lambda: scope.acquisition(acquisition.id).partial(), lambda: raw.fetch(_BYTES)]
    fetched, limit = (figure.per(_BYTES, "B/s") for figure in interleaved(actions, _FETCH_ROUNDS))
    name = f"fetching {_BYTES / 2**20:.0f} MiB, {kind}"
    report.add(name, fetched, peer=(f"bare {kind}", limit), target=share * limit.median)
    if kind == "TCP":
        command = [sys.executable, str(HERE / "_load.py"), "fetch", uri, acquisition.id]
        told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        report.add("memory of the client / size of the data", Figure((told["memory"] / _BYTES,), "times"), target=2.0)


def report_soak(report: Report, server: Running) -> None:
    """Measure whether memory grows over many requests, some of them wrong, from connections that come and go."""
    _ask(server.uri, _WARMUP)
    before = _memory(server.process.pid)
    seconds = durations(lambda: _ask(server.uri, _SOAK), 1, warmup=0)
    growth = _memory(server.process.pid) / before
    report.add(f"{_SOAK} mixed requests", Figure(tuple(seconds)).per(_SOAK, "requests/s"))
    report.add("memory of the server after / before them", Figure((growth,), "times"), target=1.05)


def _ask(uri: str, count: int) -> None:
    verbs = [
        ("state", {}),
        ("capabilities", {}),
        ("jobs", {}),
        ("acquire_lease", {"purpose": "benchmark", "duration": 30.0}),
        ("fly", {"to": "the moon"}),
    ]
    per_connection = 1000
    for _ in range(count // per_connection):
        transport = PyroTransport(uri)
        for _ in range(per_connection // len(verbs)):
            for verb, parameters in verbs:
                with contextlib.suppress(InvalidRequestError, LeaseError):
                    transport.call(verb, parameters)
        transport.close()


def _memory(process: int) -> float:
    text = Path(f"/proc/{process}/status").read_text()
    return float(text.partition("VmRSS:")[2].split()[0])


@contextlib.contextmanager
def _served(kind: str) -> Iterator[tuple[Running, RawFetcher]]:
    with tempfile.TemporaryDirectory() as folder:
        ours, bare = ("127.0.0.1",) * 2 if kind == "TCP" else (f"unix:{folder}/{name}" for name in ("ours", "bare"))
        with helper("_load.py", "serve", ours, folder) as server, helper("_load.py", "raw", bare) as other:
            raw = RawFetcher(other.line.removeprefix("at "))
            try:
                yield server, raw
            finally:
                raw.close()


if __name__ == "__main__":
    main()
