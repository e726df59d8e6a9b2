"""What a command takes and returns, and how that becomes bytes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinscope.errors import NanonisProtocolError
from twinscope.nanonis_protocol.cursors import Reader, Writer
from twinscope.nanonis_protocol.kinds import KINDS


@dataclass(frozen=True, slots=True)
class Field:
    """One argument or result.

    Attributes
    ----------
    name
        Its name in the protocol document, as a Python name and without unit: "Bias value (V)" is "bias_value".
    kind
        How it looks on the wire: a name in :data:`~twinscope.nanonis_protocol.kinds.KINDS`.
    """

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the protocol.

    Attributes
    ----------
    name
        As on the wire: "Bias.Set".
    arguments
        What a client sends. With more than one layout, this one lists the arguments of all of them.
    results
        What the controller returns before the error block.
    layouts
        The forms in which clients send the arguments: that of the document first, then those of older or newer
        clients.
    """

    name: str
    arguments: tuple[Field, ...]
    results: tuple[Field, ...]
    layouts: tuple[tuple[Field, ...], ...]

    def encode_arguments(self, values: Mapping[str, Any]) -> bytes:
        """Return the body of a request, in the layout that has just the arguments that are given and not None.

        Raises
        ------
        NanonisProtocolError
            When an argument is unknown, missing, or does not fit its kind.
        """
        given = {name: value for name, value in values.items() if value is not None}
        layout = next((one for one in self.layouts if {field.name for field in one} == set(given)), self.layouts[0])
        return _encode(self.name, layout, given)

    def decode_arguments(self, body: bytes) -> dict[str, Any]:
        """Return the arguments in the body of a request; those that the client's layout does not have are None.

        Raises
        ------
        NanonisProtocolError
            When the body fits no layout.
        """
        for number, layout in enumerate(self.layouts):
            try:
                values = _decode_all(self.name, layout, body)
            except NanonisProtocolError:
                if number == len(self.layouts) - 1:
                    raise
            else:
                return {field.name: values.get(field.name) for field in self.arguments}
        raise AssertionError("a command has a layout")

    def encode_results(self, values: Mapping[str, Any]) -> bytes:
        """Return the results as bytes, to be followed by the error block.

        Raises
        ------
        NanonisProtocolError
            When a result is unknown, missing, or does not fit its kind.
        """
        return _encode(self.name, self.results, values)

    def decode_results(self, body: bytes) -> tuple[dict[str, Any], bytes]:
        """Return the results in the body of a response, and the rest of it: the error block.

        Raises
        ------
        NanonisProtocolError
            When the body is shorter than what it announces.
        """
        reader = Reader(body)
        return _decode(self.name, self.results, reader), reader.rest()

    def empty_results(self) -> dict[str, Any]:
        """Return zeros, empty texts and empty arrays: clients look for results in front of an error, too."""
        return {field.name: KINDS[field.kind].empty for field in self.results}


def _encode(command: str, layout: tuple[Field, ...], values: Mapping[str, Any]) -> bytes:
    names = [field.name for field in layout]
    for name in sorted(set(values) ^ set(names)):
        wrong = "missing" if name in names else "unknown"
        raise NanonisProtocolError(f"{command}: {name} is {wrong}, expected {', '.join(names) or 'nothing'}", name=name)
    writer = Writer()
    for field in layout:
        value = values[field.name]
        try:
            KINDS[field.kind].encode(value, writer)
        except (TypeError, ValueError, OverflowError) as exc:
            raise NanonisProtocolError(
                f"{command}: {field.name} is {value!r:.100}, it cannot be sent as {field.kind}: {exc}", name=field.name
            ) from exc
    return writer.data()


def _decode_all(command: str, layout: tuple[Field, ...], body: bytes) -> dict[str, Any]:
    reader = Reader(body)
    values = _decode(command, layout, reader)
    if reader.left:
        raise NanonisProtocolError(f"{command}: {reader.left} of the {len(body)} bytes of the body are too many")
    return values


def _decode(command: str, layout: tuple[Field, ...], reader: Reader) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in layout:
        try:
            values[field.name] = KINDS[field.kind].decode(reader)
        except NanonisProtocolError as exc:
            raise NanonisProtocolError(
                f"{command}: {field.name}: {exc.message}", name=field.name, **exc.details
            ) from exc
    return values
