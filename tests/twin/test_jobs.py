"""Jobs: begun in a moment, watched, paused, aborted, and known after a restart."""

import shutil
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import until
from twinscope.errors import AbortedError, DriverError, InvalidRequestError, NotFoundError
from twinscope.jobs import Job
from twinscope.ledger import Ledger
from twinscope.state import JobState

FRAME = {"size": [2e-9, 2e-9]}


def begin(client: Any, lines: int = 3, line_time: float = 0.05, **change: Any) -> str:
    """Begin a scan and return its id."""
    request = {"frame": FRAME, "pixels": [2, lines], "channels": ["at_x"], "line_time": line_time} | change
    return client("acquire", kind="scan", request=request)["metadata"]["id"]


def traces(client: Any, scan: str) -> int:
    return client("acquisition", id=scan)["progress"]["traces_done"]


# ---------------------------------------------------------------------- one job alone


def test_ids_are_never_given_twice_and_grow() -> None:
    ids = [Job("move_to", {}, 1).id for _ in range(2000)]
    assert len(set(ids)) == 2000
    assert ids == sorted(ids)


def test_a_job_goes_through_its_states_and_does_not_count_its_pauses() -> None:
    job = Job("scan", {}, 1)
    assert (job.progress()["state"], job.progress()["elapsed"]) == ("queued", 0.0)
    job.begin()
    assert job.state is JobState.RUNNING
    time.sleep(0.05)
    job.ask(pause=True)
    seen = []
    threading.Timer(0.2, lambda: job.ask(pause=False)).start()
    job.pause_while_requested(lambda: seen.append((job.state, job.progress()["elapsed"])), 0.02)
    assert len(seen) >= 3
    assert {state for state, _ in seen} == {JobState.PAUSED}
    assert len({elapsed for _, elapsed in seen}) == 1
    job.end(None)
    elapsed = job.progress()["elapsed"]
    assert 0.05 <= elapsed < 0.15
    time.sleep(0.02)
    assert job.progress() == {
        "id": job.id,
        "verb": "scan",
        "state": "done",
        "elapsed": elapsed,
        "error": None,
    }
    assert not job.done.is_set()
    job.announce()
    assert job.done.is_set()


@pytest.mark.parametrize(
    ("error", "state"), [(None, "done"), (AbortedError("enough"), "aborted"), (DriverError("broken"), "failed")]
)
def test_how_a_job_ended_is_told_as_plain_data(error: Any, state: str) -> None:
    job = Job("approach", {}, 1)
    job.begin()
    job.end(error)
    told = job.progress()
    assert told["state"] == state
    assert told["error"] == (None if error is None else error.to_dict())


def test_what_fails_in_a_pause_ends_the_pause() -> None:
    job = Job("scan", {}, 1)
    job.begin()
    job.ask(pause=True)

    def trip() -> None:
        raise DriverError("tripped")

    with pytest.raises(DriverError, match="tripped"):
        job.pause_while_requested(trip, 0.01)
    assert job.state is JobState.RUNNING
    assert job.progress()["elapsed"] < 1


# ---------------------------------------------------------------------- through the service


def test_what_takes_long_is_begun_in_a_moment(service, enter, ramp_driver) -> None:
    # Moves take 100 ms here.
    client = enter(service(ramp_driver(rate=1.0), allow=["pulse", "tip_shaping", "tip_exchange"]))
    assert client("wait_ready", timeout=5.0)
    client.take()
    verbs = {
        "move_to": {"x": 1e-9},
        "approach": {},
        "withdraw": {},
        "set_signal": {"name": "bias", "value": 0.3, "rate": 1.0},
        "set_feedback": {"mode": "off"},
        "pulse": {"voltage": 1.0, "duration": 0.1},
        "shape_tip": {"depth": 1e-9},
        "exchange_tip": {"probe": "Xe"},
        "coarse_move": {"axis": "z", "steps": 5},
    }
    spent: dict[str, list[float]] = {name: [] for name in (*verbs, "acquire")}
    for _ in range(5):
        for verb, parameters in verbs.items():
            start = time.perf_counter()
            job = client(verb, **parameters)
            spent[verb].append(time.perf_counter() - start)
            client.wait(job["id"])
        start = time.perf_counter()
        scan = begin(client, lines=1000, heights=[1e-9])
        spent["acquire"].append(time.perf_counter() - start)
        client("abort", id=scan)
    medians = {verb: statistics.median(times) for verb, times in spent.items()}
    assert max(medians.values()) < 5e-3, medians


def test_a_scan_can_be_paused_resumed_and_aborted_while_paused(service, enter, ramp_driver) -> None:
    ours = service(ramp_driver(rate=1.0))
    client = enter(ours)
    client.take()
    scan = begin(client, lines=1000, line_time=0.02)
    until(lambda: traces(client, scan))
    client("pause", id=scan)
    until(lambda: client("state")["status"] == "paused")
    before = client("acquisition", id=scan)["progress"]
    assert before["state"] == "paused"
    time.sleep(0.15)
    after = client("acquisition", id=scan)["progress"]
    assert (after["traces_done"], after["elapsed"]) == (before["traces_done"], before["elapsed"])
    client("resume", id=scan)
    until(lambda: traces(client, scan) > before["traces_done"])
    assert client("state")["status"] == "acquiring"
    client("pause", id=scan)
    until(lambda: client("state")["status"] == "paused")
    assert client("abort", id=scan)["state"] == "aborted"
    assert client("state")["status"] == "idle"
    # A second abort leaves it as it is, a pause makes no sense any more.
    assert client("abort", id=scan)["state"] == "aborted"
    for verb in ("pause", "resume"):
        with pytest.raises(InvalidRequestError, match="is aborted: it cannot be paused or resumed any more"):
            client(verb, id=scan)


def test_a_paused_scan_is_still_watched(service, enter, ramp_driver, monkeypatch) -> None:
    monkeypatch.setattr("twinscope.worker._IDLE_INTERVAL", 0.02)
    driver = ramp_driver(rate=1.0)
    client = enter(service(driver, trips={"current": [None, 1e-10]}))
    client.take()
    scan = begin(client, lines=1000, line_time=0.01)
    client("pause", id=scan)
    until(lambda: client("state")["status"] == "paused")
    driver.signals["bias"] = 0.7
    until(lambda: client("state")["signals"]["bias"] == 0.7)
    driver.signals["current"] = 1e-9
    ended = client.wait(scan)
    assert (ended["state"], ended["error"]["code"]) == ("failed", "trip")
    assert client("state")["tip"] == "withdrawn"


def test_waiting_for_a_job_takes_no_longer_than_asked(service, enter, ramp_driver) -> None:
    client = enter(service(ramp_driver(rate=1.0)))
    client.take()
    scan = begin(client, lines=1000)
    start = time.monotonic()
    waited = client("wait_job", id=scan, timeout=0.1)
    assert 0.1 <= time.monotonic() - start < 1
    assert not waited["over"]
    assert waited["state"] in ("queued", "running")
    threading.Timer(0.1, lambda: client("abort", id=scan)).start()
    waited = client("wait_job", id=scan, timeout=5.0)
    assert (waited["over"], waited["state"], waited["error"]["code"]) == (True, "aborted", "aborted")


@pytest.mark.parametrize("bad", ["20010101-000000-000000-scan", "", "../data"])
@pytest.mark.parametrize("verb", ["acquisition", "wait_job", "pull"])
def test_an_unknown_job_is_named(service, enter, verb: str, bad: str) -> None:
    more = {"wait_job": {"timeout": 0.0}, "pull": {"offset": 0, "timeout": 0.0}}.get(verb, {})
    with pytest.raises(NotFoundError, match="there is no job"):
        enter(service())(verb, id=bad, **more)


@pytest.mark.parametrize("bad", [None, 7, ["a"], {}])
def test_the_id_of_a_job_is_text(service, enter, bad: Any) -> None:
    with pytest.raises(InvalidRequestError, match="expected the text that names a job"):
        enter(service())("acquisition", id=bad)


def test_what_was_answered_does_not_change_afterwards(service, enter) -> None:
    client = enter(service())
    client.take()
    request = {"frame": FRAME, "pixels": [2, 3], "channels": ["at_x"]}
    answer = client("acquire", kind="scan", request=request)["metadata"]
    early = dict(answer)
    client.wait(answer["id"])
    assert answer == early
    assert {"position", "signals", "feedback"} <= client("acquisition", id=answer["id"])["metadata"].keys()


def test_a_motion_has_no_data(service, enter) -> None:
    client = enter(service())
    client.take()
    move = client.do("move_to", x=1e-9)["id"]
    with pytest.raises(NotFoundError, match="is a move_to: it has no data"):
        client("acquisition", id=move)


def test_the_jobs_in_memory_are_bounded_and_the_one_in_progress_stays(service, enter, monkeypatch) -> None:
    monkeypatch.setattr("twinscope.job_book._KEPT_JOBS", 5)
    client = enter(service())
    client.take()
    moves = [client.do("move_to", x=number * 1e-10)["id"] for number in range(12)]
    assert [job["id"] for job in client("jobs")] == moves[-5:]
    with pytest.raises(NotFoundError):
        client("wait_job", id=moves[0], timeout=0.0)


# ---------------------------------------------------------------------- before and after a restart


def test_acquisitions_from_before_a_restart_can_be_read_by_their_ids(service, enter, ramp_driver, tmp_path) -> None:
    data, after_the_crash = tmp_path / "data", tmp_path / "after"
    data.mkdir()
    ours = service(ramp_driver(rate=1.0), Ledger(data))
    client = enter(ours)
    client.take()
    whole = begin(client, lines=2, line_time=0.01)
    assert client.wait(whole)["state"] == "done"
    aborted = begin(client, lines=1000)
    until(lambda: traces(client, aborted) >= 2)
    client("abort", id=aborted)
    cut = begin(client, lines=1000, line_time=0.02)
    until(lambda: traces(client, cut) >= 2)
    # What the disk holds now is what a killed server leaves behind.
    shutil.copytree(data, after_the_crash)
    seen = {name: client("acquisition", id=name)["progress"] for name in (whole, aborted)}
    read = {
        name: client.service.call(client.session, "pull", {"id": name, "offset": 0, "timeout": 0}).payload
        for name in (whole, aborted, cut)
    }
    client("abort", id=cut)

    again = enter(service(ramp_driver(), Ledger(after_the_crash), after_the_crash))
    assert again("jobs") == []
    for name in (whole, aborted):
        restored = again("acquisition", id=name)["progress"]
        unlike = {"elapsed"}
        assert {k: v for k, v in restored.items() if k not in unlike} == {
            k: v for k, v in seen[name].items() if k not in unlike
        }
        pulled = again.service.call(again.session, "pull", {"id": name, "offset": 0, "timeout": 0}).payload
        assert pulled == read[name]
    progress = again.wait(cut)
    assert (progress["state"], progress["error"]["code"]) == ("failed", "acquisition_failed")
    assert "was cut short: the server was ended during it" in progress["error"]["message"]
    pulled = again.service.call(again.session, "pull", {"id": cut, "offset": 0, "timeout": 0}).payload
    assert 2 * 2 * 4 <= len(pulled) <= len(read[cut])
    assert bytes(read[cut][: len(pulled)]) == bytes(pulled)
    assert np.isfinite(np.frombuffer(pulled, "<f4")).all()
    assert {row["id"] for row in again("find", criteria={"kind": "scan"})} == {whole, aborted, cut}


def test_a_file_is_read_once_however_many_pieces_are_pulled(service, enter, tmp_path: Path, monkeypatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    first = service(None, Ledger(data))
    client = enter(first)
    client.take()
    scan = begin(client)
    client.wait(scan)
    first._instrument.close()
    again = enter(service(None, Ledger(data)))
    again("pull", id=scan, offset=0, timeout=0.0)
    (data / f"{scan}.h5").unlink()
    assert again("pull", id=scan, offset=8, timeout=0.0)["state"] == "done"
