"""Results as files of Gwyddion, in its own format (http://gwyddion.net/documentation/user-guide-en/gwyfile-format.html).

- Each image, and each layer of a stack, is a data field. Gwyddion's y axis points down and its first row is the top
  one: rows are turned round, and its y is the negative of ours, so that fields lie side by side as they should.
- Gwyddion knows no NaN: pixels that were not measured have the mean of the others, and are marked by a mask.
- It knows no rotated fields either: a field lies about the middle of its frame, and its angle is in the metadata.
- Spectra and profiles are graphs, one for each channel, with one curve for each trace; in curves, samples that were not
  measured are left out.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from twinscope._optional import import_optional
from twinscope.requests import ScanFrame, ScanRequest
from twinscope.results import ChannelData, Measurement


def write(measurement: Measurement, path: Path) -> None:
    """Write a new file for Gwyddion.

    Parameters
    ----------
    measurement
        What is known of it becomes the metadata of each field.
    path
        The file; it must not exist.

    Raises
    ------
    MissingPackageError
        When gwyfile is not installed.
    OSError
        When it cannot be written; nothing is left of it.
    """
    gwy: Any = import_optional("gwyfile.objects", "export")
    content = gwy.GwyContainer()
    if isinstance(measurement.request, ScanRequest):
        _add_fields(gwy, content, measurement, measurement.request.frame)
    else:
        _add_graphs(gwy, content, measurement)
    try:
        with path.open("xb") as file:
            content.tofile(file)
    except FileExistsError:
        raise
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _add_fields(gwy: Any, content: Any, measurement: Measurement, frame: ScanFrame) -> None:
    images = (image for data in measurement.values() for image in _images(data))
    for number, (title, unit, values) in enumerate(images):
        absent = ~np.isfinite(values)
        known = values[~absent]
        filled = np.where(absent, known.mean() if known.size else 0.0, values)
        content[f"/{number}/data"] = _field(gwy, filled, unit, frame)
        _put_text(content, f"/{number}/data/title", title)
        content[f"/{number}/meta"] = _metadata(gwy, measurement)
        if absent.any():
            content[f"/{number}/mask"] = _field(gwy, absent.astype(float), "1", frame)


def _images(data: ChannelData) -> Iterator[tuple[str, str, np.ndarray]]:
    """Title, unit and values of each image of a channel, with the bottom row first."""
    values = np.asarray(data.values, float)
    if values.ndim == 2:
        yield data.name, data.unit, values
        return
    for height, layer in zip(data.axes[0].values, values, strict=True):
        yield f"{data.name} at {height * 1e9:.6g} nm", data.unit, layer


def _field(gwy: Any, values: np.ndarray, unit: str, frame: ScanFrame) -> Any:
    (width, height), (x, y) = frame.size, frame.center
    return gwy.GwyDataField(
        values[::-1],
        xreal=width,
        yreal=height,
        xoff=x - width / 2,
        yoff=-(y + height / 2),
        si_unit_xy=_unit(gwy, "m"),
        si_unit_z=_unit(gwy, unit),
    )


def _add_graphs(gwy: Any, content: Any, measurement: Measurement) -> None:
    for number, (name, data) in enumerate(measurement.items(), start=1):
        trace, sample = data.axes
        curves = [
            _curve(gwy, f"{trace.name} {at:g}", sample.values, values)
            for at, values in zip(trace.values, np.asarray(data.values, float), strict=True)
        ]
        graph = gwy.GwyObject("GwyGraphModel")
        for key, text in {"title": name, "bottom_label": sample.quantity, "left_label": data.quantity}.items():
            _put_text(graph, key, text)
        graph["x_unit"], graph["y_unit"] = _unit(gwy, sample.unit), _unit(gwy, data.unit)
        graph["curves"] = curves
        graph.typecodes["curves"] = "O"
        content[f"/0/graph/graph/{number}"] = graph
    content["/0/meta"] = _metadata(gwy, measurement)


def _curve(gwy: Any, description: str, x: np.ndarray, y: np.ndarray) -> Any:
    measured = np.isfinite(y)
    curve = gwy.GwyObject("GwyGraphCurveModel", {"xdata": x[measured], "ydata": y[measured]})
    _put_text(curve, "description", description)
    # 2 is a line.
    curve["type"] = 2
    return curve


def _metadata(gwy: Any, measurement: Measurement) -> Any:
    content = gwy.GwyContainer()
    for name, value in measurement.metadata.items():
        _put_text(content, name, value if isinstance(value, str) else json.dumps(value))
    return content


def _unit(gwy: Any, unit: str) -> Any:
    return gwy.GwySIUnit(unitstr="" if unit == "1" else unit)


def _put_text(owner: Any, key: str, text: str) -> None:
    owner[key] = text.replace("\0", "")
    # gwyfile would write a text of one letter as a character, which Gwyddion does not read as text.
    owner.typecodes[key] = "s"
