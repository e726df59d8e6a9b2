"""A scan: the controller does it, and its lines are taken from the buffer as they come."""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from twinscope.drivers.base import TraceSink
from twinscope.drivers.nanonis.connection import RefusedError
from twinscope.drivers.nanonis.controller import STOP_SCAN, Controller
from twinscope.drivers.nanonis.description import Description
from twinscope.drivers.nanonis.frame_rows import FrameRows
from twinscope.drivers.nanonis.head import Head
from twinscope.drivers.nanonis.options import NanonisOptions
from twinscope.errors import DriverError
from twinscope.requests import CONSTANT_HEIGHT, ScanRequest, setpoint_of
from twinscope.state import FEEDBACK_OFF

_START = 0
_DOWN, _UP = 0, 1
_KEEP_TIME = 2
_NO_TIME = 1
_OFF = 2
_SAFE_TIP = 5
# What the controller makes of a frame or a speed may differ by this part of it: it keeps float32.
_PRECISION = 1e-3
# The buffer is looked at so many times per line, within these times, in s.
_LOOKS_PER_LINE = 4
_SHORTEST_WAIT, _LONGEST_WAIT = 0.005, 0.5
# Releases from which on Scan.PropsSet takes the names of modules, and whether to paste the image.
_WITH_MODULES, _WITH_PASTE = 11798, 14000


@dataclass
class _Image:
    """The image that is being taken."""

    began: float
    rows: FrameRows
    done: int = 0
    last_line: float = field(default_factory=time.monotonic)


class ScanRun:
    """Carries out a scan request, image after image.

    Parameters
    ----------
    controller, head, description, options
        What it works with.
    request, sink
        What is asked for, and who takes it.
    """

    def __init__(
        self,
        controller: Controller,
        head: Head,
        description: Description,
        options: NanonisOptions,
        request: ScanRequest,
        sink: TraceSink,
    ) -> None:
        self._controller = controller
        self._head = head
        self._options = options
        self._request = request
        self._sink = sink
        self._indexes = [description.signals[name].index for name in request.channels]
        self._layer = 0
        self._image: _Image | None = None

    def start(self) -> None:
        """Set the scan up and begin with the first image."""
        request = self._request
        # Somebody else may have begun one.
        self.end()
        z_controller = self._head.z_controller
        if request.z_mode == CONSTANT_HEIGHT:
            z_controller.switch(FEEDBACK_OFF)
        else:
            if request.setpoint is not None:
                z_controller.set_setpoint(setpoint_of(request.z_mode), request.setpoint)
            z_controller.switch(request.z_mode)
        self._set_frame()
        self._set_buffer()
        self._set_speed()
        self._set_props()
        self._begin_image()

    def poll(self) -> bool:
        """Wait for the next lines and hand them over; False when all are there, or it was stopped."""
        while self._image is not None:
            if self._controller.interrupt.is_set():
                self.end()
                return False
            if self._take_lines(self._image):
                if self._image.done == self._request.pixels[1]:
                    self._next_image()
                return True
            self._controller.interrupt.wait(self._pause)
        return False

    # ------------------------------------------------------------------ setting up

    def _set_frame(self) -> None:
        frame = self._request.frame
        wanted = {
            "center_x": frame.center[0],
            "center_y": frame.center[1],
            "width": frame.size[0],
            "height": frame.size[1],
            # The controller counts clockwise.
            "angle": -frame.angle,
        }
        self._controller.call("Scan.FrameSet", **wanted)
        told = self._controller.call("Scan.FrameGet")
        off = {name: abs(told[name] - value) / max(frame.size) for name, value in wanted.items()}
        # Angles that differ by whole turns are the same.
        off["angle"] = abs((told["angle"] - wanted["angle"] + 180.0) % 360.0 - 180.0) / 180.0
        for name, value in wanted.items():
            if off[name] > _PRECISION:
                raise DriverError(f"the controller has made the {name} of the frame {told[name]:.6g} from {value:.6g}")

    def _set_buffer(self) -> None:
        nx, ny = self._request.pixels
        self._controller.call("Scan.BufferSet", channel_indexes=self._indexes, pixels=nx, lines=ny)
        told = self._controller.call("Scan.BufferGet")
        if (told["pixels"], told["lines"]) != (nx, ny):
            raise DriverError(
                f"the controller scans {told['pixels']} x {told['lines']} pixels where {nx} x {ny} were asked for: most"
                " take only multiples of 16 pixels per line"
            )
        if not set(self._indexes) <= set(told["channel_indexes"].tolist()):
            raise DriverError(
                f"the controller records the signals {told['channel_indexes'].tolist()}: expected {self._indexes}"
            )

    def _set_speed(self) -> None:
        time_per_line = self._request.line_time
        speed = self._request.frame.size[0] / time_per_line
        self._controller.call(
            "Scan.SpeedSet",
            forward_linear_speed=speed,
            backward_linear_speed=speed,
            forward_time_per_line=time_per_line,
            backward_time_per_line=time_per_line,
            keep_parameter_constant=_KEEP_TIME,
            speed_ratio=1.0,
        )
        told = self._controller.call("Scan.SpeedGet")
        for way in ("forward", "backward"):
            found = told[f"{way}_time_per_line"]
            if abs(found - time_per_line) > _PRECISION * time_per_line:
                raise DriverError(f"a line {way} takes {found:.6g} s where {time_per_line:.6g} s were asked for")

    def _set_props(self) -> None:
        release = self._controller.release
        props: dict[str, Any] = {"continuous_scan": _OFF, "bouncy_scan": _OFF, "autosave": 0}
        props |= {"series_name": "", "comment": ""}
        if not release or release >= _WITH_MODULES:
            props["modules_names"] = ()
        if release > _WITH_PASTE:
            props["autopaste"] = 0
        self._controller.call("Scan.PropsSet", **props)

    # ------------------------------------------------------------------ images

    def _begin_image(self) -> None:
        request = self._request
        first = request.row_positions(request.address(0).row)
        height = None if request.heights is None else request.heights[self._layer]
        if not self._head.travel(float(first[0][0]), float(first[1][0]), height):
            self._image = None
            return
        way = request.directions[-1]
        rows = FrameRows(self._before(way), request.pixels)
        self._controller.stop_by(STOP_SCAN)
        if self._controller.interrupt.is_set():
            self._image = None
            return
        self._image = _Image(time.monotonic(), rows)
        direction = _UP if request.slow_direction == "up" else _DOWN
        self._controller.call("Scan.Action", scan_action=_START, scan_direction=direction)

    def _before(self, way: str) -> np.ndarray:
        """Return what is in the buffer: controllers may keep the rows of a scan until those of the next come."""
        try:
            return self._grab(self._indexes[0], way)
        except RefusedError:
            # The scan before has not recorded this channel.
            return np.empty((0, 0), np.float32)

    def _next_image(self) -> None:
        self._layer += 1
        self._image = None
        self._wait_for_rest()
        self._controller.stop_by()
        if self._layer < self._request.layers and not self._controller.interrupt.is_set():
            self._begin_image()

    def end(self) -> None:
        """Be sure that the scan has stopped: a stop may have come before it was begun."""
        self._image = None
        self._controller.stop_by()
        if self._runs():
            self._controller.call(STOP_SCAN[0], **STOP_SCAN[1])
        self._wait_for_rest()

    def _wait_for_rest(self) -> None:
        """Wait until the controller has finished with a scan: it refuses other commands as long."""
        end = time.monotonic() + self._options.timeout + 2 * self._request.line_time
        while self._runs():
            if time.monotonic() > end:
                raise DriverError("the scan goes on after its last line")
            time.sleep(_SHORTEST_WAIT)

    # ------------------------------------------------------------------ lines

    def _take_lines(self, image: _Image) -> bool:
        """Hand over what is new; False when nothing is."""
        # Asked before the lines are taken: when it was over then, all of them are there.
        over = not self._runs()
        image.rows.look(self._frame(self._indexes[0], self._request.directions[-1]))
        lines = self._request.pixels[1]
        ready = image.rows.complete()
        if over and image.rows.last_begun == -1:
            ready = lines if self._has_ended_at_once(image) else 0
        elif over and image.rows.last_begun == lines - 1:
            ready = lines
        elif over and ready == image.done:
            raise DriverError(f"the scan has ended after {image.done} of {lines} lines")
        if ready > image.done:
            self._hand_over(image, ready)
            return True
        self._check_progress(image)
        return False

    def _check_progress(self, image: _Image) -> None:
        """Raise :class:`DriverError` when no line has come for too long: somebody may have paused the scan."""
        waited = time.monotonic() - image.last_line
        if waited > self._options.line_timeout + 4 * self._request.line_time:
            told = self._controller.attempt("ZCtrl.StatusGet")
            why = "Safe Tip has withdrawn the tip" if told == {"z_controller_status": _SAFE_TIP} else "is it paused?"
            raise DriverError(f"no line of the scan has come for {waited:.3g} s: {why}")

    def _has_ended_at_once(self, image: _Image) -> bool:
        """Tell whether a scan that does not run and has changed nothing is over, with the data of the one before."""
        told = self._controller.call("Scan.WaitEndOfScan", timeout=_NO_TIME)
        if image.rows.is_full and not told["timeout_status"]:
            return True
        if time.monotonic() - image.began > self._options.timeout + 2 * self._request.line_time:
            raise DriverError("the scan was started, but it does not run")
        return False

    def _hand_over(self, image: _Image, ready: int) -> None:
        request = self._request
        new = slice(image.done, ready)
        ways = len(request.directions)
        block = np.empty((ready - image.done, ways, len(self._indexes), request.pixels[0]), np.float32)
        for channel, index in enumerate(self._indexes):
            for number, way in enumerate(request.directions):
                block[:, number, channel] = self._in_space(self._frame(index, way)[new], way)
        first = (self._layer * request.pixels[1] + image.done) * ways
        self._sink.write(first, block.reshape(-1, *block.shape[2:]))
        image.done = ready
        image.last_line = time.monotonic()

    def _in_space(self, rows: np.ndarray, way: str) -> np.ndarray:
        reversed_in_time = way == "backward" and self._options.frame_order == "measured"
        return rows[:, ::-1] if reversed_in_time else rows

    def _frame(self, index: int, way: str) -> np.ndarray:
        """Return the buffer of a channel, which must have the shape of the scan."""
        data = self._grab(index, way)
        (rows, columns), (nx, ny) = data.shape, self._request.pixels
        if (columns, rows) != (nx, ny):
            raise DriverError(
                f"the controller gives a frame of {columns} x {rows} pixels where {nx} x {ny} are scanned"
            )
        return data

    def _grab(self, index: int, way: str) -> np.ndarray:
        """Return the buffer of a channel, (lines, pixels), the line first that is measured first."""
        told = self._controller.call("Scan.FrameDataGrab", channel_index=index, data_direction=int(way == "forward"))
        data: np.ndarray = told["scan_data"]
        from_below = self._options.frame_order == "position"
        return data[::-1] if from_below and self._request.slow_direction == "down" else data

    def _runs(self) -> bool:
        return bool(self._controller.call("Scan.StatusGet")["scan_status"])

    @property
    def _pause(self) -> float:
        return float(np.clip(self._request.line_time / _LOOKS_PER_LINE, _SHORTEST_WAIT, _LONGEST_WAIT))
