"""A driver that misbehaves in one way, which its option `fault` chooses; without one it behaves.

Each fault is a class with what it does wrong. It says which checks of the conformance suite fail by it, and with a
question mark which may, of the modules that it names; no others do. `clock` and `settings` are how it is tested; where
that takes time only the checks that it names are run.
"""

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from twinscope.drivers.options import DriverOptions

sys.path.append(str(Path(__file__).resolve().parent.parent / "plugins" / "example"))

from twinscope_example import Dunes, DunesOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultyOptions(DunesOptions):
    """As of the dunes, and what is wrong."""

    fault: str = ""
    file: Path | None = None


class Faulty(Dunes):
    """An STM over dunes that has a fault."""

    name: ClassVar[str] = "faulty"
    options_type: ClassVar[type[DriverOptions]] = FaultyOptions
    faults: ClassVar[dict[str, type["Faulty"]]] = {}
    fails: ClassVar[dict[str, set[str]]] = {}
    settings: ClassVar[dict[str, Any]] = {}
    clock: ClassVar[float | str] = "accelerated"
    takes_time: ClassVar[bool] = False

    def __init_subclass__(cls, **fails: str) -> None:
        cls.fails = {module: set(names.split()) for module, names in fails.items()}
        # What several faults share is none.
        if fails:
            Faulty.faults[cls.__name__] = cls

    def __new__(cls, **options: Any) -> "Faulty":
        return super().__new__(all_faults().get(options.get("fault", ""), cls))


def all_faults() -> dict[str, type[Faulty]]:
    """All faults by their names."""
    for part in ("life", "measuring", "stopping"):
        importlib.import_module(f"tests.conformance.faults_of_{part}")
    return Faulty.faults
