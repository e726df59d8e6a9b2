"""The table of the catalogue: its columns, and how a row is made, written and read."""

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from twinscope.requests import ScanFrame
from twinscope.storage._criteria import moment

# To be raised with every change of the table: an older catalogue is then made anew.
VERSION = 1
TABLE = """
CREATE TABLE acquisitions (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    created TEXT NOT NULL,
    operator TEXT,
    purpose TEXT,
    instrument TEXT,
    driver TEXT,
    channels TEXT NOT NULL,
    request TEXT NOT NULL,
    x REAL, y REAL, x0 REAL, y0 REAL, x1 REAL, y1 REAL,
    file TEXT NOT NULL,
    state TEXT NOT NULL,
    error TEXT,
    warnings TEXT NOT NULL,
    traces_done INTEGER NOT NULL,
    checksums TEXT NOT NULL
)
"""
_JSON_COLUMNS = ("channels", "request", "warnings", "checksums")
_BOX_COLUMNS = ("x0", "y0", "x1", "y1")


def row_of(metadata: Mapping[str, Any], state: str, checksums: Mapping[str, str]) -> dict[str, Any]:
    """Return the columns of an acquisition."""
    instrument = metadata["instrument"]
    return {
        "id": metadata["id"],
        "kind": metadata["kind"],
        "created": moment("created", metadata["created"]),
        "operator": metadata.get("operator"),
        "purpose": metadata.get("purpose"),
        "instrument": instrument["instrument"],
        "driver": instrument["driver"],
        "channels": json.dumps([channel["name"] for channel in metadata["channels"]]),
        "request": json.dumps(metadata["request"]),
        **_extent(metadata["request"]),
        "file": Path(metadata["file"]).name,
        "state": state,
        "error": metadata.get("error"),
        "warnings": json.dumps(metadata.get("warnings", [])),
        "traces_done": metadata.get("traces_done", 0),
        "checksums": json.dumps(dict(checksums)),
    }


def _extent(request: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the middle and the edges of what a request looks at, in m."""
    if "frame" in request:
        points = ScanFrame.from_dict(request["frame"]).corners()
    elif "positions" in request:
        points = np.asarray(request["positions"], float)
    else:
        return dict.fromkeys(("x", "y", *_BOX_COLUMNS))
    (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
    return {"x": (x0 + x1) / 2, "y": (y0 + y1) / 2, "x0": x0, "y0": y0, "x1": x1, "y1": y1}


def insert(database: sqlite3.Connection, row: Mapping[str, Any], conflict: str = "") -> None:
    """Add a row; `conflict` is what SQL is to do with one that is there already."""
    columns = ", ".join(row)
    places = ", ".join(f":{column}" for column in row)
    database.execute(f"INSERT {conflict} INTO acquisitions ({columns}) VALUES ({places})", row)  # noqa: S608


def update(database: sqlite3.Connection, id: str, ending: Mapping[str, Any], checksums: Mapping[str, str]) -> bool:
    """Write how an acquisition ended; False when it is not there."""
    changed = database.execute(
        "UPDATE acquisitions SET state = ?, error = ?, warnings = ?, traces_done = ?, checksums = ? WHERE id = ?",
        (
            ending["state"],
            ending["error"],
            json.dumps(ending["warnings"]),
            ending["traces_done"],
            json.dumps(dict(checksums)),
            id,
        ),
    )
    return changed.rowcount == 1


def plain(row: sqlite3.Row, folder: Path) -> dict[str, Any]:
    """Return a row as plain data."""
    data = dict(row)
    box = [data.pop(name) for name in _BOX_COLUMNS]
    return data | {
        **{name: json.loads(data[name]) for name in _JSON_COLUMNS},
        "box": None if box[0] is None else box,
        "file": str(folder / data["file"]),
    }
