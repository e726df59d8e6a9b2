"""Recorded images as a sample: one area for each place that was recorded, which changes as a time series does."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from twinscope.capabilities import Channel
from twinscope.drivers.replay.recording import RecordedImage, Recording
from twinscope.drivers.replay.sampling import Interpolation, is_inside, sample
from twinscope.drivers.replay.tip import TipShape, dilated
from twinscope.errors import ConfigurationError, InvalidRequestError, UnknownChannelError
from twinscope.requests import Direction, ScanFrame

# Frames are the same when they differ by less than this part of their size.
_SAME = 1e-6
# Seconds per line of files that do not say it.
_LINE_TIME = 1.0
_HEIGHTS = ("height", "topograph", "z")


@dataclass(frozen=True)
class Series:
    """Images of one channel and direction that follow each other.

    Attributes
    ----------
    images
        In the order of time.
    begins
        When each begins to be there, in s of instrument time.
    length
        When the last one ends.
    """

    images: tuple[RecordedImage, ...]
    begins: np.ndarray
    length: float

    @classmethod
    def of(cls, images: Sequence[RecordedImage], interval: float | None) -> "Series":
        """Order images by their times, or give each its interval; the last one takes as long as it took to record."""
        times = np.array([image.time for image in images], float)
        if interval is not None:
            times = interval * np.arange(len(images))
        elif (np.diff(times) <= 0).any():
            times = np.concatenate([[0.0], np.cumsum([_duration(image) for image in images[:-1]])])
        times = times - times[0]
        last = interval or (np.diff(times).mean() if len(times) > 1 else _duration(images[0]))
        return cls(tuple(images), times, float(times[-1] + last))

    def joined(self, other: "Series") -> "Series":
        """Let another series follow this one."""
        begins = np.concatenate([self.begins, other.begins + self.length])
        return Series(self.images + other.images, begins, self.length + other.length)

    def at(self, time: float, *, loop: bool) -> RecordedImage:
        """Return the image that is there at a time, in s: after the last one the first again, or still the last."""
        if loop:
            time %= self.length
        return self.images[max(int(np.searchsorted(self.begins, time, side="right")) - 1, 0)]


@dataclass(frozen=True)
class Area:
    """All that was recorded over one frame."""

    frame: ScanFrame
    series: dict[tuple[str, str], Series]

    @property
    def names(self) -> set[str]:
        """Names of the channels."""
        return {name for name, _ in self.series}

    @property
    def pixel(self) -> float:
        """Largest area of a pixel, in m²."""
        width, height = self.frame.size
        return max(width * height / one.images[0].data.size for one in self.series.values())

    def image(self, name: str, direction: Direction, time: float, *, loop: bool) -> RecordedImage:
        """Return the image of a channel at a time; in the other direction where only that was recorded."""
        other = "forward" if direction == "backward" else "backward"
        series = self.series.get((name, direction)) or self.series[name, other]
        return series.at(time, loop=loop)


class Images:
    """Everything that was recorded as images.

    Parameters
    ----------
    recordings
        In the order in which they follow each other where they share a frame.
    interpolation
        Between pixels.
    loop
        Whether a time series begins again after its end.
    interval
        Seconds per image of a time series; None for what the recordings say.
    """

    def __init__(
        self, recordings: Iterable[Recording], interpolation: Interpolation, *, loop: bool, interval: float | None
    ) -> None:
        self._interpolation = interpolation
        self._loop = loop
        self.areas: list[Area] = []
        self.channels: dict[str, Channel] = {}
        for recording in recordings:
            for frame, images in recording.by_frame().items():
                self._add(frame, images, interval)

    def _add(self, frame: ScanFrame, images: Sequence[RecordedImage], interval: float | None) -> None:
        area = next((area for area in self.areas if _same(area.frame, frame)), None)
        if area is None:
            area = Area(frame, {})
            self.areas.append(area)
        groups: dict[tuple[str, str], list[RecordedImage]] = {}
        for image in images:
            groups.setdefault((image.name, image.direction), []).append(image)
            known = self.channels.setdefault(image.name, image.channel)
            if known.unit != image.unit:
                raise ConfigurationError(
                    f"the channel {image.name} is in {known.unit} and in {image.unit}: the files do not belong"
                    " together, give one of them",
                    name="file",
                )
        for key, group in groups.items():
            series = Series.of(group, interval)
            area.series[key] = area.series[key].joined(series) if key in area.series else series

    # ------------------------------------------------------------------ the topography

    def topography(self, wanted: str | None) -> str | None:
        """Return the name of the channel that is the height of the sample; None where there is none.

        Raises
        ------
        ConfigurationError
            When the wanted one is not there or not in m.
        """
        if wanted is not None:
            if wanted not in self.channels or self.channels[wanted].unit != "m":
                known = ", ".join(name for name, channel in self.channels.items() if channel.unit == "m") or "none"
                raise ConfigurationError(
                    f"topography is {wanted!r}: expected a channel in m, there are {known}", name="topography"
                )
            return wanted
        lengths = [channel for channel in self.channels.values() if channel.unit == "m"]
        for word in _HEIGHTS:
            for channel in lengths:
                if channel.name.lower().startswith(word) or channel.quantity.lower().startswith(word):
                    return channel.name
        return None

    def convolve(self, name: str, tip: TipShape) -> None:
        """Replace a topography by what a tip makes of it."""
        for area in self.areas:
            for key, series in area.series.items():
                if key[0] == name:
                    images = tuple(_convolved(image, tip) for image in series.images)
                    area.series[key] = replace(series, images=images)

    # ------------------------------------------------------------------ looking

    def best(self, names: Sequence[str], x: np.ndarray, y: np.ndarray) -> tuple[Area, np.ndarray]:
        """Return the area with all channels that has most of the places, the finest of equals, and which it has.

        Raises
        ------
        UnknownChannelError
            When a channel was not recorded in images.
        InvalidRequestError
            When the channels were not recorded together.
        """
        for name in names:
            if name not in self.channels:
                known = ", ".join(self.channels) or "none"
                raise UnknownChannelError(
                    f"there are no images of the channel {name!r}: this recording has images of {known}", name=name
                )
        areas = [area for area in self.areas if area.names.issuperset(names)]
        if not areas:
            raise InvalidRequestError(f"{', '.join(names)} were not recorded over the same frame: ask for one by one")
        found = [(is_inside(area.frame, x, y), area) for area in areas]
        inside, area = max(found, key=lambda one: (one[0].sum(), -one[1].pixel))
        return area, inside

    def values(
        self, area: Area, names: Sequence[str], direction: Direction, x: np.ndarray, y: np.ndarray, time: float
    ) -> np.ndarray:
        """Return channels at places (n,), in m, at a time, in s; shape (channels, n)."""
        images = [area.image(name, direction, time, loop=self._loop).data for name in names]
        result = np.empty((len(names), len(x)))
        for shape in {image.shape for image in images}:
            rows = [row for row, image in enumerate(images) if image.shape == shape]
            result[rows] = sample(area.frame, [images[row] for row in rows], x, y, self._interpolation)
        return result

    def state(self, area: Area, names: Sequence[str], time: float) -> tuple[int, ...]:
        """Return a key that changes whenever the images of an area do."""
        ways: tuple[Direction, Direction] = ("forward", "backward")
        return tuple(id(area.image(name, way, time, loop=self._loop)) for name in names for way in ways)

    def signals_at(self, x: float, y: float, time: float) -> dict[str, float]:
        """Return all channels at a place, in m, at a time, in s; NaN for those that have no data there."""
        place = np.array([x]), np.array([y])
        found = {}
        for name in self.channels:
            area, _ = self.best([name], *place)
            found[name] = float(self.values(area, [name], "forward", *place, time)[0, 0])
        return found


def _duration(image: RecordedImage) -> float:
    """Seconds that an image took, there and back."""
    return 2 * len(image.data) * (image.line_time or _LINE_TIME)


def _same(one: ScanFrame, other: ScanFrame) -> bool:
    unlike = [*np.subtract(one.center, other.center), *np.subtract(one.size, other.size)]
    return bool(max(map(abs, unlike)) <= _SAME * max(one.size) and abs(one.angle - other.angle) <= 1e-4)


def _convolved(image: RecordedImage, tip: TipShape) -> RecordedImage:
    ny, nx = image.data.shape
    pixel = image.frame.size[0] / nx, image.frame.size[1] / ny
    return replace(image, data=dilated(image.data.astype(float), pixel, tip, image.frame.angle))
