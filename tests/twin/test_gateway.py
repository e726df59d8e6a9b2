"""The Nanonis gateway in front of an instrument that records where its tip is: what each command does."""

import logging
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import twinscope
from tests.conftest import RampDriver, until
from tests.twin.nanonis_wire import RefusedError, WireClient
from twinscope.errors import ConfigurationError, LeaseError, TwinscopeError
from twinscope.gateway import NanonisGateway
from twinscope.gateway.modules import HANDLERS
from twinscope.interlocks import Interlocks
from twinscope.local import LocalTransport
from twinscope.nanonis_protocol import COMMANDS, HEADER_SIZE, ErrorDialect, encode_request
from twinscope.requests import Sweep
from twinscope.service import Service
from twinscope.sessions import Role
from twinscope.state import TipState

# Of the channels of the ramp driver in the list of signals.
AT_X, AT_Y, AT_Z = 91, 92, 93
BIAS, CURRENT, X, Y, Z = 24, 0, 27, 28, 30
TASKS = ("nanonis the approach", "nanonis the bias spectroscopy")
RULES = {"allow": ("pulse", "tip_shaping"), "trips": {"current": (None, 1e-9)}}


@dataclass
class Bench:
    """An instrument behind a gateway, a client of each, and the driver."""

    driver: RampDriver
    gateway: NanonisGateway
    scope: twinscope.Microscope

    def connect(self, port: int = 0) -> WireClient:
        return WireClient(self.gateway.ports[port])


@pytest.fixture
def bench(instrument: Callable[..., Any]) -> Iterator[Callable[..., Bench]]:
    """Start gateways, which end with the test."""
    started: list[NanonisGateway] = []

    def start(driver: RampDriver | None = None, **options: Any) -> Bench:
        driver = driver or RampDriver()
        one = instrument(driver, **RULES)
        scope = twinscope.Microscope(transport=LocalTransport(one))
        assert scope.wait_ready(5)
        gateway = NanonisGateway(Service(one), (0, 0), interlocks=Interlocks.from_dict(RULES), **options)
        gateway.start()
        started.append(gateway)
        return Bench(driver, gateway, scope)

    yield start
    for gateway in started:
        gateway.close()


@pytest.fixture
def client(bench: Callable[..., Bench]) -> Iterator[WireClient]:
    with bench().connect() as connected:
        yield connected


def prepare_scan(client: WireClient, *, pixels: int = 3, lines: int = 2, angle: float = 0.0, time: float = 1.0) -> None:
    client("Scan.FrameSet", center_x=1e-8, center_y=2e-8, width=6e-9, height=4e-9, angle=angle)
    client("Scan.BufferSet", channel_indexes=[AT_X, AT_Y], pixels=pixels, lines=lines)
    client(
        "Scan.SpeedSet",
        forward_linear_speed=0,
        backward_linear_speed=0,
        forward_time_per_line=time,
        backward_time_per_line=time,
        keep_parameter_constant=2,
        speed_ratio=1,
    )


# ---------------------------------------------------------------------- values


def test_what_is_set_is_what_the_script_wrote_and_is_told_back(bench) -> None:
    b = bench()
    with b.connect() as client:
        client("Bias.Set", bias_value=0.3)
        # Not 0.30000001192..., which is what a float32 is.
        assert b.driver.signals["bias"] == 0.3
        assert client("Bias.Get")["bias_value"] == np.float32(0.3)
        client("ZCtrl.SetpntSet", z_controller_setpoint=2e-11)
        assert b.driver.signals["setpoint_current"] == 2e-11
        assert client("ZCtrl.SetpntGet")["z_controller_setpoint"] == np.float32(2e-11)
        # A limit that was told can be set.
        high = client("ZCtrl.LimitsGet")["z_high_limit"]
        client("ZCtrl.ZPosSet", z_position=high)
        assert b.driver.position.z == 1e-6


def test_signals_have_their_nanonis_names_and_places(client: WireClient) -> None:
    names = client("Signals.NamesGet")["signals_names"]
    assert len(names) == 128
    assert (names[CURRENT], names[BIAS], names[X], names[Y], names[Z]) == (
        "Current (A)",
        "Bias (V)",
        "X (m)",
        "Y (m)",
        "Z (m)",
    )
    assert names[AT_X] == "at_x (m)"
    # Clients build the length of a text from its bytes as decimals.
    assert all(len(name.encode()) < 100 for name in names)
    assert client("Signals.ValGet", signal_index=BIAS, wait_for_newest_data=1)["signal_value"] == np.float32(0.1)
    values = client("Signals.ValsGet", signals_indexes=[Z, CURRENT], wait_for_newest_data=0)["signals_values"]
    assert values.tolist() == [np.float32(1e-9), np.float32(1e-12)]
    assert client("Signals.RangeGet", signal_index=BIAS) == {"maximum_limit": 10.0, "minimum_limit": -10.0}


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("Bias.Set", {"bias_value": 11}, "bias = 11 V is outside its range of -10 to 10 V"),
        ("Bias.Set", {"bias_value": float("nan")}, "bias is nan: expected a finite number"),
        ("Signals.ValGet", {"signal_index": 5, "wait_for_newest_data": 0}, "no signal with the index 5"),
        ("Signals.ValGet", {"signal_index": AT_X, "wait_for_newest_data": 0}, "only while it is recorded"),
        ("Signals.RangeGet", {"signal_index": CURRENT}, "the range of Current (A) is not known"),
        ("ZCtrl.OnOffSet", {"z_controller_status": 2}, "z_controller_status is 2: expected 0 to 1"),
        ("ZCtrl.ActiveCtrlSet", {"z_controller_index": 1}, "z_controller_index is 1: expected 0 to 0"),
        ("ZCtrl.LimitsSet", {"z_high_limit": 1e-9, "z_low_limit": 0}, "rules of the interlocks"),
        ("ZCtrl.GainSet", {"p_gain": 1, "time_constant": 1, "i_gain": 1}, "'proportional_current' cannot be set"),
        ("FolMe.XYPosSet", {"x": 1.0, "y": 0.0, "wait_end_of_move": 1}, "x = 1 m is outside its range"),
        ("FolMe.SpeedSet", {"speed": 1.0, "custom_speed": 1}, "speed = 1 m/s is outside its range"),
        ("Scan.BufferSet", {"channel_indexes": [BIAS], "pixels": 8, "lines": 8}, "cannot be recorded"),
        ("Scan.BufferSet", {"channel_indexes": [AT_X], "pixels": -8, "lines": 8}, "pixels is -8"),
        ("Scan.BufferSet", {"channel_indexes": [AT_X], "pixels": 2**20, "lines": 2**20}, "at most 67108864 in all"),
        (
            "Scan.FrameSet",
            {"center_x": 0, "center_y": 0, "width": 1, "height": 1, "angle": 0},
            "is outside its range",
        ),
        ("Scan.Action", {"scan_action": 2, "scan_direction": 1}, "there is no scan to pause"),
        ("Scan.FrameDataGrab", {"channel_index": BIAS, "data_direction": 1}, "cannot be recorded"),
        ("Motor.StartMove", {"direction": 9, "number_of_steps": 1, "group": 0, "wait_until_finished": 1}, "0 to 5"),
        (
            "Motor.StartMove",
            {"direction": 5, "number_of_steps": 1, "group": 0, "wait_until_finished": 1},
            "withdraw it first",
        ),
        ("PLL.FreqShiftGet", {"modulator_index": 1}, "measures no frequency shift"),
        ("LockIn.ModOnOffSet", {"modulator_number": 1, "lock_in_on_off": 1}, "has no lock-in amplifier"),
        ("Piezo.TiltSet", {"tilt_x": 1, "tilt_y": 0}, "correction of the tilt is not possible"),
        ("SafeTip.OnOffSet", {"safe_tip_status": 2}, "rules of the interlocks"),
        ("Util.Lock", {}, "Util.Lock is not supported"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason_and_full_results(
    client: WireClient, name: str, arguments: dict[str, Any], text: str
) -> None:
    client.send(name, **arguments)
    results, status, said = client.receive(name)
    assert status == 1
    assert text in said
    # Clients read them before they look for the error.
    empty = COMMANDS[name].empty_results()
    assert results.keys() == empty.keys()
    assert all(np.array_equal(results[key], empty[key]) for key in empty)


def test_every_command_that_nobody_carries_out_is_answered_in_its_form(client: WireClient) -> None:
    others = [command for name, command in COMMANDS.items() if name not in HANDLERS]
    assert len(others) > 300
    for command in others:
        client.socket.sendall(encode_request(command.name, b""))
        results, status, text = client.receive(command.name)
        assert status == 1
        assert text.startswith(f"{command.name} is not supported: ")
        assert results.keys() == command.empty_results().keys()
    assert client("Bias.Get")


def test_a_command_with_a_wrong_body_is_refused_and_the_next_one_is_understood(client: WireClient) -> None:
    for name, body in (("Bias.Set", b"\0"), ("Scan.BufferSet", b"\xff" * 12), ("Bias.Get", b"too much")):
        client.socket.sendall(encode_request(name, body))
        _, status, text = client.receive(name)
        assert (status, text.split(":")[0]) == (1, name)
    client.socket.sendall(encode_request("No.Such", b"1234"))
    assert b"there is no command 'No.Such'" in client.read(struct.unpack(">i", client.read(HEADER_SIZE)[32:36])[0])
    assert client("Bias.Get")["bias_value"] == np.float32(0.1)


def test_a_body_that_ends_early_is_answered(client: WireClient) -> None:
    # What a client sends that leaves out the leading zeros of a number.
    client.socket.sendall(encode_request("Bias.Set", struct.pack(">f", 1e-39))[:-1])
    _, status, text = client.receive("Bias.Set")
    assert status == 1
    assert "Bias.Set" in text
    assert client("Bias.Get")


def test_no_response_is_sent_to_who_wants_none(client: WireClient) -> None:
    client.send("Bias.Set", respond=False, bias_value=0.5)
    assert client("Bias.Get")["bias_value"] == 0.5


def test_the_long_dialect_has_a_code_between_status_and_size(bench) -> None:
    with bench(dialect=ErrorDialect.LONG).connect() as client:
        client.socket.sendall(encode_request("Util.Lock", b""))
        body = client.read(struct.unpack(">i", client.read(HEADER_SIZE)[32:36])[0])
        status, _, size = struct.unpack(">Iii", body[:12])
        assert status == 1
        assert body[12:].decode().startswith("Util.Lock is not supported")
        assert size == len(body) - 12


# ---------------------------------------------------------------------- moving


def test_follow_me_moves_with_its_speed_or_with_that_of_the_scan(bench) -> None:
    b = bench()
    with b.connect() as client:
        client("FolMe.SpeedSet", speed=3e-8, custom_speed=1)
        client("FolMe.XYPosSet", x=1e-8, y=-2e-8, wait_end_of_move=1)
        assert client("FolMe.XYPosGet", wait_for_newest_data=1) == {"x": 1e-8, "y": -2e-8}
        assert b.driver.calls[-1] == ("move_to", 1e-8, -2e-8, 1e-9, 3e-8)
        prepare_scan(client, time=2.0)
        client("FolMe.SpeedSet", speed=0, custom_speed=0)
        client("FolMe.XYPosSet", x=0.0, y=0.0, wait_end_of_move=1)
        assert b.driver.calls[-1] == ("move_to", 0.0, 0.0, 1e-9, 3e-9)
        recorded = client("TipRec.DataGet")
        assert recorded["channel_indexes"].tolist()[:3] == [X, Y, Z]
        assert recorded["data"][0, -1] == 0
        client("TipRec.BufferClear")
        assert client("TipRec.DataGet")["data"].shape == (len(recorded["channel_indexes"]), 0)


def test_a_move_can_be_left_alone_and_stopped_from_another_port(bench) -> None:
    b = bench(RampDriver(rate=0.1))
    with b.connect(0) as client, b.connect(1) as other:
        client("FolMe.XYPosSet", x=1e-8, y=0.0, wait_end_of_move=0)
        # It takes a second; meanwhile everything can be looked at.
        assert other("Signals.ValGet", signal_index=BIAS, wait_for_newest_data=0)["signal_value"] == np.float32(0.1)
        other("FolMe.Stop")
        assert other("FolMe.XYPosGet", wait_for_newest_data=0)["x"] == 0
        client.send("FolMe.XYPosSet", x=1e-8, y=0.0, wait_end_of_move=1)
        until(lambda: b.scope.state().job is not None)
        other("FolMe.Stop")
        assert client.receive("FolMe.XYPosSet")[2].startswith("the move to")


def test_a_command_waits_for_a_move_that_nobody_waits_for_but_not_for_a_scan(bench) -> None:
    b = bench(RampDriver(rate=0.5))
    with b.connect() as client:
        client("FolMe.XYPosSet", x=1e-8, y=0.0, wait_end_of_move=0)
        client("Bias.Set", bias_value=1)
        assert b.driver.position.x == 1e-8
        prepare_scan(client)
        client("Scan.Action", scan_action=0, scan_direction=1)
        with pytest.raises(RefusedError, match=r"the instrument is busy with .*-scan"):
            client("Bias.Set", bias_value=2)
        client("Scan.Action", scan_action=1, scan_direction=1)


def test_the_z_controller_is_switched_with_lift_and_delay(bench) -> None:
    b = bench()
    with b.connect() as client:
        assert client("ZCtrl.CtrlListGet") == {
            "list_of_controllers": ("log Current",),
            "active_z_controller_index": 0,
        }
        client("ZCtrl.OnOffSet", z_controller_status=1)
        assert b.driver.feedback == "constant_current"
        assert client("ZCtrl.OnOffGet")["z_controller_status"] == 1
        assert client("ZCtrl.StatusGet")["z_controller_status"] == 2
        with pytest.raises(RefusedError, match="while the z-controller is on"):
            client("ZCtrl.ZPosSet", z_position=0)
        client("ZCtrl.TipLiftSet", tip_lift=5e-10)
        client("ZCtrl.SwitchOffDelaySet", z_controller_switch_off_delay=0.02)
        client("ZCtrl.OnOffSet", z_controller_status=0)
        assert b.driver.feedback == "off"
        assert b.driver.position.z == pytest.approx(1.5e-9)
        client("ZCtrl.HomePropsSet", relative_or_absolute=2, home_position=1e-9)
        client("ZCtrl.Home")
        assert client("ZCtrl.ZPosGet")["z_position"] == pytest.approx(2.5e-9)


def test_approach_ends_with_the_z_controller_on_and_withdraw_with_it_off(bench) -> None:
    b = bench()
    with b.connect() as client:
        client("ZCtrl.Withdraw", wait_until_finished=1, timeout=-1)
        assert b.driver.tip is TipState.WITHDRAWN
        client("AutoApproach.Open")
        client("AutoApproach.OnOffSet", on_off=1)
        until(lambda: client("AutoApproach.OnOffGet")["status"] == 0)
        assert b.driver.tip is TipState.IN_RANGE
        assert client("ZCtrl.OnOffGet")["z_controller_status"] == 1


def test_a_wait_that_is_too_short_says_so_and_what_was_begun_goes_on(bench) -> None:
    b = bench(RampDriver(rate=0.2))
    with b.connect() as client:
        with pytest.raises(RefusedError, match=r"withdraw was not over after 0\.05 s: it goes on"):
            client("ZCtrl.Withdraw", wait_until_finished=1, timeout=50)
        assert client("ZCtrl.StatusGet")["z_controller_status"] == 6
        until(lambda: b.driver.tip is TipState.WITHDRAWN)


@pytest.mark.parametrize("begin", ["AutoApproach", "BiasSpectr"])
def test_nothing_that_was_begun_brings_a_withdrawn_tip_back(bench, begin: str) -> None:
    b = bench(RampDriver(rate=0.5))
    with b.connect(0) as client, b.connect(1) as other:
        client("ZCtrl.OnOffSet", z_controller_status=1)
        client("ZCtrl.TipLiftSet", tip_lift=0)
        if begin == "AutoApproach":
            client("AutoApproach.OnOffSet", on_off=1)
        else:
            client("BiasSpectr.Start", get_data=0, save_base_name="")
        until(lambda: b.scope.state().job is not None)
        other("ZCtrl.Withdraw", wait_until_finished=1, timeout=-1)
        until(lambda: not [one for one in threading.enumerate() if one.name in TASKS])
        # The last is the withdrawal: nothing comes after it.
        name, *where = [call for call in b.driver.calls if call[0] in ("move_to", "set_feedback")][-1]
        assert (name, where[2]) == ("move_to", 1e-6)
        assert b.driver.tip is TipState.WITHDRAWN


def test_pulses_and_the_tip_shaper_hold_the_z_controller(bench) -> None:
    b = bench()
    pulse = {"wait_until_done": 1, "bias_pulse_width": 0.02, "z_controller_on_hold": 1}
    with b.connect() as client:
        client("ZCtrl.OnOffSet", z_controller_status=1)
        b.driver.calls.clear()
        client("Bias.Pulse", bias_value=2, pulse_absolute_relative=1, **pulse)
        assert b.driver.calls == [
            ("set_feedback", "off"),
            ("pulse", 2.1, 0.02),
            ("set_feedback", "constant_current"),
        ]
        with pytest.raises(RefusedError, match="pulse_voltage = 20 V is outside"):
            client("Bias.Pulse", bias_value=20, pulse_absolute_relative=2, **pulse)
        assert len(b.driver.calls) == 3
        settings = client("TipShaper.PropsGet")
        client("TipShaper.PropsSet", **settings | {"tip_lift": -2e-9, "bias_lift": 1.5, "restore_feedback": 2})
        client("TipShaper.Start", wait_until_finished=1, timeout=-1)
        assert b.driver.calls[3:] == [("shape_tip", 2e-9, 1.5), ("set_feedback", "off")]


def test_the_coarse_motor_goes_away_from_the_sample_with_z_plus(bench) -> None:
    b = bench()
    with b.connect() as client:
        client("Motor.StartMove", direction=4, number_of_steps=7, group=0, wait_until_finished=1)
        assert b.driver.calls[-1] == ("coarse_move", "z", 7)
        client("ZCtrl.Withdraw", wait_until_finished=1, timeout=-1)
        client("Motor.StartMove", direction=1, number_of_steps=3, group=0, wait_until_finished=1)
        assert b.driver.calls[-1] == ("coarse_move", "x", -3)


# ---------------------------------------------------------------------- scans


@pytest.mark.parametrize("direction", [0, 1], ids=["down", "up"])
def test_a_frame_is_grabbed_in_the_order_in_which_it_was_measured(bench, direction: int) -> None:
    b = bench()
    with b.connect() as client:
        prepare_scan(client)
        client("Scan.Action", scan_action=0, scan_direction=direction)
        ended = client("Scan.WaitEndOfScan", timeout=-1)
        assert ended["timeout_status"] == 0
        assert ended["file_path"].endswith("-scan.h5")
        xs, ys = np.float32([8e-9, 1e-8, 1.2e-8]), np.float32([1.9e-8, 2.1e-8])
        rows = ys if direction else ys[::-1]
        forward = client("Scan.FrameDataGrab", channel_index=AT_X, data_direction=1)
        assert forward["channel_name"] == "at_x (m)"
        assert forward["scan_direction"] == direction
        np.testing.assert_allclose(forward["scan_data"], [xs, xs], rtol=1e-6)
        grabbed = client("Scan.FrameDataGrab", channel_index=AT_Y, data_direction=1)["scan_data"]
        np.testing.assert_allclose(grabbed, np.repeat(rows[:, None], 3, axis=1), rtol=1e-6)
        # The ramp driver marks the way back by a millimetre.
        backward = client("Scan.FrameDataGrab", channel_index=AT_X, data_direction=0)["scan_data"]
        np.testing.assert_allclose(backward, [xs[::-1] + 1e-3] * 2, rtol=1e-6)
        own = b.scope.current_acquisition().partial()
        assert np.array_equal(own["at_x"].values[:: 1 if direction else -1], forward["scan_data"])


def test_the_buffer_has_the_scans_of_others_too(bench) -> None:
    b = bench(RampDriver(rate=10))
    frame = twinscope.ScanFrame(size=(1e-9, 1e-9))
    with b.connect() as client:
        with b.scope.control():
            stack = b.scope.scan(frame=frame, pixels=(4, 3), channels=["at_z"], heights=[2e-9, 1e-9], line_time=0.5)
            assert client("Scan.StatusGet")["scan_status"] == 1
            client("Scan.WaitEndOfScan", timeout=-1)
        data = client("Scan.FrameDataGrab", channel_index=AT_Z, data_direction=1)["scan_data"]
        assert np.array_equal(data, stack.result()["at_z"].values[1])
        with pytest.raises(RefusedError, match="no channel 'at_z_backward' was recorded"):
            client("Scan.FrameDataGrab", channel_index=AT_Z, data_direction=0)
        with pytest.raises(RefusedError, match="at_x is not recorded by the scan: it records at_z"):
            client("Scan.FrameDataGrab", channel_index=AT_X, data_direction=1)


def test_the_angle_of_a_frame_counts_clockwise(bench) -> None:
    b = bench()
    with b.connect() as client:
        prepare_scan(client, angle=30)
        assert client("Scan.FrameGet")["angle"] == 30
        client("Scan.Action", scan_action=0, scan_direction=1)
        client("Scan.WaitEndOfScan", timeout=-1)
        assert b.scope.current_acquisition().request.frame.angle == -30
        client("Scan.FrameSet", center_x=0, center_y=0, width=1e-9, height=1e-9, angle=0)
        assert str(client("Scan.FrameGet")["angle"]) == "0.0"


def test_lines_that_are_not_yet_scanned_are_nan_and_a_scan_can_be_paused_and_stopped(bench) -> None:
    b = bench(RampDriver(rate=20))
    with b.connect(0) as client, b.connect(1) as other:
        prepare_scan(client, lines=50)
        before = client("Scan.FrameDataGrab", channel_index=AT_X, data_direction=1)
        assert before["scan_data"].shape == (50, 3)
        assert np.isnan(before["scan_data"]).all()
        client("Scan.Action", scan_action=0, scan_direction=1)
        assert client("Scan.WaitEndOfScan", timeout=10) == {"timeout_status": 1, "file_path": ""}
        assert client("Scan.StatusGet")["scan_status"] == 1

        def scanned() -> int:
            data = other("Scan.FrameDataGrab", channel_index=AT_X, data_direction=1)["scan_data"]
            known = ~np.isnan(data).any(axis=1)
            # They are known from the first on.
            assert (np.diff(known.astype(int)) <= 0).all()
            return int(known.sum())

        until(lambda: scanned() >= 2)
        client.send("Scan.WaitEndOfScan", timeout=-1)
        other("Scan.Action", scan_action=2, scan_direction=1)
        until(lambda: b.scope.state().status == "paused")
        resting = scanned()
        other("Scan.Action", scan_action=3, scan_direction=1)
        until(lambda: scanned() > resting)
        other("Scan.Action", scan_action=1, scan_direction=1)
        # Who waits hears of it as of an end.
        results, status, _ = client.receive("Scan.WaitEndOfScan")
        assert (results["timeout_status"], status) == (0, 0)
        assert other("Scan.StatusGet")["scan_status"] == 0
        assert 0 < scanned() < 50
        assert b.scope.current_acquisition().progress().state == "aborted"


def test_a_continuous_bouncy_scan_goes_on_the_other_way_until_it_is_stopped(bench) -> None:
    b = bench(RampDriver(rate=100))
    props = {"autosave": 3, "series_name": "night", "comment": "", "modules_names": ()}
    with b.connect() as client:
        prepare_scan(client, lines=5)
        client("Scan.PropsSet", continuous_scan=1, bouncy_scan=1, **props)
        client("Scan.Action", scan_action=0, scan_direction=1)
        assert client("Scan.WaitEndOfScan", timeout=-1)["file_path"] == ""
        until(lambda: len(b.scope.jobs()) >= 4)
        client("Scan.Action", scan_action=1, scan_direction=1)
        ways = [b.scope.acquisition(job["id"]).request.slow_direction for job in b.scope.jobs()]
        assert ways[:4] == ["up", "down", "up", "down"]
        assert client("Scan.StatusGet")["scan_status"] == 0
        assert client("Scan.PropsGet") == {
            "continuous_scan": 1,
            "bouncy_scan": 1,
            "autosave": 2,
            "series_name": "night",
            "comment": "",
        }


def test_the_z_mode_of_a_scan_is_what_the_z_controller_does(bench) -> None:
    b = bench()
    with b.connect() as client:
        prepare_scan(client)
        for status, mode in ((0, "constant_height"), (1, "constant_current")):
            client("ZCtrl.OnOffSet", z_controller_status=status)
            client("Scan.Action", scan_action=0, scan_direction=1)
            client("Scan.WaitEndOfScan", timeout=-1)
            assert b.scope.current_acquisition().request.z_mode == mode


def test_the_speed_is_kept_or_the_time_per_line(bench) -> None:
    with bench().connect() as client:
        prepare_scan(client, time=2.0)
        speed = client("Scan.SpeedGet")
        assert speed["forward_linear_speed"] == np.float32(3e-9)
        assert speed["keep_parameter_constant"] == 1
        client("Scan.SpeedSet", **speed | {"forward_linear_speed": 2e-9, "keep_parameter_constant": 1})
        client("Scan.FrameSet", center_x=0, center_y=0, width=8e-9, height=4e-9, angle=0)
        assert client("Scan.SpeedGet")["forward_time_per_line"] == 4
        with pytest.raises(RefusedError, match="speed ratio of 2 is not possible"):
            client("Scan.SpeedSet", **speed | {"speed_ratio": 2})
        client("Scan.BufferSet", channel_indexes=[AT_X], pixels=6, lines=0)
        assert client("Scan.BufferGet")["lines"] == 4


def test_a_scan_that_fails_says_why_to_who_waits_for_it(bench) -> None:
    class Failing(RampDriver):
        def poll(self) -> bool:
            raise TwinscopeError("the piezo is hot")

    with bench(Failing()).connect() as client:
        prepare_scan(client)
        client("Scan.Action", scan_action=0, scan_direction=1)
        with pytest.raises(RefusedError, match="the piezo is hot"):
            client("Scan.WaitEndOfScan", timeout=-1)


# ---------------------------------------------------------------------- spectroscopies


def test_z_spectroscopy_sweeps_from_where_the_tip_is_and_returns(bench) -> None:
    b = bench()
    with b.connect() as client:
        client("ZCtrl.OnOffSet", z_controller_status=1)
        client("ZSpectr.Open")
        client("ZSpectr.ChsSet", channel_indexes=[AT_Z])
        client("ZSpectr.RangeSet", z_offset=1e-10, z_sweep_distance=4e-10)
        props = client("ZSpectr.PropsGet")
        wanted = {"number_of_points": 5, "number_of_sweeps": 3, "backward_sweep": 1}
        kept = dict.fromkeys(("autosave", "show_save_dialog", "save_all"), 0)
        client("ZSpectr.PropsSet", **wanted, **kept)
        got = client("ZSpectr.Start", get_data=1, save_base_name="")
        assert got["channels_names"] == ("Z rel (m)", "at_z (m)", "at_z [bwd] (m)")
        relative = np.linspace(1e-10, 5e-10, 5)
        np.testing.assert_allclose(got["data"][0], relative, rtol=1e-5)
        # The way back is in the order of the way there.
        np.testing.assert_allclose(got["data"][1:], [1e-9 + relative] * 2, rtol=1e-5)
        names = props["fixed_parameters"] + props["parameters"]
        assert dict(zip(names, got["parameters"], strict=True))["Z (m)"] == np.float32(1e-9)
        assert client("ZCtrl.OnOffGet")["z_controller_status"] == 1
        assert client("ZSpectr.StatusGet")["status"] == 0
        assert len(b.scope.jobs()) == 3


def test_bias_spectroscopy_is_linear_or_in_segments(bench) -> None:
    b = bench()
    with b.connect() as client:
        client("BiasSpectr.ChsSet", channel_indexes=[AT_X, AT_Z])
        client("BiasSpectr.LimitsSet", start_value=-0.2, end_value=0.2)
        kept = dict.fromkeys(("save_all", "backward_sweep", "autosave", "show_save_dialog"), 0)
        client("BiasSpectr.PropsSet", number_of_sweeps=1, number_of_points=3, z_offset=2e-10, **kept)
        timing = client("BiasSpectr.TimingGet")
        client("BiasSpectr.TimingSet", **timing | {"settling_time": 0.01, "integration_time": 0.03})
        got = client("BiasSpectr.Start", get_data=1, save_base_name="")
        assert got["channels_names"] == ("Bias calc (V)", "at_x (m)", "at_z (m)")
        np.testing.assert_allclose(got["data"][0], [-0.2, 0, 0.2], rtol=1e-6)
        request = b.scope.current_acquisition().request
        assert request.sweep == Sweep(start=-0.2, stop=0.2, points=3)
        assert request.height == pytest.approx(1.2e-9)
        assert request.point_time == pytest.approx(0.04)
        client("BiasSpectr.MLSModeSet", sweep_mode="MLS")
        client(
            "BiasSpectr.MLSValsSet",
            bias_start=[0.0, 1.0],
            bias_end=[1.0, 0.5],
            initial_settling_time=[0.0, 0.0],
            settling_time=[0.0, 0.0],
            integration_time=[0.1, 0.2],
            steps=[2, 3],
            lock_in_run=[0, 0],
        )
        got = client("BiasSpectr.Start", get_data=1, save_base_name="")
        assert got["data"][0].tolist() == [0, 1, 1, 0.75, 0.5]
        assert client("BiasSpectr.MLSValsGet")["steps"].tolist() == [2, 3]


def test_a_spectroscopy_without_data_runs_on_and_can_be_stopped(bench) -> None:
    b = bench(RampDriver(rate=0.1))
    with b.connect() as client:
        client("BiasSpectr.Start", get_data=0, save_base_name="")
        assert client("BiasSpectr.StatusGet")["status"] == 1
        with pytest.raises(RefusedError, match=r"busy|is running already"):
            client("BiasSpectr.Start", get_data=0, save_base_name="")
        client("BiasSpectr.Stop")
        assert client("BiasSpectr.StatusGet")["status"] == 0
        assert b.scope.current_acquisition().progress().state == "aborted"


def test_the_generic_sweeper_sweeps_what_can_be_swept(bench) -> None:
    with bench().connect() as client:
        assert client("GenSwp.SwpSignalGet")["channels_names"] == ("Z (m)", "Bias (V)")
        with pytest.raises(RefusedError, match="a sweep of Current"):
            client("GenSwp.SwpSignalSet", sweep_channel_name="Current (A)")
        client("GenSwp.SwpSignalSet", sweep_channel_name="Bias (V)")
        client("GenSwp.AcqChsSet", channel_indexes=[], channel_names=["at_y (m)"])
        assert client("GenSwp.AcqChsGet")["channel_indexes"].tolist() == [AT_Y]
        client("GenSwp.LimitsSet", lower_limit=-1, upper_limit=1)
        props = client("GenSwp.PropsGet")
        client("GenSwp.PropsSet", **props | {"number_of_steps": 3, "period": 20})
        got = client("GenSwp.Start", get_data=1, sweep_direction=0, save_base_name="", reset_signal=1, z_controller=1)
        assert got["channels_names"] == ("Bias (V)", "at_y (m)")
        assert got["data"][0].tolist() == [1, 0, -1]


@pytest.mark.parametrize(("pattern", "count"), [(1, 6), (2, 4), (3, 2)], ids=["grid", "line", "cloud"])
def test_a_grid_experiment_takes_a_spectrum_at_each_point(bench, pattern: int, count: int) -> None:
    b = bench()
    with b.connect() as client:
        props = client("Pattern.PropsGet")
        del props["list_of_experiments"]
        client("Pattern.PropsSet", basename="", **props | {"selected_experiment": "Z Spectroscopy"})
        grid = {"center_x": 0, "center_y": 0, "width": 6e-9, "height": 2e-9, "angle": 0}
        points = {"number_of_points_in_x": 3, "number_of_points_in_y": 2}
        client("Pattern.GridSet", set_active_pattern=0, grid_is_scan_frame=0, **points, **grid)
        ends = {"line_point_1_x": 0, "line_point_1_y": 0, "line_point_2_x": 3e-9, "line_point_2_y": 0}
        client("Pattern.LineSet", set_active_pattern=0, number_of_points=4, line_is_scan_frame=0, **ends)
        client("Pattern.CloudSet", set_active_pattern=0, x_coordinates=[1e-9, 2e-9], y_coordinates=[0, 1e-9])
        client("Pattern.ExpOpen")
        client("Pattern.ExpStart", pattern=pattern)
        until(lambda: client("Pattern.ExpStatusGet")["status"] == 0)
        positions = b.scope.current_acquisition().request.positions
        assert len(positions) == count
        assert (
            positions[:2]
            == {
                1: ((-2e-9, -5e-10), (0.0, -5e-10)),
                2: ((0.0, 0.0), (pytest.approx(1e-9), 0.0)),
                3: ((1e-9, 0.0), (2e-9, 1e-9)),
            }[pattern]
        )


def test_few_bytes_do_not_ask_for_more_spectra_than_fit_into_the_memory(client: WireClient) -> None:
    many = 2**31 - 1
    grid = {"center_x": 0, "center_y": 0, "width": 6e-9, "height": 2e-9, "angle": 0}
    points = {"number_of_points_in_x": many, "number_of_points_in_y": many}
    with pytest.raises(RefusedError, match="spectra were asked for: expected at most"):
        client("Pattern.GridSet", set_active_pattern=1, grid_is_scan_frame=0, **points, **grid)
    ends = {"line_point_1_x": 0, "line_point_1_y": 0, "line_point_2_x": 3e-9, "line_point_2_y": 0}
    with pytest.raises(RefusedError, match=f"{many} spectra were asked for"):
        client("Pattern.LineSet", set_active_pattern=1, number_of_points=many, line_is_scan_frame=0, **ends)
    client("Pattern.LineSet", set_active_pattern=1, number_of_points=1000, line_is_scan_frame=0, **ends)
    kept = dict.fromkeys(("backward_sweep", "autosave", "show_save_dialog", "save_all"), 0)
    client("BiasSpectr.PropsSet", number_of_points=3, number_of_sweeps=2000, z_offset=0, **kept)
    with pytest.raises(RefusedError, match="2000000 spectra were asked for"):
        client("Pattern.ExpStart", pattern=0)
    client("ZSpectr.PropsSet", number_of_points=many, number_of_sweeps=1, **kept)
    with pytest.raises(RefusedError, match="the data would take"):
        client("ZSpectr.Start", get_data=1, save_base_name="")


def test_oscilloscopes_record_at_the_place_of_the_tip(bench) -> None:
    b = bench()
    with b.connect() as client:
        client("OsciHR.ChSet", channel_index=AT_Z)
        client("OsciHR.SamplesSet", number_of_samples=7)
        client("OsciHR.OversamplSet", oversampling_index=3)
        got = client("OsciHR.OsciDataGet", data_to_get=1, timeout=10.0)
        assert got["timeout"] == 0
        assert got["data_dt"] == 8e-6
        assert got["data_y"].tolist() == [np.float32(1e-9)] * 7
        count = len(b.scope.jobs())
        assert client("OsciHR.OsciDataGet", data_to_get=0, timeout=10.0)["data_t0"] == got["data_t0"]
        assert len(b.scope.jobs()) == count
        client("OsciHR.ChSet", channel_index=AT_X)
        assert client("OsciHR.OsciDataGet", data_to_get=0, timeout=10.0)["data_y"].tolist() == [0] * 7
        client("Osci1T.ChSet", channel_index=AT_X)
        assert len(client("Osci1T.DataGet", data_to_get=1)["data_y"]) == 256


def test_marks_are_kept_hidden_and_erased(client: WireClient) -> None:
    client("Marks.PointDraw", x_coordinate=1e-9, y_coordinate=2e-9, text="here", color=255)
    client("Marks.PointsDraw", x_coordinate=[0, 1], y_coordinate=[2, 3], text=["a", "b"], color=[1, 2])
    ends = ("start_point_x_coordinate", "start_point_y_coordinate", "end_point_x_coordinate", "end_point_y_coordinate")
    client("Marks.LineDraw", **dict.fromkeys(ends, 1), color=3)
    client("Marks.PointsVisibleSet", point_index=0, show_hide=1)
    client("Marks.PointsErase", point_index=1)
    points = client("Marks.PointsGet")
    assert points["text"] == ("here", "b")
    assert points["visible"].tolist() == [0, 1]
    assert client("Marks.LinesGet")["color"].tolist() == [3]
    client("Marks.LinesErase", line_index=-1)
    assert client("Marks.LinesGet")["color"].tolist() == []
    with pytest.raises(RefusedError, match="none with the index 2"):
        client("Marks.PointsErase", point_index=2)


# ---------------------------------------------------------------------- control


def test_the_first_command_that_changes_something_takes_control_and_the_last_client_gives_it_back(bench) -> None:
    b = bench()
    with b.connect(0) as first, b.connect(1) as second:
        second("Bias.Get")
        assert b.scope.state().lease is None
        first("Bias.Set", bias_value=0.2)
        assert b.scope.state().lease["holder"] == "a Nanonis client"
        with pytest.raises(LeaseError, match="held by a Nanonis client"), b.scope.control():
            pass
        second("Bias.Set", bias_value=0.3)
        first.socket.close()
        second("Bias.Set", bias_value=0.4)
        assert b.scope.state().lease is not None
    until(lambda: b.scope.state().lease is None)


def test_who_holds_the_instrument_is_named_to_who_wants_it(bench) -> None:
    b = bench()
    with b.connect() as client, b.scope.control("aligning"):
        with pytest.raises(RefusedError, match=r"held by .* \(aligning\)"):
            client("Bias.Set", bias_value=0.2)
        assert client("Bias.Get")["bias_value"] == np.float32(0.1)


def test_control_that_was_broken_is_told_once_and_taken_anew(bench) -> None:
    b = bench()
    with b.connect() as client:
        client("Bias.Set", bias_value=0.2)
        b.scope.break_control()
        with pytest.raises(RefusedError, match="was broken"):
            client("Bias.Set", bias_value=0.3)
        client("Bias.Set", bias_value=0.3)


def test_clients_that_change_nothing_lose_control_but_not_during_a_scan(bench, monkeypatch) -> None:
    monkeypatch.setattr("twinscope.gateway.operator._LEASE_DURATION", 0.3)
    b = bench(RampDriver(rate=10), idle_time=0.2)
    with b.connect() as client:
        prepare_scan(client, lines=10, time=0.5)
        client("Scan.Action", scan_action=0, scan_direction=1)
        while client("Scan.StatusGet")["scan_status"]:
            assert b.scope.state().lease is not None
            time.sleep(0.05)
        until(lambda: b.scope.state().lease is None)
        client("Bias.Set", bias_value=0.2)
        assert b.scope.state().lease is not None


def test_the_last_step_of_what_an_absent_client_has_begun_does_not_keep_control(bench, monkeypatch) -> None:
    monkeypatch.setattr("twinscope.gateway.operator._LEASE_DURATION", 0.3)
    b = bench(RampDriver(rate=0.5))
    with b.connect() as client:
        client("AutoApproach.OnOffSet", on_off=1)
        until(lambda: b.scope.state().job is not None)
    until(lambda: b.driver.feedback == "constant_current")
    until(lambda: b.scope.state().lease is None)


def test_an_emergency_stop_is_told_to_who_wants_to_go_on(bench) -> None:
    b = bench()
    with b.connect() as client:
        client("Bias.Set", bias_value=0.2)
        b.scope.emergency_stop("smoke")
        assert client("ZCtrl.StatusGet")["z_controller_status"] == 5
        with pytest.raises(RefusedError, match=r"until an operator acknowledges this: emergency stop by .*: smoke"):
            client("Bias.Set", bias_value=0.3)


def test_a_trip_ends_the_scan_and_is_told_to_who_waits_for_it(bench) -> None:
    b = bench(RampDriver(rate=20))
    with b.connect() as client:
        assert client("SafeTip.PropsGet")["threshold"] == np.float32(1e-9)
        prepare_scan(client, lines=50)
        client("Scan.Action", scan_action=0, scan_direction=1)
        b.driver.signals["current"] = 2e-9
        with pytest.raises(RefusedError, match="current reached 2e-09, allowed are -inf to 1e-09"):
            client("Scan.WaitEndOfScan", timeout=-1)
        assert b.driver.tip is TipState.WITHDRAWN


def test_an_observer_looks_and_changes_nothing(bench) -> None:
    with bench(role=Role.OBSERVER).connect() as client:
        assert client("Bias.Get")["bias_value"] == np.float32(0.1)
        with pytest.raises(RefusedError, match="needs the role operator: nanonis is observer"):
            client("Bias.Set", bias_value=0.2)


def test_a_scan_outlives_its_client_and_the_next_one_finds_it(bench) -> None:
    b = bench(RampDriver(rate=20))
    with b.connect() as client:
        prepare_scan(client, lines=20)
        client("Scan.Action", scan_action=0, scan_direction=1)
        client.send("Scan.WaitEndOfScan", timeout=-1)
    until(lambda: b.scope.state().lease is None)
    with b.connect() as client:
        assert client("Scan.StatusGet")["scan_status"] == 1
        client("Scan.WaitEndOfScan", timeout=-1)
        data = client("Scan.FrameDataGrab", channel_index=AT_X, data_direction=1)["scan_data"]
        assert not np.isnan(data).any()


def test_a_stop_of_the_gateway_lets_waiting_clients_go(bench) -> None:
    b = bench(RampDriver(rate=0.1))
    client = b.connect()
    client.send("FolMe.XYPosSet", x=1e-8, y=0.0, wait_end_of_move=1)
    until(lambda: b.scope.state().job is not None)
    b.gateway.close()
    with pytest.raises(EOFError):
        client.receive("FolMe.XYPosSet")
    client.socket.close()
    assert b.scope.state().lease is None


# ---------------------------------------------------------------------- connections


def test_a_second_client_of_a_port_is_sent_away_and_a_client_that_has_left_makes_room(bench, caplog) -> None:
    b = bench()
    caplog.set_level(logging.INFO)
    with b.connect() as client:
        client("Bias.Get")
        with b.connect() as second:
            assert second.socket.recv(1) == b""
        assert "another one is there" in caplog.text
        assert client("Bias.Get")
        # It leaves without listening to the answer, and comes again at once.
        client.send("Bias.Get")
    for _ in range(20):
        with b.connect() as client:
            client.send("Bias.Get")
            assert client.receive("Bias.Get")[0]


def test_silent_and_slow_peers_hold_nobody_up(bench) -> None:
    b = bench()
    with b.connect(0) as slow, b.connect(1) as client:
        # Half a header, then nothing.
        slow.socket.sendall(b"Bias.Get")
        for _ in range(10):
            client("Bias.Get")
        assert slow.socket.recv(1) == b""


def test_a_body_that_is_too_long_is_not_read(bench) -> None:
    b = bench()
    with b.connect() as client:
        client.socket.sendall(struct.pack(">32siHH", b"Bias.Set", 2**31 - 1, 1, 0))
        assert client.socket.recv(1) == b""
    with b.connect() as client:
        assert client("Bias.Get")


def test_two_ports_are_served_at_the_same_time(bench) -> None:
    b = bench(RampDriver(rate=0.5))
    with b.connect(0) as client, b.connect(1) as other:
        client.send("FolMe.XYPosSet", x=1e-8, y=0.0, wait_end_of_move=1)
        until(lambda: b.scope.state().job is not None)
        assert other("Signals.ValGet", signal_index=X, wait_for_newest_data=0)["signal_value"] == 0
        assert client.receive("FolMe.XYPosSet")[1] == 0


def test_ports_that_are_taken_are_named(bench) -> None:
    b = bench()
    with pytest.raises(ConfigurationError, match=f"cannot listen on 127.0.0.1:{b.gateway.ports[0]}"):
        NanonisGateway(b.scope._transport._service, (b.gateway.ports[0],))


def test_only_this_machine_gets_there(bench) -> None:
    for listening in bench().gateway._listening:
        assert listening.getsockname()[0] == "127.0.0.1"


def test_no_thread_is_left_behind(bench) -> None:
    b = bench()
    with b.connect() as client:
        client("Bias.Set", bias_value=0.2)
    port = b.gateway.ports[0]
    b.gateway.close()
    until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("nanonis")])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)


# ---------------------------------------------------------------------- what is said about it


def test_the_page_lists_exactly_the_commands_that_are_carried_out() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "nanonis.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ((?:`\w+` ?)+) \|", page, re.MULTILINE)
    listed = [f"{module}.{command}" for module, text in rows for command in re.findall(r"`(\w+)`", text)]
    assert sorted(listed) == sorted(HANDLERS)


def test_every_handler_is_that_of_a_command_of_the_protocol() -> None:
    assert set(HANDLERS) <= set(COMMANDS)
