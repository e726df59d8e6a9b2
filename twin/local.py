"""An instrument in the same process as its client."""

from pathlib import Path
from typing import Any

from twinscope.drivers import registry
from twinscope.instrument import Instrument
from twinscope.protocol import Reply
from twinscope.service import Service


class LocalTransport:
    """A :class:`~twinscope.protocol.Transport` to an instrument that it owns."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._service = Service(instrument)

    def call(self, name: str, **parameters: Any) -> Reply:
        """Carry out a verb."""
        return self._service.call(name, parameters)

    def close(self) -> None:
        """Shut the instrument down."""
        self._instrument.close()


def start_instrument(driver: str, directory: Path, options: dict[str, Any]) -> LocalTransport:
    """Start an instrument with a driver by name, and return the way to it."""
    instrument = Instrument(registry.create(driver, **options), directory)
    instrument.start()
    return LocalTransport(instrument)
