"""A scripted Nanonis controller: answers the driver, keeps what it was told, and misbehaves on request."""

import contextlib
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tests.drivers._acquiring import Sink
from twinscope.drivers.nanonis import Nanonis
from twinscope.nanonis_protocol import COMMANDS, HEADER_SIZE, decode_request_header, encode_response
from twinscope.requests import PathRequest, ScanRequest, SpectroscopyRequest

Fault = Callable[[socket.socket, str, bytes], None]
"""Does something else than to send an answer."""

SIGNALS = ("Current (A)", "Bias (V)", "X (m)", "Y (m)", "Z (m)", "OC M1 Freq. Shift (Hz)", "Input 7 (V)", "")
RANGES = {0: (1e-8, -1e-8), 1: (10.0, -10.0), 5: (500.0, -500.0)}
TOP = 100e-9
SCANNED_BY_A_LOOK = 1


class RefusalError(Exception):
    """The controller does not do that."""


class ScriptedController:
    """Listens on ports of its own until it is closed.

    Attributes
    ----------
    log
        Names and arguments of all commands, in their order.
    values
        What was set, by the name of the field.
    faults
        What to do instead of an answer, by the name of a command; once each.
    ends_after
        Lines after which a scan ends by itself; None for all.
    stopped
        Whether the scan was stopped.
    delay
        Seconds before each answer.
    keeps_rows
        Whether the rows of the scan before stay in the buffer until new ones come.
    """

    def __init__(self, ports: int = 2) -> None:
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.values: dict[str, Any] = {
            "bias_value": 0.1,
            "x": 0.0,
            "y": 0.0,
            "z_position": 50e-9,
            "on": 0,
            "active": 0,
            "setpoints": [1e-11, -2.0],
            "approaching": 0,
            "safe_tip": 1,
        }
        self.faults: dict[str, Fault] = {}
        self.keeps_rows = False
        self.delay = 0.0
        self.approach_takes = 2
        self.scans = 0
        self.line = 0
        self.stopped = False
        self.ends_after: int | None = None
        self.buffer = np.full((2, 2), np.nan, np.float32)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._connected: list[socket.socket] = []
        self._listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(ports)]
        for one in self._listening:
            threading.Thread(target=self._listen, args=(one,), daemon=True).start()

    @property
    def ports(self) -> list[int]:
        return [one.getsockname()[1] for one in self._listening]

    def close(self) -> None:
        self._over.set()
        for one in (*self._listening, *self._connected):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def count(self, name: str) -> int:
        """How often a command has come."""
        return Counter(command for command, _ in self.log)[name]

    def last(self, name: str) -> dict[str, Any]:
        """Arguments with which a command came last."""
        return next(arguments for command, arguments in reversed(self.log) if command == name)

    # ------------------------------------------------------------------ conversations

    def _listen(self, listening: socket.socket) -> None:
        # One client after the other, as at a port of a controller.
        while not self._over.is_set():
            try:
                connected, _ = listening.accept()
            except OSError:
                return
            self._connected.append(connected)
            with contextlib.suppress(OSError, EOFError):
                self._converse(connected)
            connected.close()

    def _converse(self, connected: socket.socket) -> None:
        while True:
            header = decode_request_header(_take(connected, HEADER_SIZE))
            arguments = COMMANDS[header.name].decode_arguments(_take(connected, header.size))
            with self._lock:
                self.log.append((header.name, arguments))
                fault = self.faults.pop(header.name, None)
            answer = self._answer(header.name, arguments)
            time.sleep(self.delay)
            if fault is None:
                connected.sendall(answer)
            else:
                fault(connected, header.name, answer)

    def _answer(self, name: str, arguments: Mapping[str, Any]) -> bytes:
        command = COMMANDS[name]
        # Both spectroscopies are alike.
        method = getattr(self, "do_" + re.sub("^(Bias|Z)Spectr", "Spectr", name).replace(".", "_"), None)
        results = command.empty_results()
        try:
            with self._lock:
                results |= (method(**arguments) if method else None) or {}
        except RefusalError as exc:
            return encode_response(name, command.encode_results(command.empty_results()), str(exc))
        return encode_response(name, command.encode_results(results))

    # ------------------------------------------------------------------ what it does

    def do_Util_VersionGet(self):
        return {"product_line": "scripted", "version": "1", "rt_engine_release": 13742}

    def do_Signals_NamesGet(self):
        return {"signals_names": SIGNALS}

    def do_Signals_RangeGet(self, signal_index):
        if signal_index not in RANGES:
            raise RefusalError("no range")
        high, low = RANGES[signal_index]
        return {"maximum_limit": high, "minimum_limit": low}

    def do_Signals_ValsGet(self, signals_indexes, wait_for_newest_data):
        return {"signals_values": [float(self._signal(index)) for index in signals_indexes]}

    def _signal(self, index: int) -> float:
        values = self.values
        return {0: 1e-12, 1: values["bias_value"], 2: values["x"], 3: values["y"], 4: values["z_position"]}.get(
            index, 7
        )

    def do_Piezo_RangeGet(self):
        return {"range_x": 1e-6, "range_y": 2e-6, "range_z": 2e-7}

    def do_Bias_Get(self):
        return {"bias_value": self.values["bias_value"]}

    def do_Bias_Set(self, bias_value):
        self.values["bias_value"] = bias_value

    def do_FolMe_XYPosGet(self, wait_for_newest_data):
        return {"x": self.values["x"], "y": self.values["y"]}

    def do_FolMe_XYPosSet(self, x, y, wait_end_of_move):
        self.values |= {"x": x, "y": y}

    def do_ZCtrl_ZPosGet(self):
        return {"z_position": self.values["z_position"]}

    def do_ZCtrl_ZPosSet(self, z_position):
        if self.values["on"]:
            raise RefusalError("the z-controller is on")
        self.values["z_position"] = z_position

    def do_ZCtrl_LimitsEnabledGet(self):
        return {"limit_z_status": 1}

    def do_ZCtrl_LimitsGet(self):
        return {"z_high_limit": TOP, "z_low_limit": 0.0}

    def do_ZCtrl_OnOffGet(self):
        return {"z_controller_status": self.values["on"]}

    def do_ZCtrl_OnOffSet(self, z_controller_status):
        self.values["on"] = z_controller_status

    def do_ZCtrl_CtrlListGet(self):
        return {"list_of_controllers": ("Current", "Freq. Shift"), "active_z_controller_index": self.values["active"]}

    def do_ZCtrl_ActiveCtrlSet(self, z_controller_index):
        self.values["active"] = z_controller_index

    def do_ZCtrl_SetpntGet(self):
        return {"z_controller_setpoint": self.values["setpoints"][self.values["active"]]}

    def do_ZCtrl_SetpntSet(self, z_controller_setpoint):
        self.values["setpoints"][self.values["active"]] = z_controller_setpoint

    def do_ZCtrl_Withdraw(self, wait_until_finished, timeout):
        self.values |= {"on": 0, "z_position": TOP}

    def do_AutoApproach_OnOffSet(self, on_off):
        self.values["approaching"] = self.approach_takes if on_off else 0

    def do_AutoApproach_OnOffGet(self):
        if not self.values["approaching"]:
            return {"status": 0}
        self.values["approaching"] -= 1
        if not self.values["approaching"]:
            self.values |= {"on": 1, "z_position": 40e-9}
        return {"status": 1}

    def do_SafeTip_OnOffGet(self):
        return {"safe_tip_status": self.values["safe_tip"]}

    def do_Scan_FrameSet(self, **frame):
        self.values["frame"] = frame

    def do_Scan_FrameGet(self):
        return self.values["frame"]

    def do_Scan_BufferSet(self, channel_indexes, pixels, lines):
        self.values |= {"channel_indexes": channel_indexes, "pixels": pixels, "lines": lines}

    def do_Scan_BufferGet(self):
        return {name: self.values[name] for name in ("channel_indexes", "pixels", "lines")}

    def do_Scan_SpeedSet(self, **speed):
        self.values["speed"] = speed

    def do_Scan_SpeedGet(self):
        return self.values["speed"]

    def do_Scan_Action(self, scan_action, scan_direction):
        if scan_action == 0:
            self.scans += 1
            self.line = 0
            self.stopped = False
            shape = (self.values["lines"], self.values["pixels"])
            if not self.keeps_rows or self.buffer.shape != shape:
                self.buffer = np.full(shape, np.nan, np.float32)
        else:
            self.stopped = True

    def _runs(self) -> bool:
        end = self.buffer.shape[0] if self.ends_after is None else self.ends_after
        return self.scans > 0 and self.line < end and not self.stopped

    def do_Scan_StatusGet(self):
        runs = self._runs()
        if runs:
            self.buffer[self.line] = self.scans * 1000 + 10 * self.line + np.arange(self.buffer.shape[1])
            self.line += SCANNED_BY_A_LOOK
        return {"scan_status": int(runs)}

    def do_Scan_WaitEndOfScan(self, timeout):
        return {"timeout_status": 1}

    def do_Scan_FrameDataGrab(self, channel_index, data_direction):
        # Told apart by channel and direction; pixels in the order in which they are measured.
        return {"channel_name": SIGNALS[channel_index], "scan_data": self.buffer + channel_index * 1e5 + data_direction}

    def do_Spectr_PropsSet(self, number_of_points, **props):
        self.values["points"] = number_of_points

    def do_Spectr_PropsGet(self):
        return {"number_of_points": self.values["points"]}

    def do_Spectr_ChsSet(self, channel_indexes):
        self.values["spectrum_channels"] = channel_indexes

    def do_Spectr_LimitsSet(self, start_value, end_value):
        self.values["sweep"] = (start_value, end_value)

    def do_Spectr_RangeSet(self, z_offset, z_sweep_distance):
        self.values["sweep"] = (z_offset, z_offset + z_sweep_distance)

    def do_Spectr_Start(self, get_data, save_base_name):
        swept = np.linspace(*self.values["sweep"], self.values["points"])
        indexes = self.values["spectrum_channels"].tolist()
        # With notes, and not in the order in which they were asked for.
        names = [SIGNALS[index].replace(" (", " [00001] [bwd] (") for index in reversed(indexes)]
        rows = [swept, *(index + swept for index in reversed(indexes))]
        return {"channels_names": ("What is swept", *names), "data": np.array(rows, np.float32)}


def _take(connected: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connected.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


# ---------------------------------------------------------------------- a driver for it


def quick(controller: ScriptedController, **options: Any) -> Nanonis:
    """Make a driver that is not open yet, and does not take its time."""
    fast = {"vertical_speed": 1e-6, "lateral_speed": 1e-6, "timeout": 1.0, "motor": True, "ports": controller.ports}
    return Nanonis(**fast | options)


def acquire(driver: Nanonis, request: ScanRequest | SpectroscopyRequest | PathRequest) -> np.ndarray:
    """Acquire to the end; traces (traces, channels, samples)."""
    sink = Sink()
    begin = {"scan": driver.start_scan, "path": driver.start_path, "spectroscopy": driver.start_spectroscopy}
    begin[request.kind](request, sink)  # type: ignore[operator]
    while driver.poll():
        pass
    return np.array(sink.traces)


# ---------------------------------------------------------------------- faults


def cut(connected: socket.socket, name: str, answer: bytes) -> None:
    """Close the connection instead of answering."""
    connected.shutdown(socket.SHUT_RDWR)


def half_header(connected: socket.socket, name: str, answer: bytes) -> None:
    """Close it within the header."""
    connected.sendall(answer[:20])
    connected.shutdown(socket.SHUT_RDWR)


def half_body(connected: socket.socket, name: str, answer: bytes) -> None:
    """Say nothing more within the body."""
    connected.sendall(answer[:-3])


def silence(connected: socket.socket, name: str, answer: bytes) -> None:
    """Say nothing at all."""


def drip(connected: socket.socket, name: str, answer: bytes) -> None:
    """Send byte after byte, each in time."""
    for byte in answer:
        connected.sendall(bytes([byte]))
        time.sleep(0.02)


def garbage(connected: socket.socket, name: str, answer: bytes) -> None:
    """Send what is no answer."""
    connected.sendall(bytes(np.random.default_rng(7).integers(0, 256, 200, np.uint8)))


def another_answer(connected: socket.socket, name: str, answer: bytes) -> None:
    """Answer what was not asked."""
    connected.sendall(encode_response("Current.BEEMGet", bytes(4)))


def huge(connected: socket.socket, name: str, answer: bytes) -> None:
    """Announce two gigabytes."""
    connected.sendall(name.encode().ljust(32, b"\0") + struct.pack(">iI", 2**31 - 1, 0))


def short_results(connected: socket.socket, name: str, answer: bytes) -> None:
    """Leave the last bytes out, and say so in the header."""
    body = answer[HEADER_SIZE:-5]
    connected.sendall(name.encode().ljust(32, b"\0") + struct.pack(">iI", len(body), 0) + body)


def refusal(connected: socket.socket, name: str, answer: bytes) -> None:
    """Refuse, with a reason."""
    command = COMMANDS[name]
    connected.sendall(encode_response(name, command.encode_results(command.empty_results()), "the moon is full"))


def silent_refusal(connected: socket.socket, name: str, answer: bytes) -> None:
    """Refuse without one."""
    command = COMMANDS[name]
    connected.sendall(encode_response(name, command.encode_results(command.empty_results()), status=1))


LOSING: tuple[Fault, ...] = (
    cut,
    half_header,
    half_body,
    silence,
    drip,
    garbage,
    another_answer,
    huge,
    short_results,
)
"""After these nobody knows what was done."""

REFUSING: tuple[Fault, ...] = (refusal, silent_refusal)
"""After these the connection is as good as before."""
