"""What is known after a restart, and what goes on when nothing can be written."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twinscope.errors import InterlockError, LeaseError, OutcomeUnknownError, StoreError
from twinscope.ledger import JOURNAL, Ledger
from twinscope.sessions import Identity, Role, label_of
from twinscope.state import TipState
from twinscope.storage.journal import read


@contextlib.contextmanager
def full(journal: Path) -> Iterator[None]:
    """Let no file of this process grow beyond what the journal has now: for the journal, the disk is full."""
    resource = pytest.importorskip("resource")
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.stat().st_size, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the instruments of these tests keep their data."""
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def kinds(folder: Path) -> list[str]:
    return [entry.kind for entry in read(folder / JOURNAL)]


def test_without_a_folder_nothing_is_kept() -> None:
    ledger = Ledger(None)
    ledger.note("started")
    assert ledger.find() == []
    assert ledger.file_of("anything") is None
    ledger.close()


def test_a_folder_serves_one_server(folder: Path) -> None:
    with contextlib.closing(Ledger(folder)), pytest.raises(StoreError, match="another server uses the folder"):
        Ledger(folder)
    Ledger(folder).close()


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (math.nan, "nan"),
        (math.inf, "inf"),
        (b"\xff\x00", "b'\\xff\\x00'"),
        (np.float32(0.5), 0.5),
        (np.float64(math.inf), "inf"),
        (np.int64(7), 7),
        ((1, (2, math.nan)), [1, [2, "nan"]]),
        ({1: {"a": b"x"}}, {"1": {"a": "b'x'"}}),
        (np.array([1.0]), "array([1.])"),
        (True, True),
        (None, None),
    ],
)
def test_whatever_comes_can_be_written_down(folder: Path, value: Any, kept: Any) -> None:
    with contextlib.closing(Ledger(folder)) as ledger:
        ledger.note("request", value=value)
    (entry,) = read(folder / JOURNAL)
    assert entry.fields["value"] == kept
    assert type(entry.fields["value"]) is type(kept)


def test_a_server_that_was_stopped_leaves_nothing_to_acknowledge(folder: Path, service) -> None:
    service(None, Ledger(folder))._instrument.close()
    assert kinds(folder)[-1] == "stopped"
    with contextlib.closing(Ledger(folder)) as ledger:
        assert ledger.recovered.blocked is None


def test_a_server_that_was_killed_starts_blocked_until_an_operator_has_looked(folder: Path, service, enter) -> None:
    with contextlib.closing(Ledger(folder)) as ledger:
        ledger.note("started")
    ours = service(None, Ledger(folder))
    client = enter(ours)
    state = client("state")
    assert "ended without bringing the tip to safety" in state["blocked"]
    assert state["tip"] == "unknown"
    client.take()
    with pytest.raises(InterlockError, match="nothing moves until an operator acknowledges"):
        client("move_to", x=1e-9)
    client("acknowledge")
    assert client("wait_ready", timeout=5.0)
    assert client("state")["tip"] == "in_range"
    assert client.do("move_to", x=1e-9)["state"] == "done"
    ours._instrument.close()
    with contextlib.closing(Ledger(folder)) as ledger:
        assert ledger.recovered.blocked is None


def test_an_emergency_stop_is_remembered_across_a_restart(folder: Path, service, enter) -> None:
    first = service(None, Ledger(folder))
    client = enter(first, "observer", name="olga")
    client.wait(client("emergency_stop", reason="smoke")["id"])
    first._instrument.close()
    again = enter(service(None, Ledger(folder)))
    assert again("state")["blocked"] == "emergency stop by olga: smoke"


def test_sessions_answers_and_leases_are_recovered(folder: Path, service, enter) -> None:
    first = service(None, Ledger(folder))
    client = enter(first, "admin", name="ann")
    client.take()
    client("move_to", x=1e-9, request_id="good")
    with pytest.raises(LeaseError):
        enter(first, name="bob")("move_to", x=1e-9, request_id="bad")
    first._instrument.close()
    with contextlib.closing(Ledger(folder)) as ledger:
        recovered = ledger.recovered
    assert recovered.last_lease == 1
    session = recovered.sessions[label_of(client.session.id)]
    assert (session.identity, session.client) == (Identity("ann", Role.ADMIN), "ann@here")
    assert session.answers["good"].give()["verb"] == "move_to"
    (other,) = (session for label, session in recovered.sessions.items() if label != client.session.label)
    with pytest.raises(LeaseError, match="needs control"):
        other.answers["bad"].give()
    # The secret by which a client takes its session up again is nowhere on the disk.
    assert client.session.id not in (folder / JOURNAL).read_text()


def test_a_request_without_an_answer_has_an_unknown_outcome(folder: Path) -> None:
    with contextlib.closing(Ledger(folder)) as ledger:
        ledger.note("session", session="s", identity="ann", role="operator", client="ann@here")
        ledger.note("request", session="s", request_id="r1", fingerprint="f")
    with contextlib.closing(Ledger(folder)) as ledger:
        answer = ledger.recovered.sessions["s"].answers["r1"]
    with pytest.raises(OutcomeUnknownError, match="restarted while it carried this request out: look at the state"):
        answer.give()


def test_what_is_recovered_is_bounded(folder: Path) -> None:
    with contextlib.closing(Ledger(folder)) as ledger:
        for number in range(1500):
            ledger.note("session", session=str(number), identity="ann", role="operator", client="")
        for number in range(1000):
            about = {"session": "1499", "request_id": str(number)}
            ledger.note("request", **about, fingerprint="f")
            ledger.note("answer", **about, result=number)
    with contextlib.closing(Ledger(folder)) as ledger:
        sessions = ledger.recovered.sessions
    assert len(sessions) <= 1000
    answers = sessions["1499"].answers
    assert len(answers) < 1000
    assert answers["999"].give() == 999


def test_with_a_full_disk_nothing_is_begun_but_the_tip_can_be_brought_to_safety(
    folder: Path, service, enter, ramp_driver
) -> None:
    class Slow(ramp_driver):
        def move_to(self, x: float, y: float, z: float, speed: float | None = None) -> None:
            self.calls.append(("move_to", x, y, z, speed))
            self.stopped.clear()
            self.stopped.wait(20)

        def withdraw(self) -> None:
            self.calls.append(("withdraw",))
            self.tip = TipState.WITHDRAWN

    driver = Slow()
    client = enter(service(driver, Ledger(folder)))
    assert client("wait_ready", timeout=5.0)
    client.take()
    client.do("set_signal", name="bias", value=0.2, request_id="1")
    before = list(driver.calls)
    state = client("state")
    commands = {
        "move_to": {"x": 1e-9},
        "set_signal": {"name": "bias", "value": 0.3},
        "approach": {},
        "acquire": {"kind": "path", "request": {"positions": [[0, 0]], "channels": ["at_x"]}},
    }
    with full(folder / JOURNAL):
        for number, (verb, parameters) in enumerate(commands.items()):
            for request_id in (None, f"full {number}", f"full {number}"):
                with pytest.raises(StoreError, match="is the disk full"):
                    client(verb, **parameters, request_id=request_id)
        assert driver.calls == before
        now = client("state")
        assert (now["job"], now["status"], now["signals"]) == (None, "idle", state["signals"])
    move = client("move_to", x=1e-9, request_id="2")["id"]
    with full(folder / JOURNAL):
        assert client("abort", id=move, request_id="3")["state"] == "aborted"
        assert client.wait(client("withdraw", request_id="4")["id"])["state"] == "done"
        assert driver.calls[-1] == ("withdraw",)
        stop = enter(client.service, "observer")("emergency_stop", reason="full", request_id="5")
        assert client.wait(stop["id"])["state"] == "done"
        client("release_lease", request_id="6")
        with pytest.raises(StoreError):
            client.take()
        assert client("state")["lease"] is None
    client.take()
    client("acknowledge")
    assert client.do("set_signal", name="bias", value=0.3, request_id="7")["state"] == "done"
    # No line was torn, none is missing in between.
    assert kinds(folder)[0] == "started"


def test_a_long_journal_is_put_aside_and_nothing_that_matters_is_forgotten(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("twinscope.ledger._ROTATE_AT", 2000)
    first = Ledger(tmp_path)
    first.note("started")
    for number in range(1, 21):
        first.note("lease", number=number, what="acquired")
    first.note("blocked", reason="the tip has fallen off")
    first.note("stopped")
    first.close()
    Ledger(tmp_path).close()
    (aside,) = tmp_path.glob("journal-*.jsonl")
    assert sum(1 for _ in read(aside)) == 23
    again = Ledger(tmp_path)
    assert (again.recovered.last_lease, again.recovered.blocked) == (20, "the tip has fallen off")
    assert [entry.kind for entry in read(tmp_path / "journal.jsonl")] == ["continued"]
    again.close()
