"""Measurements in few numbers: what fits into the context of a language model."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from twinscope import _checks
from twinscope.errors import InvalidRequestError
from twinscope.results import Axis, ChannelData, Measurement

_LONGEST_LIST = 20

STATISTICS = ("lowest", "highest", "mean", "median", "deviation")


def summary(measurement: Measurement) -> dict[str, Any]:
    """Tell what was measured: the request, statistics of each channel, and what is to be known of it."""
    metadata = measurement.metadata
    return {
        "id": metadata["id"],
        "kind": measurement.request.kind,
        "state": metadata["state"],
        "complete": measurement.complete,
        "error": metadata["error"],
        "warnings": list(metadata["warnings"]),
        "created": metadata["created"],
        "file": metadata["file"],
        "request": brief(measurement.request.to_dict()),
        "channels": [statistics(data) for data in measurement.values()],
    }


def statistics(data: ChannelData) -> dict[str, Any]:
    """Tell the range and spread of what a channel recorded, of what was measured."""
    measured = data.values[np.isfinite(data.values)].astype(float)
    numbers: dict[str, float | None] = dict.fromkeys(STATISTICS)
    if measured.size:
        found = (measured.min(), measured.max(), measured.mean(), np.median(measured), measured.std())
        numbers |= {name: float(value) for name, value in zip(numbers, found, strict=True)}
    return {
        "name": data.name,
        "unit": data.unit,
        "quantity": data.quantity,
        "shape": list(data.shape),
        "axes": [_extent(axis) for axis in data.axes],
        "measured": measured.size / data.values.size,
        **numbers,
    }


def excerpt(data: ChannelData, window: Any, most: int) -> dict[str, Any]:
    """Return a part of an array, thinned out evenly to at most so many values.

    Parameters
    ----------
    data
        What was recorded.
    window
        The first index and the one after the last, of each axis; None for everything.
    most
        How many values at most, one or more.

    Raises
    ------
    InvalidRequestError
        When the window does not lie in the array.
    """
    parts = _checked_window(window, data.shape)
    stride = _stride([stop - start for start, stop in parts], most)
    chosen = tuple(slice(start, stop, stride) for start, stop in parts)
    return {
        "name": data.name,
        "unit": data.unit,
        "shape": list(data.shape),
        "stride": stride,
        "axes": [
            {"name": axis.name, "unit": axis.unit, "values": [_tidy(value) for value in axis.values[part]]}
            for axis, part in zip(data.axes, chosen, strict=True)
        ],
        "values": _shortest(data.values[chosen]),
    }


def _extent(axis: Axis) -> dict[str, Any]:
    first, last = _tidy(axis.values[0]), _tidy(axis.values[-1])
    return {"name": axis.name, "unit": axis.unit, "count": len(axis.values), "first": first, "last": last}


def _checked_window(window: Any, shape: Sequence[int]) -> list[tuple[int, int]]:
    if window is None:
        return [(0, length) for length in shape]
    ends = [_checks.pair("window", part) for part in _checks.items("window", window)]
    whole = all(isinstance(end, int) and not isinstance(end, bool) for pair in ends for end in pair)
    if not whole or len(ends) != len(shape):
        raise InvalidRequestError(f"window is {window!r}: expected [start, stop] for each of {len(shape)} axes")
    for (start, stop), length in zip(ends, shape, strict=True):
        if not 0 <= start < stop <= length:
            raise InvalidRequestError(
                f"window is {window!r}: the array has the shape {list(shape)}, expected 0 <= start < stop <= {length}"
            )
    return ends


def _stride(lengths: Sequence[int], most: int) -> int:
    """Return the least stride, the same along all axes, that leaves at most so many values."""
    stride = 1
    while math.prod(-(-length // stride) for length in lengths) > most:
        stride += 1
    return stride


def _shortest(values: np.ndarray) -> Any:
    """Return nested lists of the shortest numbers that are the same in float32; None where nothing was measured."""
    if values.ndim:
        return [_shortest(part) for part in values]
    return float(str(values)) if np.isfinite(values) else None


def _tidy(value: float) -> float:
    """Return a coordinate without the rounding error that its computation left: each digit costs a token."""
    return float(f"{value:.12g}")


def brief(value: Any) -> Any:
    """Return plain data with long lists cut short, such as the positions of a grid of spectra."""
    if isinstance(value, Mapping):
        return {name: brief(element) for name, element in value.items()}
    if not isinstance(value, list | tuple):
        return value
    rest = len(value) - _LONGEST_LIST
    return [brief(element) for element in value[:_LONGEST_LIST]] + ([f"and {rest} more"] if rest > 0 else [])


def finite(value: Any) -> Any:
    """Return plain data with None for what JSON has no number for."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: finite(element) for name, element in value.items()}
    if isinstance(value, list | tuple):
        return [finite(element) for element in value]
    return value
