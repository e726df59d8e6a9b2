"""The options of a driver."""

import math
from typing import Any

import pytest

from twinscope.conformance.settings import Subject
from twinscope.drivers.options import Option
from twinscope.errors import ConfigurationError

CONTRACT = "twinscope.drivers.options.DriverOptions, and docs/drivers.md, 'Options'"

_UNKNOWN = "no_such_option"


def refused(subject: Subject, **change: Any) -> str:
    """Make the driver with options that must be refused, and return how it was."""
    options = {name: value for name, value in (dict(subject.options) | change).items() if value is not _LEFT_OUT}
    # Nothing is left over of one that is made all the same.
    try:
        subject.cls(**options).close()
    except ConfigurationError as exc:
        return f"{exc} {exc.details.get('name', '')}"
    except Exception as exc:
        raise AssertionError(f"{change} was refused by {type(exc).__name__}: expected ConfigurationError") from exc
    raise AssertionError(f"{change} was not refused")


_LEFT_OUT = object()


def test_options_are_described(subject: Subject) -> None:
    """Each option has a name, a kind in words, and a default or none."""
    for option in subject.cls.options_type.describe():
        assert option.name.isidentifier()
        assert option.kind, f"the option {option.name} has no kind"


def test_unknown_options_are_refused(subject: Subject) -> None:
    """An option that does not exist is refused by its name: a misspelt one must not be ignored."""
    said = refused(subject, **{_UNKNOWN: 1})
    assert _UNKNOWN in said, f"the message does not name the option {_UNKNOWN}: {said}"


def test_values_of_the_wrong_type_are_refused(subject: Subject) -> None:
    """A value of the wrong type is refused by the name of its option, when the driver is made."""
    for option in subject.cls.options_type.describe():
        if option.kind != "anything":
            said = refused(subject, **{option.name: object()})
            assert option.name in said, f"the message does not name the option {option.name}: {said}"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(subject: Subject, value: float) -> None:
    """NaN and infinity are refused by the name of their option."""
    for option in subject.cls.options_type.describe():
        if _is_number(option):
            said = refused(subject, **{option.name: value})
            assert option.name in said, f"the message does not name the option {option.name}: {said}"


def test_missing_options_are_named(subject: Subject) -> None:
    """An option that must be given and is not is named."""
    for option in subject.cls.options_type.describe():
        if option.required:
            said = refused(subject, **{option.name: _LEFT_OUT})
            assert option.name in said, f"the message does not name the option {option.name}: {said}"


def _is_number(option: Option) -> bool:
    return option.kind in ("a finite number", "an integer", "a finite number or nothing", "an integer or nothing")
