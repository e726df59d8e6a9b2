"""Where the tip is and how it gets elsewhere."""

import math
import time

from twinscope.drivers.nanonis.connection import LostError
from twinscope.drivers.nanonis.controller import STOP_MOVE, Controller, Stop
from twinscope.drivers.nanonis.description import Description
from twinscope.drivers.nanonis.options import NanonisOptions
from twinscope.drivers.nanonis.z_controller import ZController
from twinscope.errors import DriverError
from twinscope.state import FEEDBACK_OFF, Position, TipState

# The tip counts as withdrawn within this part of the range of z below its upper end.
_WITHDRAWN_PART = 0.01
# Towards the sample z goes in steps of this time, in s.
_STEP_TIME = 0.02
_POLL = 0.05
# A move may take so many times longer than its speed says, besides the timeout.
_SLACK = 2.0
_STOP_APPROACH: Stop = ("AutoApproach.OnOffSet", {"on_off": 0})


class Head:
    """Moves the tip.

    Parameters
    ----------
    controller
        Carries out commands.
    description
        Limits and z-controllers.
    options
        Speeds and times.

    Attributes
    ----------
    z_controller
        Holds z when it is on.
    """

    def __init__(self, controller: Controller, description: Description, options: NanonisOptions) -> None:
        self.z_controller = ZController(controller, description, options.timeout)
        self._controller = controller
        self._options = options
        self._limits = description.capabilities.limits
        self._sent: dict[str, float] = {}
        self._speed = math.nan

    def begin(self) -> None:
        """Forget what was before, and look."""
        self._sent = {}
        self._speed = math.nan
        self.z_controller.begin()

    # ------------------------------------------------------------------ looking

    def position(self) -> Position:
        """Return where the tip was sent, as long as the controller does not tell another place."""
        told = self._controller.call("FolMe.XYPosGet", wait_for_newest_data=0)
        told["z"] = self._height()
        for name, sent in list(self._sent.items()):
            if abs(told[name] - sent) <= self._options.position_tolerance:
                told[name] = sent
            else:
                del self._sent[name]
        for name, value in told.items():
            self._check_plausible(name, value)
        return Position(told["x"], told["y"], told["z"])

    def _check_plausible(self, name: str, value: float) -> None:
        """Raise :class:`DriverError` for what is no place, or further away than corrections of a piezo can take it."""
        limits = self._limits[name]
        if not abs(value - (limits.low + limits.high) / 2) <= limits.high - limits.low:
            raise DriverError(
                f"the Nanonis controller tells that {name} of the tip is {value:.6g} m: expected {limits.low:.6g} to"
                f" {limits.high:.6g} m, or not far from it",
                name=name,
                value=value,
            )

    def tip_state(self, position: Position, feedback: str) -> TipState:
        """Tell whether the tip is near the sample: not at the upper end of z."""
        z = self._limits["z"]
        withdrawn = position.z >= z.high - _WITHDRAWN_PART * (z.high - z.low)
        return TipState.WITHDRAWN if withdrawn and feedback == FEEDBACK_OFF else TipState.IN_RANGE

    # ------------------------------------------------------------------ moving

    def travel(self, x: float, y: float, z: float | None, speed: float | None = None) -> bool:
        """Move the tip; on the way it is never lower than at the ends.

        Parameters
        ----------
        x, y, z
            In m; None for a z that is the z-controller's.
        speed
            In m/s; None for those of the options.

        Returns
        -------
        bool
            False when it was stopped on the way.

        Raises
        ------
        DriverError
            When it does not arrive.
        """
        here = self.position()
        if z is not None and z > here.z and not self._rise(here.z, z, speed):
            return False
        if not self._glide(here, x, y, speed or self._options.lateral_speed):
            return False
        return z is None or z >= here.z or self._ramp(here.z, z, speed or self._options.vertical_speed)

    def step(self, x: float, y: float, speed: float) -> bool:
        """Move a little along x and y, and do not look where the tip has got to; False when it was stopped."""
        self._sent = {name: sent for name, sent in self._sent.items() if name == "z"}
        if speed != self._speed:
            self._set_speed(speed)
        told = self._controller.carry_out("FolMe.XYPosSet", STOP_MOVE, x=x, y=y, wait_end_of_move=1)
        return told is not None

    def _rise(self, start: float, end: float, speed: float | None) -> bool:
        if speed is not None:
            return self._ramp(start, end, speed)
        self._set_height(end)
        return self._arrived_at_height(end)

    def _ramp(self, start: float, end: float, speed: float) -> bool:
        """Go up or down with a speed, in steps."""
        steps = max(math.ceil(abs(end - start) / (speed * _STEP_TIME)), 1)
        for step in range(1, steps + 1):
            if self._controller.interrupt.wait(abs(end - start) / steps / speed):
                self._sent.pop("z", None)
                return False
            self._set_height(end if step == steps else start + (end - start) * step / steps)
        return self._arrived_at_height(end)

    def _set_height(self, z: float) -> None:
        self._sent.pop("z", None)
        self._controller.call("ZCtrl.ZPosSet", z_position=z)
        self._sent["z"] = z

    def _height(self) -> float:
        return self._controller.number("ZCtrl.ZPosGet", "z_position")

    def _arrived_at_height(self, z: float) -> bool:
        end = time.monotonic() + self._options.timeout
        while abs(self._height() - z) > self._options.position_tolerance:
            if self._controller.interrupt.is_set():
                return False
            if time.monotonic() > end:
                raise DriverError(f"z is {self._height():.6g} m where {z:.6g} m was asked for", name="z", value=z)
            time.sleep(_POLL)
        return True

    def _glide(self, here: Position, x: float, y: float, speed: float) -> bool:
        """Move along x and y."""
        if (here.x, here.y) == (x, y):
            return True
        self._sent = {name: sent for name, sent in self._sent.items() if name == "z"}
        patience = _SLACK * math.hypot(x - here.x, y - here.y) / speed
        self._set_speed(speed)
        moved = self._controller.carry_out("FolMe.XYPosSet", STOP_MOVE, patience=patience, x=x, y=y, wait_end_of_move=1)
        if moved is None:
            return False
        told = self._controller.call("FolMe.XYPosGet", wait_for_newest_data=0)
        if math.hypot(told["x"] - x, told["y"] - y) > self._options.position_tolerance:
            raise DriverError(f"the tip was sent to {x:.6g}, {y:.6g} m and is at {told['x']:.6g}, {told['y']:.6g} m")
        self._sent |= {"x": x, "y": y}
        return True

    def _set_speed(self, speed: float) -> None:
        self._speed = math.nan
        self._controller.call("FolMe.SpeedSet", speed=speed, custom_speed=1)
        self._speed = speed

    # ------------------------------------------------------------------ to and from the sample

    def withdraw(self) -> None:
        """Switch the z-controller off and take the tip to the upper end of z; over a fresh connection if need be."""
        self._sent = {}
        try:
            self._withdraw()
        except LostError:
            self._controller.disconnect()
            self._controller.connect()
            self._withdraw()
            # What was known before is not any more.
            self.begin()

    def _withdraw(self) -> None:
        timeout = self._options.withdraw_timeout
        self._controller.call("ZCtrl.Withdraw", patience=timeout, wait_until_finished=1, timeout=round(timeout * 1000))
        position, mode = self.position(), self.z_controller.mode
        if self.tip_state(position, mode) is not TipState.WITHDRAWN:
            raise DriverError(
                f"the tip is not withdrawn: z is {position.z:.6g} m, the z-controller is {mode}; its range ends at"
                f" {self._limits['z'].high:.6g} m"
            )

    def approach(self) -> None:
        """Let the controller approach, until it has found the sample or a stop is asked for."""
        self._sent = {}
        end = time.monotonic() + self._options.approach_timeout
        self._controller.call("AutoApproach.Open")
        self._controller.stop_by(_STOP_APPROACH)
        if self._controller.interrupt.is_set():
            return
        self._controller.call("AutoApproach.OnOffSet", on_off=1)
        while self._controller.call("AutoApproach.OnOffGet")["status"]:
            late = time.monotonic() > end
            if late or self._controller.interrupt.wait(_POLL):
                self._controller.call(_STOP_APPROACH[0], **_STOP_APPROACH[1])
            if late:
                raise DriverError(
                    f"the approach was not over after {self._options.approach_timeout:g} s: it was stopped"
                )
            if self._controller.interrupt.is_set():
                return
        self._controller.stop_by()
        if self.tip_state(self.position(), self.z_controller.mode) is TipState.WITHDRAWN:
            raise DriverError("the approach has ended, but the tip is at the upper end of z: nothing was found")
