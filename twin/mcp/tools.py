"""What a tool is: something that an agent can call, described so that it can be called rightly."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twinscope.errors import InvalidRequestError
from twinscope.mcp.instrument_client import InstrumentClient
from twinscope.schemas import Schema

Report = Callable[[float, float | None, str], None]
"""Tells the agent how far something is: done, total, and words; raises when nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An answer that is to be looked at.

    Attributes
    ----------
    png
        The picture.
    about
        What is on it, as plain data.
    """

    png: bytes
    about: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tool:
    """Something that an agent can call.

    Attributes
    ----------
    name
        What it is called by.
    text
        What it does, for the model.
    takes, gives
        JSON Schemas of its arguments and of its answer, objects both.
    run
        Carries it out: with the client, the arguments, and a way to tell how far it is.
    writes
        Whether it changes something.
    destructive
        Whether it may hurt tip or sample.
    idempotent
        Whether doing it twice is the same as doing it once.
    """

    name: str
    text: str
    takes: Schema
    gives: Schema
    run: Callable[[InstrumentClient, dict[str, Any], Report], Mapping[str, Any] | Picture]
    writes: bool = False
    destructive: bool = False
    idempotent: bool = True

    def check(self, arguments: Mapping[str, Any]) -> None:
        """Raise :class:`InvalidRequestError` when an argument is missing or none of ours; values are checked later.

        None is refused, as NaN becomes null on its way from some clients: it must not pass for "unless given".
        """
        known = self.takes["properties"]
        for name, value in arguments.items():
            if name not in known:
                expected = ", ".join(known) or "no arguments"
                raise InvalidRequestError(f"{self.name} has no argument {name!r}: expected {expected}", name=name)
            if value is None:
                raise InvalidRequestError(f"{name} is null: give a value, or leave it out if it may be", name=name)
            if known[name].get("type") == "string" and not isinstance(value, str):
                raise InvalidRequestError(f"{name} is {value!r}: expected text", name=name)
        missing = [name for name in self.takes["required"] if name not in arguments]
        if missing:
            raise InvalidRequestError(f"{self.name} needs {', '.join(missing)}", name=missing[0])


def opened(properties: Mapping[str, Any]) -> Schema:
    """Describe an answer that has at least these properties."""
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


def listed(element: Schema) -> Schema:
    """Describe a list."""
    return {"type": "array", "items": element}


TEXT = {"type": "string"}
FLAG = {"type": "boolean"}
NUMBER = {"type": "number"}
INTEGER = {"type": "integer"}
OBJECT = {"type": "object"}
MAYBE_NUMBER = {"type": ["number", "null"]}
MAYBE_TEXT = {"type": ["string", "null"]}
MAYBE_OBJECT = {"type": ["object", "null"]}
