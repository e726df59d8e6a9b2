"""The Nanonis gateway in front of an instrument that records where its tip is: what is set, told and moved."""

import re
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import RampDriver, until
from tests.twin._gateway import AT_X, BIAS, CURRENT, X, Y, Z, prepare_scan
from tests.twin._gateway import bench as bench
from tests.twin._gateway import client as client
from tests.twin.nanonis_wire import RefusedError, WireClient
from twinscope.errors import InterlockError
from twinscope.gateway.modules import HANDLERS
from twinscope.nanonis_protocol import COMMANDS, HEADER_SIZE, ErrorDialect, encode_request
from twinscope.state import TipState

TASKS = ("nanonis the approach", "nanonis the bias spectroscopy")


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


def test_the_tip_shaper_restores_the_bias_also_when_the_dip_fails(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    b = bench()
    there_and_back = [("write", "bias", 2.0, None), ("shape_tip", 1e-9, 0.0), ("write", "bias", 0.1, None)]
    with b.connect() as client:
        settings = client("TipShaper.PropsGet")
        client("TipShaper.PropsSet", **settings | {"change_bias": 1, "bias": 2.0})
        b.driver.calls.clear()
        client("TipShaper.Start", wait_until_finished=1, timeout=-1)
        assert b.driver.calls == there_and_back
        b.driver.calls.clear()
        shape_tip = b.driver.shape_tip

        def refuse(depth: float, voltage: float) -> None:
            shape_tip(depth, voltage)
            raise InterlockError("not here")

        monkeypatch.setattr(b.driver, "shape_tip", refuse)
        with pytest.raises(RefusedError, match="not here"):
            client("TipShaper.Start", wait_until_finished=1, timeout=-1)
        assert b.driver.calls == there_and_back


def test_the_coarse_motor_goes_away_from_the_sample_with_z_plus(bench) -> None:
    b = bench()
    with b.connect() as client:
        client("Motor.StartMove", direction=4, number_of_steps=7, group=0, wait_until_finished=1)
        assert b.driver.calls[-1] == ("coarse_move", "z", 7)
        client("ZCtrl.Withdraw", wait_until_finished=1, timeout=-1)
        client("Motor.StartMove", direction=1, number_of_steps=3, group=0, wait_until_finished=1)
        assert b.driver.calls[-1] == ("coarse_move", "x", -3)


# ---------------------------------------------------------------------- what is said about it


def test_the_page_lists_exactly_the_commands_that_are_carried_out() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "nanonis.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ((?:`\w+` ?)+) \|", page, re.MULTILINE)
    listed = [f"{module}.{command}" for module, text in rows for command in re.findall(r"`(\w+)`", text)]
    assert sorted(listed) == sorted(HANDLERS)


def test_every_handler_is_that_of_a_command_of_the_protocol() -> None:
    assert set(HANDLERS) <= set(COMMANDS)
