"""Many short commands and acquisitions: nothing piles up."""

import sys
import threading
import time
from pathlib import Path

import pytest

from twinscope.conformance.bench import Direct

CONTRACT = "docs/drivers.md, 'Nights'"

_LEAST_ROUNDS = 3


def memory() -> int:
    """Return how many bytes this process has in memory; where that cannot be seen, the most that it has had."""
    status = Path("/proc/self/statm")
    if status.exists():
        import resource

        return int(status.read_text().split()[1]) * resource.getpagesize()
    if sys.platform == "win32":
        pytest.skip("the memory of a process cannot be seen here")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def open_files() -> int:
    """Return how many files and connections this process has open; 0 where that cannot be seen."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def once(direct: Direct) -> None:
    """Do a little of everything."""
    x, y = direct.work.offset(0.25, -0.25)
    direct.perform("move_to", x=x, y=y)
    for name in direct.capabilities.settable[:1]:
        direct.perform("write", name=name, value=direct.work.found.signals[name])
    kinds = direct.capabilities.acquisitions
    if "scan" in kinds:
        direct.acquire(direct.work.scan())
        direct.start(direct.work.long_scan())
        direct.driver.stop()
    if "path" in kinds:
        direct.acquire(direct.work.path())
    if "spectroscopy" in kinds:
        direct.acquire(direct.work.spectroscopy(direct.capabilities.sweeps[0]))
    direct.perform("move_to", x=direct.work.center[0], y=direct.work.center[1])


def test_soak(direct: Direct, soak: float) -> None:
    """After many commands and scans, memory, threads and open files are not more than after some."""
    _repeat(direct, soak / 2)
    before = memory(), threading.active_count(), open_files()
    rounds = _repeat(direct, soak / 2)
    grown = memory() - before[0]
    assert grown <= direct.settings.growth, f"the memory has grown by {grown / 1e6:.1f} MB in {rounds} rounds"
    more = threading.active_count() - before[1]
    assert more <= 1, f"there are {more} more threads after {rounds} rounds"
    files = open_files() - before[2]
    assert files <= 1, f"there are {files} more open files after {rounds} rounds"


def _repeat(direct: Direct, seconds: float) -> int:
    end, rounds = time.monotonic() + seconds, 0
    while rounds < _LEAST_ROUNDS or time.monotonic() < end:
        once(direct)
        rounds += 1
    return rounds
