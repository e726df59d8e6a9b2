"""Two processes that measure how late a line is: a server that stamps every line with the time, and a watching client.

``python _stream.py serve CLOCK DIRECTORY`` prints "at URI"; ``python _stream.py watch URI COUNT`` prints "ready",
follows the latest acquisition and those that come until there were COUNT, and prints one line of JSON for each.

The stamp is made when the driver hands the line over, before it is stored: the delay is that of disk, wire and client.
It is written over the first three values, since the system's monotonic clock is the same for all processes.
"""

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import twinscope
from twinscope.acquisition import Acquisition, Line

# A float32 holds 24 bits: three times 20 of them keep nanoseconds for 36 years.
_BITS = 20


class _StampingSink:
    """Stamps traces on their way into a record."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self.warn = sink.warn

    def write(self, first: int, traces: np.ndarray) -> None:
        """See :class:`twinscope.drivers.base.TraceSink`."""
        now = time.monotonic_ns()
        stamped = traces.copy()
        stamped[:, 0, :3] = [now >> shift & (1 << _BITS) - 1 for shift in (2 * _BITS, _BITS, 0)]
        self._sink.write(first, stamped)


def serve(clock: str, directory: str) -> None:
    """Serve a simulator whose lines are stamped."""
    # Only this process needs JAX.
    from twinscope.drivers.simulator import Simulator
    from twinscope.guard import Guard
    from twinscope.instrument import Instrument
    from twinscope.interlocks import Interlocks
    from twinscope.network.server import Server

    class Stamped(Simulator):
        def start_scan(self, request: twinscope.ScanRequest, sink: Any) -> None:
            super().start_scan(request, _StampingSink(sink))

    instrument = Instrument(Guard(Stamped(clock=clock), Interlocks()), Path(directory))
    server = Server(instrument, "127.0.0.1", 0, None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    instrument.start()
    print(f"at {server.uri}", flush=True)
    try:
        server.run()
    finally:
        instrument.close()


def watch(uri: str, count: str) -> None:
    """Follow acquisitions that someone else begins."""
    with twinscope.connect(uri) as scope:
        print("ready", flush=True)
        seen = None
        for _ in range(int(count)):
            while (acquisition := scope.current_acquisition()) is None or acquisition.id == seen:
                time.sleep(0.002)
            seen = acquisition.id
            late = acquisition.progress().done
            print(json.dumps({"late": late, "lines": list(followed(acquisition))}), flush=True)


def followed(acquisition: Acquisition) -> Iterator[tuple[float, float]]:
    """Follow an acquisition; yields when each line arrived and how late it was, in s."""
    for line in acquisition.lines():
        now = time.monotonic_ns()
        yield now * 1e-9, (now - _stamp(line)) * 1e-9


def _stamp(line: Line) -> int:
    high, middle, low = (int(value) for value in next(iter(line.values.values()))[:3])
    return high << 2 * _BITS | middle << _BITS | low


if __name__ == "__main__":
    {"serve": serve, "watch": watch}[sys.argv[1]](*sys.argv[2:])
