"""Marks in the scan: points with text, and lines. They are kept and told back; who shows the scan may draw them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from twinscope import _checks
from twinscope.capabilities import Capabilities
from twinscope.errors import OutOfRangeError
from twinscope.gateway.call import Call
from twinscope.gateway.codes import meaning

_ALL = -1
_MOST = 10_000
# Clients cannot read a longer text in a list.
_LONGEST_TEXT = 255
_ENDS = (
    "start_point_x_coordinate",
    "start_point_y_coordinate",
    "end_point_x_coordinate",
    "end_point_y_coordinate",
)
_POINT = ("x_coordinate", "y_coordinate")


@dataclass(frozen=True, slots=True)
class Mark:
    """A point, with x and y, or a line, with x and y of both ends, in m."""

    coordinates: tuple[float, ...]
    color: int
    text: str = ""
    visible: bool = True


@dataclass(frozen=True, slots=True)
class MarkSettings:
    """All that is drawn."""

    points: tuple[Mark, ...] = ()
    lines: tuple[Mark, ...] = ()

    @classmethod
    def initial(cls, capabilities: Capabilities) -> Self:
        """Return an empty frame."""
        del capabilities
        return cls()


def _draw(call: Call, kind: str, marks: Sequence[Mark]) -> None:
    for mark in marks:
        for value in mark.coordinates:
            _checks.finite("coordinate", value)
        if len(mark.text.encode()) > _LONGEST_TEXT:
            raise OutOfRangeError(f"the text {mark.text[:20]!r}... is too long: expected at most {_LONGEST_TEXT} bytes")
    drawn = (*getattr(call.settings.of(MarkSettings), kind), *marks)
    if len(drawn) > _MOST:
        raise OutOfRangeError(f"there would be {len(drawn)} {kind}: at most {_MOST} are kept, erase some")
    call.settings.change(MarkSettings, **{kind: drawn})


def _draw_point(call: Call, given: Mapping[str, Any]) -> None:
    place = tuple(given[name] for name in _POINT)
    _draw(call, "points", [Mark(place, given["color"], given["text"])])


def _draw_points(call: Call, given: Mapping[str, Any]) -> None:
    texts, count = given["text"], len(given["color"])
    if len(texts) != count:
        raise OutOfRangeError(f"there are {count} points and {len(texts)} texts: expected one for each")
    columns = [given[name].tolist() for name in (*_POINT, "color")]
    marks = [Mark((x, y), color, text) for x, y, color, text in zip(*columns, texts, strict=True)]
    _draw(call, "points", marks)


def _draw_line(call: Call, given: Mapping[str, Any]) -> None:
    _draw(call, "lines", [Mark(tuple(given[name] for name in _ENDS), given["color"])])


def _draw_lines(call: Call, given: Mapping[str, Any]) -> None:
    columns = [given[name].tolist() for name in (*_ENDS, "color")]
    _draw(call, "lines", [Mark(tuple(row[:-1]), row[-1]) for row in zip(*columns, strict=True)])


def _chosen(kind: str, index: int, marks: Sequence[Mark]) -> range:
    """Return which marks an index means."""
    if index == _ALL:
        return range(len(marks))
    if not 0 <= index < len(marks):
        raise OutOfRangeError(f"there are {len(marks)} {kind}, none with the index {index}; {_ALL} means all")
    return range(index, index + 1)


def _erase(call: Call, kind: str, index: int) -> None:
    marks = getattr(call.settings.of(MarkSettings), kind)
    gone = _chosen(kind, index, marks)
    call.settings.change(MarkSettings, **{kind: tuple(mark for i, mark in enumerate(marks) if i not in gone)})


def _erase_points(call: Call, given: Mapping[str, Any]) -> None:
    _erase(call, "points", given["point_index"])


def _erase_lines(call: Call, given: Mapping[str, Any]) -> None:
    _erase(call, "lines", given["line_index"])


def _show(call: Call, kind: str, index: int, visible: bool) -> None:
    marks = getattr(call.settings.of(MarkSettings), kind)
    meant = _chosen(kind, index, marks)
    changed = tuple(replace(mark, visible=visible) if i in meant else mark for i, mark in enumerate(marks))
    call.settings.change(MarkSettings, **{kind: changed})


def _show_points(call: Call, given: Mapping[str, Any]) -> None:
    _show(call, "points", given["point_index"], meaning("show_hide", given["show_hide"], (True, False)))


def _show_lines(call: Call, given: Mapping[str, Any]) -> None:
    _show(call, "lines", given["line_index"], meaning("show_hide", given["show_hide"], (True, False)))


def _told(marks: Sequence[Mark], names: Sequence[str]) -> dict[str, Any]:
    told: dict[str, Any] = {name: [mark.coordinates[i] for mark in marks] for i, name in enumerate(names)}
    return told | {"color": [mark.color for mark in marks], "visible": [int(mark.visible) for mark in marks]}


def _get_points(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    points = call.settings.of(MarkSettings).points
    return _told(points, _POINT) | {"text": tuple(point.text for point in points)}


def _get_lines(call: Call, given: Mapping[str, Any]) -> Mapping[str, Any]:
    del given
    return _told(call.settings.of(MarkSettings).lines, _ENDS)


HANDLERS = {
    "Marks.PointDraw": _draw_point,
    "Marks.PointsDraw": _draw_points,
    "Marks.LineDraw": _draw_line,
    "Marks.LinesDraw": _draw_lines,
    "Marks.PointsErase": _erase_points,
    "Marks.LinesErase": _erase_lines,
    "Marks.PointsVisibleSet": _show_points,
    "Marks.LinesVisibleSet": _show_lines,
    "Marks.PointsGet": _get_points,
    "Marks.LinesGet": _get_lines,
}
