"""A request that comes again is carried out once: at once, from many threads, and after a restart."""

import json
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twinscope.errors import (
    InvalidRequestError,
    LeaseError,
    OutcomeUnknownError,
    OutOfRangeError,
)
from twinscope.ledger import Ledger

NM = 1e-9
ACQUIRE = {
    "kind": "scan",
    "request": {"frame": {"size": [2 * NM, 2 * NM]}, "pixels": [2, 3], "channels": ["at_x"], "line_time": 0.01},
}


def test_a_repeated_request_moves_the_tip_once(service, enter, ramp_driver) -> None:
    driver = ramp_driver()
    client = enter(service(driver))
    client.take()
    answers = [client("move_to", x=NM, request_id="r1") for _ in range(3)]
    client.wait(answers[0]["id"])
    assert answers[1:] == answers[:1] * 2
    assert [call[0] for call in driver.calls] == ["move_to"]
    client.wait(client("move_to", x=NM, request_id="r2")["id"])
    assert len(driver.calls) == 2
    with pytest.raises(InvalidRequestError, match="'r1' was used for another request"):
        client("move_to", x=2 * NM, request_id="r1")
    with pytest.raises(InvalidRequestError, match="'r1' was used for another request"):
        client("approach", request_id="r1")


def test_a_dry_run_does_not_use_up_a_request(service, enter, ramp_driver) -> None:
    driver = ramp_driver()
    client = enter(service(driver))
    client.take()
    assert client("move_to", x=NM, request_id="r1", dry_run=True) is None
    client.wait(client("move_to", x=NM, request_id="r1")["id"])
    assert len(driver.calls) == 1


@pytest.mark.parametrize("fails", [False, True])
def test_a_request_from_eight_threads_at_once_is_carried_out_once(service, enter, ramp_driver, fails: bool) -> None:
    driver = ramp_driver()
    client = enter(service(driver))
    client.take()
    answers: list[Any] = []
    gate = threading.Barrier(8)

    def ask() -> None:
        gate.wait()
        try:
            answers.append(client("move_to", x=1.0 if fails else NM, request_id="r1"))
        except OutOfRangeError as exc:
            answers.append(exc)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    if fails:
        assert all(isinstance(answer, OutOfRangeError) for answer in answers)
        assert len({str(answer.to_dict()) for answer in answers}) == 1
        assert client("jobs") == []
    else:
        assert len({answer["id"] for answer in answers}) == 1
        client.wait(answers[0]["id"])
        assert len(driver.calls) == 1


def test_a_repeated_request_is_answered_across_a_restart(service, enter, ramp_driver, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    first = service(None, Ledger(data))
    client = enter(first)
    lease = client("acquire_lease", purpose="", duration=10.0, request_id="lease")
    client.lease = lease["lease"]
    move = client("move_to", x=NM, request_id="good")
    client.wait(move["id"])
    scan = client("acquire", **ACQUIRE, request_id="scan")
    client.wait(scan["metadata"]["id"])
    with pytest.raises(OutOfRangeError) as refused:
        client("move_to", x=1.0, request_id="bad")
    first._instrument.close()

    driver = ramp_driver()
    second = service(driver, Ledger(data))
    again = enter(second, session=client.session.id)
    again.lease = client.lease
    assert again.session.label == client.session.label
    assert again("acquire_lease", purpose="", duration=10.0, request_id="lease") == lease
    assert again("state")["lease"] is None
    assert again("move_to", x=NM, request_id="good") == move
    answer = again("acquire", **ACQUIRE, request_id="scan")
    assert answer["metadata"]["id"] == scan["metadata"]["id"]
    assert answer == json.loads(json.dumps(answer))
    with pytest.raises(OutOfRangeError, match="x = 1 m") as repeated:
        again("move_to", x=1.0, request_id="bad")
    assert repeated.value.to_dict() == refused.value.to_dict()
    with pytest.raises(InvalidRequestError, match="was used for another request"):
        again("move_to", x=2 * NM, request_id="good")
    assert driver.calls == []
    # Of someone else it is another request: without a lease, it is refused.
    with pytest.raises(LeaseError):
        enter(second, name="eve", session=client.session.id)("move_to", x=NM, request_id="good")


def test_a_request_that_the_restart_cut_off_has_an_unknown_outcome(service, enter, ramp_driver, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    first = service(None, Ledger(data))
    client = enter(first)
    client.take()
    journal = (data / "journal.jsonl").read_bytes()
    client.wait(client("move_to", x=NM, request_id="r1")["id"])
    first._instrument.close()
    lines = (data / "journal.jsonl").read_bytes()[len(journal) :].splitlines(keepends=True)
    assert b'"kind":"request"' in lines[0]
    # As if the server had been killed right after it had written down what it was about to do.
    (data / "journal.jsonl").write_bytes(journal + lines[0])
    driver = ramp_driver()
    again = enter(service(driver, Ledger(data)), session=client.session.id)
    again.lease = client.lease
    for _ in range(2):
        with pytest.raises(OutcomeUnknownError, match="look at the state"):
            again("move_to", x=NM, request_id="r1")
    assert driver.calls == []


@pytest.mark.parametrize("reason", [b"\xff", math.nan, ["a", (1, {2: b"x"})], np.float32(1.5), None])
def test_an_emergency_stop_does_not_depend_on_what_was_given_as_its_reason(
    service, enter, tmp_path: Path, reason: Any
) -> None:
    client = enter(service(None, Ledger(tmp_path)), "observer")
    job = client("emergency_stop", reason=reason, request_id="r1")
    assert client.wait(job["id"])["state"] == "done"
    assert client("state")["tip"] == "withdrawn"
