"""PNG images, read with Pillow after their own checksums were compared."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from twinscope._optional import import_optional
from twinscope.drivers.replay.readers import raster
from twinscope.drivers.replay.readers.contents import Contents, check_size, damaged, foreign, read_bytes
from twinscope.drivers.replay.readers.options import ReadingOptions

MAGIC = b"\x89PNG\r\n\x1a\n"
_COLOUR = 2


def read(path: Path, options: ReadingOptions) -> Contents:
    """Read an image with the scale that the options give."""
    raster.check_options(path, options)
    content = read_bytes(path)
    width, height, depth, colour_type = _checked(path, content)
    check_size(path, (height, width, 4))
    image_module: Any = import_optional("PIL.Image", "replay", f"reading {path}")
    with foreign(path, "Pillow"), image_module.open(io.BytesIO(content), formats=["PNG"]) as image:
        # A palette may hold greys only; the other modes are arrays of grey values or of samples.
        values = np.asarray(image.convert("RGBA") if image.mode == "P" else image)
    if values.ndim == 3:
        values = raster.grey(path, values)
    contents = raster.contents_of(path, values[None], options)
    if depth == 16 and colour_type & _COLOUR:
        contents.warn("Pillow reads 16-bit colours as 8 bits: save the image in greyscale to keep all of them")
    return contents


def _checked(path: Path, content: bytes) -> tuple[int, int, int, int]:
    """Compare all checksums; returns width, height, bit depth and colour type."""
    if not content.startswith(MAGIC):
        raise damaged(path, "it does not begin as a PNG does")
    position, header, kind = len(MAGIC), b"", b""
    while kind != b"IEND":
        if position + 12 > len(content):
            raise damaged(path, "it has no end")
        length, kind = struct.unpack_from(">I4s", content, position)
        data = content[position + 8 : position + 8 + length]
        stored = content[position + 8 + length : position + 12 + length]
        if stored != struct.pack(">I", zlib.crc32(kind + data)):
            raise damaged(path, f"the checksum of its part {kind!r} is wrong")
        header = header or data
        position += 12 + length
    if len(header) != 13:
        raise damaged(path, "its header is too short")
    width, height, depth, colour_type = struct.unpack_from(">IIBB", header)
    return width, height, depth, colour_type
