"""Images in Gwyddion's own format (``.gwy``).

Its first row is the top one and its y axis points down: y is the negative of ours. It knows no directions and no
angles; a direction is taken from the end of a title ("Z (Backward)").
"""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from twinscope.drivers.replay.readers.contents import Contents, check_size, damaged, read_bytes
from twinscope.drivers.replay.readers.gwyddion_objects import GwyObject, parse
from twinscope.drivers.replay.readers.names import Names, split_direction
from twinscope.drivers.replay.readers.options import ReadingOptions
from twinscope.drivers.replay.readers.units import si_unit
from twinscope.drivers.replay.recording import RecordedImage
from twinscope.requests import ScanFrame

MAGIC = b"GWYP"
_FIELD = re.compile(r"/(\d+)/data")


def read(path: Path, options: ReadingOptions) -> Contents:
    """Read all data fields; `options` are not used: the file says it all."""
    del options
    content = read_bytes(path)
    if not content.startswith(MAGIC):
        raise damaged(path, f"it begins with {content[:4]!r}, expected {MAGIC!r}")
    container = parse(path, content[len(MAGIC) :])
    contents = Contents()
    names = Names()
    fields = sorted((int(found[1]), name) for name in container.components if (found := _FIELD.fullmatch(name)))
    for number, name in fields:
        _add_field(path, contents, names, container, number, container.components[name])
    first = container.get(f"/{fields[0][0]}/meta") if fields else None
    if isinstance(first, GwyObject):
        contents.metadata = {name: text for name, text in first.components.items() if isinstance(text, str)}
    if any(name.startswith(("/sps/", "/0/graph/", "/brick/", "/surface/")) for name in container.components):
        contents.warn("only images are read of files of Gwyddion: graphs, spectra and volumes are left out")
    return contents


def _add_field(path: Path, contents: Contents, names: Names, container: GwyObject, number: int, field: Any) -> None:
    if not isinstance(field, GwyObject) or field.name != "GwyDataField":
        raise damaged(path, f"/{number}/data is no data field")
    title = str(container.get(f"/{number}/data/title") or f"channel {number}")
    lateral = si_unit(_unit(field, "si_unit_xy"))
    if lateral.name != "m":
        contents.warn(f"{title!r} is left out: its axes are in {lateral.name!r}, expected a length")
        return
    values = _values(path, number, field)
    base, way = split_direction(title)
    direction = way or "forward"
    si, scaled = contents.to_si(title, _unit(field, "si_unit_z"), values)
    contents.images.append(
        RecordedImage(
            name=names.image(base, direction),
            unit=si,
            quantity=title,
            data=scaled[::-1],
            frame=_frame(path, number, field, lateral.factor),
            direction=direction,
        )
    )


def _values(path: Path, number: int, field: GwyObject) -> np.ndarray:
    """Return the values, from the top."""
    nx, ny, data = field.get("xres"), field.get("yres"), field.get("data")
    if not isinstance(nx, int) or not isinstance(ny, int) or not isinstance(data, np.ndarray):
        raise damaged(path, f"/{number}/data has no pixels")
    check_size(path, (ny, nx))
    if data.dtype != np.dtype("<f8") or data.size != nx * ny:
        raise damaged(path, f"/{number}/data has {data.size} values, expected {nx} x {ny}")
    return data.reshape(ny, nx)


def _frame(path: Path, number: int, field: GwyObject, factor: float) -> ScanFrame:
    lengths = [
        field.get(name, default) for name, default in (("xreal", 1.0), ("yreal", 1.0), ("xoff", 0.0), ("yoff", 0.0))
    ]
    if not all(isinstance(length, float) and math.isfinite(length) for length in lengths) or min(lengths[:2]) <= 0:
        raise damaged(path, f"/{number}/data lies at {lengths}, expected its size and its offset")
    width, height, left, top = (length * factor for length in lengths)
    return ScanFrame(size=(width, height), center=(left + width / 2, -(top + height / 2)))


def _unit(field: GwyObject, name: str) -> str:
    unit = field.get(name)
    return str(unit.get("unitstr", "")) if isinstance(unit, GwyObject) else ""
