"""The scan head of a replayed instrument: where it was sent, and how it moves on."""

from dataclasses import replace

import numpy as np

from twinscope.drivers.common.motion import Motion, Speeds, straight
from twinscope.drivers.common.pace import Pace
from twinscope.drivers.replay.options import ReplayOptions
from twinscope.drivers.replay.overlay import Overlay
from twinscope.state import Position, TipState

RECORDED = 0.0
"""Height of the tip, in m, at which everything was recorded."""

NEAR = 1e-12
"""Heights that differ by less than this, in m, are the same."""

_STEPS = 64


class Head(Pace):
    """Tip, piezos and clock of a replayed instrument.

    Parameters
    ----------
    options
        Of the driver.
    overlay
        What is imperfect.
    center
        x and y where the tip is in the beginning, in m.

    Attributes
    ----------
    position
        Where the tip was sent.
    """

    def __init__(self, options: ReplayOptions, overlay: Overlay, center: tuple[float, float]) -> None:
        super().__init__(options.clock)
        self.speeds = Speeds(options.lateral_speed, options.vertical_speed)
        self.position = Position(*center, RECORDED)
        self._highest = options.withdrawn_height
        self._overlay = overlay
        self.piezos = overlay.rested(_coordinates(self.position))

    @property
    def tip_state(self) -> TipState:
        """Whether the tip is near the sample."""
        return TipState.WITHDRAWN if self.position.z >= self._highest else TipState.IN_RANGE

    @property
    def is_recorded(self) -> bool:
        """Whether the tip is at the height of the recording."""
        return is_recorded(self.position.z)

    @property
    def place(self) -> tuple[float, float]:
        """Where the tip really is on the recording, in m."""
        return self._overlay.place(_coordinates(self.position), self.clock.now, self.piezos)

    def warm_up(self) -> None:
        """Compile what moves need, if they need it: nothing moves for that."""
        here = _coordinates(self.position)
        self._overlay.follow(straight(here, here, _STEPS, 1.0, controlled=False), self.clock.now, self.piezos)

    def travel(self, target: Position, speed: float | None = None) -> None:
        """Spend the time that a move takes; a stop leaves the tip on the way."""
        start, begin = _coordinates(self.position), self.clock.now
        end, duration = self.travel_time(start, _coordinates(target), self.speeds, speed)
        self.position = Position(*end.tolist())
        motion = straight(start, end, _STEPS, max(duration, 1e-6), controlled=False)
        *_, self.piezos = self._overlay.follow(motion, begin, self.piezos)

    def arrive(self, motion: Motion) -> None:
        """Be at the end of a trace."""
        self.position = Position(*motion.last.tolist())

    def come_back(self, height: float) -> None:
        """Take the tip back to the height, in m, where it was before a sweep of z."""
        self.travel(replace(self.position, z=height))
        # Also when it was stopped: the end of a sweep is no place to stay.
        self.position = replace(self.position, z=height)


def is_recorded(height: float) -> bool:
    """Whether a height, in m, is that of the recording."""
    return abs(height - RECORDED) <= NEAR


def _coordinates(position: Position) -> np.ndarray:
    return np.array([position.x, position.y, position.z])
