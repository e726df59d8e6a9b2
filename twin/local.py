"""Making instruments: for a client in the same process, and for a server."""

import getpass
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from twinscope.driver_process import DriverProcess
from twinscope.drivers import registry
from twinscope.errors import StoreError
from twinscope.guard import Guard
from twinscope.instrument import Instrument
from twinscope.interlocks import Interlocks
from twinscope.ledger import Ledger
from twinscope.protocol import Reply, fetch_in_turn
from twinscope.service import Service
from twinscope.sessions import Identity, Role


class LocalTransport:
    """A :class:`~twinscope.protocol.Transport` to an instrument that it owns."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._service = Service(instrument)
        identity = Identity(f"local:{getpass.getuser()}", Role.ADMIN)
        self._session = self._service.sessions.enter(identity, "this process")

    def call(
        self,
        name: str,
        parameters: Mapping[str, Any] = MappingProxyType({}),
        *,
        lease: int | None = None,
        dry_run: bool = False,
    ) -> Reply:
        """Carry out a verb."""
        return self._service.call(self._session, name, parameters, lease=lease, dry_run=dry_run)

    def fetch(self, name: str, parameters: Sequence[Mapping[str, Any]], into: Sequence[memoryview]) -> Iterator[Reply]:
        """Carry out a verb that reads with each of several parameters."""
        return fetch_in_turn(self.call, name, parameters, into)

    def close(self) -> None:
        """Shut the instrument down."""
        self._instrument.close()


def served_instrument(
    driver: str, directory: Path, options: Mapping[str, Any], interlocks: Mapping[str, Any]
) -> Instrument:
    """Make an instrument for a server: its driver has a process of its own, and a journal says what was done.

    Raises
    ------
    ConfigurationError, InvalidRequestError
        When there is no such driver, or an option or a rule is wrong.
    StoreError
        When the directory cannot be used, or another server uses it.
    """
    rules = Interlocks.from_dict(interlocks)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StoreError(f"the directory {directory} for the data cannot be made: {exc}") from exc
    ledger = Ledger(directory)
    return Instrument(DriverProcess(driver, options, rules, directory), directory, rules, ledger)


def start_instrument(
    driver: str, directory: Path, options: Mapping[str, Any], interlocks: Mapping[str, Any]
) -> LocalTransport:
    """Start an instrument with a driver by name, in this process, and return the way to it.

    It keeps no journal: its only client knows what it has done.
    """
    rules = Interlocks.from_dict(interlocks)
    instrument = Instrument(Guard(registry.create(driver, **options), rules), directory, rules)
    instrument.start()
    return LocalTransport(instrument)
