"""How fast the Nanonis gateway answers: a short call, and a frame of 256 x 256, beside a bare server of the same bytes.

Both are asked by a client loop that does the least, and by nanonis_spm where it is installed.
"""

import contextlib
import importlib.util
import socket
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from _peers import HOST, received_into
from _processes import helper, started
from _report import Figure, Report, arguments, interleaved

from twinscope.nanonis_protocol import COMMANDS, HEADER_SIZE, encode_request

_PIXELS = 256
_SHIFT = 76
_CALL_ROUNDS, _CALLS = 20, 50
_GRAB_ROUNDS, _GRABS = 20, 5
# nanonis_spm decodes a frame pixel by pixel.
_SLOW_GRAB_ROUNDS = 6
_BYTES = 4 * _PIXELS**2


class OwnClient:
    """The least that a client has to do: one send, the header, the body, and the frame as an array."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._header = bytearray(HEADER_SIZE)
        self._bias = self._request("Bias.Get")
        self._grab = self._request("Scan.FrameDataGrab", channel_index=_SHIFT, data_direction=1)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def get_bias(self) -> float:
        """Ask for the bias."""
        value: float = struct.unpack_from(">f", self._answer(self._bias))[0]
        return value

    def grab(self) -> np.ndarray:
        """Fetch the frame."""
        body = self._answer(self._grab)
        (name,) = struct.unpack_from(">i", body)
        rows, columns = struct.unpack_from(">ii", body, 4 + name)
        return np.frombuffer(body, ">f4", rows * columns, 12 + name).reshape(rows, columns)

    def ask(self, name: str, **given: object) -> bytearray:
        """Carry out any command."""
        return self._answer(self._request(name, **given))

    def _request(self, name: str, **given: object) -> bytes:
        return encode_request(name, COMMANDS[name].encode_arguments(given))

    def _answer(self, request: bytes) -> bytearray:
        self._socket.sendall(request)
        received_into(self._socket, memoryview(self._header))
        body = bytearray(struct.unpack_from(">i", self._header, 32)[0])
        received_into(self._socket, memoryview(body))
        return body


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__)
    report = Report("Nanonis gateway: a short call and a frame (all on the loopback interface)")
    with (
        tempfile.TemporaryDirectory() as folder,
        helper("_nanonis_peer.py", str(_PIXELS)) as peer,
        gateway(folder) as port,
    ):
        echo_port = int(peer.line.removeprefix("at "))
        with contextlib.closing(OwnClient(port)) as own, contextlib.closing(OwnClient(echo_port)) as echo:
            scan_once(own)
            report_own(report, own, echo)
        if importlib.util.find_spec("nanonis_spm") is None:
            report.notes.append("nanonis_spm is not installed: pip install nanonis-spm")
        else:
            report_spm(report, port, echo_port)
    report.notes += [
        "the bare server has its answers ready; the gateway asks the instrument for each",
        "nanonis_spm asks the system 1000 times for nothing in each call, and decodes a frame pixel by pixel",
    ]
    report.finish(options.json)


@contextlib.contextmanager
def gateway(folder: str) -> Iterator[int]:
    """Run a server with a gateway and yield its port."""
    command = [sys.executable, "-m", "twinscope", "serve", "--port", "0", "--data", folder, "--sample", "benzene"]
    with started([*command, "--nanonis", "--nanonis-ports", "0"], "Nanonis clients") as server:
        yield int(server.line.split()[-1])


def scan_once(client: OwnClient) -> None:
    """Fill the buffer."""
    client.ask("Scan.FrameSet", center_x=0, center_y=0, width=1e-9, height=1e-9, angle=0)
    client.ask("Scan.BufferSet", channel_indexes=[_SHIFT], pixels=_PIXELS, lines=_PIXELS)
    client.ask("Scan.Action", scan_action=0, scan_direction=1)
    client.ask("Scan.WaitEndOfScan", timeout=-1)
    if np.isnan(client.grab()).any():
        raise SystemExit("the scan did not fill the buffer")


def report_own(report: Report, own: OwnClient, echo: OwnClient) -> None:
    """Measure with the client that does the least."""
    call, bare_call = interleaved([own.get_bias, echo.get_bias], _CALL_ROUNDS, calls=_CALLS, warmup=5)
    report.add("Bias.Get", call, peer=("bare server", bare_call))
    grab, bare_grab = interleaved([own.grab, echo.grab], _GRAB_ROUNDS, calls=_GRABS)
    add_grab(report, f"frame of {_PIXELS} x {_PIXELS}", grab, bare_grab)


def report_spm(report: Report, port: int, echo_port: int) -> None:
    """Measure with the client of the vendor."""
    with spm_client(port) as spm, spm_client(echo_port) as echo:
        call, bare_call = interleaved([spm.Bias_Get, echo.Bias_Get], _CALL_ROUNDS, calls=_CALLS, warmup=5)
        report.add("nanonis_spm: Bias.Get", call, peer=("bare server", bare_call))
        grabs: list[Callable[[], object]] = [lambda one=one: one.Scan_FrameDataGrab(_SHIFT, 1) for one in (spm, echo)]
        grab, bare_grab = interleaved(grabs, _SLOW_GRAB_ROUNDS)
        add_grab(report, f"nanonis_spm: frame of {_PIXELS} x {_PIXELS}", grab, bare_grab)


def add_grab(report: Report, what: str, grab: Figure, bare: Figure) -> None:
    """Add the time of a frame and the rate of its bytes."""
    report.add(what, grab, peer=("bare server", bare))
    report.add(f"{what}, bytes", grab.per(_BYTES, "B/s"), peer=("bare server", bare.per(_BYTES, "B/s")))


@contextlib.contextmanager
def spm_client(port: int) -> Iterator[Any]:
    """Connect nanonis_spm."""
    import nanonis_spm

    with socket.create_connection((HOST, port)) as connection:
        yield nanonis_spm.Nanonis(connection)


if __name__ == "__main__":
    main()
