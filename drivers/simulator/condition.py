"""What a simulated microscope remembers: where its piezos really are, what its tip has become, what its loops hold."""

from dataclasses import dataclass, replace

import jax
import numpy as np

from twinscope.drivers.common.positioning import Piezos, Positioning
from twinscope.drivers.common.realism import Realism
from twinscope.drivers.common.units import ANGSTROM
from twinscope.kernels import ControllerState, Tip, TipChange, changed_tip, tip_changes

# Numbers of streams of random numbers, beside those of the positioning.
_CHANGES, _CHANGE, _NOISE, _CHANCE = range(4, 8)


@dataclass(frozen=True)
class Apex:
    """The end of the tip.

    Attributes
    ----------
    tip
        As the kernels know it.
    jump
        How much farther down it reaches than at the start, in Å.
    changes
        How often it has changed.
    lost
        Whether its probe particle is gone.
    """

    tip: Tip
    jump: float = 0.0
    changes: int = 0
    lost: bool = False


@dataclass(frozen=True)
class Condition(Piezos):
    """Everything that what is measured next depends on, besides what the piezos remember.

    Attributes
    ----------
    apex
        The tip.
    loop
        State of the phase-locked loop; None before the first sample.
    controller
        State of the z-controller; None when it is off.
    """

    apex: Apex
    loop: jax.Array | None = None
    controller: ControllerState | None = None


class Body(Positioning):
    """The mechanical part of a simulated microscope: where the tip is when it was sent somewhere, and what it becomes.

    Heights are without the jumps of the tip.

    Parameters
    ----------
    realism
        Its imperfections.
    seed
        Of all that is random.
    reach
        Range of its lateral piezos, in m.
    intact
        The tip as it was prepared.
    bare
        What is left of a tip that has lost its probe particle.
    """

    def __init__(self, realism: Realism, seed: int, reach: float, intact: Tip, bare: Tip) -> None:
        super().__init__(realism, seed, reach)
        self._intact, self._bare = intact, bare

    def fresh(self, tip: Tip, position: np.ndarray) -> Condition:
        """Return the condition of a microscope that has rested at a position (3,), in m."""
        rested = self.rested(position)
        return Condition(Apex(tip), creep=rested.creep, hysteresis=rested.hysteresis)

    def noise_key(self, acquisition: int, trace: int) -> jax.Array:
        """Random key of the noise of a trace."""
        return self.key(_NOISE, acquisition, trace)

    def chance(self, apex: Apex, event: int) -> float:
        """Return a random number from 0 to 1 that decides on what becomes of a tip."""
        return float(jax.random.uniform(self.key(_CHANCE, apex.changes, event)))

    def change(self, apex: Apex, start: float, end: float) -> list[tuple[float, Apex]]:
        """Return the spontaneous changes of a tip between two times, in s."""
        changes = []
        for time in tip_changes(self.key(_CHANGES), self._realism.tip_change_rate, start, end):
            apex = self.changed(apex)
            changes.append((float(time), apex))
        return changes

    def changed(self, apex: Apex) -> Apex:
        """Return a tip after one more change, by chance."""
        realism = self._realism
        extent = TipChange(
            realism.tip_change_tilt / ANGSTROM,
            realism.tip_change_charge,
            realism.tip_change_jump / ANGSTROM,
            realism.tip_loss,
        )
        # From the tip as it was meant to be: otherwise a tip that changes often would tilt without end.
        new = changed_tip(
            self._bare if apex.lost else self._intact, self.key(_CHANGE, apex.changes), extent, self._bare
        )
        return replace(
            apex, tip=new.tip, jump=apex.jump + new.jump, changes=apex.changes + 1, lost=apex.lost or new.lost
        )
