"""The catalogue finds acquisitions, and is made anew from their files whenever it must be."""

import itertools
import logging
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twinscope import ScanFrame, ScanRequest, SpectroscopyRequest, Sweep
from twinscope.capabilities import Channel
from twinscope.errors import InvalidRequestError, NotFoundError, StoreError
from twinscope.state import JobState
from twinscope.storage.catalogue import NAME, Catalogue
from twinscope.storage.store import AcquisitionFile

SCAN = ScanRequest(frame=ScanFrame(size=(2e-9, 1e-9)), pixels=(3, 2), channels=("df",))
END = {"state": "done", "error": None, "warnings": [], "traces_done": 2, "checksums": {}}


def described(name: str, request: Any = SCAN, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "kind": request.kind,
        "request": request.to_dict(),
        "channels": [{"name": channel, "unit": "Hz", "quantity": channel} for channel in request.channels],
        "created": "2026-10-01T12:00:00.000+00:00",
        "instrument": {"instrument": "twin", "driver": "simulator", "driver_version": "1"},
        "operator": "ann",
        "purpose": "Finding pentacene",
        "file": f"{name}.h5",
        **more,
    }


@pytest.fixture
def store(tmp_path: Path) -> Callable[..., AcquisitionFile]:
    """Write the file of an acquisition; it is finished unless told otherwise."""

    def write(name: str, request: Any = SCAN, *, traces: int | None = None, **more: Any) -> AcquisitionFile:
        channels = tuple(Channel(channel, "Hz", channel) for channel in request.channels)
        file = AcquisitionFile(tmp_path / f"{name}.h5", request, channels, described(name, request, **more))
        done = request.trace_count if traces is None else traces
        file.write(0, np.ones((done, len(channels), request.trace_length), "<f4"))
        if traces is None:
            file.finish(JobState.DONE, None, ["a warning"])
        return file

    return write


def names(found: list[dict[str, Any]]) -> list[str]:
    return [one["id"] for one in found]


def test_an_acquisition_is_listed_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.add(described("a"))
    assert catalogue.get("a")["state"] == "running"
    catalogue.finish("a", **END | {"state": "failed", "error": "it broke", "warnings": ["w"], "checksums": {"df": "0"}})
    (found,) = catalogue.find()
    assert found == catalogue.get("a")
    assert found["request"] == SCAN.to_dict()
    assert found["channels"] == ["df"]
    assert (found["state"], found["error"], found["warnings"], found["traces_done"]) == ("failed", "it broke", ["w"], 2)
    assert found["checksums"] == {"df": "0"}
    assert found["file"] == str(tmp_path / "a.h5")
    assert (found["instrument"], found["driver"], found["operator"]) == ("twin", "simulator", "ann")
    np.testing.assert_allclose(found["box"], [-1e-9, -0.5e-9, 1e-9, 0.5e-9])


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    with pytest.raises(NotFoundError, match="'a'"):
        catalogue.get("a")
    with pytest.raises(NotFoundError, match="'a'"):
        catalogue.finish("a", **END)
    catalogue.add(described("a"))
    with pytest.raises(StoreError, match=r"'a' is in the catalogue .* already"):
        catalogue.add(described("a"))


def test_criteria_are_met_all_at_once(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    spectra = SpectroscopyRequest(
        swept="z", positions=((5e-9, 0), (6e-9, 1e-9)), sweep=Sweep(start=1e-9, stop=5e-10, points=3), channels=("i",)
    )
    turned = ScanRequest(
        frame=ScanFrame(size=(2e-9, 2e-9), center=(0, 8e-9), angle=45), pixels=(2, 2), channels=("df", "i")
    )
    catalogue.add(described("old", created="2026-09-30T23:59:59.999+00:00"))
    catalogue.add(described("spectra", spectra, operator="bob", purpose="100% sure_thing"))
    # 23:00 in New York is the next day in UTC.
    catalogue.add(described("turned", turned, created="2026-10-01T23:00:00-04:00"))
    catalogue.finish("old", **END)

    def found(**criteria: Any) -> list[str]:
        return names(catalogue.find(**criteria))

    assert found() == ["turned", "spectra", "old"]
    assert found(kind="scan") == ["turned", "old"]
    assert found(state="done") == ["old"]
    assert found(channel="i") == ["turned", "spectra"]
    assert found(operator="bob", channel="i") == ["spectra"]
    assert found(operator="bob", channel="df") == []
    assert found(purpose="PENTA") == ["turned", "old"]
    assert found(purpose="0% s") == ["spectra"]
    assert found(purpose="sure-thing") == []
    assert found(since="2026-10-01") == ["turned", "spectra"]
    assert found(until="2026-10-02T00:00:00Z") == ["spectra", "old"]
    assert found(since="2026-10-01T14:00:00+02:00", until="2026-10-02") == ["spectra"]
    assert found(within=(4e-9, -1e-9, 5.5e-9, 0)) == ["spectra"]
    assert found(within=(0, 9.1e-9, 0, 9.2e-9)) == ["turned"], "the corner of a square that stands on its tip"
    assert found(within=(2e-9, 2e-9, 3e-9, 3e-9)) == []
    assert found(limit=1) == ["turned"]
    assert found(limit=2, offset=1) == ["spectra", "old"]
    assert found(kind=None, state=None) == found()


@pytest.mark.parametrize(
    ("criteria", "message"),
    [
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"id; DROP TABLE acquisitions": 1}, "unknown key"),
        ({"kind": 3}, "kind is 3"),
        ({"since": "yesterday"}, "since is 'yesterday'"),
        ({"within": (0, 0, 1)}, "within is"),
        ({"within": (1, 0, 0, 1)}, "x0 <= x1"),
        ({"within": (0, 0, float("nan"), 1)}, "finite"),
        ({"limit": 0}, "limit is 0"),
        ({"offset": -1}, "offset is -1"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(tmp_path: Path, criteria: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        Catalogue(tmp_path).find(**criteria)


def test_text_is_never_taken_for_sql(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    nasty = "'; DROP TABLE acquisitions; --"
    catalogue.add(described(nasty, purpose=nasty, operator=nasty))
    assert names(catalogue.find(purpose=nasty, operator=nasty)) == [nasty]
    assert catalogue.find(kind="' OR '1'='1") == []


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no database at all" * 999),
        lambda path: path.write_bytes(path.read_bytes()[:6000] + b"\xff" * 2000 + path.read_bytes()[8000:]),
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    ],
    ids=["missing", "empty", "overwritten", "damaged", "cut off"],
)
def test_a_catalogue_that_is_lost_or_damaged_is_made_anew(tmp_path: Path, store, harm, caplog) -> None:
    for name in ("a", "b"):
        store(name, purpose="x" * 4000)
    before = Catalogue(tmp_path).find()
    harm(tmp_path / NAME)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert Catalogue(tmp_path).find() == before
    assert "made anew" in caplog.text
    assert names(before) == ["b", "a"]
    assert before[0]["warnings"] == ["a warning"]


def test_what_was_rebuilt_equals_what_was_noted(tmp_path: Path, store) -> None:
    catalogue = Catalogue(tmp_path)
    catalogue.add(described("a"))
    file = store("a")
    catalogue.finish("a", **END | {"warnings": ["a warning"], "checksums": file.checksums})
    noted = catalogue.get("a")
    catalogue.rebuild()
    assert catalogue.get("a") == noted
    assert len(noted["checksums"]["df"]) == 64


def test_an_acquisition_whose_server_was_killed_is_interrupted(tmp_path: Path, store, caplog) -> None:
    catalogue = Catalogue(tmp_path)
    for name in ("killed", "unmade", "done"):
        catalogue.add(described(name))
    unfinished = store("killed", traces=1)
    store("done")
    again = Catalogue(tmp_path)
    assert {one["id"]: (one["state"], one["traces_done"]) for one in again.find()} == {
        "killed": ("interrupted", 1),
        "unmade": ("interrupted", 0),
        "done": ("done", 2),
    }
    assert "unmade.h5" in again.get("unmade")["error"]
    unfinished.finish(JobState.ABORTED, None, [])


def test_files_that_the_catalogue_missed_are_taken_in_at_the_next_start(tmp_path: Path, store, caplog) -> None:
    Catalogue(tmp_path)
    store("late")
    (tmp_path / "foreign.h5").write_bytes(b"not ours")
    (tmp_path / "copy of late.h5").write_bytes((tmp_path / "late.h5").read_bytes())
    with caplog.at_level(logging.WARNING):
        assert names(Catalogue(tmp_path).find()) == ["late"]
    assert "foreign.h5 is not in the catalogue" in caplog.text


def test_threads_add_and_find_at_once(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    numbers = itertools.count()

    def work() -> None:
        for _ in range(5):
            name = f"a{next(numbers):03d}"
            catalogue.add(described(name))
            assert catalogue.get(name)["id"] == name

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names(catalogue.find())) == [f"a{number:03d}" for number in range(20)]


FULL_DISK = """
import pathlib, resource, signal, sys
from twinscope.storage.catalogue import Catalogue
from twinscope.errors import StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
catalogue = Catalogue(pathlib.Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
added = 0
metadata = {described!r}
try:
    for added in range(100):
        catalogue.add(metadata | {{"id": f"a{{added:03d}}", "purpose": "x" * 2000}})
except StoreError as exc:
    assert "is the disk full?" in str(exc), exc
assert 2 < added < 30, added
assert len(catalogue.find()) == added
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
catalogue.add(metadata | {{"id": "room again"}})
assert len(catalogue.find()) == added + 1
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are a thing of POSIX")
def test_a_full_disk_refuses_the_new_and_keeps_the_old(tmp_path: Path) -> None:
    program = FULL_DISK.format(described=described("a"))
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    assert "room again" in names(Catalogue(tmp_path).find())


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be"):
        Catalogue(tmp_path / "absent")


def test_any_sqlite_tool_reads_it(tmp_path: Path) -> None:
    Catalogue(tmp_path).add(described("a"))
    with sqlite3.connect(tmp_path / NAME) as database:
        assert database.execute("SELECT id, kind, x1 FROM acquisitions").fetchall() == [("a", "scan", 1e-9)]
    database.close()
