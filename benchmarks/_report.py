"""What the benchmarks share: statistics, the machine line, the table and its JSON form."""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

_HEADINGS = ("what", "median [best]", "compared with", "its median [best]", "ratio", "target", "holds")
_SCALES = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "B": ((1e9, "GB"), (1e6, "MB")),
    "B/s": ((1e9, "GB/s"), (1e6, "MB/s")),
    "flop/s": ((1e9, "Gflop/s"),),
}
# Errors, and what is more the better, but has nothing to do with time.
_ERRORS = ("", "Å", "Å²", "V/Å", "(V/Å)²", "off")
_QUALITIES = ("R²", "part", "correlation")
# Of these less is better; anything else is a rate or a ratio.
_COSTS = ("s", "B", "exponent", "missed", "evaluations", "times", *_ERRORS)


@dataclass(frozen=True, slots=True)
class Figure:
    """Repeated measurements of one thing.

    Attributes
    ----------
    values
        In the unit.
    unit
        "s" or another cost, where less is better; anything else is a rate or a ratio, where more is better.
    """

    values: tuple[float, ...]
    unit: str = "s"

    @property
    def is_rate(self) -> bool:
        """Whether more is better."""
        return self.unit not in _COSTS

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    @property
    def best(self) -> float:
        """The least disturbed value."""
        return max(self.values) if self.is_rate else min(self.values)

    def __str__(self) -> str:
        if len(self.values) == 1:
            return formatted(self.median, self.unit)
        return f"{formatted(self.median, self.unit)} [{formatted(self.best, self.unit)}]"

    def per(self, amount: float, unit: str) -> "Figure":
        """Turn durations into rates of `amount` per duration."""
        return Figure(tuple(amount / value for value in self.values), unit)

    def per_call(self, calls: int) -> "Figure":
        """Divide what was measured over several calls."""
        return Figure(tuple(value / calls for value in self.values), self.unit)


@dataclass(frozen=True, slots=True)
class Cost:
    """What an action costs: seconds on the wall, and seconds of processor time of all threads of this process.

    The second hardly depends on what else the machine does.
    """

    wall: Figure
    processor: Figure


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    what: str
    measured: Figure
    peer_name: str = ""
    peer: Figure | None = None
    target: float | None = None

    @property
    def slower(self) -> float | None:
        """How many times slower than the peer."""
        if self.peer is None:
            return None
        ratio = self.measured.median / self.peer.median
        return 1 / ratio if self.measured.is_rate else ratio

    @property
    def holds(self) -> bool | None:
        """Whether the median meets the target; None without one."""
        if self.target is None:
            return None
        return self.measured.median >= self.target if self.measured.is_rate else self.measured.median <= self.target

    def cells(self) -> tuple[str, ...]:
        """Texts of the table's columns."""
        ratio = ""
        if self.slower is not None:
            timeless = self.measured.unit in (*_ERRORS, *_QUALITIES)
            worse, better = ("worse", "better") if timeless else ("slower", "faster")
            ratio = f"{self.slower:.3g}x {worse}" if self.slower >= 1 else f"{1 / self.slower:.3g}x {better}"
        target = ""
        if self.target is not None:
            target = f"{'>=' if self.measured.is_rate else '<='} {formatted(self.target, self.measured.unit)}"
        holds = {None: "", True: "yes", False: "NO"}[self.holds]
        peer = "" if self.peer is None else str(self.peer)
        return self.what, str(self.measured), self.peer_name, peer, ratio, target, holds


@dataclass
class Report:
    """Collects rows, prints them as one table, and keeps them as JSON."""

    title: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=lambda: machine())

    def add(
        self,
        what: str,
        measured: Figure,
        *,
        peer: tuple[str, Figure] | None = None,
        target: float | None = None,
    ) -> None:
        """Add a row."""
        name, figure = ("", None) if peer is None else peer
        self.rows.append(Row(what, measured, name, figure, target))

    def finish(self, path: Path | None) -> None:
        """Print everything, and write it to `path` if there is one."""
        end_load = os.getloadavg()[0]
        table = [_HEADINGS, *(row.cells() for row in self.rows)]
        widths = [max(len(cells[column]) for cells in table) for column in range(len(_HEADINGS))]
        lines = ["| " + " | ".join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True)) + " |" for cells in table]
        lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        print(f"{self.title}\n")
        print("\n".join(lines) + "\n")
        for note in self.notes:
            print(f"- {note}")
        print(f"machine: {machine_line(self.machine)}, {end_load:.2f} after")
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self._plain() | {"load_after": end_load}, indent=1) + "\n")
            print(f"written: {path}")

    def _plain(self) -> dict[str, Any]:
        rows = [asdict(row) | {"slower": row.slower, "holds": row.holds} for row in self.rows]
        return {"title": self.title, "machine": self.machine, "rows": rows, "notes": self.notes}


def arguments(description: str | None, **flags: str) -> argparse.Namespace:
    """Parse the command line of a benchmark, which may have flags: name and help."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    for name, text in flags.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    return parser.parse_args()


def durations(action: Callable[[], object], count: int, *, warmup: int = 1) -> list[float]:
    """Call an action a number of times and return the seconds that each call took."""
    for _ in range(warmup):
        action()
    return [duration(action) for _ in range(count)]


def duration(action: Callable[[], object]) -> float:
    """Return the seconds that an action takes."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def interleaved(
    actions: Sequence[Callable[[], object]], rounds: int, *, calls: int = 1, warmup: int = 1
) -> list[Figure]:
    """Measure several actions in turns, so that a busy spell of the machine hits all of them."""
    values: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for found, action in zip(values, actions, strict=True):
            found += durations(action, calls, warmup=warmup)
    return [Figure(tuple(found)) for found in values]


def interleaved_costs(actions: Sequence[Callable[[], object]], rounds: int) -> list[Cost]:
    """Measure several actions in turns, after one call of each that does not count."""
    for action in actions:
        action()
    wall: list[list[float]] = [[] for _ in actions]
    processor: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for number, action in enumerate(actions):
            begin = time.process_time()
            wall[number].append(duration(action))
            processor[number].append(time.process_time() - begin)
    return [Cost(Figure(tuple(w)), Figure(tuple(p))) for w, p in zip(wall, processor, strict=True)]


def formatted(value: float, unit: str) -> str:
    """Write a value with three digits and a fitting unit."""
    factor, name = next((scale for scale in _SCALES.get(unit, ()) if abs(value) >= scale[0]), (1.0, unit))
    scaled = value / factor
    return f"{scaled:.0f} {name}".rstrip() if abs(scaled) >= 100 else f"{scaled:.3g} {name}".rstrip()


def machine() -> dict[str, Any]:
    """Describe what the benchmark runs on."""
    packages = ("twinscope", "numpy", "Pyro5", "h5py", "jax", "jaxlib", "ppafm", "pyopencl", "pocl-binary-distribution")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {name: version for name in packages if (version := _version(name))},
    }


def machine_line(facts: dict[str, Any]) -> str:
    """Write :func:`machine` as one line."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['system']}, Python {facts['python']}, {versions};"
        f" {facts['date']}, load {facts['load_before']:.2f} before"
    )


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
