"""The tip as a stage with three axes."""

import functools
from dataclasses import dataclass

from ophyd_async.core import (
    MovableLogic,
    SignalR,
    SignalRW,
    StandardMovable,
    StandardReadable,
    TimeoutCalculator,
    TriggerableCommand,
)
from ophyd_async.core import StandardReadableFormat as Format

from twinscope import _checks
from twinscope.bluesky._backend import StateBackend, TipCommand, number_metadata
from twinscope.bluesky._device import SpmDevice
from twinscope.bluesky._link import SpmLink, position_in
from twinscope.capabilities import Limits
from twinscope.state import InstrumentState


@dataclass
class _AxisLogic(MovableLogic[float]):
    """How an axis moves: by its setpoint, which returns when the tip is there."""

    axis: str
    limits: Limits

    async def check_move(self, new_position: float) -> None:
        """Raise :class:`~twinscope.errors.OutOfRangeError` when the position is outside the limits."""
        self.limits.check(self.axis, _checks.finite(self.axis, new_position))

    async def move(self, new_position: float, timeout: TimeoutCalculator) -> None:
        """Move, and return when the tip is there; who gives up before has stopped it."""
        limit = timeout()
        try:
            await self.setpoint.set(new_position, timeout=limit)
        except TimeoutError as exc:
            raise TimeoutError(
                f"{self.readback.name} was not at {new_position:.6g} m within {limit:.3g} s: the tip was stopped on its"
                " way"
            ) from exc


class SpmAxis(StandardReadable, StandardMovable[float]):
    """One coordinate of the tip, in m.

    A move goes through all the interlocks of the instrument. Axes that are set at once move one after the other.

    Parameters
    ----------
    link
        The way to the instrument.
    axis
        "x", "y" or "z".
    name
        Of the device, in documents.

    Attributes
    ----------
    readback
        Where the tip is.
    setpoint
        Where it was last told to be while control was held, or else where it is. z is always where it is: the
        z-controller and spectra move it, too.
    """

    def __init__(self, link: SpmLink, axis: str, name: str = "") -> None:
        self._link = link
        self._axis = axis
        self._limits = link.capabilities.limits[axis]
        metadata = number_metadata("m", self._limits)
        backend = StateBackend(link, float, f"position/{axis}", self._position, metadata=metadata)
        self.readback: SignalR[float] = SignalR(backend, timeout=None)
        self.add_readables([self.readback], Format.HINTED_UNCACHED_SIGNAL)
        backend = StateBackend(link, float, f"target/{axis}", self._target, write=self._move, metadata=metadata)
        self.setpoint: SignalRW[float] = SignalRW(backend, timeout=None)
        super().__init__(name)

    @functools.cached_property
    def movable_logic(self) -> MovableLogic[float]:
        """How it moves."""
        return _AxisLogic(self.setpoint, self.readback, self._axis, self._limits)

    def _position(self, state: InstrumentState) -> float:
        return float(getattr(position_in(state), self._axis))

    def _target(self, state: InstrumentState) -> float:
        if self._axis == "z" and self._link.changing != "z":
            return self._position(state)
        target = self._link.targets.get(self._axis)
        return self._position(state) if target is None else float(target)

    async def _move(self, value: float) -> None:
        target = _checks.finite(self._axis, value)
        move = functools.partial(self._link.microscope.move_to, **{self._axis: target})
        await self._link.change(self._axis, target, move)


class SpmStage(SpmDevice):
    """The tip as a stage.

    Parameters
    ----------
    link
        The way to the instrument.
    name
        Of the device, in documents.

    Attributes
    ----------
    x, y, z
        The axes, in m. With the z-controller on, z cannot be set.
    approach, withdraw
        Commands: ``bps.trigger(stage.approach, wait=True)``.
    """

    def __init__(self, link: SpmLink, name: str = "") -> None:
        self.x = SpmAxis(link, "x")
        self.y = SpmAxis(link, "y")
        self.z = SpmAxis(link, "z")
        self.add_readables([self.x, self.y, self.z])
        self.approach = TriggerableCommand(TipCommand(link, "approach", link.microscope.approach), timeout=None)
        self.withdraw = TriggerableCommand(TipCommand(link, "withdraw", link.microscope.withdraw), timeout=None)
        super().__init__(link, name)
