"""A z-controller: its settings, what it carries from trace to trace, and what a trace under it gives."""

import math
from dataclasses import dataclass, field

import jax

from twinscope.kernels._parameters import check_not_negative, check_positive
from twinscope.kernels._types import ArrayLike
from twinscope.kernels._volume import is_known


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ZController:
    """Settings of a z-controller: ``z = P e + I ∫ e dt`` with the error e.

    Nanonis names P and the time constant T = P / I. The unit of the error is that of the signal, or one e-fold of it
    with `logarithmic`.

    Attributes
    ----------
    setpoint
        Of the controlled signal, in its unit.
    proportional
        P, in Å per unit of the error.
    integral
        I, in Å/s per unit of the error.
    retracts_above
        True: the tip goes up while the signal is above the setpoint, as for a current, or a frequency shift on its
        repulsive branch. False: while it is below, as for a frequency shift on the attractive branch.
    bandwidth
        Of the first-order low-pass between the signal and the controller, in Hz; infinity for none.
    slew
        Fastest motion of the piezo, in Å/s; infinity for no limit.
    reach
        Lowest and highest z of the piezo, in Å, on the scale of the table's heights. There the output stops, and the
        integral with it.
    logarithmic
        True: the error is ln|signal / setpoint|, as behind the logarithmic amplifier of an STM.
    floor
        The smallest signal that a logarithmic amplifier tells from none, as a part of the setpoint.
    """

    setpoint: ArrayLike
    proportional: ArrayLike
    integral: ArrayLike
    retracts_above: bool = field(default=True, metadata={"static": True})
    bandwidth: ArrayLike = math.inf
    slew: ArrayLike = math.inf
    reach: tuple[ArrayLike, ArrayLike] = (-math.inf, math.inf)
    logarithmic: bool = field(default=False, metadata={"static": True})
    floor: ArrayLike = 1e-3


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ControllerState:
    """What a z-controller carries from one trace to the next.

    Attributes
    ----------
    z
        Å, on the scale of the table's heights.
    integral
        Å.
    filtered
        The signal behind the low-pass.
    """

    z: ArrayLike
    integral: ArrayLike
    filtered: ArrayLike

    @classmethod
    def holding(cls, z: ArrayLike, signal: ArrayLike) -> "ControllerState":
        """Return the state of a controller that is switched on at a height z (Å), where it measures the signal."""
        return cls(z, z, signal)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ControlledTrace:
    """What a trace under the z-controller gives, for every pixel, shape (n,).

    Attributes
    ----------
    z
        Å, mean over the pixel.
    signal
        As the controller sees it, behind noise and low-pass, mean over the pixel.
    error
        The error it acts on, mean over the pixel: its sign is that of signal - setpoint.
    crashed
        True where the tip was below the contact at any time. Below the table the signal is that of its lowest height.
    out_of_reach
        True where the piezo was at the end of its reach.
    """

    z: jax.Array
    signal: jax.Array
    error: jax.Array
    crashed: jax.Array
    out_of_reach: jax.Array


def check_controller(controller: ZController) -> None:
    """Raise ValueError when a known setting of the controller cannot be."""
    check_not_negative(proportional=controller.proportional, integral=controller.integral)
    for name in ("bandwidth", "slew"):
        value = getattr(controller, name)
        if is_known(value) and not value > 0:
            raise ValueError(f"controller.{name} is {value}: expected a positive number, or infinity for no limit")
    low, high = controller.reach
    if is_known(low, high) and not low < high:
        raise ValueError(f"controller.reach is ({low}, {high}) Å: expected the lowest z first, then the highest")
    if not controller.logarithmic:
        return
    check_positive(floor=controller.floor)
    if is_known(controller.setpoint) and not abs(controller.setpoint) > 0:
        raise ValueError(
            f"controller.setpoint is {controller.setpoint}: a logarithmic controller needs one beside zero"
        )
