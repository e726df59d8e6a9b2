"""The table of all commands, read from the text files beside this module.

A line of them is ``Name(argument: kind, ...) -> result: kind, ...``; indented lines go on with the line before. A
command that stands there again has another layout of its arguments, which older or newer clients send.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files
from types import MappingProxyType

from twinscope.nanonis_protocol.commands import Command, Field

_FAMILIES = ("bias", "height", "scan", "sweeps", "oscillation", "signals", "system")
_LINE = re.compile(r"([A-Z]\w+\.\w+)\((.*?)\)(?: -> (.+))?")


def _logical_lines(text: str) -> Iterator[str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    yield from re.sub(r"\n +", " ", "\n".join(lines)).splitlines()


def _fields(text: str | None) -> tuple[Field, ...]:
    return tuple(Field(*part.split(": ")) for part in (text or "").split(", ") if part)


def _all_of(layouts: Iterable[tuple[Field, ...]]) -> tuple[Field, ...]:
    found: dict[str, Field] = {}
    for layout in layouts:
        for field in layout:
            found.setdefault(field.name, field)
    return tuple(found.values())


def _read_all() -> Mapping[str, Command]:
    commands: dict[str, Command] = {}
    for family in _FAMILIES:
        text = files("twinscope.nanonis_protocol").joinpath(f"{family}.txt").read_text(encoding="utf-8")
        for line in _logical_lines(text):
            match = _LINE.fullmatch(line)
            if match is None:
                raise ValueError(f"{family}.txt: {line!r} is not a command")
            name, arguments, results = match.groups()
            known = commands.get(name)
            layouts = (*(known.layouts if known else ()), _fields(arguments))
            commands[name] = Command(name, _all_of(layouts), known.results if known else _fields(results), layouts)
    return MappingProxyType(commands)


COMMANDS: Mapping[str, Command] = _read_all()
"""Every command of the protocol document, by its name."""
