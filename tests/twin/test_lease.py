"""The lease: numbers that grow, signs of life, and what becomes of jobs whose holder falls silent."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import until
from twinscope.errors import LeaseError, OutOfRangeError
from twinscope.guard import Guard
from twinscope.interlocks import Interlocks
from twinscope.lease import LONGEST, LeaseBook
from twinscope.ledger import Ledger
from twinscope.requests import ScanRequest
from twinscope.sessions import Caller, Identity, Role, Session

FRAME = {"size": [2e-9, 2e-9]}


def slow_scan(client: Any, on_lease_loss: str = "continue", lines: int = 100) -> str:
    """Begin a scan of 20 ms per line on a clock in real time."""
    request = {"frame": FRAME, "pixels": [2, lines], "channels": ["at_x"], "line_time": 0.02}
    began = client("acquire", kind="scan", request=request, on_lease_loss=on_lease_loss)
    return began["metadata"]["id"]


# ---------------------------------------------------------------------- the book alone


@pytest.fixture
def session() -> Session:
    return Session("one", Identity("ann", Role.OPERATOR), "ann@here")


def test_each_lease_has_a_greater_number_than_all_before(session: Session) -> None:
    book = LeaseBook(last=41)
    numbers = []
    for _ in range(3):
        numbers.append(book.acquire(session, "", 1.0).number)
        book.end()
    assert numbers == [42, 43, 44]


@pytest.mark.parametrize("duration", [0, -1, float("nan"), float("inf"), "1", True, None])
def test_a_duration_that_is_none_is_refused(duration: Any) -> None:
    with pytest.raises(ValueError, match="duration is"):
        LeaseBook().check_free(duration)


def test_the_longest_lease_is_limited() -> None:
    assert LeaseBook().check_free(LONGEST) == LONGEST
    with pytest.raises(OutOfRangeError, match=r"61.0 s is too long: expected at most 60"):
        LeaseBook().check_free(61)


def test_a_lease_is_good_for_its_session_and_its_number_alone(session: Session) -> None:
    book = LeaseBook()
    lease = book.acquire(session, "", 10.0)
    assert book.check(Caller(session, lease.number)) == lease
    other = Session("two", session.identity, "the same person elsewhere")
    for caller in (Caller(session, lease.number + 1), Caller(session, lease.number - 1), Caller(other, lease.number)):
        with pytest.raises(LeaseError, match=f"lease {caller.lease} has expired, was released or was broken"):
            book.check(caller)
    with pytest.raises(LeaseError, match="needs control"):
        book.check(Caller(session))


def test_a_lease_that_has_expired_is_good_for_nothing_but_stands_until_its_end_was_noted(session: Session) -> None:
    book = LeaseBook()
    lease = book.acquire(session, "", 0.01)
    time.sleep(0.02)
    assert book.current is None
    with pytest.raises(LeaseError, match="expired"):
        book.check(Caller(session, lease.number))
    book.heartbeat(session)
    assert book.current is None
    with pytest.raises(LeaseError, match="held by ann@here"):
        book.acquire(session, "", 1.0)
    assert book.end_if_expired() == lease
    assert book.end_if_expired() is None
    assert book.acquire(session, "", 1.0).number == lease.number + 1


# ---------------------------------------------------------------------- through the service


def test_any_call_is_a_sign_of_life_and_those_of_others_are_none(service, enter) -> None:
    ours = service()
    ann, bob = enter(ours), enter(ours, name="bob")
    ann.take(duration=0.5)
    for _ in range(5):
        time.sleep(0.15)
        ann("state")
    assert bob("state")["lease"]["number"] == ann.lease
    until(lambda: bob("state")["lease"] is None)
    with pytest.raises(LeaseError, match="expired"):
        ann("move_to", x=1e-9)


def test_the_numbers_grow_across_a_restart(service, enter, tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    folder.mkdir()
    numbers = []
    for _ in range(2):
        ours = service(None, Ledger(folder))
        client = enter(ours)
        for _ in range(2):
            numbers.append(client.take())
            client("release_lease")
        ours._instrument.close()
    assert numbers == [1, 2, 3, 4]


@pytest.mark.parametrize("way", ["released", "broken", "expired"])
def test_commands_of_a_lease_that_is_over_are_refused(service, enter, ramp_driver, way: str) -> None:
    driver = ramp_driver()
    ours = service(driver)
    ann, bob = enter(ours), enter(ours, "admin", name="bob")
    ann.take(duration=0.05 if way == "expired" else 10)
    if way == "released":
        ann("release_lease")
    elif way == "broken":
        bob("break_lease")
    else:
        time.sleep(0.1)
    commands = [
        ("move_to", {"x": 1e-9}),
        ("withdraw", {}),
        ("approach", {}),
        ("set_signal", {"name": "bias", "value": 0.2}),
        ("set_feedback", {"mode": "off"}),
        ("pulse", {"voltage": 1.0, "duration": 0.01}),
        ("acquire", {"kind": "scan", "request": {"frame": FRAME, "pixels": [2, 2], "channels": ["at_x"]}}),
        ("acknowledge", {}),
        ("renew_lease", {}),
    ]
    for verb, parameters in commands:
        with pytest.raises(LeaseError, match=f"lease {ann.lease} has expired, was released or was broken"):
            ann(verb, **parameters)
    # To give back what is gone is no error.
    ann("release_lease")
    assert driver.calls == []


def test_a_late_command_of_an_older_lease_is_refused_in_front_of_the_driver(ramp_driver) -> None:
    driver = ramp_driver()
    guard = Guard(driver, Interlocks())
    guard.perform(2, "move_to", x=1e-9, y=None, z=None, speed=None)
    before = list(driver.calls)
    request = ScanRequest(frame=FRAME, pixels=(2, 2), channels=("at_x",))
    for late in (lambda: guard.perform(1, "withdraw"), lambda: guard.start(1, request, None)):
        with pytest.raises(LeaseError, match="a command of lease 1 came after one of lease 2") as caught:
            late()
        assert caught.value.details["lease"] == 1
    with pytest.raises(LeaseError, match="lease None"):
        guard.perform(None, "approach")
    assert driver.calls == before
    guard.perform(None, "withdraw")
    guard.perform(2, "approach")


@pytest.mark.parametrize("way", ["expired", "broken"])
@pytest.mark.parametrize("policy", ["continue", "pause", "abort_and_withdraw"])
def test_what_becomes_of_a_scan_whose_lease_is_lost(service, enter, ramp_driver, policy: str, way: str) -> None:
    ours = service(ramp_driver(rate=1.0))
    ann, boss = enter(ours), enter(ours, "admin", name="boss")
    ann.take(duration=0.4 if way == "expired" else 30)
    scan = slow_scan(ann, policy, lines=30 if policy == "continue" else 1000)
    until(lambda: boss("acquisition", id=scan)["progress"]["traces_done"])
    if way == "broken":
        boss("break_lease")
    until(lambda: boss("state")["lease"] is None)
    if policy == "continue":
        assert boss.wait(scan)["state"] == "done"
        assert boss("state")["tip"] == "in_range"
    elif policy == "pause":
        until(lambda: boss("state")["status"] == "paused")
        boss.take()
        boss("resume", id=scan)
        done = boss("acquisition", id=scan)["progress"]["traces_done"]
        until(lambda: boss("acquisition", id=scan)["progress"]["traces_done"] > done)
        boss("abort", id=scan)
    else:
        assert boss.wait(scan)["state"] == "aborted"
        until(lambda: boss("state")["tip"] == "withdrawn")
        until(lambda: boss("state")["status"] == "idle")
        boss.take()
        assert boss.do("approach")["state"] == "done"


def test_who_waits_for_control_does_not_save_the_job_of_the_one_before(service, enter, ramp_driver) -> None:
    ours = service(ramp_driver(rate=1.0))
    ann, bob = enter(ours), enter(ours, name="bob")
    ann.take(duration=0.3)
    scan = slow_scan(ann, "abort_and_withdraw")

    def taken() -> bool:
        try:
            bob.take()
        except LeaseError:
            return False
        return True

    end = time.monotonic() + 3
    while not taken():
        assert time.monotonic() < end
    assert bob.wait(scan)["state"] == "aborted"
    until(lambda: bob("state")["tip"] == "withdrawn")


def test_only_a_known_policy_is_taken(service, enter) -> None:
    client = enter(service())
    client.take()
    with pytest.raises(ValueError, match="on_lease_loss is 'explode': expected one of continue, pause"):
        slow_scan(client, "explode")


def test_a_lease_that_nobody_holds_cannot_be_broken(service, enter) -> None:
    with pytest.raises(LeaseError, match="nobody holds the instrument"):
        enter(service(), "admin")("break_lease")


# ---------------------------------------------------------------------- nothing waits for a job


def test_a_scan_in_progress_blocks_neither_looking_nor_stopping(service, enter, ramp_driver) -> None:
    ours = service(ramp_driver(rate=1.0))
    ann, observer = enter(ours), enter(ours, "observer", name="olga")
    ann.take()
    spent = {}

    def timed(verb: str, client: Any, **parameters: Any) -> None:
        begin = time.perf_counter()
        client(verb, **parameters)
        spent[verb] = time.perf_counter() - begin

    scan = slow_scan(ann)
    for verb in ("state", "jobs", "capabilities", "hello", "events"):
        timed(verb, observer)
    timed("pull", observer, id=scan, offset=0, timeout=0)
    timed("abort", ann, id=scan)
    slow_scan(ann)
    timed("emergency_stop", observer, reason="smoke")
    assert max(spent.values()) < 0.25, spent


def test_two_emergency_stops_at_once_both_end_with_the_tip_withdrawn(service, enter, ramp_driver) -> None:
    ours = service(ramp_driver(rate=1.0))
    ann = enter(ours)
    ann.take()
    scan = slow_scan(ann)
    watchers = [enter(ours, "observer", name=str(number)) for number in range(4)]
    threads = [threading.Thread(target=watcher, args=("emergency_stop",)) for watcher in watchers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ann.wait(scan)["state"] == "aborted"
    last = [job for job in ann("jobs") if job["verb"] == "withdraw"][-1]
    assert ann.wait(last["id"])["state"] == "done"
    state = ann("state")
    assert (state["tip"], state["status"]) == ("withdrawn", "idle")
    ann("acknowledge")
    assert ann.do("approach")["state"] == "done"
