"""The conformance suite itself: it catches every fault, lets good drivers pass, and disturbs nobody else."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.faulty import all_faults
from twinscope import Microscope, ScanFrame
from twinscope.conformance.settings import Settings, Subject
from twinscope.conformance.units import is_si
from twinscope.errors import ConfigurationError

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "tests" / "plugins" / "example"


def run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run pytest in a folder of nobody's."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(EXAMPLE)])}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=280)


def outcomes(said: "subprocess.CompletedProcess[str]") -> dict[str, int]:
    """Return how many tests passed, failed, ..."""
    return {kind: int(count) for count, kind in re.findall(r"(\d+) (\w+)", said.stdout.splitlines()[-1])}


def check_passes(said: "subprocess.CompletedProcess[str]", at_least: int) -> None:
    counts = outcomes(said)
    assert said.returncode == 0, said.stdout[-6000:] + said.stderr[-2000:]
    assert counts["passed"] >= at_least, said.stdout[-2000:]


# ---------------------------------------------------------------------- faults


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Which checks fail with each fault."""
    folder = tmp_path_factory.mktemp("faults")
    command = [sys.executable, "-m", "tests.conformance.run_faults", str(folder)]
    # Looking for all plugins would take longer than most of the checks.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert said.returncode == 0, said.stdout[-2000:] + said.stderr
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fault", all_faults())
def test_every_fault_is_caught(results: dict[str, Any], fault: str) -> None:
    named = {f"{module} {name}" for module, names in all_faults()[fault].fails.items() for name in names}
    must = {name for name in named if not name.endswith("?")}
    may = {name.removesuffix("?") for name in named}
    failed = results[fault]["failed"]
    assert must <= set(failed), f"not caught by {must - set(failed)}"
    assert set(failed) <= may, {name: said for name, said in failed.items() if name not in may}


def test_a_failure_says_what_the_contract_is(results: dict[str, Any]) -> None:
    said = results["TurnsClockwise"]["failed"]["geometry ramp_at_every_angle"]
    assert "A frame is rotated about its middle, counter-clockwise" in said
    assert "docs/drivers.md" in said
    assert "was measured at" in said


@pytest.mark.parametrize("check", ["commands coarse_motion", "refusals features_out_of_range"])
def test_limits_that_a_driver_has_forgotten_are_named(results: dict[str, Any], check: str) -> None:
    assert "gives no limits of coarse_steps" in results["PromisesTooMuch"]["failed"][check]


# ---------------------------------------------------------------------- drivers that are as they should be


def test_the_example_passes_everything(tmp_path: Path) -> None:
    config = f"--driver-config={EXAMPLE / 'conformance.toml'}"
    said = run(
        tmp_path, "--twinscope-driver=twinscope_example:Dunes", config, "--driver-server", "--twinscope-soak=0.5"
    )
    check_passes(said, 250)
    assert set(outcomes(said)) == {"passed", "skipped"}


def test_the_faulty_driver_without_a_fault_passes(tmp_path: Path) -> None:
    config = f"--driver-config={EXAMPLE / 'conformance.toml'}"
    said = run(
        tmp_path, "--twinscope-driver=tests.conformance.faulty:Faulty", config, "-k", "direct", "--twinscope-soak=0.5"
    )
    check_passes(said, 60)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_simulator_passes(tmp_path: Path) -> None:
    config = tmp_path / "simulator.toml"
    config.write_text(SIMULATOR)
    check_passes(
        run(tmp_path, "--twinscope-driver=simulator", f"--driver-config={config}", "--twinscope-soak=0.5"), 150
    )


def test_a_recording_passes(tmp_path: Path) -> None:
    """Of the example, with the channels that say where each pixel was measured."""
    with (
        Microscope("twinscope_example:Dunes", directory=tmp_path / "recorded", spacing=10e-9) as scope,
        scope.control(),
    ):
        frame = ScanFrame(size=(40e-9, 30e-9), center=(2e-9, 1e-9))
        channels = ["current", "sensor_x", "sensor_y"]
        recorded = scope.scan(frame=frame, pixels=(48, 36), channels=channels, heights=[2.4e-9])
        recorded.result(60)
        config = tmp_path / "replay.toml"
        config.write_text(RECORDING.format(file=json.dumps(recorded.file)))
    check_passes(run(tmp_path, "--twinscope-driver=replay", f"--driver-config={config}", "--twinscope-soak=0.5"), 140)


# It was recorded at one height, and does not know which.
RECORDING = """
file = {file}

[conformance]
height = 0.0
one_height = true
ramp = {{x = "sensor_x", y = "sensor_y"}}
patience = 5.0
settle = 10.0
"""

# Over a molecule, where the frequency shift is not the same everywhere; slow enough for the z-controller to follow it.
SIMULATOR = """
sample = "benzene"
surface = "Au"
oracle = true

[conformance]
size = [6e-10, 4e-10]
height = 4.2e-10
channels = ["frequency_shift"]
tolerance = 0.02
line_time = 0.5
point_time = 0.1
patience = 5.0
settle = 20.0
"""


# ---------------------------------------------------------------------- the plugin


def test_without_its_option_nothing_changes(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("def test_mine(pytestconfig):\n    assert len(pytestconfig.args) == 1\n")
    assert outcomes(run(tmp_path)) == {"passed": 1}
    assert run(tmp_path, "--pyargs", "twinscope.conformance").returncode == pytest.ExitCode.NO_TESTS_COLLECTED


def test_it_runs_beside_the_tests_of_a_project(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\npython_files = check_*.py\n")
    (tmp_path / "check_mine.py").write_text("def test_mine():\n    pass\n")
    driver = ["--twinscope-driver=twinscope_example:Dunes", "-k", "mine or class_attributes or open_and_close"]
    assert outcomes(run(tmp_path, *driver))["passed"] == 2
    assert outcomes(run(tmp_path, *driver, str(tmp_path), "--pyargs", "twinscope.conformance"))["passed"] == 3


def test_the_plugin_is_light() -> None:
    code = "import twinscope.conformance.plugin, sys; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(said.stdout.split())
    assert not loaded & {
        "numpy",
        "jax",
        "h5py",
        "Pyro5",
        "msgpack",
        "twinscope.errors",
        "twinscope.conformance.session",
    }


def test_a_driver_that_does_not_exist_is_a_wrong_use_of_pytest(tmp_path: Path) -> None:
    said = run(tmp_path, "--twinscope-driver=no_such_driver")
    assert said.returncode == pytest.ExitCode.USAGE_ERROR
    assert "unknown driver 'no_such_driver'" in said.stderr
    assert "Traceback" not in said.stderr


def test_options_that_the_driver_refuses_are_told_once(tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text("spacign = 1e-8\n")
    said = run(tmp_path, "--twinscope-driver=twinscope_example:Dunes", "--driver-config=wrong.toml")
    assert said.returncode == pytest.ExitCode.USAGE_ERROR
    assert "unknown option 'spacign'" in said.stderr


@pytest.mark.parametrize(
    ("driver", "config", "message"),
    [
        ("twinscope_example:Dune", "", "cannot be loaded"),
        ("twinscope_example:Dunes", "[conformance]\nheigth = 1e-9", r"in \[conformance\]: unknown option 'heigth'"),
        ("twinscope_example:Dunes", "[conformance]\nline_time = 'fast'", "the option line_time is 'fast'"),
        ("twinscope_example:Dunes", "conformance = 3", "expected a table"),
        ("twinscope_example:Dunes", "spacing = ", "cannot be read"),
    ],
)
def test_what_cannot_be_tested_is_refused(tmp_path: Path, driver: str, config: str, message: str) -> None:
    file = tmp_path / "driver.toml"
    file.write_text(config)
    with pytest.raises(ConfigurationError, match=message):
        Subject.load(driver, file)


@pytest.mark.parametrize(
    "wrong",
    [{"pixels": [4, 4]}, {"pixels": [1, 3]}, {"ramp": {"z": "a"}}, {"tolerance": float("nan")}, {"allow": ["motor"]}],
)
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Settings.from_keywords(wrong)


@pytest.mark.parametrize(
    ("unit", "allowed"),
    [
        *((unit, True) for unit in ("1", "m", "V", "m/s", "m/Hz", "V^2", "V2", "N*m^-1", "V/√Hz", "deg", "m s^-2")),
        *((unit, False) for unit in ("", "nm", "pA", "mV", "kHz", "a.u.", "eV", "Å", "m/", "bar", "counts", "°F")),
    ],
)
def test_units_are_those_of_the_si(unit: str, allowed: bool) -> None:
    assert is_si(unit) is allowed
