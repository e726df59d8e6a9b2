"""What a file of any program holds, in one form: images and spectra in SI units, placed on the sample."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from twinscope.capabilities import Channel
from twinscope.errors import ConfigurationError
from twinscope.requests import Direction, ScanFrame


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RecordedImage:
    """One channel, recorded in one direction over one frame.

    Attributes
    ----------
    name
        Of the channel: an identifier, the same for both directions and for all frames of a time series.
    unit
        SI unit; "1" for a number without.
    quantity
        What was recorded: the name of the channel in the file.
    data
        Shape (ny, nx), float32 or float64, not writable. Row 0 is the bottom of the frame and column 0 its left side:
        the smallest coordinates along the slow and the fast axis, whichever way the tip went. A value belongs to the
        middle of its cell of the frame. NaN where nothing was recorded.
    frame
        Where it was recorded.
    direction
        Which way along the fast axis. Many files hold only one of the two.
    time
        Seconds since the first image of the file; 0.0 where there is only one or the file does not say.
    line_time
        Seconds per line and direction; None where the file does not say.
    """

    name: str
    unit: str
    quantity: str
    data: np.ndarray
    frame: ScanFrame
    direction: Direction = "forward"
    time: float = 0.0
    line_time: float | None = None

    def __post_init__(self) -> None:
        Channel(self.name, self.unit, self.quantity)
        object.__setattr__(self, "data", _sealed(self.name, self.data, dimensions=2))

    @property
    def channel(self) -> Channel:
        """Name, unit and quantity."""
        return Channel(self.name, self.unit, self.quantity)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RecordedSpectra:
    """Spectra at one or more positions that share the values of what was swept.

    Attributes
    ----------
    channels
        What was recorded.
    swept
        What was swept: "bias" and "z" as in requests, otherwise the identifier of the signal ("frequency").
    swept_unit
        SI unit; "1" for a number without.
    values
        Of what was swept, in the order in which they were recorded, shape (points,): a loop goes out and comes back,
        and need not begin at one of its ends.
    data
        Shape (positions, channels, points), float32 or float64, not writable; NaN where nothing was recorded.
    positions
        x and y on the sample, in m, shape (positions, 2).
    """

    channels: tuple[Channel, ...]
    swept: str
    swept_unit: str
    values: np.ndarray
    data: np.ndarray
    positions: np.ndarray

    def __post_init__(self) -> None:
        for name, dimensions in (("values", 1), ("data", 3), ("positions", 2)):
            object.__setattr__(self, name, _sealed(name, getattr(self, name), dimensions=dimensions))
        expected = (len(self.positions), len(self.channels), len(self.values))
        if self.data.shape != expected or self.positions.shape[1] != 2:
            raise ConfigurationError(
                f"spectra of the shape {self.data.shape} do not fit: expected {expected} for positions, channels and"
                " points"
            )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Recording:
    """All images and spectra of one file.

    Attributes
    ----------
    title
        For people.
    source
        The file.
    format
        Name of its format, as :func:`~twinscope.drivers.replay.readers.read_recording` takes it.
    sha256
        Of the file, hexadecimal.
    images, spectra
        What was recorded, in the order of the file.
    metadata
        What else the file says, as plain data.
    warnings
        Sentences for people: what was corrected, left out or not known.
    """

    title: str
    source: Path
    format: str
    sha256: str
    images: tuple[RecordedImage, ...]
    spectra: tuple[RecordedSpectra, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def channels(self) -> tuple[Channel, ...]:
        """All channels of the images and then of the spectra, each name once."""
        known: dict[str, Channel] = {}
        for channel in (
            *(image.channel for image in self.images),
            *(channel for spectra in self.spectra for channel in spectra.channels),
        ):
            known.setdefault(channel.name, channel)
        return tuple(known.values())

    def series(self, name: str, direction: Direction = "forward") -> tuple[RecordedImage, ...]:
        """Images of a channel and direction in the order of their times; empty when there are none.

        Images that share a frame are the frames of a time series, see :meth:`by_frame`.
        """
        found = [image for image in self.images if image.name == name and image.direction == direction]
        return tuple(sorted(found, key=lambda image: image.time))

    def by_frame(self) -> dict[ScanFrame, tuple[RecordedImage, ...]]:
        """All images, those of the same scan frame together, each group in the order of its times."""
        groups: dict[ScanFrame, list[RecordedImage]] = {}
        for image in self.images:
            groups.setdefault(image.frame, []).append(image)
        return {frame: tuple(sorted(group, key=lambda image: image.time)) for frame, group in groups.items()}


def _sealed(name: str, values: Any, *, dimensions: int) -> np.ndarray:
    """Return real numbers as an array that nobody can write to, float32 only where the file has no more than that."""
    array = np.asarray(values)
    if array.ndim != dimensions or not array.size or array.dtype.kind not in "fiub":
        raise ConfigurationError(
            f"{name} is an array of {array.dtype} with the shape {array.shape}: expected real numbers in {dimensions}"
            f" dimension{'s' if dimensions > 1 else ''}, at least one"
        )
    small = (array.dtype.kind == "f" and array.dtype.itemsize <= 4) or array.dtype.itemsize <= 2
    sealed = np.ascontiguousarray(array, dtype=np.float32 if small else np.float64).view()
    sealed.flags.writeable = False
    return sealed
