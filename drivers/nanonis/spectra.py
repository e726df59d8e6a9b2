"""Spectroscopy: the controller sweeps z or the bias at each position."""

from typing import Any

import numpy as np

from twinscope.drivers.base import TraceSink
from twinscope.drivers.nanonis.controller import Controller
from twinscope.drivers.nanonis.description import Description
from twinscope.drivers.nanonis.head import Head
from twinscope.drivers.nanonis.options import NanonisOptions
from twinscope.errors import DriverError
from twinscope.requests import SpectroscopyRequest
from twinscope.state import FEEDBACK_OFF

_ON, _OFF = 1, 2
_MODULES = {"z": "ZSpectr", "bias": "BiasSpectr"}
# A sweep may take so many times longer than its points, for settling and slewing.
_SLACK = 3.0
# The ends of the sweep that was done may differ by this part of it from what was asked for.
_PRECISION = 0.01


class SpectroscopyRun:
    """Carries out a spectroscopy request, position after position.

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
        request: SpectroscopyRequest,
        sink: TraceSink,
    ) -> None:
        self._controller = controller
        self._head = head
        self._options = options
        self._request = request
        self._sink = sink
        self._module = _MODULES[request.swept]
        self._signals = [description.signals[name] for name in request.channels]
        self._height = request.sweep.start
        self._trace = 0

    def start(self) -> None:
        """Set the sweep up and bring the tip to the first position."""
        request = self._request
        self._head.z_controller.switch(FEEDBACK_OFF)
        if request.swept != "z":
            self._height = self._head.position().z if request.height is None else request.height
        self._set_up()
        self._head.travel(*request.positions[0], self._height)

    def poll(self) -> bool:
        """Measure the next spectrum; False when all are measured, or it was stopped."""
        if self._trace == self._request.trace_count or self._controller.interrupt.is_set():
            return False
        x, y = self._request.positions[self._trace]
        if not self._head.travel(x, y, self._height):
            return False
        swept = self._sweep()
        if swept is None:
            return False
        self._sink.write(self._trace, swept[None])
        self._trace += 1
        return True

    def end(self) -> None:
        """Do nothing: what was begun is over when :meth:`poll` returns."""

    # ------------------------------------------------------------------ setting up

    def _set_up(self) -> None:
        self._call("Open")
        self._call("ChsSet", channel_indexes=[signal.index for signal in self._signals])
        shared = {"backward_sweep": _OFF, "number_of_points": self._request.sweep.points, "number_of_sweeps": 1}
        if self._request.swept == "z":
            self._set_up_z(shared)
        else:
            self._set_up_bias(shared)
        told = self._call("PropsGet")
        if told["number_of_points"] != self._request.sweep.points:
            raise DriverError(
                f"the controller sweeps {told['number_of_points']} points where {self._request.sweep.points} were asked"
                " for"
            )
        self._set_timing()

    def _set_up_z(self, shared: dict[str, Any]) -> None:
        sweep = self._request.sweep
        distance = (sweep.stop - sweep.start) * self._options.z_sweep_sign
        self._call("PropsSet", **shared, autosave=_OFF, show_save_dialog=_OFF, save_all=_OFF)
        self._call(
            "AdvPropsSet", time_between_forward_and_backward_sweep=0.0, record_final_z=0, lockin_run=0, reset_z=_ON
        )
        self._call("RangeSet", z_offset=0.0, z_sweep_distance=distance)

    def _set_up_bias(self, shared: dict[str, Any]) -> None:
        sweep = self._request.sweep
        self._call("PropsSet", **shared, z_offset=0.0, autosave=_OFF, show_save_dialog=_OFF, save_all=_OFF)
        self._call("AdvPropsSet", reset_bias=_ON, z_controller_hold=_ON, record_final_z=0, lockin_run=0)
        self._call("MLSModeSet", sweep_mode="Linear")
        self._call("LimitsSet", start_value=sweep.start, end_value=sweep.stop)

    def _set_timing(self) -> None:
        settling = self._options.settling_part * self._request.point_time
        wanted = {"settling_time": settling, "integration_time": self._request.point_time - settling}
        if self._request.swept == "bias":
            wanted["z_offset"] = 0.0
        self._call("TimingSet", told=self._call("TimingGet"), **wanted)

    # ------------------------------------------------------------------ sweeping

    def _sweep(self) -> np.ndarray | None:
        """Sweep once; returns (channels, points), or None when it was stopped."""
        points = self._request.sweep.points
        patience = _SLACK * points * self._request.point_time + self._options.timeout
        told = self._controller.carry_out(
            f"{self._module}.Start", (f"{self._module}.Stop", {}), patience=patience, get_data=1, save_base_name=""
        )
        if told is None:
            return None
        data: np.ndarray = told["data"]
        names = told["channels_names"]
        if not names or data.shape != (len(names), points):
            raise DriverError(f"the controller gives {data.shape} values for {len(names)} channels of {points} points")
        self._check_axis(names[0], data[0])
        return np.stack([data[self._row(names, signal)] for signal in self._signals])

    def _row(self, names: tuple[str, ...], signal: Any) -> int:
        # The first is what is swept.
        for row, name in enumerate(names[1:], start=1):
            if signal.is_called(name):
                return row
        raise DriverError(f"the controller has not recorded {signal.label}: it gives {', '.join(names)}")

    def _check_axis(self, name: str, axis: np.ndarray) -> None:
        """Raise :class:`DriverError` when another sweep was done than asked for."""
        sweep = self._request.sweep
        wanted = sweep.stop - sweep.start
        found = float(axis[-1]) - float(axis[0])
        if not abs(found - wanted) <= _PRECISION * abs(wanted):
            raise DriverError(
                f"{name} was swept by {found:.6g} where {wanted:.6g} was asked for: look at the option z_sweep_sign,"
                " and at the limits of the controller"
            )

    def _call(self, command: str, /, **arguments: Any) -> dict[str, Any]:
        return self._controller.call(f"{self._module}.{command}", **arguments)
