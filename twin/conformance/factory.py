"""Where the tests get their instrument from: at most one is connected at a time, as controllers take one client."""

import contextlib
import logging
from pathlib import Path

from twinscope.conformance.bench import PERMISSIONS, Bench, Direct, Served, rest
from twinscope.conformance.server import ServerProcess
from twinscope.conformance.settings import Subject
from twinscope.drivers.base import Driver
from twinscope.local import LocalTransport, served_instrument
from twinscope.microscope import Microscope, connect

log = logging.getLogger(__name__)

DIRECT, PROCESS, SERVER = "direct", "process", "server"
"""Ways to a driver: in this process, in one of its own, and behind a ``twinscope serve``."""


class BenchFactory:
    """Makes instruments of the driver under test.

    Parameters
    ----------
    subject
        The driver.
    folder
        For the data.
    """

    def __init__(self, subject: Subject, folder: Path) -> None:
        self.subject = subject
        self._folder = folder
        self._bench: Bench | None = None
        self._way = ""
        self._drivers: list[Driver] = []
        self._made = 0

    def bench(self, way: str) -> Bench:
        """Return the instrument, ready for a test; one that cannot be brought there is opened anew."""
        if self._bench is not None and self._way == way:
            try:
                rest(self._bench)
            # Whatever a test has done to it must not fail the next one.
            except Exception:
                log.warning("the instrument did not come to rest: it is opened anew", exc_info=True)
                self.clear()
            else:
                return self._bench
        self.clear()
        self._bench, self._way = self._open(way), way
        rest(self._bench)
        return self._bench

    def driver(self) -> Driver:
        """Make a driver that is not open; nothing else is."""
        self.clear()
        return self.make()

    def make(self) -> Driver:
        """Make one more driver."""
        self._drivers.append(self.subject.make())
        return self._drivers[-1]

    def clear(self) -> None:
        """Close everything."""
        closing: list[Driver | Bench] = [*self._drivers, *([] if self._bench is None else [self._bench])]
        self._drivers, self._bench = [], None
        for one in closing:
            # The tests of the life of a driver say what is wrong with its end.
            with contextlib.suppress(Exception):
                one.close()

    def data_folder(self) -> Path:
        """Return an empty folder for data."""
        self._made += 1
        folder = self._folder / f"data{self._made}"
        folder.mkdir()
        return folder

    def _open(self, way: str) -> Bench:
        subject, data = self.subject, self.data_folder()
        if way == DIRECT:
            return Direct(subject.make(), subject.settings)
        if way == PROCESS:
            instrument = served_instrument(subject.name, data, subject.options, PERMISSIONS)
            instrument.start()
            return Served(Microscope(transport=LocalTransport(instrument)), subject.settings)
        server = ServerProcess(subject, PERMISSIONS, data)
        return Served(connect(server.uri), subject.settings, server.end)
