"""TIFF images, read with tifffile; the pages of a file with many are a time series."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from twinscope._optional import import_optional
from twinscope.drivers.replay.readers import raster
from twinscope.drivers.replay.readers.contents import Contents, check_size, damaged, file_size, foreign
from twinscope.drivers.replay.readers.options import ReadingOptions
from twinscope.drivers.replay.readers.tiff_chain import check_chain

# Files that consist of several are not looked for.
_SINGLE_FILE = {"is_ome": False, "is_mmstack": False, "is_ndtiff": False}


def read(path: Path, options: ReadingOptions) -> Contents:
    """Read the pages of a file with the scale that the options give."""
    raster.check_options(path, options)
    size = file_size(path)
    check_chain(path, size)
    tifffile: Any = import_optional("tifffile", "replay", f"reading {path}")
    with foreign(path, "tifffile"), tifffile.TiffFile(path, **_SINGLE_FILE) as tiff:
        if not tiff.series:
            raise damaged(path, "it has no image")
        series = tiff.series[0]
        check_size(path, series.shape, 8)
        for page in series.pages:
            _check_page(path, page, size)
        values = series.asarray(maxworkers=1)
        samples = series.keyframe.samplesperpixel
        inverted = series.keyframe.photometric == tifffile.PHOTOMETRIC.MINISWHITE
        palette = series.keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE
        planar = samples > 1 and series.keyframe.planarconfig == tifffile.PLANARCONFIG.SEPARATE
        left_out = len(tiff.pages) - len(series.pages)
    if values.dtype.kind not in "fiub" or palette:
        kind = "a palette" if palette else values.dtype
        raise damaged(path, f"its pixels are {kind}, expected grey values")
    if samples > 1:
        values = raster.grey(path, np.moveaxis(values, -3, -1) if planar else values)
    if inverted and values.dtype.kind == "u":
        values = np.iinfo(values.dtype).max - values
    contents = raster.contents_of(path, values.reshape(-1, *values.shape[-2:]), options)
    if left_out:
        contents.warn(f"{left_out} further images of another size or kind are left out")
    return contents


def _check_page(path: Path, page: Any, size: int) -> None:
    """Raise :class:`StoreError` when a page is not all there: tifffile would fill it with zeros."""
    if page is None:
        raise damaged(path, "it lacks a page")
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or max(ends) > size or min(page.databytecounts) < 1:
        raise damaged(path, "it ends before its data do")
    if page.keyframe.compression == 1 and sum(page.databytecounts) < math.prod(page.keyframe.shape):
        raise damaged(path, f"it has too few bytes for pages of the shape {page.keyframe.shape}")
