"""The life of a driver: made, opened, used, closed, and perhaps opened again."""

import threading
from collections.abc import Callable
from functools import partial

import pytest

from twinscope.conformance.bench import Direct
from twinscope.conformance.factory import BenchFactory
from twinscope.conformance.settings import Subject
from twinscope.conformance.sinks import StrictSink
from twinscope.drivers.base import Driver
from twinscope.errors import DriverError
from twinscope.requests import AcquisitionRequest

CONTRACT = "twinscope.drivers.base.Driver, open and close, and docs/drivers.md, 'Its life'"


def test_open_and_close(factory: BenchFactory) -> None:
    """A driver opens, tells where the tip is, and closes."""
    driver = factory.driver()
    driver.open()
    driver.read()
    driver.close()


def test_open_twice(factory: BenchFactory) -> None:
    """Opening a driver that is open does nothing: it goes on as it was."""
    driver = factory.driver()
    driver.open()
    before = driver.read()
    driver.open()
    after = driver.read()
    assert after.position == before.position, "the tip is elsewhere after the second open()"
    assert after.feedback == before.feedback, "the z-controller is in another mode after the second open()"
    assert after.time >= before.time, "the second open() has set the time back"


def test_close_twice(factory: BenchFactory) -> None:
    """Closing a driver twice does nothing."""
    driver = factory.driver()
    driver.open()
    driver.close()
    driver.close()


def test_close_without_open(factory: BenchFactory) -> None:
    """Closing a driver that was never opened does nothing, and it can be opened then."""
    driver = factory.driver()
    driver.close()
    driver.open()
    driver.read()


def test_close_in_an_acquisition(subject: Subject, factory: BenchFactory) -> None:
    """A driver can be closed in the middle of an acquisition, and is idle when it is opened again."""
    driver = factory.driver()
    bench = Direct(driver, subject.settings)
    bench.start(_any_request(bench))
    bench.close()
    driver.open()
    assert bench.acquire(_any_request(bench)).size


def test_use_after_close(subject: Subject, factory: BenchFactory) -> None:
    """A driver that is closed says so: whatever is asked of it raises DriverError."""
    driver = factory.driver()
    bench = Direct(driver, subject.settings)
    work = bench.work
    bench.close()
    uses: dict[str, Callable[[], object]] = {
        "read": driver.read,
        "move_to": lambda: driver.move_to(*work.center, work.height),
        "withdraw": driver.withdraw,
        "approach": driver.approach,
        "poll": driver.poll,
    }
    for signal in bench.capabilities.settable[:1]:
        uses["write"] = partial(driver.write, signal, work.found.signals[signal])
    if "scan" in bench.capabilities.acquisitions:
        uses["start_scan"] = partial(driver.start_scan, work.scan(), StrictSink(work.scan()))
    for name, use in uses.items():
        try:
            use()
        except DriverError:
            continue
        except Exception as exc:
            raise AssertionError(f"{name}() after close() raised {type(exc).__name__}: expected DriverError") from exc
        raise AssertionError(f"{name}() after close() raised nothing: expected DriverError")


def test_open_again(subject: Subject, factory: BenchFactory) -> None:
    """A driver that was closed can be opened again, and works as before."""
    driver = factory.driver()
    for _ in range(2):
        bench = Direct(driver, subject.settings)
        assert bench.acquire(_any_request(bench)).size
        driver.close()


def test_a_new_driver_after_a_closed_one(subject: Subject, factory: BenchFactory) -> None:
    """When a driver is closed it has let go of the instrument: another one can be opened."""
    for number in range(2):
        driver = factory.driver() if number == 0 else factory.make()
        Direct(driver, subject.settings).read()
        driver.close()


def test_stop_at_any_time(factory: BenchFactory) -> None:
    """Stopping is allowed before open(), when nothing is done, and after close()."""
    driver = factory.driver()
    driver.stop()
    driver.open()
    driver.stop()
    driver.read()
    driver.close()
    driver.stop()


def test_no_thread_is_left(factory: BenchFactory) -> None:
    """A closed driver leaves no thread behind that keeps its process from ending."""
    before = set(threading.enumerate())
    driver = factory.driver()
    driver.open()
    _read_twice(driver)
    driver.close()
    left = [thread.name for thread in set(threading.enumerate()) - before if not thread.daemon and _goes_on(thread)]
    assert not left, f"after close() the threads {', '.join(left)} still run"


def _goes_on(thread: threading.Thread) -> bool:
    thread.join(2.0)
    return thread.is_alive()


def _read_twice(driver: Driver) -> None:
    for _ in range(2):
        driver.read()


def _any_request(bench: Direct) -> AcquisitionRequest:
    kinds = bench.capabilities.acquisitions
    if "scan" in kinds:
        return bench.work.scan()
    if "path" in kinds:
        return bench.work.path()
    if "spectroscopy" in kinds:
        return bench.work.spectroscopy(bench.capabilities.sweeps[0])
    pytest.skip("this instrument has no acquisitions")
