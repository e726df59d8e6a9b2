"""Plain greyscale images (TIFF, PNG): what they show, and how large it is, is told by whoever reads them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from twinscope.drivers.replay.readers.contents import Contents
from twinscope.drivers.replay.readers.names import identifier
from twinscope.drivers.replay.readers.options import ReadingOptions
from twinscope.drivers.replay.recording import RecordedImage
from twinscope.errors import ConfigurationError
from twinscope.requests import ScanFrame


def contents_of(path: Path, pages: np.ndarray, options: ReadingOptions) -> Contents:
    """Return images with the scale that the options give.

    Parameters
    ----------
    path
        For messages.
    pages
        Grey values, shape (pages, rows from the top, columns).
    options
        Their `size` is needed.

    Raises
    ------
    ConfigurationError
        When there is no size.
    """
    check_options(path, options)
    contents = Contents()
    frame = ScanFrame(size=_size(options.size, pages.shape[1:]), center=options.center, angle=options.angle)
    si, _ = contents.to_si(options.channel, options.unit, pages[:0])
    for number, page in enumerate(pages):
        values = page
        if (options.value_scale, options.value_offset) != (1.0, 0.0):
            values = options.value_offset + options.value_scale * page.astype(float)
        contents.images.append(
            RecordedImage(
                name=identifier(options.channel),
                unit=si,
                quantity=options.channel,
                data=contents.to_si(options.channel, options.unit, values)[1][::-1],
                frame=frame,
                time=number * options.frame_time,
            )
        )
    return contents


def check_options(path: Path, options: ReadingOptions) -> None:
    """Raise :class:`ConfigurationError` when nobody says how large the image is."""
    if options.size is None:
        raise ConfigurationError(
            f"{path} does not say how large it is: give its width (and height) in m as size, to the driver as"
            " scale = {size = 1e-6}",
            name="size",
        )


def grey(path: Path, colours: np.ndarray) -> np.ndarray:
    """Return the grey values of an image (..., rows, columns, samples) whose colours are all grey.

    Raises
    ------
    ConfigurationError
        When it has colours, or is transparent somewhere.
    """
    samples = colours.shape[-1]
    shown = colours[..., : 3 if samples > 2 else 1]
    opaque = np.iinfo(colours.dtype).max if colours.dtype.kind == "u" else 1
    if not (shown == shown[..., :1]).all() or (samples in (2, 4) and not (colours[..., -1] == opaque).all()):
        raise ConfigurationError(
            f"{path} is a colour image: colours are no measured values, save it in greyscale", path=str(path)
        )
    return shown[..., 0]


def _size(size: float | tuple[float, float] | None, pixels: Sequence[int]) -> tuple[float, float]:
    if isinstance(size, tuple):
        return size
    assert size is not None
    return size, size * pixels[0] / pixels[1]
