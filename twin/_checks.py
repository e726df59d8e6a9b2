"""Checks that turn loose input into numbers, or into an error that names the value."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from twinscope.errors import InvalidRequestError


def finite(name: str, value: Any) -> float:
    """Return `value` as a finite float; text, None, booleans, NaN and infinity are refused."""
    if not isinstance(value, bool | str | bytes) and hasattr(value, "__float__"):
        try:
            number = float(value)
        # An integer may be too large for it, and an array more than one number.
        except (OverflowError, TypeError, ValueError):
            number = math.nan
        if math.isfinite(number):
            return number
    raise InvalidRequestError(f"{name} is {value!r}: expected a finite number", name=name)


def positive(name: str, value: Any) -> float:
    """Return `value` as a finite float above zero."""
    number = finite(name, value)
    if number <= 0:
        raise InvalidRequestError(f"{name} is {value!r}: expected a number above zero", name=name)
    return number


def not_negative(name: str, value: Any) -> float:
    """Return `value` as a finite float of zero or more."""
    number = finite(name, value)
    if number < 0:
        raise InvalidRequestError(f"{name} is {value!r}: expected a number of zero or more", name=name)
    return number


def flag(name: str, value: Any) -> bool:
    """Return `value`, which must be True or False."""
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{name} is {value!r}: expected true or false", name=name)
    return value


def count(name: str, value: Any) -> int:
    """Return `value` as an integer of one or more."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < 1:
        raise InvalidRequestError(f"{name} is {value!r}: expected an integer of at least 1", name=name)
    return int(value.__index__())


def pair(name: str, value: Any) -> tuple[Any, Any]:
    """Return the two elements of `value`."""
    is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    elements = tuple(value) if is_list else ()
    if len(elements) != 2:
        raise InvalidRequestError(f"{name} is {value!r}: expected two elements (x, y)", name=name)
    return elements[0], elements[1]


def items(name: str, value: Any) -> tuple[Any, ...]:
    """Return `value` as a tuple; text is not a list of letters."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InvalidRequestError(f"{name} is {value!r}: expected a list", name=name)
    return tuple(value)


def mapping(name: str, value: Any) -> dict[str, Any]:
    """Return `value` as a dict with text for keys."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidRequestError(f"{name} is {value!r}: expected a mapping from names", name=name)
    return dict(value)


def choice(name: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise InvalidRequestError(f"{name} is {value!r}: expected one of {', '.join(choices)}", name=name)
    return value


def fields(name: str, data: Any, allowed: Iterable[str]) -> dict[str, Any]:
    """Return the mapping `data` as a dict; a key that is not allowed is an error."""
    if not isinstance(data, Mapping):
        raise InvalidRequestError(f"{name} is {data!r}: expected a mapping", name=name)
    unknown = sorted(set(data) - set(allowed))
    if unknown:
        raise InvalidRequestError(
            f"{name} has the unknown key {unknown[0]!r}: expected {', '.join(allowed)}", name=name
        )
    return dict(data)
