"""Processes of the load benchmark: a server with plenty of data, a raw one, a client that fetches, clients that watch.

``python _load.py serve HOST DIRECTORY`` and ``python _load.py raw HOST`` print "at ADDRESS"; HOST is an IP address or
"unix:/path". ``python _load.py fetch URI ID`` fetches an acquisition again and again and prints one line of JSON;
``python _load.py watch URI COUNT`` prints "ready", and COUNT threads with a connection of their own ask what is new.
"""

import contextlib
import json
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from _peers import PING_BYTES, received_into
from _report import durations

import twinscope

_FETCHES = 7
# As a program does that shows what the microscope is doing.
_LOOK_INTERVAL = 0.5


def serve(host: str, directory: str) -> None:
    """Serve an instrument that measures noise as fast as it can be stored."""
    # Only this process needs JAX.
    from twinscope.drivers.simulator import Simulator
    from twinscope.guard import Guard
    from twinscope.instrument import Instrument
    from twinscope.interlocks import Interlocks
    from twinscope.network.server import Server

    class Noise(Simulator):
        def start_scan(self, request: twinscope.ScanRequest, sink: Any) -> None:
            shape = (1, len(request.channels), request.trace_length)
            self._noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
            self._left, self._number, self._receiver = request.trace_count, 0, sink

        def poll(self) -> bool:
            if self._number == self._left:
                return False
            self._receiver.write(self._number, self._noise + np.float32(self._number))
            self._number += 1
            return True

    rules = Interlocks()
    instrument = Instrument(Guard(Noise(), rules), Path(directory), rules)
    server = Server(instrument, host, 0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    instrument.start()
    print(f"at {server.uri}", flush=True)
    try:
        server.run()
    finally:
        instrument.close()


def raw(host: str) -> None:
    """Answer each ping, which holds a length, with as many bytes."""
    path = host.removeprefix("unix:")
    if path == host:
        listener = socket.create_server((host, 0))
        print(f"at {listener.getsockname()[1]}", flush=True)
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        print(f"at {path}", flush=True)
    connection, _ = listener.accept()
    buffer = bytearray(PING_BYTES)
    data = b""
    with listener, connection:
        while received_into(connection, memoryview(buffer)):
            length = int.from_bytes(buffer[:8], "little")
            if len(data) != length:
                data = bytes(length)
            connection.sendall(data)


class RawFetcher:
    """The other end of :func:`raw`."""

    def __init__(self, address: str) -> None:
        if address.isdecimal():
            self._socket = socket.create_connection(("127.0.0.1", int(address)))
        else:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.connect(address)

    def fetch(self, length: int) -> np.ndarray:
        """Fetch bytes into a new array, as a client does that has nothing yet."""
        values = np.empty(length, np.uint8)
        self._socket.sendall(length.to_bytes(8, "little").ljust(PING_BYTES, b"\0"))
        received_into(self._socket, memoryview(values))
        return values

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def fetch(uri: str, identifier: str) -> None:
    """Fetch an acquisition, each time as a client that has nothing of it yet."""
    with twinscope.connect(uri) as scope:
        before = _peak_memory()
        seconds = durations(lambda: scope.acquisition(identifier).partial(), 1, warmup=0)
        peak = _peak_memory()
        seconds += durations(lambda: scope.acquisition(identifier).partial(), _FETCHES, warmup=0)
    print(json.dumps({"seconds": seconds, "memory": peak - before}), flush=True)


def watch(uri: str, count: str) -> None:
    """Look at an instrument from many clients at once."""
    scopes = [twinscope.connect(uri) for _ in range(int(count))]
    ended = threading.Event()

    def look(scope: twinscope.Microscope, phase: float) -> None:
        time.sleep(phase)
        while not ended.wait(_LOOK_INTERVAL):
            scope.state()

    threads = [
        threading.Thread(target=look, args=(scope, n * _LOOK_INTERVAL / len(scopes))) for n, scope in enumerate(scopes)
    ]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    try:
        signal.pause()
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        for scope in scopes:
            scope.close()


def _peak_memory() -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        {"serve": serve, "raw": raw, "fetch": fetch, "watch": watch}[sys.argv[1]](*sys.argv[2:])
