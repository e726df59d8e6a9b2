"""Scans of Nanonis (``.sxm``).

Rows and pixels are stored in the order in which they were recorded: a scan upwards begins with the bottom row, one
downwards with the top row, and backward lines begin at the right. Angles of Nanonis are clockwise. The channels of a
multi-pass scan are called "[P1]_Z", "[P2]_Z", ...
"""

from pathlib import Path

import numpy as np

from twinscope.drivers.replay.readers.contents import Contents, check_size, damaged, read_bytes
from twinscope.drivers.replay.readers.names import Names
from twinscope.drivers.replay.readers.nanonis_header import Header, decode, parse_tags
from twinscope.drivers.replay.readers.options import ReadingOptions
from twinscope.drivers.replay.recording import RecordedImage
from twinscope.requests import Direction, ScanFrame

_END_OF_HEADER = b":SCANIT_END:"
_DATA_FOLLOW = b"\x1a\x04"
_DIRECTIONS: dict[str, tuple[Direction, ...]] = {
    "both": ("forward", "backward"),
    "forward": ("forward",),
    "fwd": ("forward",),
    "backward": ("backward",),
    "bwd": ("backward",),
}
_BYTE_ORDERS = {"MSBFIRST": ">f4", "LSBFIRST": "<f4"}


def read(path: Path, options: ReadingOptions) -> Contents:
    """Read all channels of a scan; `options` are not used: the file says it all."""
    del options
    content = read_bytes(path)
    end = content.find(_END_OF_HEADER)
    start = content.find(_DATA_FOLLOW, end)
    if end < 0 or start < 0:
        raise damaged(path, "its header has no end")
    header = Header(path, parse_tags(decode(content[:end])))
    nx, ny = header.counts("SCAN_PIXELS", count=2)
    channels = _channels(path, header)
    recorded = sum(len(directions) for _, _, directions in channels)
    check_size(path, (recorded, ny, nx), 4)
    data = memoryview(content)[start + len(_DATA_FOLLOW) :]
    if len(data) != recorded * ny * nx * 4:
        raise damaged(
            path, f"it holds {len(data)} bytes of data, its header says {recorded} images of {nx} x {ny} pixels"
        )
    images = np.frombuffer(data, _number_type(path, header)).reshape(recorded, ny, nx)
    contents = Contents(metadata=dict(header.entries))
    _add_images(contents, header, channels, images[:, :: _slow_step(path, header)])
    return contents


def _channels(path: Path, header: Header) -> list[tuple[str, str, tuple[Direction, ...]]]:
    """Name, unit and directions of each channel, in the order of the data."""
    header.text("DATA_INFO")
    rows = [line.strip().split("\t") for line in header.entries["DATA_INFO"].splitlines() if line.strip()]
    columns, rows = (rows[0], rows[1:]) if rows else ([], [])
    channels = []
    for row in rows:
        entry = dict(zip(columns, row, strict=False))
        directions = _DIRECTIONS.get(entry.get("Direction", "").lower())
        if not entry.get("Name") or directions is None:
            raise damaged(path, f"the channel {row} of its header has no name or direction")
        channels.append((entry["Name"], entry.get("Unit", ""), directions))
    if not channels:
        raise damaged(path, "its header names no channel")
    return channels


def _number_type(path: Path, header: Header) -> str:
    kind, _, order = header.text("SCANIT_TYPE").partition(" ")
    order = order.strip() or "MSBFIRST"
    if kind != "FLOAT" or order not in _BYTE_ORDERS:
        raise damaged(path, f"SCANIT_TYPE is {kind} {order}, expected FLOAT MSBFIRST")
    return _BYTE_ORDERS[order]


def _slow_step(path: Path, header: Header) -> int:
    """1 when the rows are stored from the bottom, -1 when they are stored from the top."""
    direction = header.text("SCAN_DIR").lower()
    if direction not in ("up", "down"):
        raise damaged(path, f"SCAN_DIR is {direction[:20]!r}, expected up or down")
    return 1 if direction == "up" else -1


def _add_images(
    contents: Contents, header: Header, channels: list[tuple[str, str, tuple[Direction, ...]]], images: np.ndarray
) -> None:
    width, height = header.numbers("SCAN_RANGE", count=2)
    frame = ScanFrame(
        size=(width, height),
        center=header.numbers("SCAN_OFFSET", count=2),  # type: ignore[arg-type]
        angle=-header.number("SCAN_ANGLE", default=0.0),
    )
    line_times = header.entries.get("SCAN_TIME", "").split()
    names = Names()
    flat = ((channel, direction) for channel in channels for direction in channel[2])
    for ((original, unit, _), direction), values in zip(flat, images, strict=True):
        si, scaled = contents.to_si(original, unit, values)
        contents.images.append(
            RecordedImage(
                name=names.image(original, direction),
                unit=si,
                quantity=original,
                data=scaled[:, ::-1] if direction == "backward" else scaled,
                frame=frame,
                direction=direction,
                line_time=_line_time(line_times, direction),
            )
        )


def _line_time(times: list[str], direction: Direction) -> float | None:
    """Pick the time of a line out of the two of the header, that of forward and that of backward lines."""
    try:
        seconds = float(times[0 if direction == "forward" else 1])
    except (IndexError, ValueError):
        return None
    return seconds if 0 < seconds < float("inf") else None
