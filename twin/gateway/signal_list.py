"""The list of 128 signals of a Nanonis controller, and what of it the instrument has."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from twinscope.capabilities import Capabilities, Channel
from twinscope.errors import UnknownChannelError
from twinscope.state import InstrumentState

SLOTS = 128
"""Length of the list."""

# Where controllers have them, so that scripts with fixed numbers find them. Older ones had z at 14.
_PLACES: Mapping[str, tuple[tuple[int, ...], str]] = {
    "current": ((0,), "Current"),
    "bias": ((24,), "Bias"),
    "x": ((27,), "X"),
    "y": ((28,), "Y"),
    "z": ((30, 14), "Z"),
    "frequency_shift": ((76,), "OC M1 Freq. Shift"),
}
_COORDINATES = ("x", "y", "z")
_FIRST_OTHER = 90


@dataclass(frozen=True, slots=True)
class Signal:
    """What stands in a slot.

    Attributes
    ----------
    name
        As the instrument has it.
    label
        As Nanonis writes it: "Current (A)".
    live
        Whether its value can be read at any moment.
    recorded
        Whether it can be recorded in an acquisition.
    """

    name: str
    label: str
    live: bool
    recorded: bool

    def with_note(self, note: str) -> str:
        """Return the label with a note before its unit: "Current [bwd] (A)"."""
        name, opening, unit = self.label.partition(" (")
        return f"{name} [{note}]{opening}{unit}"


class SignalList:
    """Signals by their index.

    Parameters
    ----------
    capabilities
        Of the instrument.
    """

    def __init__(self, capabilities: Capabilities) -> None:
        known = {channel.name: channel for channel in (*capabilities.signals, *capabilities.channels)}
        labels = {axis: f"{_PLACES[axis][1]} (m)" for axis in _COORDINATES}
        labels |= {name: _label(channel) for name, channel in known.items()}
        live = {*_COORDINATES, *(channel.name for channel in capabilities.signals)}
        recorded = {channel.name for channel in capabilities.channels}
        self._slots: dict[int, Signal] = {}
        others: Iterator[int] = iter(range(_FIRST_OTHER, SLOTS))
        for name, label in labels.items():
            places = _PLACES[name][0] if name in _PLACES else ()
            # What does not fit into the list any more can still be recorded by our own clients.
            for index in places or (next(others, None),):
                if index is not None:
                    self._slots[index] = Signal(name, label, name in live, name in recorded)
        self._limits = capabilities.limits

    def labels(self) -> tuple[str, ...]:
        """All 128 names; a slot in which nothing is has one that says so."""
        return tuple(self._slots[i].label if i in self._slots else f"Not connected {i}" for i in range(SLOTS))

    def at(self, index: int) -> Signal:
        """Return the signal with this index.

        Raises
        ------
        UnknownChannelError
            When there is none.
        """
        if index not in self._slots:
            raise UnknownChannelError(
                f"there is no signal with the index {index}: this instrument has {self._known()}", index=index
            )
        return self._slots[index]

    def recorded_at(self, index: int) -> Signal:
        """Return the signal with this index, which must be one that can be recorded."""
        signal = self.at(index)
        if not signal.recorded:
            known = ", ".join(f"{i} {one.label}" for i, one in sorted(self._slots.items()) if one.recorded)
            raise UnknownChannelError(
                f"{signal.label}, index {index}, cannot be recorded: this instrument records {known}", index=index
            )
        return signal

    def index_of(self, name: str) -> int:
        """Return the index of the instrument's channel or signal with this name."""
        for index, signal in self._slots.items():
            # The slots of a signal were filled in the order of their preference.
            if signal.name == name:
                return index
        raise UnknownChannelError(f"the list of signals has no {name!r}: it has {self._known()}", name=name)

    def with_label(self, label: str) -> Signal:
        """Return the signal that Nanonis calls so; a unit in brackets may be left out."""
        for signal in self._slots.values():
            if label in (signal.label, signal.label.rpartition(" (")[0]):
                return signal
        raise UnknownChannelError(f"there is no signal {label!r}: this instrument has {self._known()}", name=label)

    def live(self) -> Sequence[Signal]:
        """All that can be read at any moment, each signal once."""
        return list({signal.name: signal for signal in self._slots.values() if signal.live}.values())

    def value(self, index: int, state: InstrumentState) -> float:
        """Return the value of a signal in a state of the instrument.

        Raises
        ------
        UnknownChannelError
            When there is none, or it cannot be read outside of an acquisition.
        """
        signal = self.at(index)
        if not signal.live:
            raise UnknownChannelError(
                f"{signal.label}, index {index}, is known only while it is recorded, in a scan or a spectroscopy",
                index=index,
            )
        name = signal.name
        if name in state.signals:
            return state.signals[name]
        return float("nan") if state.position is None else getattr(state.position, name)

    def range(self, index: int) -> tuple[float, float]:
        """Return the lowest and the highest value that can be set.

        Raises
        ------
        UnknownChannelError
            When it cannot be set, so that nothing is known of its range.
        """
        signal = self.at(index)
        limits = self._limits.get(signal.name)
        if limits is None:
            raise UnknownChannelError(f"the range of {signal.label} is not known: only what can be set has one")
        return limits.low, limits.high

    def _known(self) -> str:
        return ", ".join(f"{index} {signal.label}" for index, signal in sorted(self._slots.items()))


def _label(channel: Channel) -> str:
    words = _PLACES[channel.name][1] if channel.name in _PLACES else channel.quantity
    return words if channel.unit == "1" else f"{words} ({channel.unit})"
