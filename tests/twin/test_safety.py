"""Stops at inconvenient moments, and trips."""

import math
import threading
import time

import numpy as np
import pytest

import twinscope
from tests.conftest import until
from twinscope.errors import (
    DriverError,
    InterlockError,
)
from twinscope.local import LocalTransport
from twinscope.requests import ScanFrame
from twinscope.state import TipState

NM = 1e-9


# ---------------------------------------------------------------------- stops at inconvenient moments


def test_what_waits_for_the_driver_to_open_is_not_begun_after_an_emergency_stop(service, enter, ramp_driver) -> None:
    warm = threading.Event()

    class Slow(ramp_driver):
        def open(self) -> None:
            warm.wait(20)

    driver = Slow()
    client = enter(service(driver))
    client.take()
    move = client("move_to", x=5 * NM)["id"]
    stop = client("emergency_stop")["id"]
    assert client("state")["status"] == "warming"
    warm.set()
    assert client.wait(move)["state"] == "aborted"
    assert client.wait(stop)["state"] == "done"
    # The only motion was the withdrawal.
    assert [call[1:4] for call in driver.calls if call[0] == "move_to"] == [(0.0, 0.0, 1e-6)]


def test_a_driver_that_has_failed_can_still_be_restarted_after_an_emergency_stop(
    service, enter, ramp_driver, monkeypatch
) -> None:
    monkeypatch.setattr("twinscope.worker._RETRIES", (0.0,))

    class Broken(ramp_driver):
        broken = True

        def open(self) -> None:
            if self.broken:
                raise OSError("no controller")

    driver = Broken()
    client = enter(service(driver))
    until(lambda: client("state")["status"] == "failed")
    stopped = client.wait(client("emergency_stop")["id"])
    assert (stopped["state"], stopped["error"]["code"]) == ("failed", "driver")
    assert client("state")["status"] == "failed"
    client.take()
    failed = client.do("restart")
    assert (failed["state"], failed["error"]["message"]) == ("failed", "OSError: no controller")
    assert client("state")["status"] == "failed"
    driver.broken = False
    assert client.do("restart")["state"] == "done"
    assert client("state")["status"] == "idle"
    client("acknowledge")
    assert client.do("move_to", x=NM)["state"] == "done"


def test_a_withdrawal_that_was_stopped_is_not_taken_for_one(service, enter, ramp_driver) -> None:
    class Stoppable(ramp_driver):
        def withdraw(self) -> None:
            self.move_to(self.position.x, self.position.y, 1e-6)
            if self.position.z == 1e-6:
                self.tip = TipState.WITHDRAWN

    driver = Stoppable(rate=0.1)
    client = enter(service(driver))
    client.take()
    job = client("withdraw")["id"]
    until(lambda: driver.calls)
    driver.stop()
    stopped = client.wait(job)
    assert stopped["state"] == "aborted"
    assert "the withdrawal was stopped" in stopped["error"]["message"]
    driver.clock.rate = math.inf
    assert client.do("withdraw")["state"] == "done"
    assert client("state")["tip"] == "withdrawn"


def test_after_its_end_an_instrument_says_so(service, enter) -> None:
    ours = service()
    client = enter(ours)
    client.take()
    ours._instrument.close()
    assert client("state")["status"] == "closed"
    with pytest.raises(DriverError, match="is closed"):
        client("move_to", x=NM)
    with pytest.raises(DriverError, match="is closed"):
        client("emergency_stop")


# ---------------------------------------------------------------------- trips


class _Tripping:
    """Mixed into a driver: from the third trace on, `at_z` is far out."""

    def trace(self, index: int) -> dict[str, np.ndarray]:
        values = super().trace(index)
        return values | {"at_z": np.full_like(values["at_x"], 1.0 if index >= 2 else 0.0)}


@pytest.mark.parametrize("channels", [["at_x"], ["at_x", "at_z"]])
def test_a_trip_in_mid_scan_withdraws_and_keeps_what_was_measured(instrument, ramp_driver, channels) -> None:
    driver = type("Tripping", (_Tripping, ramp_driver), {})()
    scope = twinscope.Microscope(transport=LocalTransport(instrument(driver, trips={"at_z": [None, 0.5]})))
    with scope.control():
        scan = scope.scan(frame=ScanFrame(size=(2 * NM, 2 * NM)), pixels=(2, 9), channels=channels)
        with pytest.raises(InterlockError, match=r"at_z reached 1, allowed are -inf to 0\.5: the tip was withdrawn"):
            scan.result(timeout=5)
        partial = scan.partial()
        assert list(partial) == channels
        assert partial.metadata["traces_done"] == 3
        assert np.isfinite(partial["at_x"].values[:3]).all()
        assert np.isnan(partial["at_x"].values[3:]).all()
        state = scope.state()
        assert (state.tip, state.status) == (TipState.WITHDRAWN, twinscope.Status.IDLE)
        # The operator may go on, and is not blocked: the rule has done what it is there for.
        scope.approach()
    on_disk = twinscope.load(scan.file)
    assert list(on_disk) == channels
    assert (on_disk.metadata["state"], on_disk.metadata["traces_done"]) == ("failed", 3)


def test_a_trip_while_nothing_is_done_withdraws_once(service, enter, ramp_driver, monkeypatch) -> None:
    monkeypatch.setattr("twinscope.worker._IDLE_INTERVAL", 0.02)
    driver = ramp_driver()
    client = enter(service(driver, trips={"current": [None, 1e-10]}))
    assert client("wait_ready", timeout=5.0)
    cursor = client("events")["cursor"]
    driver.signals["current"] = 1e-9
    until(lambda: client("state")["tip"] == "withdrawn")
    time.sleep(0.1)
    assert client("state")["signals"]["current"] == 1e-9
    events = client("events", cursor=cursor)["events"]
    assert [event["data"]["error"]["details"]["value"] for event in events if event["kind"] == "trip"] == [1e-9]
    assert [call[0] for call in driver.calls] == ["move_to"]
