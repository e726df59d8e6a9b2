"""Measuring a recording, trace by trace: several traces at once, ahead of their time."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from twinscope.drivers.common.motion import Motion, Speeds, motion_of
from twinscope.drivers.replay.curves import Curves
from twinscope.drivers.replay.feedback import Feedback, follow, means_of_samples, places_of_steps
from twinscope.drivers.replay.head import is_recorded
from twinscope.drivers.replay.images import Area, Images
from twinscope.drivers.replay.overlay import Overlay
from twinscope.errors import OutOfRangeError
from twinscope.requests import AcquisitionRequest, Direction, PathRequest, ScanRequest, SpectroscopyRequest

if TYPE_CHECKING:
    from twinscope.drivers.common.positioning import Piezos

# Samples that are made at once, and steps of the z-controller: a stop has to wait for them.
_SAMPLES = 2**15
_STEPS = 2**18
# Steps of the z-controller in one trace: it is stepped through as a whole, however long a client lets a line take.
_MOST_STEPS = 2**22
# Seconds that may be spent on where the tip really is before some traces are measured.
_PLANNING = 0.05


@dataclass(frozen=True)
class Planned:
    """A trace that was made ahead of its time.

    Attributes
    ----------
    motion
        Of the tip.
    start
        Instrument time at which it sets out, in s.
    values
        Shape (channels, n), in the order of recording.
    lost
        How many of the samples have no place in the recording.
    piezos
        After the trace.
    """

    motion: Motion
    start: float
    values: np.ndarray
    lost: int
    piezos: "Piezos | None"


@dataclass(frozen=True)
class _Way:
    """Where the tip really is during a trace: x and y (n,), in m, and how much higher the sample seems there."""

    number: int
    motion: Motion
    start: float
    x: np.ndarray
    y: np.ndarray
    rise: np.ndarray | float
    piezos: "Piezos | None"


@dataclass(frozen=True)
class Context:
    """What any acquisition depends on.

    Attributes
    ----------
    number
        Of the acquisition, for the noise.
    height
        Of the tip at its beginning, in m.
    speeds
        With which the tip moves between traces.
    overlay
        What is imperfect.
    """

    number: int
    height: float
    speeds: Speeds
    overlay: Overlay


class Source(Protocol):
    """What answers an acquisition."""

    def plan(self, first: int, start: float, piezos: "Piezos | None") -> list[Planned]:
        """Make some traces, at least one, from a number on, at a time, in s."""
        ...


class _Traces:
    """The ways of the tip in an acquisition.

    Parameters
    ----------
    request
        What is acquired.
    context
        What else it depends on.
    """

    def __init__(self, request: AcquisitionRequest, context: Context) -> None:
        self.request = request
        self._context = context

    def ways(self, first: int, start: float, piezos: "Piezos | None") -> Iterator[_Way]:
        """Yield them one after the other, as many as there is time for."""
        context, begin = self._context, time.monotonic()
        for number in range(first, self.request.trace_count):
            if number > first and time.monotonic() - begin > _PLANNING:
                return
            motion = motion_of(self.request, number, context.height, context.speeds)
            x, y, rise, piezos = context.overlay.follow(motion, start, piezos)
            yield _Way(number, motion, start, x, y, rise, piezos)
            start += motion.duration

    def planned(self, way: _Way, values: np.ndarray, lost: int) -> Planned:
        """Add noise to a trace in the order of time."""
        names, key = self.request.channels, (self._context.number, way.number)
        self._context.overlay.add_noise(values, names, way.motion, way.start, key)
        return Planned(way.motion, way.start, way.motion.recorded(values), lost, way.piezos)


class ImageSource(_Traces):
    """Scans and paths over recorded images.

    Parameters
    ----------
    request, context
        See the base class.
    images, area
        What was recorded, and where.
    topography
        Name of the channel that is the height of the sample, if there is one.
    loop
        The z-controller that follows it; None for the one of the recording.
    stopped
        Whether to give up.

    Raises
    ------
    OutOfRangeError
        When a trace lasts so long that the z-controller would make too many steps in it.
    """

    request: ScanRequest | PathRequest

    def __init__(
        self,
        request: ScanRequest | PathRequest,
        context: Context,
        *,
        images: Images,
        area: Area,
        topography: str | None,
        loop: Feedback | None,
        stopped: Callable[[], bool],
    ) -> None:
        super().__init__(request, context)
        self._images, self._area = images, area
        self._loop = loop if topography in request.channels else None
        self._row = request.channels.index(topography) if topography in request.channels else None
        self._stopped = stopped
        if self._loop is not None:
            motion = motion_of(request, 0, context.height, context.speeds)
            _check_steps(self._loop, motion.interval * len(motion.x))

    def plan(self, first: int, start: float, piezos: "Piezos | None") -> list[Planned]:
        """See :class:`Source`."""
        names, length = self.request.channels, self.request.trace_length
        most = max(_SAMPLES // length, 1)
        state = self._images.state(self._area, names, start)
        chosen: list[_Way] = []
        for way in self.ways(first, start, piezos):
            if self._loop is not None:
                most = max(min(most, _STEPS // self._loop.steps(way.motion.interval * length)), 1)
            # In another image of a time series it goes on with the next block.
            if chosen and (len(chosen) == most or self._images.state(self._area, names, way.start) != state):
                break
            chosen.append(way)
        values = np.empty((len(names), len(chosen), length))
        for backward in (False, True):
            rows = [row for row, way in enumerate(chosen) if way.motion.backward == backward]
            if rows:
                values[:, rows] = self._looked_at([chosen[row] for row in rows], "backward" if backward else "forward")
        values[:, [not _at_height(way) for way in chosen]] = np.nan
        lost = np.isnan(values).any(axis=0).sum(axis=1).tolist()
        return [self.planned(way, values[:, row], lost[row]) for row, way in enumerate(chosen)]

    def _looked_at(self, ways: list[_Way], direction: Direction) -> np.ndarray:
        """Values (channels, ways, n) of traces that go the same way."""
        x, y = np.stack([way.x for way in ways]), np.stack([way.y for way in ways])
        values = self._at(self.request.channels, direction, x, y, ways[0].start)
        if self._row is not None:
            rise = np.stack([np.broadcast_to(way.rise, len(way.x)) for way in ways])
            values[self._row] += rise
            if self._loop is not None:
                motion = ways[0].motion
                steps = self._loop.steps(motion.interval * len(motion.x))
                values[self._row] = self._followed(direction, (x, y, rise), steps, ways[0].start)
        return values

    def _followed(self, direction: Direction, places: tuple[np.ndarray, ...], steps: int, start: float) -> np.ndarray:
        """Height of the tip behind the z-controller (ways, n)."""
        assert self._loop is not None
        assert self._row is not None
        x, y, rise = (places_of_steps(place, steps) for place in places)
        name = self.request.channels[self._row]
        ground = self._at((name,), direction, x, y, start)[0] + rise
        return means_of_samples(follow(ground, self._loop, self._stopped), places[0].shape[1])

    def _at(
        self, names: tuple[str, ...], direction: Direction, x: np.ndarray, y: np.ndarray, time: float
    ) -> np.ndarray:
        values = self._images.values(self._area, names, direction, x.ravel(), y.ravel(), time)
        return values.reshape(len(names), *x.shape)


class SpectraSource(_Traces):
    """Spectroscopies over recorded spectra.

    Parameters
    ----------
    request, context
        See the base class.
    curves
        The recorded spectra that can answer.
    """

    request: SpectroscopyRequest

    def __init__(self, request: SpectroscopyRequest, context: Context, curves: Curves) -> None:
        super().__init__(request, context)
        self._curves = curves

    def plan(self, first: int, start: float, piezos: "Piezos | None") -> list[Planned]:
        """See :class:`Source`."""
        most = max(_SAMPLES // (self.request.trace_length * len(self.request.channels)), 1)
        ways = [way for _, way in zip(range(most), self.ways(first, start, piezos), strict=False)]
        # A spectrum is taken where the tip is at its beginning.
        spectra = self._curves.at(np.array([[way.x[0], way.y[0]] for way in ways]))
        if self.request.swept != "z":
            spectra[[not _at_height(way) for way in ways]] = np.nan
        lost = np.isnan(spectra).any(axis=1).sum(axis=1).tolist()
        return [self.planned(way, *one) for way, *one in zip(ways, spectra, lost, strict=True)]


def _check_steps(loop: Feedback, duration: float) -> None:
    steps = loop.steps(duration)
    if steps > _MOST_STEPS:
        raise OutOfRangeError(
            f"a trace of {duration:.6g} s has {steps} steps of the z-controller: expected at most {_MOST_STEPS}, let it"
            " take less time, or lower the rate of the option feedback",
            name="time",
            value=duration,
            high=_MOST_STEPS / loop.rate,
        )


def _at_height(way: _Way) -> bool:
    """Whether a trace, which stays at one height, is where the recording was made."""
    assert way.motion.z is not None
    return is_recorded(float(way.motion.z[0]))
