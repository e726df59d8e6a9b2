"""Drivers of other distributions: installed with pip, found by their entry points, listed even when they are broken."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import twinscope
from twinscope.conformance.session import CHECKS
from twinscope.conformance.settings import Settings

PLUGINS = Path(__file__).resolve().parent.parent / "plugins"
NAMES = ("antique", "broken", "example")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with all distributions, as pip installs them without a network."""
    sources, target = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("installed")
    # pip builds where the sources are.
    folders = [shutil.copytree(PLUGINS / name, sources / name) for name in NAMES]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(target)]
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, *offline, *map(str, folders)], check=True, capture_output=True)
    return target


def twinscope_says(installed: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run twinscope where the distributions are."""
    command = [sys.executable, "-m", "twinscope", *arguments]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def test_installed_drivers_are_listed(installed: Path) -> None:
    said = twinscope_says(installed, "drivers")
    assert said.returncode == 0, said.stderr
    entries = dict(entry.split(maxsplit=1) for entry in said.stdout.replace("\n ", " ").splitlines())
    assert {"simulator", "dunes", "broken", "antique"} <= set(entries)
    assert "twinscope-driver-example 0.3.0" in entries["dunes"]
    assert "an STM over dunes" in entries["dunes"]
    assert "constant_current" in entries["dunes"]
    assert "cannot be used" in entries["broken"]
    assert "RuntimeError: the vendor's library was built for another year" in entries["broken"]
    assert "was written for versions 0 to 0 of the driver interface, this is 1" in entries["antique"]
    assert "install a newer version of the driver" in entries["antique"]


def test_an_installed_driver_tells_its_options(installed: Path) -> None:
    said = twinscope_says(installed, "drivers", "dunes")
    assert "spacing" in said.stdout
    assert "2e-08" in said.stdout


@pytest.mark.parametrize(
    ("name", "reason"), [("broken", "another year"), ("antique", "versions 0 to 0"), ("dune", "unknown driver 'dune'")]
)
def test_what_cannot_be_used_is_not_served(installed: Path, tmp_path: Path, name: str, reason: str) -> None:
    said = twinscope_says(installed, "serve", "--driver", name, "--port", "0", "--data", str(tmp_path))
    assert said.returncode == 2
    assert reason in said.stderr
    assert "Traceback" not in said.stderr


def test_an_installed_driver_is_served(installed: Path, serve) -> None:
    server = serve("--driver", "dunes", "--set", "height=3e-9", PYTHONPATH=str(installed))
    with twinscope.connect(server.uri) as scope, scope.control():
        assert scope.capabilities().instrument == "STM over dunes"
        assert scope.capabilities().settings["height"] == 3e-9
        frame = twinscope.ScanFrame(size=(10e-9, 10e-9), center=(5e-9, 0.0))
        scan = scope.scan(frame=frame, pixels=(4, 3), channels=["sensor_x"], heights=[10e-9]).result(20)
        assert scan["sensor_x"].values[0, 0, 0] == pytest.approx(1.25e-9, rel=1e-5)


def test_the_documentation_shows_the_example_as_it_is() -> None:
    page = (PLUGINS.parent.parent / "docs" / "drivers.md").read_text()
    for name in ("twinscope_example/__init__.py", "pyproject.toml", "conformance.toml"):
        language = "python" if name.endswith(".py") else "toml"
        blocks = re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
        code = (PLUGINS / "example" / name).read_text()
        assert any(block.removeprefix("# pyproject.toml\n") == code for block in blocks), name


def test_the_documentation_has_every_setting_and_every_part_of_the_contract() -> None:
    page = (PLUGINS.parent.parent / "docs" / "drivers.md").read_text()
    for setting in Settings.describe():
        assert re.search(rf"^\|[^|]*`{setting.name}`", page, re.MULTILINE), setting.name
    for check in CHECKS:
        contract = importlib.import_module(f"twinscope.conformance.checks.{check}").CONTRACT
        for heading in re.findall(r"'([^']+)'", contract):
            assert f"\n## {heading}\n" in page, f"{check}: {heading}"
