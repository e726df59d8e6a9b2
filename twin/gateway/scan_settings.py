"""Frame, buffer, speed and properties of the scan, as Nanonis clients set them."""

from dataclasses import dataclass
from typing import Self

from twinscope.capabilities import Capabilities
from twinscope.requests import ScanFrame, ScanRequest

# What a controller begins with: a tenth of the range, and so many pixels.
_PART_OF_RANGE = 10
_PIXELS = 256
_LINE_TIME = 1.0


@dataclass(frozen=True, slots=True)
class ScanSettings:
    """What the next scan will be.

    Attributes
    ----------
    frame
        Where.
    channels
        Names of the instrument's channels.
    pixels, lines
        Pixels per line, and lines.
    line_time
        Seconds per line and direction, when the time per line is kept constant.
    speed
        In m/s, when the speed is; None then and otherwise.
    continuous
        Whether another scan begins after each.
    bouncy
        Whether that one goes the other way along the slow axis.
    autosave
        0 for all, 1 for the next, 2 for none: whether the end of a scan tells its file. It is stored anyway.
    series_name, comment
        For people.
    """

    frame: ScanFrame
    channels: tuple[str, ...]
    pixels: int = _PIXELS
    lines: int = _PIXELS
    line_time: float = _LINE_TIME
    speed: float | None = None
    continuous: bool = False
    bouncy: bool = False
    autosave: int = 0
    series_name: str = ""
    comment: str = ""

    @classmethod
    def initial(cls, capabilities: Capabilities) -> Self:
        """Return a frame in the middle of the range, and all channels."""
        x, y = capabilities.limits["x"], capabilities.limits["y"]
        size = min(x.high - x.low, y.high - y.low) / _PART_OF_RANGE
        center = (x.low + x.high) / 2, (y.low + y.high) / 2
        names = tuple(channel.name for channel in capabilities.channels)
        return cls(ScanFrame(center=center, size=(size, size)), names)

    @property
    def seconds_per_line(self) -> float:
        """Seconds per line and direction."""
        return self.line_time if self.speed is None else self.frame.size[0] / self.speed

    @property
    def metres_per_second(self) -> float:
        """Speed along the fast axis."""
        return self.frame.size[0] / self.line_time if self.speed is None else self.speed

    def request(self, direction: str, z_mode: str) -> ScanRequest:
        """Return the request of a scan; both directions of the fast axis are always recorded."""
        return ScanRequest(
            frame=self.frame,
            pixels=(self.pixels, self.lines),
            channels=self.channels,
            direction="both",
            slow_direction=direction,
            line_time=self.seconds_per_line,
            z_mode=z_mode,
        )


def check_frame(frame: ScanFrame, capabilities: Capabilities) -> None:
    """Raise :class:`OutOfRangeError` when a corner of the frame cannot be reached."""
    for x, y in frame.corners().tolist():
        capabilities.check_position(x=x, y=y)


def from_nanonis(center: tuple[float, float], size: tuple[float, float], angle: float) -> ScanFrame:
    """Return a frame whose angle counts clockwise, as Nanonis has it."""
    # No minus zero: it would be told as such.
    return ScanFrame(center=center, size=size, angle=-angle if angle else 0.0)


def nanonis_angle(frame: ScanFrame) -> float:
    """Return the angle of a frame, clockwise."""
    return -frame.angle if frame.angle else 0.0
