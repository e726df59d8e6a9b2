"""Signals and commands of ophyd-async that are backed by a microscope."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bluesky.protocols import Reading
from event_model import DataKey
from event_model.documents.event_descriptor import Limits as DocumentLimits
from event_model.documents.event_descriptor import LimitsRange
from ophyd_async.core import (
    NO_ARG_VOID_SIGNATURE,
    Callback,
    CommandBackend,
    SignalBackend,
    SignalDatatypeT,
    SignalMetadata,
    make_datakey,
)

from twinscope.bluesky._link import SpmLink
from twinscope.capabilities import Limits
from twinscope.errors import TwinscopeError
from twinscope.state import InstrumentState

log = logging.getLogger(__name__)

# How often a value is looked at that somebody watches, in s.
_WATCH_INTERVAL = 0.1
# Digits that are shown of a value at the end of its range.
_SIGNIFICANT = 7


class StateBackend(SignalBackend[SignalDatatypeT]):
    """A value in the state of the instrument.

    Parameters
    ----------
    link
        The way to the instrument.
    datatype
        float or str.
    place
        Where the value is in the state, for people.
    read
        Finds it there.
    write
        Sets it, and returns when that is done.
    setpoint
        Finds what it was told to be; as `read` unless given.
    metadata
        Units, limits, precision, choices.
    """

    def __init__(
        self,
        link: SpmLink,
        datatype: type[SignalDatatypeT],
        place: str,
        read: Callable[[InstrumentState], SignalDatatypeT],
        *,
        write: Callable[[SignalDatatypeT], Awaitable[None]] | None = None,
        setpoint: Callable[[InstrumentState], SignalDatatypeT] | None = None,
        metadata: SignalMetadata | None = None,
    ) -> None:
        super().__init__(datatype)
        self._datatype = datatype
        self._link = link
        self._source = f"twinscope://{link.capabilities.driver}/{place}"
        self._read = read
        self._write = write
        self._setpoint = setpoint or read
        self._metadata: SignalMetadata = metadata or {}
        self._watching: asyncio.Task[None] | None = None

    def source(self, name: str, read: bool) -> str:
        """Tell where the value comes from."""
        del name, read
        return self._source

    async def connect(self, timeout: float) -> None:
        """Wait until the instrument answers."""
        await self._link.connect(timeout)

    async def put(self, value: SignalDatatypeT | None) -> None:
        """Set the value, and return when that is done."""
        if self._write is None or value is None:
            raise TypeError(f"{self._source} cannot be set to {value!r}: it is for reading")
        await self._write(value)

    async def get_datakey(self, source: str) -> DataKey:
        """Describe the value."""
        return make_datakey(self._datatype, await self.get_value(), source, self._metadata)

    async def get_reading(self) -> Reading[SignalDatatypeT]:
        """Return the present value, and when it was asked for."""
        return Reading(value=await self.get_value(), timestamp=time.time(), alarm_severity=0)

    async def get_value(self) -> SignalDatatypeT:
        """Return the present value."""
        return self._read(await self._link.state())

    async def get_setpoint(self) -> SignalDatatypeT:
        """Return what it was told to be."""
        return self._setpoint(await self._link.state())

    def set_callback(self, callback: Callback[Reading[SignalDatatypeT]] | None) -> None:
        """Watch the value: report it now and whenever it changes; None ends that."""
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None
        if callback is not None:
            self._watching = asyncio.create_task(self._watch(callback))

    async def _watch(self, callback: Callback[Reading[SignalDatatypeT]]) -> None:
        try:
            await self._report_changes(callback)
        except Exception:
            # Nobody waits for this task: without a word here, the last value would stay and nobody would know why.
            log.exception("%s is watched no longer", self._source)

    async def _report_changes(self, callback: Callback[Reading[SignalDatatypeT]]) -> None:
        known: Reading[SignalDatatypeT] | None = None
        while True:
            try:
                reading = await self.get_reading()
            except TwinscopeError as exc:
                log.warning("%s cannot be read: %s", self._source, exc)
                if known is None:
                    return
                # The last known value, marked as one that nobody can vouch for.
                reading = Reading(value=known["value"], timestamp=time.time(), alarm_severity=-1, message=str(exc))
            if known is None or _content(reading) != _content(known):
                callback(reading)
            known = reading
            await asyncio.sleep(_WATCH_INTERVAL)


class TipCommand(CommandBackend[[], None]):
    """Something that the tip does without being told how: approach, withdraw."""

    def __init__(self, link: SpmLink, name: str, action: Callable[[], object]) -> None:
        super().__init__(NO_ARG_VOID_SIGNATURE)
        self._link = link
        self._source = f"twinscope://{link.capabilities.driver}/{name}"
        self._action = action

    def source(self, name: str) -> str:
        """Tell what it does."""
        del name
        return self._source

    async def connect(self, timeout: float) -> None:
        """Wait until the instrument answers."""
        await self._link.connect(timeout)

    async def execute(self) -> None:
        """Do it, and return when that is done."""
        async with self._link.turn():
            await self._link.carry_out(self._action)


def number_metadata(unit: str, limits: Limits | None) -> SignalMetadata:
    """Describe a number, with as many digits as its range makes sensible."""
    if limits is None:
        return {"units": unit}
    largest = max(abs(limits.low), abs(limits.high))
    digits = _SIGNIFICANT - 1 - math.floor(math.log10(largest)) if largest > 0 else 0
    control = DocumentLimits(control=LimitsRange(low=limits.low, high=limits.high))
    return {"units": unit, "limits": control, "precision": max(digits, 0)}


def _content(reading: Reading[Any]) -> tuple[Any, int | None]:
    return reading["value"], reading.get("alarm_severity")
