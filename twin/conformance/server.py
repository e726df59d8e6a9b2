"""A ``twinscope serve`` with the driver under test."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinscope.conformance.settings import Subject

# Importing everything may take long on a busy computer, in s.
_START_TIMEOUT = 120.0
_END_TIMEOUT = 60.0


class ServerProcess:
    """A server in a process of its own.

    Parameters
    ----------
    subject
        The driver.
    interlocks
        Its rules, as plain data.
    data
        An empty folder.

    Attributes
    ----------
    uri
        Where it is.
    """

    def __init__(self, subject: Subject, interlocks: Mapping[str, Any], data: Path) -> None:
        options, rules, log = data / "options.toml", data / "interlocks.toml", data / "server.log"
        options.write_text(toml(subject.options), encoding="utf-8")
        rules.write_text(toml(interlocks), encoding="utf-8")
        command = [sys.executable, "-m", "twinscope", "serve", "--driver", subject.name, "--port", "0"]
        command += ["--driver-config", str(options), "--interlocks", str(rules), "--data", str(data)]
        # A driver that is only being written is found where this process finds it.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                command, stdout=output, stderr=subprocess.STDOUT, env=environment
            )
        try:
            self.uri = self._address(log)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """End it as its user would, or at once when it does not."""
        self._process.terminate()
        try:
            self._process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _address(self, log: Path) -> str:
        """Wait until it says where it is."""
        deadline = time.monotonic() + _START_TIMEOUT
        while self._process.poll() is None and time.monotonic() < deadline:
            for line in log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
                if line.startswith("at PYRO:") and line.endswith("\n"):
                    return line.removeprefix("at ").partition(";")[0].strip()
            time.sleep(0.05)
        raise AssertionError(f"twinscope serve did not start: {log.read_text(encoding='utf-8', errors='replace')}")


def toml(values: Mapping[str, Any]) -> str:
    """Write plain data that came from TOML as TOML."""
    return "".join(f"{_text(name)} = {_written(value)}\n" for name, value in values.items())


def _text(value: str | bool) -> str:
    return json.dumps(value)


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(name)} = {_written(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_written, value)) + "]"
    return _text(value) if isinstance(value, str | bool) else str(value)
