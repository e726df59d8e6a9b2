"""Run the checks on one fault after the other, in one process that has loaded everything once.

``python run_faults.py FOLDER`` writes ``results.json``: the names of the checks that failed, by fault.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import twinscope.conformance
from tests.conformance.faulty import Faulty, all_faults
from twinscope.conformance.server import toml

CHECKS = Path(twinscope.conformance.__file__).parent / "checks"


class Recorder:
    """Notes which checks fail, and what they say."""

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}
        self.passed = 0

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: Any) -> Iterator[Any]:
        report = yield
        if report.failed:
            name = f"{item.module.__name__.rpartition('.')[2]} {item.originalname.removeprefix('test_')}"
            said = report.longreprtext + "".join(text for _, text in report.sections)
            self.failed.setdefault(name, said[-3000:])
        self.passed += report.passed and report.when == "call"
        return report


def run(fault: type[Faulty], folder: Path) -> Recorder:
    """Run the checks that a fault names, and all others of their modules."""
    options = {"fault": fault.__name__, "clock": fault.clock, "file": str(folder / fault.__name__), "spacing": 1e-8}
    settings = {"height": 2.4e-9, "center": [2e-9, 1e-9], "line_time": 0.02, "point_time": 0.005, "patience": 5.0}
    settings |= fault.settings
    config = folder / f"{fault.__name__}.toml"
    config.write_text(f"{toml(options)}[conformance]\n{toml(settings)}", encoding="utf-8")
    # That of this project is not that of who writes a driver.
    ini = folder / "pytest.ini"
    ini.write_text("[pytest]\n", encoding="utf-8")
    recorder = Recorder()
    modules = list(fault.fails)
    named = {name.removesuffix("?") for names in fault.fails.values() for name in names}
    if fault.takes_time:
        only = ["-k", " or ".join(named)]
    else:
        # What is wrong with a driver shows without a server.
        only = [] if "process" in modules else ["-k", "not process"]
    pytest.main(
        [
            *(str(CHECKS / f"{module}.py") for module in modules),
            *(
                "--twinscope-driver=tests.conformance.faulty:Faulty",
                f"--driver-config={config}",
                "--twinscope-soak=0.4",
            ),
            *(
                "-p",
                "twinscope.conformance.plugin",
                "-q",
                "-p",
                "no:cacheprovider",
                "--tb=short",
                "--no-header",
                "-c",
                str(ini),
                f"--rootdir={folder}",
                *only,
            ),
        ],
        plugins=[recorder],
    )
    return recorder


def main() -> None:
    """Run all, or those that are named."""
    folder, *names = sys.argv[1:]
    results = {}
    for name in names or all_faults():
        recorder = run(all_faults()[name], Path(folder))
        results[name] = {"failed": recorder.failed, "passed": recorder.passed}
    (Path(folder) / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
