"""The scan head of the simulated microscope: where it was sent, what its tip has become, and how it moves on."""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from twinscope.drivers.common.motion import Motion, Speeds, straight
from twinscope.drivers.common.pace import Pace, StoppedError
from twinscope.drivers.common.realism import Realism
from twinscope.drivers.common.units import ANGSTROM
from twinscope.drivers.simulator.condition import Body
from twinscope.drivers.simulator.measuring import Measuring, Sampled, Settings
from twinscope.drivers.simulator.options import SimulatorOptions
from twinscope.drivers.simulator.signals import DEFAULTS, begins_higher, check_regulable
from twinscope.drivers.simulator.specimen import Specimen
from twinscope.drivers.simulator.tips import TIPS, known_tips, name_of, tip_from_option
from twinscope.errors import InterlockError
from twinscope.kernels import ControllerState
from twinscope.requests import setpoint_of
from twinscope.state import FEEDBACK_OFF, Position, TipState

log = logging.getLogger(__name__)

# Live signals are measured again when they are older than this, in s of instrument time.
_STALE = 1.0
# With the z-controller on, the tip is followed from place to place on its way (m), and for a while (s) at its end.
_WAY_STEP = 1e-10
_STEPS = (16, 512)
_FREE_STEPS = 64
_SETTLE_TIME = 0.5
_SETTLE_SAMPLES = 64
# Acquisitions have the numbers 1, 2, ...; the noise of all other motions comes from numbers that those never reach.
_OTHER_MOTIONS = 2**31


class Head(Pace):
    """Tip, piezos, z-controller and clock of the simulated microscope.

    Attributes
    ----------
    signals
        Value of each signal that can be set.
    mode
        What the z-controller holds constant, or "off".
    position
        Where the tip was sent.
    crashed
        Whether the tip has touched the sample since it was withdrawn or shaped last.
    tips
        What can be at the end of the tip, by name.
    intact, probe
        The tip as it was prepared, and the name of what is at its end; None where it was given by numbers.
    """

    def __init__(self, options: SimulatorOptions, realism: Realism) -> None:
        super().__init__(options.clock)
        self._options, self._realism = options, realism
        self.tips = known_tips(options.probes)
        self.intact = tip_from_option(options.tip, self.tips)
        self.probe = name_of(options.tip, self.tips)
        self.specimen = Specimen(options, self.intact)
        self.speeds = Speeds(options.lateral_speed, options.vertical_speed)
        self.signals = dict(DEFAULTS) | {"bias": options.bias}
        self.mode = FEEDBACK_OFF
        self.position = Position(0.0, 0.0, options.working_height)
        self.crashed = False
        # At the ends of its range a tilted sample is so much higher, and lower, than in the middle.
        slope = sum(abs(math.tan(math.radians(angle))) for angle in realism.tilt)
        rise = slope * self.specimen.reach
        self.lowest = options.lowest_height - self.specimen.depth - rise
        self.highest = options.withdrawn_height + rise
        self._body, self._measuring = self._with_tip()
        self.condition = self._body.fresh(self.intact, _coordinates(self.position))
        self._live: tuple[float, Mapping[str, float]] | None = None
        self._motions = 0

    # ------------------------------------------------------------------ looking

    @property
    def controlled(self) -> bool:
        """Whether the z-controller is on."""
        return self.mode != FEEDBACK_OFF

    @property
    def tip_state(self) -> TipState:
        """Whether the tip is near the sample."""
        if self.position.z >= self.highest:
            return TipState.WITHDRAWN
        return TipState.CRASHED if self.crashed else TipState.IN_RANGE

    @property
    def place(self) -> np.ndarray:
        """Where the tip really is, relative to the sample, in m, shape (3,)."""
        position = _coordinates(self.position)
        return self._body.place(position, self.clock.now, self.condition, controlled=self.controlled)

    def felt(self) -> Mapping[str, float]:
        """Frequency shift and current where the tip is; as measured last if that is not long ago."""
        if self._live is None or self.clock.now - self._live[0] > _STALE:
            apex, bias = self.condition.apex, self.signals["bias"]
            self._live = self.clock.now, self._measuring.felt(self.place, apex, bias)
        return self._live[1]

    # ------------------------------------------------------------------ time

    def catch_up(self) -> None:
        """Let the time pass that went by on the wall clock; the z-controller, when it is on, follows meanwhile."""
        if self.clock.behind == 0:
            return
        before = self.place[2]
        super().catch_up()
        controller = self.condition.controller
        if controller is not None:
            # Meanwhile the z-controller has followed what the sample did.
            moved = (self.place[2] - before) / ANGSTROM
            held = ControllerState(controller.z - moved, controller.integral - moved, controller.filtered)
            self.condition = replace(self.condition, controller=held)
            self.position = replace(self.position, z=float(held.z) * ANGSTROM)
        self.changed()

    # ------------------------------------------------------------------ settings

    def changed(self, felt: Mapping[str, float] | None = None) -> None:
        """Note what the tip feels from now on; None when that has to be found out."""
        self._live = None if felt is None else (self.clock.now, felt)

    def set(self, name: str, value: float) -> None:
        """Set a signal."""
        self.signals[name] = value
        self._measuring.forget()
        self.changed()

    def check_regulable(self, mode: str, signals: Mapping[str, float]) -> None:
        """Raise an error when the z-controller cannot hold something constant here, with such signals."""
        check_regulable(mode, signals)
        self.check_near(f"the z-controller cannot be switched to {mode}")

    def check_near(self, what: str) -> None:
        """Raise :class:`InterlockError` when the tip is withdrawn, with what cannot be done therefore."""
        if self.tip_state is TipState.WITHDRAWN:
            raise InterlockError(f"{what} while the tip is withdrawn: approach first", name="tip")

    def switch(self, mode: str) -> None:
        """Switch the z-controller; the tip stays where it is, or begins above it where it has to come from above."""
        if mode == self.mode:
            return
        position, now = _coordinates(self.position), self.clock.now
        if mode == FEEDBACK_OFF:
            self.condition = self._body.at_rest(replace(self.condition, controller=None), self.position.z)
        else:
            # It takes over what the piezo of z did by itself, with the setpoint in its filter: no jump.
            free, held = (
                self._body.place(position, now, self.condition, controlled=controlled)[2]
                for controlled in (self.controlled, True)
            )
            height = self.position.z + free - held + begins_higher(mode, self.signals)
            holding = ControllerState.holding(height / ANGSTROM, self.signals[setpoint_of(mode)])
            self.condition = replace(self.condition, controller=holding)
            self.position = replace(self.position, z=height)
        self.mode = mode
        self.changed()

    # ------------------------------------------------------------------ moving

    def travel(self, target: Position, speed: float | None = None) -> None:
        """Spend the time that a move takes; a stop leaves the tip on the way. It is never lower than at the ends."""
        start, begin = _coordinates(self.position), self.clock.now
        end, duration = self.travel_time(start, _coordinates(target), self.speeds, speed)
        target = Position(*end.tolist())
        steps = _steps(float(np.hypot(*(end - start)[:2]))) if self.controlled else _FREE_STEPS
        motion = straight(start, end, steps, max(duration, 1e-6), controlled=self.controlled)
        if self.controlled:
            if self._follow(motion, begin):
                self.settle()
        else:
            self.position = target
            self._go(motion, begin)

    def settle(self) -> None:
        """Give the z-controller time where the tip is."""
        begin, here = self.clock.now, _coordinates(self.position)
        self.spend(_SETTLE_TIME)
        self._follow(straight(here, here, _SETTLE_SAMPLES, _SETTLE_TIME, controlled=True), begin)

    def approach(self) -> None:
        """Move straight down until the end of the tip is at the working height above the ground, and stay there."""
        held = self._body.place(_coordinates(self.position), self.clock.now, self.condition, controlled=True)
        ground = float(self.specimen.ground(held[None, :2])[0])
        higher = held[2] - self.position.z - self.condition.apex.jump * ANGSTROM
        # The approach follows the signals, so that no creep of the piezo is left over.
        self.travel(replace(self.position, z=self._options.working_height + ground - higher))
        self.condition = self._body.at_rest(self.condition, self.position.z)

    def _go(self, motion: Motion, begin: float) -> None:
        reached, self.condition = self._body.follow(motion, begin, self.condition)
        self._measuring.forget()
        self.changed()
        if self.specimen.touches(reached[:, :2], reached[:, 2] - self.condition.apex.jump * ANGSTROM):
            self.crash()

    def _follow(self, motion: Motion, begin: float) -> bool:
        """Let the z-controller follow a motion; False when it was stopped, which leaves the tip where it began."""
        self._motions += 1
        self._measuring.forget()
        try:
            sampled = self.sampled(0, lambda trace: None if trace else motion, begin, _OTHER_MOTIONS + self._motions)
        except StoppedError:
            log.info("a motion with the z-controller on was stopped")
            return False
        self.arrive(sampled)
        return True

    # ------------------------------------------------------------------ measuring

    def sampled(self, trace: int, motions: Callable[[int], Motion | None], begin: float, acquisition: int) -> Sampled:
        """Measure a trace that begins at a time; the tip is there when :meth:`arrive` says so.

        Raises
        ------
        StoppedError
            When a stop was asked for meanwhile.
        """
        settings = Settings(dict(self.signals), self.mode if self.controlled else None, self.highest)
        measuring, condition = self._measuring, self.condition
        try:
            return self.calculate(lambda: measuring.measure(trace, motions, begin, condition, settings, acquisition))
        except StoppedError:
            # What was left to itself goes on with the old one.
            self._measuring = measuring.anew()
            raise

    def arrive(self, sampled: Sampled) -> None:
        """Be at the end of a trace."""
        self.position, self.condition = Position(*sampled.end), sampled.condition
        self.changed(sampled.felt)
        if sampled.crashed:
            self.crash()

    def pass_over(self, motion: Motion) -> bool:
        """Be at the end of a motion at given heights that was measured elsewhere; whether the tip has crashed."""
        assert motion.z is not None
        self.position = Position(*motion.last.tolist())
        self.condition = replace(self.condition, time=self.clock.now)
        self.changed()
        crashed = self.specimen.touches(np.stack([motion.x, motion.y], axis=-1), motion.z)
        if crashed:
            self.crash()
        return crashed

    def forget(self) -> None:
        """Forget what was rendered ahead: another acquisition begins."""
        self._measuring.forget()

    # ------------------------------------------------------------------ the tip

    def crash(self) -> None:
        """Let the tip become another one, as it has touched the sample."""
        if not self.crashed:
            log.warning("the tip touched the sample at %s", self.position)
        self.crashed = True
        self.condition = replace(self.condition, apex=self._body.changed(self.condition.apex))
        self._measuring.forget(crashed=True)
        self.changed()

    def try_luck(self, mended: float, changed: float) -> None:
        """Mend the tip, change it or leave it, with the chances `mended`, `changed` - `mended` and the rest."""
        self._motions += 1
        apex = self.condition.apex
        luck = self._body.chance(apex, self._motions)
        if luck < mended:
            # Shaping does not give back what was lost of the tip's length.
            apex = replace(apex, tip=self.intact, changes=apex.changes + 1, lost=False)
        elif luck < changed:
            apex = self._body.changed(apex)
        self.condition = replace(self.condition, apex=apex)
        self._measuring.forget()
        self.changed()

    def exchange(self, probe: str) -> None:
        """Put another probe at the end of the tip; a stop meanwhile leaves what was there."""
        if self.spend(self._options.tip_exchange_time) < 1:
            return
        self.intact, self.probe = self.tips[probe], probe
        self.specimen = Specimen(self._options, self.intact)
        self._body, self._measuring = self._with_tip()
        apex = self.condition.apex
        apex = replace(apex, tip=self.intact, changes=apex.changes + 1, lost=False)
        self.condition = replace(self.condition, apex=apex)
        self.changed()

    def _with_tip(self) -> tuple[Body, Measuring]:
        seed = self._options.seed
        body = Body(self._realism, seed, self.specimen.reach, self.intact, TIPS["Cu"])
        return body, Measuring(self.specimen, body, self._realism, seed)


def _steps(length: float) -> int:
    """Return in how many steps the z-controller follows a way, in m: a power of two, so that few are compiled."""
    return int(np.clip(2 ** math.ceil(math.log2(max(length / _WAY_STEP, 1))), *_STEPS))


def _coordinates(position: Position) -> np.ndarray:
    return np.array([position.x, position.y, position.z])
