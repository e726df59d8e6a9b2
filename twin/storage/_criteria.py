"""What acquisitions can be searched by, and how SQL says it."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from twinscope import _checks
from twinscope.errors import InvalidRequestError


def conditions(criteria: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """Return the WHERE clause of criteria and its parameters; criteria that are None are left out.

    Only text of this module gets into the clause: what was given is in the parameters.

    Raises
    ------
    InvalidRequestError
        When a criterion is unknown or makes no sense.
    """
    clauses, parameters = ["TRUE"], []
    for name, value in _checks.fields("the search", criteria, _CRITERIA).items():
        if value is not None:
            clause, check = _CRITERIA[name]
            clauses.append(clause)
            parameters += check(name, value)
    return " AND ".join(clauses), parameters


def moment(name: str, value: Any) -> str:
    """Return a time in the one form in which times can be compared as text: UTC, to the millisecond."""
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError) as exc:
        raise InvalidRequestError(
            f"{name} is {value!r}: expected a time in ISO 8601, such as 2026-10-01T12:00:00+00:00", name=name
        ) from exc
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return time.astimezone(UTC).isoformat(timespec="milliseconds")


def _text(name: str, value: Any) -> list[str]:
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} is {value!r}: expected text", name=name)
    return [value]


def _moment(name: str, value: Any) -> list[str]:
    return [moment(name, value)]


def _box(name: str, value: Any) -> list[float]:
    edges = [_checks.finite(name, edge) for edge in _checks.items(name, value)]
    if len(edges) != 4 or edges[0] > edges[2] or edges[1] > edges[3]:
        raise InvalidRequestError(
            f"{name} is {value!r}: expected (x0, y0, x1, y1) with x0 <= x1 and y0 <= y1", name=name
        )
    return edges


_CRITERIA: dict[str, tuple[str, Callable[[str, Any], list[Any]]]] = {
    "kind": ("kind = ?", _text),
    "state": ("state = ?", _text),
    "operator": ("operator = ?", _text),
    "channel": ("EXISTS (SELECT 1 FROM json_each(channels) WHERE value = ?)", _text),
    # Not LIKE, to which % and _ are special.
    "purpose": ("instr(lower(purpose), lower(?)) > 0", _text),
    "since": ("created >= ?", _moment),
    "until": ("created < ?", _moment),
    "within": ("? <= x1 AND ? <= y1 AND ? >= x0 AND ? >= y0", _box),
}
