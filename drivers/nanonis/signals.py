"""The signals of a controller under the names of this house."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from twinscope.capabilities import RESERVED_NAMES, Channel
from twinscope.drivers.nanonis.controller import Controller
from twinscope.drivers.nanonis.options import NanonisOptions
from twinscope.errors import ConfigurationError

X, Y = "x_position", "y_position"
"""Channels with the position of the tip: the names x and y are those of axes."""

# What controllers call the usual ones, without unit and in small letters.
_USUAL: Mapping[str, str] = {
    "current": "current",
    "bias": "bias",
    "x": X,
    "y": Y,
    "z": "z",
    "oc m1 freq. shift": "frequency_shift",
    "frequency shift": "frequency_shift",
    "oc m1 amplitude": "amplitude",
    "oc m1 excitation": "excitation",
    "oc m1 phase": "phase",
    "li demod 1 x": "lock_in_x",
    "li demod 1 y": "lock_in_y",
}
_LABEL = re.compile(r"(.*?)(?: \(([^()]*)\))?")
# A slot of the list in which nothing is.
_EMPTY = re.compile(r"not connected.*|", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal of the controller.

    Attributes
    ----------
    index
        Its number in the list of the controller.
    label
        What the controller calls it: "Current (A)".
    channel
        Name, unit and quantity here.
    """

    index: int
    label: str
    channel: Channel

    def is_called(self, label: str) -> bool:
        """Whether the controller means this signal; it may add a note before the unit: "Current [bwd] (A)"."""
        name, unit = _parts(self.label)
        given, its_unit = _parts(label)
        return unit == its_unit and re.sub(r"( \[[^\]]*\])+$", "", given) == name


def read_signals(controller: Controller, options: NanonisOptions) -> dict[str, Signal]:
    """Return all signals that have a name, by the names of their channels.

    Raises
    ------
    ConfigurationError
        When an option names a signal that the controller does not have.
    DriverError
        When it does not answer.
    """
    labels = controller.call("Signals.NamesGet")["signals_names"]
    given = dict(options.names)
    found: dict[str, Signal] = {}
    for index, label in enumerate(labels):
        quantity, unit = _parts(label)
        if _EMPTY.fullmatch(quantity):
            continue
        usual = _USUAL.get(quantity.lower()) or _identifier(quantity)
        name = given.pop(label, None) or given.pop(quantity, None) or usual
        if name not in found:
            found[name] = Signal(index, label, Channel(name, unit or "1", quantity))
    for label in given:
        raise ConfigurationError(
            f"the option names has {label!r}: the controller has {', '.join(one.label for one in found.values())}",
            name="names",
        )
    for name in options.channels:
        if name not in found:
            raise ConfigurationError(
                f"the option channels has {name!r}: the controller has {', '.join(found)}", name="channels"
            )
    return found


def _parts(label: str) -> tuple[str, str]:
    match = _LABEL.fullmatch(label.strip())
    return (match[1], match[2] or "") if match else (label.strip(), "")


def _identifier(quantity: str) -> str:
    words = "_".join(re.findall(r"[^\W_]+", quantity)).lower()
    return words if words.isidentifier() and words not in RESERVED_NAMES else f"signal_{words}".rstrip("_")
