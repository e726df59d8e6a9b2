"""What those who watch are told."""

import threading
import time
from typing import Any

import pytest

import twinscope
from twinscope.errors import DriverError, InterlockError, InvalidRequestError
from twinscope.events import Event, EventLog
from twinscope.local import LocalTransport
from twinscope.microscope import Missed
from twinscope.requests import ScanFrame

SCAN = {"frame": ScanFrame(size=(2e-9, 2e-9)), "channels": ["at_x"]}


# ---------------------------------------------------------------------- the log alone


def test_events_are_numbered_without_gaps_whoever_publishes() -> None:
    log = EventLog()

    def publish(name: int) -> None:
        for step in range(100):
            log.publish("state", 0.0, name=name, step=step)

    threads = [threading.Thread(target=publish, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events, missed = log.after(0, 0.0)
    assert missed == 0
    assert [event.number for event in events] == list(range(1, 401))
    for name in range(4):
        assert [event.data["step"] for event in events if event.data["name"] == name] == list(range(100))


def test_a_slow_reader_is_told_how_many_are_gone() -> None:
    log = EventLog(capacity=10)
    for _ in range(25):
        log.publish("state", 0.0)
    events, missed = log.after(3, 0.0)
    assert (missed, [event.number for event in events]) == (12, list(range(16, 26)))
    events, missed = log.after(20, 0.0, most=2)
    assert (missed, [event.number for event in events]) == (0, [21, 22])
    assert log.after(25, 0.0) == ([], 0)


def test_a_reader_waits_for_the_next_event_and_no_longer() -> None:
    log = EventLog()
    begin = time.monotonic()
    assert log.after(0, 0.05) == ([], 0)
    assert 0.05 <= time.monotonic() - begin < 1
    threading.Timer(0.05, log.publish, ("lease", 1.5), {"what": "acquired"}).start()
    assert log.after(0, 5.0) == ([Event(1, "lease", 1.5, {"what": "acquired"})], 0)
    assert time.monotonic() - begin < 2


# ---------------------------------------------------------------------- through the service


def test_a_cursor_from_before_a_restart_gives_what_there_is_and_says_so(service, enter) -> None:
    first, second = enter(service()), enter(service())
    cursor = first("events")["cursor"]
    answer = second("events", cursor=cursor)
    assert answer["missed"] is None
    assert answer["events"][0]["number"] == 1
    assert answer["cursor"] != cursor
    again = second("events", cursor=answer["cursor"])
    assert (again["missed"], again["events"]) == (0, [])


@pytest.mark.parametrize(
    "change", [{"number": -1}, {"number": 1.5}, {"number": True}, {"number": None}, {"number": 10**9}, {"page": 1}]
)
def test_a_cursor_that_the_server_never_gave_is_refused(service, enter, change: dict[str, Any]) -> None:
    client = enter(service())
    cursor = client("events")["cursor"]
    with pytest.raises(InvalidRequestError, match=next(iter(change))):
        client("events", cursor=cursor | change)
    with pytest.raises(InvalidRequestError, match="cursor is 7"):
        client("events", cursor=7)


def test_the_events_tell_the_whole_story_in_order(service, enter, ramp_driver) -> None:
    driver = ramp_driver()
    client = enter(service(driver, trips={"current": [None, 1e-10]}))
    assert client("wait_ready", timeout=5.0)
    cursor = client("events")["cursor"]
    client.take(purpose="a story")
    request = {"frame": {"size": [2e-9, 2e-9]}, "pixels": [2, 3], "channels": ["at_x"]}
    scan = client("acquire", kind="scan", request=request)["metadata"]["id"]
    client.wait(scan)
    driver.signals["current"] = 1e-9
    assert client.wait(client("set_signal", name="bias", value=0.2)["id"])["error"]["code"] == "trip"
    client.wait(client("emergency_stop", reason="enough")["id"])
    told = client("events", cursor=cursor, timeout=1.0)["events"]
    assert [event["number"] for event in told] == list(range(cursor["number"] + 1, cursor["number"] + 1 + len(told)))
    by_kind: dict[str, list[Any]] = {}
    for event in told:
        by_kind.setdefault(event["kind"], []).append(event["data"])
    assert (by_kind["lease"][0]["what"], by_kind["lease"][0]["purpose"]) == ("acquired", "a story")
    assert [job["state"] for job in by_kind["job"] if job["id"] == scan] == ["queued", "running", "done"]
    assert [traces["traces_done"] for traces in by_kind["traces"]] == [1, 2, 3]
    assert by_kind["trip"][0]["error"]["details"]["name"] == "current"
    assert by_kind["blocked"] == [{"reason": "emergency stop by ann: enough"}]
    revisions = [state["revision"] for state in by_kind["state"]]
    assert revisions == sorted(set(revisions))
    assert {"moving", "acquiring", "idle"} <= {state["status"] for state in by_kind["state"]}
    # Whoever hears of the end finds all traces told before.
    kinds = [(event["kind"], event["data"].get("state")) for event in told]
    assert max(i for i, kind in enumerate(kinds) if kind[0] == "traces") < kinds.index(("job", "done"))


def test_a_driver_that_fails_is_an_event(service, enter, ramp_driver) -> None:
    class Failing(ramp_driver):
        def set_feedback(self, mode: str) -> None:
            raise OSError("cable")

    client = enter(service(Failing()))
    cursor = client("events")["cursor"]
    client.take()
    client.do("set_feedback", mode="off")
    told = client("events", cursor=cursor, timeout=1.0)["events"]
    errors = [event["data"]["error"] for event in told if event["kind"] == "driver"]
    assert [(error["code"], error["message"]) for error in errors] == [(DriverError.code, "OSError: cable")]
    assert any(event["kind"] == "blocked" and "OSError: cable" in event["data"]["reason"] for event in told)


def test_a_watcher_sees_what_happens_from_its_call_on(ramp: twinscope.Microscope) -> None:
    with ramp.control():
        ramp.move_to(x=1e-9)
        events = ramp.events(timeout=0.0)
        scan = ramp.scan(pixels=(2, 5), **SCAN)
        scan.wait()
        told = list(events)
    assert {event.data["id"] for event in told if event.kind == "job"} == {scan.id}
    assert [event.data["traces_done"] for event in told if event.kind == "traces"] == [1, 2, 3, 4, 5]


def test_a_watcher_waits_until_nothing_has_happened_for_a_while(ramp: twinscope.Microscope) -> None:
    watcher = ramp.events(timeout=0.3)

    def move() -> None:
        with ramp.control():
            ramp.move_to(x=1e-9)

    timer = threading.Timer(0.1, move)
    timer.start()
    told = list(watcher)
    timer.join()
    assert [event.data["what"] for event in told if event.kind == "lease"] == ["acquired", "released"]


def test_a_watcher_that_sleeps_is_told_what_it_missed_and_slows_nobody_down(instrument) -> None:
    shared = instrument()
    scope = twinscope.Microscope(transport=LocalTransport(shared))
    assert scope.wait_ready(5)
    spent = []
    for watched in (False, True):
        shared.events = shared._board.events = EventLog(capacity=20)
        sleepers = [scope.events(timeout=0.0) for _ in range(20 if watched else 0)]
        begin = time.perf_counter()
        with scope.control():
            assert scope.scan(pixels=(2, 200), **SCAN).result(timeout=10).complete
        spent.append(time.perf_counter() - begin)
    last = shared.events.last
    assert last > 200
    for sleeper in sleepers:
        gap, *rest = sleeper
        assert gap == Missed(last - 20)
        assert [event.number for event in rest] == list(range(last - 19, last + 1))
    # The second may be slowed down by chance, but not by what twenty watchers would cost it.
    assert spent[1] < 3 * spent[0] + 0.5


def test_a_watcher_is_told_when_the_server_was_restarted(instrument) -> None:
    class Reconnecting(LocalTransport):
        def move_over(self, to: LocalTransport) -> None:
            self.call = to.call

    before, after = Reconnecting(instrument()), LocalTransport(instrument())
    scope = twinscope.Microscope(transport=before)
    assert scope.wait_ready(5)
    events = scope.events(timeout=0.0)
    before.move_over(after)
    assert scope.wait_ready(5)
    gap, *rest = events
    assert gap == Missed(None)
    assert [event.number for event in rest] == list(range(1, len(rest) + 1))


def test_a_refusal_is_no_event(service, enter) -> None:
    client = enter(service(signals={"bias": {"high": 1}}))
    assert client("wait_ready", timeout=5.0)
    client.take()
    cursor = client("events")["cursor"]
    with pytest.raises(InterlockError):
        client("set_signal", name="bias", value=2.0)
    assert client("events", cursor=cursor)["events"] == []
