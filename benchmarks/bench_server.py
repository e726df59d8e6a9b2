"""How fast a server answers: control calls, the transfer of finished data, and lines while they are measured."""

import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import Pyro5.api
from _peers import RawClient, configure_pyro
from _processes import helper, serving
from _report import Figure, Report, arguments, formatted, interleaved
from _stream import followed

import twinscope
from twinscope.network.remote import PyroTransport

_CHANNELS = ("frequency_shift", "force_z", "z", "converged")
_PIXELS = (256, 256)
_FRAME = twinscope.ScanFrame(size=(2e-9, 2e-9))
_CALL_ROUNDS, _CALLS = 20, 50
_TRANSFER_ROUNDS = 60
# A stack: while its first layer is scanned the simulator computes, the others come as fast as they can be stored.
_STREAM_PIXELS = (128, 128)
_STREAM_HEIGHTS = tuple((450 - 20 * layer) * 1e-12 for layer in range(6))
_STREAM_REPEATS = 3
# The clock that is not infinitely fast measures one line in 1/100 s.
_PACED = "100"


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__)
    configure_pyro()
    report = Report("Server: control calls, transfer, live lines (all on the loopback interface)")
    with tempfile.TemporaryDirectory() as folder:
        with helper("_peers.py", "pyro") as pyro, helper("_peers.py", "socket") as raw_server:
            raw = RawClient(int(raw_server.line.removeprefix("at ")))
            with (
                serving(directory=Path(folder)) as server,
                Pyro5.api.Proxy(pyro.uri) as bare,
                twinscope.connect(server.uri) as scope,
            ):
                scope.wait_ready(60)
                ping = report_calls(report, scope, server.uri, bare, raw)
                report_transfer(report, scope, server.uri, raw)
            raw.close()
        for clock in ("accelerated", _PACED):
            report_stream(report, clock, Path(folder), ping)
    report.notes += [
        "delay of a line: from the moment when the driver hands it over to its values in a client, through the disk",
        "the second client is another process; lines that were there before it joined do not count",
        "not measured in this run: DTMicroscope, elsewhere: call 0.31 to 0.42 ms, 4 x 256^2 transfer 2.1 s at best,"
        " line of 4 x 256 29 ms",
    ]
    report.finish(options.json)


def report_calls(
    report: Report, scope: twinscope.Microscope, uri: str, bare: Pyro5.api.Proxy, raw: RawClient
) -> Figure:
    """Measure short calls; returns that of bare Pyro5."""
    transport = PyroTransport(uri)

    def capabilities() -> object:
        # The microscope asks only once: this is what it does then.
        return twinscope.Capabilities.from_dict(transport.call("capabilities").result)

    actions = [scope.state, capabilities, lambda: bare.ping(1), raw.ping]
    state, able, ping, tcp = interleaved(actions, _CALL_ROUNDS, calls=_CALLS, warmup=5)
    transport.close()
    report.add("control call: state", state, peer=("bare Pyro5 ping", ping), target=0.5e-3)
    report.add("control call: capabilities", able, peer=("bare Pyro5 ping", ping), target=0.5e-3)
    report.add("bare Pyro5 ping", ping, peer=("TCP socket ping-pong", tcp))
    return ping


def report_transfer(report: Report, scope: twinscope.Microscope, uri: str, raw: RawClient) -> None:
    """Measure how long a finished scan takes to a client that has nothing of it yet."""
    with scope.control(purpose="benchmark"):
        acquisition = scope.scan(frame=_FRAME, pixels=_PIXELS, channels=_CHANNELS)
        begin = time.perf_counter()
        reference = acquisition.result(120)
        scanned = time.perf_counter() - begin
    identifier = acquisition.id
    nbytes = sum(reference[name].values.nbytes for name in reference)
    buffer = memoryview(bytearray(nbytes))

    def fetch() -> object:
        return scope.acquisition(identifier).partial()

    def fetch_over_new_connection() -> None:
        with twinscope.connect(uri) as another:
            another.acquisition(identifier).result(10)

    again = scope.acquisition(identifier).partial()
    assert all(np.array_equal(again[name].values, reference[name].values) for name in _CHANNELS)
    actions = [fetch, fetch_over_new_connection, lambda: raw.fetch(buffer)]
    handle, connection, tcp = interleaved(actions, _TRANSFER_ROUNDS)
    size = f"4 x 256 x 256 float32, {nbytes / 2**20:.3g} MiB"
    limit = ("TCP sendall/recv_into", tcp)
    report.add(f"finished scan, {size} -> new handle", handle, peer=limit, target=10e-3)
    report.add("the same, connecting anew", connection, peer=limit)
    peer = ("TCP sendall/recv_into", tcp.per(nbytes, "B/s"))
    report.add("the same, as throughput", handle.per(nbytes, "B/s"), peer=peer)
    report.add("scanning it, accelerated clock", Figure((scanned,)))


def report_stream(report: Report, clock: str, folder: Path, ping: Figure) -> None:
    """Measure lines while they come in, at the client that scans and at one that watches."""
    with helper("_stream.py", "serve", clock, str(folder / f"stream-{clock}")) as server:
        repeats = _STREAM_REPEATS if clock == "accelerated" else 1
        heights = _STREAM_HEIGHTS if clock == "accelerated" else _STREAM_HEIGHTS[:1]
        alone = _scan_live(server.uri, heights, repeats)
        with helper("_stream.py", "watch", server.uri, str(repeats + 1), prefix="ready") as watcher:
            # It joins the acquisition that is over already first.
            _watched(watcher.process)
            together = _scan_live(server.uri, heights, repeats)
            watched = [_watched(watcher.process) for _ in range(repeats)]
            watcher.process.wait(10)
    rows = [("one client", alone), ("with a second client", together), ("the second client", watched)]
    for who, runs in rows:
        if clock == "accelerated":
            lines = _STREAM_PIXELS[1]
            report.add(f"live, accelerated, {who}: lines while simulating", _rate([run[:lines] for run in runs]))
            report.add(f"live, accelerated, {who}: lines of deeper layers", _rate([run[lines:] for run in runs]))
        delays = Figure(tuple(delay for run in runs for _, delay in run))
        name = "accelerated" if clock == "accelerated" else f"{1000 / float(clock):.0f} ms per line"
        report.add(f"live, {name}, {who}: delay of a line", delays, peer=("bare Pyro5 ping", ping))
        p99 = formatted(float(np.percentile(delays.values, 99)), "s")
        report.notes.append(
            f"live, {name}, {who}: 99 % of {len(delays.values)} lines within {p99},"
            f" the last within {formatted(max(delays.values), 's')}"
        )


def _scan_live(uri: str, heights: tuple[float, ...], repeats: int) -> list[list[tuple[float, float]]]:
    """Scan and follow; returns arrival and delay of every line of each scan."""
    with twinscope.connect(uri) as scope:
        scope.wait_ready(60)
        with scope.control(purpose="benchmark"):
            runs = []
            for _ in range(repeats):
                acquisition = scope.scan(
                    frame=_FRAME, pixels=_STREAM_PIXELS, channels=["frequency_shift"], heights=heights
                )
                runs.append(list(followed(acquisition)))
            return runs


def _watched(process: "subprocess.Popen[str]") -> list[tuple[float, float]]:
    """Read what the watching client saw of one scan."""
    assert process.stdout is not None
    seen = json.loads(process.stdout.readline())
    return [(arrival, delay) for arrival, delay in seen["lines"][seen["late"] :]]


def _rate(runs: list[list[tuple[float, float]]]) -> Figure:
    return Figure(tuple((len(run) - 1) / (run[-1][0] - run[0][0]) for run in runs), "lines/s")


if __name__ == "__main__":
    main()
