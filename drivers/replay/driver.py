"""Recorded measurements as a driver."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from twinscope.capabilities import ACQUISITIONS, Capabilities
from twinscope.drivers.base import TraceSink
from twinscope.drivers.common.pace import StoppedError
from twinscope.drivers.common.realism import realism_from_option
from twinscope.drivers.replay.acquiring import Context, ImageSource, Planned, Source, SpectraSource
from twinscope.drivers.replay.description import all_channels, describe, details_of, extent_of
from twinscope.drivers.replay.files import read_files
from twinscope.drivers.replay.head import RECORDED, Head, is_recorded
from twinscope.drivers.replay.images import Area, Images
from twinscope.drivers.replay.options import ReplayOptions
from twinscope.drivers.replay.overlay import Overlay
from twinscope.drivers.replay.spectra import Spectra
from twinscope.errors import ConfigurationError, DriverError, InterlockError, OutOfRangeError
from twinscope.requests import AcquisitionRequest, PathRequest, ScanRequest, SpectroscopyRequest
from twinscope.state import Position, Reading

# Traces that together take less than this on the wall clock, in s, are handed over together.
_TOGETHER = 0.05
# Traces were made for a time when it is not farther away than this, in s.
_SAME_TIME = 1e-6


@dataclass
class _Acquisition:
    """What is being acquired."""

    request: AcquisitionRequest
    sink: TraceSink
    source: Source
    height: float
    index: int = 0
    lost: int = 0
    planned: deque[Planned] = field(default_factory=deque)


class Replay:
    """An instrument that measures a recording; see :class:`~twinscope.drivers.base.Driver` for the methods.

    Parameters
    ----------
    options
        The fields of :class:`~twinscope.drivers.replay.options.ReplayOptions`.

    Raises
    ------
    ConfigurationError
        When an option is wrong, a file cannot be read, or holds nothing that could be replayed.
    MissingPackageError
        When a package is not there that the file or an option needs.
    """

    name: ClassVar[str] = "replay"
    vendor: ClassVar[str] = "twinscope"
    summary: ClassVar[str] = "recorded measurements as an instrument: images, spectra and time series of many formats"
    api_versions: ClassVar[tuple[int, int]] = (1, 1)
    options_type: ClassVar[type[ReplayOptions]] = ReplayOptions
    provides: ClassVar[tuple[str, ...]] = (*ACQUISITIONS, "sweep_z", "sweep_bias")

    def __init__(self, **options: Any) -> None:
        self.options = ReplayOptions.from_keywords(options)
        self._loop, tip = self.options.loop, self.options.tip_shape
        realism = realism_from_option(self.options.realism)
        recordings = read_files(self.options)
        self._images = Images(
            recordings,
            self.options.interpolation,
            loop=self.options.series == "loop",
            interval=self.options.series_interval,
        )
        spectra = (one for recording in recordings for one in recording.spectra)
        self._spectra = Spectra(spectra, linear=self.options.spectra == "linear")
        channels = all_channels(self._images, self._spectra)
        if not channels:
            names = ", ".join(recording.source.name for recording in recordings)
            raise ConfigurationError(
                f"{names}: expected images, or spectra over z or bias, there are none", name="file"
            )
        self._topography = self._find_topography()
        if tip is not None and self._topography is not None:
            self._images.convolve(self._topography, tip)
        extent = extent_of(self._images, self._spectra, self.options)
        self._overlay = Overlay(realism, self.options.noise or {}, self.options.seed, extent.reach, channels)
        center = np.add(extent.low, extent.high) / 2
        self._head = Head(self.options, self._overlay, tuple(center.tolist()))
        details = details_of(self._topography, realism)
        self._capabilities = describe(self.name, self.options, recordings, self._images, self._spectra, details)
        self._acquisition: _Acquisition | None = None
        self._acquisitions = 0
        self._closed = False

    # ------------------------------------------------------------------ life

    def open(self) -> None:
        """Get ready; everything was read when the driver was made."""
        self._closed = False
        self._head.warm_up()
        self._head.begin()

    def close(self) -> None:
        """Forget the acquisition in progress."""
        self._closed = True
        self._acquisition = None

    def capabilities(self) -> Capabilities:
        """Tell what the recording allows."""
        return self._capabilities

    # ------------------------------------------------------------------ looking and moving

    def read(self) -> Reading:
        """Tell the time, where the tip was sent, and what was recorded there; NaN where nothing was."""
        self._check_open()
        head = self._head
        if head.is_recorded:
            signals = self._images.signals_at(*head.place, head.clock.now)
        else:
            signals = dict.fromkeys(self._images.channels, float("nan"))
        return Reading(head.clock.now, head.position, head.tip_state, signals)

    def write(self, name: str, value: float, rate: float | None = None) -> None:
        """Refuse: nothing can be set."""
        raise DriverError(f"{name} cannot be set to {value} (rate {rate}): a recording has no settings")

    def set_feedback(self, mode: str) -> None:
        """Refuse anything but "off": the z-controller of the recording is in its data."""
        if mode != "off":
            raise DriverError(f"the z-controller cannot be switched to {mode}: a recording has none")

    def move_to(self, x: float, y: float, z: float, speed: float | None = None) -> None:
        """Move along a straight line, as long as the speeds ask for."""
        self._begin()
        self._head.travel(Position(x, y, z), speed)

    def withdraw(self) -> None:
        """Move straight up to the withdrawn height."""
        self._begin()
        self._head.travel(replace(self._head.position, z=self.options.withdrawn_height))

    def approach(self) -> None:
        """Move straight down to the height of the recording."""
        self._begin()
        self._head.travel(replace(self._head.position, z=RECORDED))

    def stop(self) -> None:
        """Stop after the traces that are being made."""
        self._head.interrupt.set()

    # ------------------------------------------------------------------ acquiring

    def start_scan(self, request: ScanRequest, sink: TraceSink) -> None:
        """Move to the first pixel and begin."""
        self._check_heights(request.heights or (None,))
        # All are inside when the corners are; which recording has most of them is seen by a coarse grid.
        corners = request.frame.corners()
        grid = np.concatenate([corners, request.frame.grid((8, 8))])
        self._start_images(request, sink, grid, f"the scan frame at {request.frame.center} m")

    def start_path(self, request: PathRequest, sink: TraceSink) -> None:
        """Move to the first point and begin."""
        self._check_heights((request.height,))
        self._start_images(request, sink, np.array(request.positions), "the path")

    def start_spectroscopy(self, request: SpectroscopyRequest, sink: TraceSink) -> None:
        """Move to the first position and begin."""
        if request.swept != "z":
            self._check_heights((request.height,))
        curves = self._spectra.find(request)
        places = np.array(request.positions)
        self._check_inside(places, curves.has(places), "the spectroscopy", "the recorded spectra")
        for warning in curves.warnings:
            sink.warn(warning)
        self._start(request, sink, SpectraSource(request, self._context(), curves))

    def poll(self) -> bool:
        """Measure the next traces: one that takes its time, or several that do not."""
        acquisition, head = self._acquisition, self._head
        if acquisition is None:
            raise DriverError("there is no acquisition to carry on: start one")
        head.resume()
        more = not head.interrupt.is_set() and acquisition.index < acquisition.request.trace_count
        more = more and self._measure(acquisition)
        if not more:
            self._finish(acquisition)
        head.leave()
        return more

    def _check_open(self) -> None:
        if self._closed:
            raise DriverError("the driver is closed: open it first")

    def _begin(self) -> None:
        """Begin a command, which ends the acquisition in progress."""
        self._check_open()
        self._acquisition = None
        self._head.begin()

    def _start_images(self, request: ScanRequest | PathRequest, sink: TraceSink, places: np.ndarray, what: str) -> None:
        area, inside = self._images.best(request.channels, *places.T)
        self._check_inside(places, inside, what, f"the recording of {', '.join(request.channels)}")
        for warning in _one_way_only(area, request):
            sink.warn(warning)
        source = ImageSource(
            request,
            self._context(),
            images=self._images,
            area=area,
            topography=self._topography,
            loop=self._loop,
            stopped=self._head.interrupt.is_set,
        )
        self._start(request, sink, source)

    def _context(self) -> Context:
        return Context(self._acquisitions + 1, self._head.position.z, self._head.speeds, self._overlay)

    def _start(self, request: AcquisitionRequest, sink: TraceSink, source: ImageSource | SpectraSource) -> None:
        self._begin()
        self._acquisitions += 1
        for warning in self._capabilities.settings["warnings"]:
            sink.warn(warning)
        first = next(source.ways(0, 0.0, None)).motion.first
        height = self._head.position.z
        self._head.travel(Position(*first.tolist()))
        self._acquisition = _Acquisition(request, sink, source, height)
        self._head.leave()

    def _check_heights(self, heights: Sequence[float | None]) -> None:
        """Raise :class:`InterlockError` unless all are the height of the recording; None is the present one."""
        if self.options.outside == "nan":
            return
        for height in heights:
            wanted = self._head.position.z if height is None else height
            if not is_recorded(wanted):
                raise InterlockError(
                    f"the tip would be {wanted - RECORDED:.3g} m above the height of the recording, where nothing is"
                    " known: approach first, or leave the height out",
                    name="height",
                )

    def _check_inside(self, places: np.ndarray, inside: np.ndarray, what: str, where: str) -> None:
        if self.options.outside == "nan" or inside.all():
            return
        x, y = places[~inside][0].tolist()
        raise OutOfRangeError(
            f"{what} reaches x = {x:.6g}, y = {y:.6g} m, which is outside {where}: nothing was moved, stay inside or"
            " set outside='nan'",
            name="position",
        )

    def _measure(self, acquisition: _Acquisition) -> bool:
        """Hand over the next traces; False when it was stopped before the last of them was over."""
        head, planned = self._head, acquisition.planned
        if not (planned and abs(planned[0].start - head.clock.now) <= _SAME_TIME):
            # Nothing was made ahead, or for another time: there was a pause.
            planned.clear()
            work = partial(acquisition.source.plan, acquisition.index, head.clock.now, head.piezos)
            try:
                planned.extend(head.calculate(work))
            except StoppedError:
                return False
        if head.interrupt.is_set():
            return False
        traces: list[Planned] = []
        begin = time.monotonic()
        while planned and time.monotonic() - begin < _TOGETHER:
            if head.spend(planned[0].motion.duration) < 1:
                break
            traces.append(planned.popleft())
        if traces:
            acquisition.sink.write(acquisition.index, np.stack([trace.values for trace in traces]))
            acquisition.index += len(traces)
            acquisition.lost += sum(trace.lost for trace in traces)
            head.piezos = traces[-1].piezos
            head.arrive(traces[-1].motion)
        return not head.interrupt.is_set()

    def _finish(self, acquisition: _Acquisition) -> None:
        if acquisition.lost:
            acquisition.sink.warn(f"nothing was recorded at {acquisition.lost} points: they are NaN")
        if isinstance(acquisition.request, SpectroscopyRequest):
            self._head.come_back(acquisition.height)
        self._acquisition = None

    def _find_topography(self) -> str | None:
        options = self.options
        name = self._images.topography(options.topography)
        if name is None and (options.tip is not None or options.feedback is not None):
            known = ", ".join(self._images.channels) or "none"
            raise ConfigurationError(
                f"tip and feedback need a topography, in m: name it with the option topography, there are {known}",
                name="topography",
            )
        return name


def _one_way_only(area: Area, request: ScanRequest | PathRequest) -> list[str]:
    """Say which channels are the same forward and backward."""
    if not isinstance(request, ScanRequest):
        return []
    return [
        f"{name} was not recorded {way}: it is that of the other direction"
        for way in request.directions
        for name in request.channels
        if (name, way) not in area.series
    ]
