"""The small numbers by which Nanonis commands mean something."""

from collections.abc import Sequence
from typing import TypeVar

from twinscope.errors import InvalidRequestError

_T = TypeVar("_T")

CHOICE = (None, True, False)
"""What 0, 1 and 2 mean in most settings: no change, on, off."""


def meaning(name: str, value: int, meanings: Sequence[_T]) -> _T:
    """Return what a number means.

    Raises
    ------
    InvalidRequestError
        When it means nothing.
    """
    if not 0 <= value < len(meanings):
        raise InvalidRequestError(f"{name} is {value}: expected 0 to {len(meanings) - 1}", name=name)
    return meanings[value]


def switched(name: str, value: int, present: bool) -> bool:
    """Return a switch that 0 leaves as it is, 1 switches on and 2 off."""
    choice = meaning(name, value, CHOICE)
    return present if choice is None else choice


def on_or_off(name: str, value: int) -> bool:
    """Return a switch that 0 switches off and 1 on."""
    return meaning(name, value, (False, True))


def refuse_unless(possible: bool, what: str, why: str) -> None:
    """Raise :class:`InvalidRequestError` for what this instrument cannot do."""
    if not possible:
        raise InvalidRequestError(f"{what} is not possible: {why}")
