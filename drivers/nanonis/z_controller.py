"""The z-controllers of a Nanonis controller, of which one is active."""

import math
import time

from twinscope.drivers.nanonis.controller import Controller
from twinscope.drivers.nanonis.description import Description
from twinscope.errors import DriverError
from twinscope.requests import setpoint_of
from twinscope.state import FEEDBACK_OFF

_POLL = 0.02
_ON, _OFF = 1, 0


class ZController:
    """Switches z-controllers and sets their setpoints.

    Parameters
    ----------
    controller
        Carries out commands.
    description
        Which z-controllers there are.
    timeout
        Switching is over within this time, in s.
    """

    def __init__(self, controller: Controller, description: Description, timeout: float) -> None:
        self._controller = controller
        self._indexes = description.controllers
        self._timeout = timeout
        self._setpoints: dict[str, float] = {}

    def begin(self) -> None:
        """Read the setpoints; those of controllers that are not active only while none is on."""
        self._setpoints = {}
        active = self._active()
        if not self._is_on():
            for index in self._indexes.values():
                self._choose(index)
                self._read_setpoint(index)
            self._choose(active)
        self._read_setpoint(active)

    @property
    def mode(self) -> str:
        """What is held constant, or "off"."""
        if not self._is_on():
            return FEEDBACK_OFF
        active = self._active()
        for mode, index in self._indexes.items():
            if index == active:
                return mode
        raise DriverError(
            f"the z-controller number {active} is on, which is none of this driver: switch it off, or name it in the"
            " option controllers"
        )

    def setpoints(self) -> dict[str, float]:
        """Return the setpoint of each z-mode by the name of its signal; NaN where it was never read."""
        self._read_setpoint(self._active())
        return {setpoint_of(mode): self._setpoints.get(mode, math.nan) for mode in self._indexes}

    def set_setpoint(self, name: str, value: float) -> None:
        """Set a setpoint by the name of its signal; that of a controller that is not active, when it becomes so."""
        mode = next(mode for mode in self._indexes if setpoint_of(mode) == name)
        if self._indexes[mode] == self._active():
            self._controller.call("ZCtrl.SetpntSet", z_controller_setpoint=value)
        self._setpoints[mode] = value

    def switch(self, mode: str) -> None:
        """Let a controller take over, or switch it off, which leaves z as it is.

        Raises
        ------
        DriverError
            When it is not so within the timeout.
        """
        present = self.mode
        if mode == present:
            return
        if present != FEEDBACK_OFF:
            self._switch_off()
        if mode == FEEDBACK_OFF:
            return
        self._choose(self._indexes[mode])
        setpoint = self._setpoints.get(mode)
        if setpoint is not None:
            self._controller.call("ZCtrl.SetpntSet", z_controller_setpoint=setpoint)
        self._controller.call("ZCtrl.OnOffSet", z_controller_status=_ON)
        self._wait_until(on=True)

    # ------------------------------------------------------------------ inside

    def _switch_off(self) -> None:
        # A tip lift would change z.
        self._controller.call("ZCtrl.TipLiftSet", tip_lift=0.0)
        self._controller.call("ZCtrl.OnOffSet", z_controller_status=_OFF)
        self._wait_until(on=False)

    def _wait_until(self, *, on: bool) -> None:
        # The switch-off delay averages z first.
        end = time.monotonic() + self._timeout
        while self._is_on() != on:
            if time.monotonic() > end:
                raise DriverError(f"the z-controller is not {'on' if on else 'off'} after {self._timeout:g} s")
            time.sleep(_POLL)

    def _is_on(self) -> bool:
        return bool(self._controller.call("ZCtrl.OnOffGet")["z_controller_status"])

    def _active(self) -> int:
        return int(self._controller.call("ZCtrl.CtrlListGet")["active_z_controller_index"])

    def _choose(self, index: int) -> None:
        if index == self._active() or index < 0:
            return
        self._controller.call("ZCtrl.ActiveCtrlSet", z_controller_index=index)
        if self._active() != index:
            raise DriverError(f"the controller has not made the z-controller number {index} the active one")

    def _read_setpoint(self, index: int) -> None:
        for mode, its in self._indexes.items():
            if its == index:
                self._setpoints[mode] = self._controller.number("ZCtrl.SetpntGet", "z_controller_setpoint")
