"""Single spectra of Nanonis (``.dat``): a header, then a table whose first column is what was swept."""

import io
import math
from pathlib import Path

import numpy as np

from twinscope.capabilities import Channel
from twinscope.drivers.replay.readers.contents import Contents, damaged, foreign, read_bytes
from twinscope.drivers.replay.readers.names import Names
from twinscope.drivers.replay.readers.nanonis_header import Header, decode, parse_pairs
from twinscope.drivers.replay.readers.options import ReadingOptions
from twinscope.drivers.replay.readers.sweeps import spectrum_channel, swept_signal
from twinscope.drivers.replay.recording import RecordedSpectra

_DATA_FOLLOW = "[DATA]"


def read(path: Path, options: ReadingOptions) -> Contents:
    """Read a spectrum; `options` are not used: the file says it all."""
    del options
    text = decode(read_bytes(path))
    before, found, after = text.partition(_DATA_FOLLOW)
    if not found:
        raise damaged(path, f"it has no {_DATA_FOLLOW}")
    columns, _, table = after.lstrip("\r\n").partition("\n")
    # Its last number may be cut short, and nobody would know.
    if not table.endswith("\n"):
        raise damaged(path, "its last line has no end")
    labels = columns.strip("\r\n\t").split("\t")
    values = _numbers(path, labels, table)
    header = Header(path, parse_pairs(before, "\t"))
    contents = Contents(metadata=dict(header.entries))
    swept, swept_unit, swept_values = swept_signal(contents, labels[0], values[:, 0])
    if not np.isfinite(swept_values).all():
        raise damaged(path, f"{labels[0]} is not finite everywhere")
    names = Names()
    recorded = [spectrum_channel(contents, names, label, values[:, i]) for i, label in enumerate(labels) if i]
    channels: tuple[Channel, ...] = tuple(channel for channel, _ in recorded)
    contents.spectra.append(
        RecordedSpectra(
            channels=channels,
            swept=swept,
            swept_unit=swept_unit,
            values=swept_values,
            data=np.stack([column for _, column in recorded])[None],
            positions=np.array([_position(contents, header)]),
        )
    )
    return contents


def _numbers(path: Path, labels: list[str], table: str) -> np.ndarray:
    """Return the table, shape (points, columns)."""
    if len(labels) < 2:
        raise damaged(path, f"its table has the columns {labels}, expected what was swept and a channel")
    if not table.strip():
        raise damaged(path, "its table is empty")
    with foreign(path, "NumPy"):
        values = np.loadtxt(io.StringIO(table), delimiter="\t", ndmin=2, comments=None)
    if values.shape[1] != len(labels):
        raise damaged(path, f"its table has {values.shape[1]} columns, but names for {len(labels)}")
    return values


def _position(contents: Contents, header: Header) -> tuple[float, float]:
    x, y = (header.number(f"{axis} (m)", f"{axis.lower()} (m)", default=math.nan) for axis in "XY")
    if math.isnan(x) or math.isnan(y):
        contents.warn("the file does not say where the spectrum was taken: x = y = 0 is assumed")
        return 0.0, 0.0
    return x, y
