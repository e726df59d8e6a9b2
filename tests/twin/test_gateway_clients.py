"""Nanonis clients that others have written drive the twin, and get the same data as our own client, bit for bit."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nanonis_spm
import numpy as np
import pytest
from nanonisTCP import nanonisTCP
from nanonisTCP.AutoApproach import AutoApproach
from nanonisTCP.Bias import Bias
from nanonisTCP.BiasSpectr import BiasSpectr
from nanonisTCP.Current import Current
from nanonisTCP.FolMe import FolMe
from nanonisTCP.Scan import Scan
from nanonisTCP.Signals import Signals
from nanonisTCP.ZController import ZController

import twinscope
from tests.conftest import until
from tests.twin.nanonis_wire import RefusedError, WireClient
from twinscope.errors import LeaseError
from twinscope.gateway import NanonisGateway
from twinscope.nanonis_protocol import ErrorDialect
from twinscope.requests import ScanRequest, SpectroscopyRequest, Sweep
from twinscope.service import Service

CURRENT, BIAS, Z, SHIFT = 0, 24, 30, 76
PIXELS, LINES = 8, 6
HEIGHT = 4e-10
RULES = """
[signals.bias]
high = 2.0
"""


@dataclass
class Served:
    """A ``twinscope serve --nanonis`` that runs."""

    process: "subprocess.Popen[str]"
    uri: str
    ports: Sequence[int]
    data: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("nanonis")
    rules = folder / "interlocks.toml"
    rules.write_text(RULES)
    command = [sys.executable, "-m", "twinscope", "serve", "--sample", "benzene", "--port", "0", "--data", folder / "d"]
    process = subprocess.Popen(
        [*command, "--nanonis", "--nanonis-ports", "0,0", "--interlocks", rules], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = ""
    while "\nat PYRO" not in said:
        line = process.stdout.readline()
        assert line, f"the server did not start: {said}"
        said += line
    ports = [int(port) for port in re.search(r"Nanonis .* ports ([\d ]+)", said)[1].split()]
    yield Served(process, re.search(r"at (PYRO:\S+);", said)[1], ports, folder / "d")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.fixture
def scope(served: Served) -> Iterator[twinscope.Microscope]:
    with twinscope.connect(served.uri) as microscope:
        until(lambda: microscope.state().lease is None)
        yield microscope


class Spm:
    """Calls of nanonis_spm that raise what it prints, and return the values."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self._client = nanonis_spm.Nanonis(self.socket)

    def __enter__(self) -> "Spm":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            error, _, values = getattr(self._client, name)(*arguments)
            if error:
                raise RuntimeError(error)
            return values

        return call


def repeated(scope: twinscope.Microscope, request: ScanRequest | SpectroscopyRequest) -> Any:
    """Measure the same again with our own client."""
    with scope.control():
        return scope.acquire(request).result(60)


def scan_request(**changes: Any) -> ScanRequest:
    given = {
        "frame": twinscope.ScanFrame(size=(1e-9, 8e-10), center=(1e-10, 0.0), angle=-20.0),
        "pixels": (PIXELS, LINES),
        "channels": ("frequency_shift", "current", "z"),
        "direction": "both",
        "line_time": 0.5,
    }
    return ScanRequest(**given | changes)


def test_a_session_of_nanonis_spm(served: Served, scope: twinscope.Microscope) -> None:
    with Spm(served.ports[0]) as spm, Spm(served.ports[1]) as second:
        # Approach.
        spm.AutoApproach_Open()
        spm.AutoApproach_OnOffSet(1)
        until(lambda: second.AutoApproach_OnOffGet() == [0], 60)
        assert spm.ZCtrl_OnOffGet() == [1]
        spm.ZCtrl_OnOffSet(0)
        spm.ZCtrl_ZPosSet(HEIGHT)
        assert spm.ZCtrl_ZPosGet() == [np.float32(HEIGHT)]
        # Bias.
        spm.Bias_Set(0.05)
        assert spm.Bias_Get() == [np.float32(0.05)]
        with pytest.raises(RuntimeError, match=r"bias = 3 is refused: a soft limit allows -inf to 2"):
            spm.Bias_Set(3)
        with pytest.raises(RuntimeError, match=r"LockIn\.ModAmpSet is not supported: the instrument has no lock-in"):
            spm.LockIn_ModAmpSet(1, 0.01)
        # Scan a molecule and grab the frame.
        spm.Scan_FrameSet(1e-10, 0, 1e-9, 8e-10, 20)
        spm.Scan_BufferSet([SHIFT, CURRENT, Z], PIXELS, LINES)
        spm.Scan_SpeedSet(0, 0, 0.5, 0.5, 2, 1)
        spm.Scan_PropsSet(2, 2, 1, "molecule", "", [], 0)
        spm.Scan_Action(0, 1)
        timed_out, _, path = spm.Scan_WaitEndOfScan(60_000)
        assert timed_out == 0
        assert Path(path).is_file()
        assert second.Scan_StatusGet() == [0]
        _, name, rows, columns, shift, direction = spm.Scan_FrameDataGrab(SHIFT, 1)
        assert (name, rows, columns, direction) == ("OC M1 Freq. Shift (Hz)", LINES, PIXELS, 1)
        backward = spm.Scan_FrameDataGrab(CURRENT, 0)[4]
        # Spectroscopies above its middle.
        spm.FolMe_XYPosSet(0, 0, 1)
        assert spm.FolMe_XYPosGet(1) == [0, 0]
        spm.ZSpectr_ChsSet([SHIFT, CURRENT])
        spm.ZSpectr_RangeSet(0, 2e-10)
        spm.ZSpectr_PropsSet(2, 5, 1, 2, 2, 2)
        heights = spm.ZSpectr_Start(1, "")
        spm.BiasSpectr_ChsSet([CURRENT])
        spm.BiasSpectr_LimitsSet(-0.1, 0.1)
        spm.BiasSpectr_PropsSet(0, 1, 2, 5, 0, 0, 0)
        voltages = spm.BiasSpectr_Start(1, "")
        here = scope.state().position
        spm.ZCtrl_Withdraw(1, -1)
        assert spm.ZCtrl_ZPosGet()[0] == np.float32(5e-9)
    until(lambda: scope.state().lease is None)
    with scope.control():
        scope.approach()
        scope.move_to(z=HEIGHT)
    own = repeated(scope, scan_request())
    assert np.array_equal(shift.astype(np.float32), own["frequency_shift"].values)
    assert np.array_equal(backward.astype(np.float32)[:, ::-1], own["current_backward"].values)
    assert heights[2] == ["Z rel (m)", "OC M1 Freq. Shift (Hz)", "Current (A)"]
    sweep = Sweep(start=HEIGHT, stop=HEIGHT + 2e-10, points=5)
    above = ((here.x, here.y),)
    request = SpectroscopyRequest(swept="z", positions=above, sweep=sweep, channels=("frequency_shift", "current"))
    own = repeated(scope, request)
    assert np.array_equal(heights[5][1].astype(np.float32), own["frequency_shift"].values[0])
    assert np.array_equal(heights[5][2].astype(np.float32), own["current"].values[0])
    sweep = Sweep(start=-0.1, stop=0.1, points=5)
    request = SpectroscopyRequest(swept="bias", positions=above, sweep=sweep, channels=("current",), height=here.z)
    own = repeated(scope, request)
    assert np.array_equal(voltages[5][1].astype(np.float32), own["current"].values[0])


def test_a_session_of_nanonis_tcp(served: Served, scope: twinscope.Microscope) -> None:
    client = nanonisTCP("127.0.0.1", served.ports[0], max_buf_size=2**20)
    try:
        approach, z, bias = AutoApproach(client), ZController(client), Bias(client)
        approach.Open()
        approach.OnOffSet(True)
        until(lambda: not approach.OnOffGet(), 60)
        assert z.OnOffGet()
        z.OnOffSet(False)
        z.ZPosSet(HEIGHT)
        bias.Set(0.05)
        assert bias.Get() == np.float32(0.05)
        # It takes the first four letters for the size of the text: a dialect of later releases.
        with pytest.raises(Exception, match=r"^ = 3 is refused: a soft limit allows"):
            bias.Set(3)
        assert Signals(client).NamesGet()[Z] == "Z (m)"
        assert Current(client).Get() == pytest.approx(scope.state().signals["current"], rel=1e-6)
        scan = Scan(client)
        scan.FrameSet(1e-10, 0, 1e-9, 8e-10, 20)
        scan.BufferSet([SHIFT, Z], PIXELS, LINES)
        scan.SpeedSet(fwd_line_time=0.5, speed_ratio=1)
        scan.Action("start", "down")
        timed_out, _, path = scan.WaitEndOfScan(60_000)
        assert not timed_out
        assert Path(path).is_file()
        name, shift, direction = scan.FrameDataGrab(SHIFT, 1)
        assert (name, direction) == ("OC M1 Freq. Shift (Hz)", "down")
        FolMe(client).XYPosSet(0, 0, Wait_end_of_move=True)
        spectroscopy = BiasSpectr(client)
        spectroscopy.ChsSet([CURRENT])
        spectroscopy.LimitsSet(-0.1, 0.1)
        spectroscopy.PropsSet(num_points=5, back_sweep=2)
        found = spectroscopy.Start(get_data=1)["data_dict"]
        here = scope.state().position
        z.Withdraw(True, -1)
    finally:
        client.close_connection()
    until(lambda: scope.state().lease is None)
    with scope.control():
        scope.approach()
        scope.move_to(z=HEIGHT)
    own = repeated(scope, scan_request(channels=("frequency_shift", "z"), slow_direction="down"))
    assert np.array_equal(shift.astype(np.float32)[::-1], own["frequency_shift"].values)
    request = SpectroscopyRequest(
        swept="bias",
        positions=((here.x, here.y),),
        sweep=Sweep(start=-0.1, stop=0.1, points=5),
        channels=("current",),
        height=here.z,
    )
    assert np.array_equal(found["Current (A)"].astype(np.float32), repeated(scope, request)["current"].values[0])


def test_what_nanonis_clients_do_is_in_the_journal(served: Served) -> None:
    with WireClient(served.ports[0]) as client:
        client("Bias.Set", bias_value=0.123)
        with pytest.raises(RefusedError, match="a soft limit allows"):
            client("Bias.Set", bias_value=2.5)
    lines = [json.loads(line) for line in (served.data / "journal.jsonl").read_text().splitlines()]
    asked = [line for line in lines if line.get("verb") == "set_signal" and line.get("identity") == "nanonis"]
    assert [line["parameters"]["value"] for line in asked[-2:]] == [0.123, 2.5]
    answers = {line["request_id"]: line for line in lines if "request_id" in line and "verb" not in line}
    assert answers[asked[-1]["request_id"]]["error"]["code"] == "interlock"


def test_error_texts_are_whole_in_the_dialect_of_nanonis_tcp(instrument: Callable[..., Any]) -> None:
    one = instrument()
    gateway = NanonisGateway(Service(one), (0,), dialect=ErrorDialect.LONG)
    gateway.start()
    client = nanonisTCP("127.0.0.1", gateway.ports[0])
    try:
        with pytest.raises(Exception, match=r"^bias = 11 V is outside its range of -10 to 10 V"):
            Bias(client).Set(11)
        Bias(client).Set(1)
    finally:
        client.close_connection()
        gateway.close()


def test_a_client_of_ours_and_one_of_nanonis_take_turns(served: Served, scope: twinscope.Microscope) -> None:
    with Spm(served.ports[0]) as spm:
        with scope.control("aligning"), pytest.raises(RuntimeError, match=r"held by .* \(aligning\)"):
            spm.Bias_Set(0.1)
        spm.Bias_Set(0.1)
        with pytest.raises(LeaseError, match="held by a Nanonis client"), scope.control():
            pass


def test_the_gateway_survives_a_client_that_is_killed_in_the_middle_of_a_scan(
    served: Served, scope: twinscope.Microscope, tmp_path: Path
) -> None:
    script = """
import socket, sys, nanonis_spm
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
spm = nanonis_spm.Nanonis(connection)
spm.AutoApproach_OnOffSet(1)
while spm.AutoApproach_OnOffGet()[2] != [0]:
    pass
spm.ZCtrl_OnOffSet(0)
spm.Scan_FrameSet(0, 0, 1e-9, 1e-9, 0)
spm.Scan_BufferSet([76], 4, 4000)
spm.Scan_Action(0, 1)
print("scanning", flush=True)
spm.Scan_WaitEndOfScan(-1)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(served.ports[0])], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "scanning\n"
    process.kill()
    process.communicate()
    # What it has begun goes on, and control is free.
    until(lambda: scope.state().lease is None, 10)
    scan = scope.current_acquisition()
    assert scan.progress().state in ("running", "done")
    with WireClient(served.ports[0]) as client:
        client("Scan.Action", scan_action=1, scan_direction=1)
        assert client("Scan.StatusGet")["scan_status"] == 0
        data = client("Scan.FrameDataGrab", channel_index=SHIFT, data_direction=1)["scan_data"]
        assert np.array_equal(data, scan.partial()["frequency_shift"].values, equal_nan=True)
        client("ZCtrl.Withdraw", wait_until_finished=1, timeout=-1)
