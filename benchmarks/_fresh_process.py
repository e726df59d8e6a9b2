"""One simulation in a process of its own: ``python _fresh_process.py DEVICES PIXELS SLICES ATOMS CALLS``.

It says "begin" when it begins to simulate, "first" when the first result is there, and then, as JSON, how long that and
the later calls took and how much memory the process ever had. ATOMS is 0 for PTCDA under the quadrupole, -1 for it
under a point charge, or the size of a flake. Compiled code is kept where the environment says.
"""

import json
import os
import resource
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from _cases import POINT, QUADRUPOLE, scan_grid, set_up, stack
from _flake import flake
from _processes import cache, helper
from _report import duration

PTCDA_QUADRUPOLE, PTCDA_POINT = 0, -1


@dataclass(frozen=True, slots=True)
class Found:
    """What a process has told.

    Attributes
    ----------
    ready
        Seconds from its start until it said what was waited for.
    first, later
        Seconds of its calls.
    before, peak
        Bytes of memory before the first call, and at most.
    result
        Bytes of what a call returned.
    """

    ready: float
    first: float
    later: tuple[float, ...]
    before: int
    peak: int
    result: int


def in_fresh_process(
    atoms: int, *, devices: int, pixels: int, slices: int, calls: int, folder: Path | None = None, wait: str = "first"
) -> Found:
    """Simulate in a new process; `folder` keeps compiled code, `wait` is what "ready" refers to."""
    parameters = map(str, (devices, pixels, slices, atoms, calls))
    environment = None if folder is None else cache(folder)
    with helper("_fresh_process.py", *parameters, prefix=wait, environment=environment) as running:
        assert running.process.stdout is not None
        text = next(line for line in running.process.stdout if line.startswith("{"))
        running.process.wait()
    told = json.loads(text)
    return Found(running.ready, told["first"], tuple(told["later"]), told["before"], told["peak"], told["result"])


def main() -> None:
    """Simulate and tell."""
    devices, pixels, slices, atoms, calls = map(int, sys.argv[1:])
    set_up(devices, keep_compiled="JAX_COMPILATION_CACHE_DIR" in os.environ)
    case = QUADRUPOLE if atoms == PTCDA_QUADRUPOLE else POINT
    sample = flake(atoms) if atoms > 0 else case.atoms
    simulation = partial(stack, sample, case.tip, scan_grid(pixels, slices))
    before = _peak_memory()
    print("begin", flush=True)
    results: list[int] = []
    first = duration(lambda: results.extend(values.nbytes for values in simulation()))
    print("first", flush=True)
    later = [duration(simulation) for _ in range(calls)]
    told = {"first": first, "later": later, "before": before, "peak": _peak_memory(), "result": sum(results)}
    print(json.dumps(told), flush=True)


def _peak_memory() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    # macOS counts in bytes. Linux would count the parent's memory as well.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
