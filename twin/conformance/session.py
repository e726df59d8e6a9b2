"""The suite in a session of pytest: which tests there are, and what they are given."""

import importlib
import logging
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from twinscope.conformance.bench import Bench, Direct
from twinscope.conformance.factory import DIRECT, PROCESS, SERVER, BenchFactory
from twinscope.conformance.settings import Subject
from twinscope.errors import ConfigurationError, MissingPackageError, TwinscopeError

log = logging.getLogger(__name__)

CHECKS = (
    "description",
    "options",
    "life",
    "reading",
    "commands",
    "refusals",
    "acquisitions",
    "interruptions",
    "geometry",
    "timing",
    "stopping",
    "repeats",
    "process",
    "soak",
)
"""Modules of :mod:`twinscope.conformance.checks`, in the order in which they run."""

SUBJECT = pytest.StashKey[Subject]()
_CHECKS = Path(__file__).absolute().parent / "checks"


# ---------------------------------------------------------------------- which tests there are


def pytest_configure(config: pytest.Config) -> None:
    """Find the driver."""
    name = config.getoption("twinscope_driver")
    if ":" in name:
        # A module that is being written is found as by `python -m`.
        sys.path.insert(0, str(config.invocation_params.dir))
    if getattr(config.option, "numprocesses", None):
        raise pytest.UsageError("there is one instrument: run the conformance suite without --numprocesses")
    try:
        subject = Subject.load(name, config.getoption("driver_config"))
        _check_options(subject)
    except TwinscopeError as exc:
        raise pytest.UsageError(str(exc)) from exc
    config.stash[SUBJECT] = subject


def _check_options(subject: Subject) -> None:
    """Raise the error of options that are wrong: it would be one of every test."""
    try:
        subject.make()
    except (ConfigurationError, MissingPackageError):
        raise
    # Whatever else a driver raises is what the tests are there for.
    except Exception:
        log.info("the driver cannot be made", exc_info=True)


def pytest_report_header(config: pytest.Config) -> str:
    """Say what is tested."""
    cls = config.stash[SUBJECT].cls
    return f"twinscope driver: {cls.name!r} of {cls.vendor!r}, {cls.__module__}.{cls.__qualname__}"


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the suite, wherever it is installed and whatever names of files the project at hand collects."""
    if path not in (_CHECKS, *_CHECKS.parents[:2]):
        return None
    folder: pytest.Collector = Folder.from_parent(parent, path=path)
    return folder


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Import the modules of the suite by their names."""
    if module_path.parent != _CHECKS:
        return None
    module: pytest.Module = pytest.Module.from_parent(parent, path=module_path)
    module.obj = importlib.import_module(f"{__package__}.checks.{module_path.stem}")
    return module


class Folder(pytest.Directory):
    """The folder of the checks, and those that it is in; as packages they would be imported by the names of folders."""

    def collect(self) -> Iterator[pytest.Collector]:
        """Yield the way to the checks, and there the modules in the order in which they run."""
        if self.path != _CHECKS:
            yield Folder.from_parent(self, path=_CHECKS if self.path == _CHECKS.parent else _CHECKS.parent)
            return
        for name in CHECKS:
            yield self.ihook.pytest_pycollect_makemodule(module_path=_CHECKS / f"{name}.py", parent=self)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what needs an instrument directly and through a server."""
    if "bench" in metafunc.fixturenames and metafunc.module.__name__.startswith(f"{__package__}."):
        ways = [DIRECT, PROCESS, *([SERVER] if metafunc.config.getoption("driver_server") else [])]
        metafunc.parametrize("_way", ways, scope="session")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the part of the contract that a failed test is about."""
    report = yield
    if report.failed and isinstance(item, pytest.Function) and item.module.__name__.startswith(f"{__package__}."):
        text = " ".join((item.obj.__doc__ or "").split())
        report.sections.append(("the contract", f"{text}\nSee {item.module.CONTRACT}"))
    return report


# ---------------------------------------------------------------------- what they are given


@pytest.fixture(scope="session")
def subject(pytestconfig: pytest.Config) -> Subject:
    """Return the driver under test."""
    return pytestconfig.stash[SUBJECT]


@pytest.fixture(scope="session")
def factory(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BenchFactory]:
    """Yield where instruments come from."""
    made = BenchFactory(subject, tmp_path_factory.mktemp("conformance"))
    yield made
    made.clear()


@pytest.fixture
def bench(factory: BenchFactory, _way: str) -> Bench:
    """Return an open instrument at the safe height: directly, or through a server."""
    return factory.bench(_way)


@pytest.fixture
def direct(factory: BenchFactory) -> Direct:
    """Return an open instrument at the safe height, in this process."""
    bench = factory.bench(DIRECT)
    assert isinstance(bench, Direct)
    return bench


@pytest.fixture
def soak(pytestconfig: pytest.Config) -> float:
    """Return how long the soak test takes, in s."""
    seconds: float = pytestconfig.getoption("twinscope_soak")
    return seconds
