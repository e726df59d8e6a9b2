"""The pytest plugin of the conformance suite: ``pytest --twinscope-driver=NAME``.

Every pytest where twinscope is installed loads this module, so it imports nothing until a driver is named.
"""

import importlib
from pathlib import Path

import pytest

_HERE = Path(__file__).absolute().parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the suite."""
    group = parser.getgroup("twinscope", "conformance of twinscope drivers")
    group.addoption(
        "--twinscope-driver", metavar="NAME", help="test this driver: an installed one, or package.module:Class"
    )
    group.addoption(
        "--driver-config",
        type=Path,
        metavar="FILE",
        help="TOML file with the options of the driver, and in [conformance] with what the tests have to know of it",
    )
    group.addoption(
        "--driver-server", action="store_true", help="test the driver also behind a `twinscope serve` of its own"
    )
    group.addoption(
        "--twinscope-soak", type=float, default=2.0, metavar="SECONDS", help="how long the soak test takes (default: 2)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Bring in the suite when a driver was named; without paths on the command line it is all that runs."""
    if config.getoption("twinscope_driver") is None:
        return
    pytest.register_assert_rewrite("twinscope.conformance.bench", "twinscope.conformance.checks")
    config.pluginmanager.register(importlib.import_module("twinscope.conformance.session"), "twinscope-conformance")
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [str(_HERE)]
