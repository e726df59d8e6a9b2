"""Paths: the tip is moved from place to place, and signals are read at each."""

import math
import time

import numpy as np

from twinscope.drivers.base import TraceSink
from twinscope.drivers.nanonis.controller import Controller
from twinscope.drivers.nanonis.description import Description
from twinscope.drivers.nanonis.head import Head
from twinscope.requests import CONSTANT_HEIGHT, PathRequest, setpoint_of
from twinscope.state import FEEDBACK_OFF


class PathRun:
    """Carries out a path request.

    Parameters
    ----------
    controller, head, description
        What it works with.
    request, sink
        What is asked for, and who takes it.
    """

    def __init__(
        self, controller: Controller, head: Head, description: Description, request: PathRequest, sink: TraceSink
    ) -> None:
        self._controller = controller
        self._head = head
        self._request = request
        self._sink = sink
        self._indexes = [description.signals[name].index for name in request.channels]
        self._fastest = description.capabilities.limits["speed"].high
        self._trace = 0
        self._height: float | None = None

    def start(self) -> None:
        """Bring the z-controller into its mode and the tip to the first place."""
        request = self._request
        controlled = request.z_mode != CONSTANT_HEIGHT
        if controlled and request.setpoint is not None:
            self._head.z_controller.set_setpoint(setpoint_of(request.z_mode), request.setpoint)
        self._head.z_controller.switch(request.z_mode if controlled else FEEDBACK_OFF)
        if not controlled:
            self._height = self._head.position().z if request.height is None else request.height
        self._head.travel(*request.positions[0], self._height)

    def poll(self) -> bool:
        """Measure the next trace; False when all are measured, or it was stopped."""
        request = self._request
        if self._trace == request.trace_count or self._controller.interrupt.is_set():
            return False
        trace = self._point() if request.separate else self._pass()
        if trace is None:
            return False
        self._sink.write(self._trace, trace[None])
        self._trace += 1
        return True

    def end(self) -> None:
        """Do nothing: what was begun is over when :meth:`poll` returns."""

    # ------------------------------------------------------------------ inside

    def _pass(self) -> np.ndarray | None:
        """Follow the path once, with such a speed that each place is reached in its time."""
        samples: list[np.ndarray] = []
        due = time.monotonic()
        before = self._request.positions[0]
        if not self._head.travel(*before, self._height):
            return None
        for x, y in self._request.positions:
            due += self._request.point_time
            way = math.hypot(x - before[0], y - before[1])
            before = (x, y)
            if way and not self._head.step(x, y, min(way / self._request.point_time, self._fastest)):
                return None
            if not self._sample(due, samples):
                return None
        return np.array(samples, np.float32).T

    def _point(self) -> np.ndarray | None:
        """Go to one of the separate points, above the sample, and measure there."""
        x, y = self._request.positions[self._trace]
        if not self._jump(x, y):
            return None
        samples: list[np.ndarray] = []
        due = time.monotonic()
        for _ in range(self._request.passes):
            due += self._request.point_time
            if not self._sample(due, samples):
                return None
        return np.array(samples, np.float32).T

    def _jump(self, x: float, y: float) -> bool:
        """Lift the tip, go there, and lower it; a z-controller that was on lowers it itself."""
        lift = self._request.lift if self._trace else 0.0
        if not lift:
            return self._head.travel(x, y, self._height)
        mode = self._head.z_controller.mode
        self._head.z_controller.switch(FEEDBACK_OFF)
        here = self._head.position()
        above = here.z + lift
        if not (self._head.travel(here.x, here.y, above) and self._head.travel(x, y, above)):
            return False
        if mode == FEEDBACK_OFF:
            return self._head.travel(x, y, self._height)
        self._head.z_controller.switch(mode)
        return True

    def _sample(self, due: float, samples: list[np.ndarray]) -> bool:
        """Wait until a sample is due and read it; False when it was stopped."""
        if self._controller.interrupt.wait(max(due - time.monotonic(), 0.0)):
            return False
        samples.append(self._controller.values(self._indexes, newest=True))
        return True
