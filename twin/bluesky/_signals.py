"""All signals of an instrument, and its z-controller."""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType

from ophyd_async.core import Device, SignalR, SignalRW
from ophyd_async.core import StandardReadableFormat as Format

from twinscope import _checks
from twinscope.bluesky._backend import StateBackend, number_metadata
from twinscope.bluesky._device import SpmDevice
from twinscope.bluesky._link import SpmLink
from twinscope.capabilities import Channel
from twinscope.errors import InvalidRequestError
from twinscope.state import FEEDBACK_OFF, InstrumentState


class SpmSignals(SpmDevice):
    """What can be read of the instrument at any moment, and set if it is settable.

    Each signal of :attr:`~twinscope.Capabilities.signals` is an attribute with its name; when a device has an attribute
    of that name already, an underscore follows it.

    Parameters
    ----------
    link
        The way to the instrument.
    rates
        How fast a signal is set, by its name, in its unit per second; at once unless given.
    name
        Of the device, in documents.

    Attributes
    ----------
    feedback
        What the z-controller holds constant, or "off"; to be set if there is one.
    tip
        Whether the tip is near the sample.
    status
        What the instrument is doing.
    instrument_time
        In s.

    Raises
    ------
    InvalidRequestError, OutOfRangeError
        When a rate is given for what cannot be set, or is none.
    """

    def __init__(self, link: SpmLink, *, rates: Mapping[str, float] = MappingProxyType({}), name: str = "") -> None:
        self.link = link
        self._rates = {signal: _checks.positive(f"rates[{signal!r}]", rate) for signal, rate in rates.items()}
        unknown = sorted(set(self._rates) - set(link.capabilities.settable))
        if unknown:
            raise InvalidRequestError(
                f"there is a rate for {unknown[0]!r}: this instrument can set"
                f" {', '.join(link.capabilities.settable) or 'no signal'}"
            )
        for signal in link.capabilities.signals:
            free = signal.name if not hasattr(type(self), signal.name) else f"{signal.name}_"
            setattr(self, free, self._signal(signal))
        self.add_readables([child for _, child in self.children()], Format.HINTED_UNCACHED_SIGNAL)
        self.feedback = self._feedback()
        self.tip = self._text("tip", lambda state: state.tip.value)
        self.status = self._text("status", lambda state: state.status.value)
        self.instrument_time: SignalR[float] = SignalR(
            StateBackend(link, float, "time", lambda state: state.time, metadata={"units": "s"}), timeout=None
        )
        others: list[Device] = [self.feedback, self.tip, self.status, self.instrument_time]
        self.add_readables(others, Format.UNCACHED_SIGNAL)
        super().__init__(link, name)

    def _signal(self, signal: Channel) -> SignalR[float]:
        limits = self.link.capabilities.limits.get(signal.name)
        metadata = number_metadata(signal.unit, limits)

        def read(state: InstrumentState) -> float:
            return state.signals[signal.name]

        def target(state: InstrumentState) -> float:
            return float(self.link.targets.get(signal.name, read(state)))

        if limits is None:
            return SignalR(
                StateBackend(self.link, float, f"signals/{signal.name}", read, metadata=metadata), timeout=None
            )
        write = functools.partial(self._set_signal, signal.name)
        backend = StateBackend(
            self.link, float, f"signals/{signal.name}", read, write=write, setpoint=target, metadata=metadata
        )
        return SignalRW(backend, timeout=None)

    async def _set_signal(self, name: str, value: float) -> None:
        number = _checks.finite(name, value)
        self.link.capabilities.check_signal(name, number)
        rate = self._rates.get(name)
        action = functools.partial(self.link.microscope.set_signal, name, number, rate=rate)
        await self.link.change(name, number, action)

    def _feedback(self) -> SignalR[str]:
        modes = self.link.capabilities.feedback_modes
        if not modes:
            return self._text("feedback", lambda state: state.feedback)
        backend = StateBackend(
            self.link,
            str,
            "feedback",
            lambda state: state.feedback,
            write=self._set_feedback,
            metadata={"choices": [FEEDBACK_OFF, *modes]},
        )
        return SignalRW(backend, timeout=None)

    async def _set_feedback(self, mode: str) -> None:
        if mode != FEEDBACK_OFF:
            self.link.capabilities.check_feedback(mode)
        await self.link.change("feedback", mode, functools.partial(self.link.microscope.set_feedback, mode))

    def _text(self, place: str, read: Callable[[InstrumentState], str]) -> SignalR[str]:
        return SignalR(StateBackend(self.link, str, place, read), timeout=None)
