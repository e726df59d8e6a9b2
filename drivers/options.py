"""Typed options of drivers: a frozen dataclass each, made from keywords or from a TOML file."""

import math
import tomllib
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from twinscope.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option, for people.

    Attributes
    ----------
    name
        As a keyword and in TOML.
    kind
        What it takes, as in Python: "float", "str | None".
    default
        What it is when it is not given; None also for one that must be given.
    required
        Whether it must be given.
    """

    name: str
    kind: str
    default: Any
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverOptions:
    """Base of the options of a driver.

    A subclass is a frozen, keyword-only dataclass with one annotated field per option. What is given is brought to the
    annotated type where nothing is lost by it (1 to 1.0, a list to a tuple, text to a path) and refused otherwise.
    Supported are bool, int, float, str, :class:`~pathlib.Path`, Literal, tuple, dict and Mapping, Any, and unions of
    them. Numbers must be finite. Further checks belong in ``__post_init__``, which calls ``super().__post_init__()``
    (with ``slots=True``: ``DriverOptions.__post_init__(self)``) first.

    Raises
    ------
    ConfigurationError
        When a value does not fit; the message and ``details["name"]`` name the option.
    """

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            value = getattr(self, field.name)
            try:
                fitted = _fit(value, hints[field.name])
            except TypeError as exc:
                raise ConfigurationError(
                    f"the option {field.name} is {value!r}: expected {exc}", name=field.name
                ) from exc
            object.__setattr__(self, field.name, fitted)

    @classmethod
    def from_keywords(cls, keywords: Mapping[str, Any]) -> Self:
        """Build from keywords.

        Raises
        ------
        ConfigurationError
            When a keyword is unknown or missing, or a value is wrong; the message names it.
        """
        known = cls.describe()
        names = [option.name for option in known]
        unknown = sorted(set(keywords) - set(names))
        if unknown:
            expected = ", ".join(names) or "none"
            raise ConfigurationError(f"unknown option {unknown[0]!r}: expected {expected}", name=unknown[0])
        missing = [option.name for option in known if option.required and option.name not in keywords]
        if missing:
            raise ConfigurationError(f"the option {missing[0]} is missing: this driver needs it", name=missing[0])
        return cls(**keywords)

    @classmethod
    def describe(cls) -> tuple[Option, ...]:
        """List the options in their order."""
        hints = get_type_hints(cls)
        return tuple(_described(field, hints[field.name]) for field in fields(cls))


def read_options(path: Path) -> dict[str, Any]:
    """Read the options of a driver from a TOML file, as keywords.

    Raises
    ------
    ConfigurationError
        When the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"the options of {path} cannot be read: {exc}") from exc


def _described(field: Any, hint: Any) -> Option:
    required = field.default is MISSING and field.default_factory is MISSING
    default = None if required else field.default if field.default is not MISSING else field.default_factory()
    return Option(name=field.name, kind=_name(hint), default=default, required=required)


def _fit(value: Any, hint: Any) -> Any:
    """Return `value` as what the annotation asks for; raises TypeError with what was expected."""
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _fit_one_of(value, hint)
    if origin is tuple:
        return _fit_tuple(value, hint)
    kind: Callable[[Any], Any]
    if origin is Literal:
        # Arrays cannot be asked whether they are equal to it.
        fits, kind = any(isinstance(value, type(one)) and value == one for one in get_args(hint)), _same
    elif _is_table(hint):
        fits, kind = isinstance(value, Mapping) and all(isinstance(key, str) for key in value), dict
    elif hint in _SIMPLE:
        fits, kind = _SIMPLE[hint](value), hint
    else:
        fits, kind = isinstance(value, type(None) if hint is None else hint), _same
    if not fits:
        raise TypeError(_name(hint))
    return kind(value)


def _same(value: Any) -> Any:
    return value


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


# Booleans are numbers in Python, not here.
_SIMPLE: Mapping[Any, Callable[[Any], bool]] = {
    float: _is_finite,
    int: lambda value: isinstance(value, int) and not isinstance(value, bool),
    Path: lambda value: isinstance(value, str | Path) and bool(str(value)),
}


def _is_table(hint: Any) -> bool:
    kind = get_origin(hint) or hint
    return isinstance(kind, type) and issubclass(kind, Mapping)


def _fit_one_of(value: Any, hint: Any) -> Any:
    choices = get_args(hint)
    # 1 is no 1.0 where both are allowed, and text no path.
    if type(value) in choices:
        return _fit(value, type(value))
    for choice in choices:
        try:
            return _fit(value, choice)
        except TypeError:
            continue
    raise TypeError(_name(hint))


def _fit_tuple(value: Any, hint: Any) -> tuple[Any, ...]:
    kinds = get_args(hint)
    if not isinstance(value, list | tuple):
        raise TypeError(_name(hint))
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise TypeError(_name(hint))
    try:
        return tuple(_fit(element, kind) for element, kind in zip(value, kinds, strict=True))
    except TypeError as exc:
        raise TypeError(_name(hint)) from exc


_WORDS = {bool: "true or false", int: "an integer", float: "a finite number", str: "text", Path: "a path"}


def _name(hint: Any) -> str:
    """Say in words what an annotation allows."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return "anything"
    if hint is None or hint is type(None):
        return "nothing"
    if origin in (Union, types.UnionType):
        return " or ".join(_name(one) for one in arguments)
    if origin is Literal:
        return "one of " + ", ".join(repr(one) for one in arguments)
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"a list, each {_name(arguments[0])}"
    if origin is tuple:
        return f"a list of {len(arguments)}: " + ", ".join(_name(one) for one in arguments)
    if _is_table(hint):
        return "a table"
    return _WORDS.get(hint, getattr(hint, "__name__", str(hint)))
