"""The journal keeps what it was given: through kills, full disks and second servers."""

import json
import random
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from twinscope.errors import StoreError
from twinscope.storage.journal import Journal, read


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def write_three(path: Path) -> None:
    with Journal(path) as journal:
        journal.append("lease", holder="ann", purpose="a test")
        journal.append("move", lease="abc", target={"x": 1e-9, "y": None}, pixels=[2, 3])
        journal.append("withdraw", note='a "quoted",\nbroken line with a µ')


def test_what_is_appended_is_read_again(path: Path) -> None:
    before = datetime.now(UTC)
    write_three(path)
    first, second, third = read(path)
    assert (first.number, first.kind, first.fields) == (1, "lease", {"holder": "ann", "purpose": "a test"})
    assert second.fields == {"lease": "abc", "target": {"x": 1e-9, "y": None}, "pixels": [2, 3]}
    assert third.fields["note"] == 'a "quoted",\nbroken line with a µ'
    assert 0 <= (datetime.fromisoformat(third.time) - before).total_seconds() + 1e-3 < 60
    assert first.time.endswith("+00:00")


def test_each_line_is_json_for_any_reader(path: Path) -> None:
    write_three(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["n"] for line in lines] == [1, 2, 3]
    assert all(len(line["check"]) == 16 for line in lines)


def test_numbers_go_on_after_a_restart(path: Path) -> None:
    write_three(path)
    with Journal(path) as journal:
        assert journal.append("start") == 4
    assert [entry.number for entry in read(path)] == [1, 2, 3, 4]


def test_many_threads_leave_no_gap(path: Path) -> None:
    with Journal(path) as journal:

        def work(name: int) -> None:
            for step in range(50):
                journal.append("step", durable=False, thread=name, step=step)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    entries = list(read(path))
    assert [entry.number for entry in entries] == list(range(1, 201))
    assert sorted((e.fields["thread"], e.fields["step"]) for e in entries) == [
        (t, s) for t in range(4) for s in range(50)
    ]


@pytest.mark.parametrize(
    ("alter", "line"),
    [
        (lambda lines: [lines[0].replace(b"ann", b"bob"), *lines[1:]], 1),
        (lambda lines: [lines[0], lines[2]], 2),
        (lambda lines: [lines[1], lines[0], lines[2]], 1),
        (lambda lines: [lines[0], lines[0], *lines[1:]], 2),
        (lambda lines: [lines[0], b"hello\n", *lines[1:]], 2),
        (lambda lines: lines[1:], 1),
    ],
    ids=["changed", "deleted", "swapped", "repeated", "inserted", "first gone"],
)
def test_an_altered_line_is_noticed_and_named(path: Path, alter, line: int) -> None:
    write_three(path)
    path.write_bytes(b"".join(alter(path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(StoreError, match=rf"line {line} .* altered"):
        list(read(path))
    kinds = [entry.kind for entry in read(path, strict=False)]
    assert set(kinds) <= {"lease", "move", "withdraw"}
    assert "withdraw" in kinds


def test_a_journal_whose_last_line_was_altered_is_not_continued(path: Path) -> None:
    write_three(path)
    altered = path.read_bytes().replace(b"withdraw", b"approach")
    path.write_bytes(altered)
    with pytest.raises(StoreError, match=r"last line of the journal .* altered"):
        Journal(path)
    assert path.read_bytes() == altered


def test_a_torn_line_is_kept_as_evidence(path: Path) -> None:
    write_three(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"n":4,"time":"2026')
    assert [entry.number for entry in read(path)] == [1, 2, 3]
    Journal(path).close()
    assert path.read_bytes().startswith(whole)
    *_, last = read(path)
    assert (last.number, last.kind, last.fields) == (4, "torn", {"file": "journal.jsonl.torn-4", "bytes": 19})
    assert path.with_name("journal.jsonl.torn-4").read_bytes() == b'{"n":4,"time":"2026'


def test_a_first_line_that_is_torn_is_kept_too(path: Path) -> None:
    path.write_bytes(b"\0" * 200_000)
    with Journal(path) as journal:
        assert journal.append("start") == 2
    assert [entry.kind for entry in read(path)] == ["torn", "start"]
    assert path.with_name("journal.jsonl.torn-1").stat().st_size == 200_000


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"x": float("nan")}, ValueError),
        ({"x": [1.0, float("inf")]}, ValueError),
        ({"x": object()}, TypeError),
        ({"x": {1, 2}}, TypeError),
        ({"x": b"bytes"}, TypeError),
        ({"time": "mine"}, ValueError),
        ({"check": "mine"}, ValueError),
    ],
)
def test_what_is_no_json_is_refused_and_leaves_no_trace(path: Path, fields, error) -> None:
    with Journal(path) as journal:
        with pytest.raises(error):
            journal.append("move", **fields)
        assert journal.append("move", x=1.0) == 1
    assert [entry.fields for entry in read(path)] == [{"x": 1.0}]


def test_a_second_server_on_the_folder_is_refused(path: Path) -> None:
    program = "import sys, pathlib; from twinscope.storage.journal import Journal; Journal(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", program, str(path)]
    with Journal(path) as journal:
        journal.append("start")
        ended = subprocess.run(command, capture_output=True, text=True)
        assert "StoreError: another server uses the folder" in ended.stderr
        with pytest.raises(StoreError, match="another server"):
            Journal(path)
        journal.append("still mine")
    assert subprocess.run(command).returncode == 0


def test_a_closed_journal_takes_nothing(path: Path) -> None:
    journal = Journal(path)
    journal.close()
    journal.close()
    with pytest.raises(StoreError, match="is closed"):
        journal.append("late")


def test_a_journal_that_cannot_be_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        Journal(tmp_path / "absent" / "journal.jsonl")
    with pytest.raises(StoreError, match="cannot be read"):
        list(read(tmp_path / "absent.jsonl"))


FULL_DISK = """
import pathlib, resource, signal, sys
from twinscope.errors import StoreError
from twinscope.storage.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = Journal(pathlib.Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
refused = 0
for number in range(3):
    try:
        journal.append("long", text="x" * 400)
    except StoreError as exc:
        assert "cannot be written" in str(exc)
        refused += 1
assert refused == 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert journal.append("room again") == 3
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are a thing of POSIX")
def test_a_full_disk_leaves_no_half_line(path: Path) -> None:
    """A file that may not grow past 1000 bytes takes a part of the third line: the part is cut off again."""
    subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], check=True)
    assert [entry.kind for entry in read(path)] == ["long", "long", "room again"]
    assert path.read_bytes().count(b"\n") == 3


KILLED = """
import itertools, pathlib, sys
from twinscope.storage.journal import Journal
journal = Journal(pathlib.Path(sys.argv[1]))
print("open", flush=True)
for step in itertools.count():
    number = journal.append("step", durable=step % 50 == 0, step=step, text="x" * (step * 97 % 5000))
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a thing of POSIX")
def test_kill_9_at_any_moment_loses_nothing_that_was_acknowledged(path: Path, tmp_path: Path) -> None:
    """Ten writers, one after the other, are killed while they append as fast as they can."""
    rng = random.Random(20261001)
    acknowledged = 0
    for attempt in range(10):
        said = tmp_path / f"said-{attempt}"
        with said.open("wb") as output:
            process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=output)
        while not said.read_bytes().startswith(b"open\n"):
            assert process.poll() is None
            time.sleep(0.002)
        time.sleep(rng.uniform(0.0, 0.05))
        process.kill()
        process.wait()
        last = said.read_bytes().rpartition(b"\n")[0].splitlines()[-1]
        acknowledged = acknowledged if last == b"open" else int(last)
        numbers = [entry.number for entry in read(path)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= acknowledged
    assert acknowledged > 50


def test_opening_reads_only_the_end(path: Path) -> None:
    """The middle of a journal is not looked at when it is continued, only when it is read."""
    with Journal(path) as journal:
        for step in range(300):
            journal.append("step", durable=False, text=str(step) * 400)
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with Journal(path) as journal:
        assert journal.append("continued") == 301
    with pytest.raises(StoreError, match="line 3"):
        list(read(path))


def test_the_journal_is_not_inherited_by_programs_that_the_server_starts(path: Path) -> None:
    """A child that outlives the server would keep the folder locked."""
    journal = Journal(path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        journal.close()
        Journal(path).close()
        assert child.stdin is not None
        child.stdin.write(b"\n")
    assert path.stat().st_size == 0
