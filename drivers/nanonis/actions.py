"""Coarse motion, bias pulses and tip shaping."""

from twinscope.drivers.nanonis.connection import RefusedError
from twinscope.drivers.nanonis.controller import Controller
from twinscope.drivers.nanonis.options import NanonisOptions
from twinscope.errors import DriverError

_DIRECTIONS = {("x", True): 0, ("x", False): 1, ("y", True): 2, ("y", False): 3, ("z", True): 4, ("z", False): 5}
_ALL_AXES = 0
_HOLD, _ABSOLUTE = 1, 2
_YES = 1


class Actions:
    """Does what is over when it returns, and what changes the tip or the place of the sample.

    Parameters
    ----------
    controller
        Carries out commands.
    options
        Of the motor and the tip shaper.
    """

    def __init__(self, controller: Controller, options: NanonisOptions) -> None:
        self._controller = controller
        self._options = options

    def coarse_move(self, axis: str, steps: int) -> None:
        """Step the coarse motor; along z, positive steps take the tip away."""
        if steps == 0:
            return
        options = self._options
        plus = (steps > 0) == (axis != "z" or options.motor_retracts == "z+")
        if options.motor_frequency is not None or options.motor_amplitude is not None:
            self._set_motor()
        self._controller.carry_out(
            "Motor.StartMove",
            ("Motor.StopMove", {}),
            patience=options.motor_timeout,
            direction=_DIRECTIONS[axis, plus],
            number_of_steps=abs(steps),
            group=options.motor_group,
            wait_until_finished=1,
        )

    def _set_motor(self) -> None:
        told = self._controller.call("Motor.FreqAmpGet", axis=_ALL_AXES)
        given = {"frequency": self._options.motor_frequency, "amplitude": self._options.motor_amplitude}
        wanted = {name: value for name, value in given.items() if value is not None}
        self._controller.call("Motor.FreqAmpSet", told=told, axis=_ALL_AXES, **wanted)

    def pulse(self, voltage: float, duration: float) -> None:
        """Apply a bias for a while, with the z-controller on hold."""
        self._controller.call(
            "Bias.Pulse",
            patience=duration,
            wait_until_done=1,
            bias_pulse_width=duration,
            bias_value=voltage,
            z_controller_on_hold=_HOLD,
            pulse_absolute_relative=_ABSOLUTE,
        )

    def shape_tip(self, depth: float, voltage: float) -> None:
        """Dip the tip and take it back; bias and z-controller are as before at the end."""
        if depth == 0:
            raise DriverError("the depth is 0: the tip shaper of a controller has nothing to do", name="depth")
        options = self._options
        before = self._controller.call("Bias.Get")["bias_value"]
        settings = self._controller.call("TipShaper.PropsGet")
        self._controller.call(
            "TipShaper.PropsSet",
            told=settings,
            change_bias=_YES,
            bias=voltage,
            tip_lift=-depth,
            lift_time_1=options.tip_shaping_time,
            bias_lift=voltage,
            lift_height=depth,
            lift_time_2=options.tip_shaping_time,
            restore_feedback=_YES,
        )
        patience = options.tip_shaping_timeout
        try:
            self._controller.call(
                "TipShaper.Start", patience=patience, wait_until_finished=1, timeout=round(patience * 1000)
            )
        except RefusedError:
            # The controller may have given up half-way.
            self._restore_bias(before)
            raise
        self._restore_bias(before)

    def _restore_bias(self, bias: float) -> None:
        if self._controller.call("Bias.Get")["bias_value"] != bias:
            self._controller.call("Bias.Set", bias_value=bias)
