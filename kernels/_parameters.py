"""Checks of single numbers. They are looked at only where they are known, not under a JAX trace."""

from collections.abc import Callable

import numpy as np

from twinscope.kernels._types import ArrayLike
from twinscope.kernels._volume import is_known


def check_positive(unit: str = "", **values: ArrayLike) -> None:
    """Raise ValueError unless every value is one finite number above zero; `unit` is that of the message."""
    for name, value in values.items():
        _check(name, value, unit, "a positive number", lambda number: number > 0)


def check_not_negative(unit: str = "", **values: ArrayLike) -> None:
    """Raise ValueError unless every value is one finite number, zero or above."""
    for name, value in values.items():
        _check(name, value, unit, "a number >= 0", lambda number: number >= 0)


def check_count(**values: int) -> None:
    """Raise ValueError unless every value is a whole number from 1 on."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} is {value!r}: expected a whole number >= 1")


def _check(name: str, value: ArrayLike, unit: str, expected: str, holds: Callable[[float], bool]) -> None:
    if is_known(value) and not (np.ndim(value) == 0 and np.isfinite(value) and holds(value)):
        raise ValueError(f"{name} is {value}{f' {unit}' if unit else ''}: expected {expected}")
