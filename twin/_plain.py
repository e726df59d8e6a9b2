"""Frozen dataclasses that convert to plain data and back, for wire and file."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from twinscope import _checks
from twinscope.errors import InvalidRequestError


class PlainData:
    """Conversion of a flat frozen dataclass to and from plain data."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data: numbers, text, lists and None."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Any:
        """Build from :meth:`to_dict`.

        Raises
        ------
        InvalidRequestError
            When a key is unknown or missing, or a value is not allowed.
        """
        known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        values = _checks.fields(cls.__name__, data, known)
        try:
            return cls(**values)
        except TypeError as exc:
            raise InvalidRequestError(f"{cls.__name__} cannot be made from {sorted(values)}: {exc}") from exc


def nested(name: str, value: Any, cls: type[PlainData]) -> Any:
    """Return `value` as a `cls`, which may be given as plain data."""
    if isinstance(value, Mapping):
        return cls.from_dict(value)
    if not isinstance(value, cls):
        raise InvalidRequestError(f"{name} is {value!r}: expected a {cls.__name__}")
    return value


def set_field(frozen: Any, name: str, value: Any) -> None:
    """Set a field of a frozen dataclass that is being made."""
    object.__setattr__(frozen, name, value)


def _plain(value: Any) -> Any:
    if isinstance(value, PlainData):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {name: _plain(element) for name, element in value.items()}
    if isinstance(value, str) or not isinstance(value, Iterable):
        return value
    return [_plain(element) for element in value]
