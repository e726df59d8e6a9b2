"""What can be wrong with a driver: what it measures, where, and when."""

import threading
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from tests.conformance.faulty import Faulty
from twinscope.errors import DriverError
from twinscope.requests import PathRequest, ScanRequest, SpectroscopyRequest
from twinscope.state import FEEDBACK_OFF, Position, Reading

# ---------------------------------------------------------------------- acquisitions


class CannotRecordAChannel(Faulty, acquisitions="scan_of_every_channel"):
    def poll(self) -> bool:
        if self._acquisition is not None and "sensor_z" in self._acquisition[0].channels:
            raise DriverError("there is no sensor of z")
        return super().poll()


class HasItsOwnOrder(Faulty, acquisitions="channels_are_in_the_order_of_the_request"):
    def poll(self) -> bool:
        if self._acquisition is not None:
            request, sink = self._acquisition
            self._acquisition = replace(request, channels=tuple(sorted(request.channels))), sink
        return super().poll()


class CannotSweepTheBias(
    Faulty, acquisitions="every_sweep a_sweep_leaves_the_signal_as_it_was traces_are_numbered poll_after_the_end"
):
    def start_spectroscopy(self, request: SpectroscopyRequest, sink: Any) -> None:
        if request.swept == "bias":
            raise DriverError("the bias cannot be swept")
        super().start_spectroscopy(request, sink)


class LeavesTheBiasSwept(Faulty, acquisitions="a_sweep_leaves_the_signal_as_it_was"):
    def poll(self) -> bool:
        if self._acquisition is not None and getattr(self._acquisition[0], "swept", "z") == "bias":
            self._signals["bias"] = self._acquisition[0].sweep.stop
        return super().poll()


class ForgetsTheMode(Faulty, acquisitions="scan_in_every_z_mode"):
    def poll(self) -> bool:
        more = super().poll()
        if not more:
            self._feedback = FEEDBACK_OFF
        return more


class Writes(Faulty):
    """Changes what it writes."""

    def poll(self) -> bool:
        if self._acquisition is None:
            return super().poll()
        request, sink = self._acquisition
        self._acquisition = request, self
        self._sink = sink
        more = super().poll()
        if self._acquisition is not None:
            self._acquisition = request, sink
        return more

    def write(self, *arguments: Any, **more: Any) -> None:
        if isinstance(arguments[0], int):
            self.hand_over(*arguments)
        else:
            super().write(*arguments, **more)

    def hand_over(self, first: int, traces: np.ndarray) -> None: ...


# What fails when nothing is written as it should be.
_ALL = (
    "scan_in_every_direction channels_are_in_the_order_of_the_request scan_in_every_z_mode scan_with_a_setpoint"
    " scan_at_several_heights a_far_frame path path_in_every_z_mode separate_points separate_points_with_a_lift?"
    " every_sweep scan_of_every_channel? a_single_pixel? traces_are_numbered? poll_after_the_end?"
    " a_sweep_leaves_the_signal_as_it_was?"
)


class NumbersFromOne(Writes, acquisitions=_ALL):
    def hand_over(self, first: int, traces: np.ndarray) -> None:
        self._sink.write(first + 1, traces)


class LosesTheLastTrace(Writes, acquisitions=_ALL):
    def hand_over(self, first: int, traces: np.ndarray) -> None:
        if first < self._acquisition[0].trace_count - 1:
            self._sink.write(first, traces)


class WritesATraceTwice(Writes, acquisitions=_ALL):
    def hand_over(self, first: int, traces: np.ndarray) -> None:
        for _ in range(2):
            self._sink.write(first, traces)


class TransposesTraces(Writes, acquisitions=_ALL):
    def hand_over(self, first: int, traces: np.ndarray) -> None:
        self._sink.write(first, traces.transpose(0, 2, 1))


class WritesFromAThread(Writes, acquisitions=_ALL):
    def hand_over(self, first: int, traces: np.ndarray) -> None:
        thread = threading.Thread(target=self._sink.write, args=(first, traces))
        thread.start()
        thread.join()


class WritesNothingButNan(Writes, acquisitions=_ALL):
    def hand_over(self, first: int, traces: np.ndarray) -> None:
        self._sink.write(first, np.full_like(traces, np.nan))


class NeverEnds(Faulty, acquisitions=_ALL):
    settings: ClassVar = {"timeout": 0.05}

    def poll(self) -> bool:
        super().poll()
        return True


class WritesAfterTheEnd(Faulty, acquisitions="poll_after_the_end"):
    def poll(self) -> bool:
        if self._acquisition is None:
            self._last[1].write(0, np.zeros((1, 1, self._last[0].trace_length)))
            return False
        self._last = self._acquisition
        return super().poll()


# ---------------------------------------------------------------------- interruptions


class FillsUpWhatWasStopped(
    Faulty, interruptions="a_stopped_scan_ends the_rest_of_an_aborted_scan_is_nan? writing_while_acquiring?"
):
    def poll(self) -> bool:
        if self._acquisition is not None and self._stopped.is_set():
            request, sink = self._acquisition
            shape = (request.trace_count - self._index, len(request.channels), request.trace_length)
            sink.write(self._index, np.zeros(shape))
        return super().poll()


class GoesOnWithTheOldScan(Faulty, interruptions="a_scan_after_a_stopped_one"):
    def _begin(self) -> None:
        before = self._acquisition
        super()._begin()
        self._old = before

    _old = None

    def start_scan(self, request: Any, sink: Any) -> None:
        super().start_scan(request, sink)
        if self._old is not None:
            self._acquisition = request, self._old[1]

    start_path = start_spectroscopy = start_scan


class IsElsewhereWhileScanning(Faulty, interruptions="reading_while_acquiring"):
    def read(self) -> Reading:
        reading = super().read()
        return reading if self._acquisition is None else replace(reading, position=Position(4e-7, 4e-7, 1e-8))


# ---------------------------------------------------------------------- geometry


class Mistakes(Faulty):
    """Measures a request that is not the one that it was given."""

    def _trace(self, request: Any, index: int) -> Any:
        return super()._trace(self.mistaken(request) if isinstance(request, ScanRequest) else request, index)

    def mistaken(self, request: ScanRequest) -> ScanRequest:
        return request


_SAME = "the_same_points_give_the_same_values"


class TurnsClockwise(
    Mistakes, geometry=f"ramp_at_every_angle ramp_in_every_direction the_tip_is_at_the_last_line {_SAME}"
):
    def mistaken(self, request: ScanRequest) -> ScanRequest:
        return replace(request, frame=replace(request.frame, angle=-request.frame.angle))


class IgnoresTheAngle(
    Mistakes, geometry=f"ramp_at_every_angle ramp_in_every_direction the_tip_is_at_the_last_line {_SAME}"
):
    def mistaken(self, request: ScanRequest) -> ScanRequest:
        return replace(request, frame=replace(request.frame, angle=0.0))


class IgnoresTheCentre(
    Mistakes,
    geometry="ramp_at_every_angle ramp_in_every_direction ramp_of_a_small_frame_elsewhere"
    f" the_tip_is_at_the_last_line {_SAME}",
):
    def mistaken(self, request: ScanRequest) -> ScanRequest:
        return replace(request, frame=replace(request.frame, center=(0.0, 0.0)))


class SwapsTheSides(
    Mistakes,
    geometry="ramp_at_every_angle ramp_in_every_direction ramp_of_a_small_frame_elsewhere"
    f" the_tip_is_at_the_last_line? {_SAME}",
):
    def mistaken(self, request: ScanRequest) -> ScanRequest:
        return replace(request, frame=replace(request.frame, size=request.frame.size[::-1]))


class ScansUpwardsOnly(Mistakes, geometry=f"ramp_in_every_direction the_tip_is_at_the_last_line {_SAME}"):
    def mistaken(self, request: ScanRequest) -> ScanRequest:
        return replace(request, slow_direction="up")


class MeasuresAtTheEdges(
    Mistakes, geometry=f"ramp_at_every_angle ramp_in_every_direction ramp_of_a_small_frame_elsewhere {_SAME}"
):
    """Pixels from edge to edge, as if they were points."""

    def mistaken(self, request: ScanRequest) -> ScanRequest:
        (nx, ny), (width, height) = request.pixels, request.frame.size
        return replace(request, frame=replace(request.frame, size=(width * nx / (nx - 1), height * ny / (ny - 1))))


class IgnoresTheHeights(Mistakes, geometry="each_layer_is_at_its_height"):
    def mistaken(self, request: ScanRequest) -> ScanRequest:
        return replace(request, heights=None)


class StartsAStackAtTheTop(Mistakes, geometry="each_layer_is_at_its_height"):
    def mistaken(self, request: ScanRequest) -> ScanRequest:
        return replace(request, heights=request.heights and sorted(request.heights, reverse=True))


class IgnoresTheHeightOfPaths(Faulty, geometry="a_path_is_at_its_height"):
    def _trace(self, request: Any, index: int) -> Any:
        return super()._trace(replace(request, height=None) if isinstance(request, PathRequest) else request, index)


class ReversesBackwardLines(Writes, geometry=f"ramp_in_every_direction {_SAME}"):
    def hand_over(self, first: int, traces: np.ndarray) -> None:
        request = self._acquisition[0]
        backward = isinstance(request, ScanRequest) and request.address(first).direction == "backward"
        self._sink.write(first, traces[..., ::-1] if backward else traces)


class StaysWhereItWas(
    Faulty,
    geometry="the_tip_is_at_the_last_line the_tip_is_at_the_last_position each_layer_is_at_its_height"
    " a_path_is_at_its_height",
):
    def poll(self) -> bool:
        before = self._tip
        more = super().poll()
        self._tip = before if more else self._home
        return more

    def move_to(self, **where: Any) -> None:
        super().move_to(**where)
        self._home = self._tip


class SortsPaths(
    Faulty, geometry=f"ramp_along_a_path ramp_at_separate_points the_tip_is_at_the_last_position? {_SAME}"
):
    def _trace(self, request: Any, index: int) -> Any:
        if isinstance(request, PathRequest):
            request = replace(request, positions=tuple(sorted(request.positions)))
        return super()._trace(request, index)


class SweepsUpwardsOnly(Faulty, geometry="a_z_sweep_is_in_its_order"):
    def _trace(self, request: Any, index: int) -> Any:
        places, bias, seconds = super()._trace(request, index)
        if getattr(request, "swept", "") == "z":
            places = places[np.argsort(places[:, 2])]
        return places, bias, seconds


# ---------------------------------------------------------------------- time


class TimeStandsStill(
    Faulty,
    timing="time_per_line time_per_pass time_per_spectrum time_of_moves time_goes_on",
    commands="signals_can_be_set_with_a_rate",
):
    def read(self) -> Reading:
        return replace(super().read(), time=0.0)


class TimeGoesBack(Faulty, timing="time_goes_on"):
    _approaches = 0

    def approach(self) -> None:
        super().approach()
        self._approaches += 1

    def read(self) -> Reading:
        reading = super().read()
        return replace(reading, time=reading.time - 1000.0 * self._approaches)


class ScansTooFast(Faulty, timing="time_per_line"):
    def _trace(self, request: Any, index: int) -> Any:
        places, bias, seconds = super()._trace(request, index)
        return places, bias, seconds / (2 if isinstance(request, ScanRequest) else 1)


class ScansFarTooSlowly(Faulty, timing="time_per_line time_per_pass"):
    def _trace(self, request: Any, index: int) -> Any:
        places, bias, seconds = super()._trace(request, index)
        return places, bias, 10 * seconds


class IgnoresTheSpeed(Faulty, timing="time_of_moves"):
    def move_to(self, x: float, y: float, z: float, speed: float | None = None) -> None:
        super().move_to(x, y, z)
