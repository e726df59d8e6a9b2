"""Who controls the instrument behind the Nanonis gateway, and how its clients come and go."""

import logging
import socket
import struct
import threading
import time

import numpy as np
import pytest

from tests.conftest import RampDriver, until
from tests.twin._gateway import AT_X, X, prepare_scan
from tests.twin._gateway import bench as bench
from tests.twin.nanonis_wire import RefusedError
from twinscope.errors import ConfigurationError, LeaseError
from twinscope.gateway import NanonisGateway
from twinscope.sessions import Role
from twinscope.state import TipState

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
