"""Images of Asylum Research instruments (``.ibw``, Igor binary waves).

The package igor2 reads the waves. It believes every size in a header and does not look at the checksum, so both are
checked before: a flipped bit would make it ask for gigabytes. An image is a wave of three dimensions (pixels, lines
from the bottom, channels), and the note of the wave holds the settings of the instrument.
"""

import io
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from twinscope._optional import import_optional
from twinscope.drivers.replay.readers import asylum
from twinscope.drivers.replay.readers.contents import Contents, check_size, damaged, foreign, read_bytes
from twinscope.drivers.replay.readers.names import Names, split_direction
from twinscope.drivers.replay.readers.options import ReadingOptions
from twinscope.drivers.replay.recording import RecordedImage
from twinscope.requests import ScanFrame

# Of version 5, the only one with more than one dimension: two headers, without the first data of the second one.
_HEADERS = 384
_VERSION = 5
# Version and checksum, then sizes: wave, formula, note, data units, 4 units, 4 labels, text indices, 2 options.
_SIZES = "hhiiii4i4iiii"


def is_wave(start: bytes) -> bool:
    """Tell whether a file that begins so is an Igor wave of version 5 with sound headers."""
    return _byte_order(start) is not None


def read(path: Path, options: ReadingOptions) -> Contents:
    """Read all channels of an image; `options` are not used: the file says it all."""
    del options
    content = read_bytes(path)
    _check(path, content)
    binarywave: Any = import_optional("igor2.binarywave", "replay", f"reading {path}")
    with foreign(path, "igor2"):
        wave = binarywave.load(io.BytesIO(content))["wave"]
        values, labels = np.asarray(wave["wData"]), wave["labels"]
        note = bytes(wave["note"]).decode("utf-8", "replace")
        unit = b"".join(np.asarray(wave["wave_header"]["dataUnits"]).ravel().tolist()).rstrip(b"\0").decode("latin-1")
    if values.ndim != 3 or values.dtype.kind not in "fiu":
        raise damaged(
            path, f"it is a wave of {values.dtype} with the shape {values.shape}, expected pixels, lines and channels"
        )
    check_size(path, values.shape)
    settings = _settings(note)
    contents = Contents(metadata=settings)
    names = Names()
    for index, label in enumerate(_channel_labels(labels, values.shape[2])):
        _add_image(path, contents, names, label, unit, values[:, :, index].T)
    return contents


def _byte_order(start: bytes) -> str | None:
    """Return "<" or ">" for headers whose checksum is right: all their 16-bit numbers add up to zero."""
    for order in "<>":
        if len(start) >= _HEADERS and struct.unpack_from(f"{order}h", start)[0] == _VERSION:
            numbers = np.frombuffer(start[:_HEADERS], f"{order}i2")
            if int(numbers.sum(dtype=np.int64)) % 65536 == 0:
                return order
    return None


def _check(path: Path, content: bytes) -> None:
    """Raise :class:`StoreError` unless the parts of the file add up to its size."""
    order = _byte_order(content)
    if order is None:
        raise damaged(path, "its headers are not those of an Igor wave of version 5, or their checksum is wrong")
    _, _, *sizes = struct.unpack_from(f"{order}{_SIZES}", content)
    parts = sizes[:-2]
    # The size of the wave counts its header, but not the one before.
    before = struct.calcsize(f"<{_SIZES}")
    if min(parts) < 0 or before + sum(parts) > len(content):
        raise damaged(path, f"its parts should have {before + sum(parts)} bytes, but it has {len(content)}")


def _settings(note: str) -> dict[str, Any]:
    """Return the settings of the note, "name: value" on each line; numbers as such."""
    settings: dict[str, Any] = {}
    for line in note.splitlines():
        name, found, value = line.partition(":")
        if found and name.strip():
            settings.setdefault(name.strip(), _number_or_text(value.strip()))
    return settings


def _number_or_text(value: str) -> float | str:
    try:
        number = float(value)
    except ValueError:
        return value
    return number if math.isfinite(number) else value


def _channel_labels(labels: Any, count: int) -> list[str]:
    """Return a name for each channel: the first label of a dimension is that of the dimension itself."""
    said = [bytes(label).decode("latin-1") for label in labels[2]] if len(labels) > 2 else []
    said = said[1:] if len(said) == count + 1 else []
    return [label or f"channel {index}" for index, label in enumerate(said or [""] * count)]


def _add_image(path: Path, contents: Contents, names: Names, label: str, unit: str, values: np.ndarray) -> None:
    settings = contents.metadata
    base, way = split_direction(label)
    direction = way or "forward"
    si, scaled = contents.to_si(label, asylum.unit_of(label) or unit, values)
    contents.images.append(
        RecordedImage(
            name=names.image(base, direction),
            unit=si,
            quantity=label,
            data=scaled,
            frame=_frame(path, settings),
            direction=direction,
            line_time=asylum.line_time(settings),
        )
    )


def _frame(path: Path, settings: Any) -> ScanFrame:
    width, height = (settings.get(f"{axis}ScanSize", settings.get("ScanSize")) for axis in ("Fast", "Slow"))
    x, y, angle = (settings.get(name, 0.0) for name in ("XOffset", "YOffset", "ScanAngle"))
    if not all(isinstance(value, float) for value in (width, height, x, y, angle)) or min(width, height) <= 0:
        raise damaged(path, "its note does not say how large the scan is (FastScanSize, SlowScanSize)")
    return ScanFrame(size=(width, height), center=(x, y), angle=angle)
