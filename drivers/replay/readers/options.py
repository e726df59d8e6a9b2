"""What a file does not say itself."""

from dataclasses import dataclass

from twinscope.drivers.options import DriverOptions
from twinscope.errors import ConfigurationError

SCALE = ("size", "center", "angle", "channel", "unit", "value_scale", "value_offset")
"""Options of files that hold nothing but an image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingOptions(DriverOptions):
    """How a recording is read.

    Attributes
    ----------
    size
        Width and height of a TIFF or PNG image, in m; of one number, the height follows from square pixels.
    center
        x and y of its middle, in m.
    angle
        Rotation of its frame, in degrees, counter-clockwise.
    channel
        Name of what it shows.
    unit
        Unit of its values; a prefix is resolved: with "nm", the values become m.
    value_scale, value_offset
        A grey value g means ``value_offset + value_scale * g``, in `unit`.
    frame_time
        Seconds from page to page of a TIFF with many.
    keep_units
        Whether units that are known to be wrong in NSID files are kept.
    """

    size: float | tuple[float, float] | None = None
    center: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0
    channel: str = "intensity"
    unit: str = "1"
    value_scale: float = 1.0
    value_offset: float = 0.0
    frame_time: float = 1.0
    keep_units: bool = False

    def __post_init__(self) -> None:
        DriverOptions.__post_init__(self)
        for length in self.size if isinstance(self.size, tuple) else (self.size,):
            if length is not None and length <= 0:
                raise ConfigurationError(f"the option size is {self.size}: expected lengths above zero", name="size")
        if self.frame_time <= 0:
            raise ConfigurationError(
                f"the option frame_time is {self.frame_time}: expected a number above zero", name="frame_time"
            )
        if not self.value_scale:
            raise ConfigurationError("the option value_scale is 0: all values would be the same", name="value_scale")
