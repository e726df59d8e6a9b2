"""What is to be measured along the next traces, at every height: made for many traces at once, ahead of their time."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from twinscope.drivers.common.motion import Motion
from twinscope.drivers.common.realism import Realism
from twinscope.drivers.common.units import ANGSTROM
from twinscope.drivers.simulator.body_force import body_force
from twinscope.drivers.simulator.condition import Apex, Body, Condition
from twinscope.drivers.simulator.imaging import CONVERGED, CURRENT, FORCE_Z, FREQUENCY_SHIFT
from twinscope.drivers.simulator.specimen import Specimen
from twinscope.kernels import interpolation_weights

# The z-controller may go this far (Å) above the highest place of the trace before; farther out there is no signal.
_HEADROOM = 8.0
# Below the lowest height there is a rung for the interpolation.
_MARGIN = 0.3
# Ranges of heights begin and end at multiples of this (Å): few different ones are compiled.
_RANGE_STEP = 2.0
# Numbers of positions that are rendered together; the last is one tile of the kernels.
_SIZES = (64, 256, 1024, 4096)


@dataclass(frozen=True)
class Planned:
    """A trace that is going to be measured: where the tip will be, and what it would feel there at every height.

    Attributes
    ----------
    number, start, motion
        Of the trace; the instrument time at which the tip sets out, in s.
    positions
        Of the tip, relative to the sample, in m, (n, 3); z without what the z-controller adds.
    apexes
        The tip at each sample.
    before, after
        Condition at the start and at the end, without those of the loops.
    ground
        Height of flat molecules under the tip, in Å, (n,).
    heights
        Rungs of the tables, in Å, (m,), from far to near.
    tables
        Channels by name, (m, n); bias and body of the tip included.
    """

    number: int
    start: float
    motion: Motion
    positions: np.ndarray
    apexes: tuple[Apex, ...]
    before: Condition
    after: Condition
    ground: np.ndarray
    heights: np.ndarray
    tables: Mapping[str, np.ndarray]

    @property
    def lift(self) -> np.ndarray:
        """How much higher, in m, the end of the tip is than where it was sent; or how high, for given heights."""
        return self.positions[:, 2] - np.array([apex.jump for apex in self.apexes]) * ANGSTROM

    def at(self, heights: np.ndarray) -> dict[str, np.ndarray]:
        """Look up all channels at the height, in m, of each sample (n,); it ends where the tables end."""
        inside = np.clip(heights / ANGSTROM, self.heights[-1], self.heights[0])
        weights = interpolation_weights(inside, self.heights).T
        values = {name: (weights * table).sum(axis=0) for name, table in self.tables.items() if name != CONVERGED.name}
        # Between two heights it has converged when it has at all that it was interpolated from.
        lost = (weights != 0) & (self.tables[CONVERGED.name] == 0)
        values[CONVERGED.name] = 1.0 - lost.any(axis=0)
        return values


class Renderer:
    """Finds out where the tip will be, and what it would feel there.

    Parameters
    ----------
    specimen
        What is under the tip.
    body
        Where the tip is.
    realism
        What is imperfect.
    """

    def __init__(self, specimen: Specimen, body: Body, realism: Realism) -> None:
        self._specimen = specimen
        self._body = body
        self._realism = realism

    def plan(
        self,
        number: int,
        motions: Callable[[int], Motion | None],
        start: float,
        condition: Condition,
        bias: float,
        most: int,
    ) -> list[Planned]:
        """Plan traces.

        Parameters
        ----------
        number
            Of the first.
        motions
            Gives the motion of each trace, None after the last.
        start
            Instrument time at which the tip sets out, in s.
        condition
            At this time.
        bias
            In V, where the motion has none.
        most
            No further trace is planned when so many positions are.
        """
        drafts: list[Planned] = []
        count = 0
        while count < most and (motion := motions(number + len(drafts))) is not None:
            drafts.append(self._draft(number + len(drafts), motion, start, condition))
            start, condition = start + motion.duration, drafts[-1].after
            count += len(motion.x)
        return self._rendered(drafts, bias)

    def _draft(self, number: int, motion: Motion, start: float, before: Condition) -> Planned:
        """Plan a trace, without what is felt there."""
        positions, after = self._body.follow(motion, start, before)
        changes = self._body.change(before.apex, start, start + motion.duration)
        times = start + motion.lead + motion.interval * (np.arange(len(motion.x)) + 1)
        apexes = tuple(next((new for at, new in reversed(changes) if at <= now), before.apex) for now in times)
        after = replace(after, apex=changes[-1][1] if changes else before.apex)
        ground = self._specimen.ground(positions[:, :2]) / ANGSTROM
        return Planned(number, start, motion, positions, apexes, before, after, ground, np.empty(0), {})

    def _rendered(self, drafts: list[Planned], bias: float) -> list[Planned]:
        apexes = [apex for draft in drafts for apex in draft.apexes]
        points = np.concatenate([draft.positions[:, :2] for draft in drafts])
        low, high = self._range(drafts)
        tables: dict[str, np.ndarray] = {}
        heights = np.empty(0)
        for apex in dict.fromkeys(apexes):
            chosen = np.flatnonzero([other is apex or other == apex for other in apexes])
            # Spectra and a tip that settles stay at one place.
            places, place = np.unique(points[chosen], axis=0, return_inverse=True)
            heights, values = self._specimen.imaging(apex.tip, 1.0).table(_filled_up(places), low, high)
            for name, table in values.items():
                whole = tables.setdefault(name, np.empty((len(heights), len(apexes)), np.float32))
                whole[:, chosen] = table[:, place.ravel()]
        ends = np.cumsum([len(draft.apexes) for draft in drafts])[:-1]
        parts = {name: np.split(table, ends, axis=1) for name, table in tables.items()}
        return [
            self._biased(draft, heights / ANGSTROM, {name: part[i] for name, part in parts.items()}, bias)
            for i, draft in enumerate(drafts)
        ]

    def _biased(self, draft: Planned, heights: np.ndarray, tables: dict[str, np.ndarray], present: float) -> Planned:
        """Add to tables for a bias of 1 V and no body of the tip what both of them do."""
        bias = np.full(len(draft.apexes), present) if draft.motion.bias is None else draft.motion.bias
        tables[CURRENT.name] = tables[CURRENT.name] * bias
        if self._realism.tip_radius:
            shift, force = body_force(heights, draft.ground, bias, self._realism, self._specimen.cantilever)
            tables[FREQUENCY_SHIFT.name] = tables[FREQUENCY_SHIFT.name] + shift
            tables[FORCE_Z.name] = tables[FORCE_Z.name] + force
        return replace(draft, heights=heights, tables=tables)

    def _range(self, drafts: list[Planned]) -> tuple[float, float]:
        """Lowest and highest height, in m, at which something may be measured."""
        lift = np.concatenate([draft.lift for draft in drafts]) / ANGSTROM
        controller = drafts[0].before.controller
        if drafts[0].motion.z is None and controller is not None:
            ground = np.concatenate([draft.ground for draft in drafts])
            low = float(ground.min()) + self._specimen.lowest_height / ANGSTROM
            farthest = float(controller.z) + max(draft.motion.lift for draft in drafts) / ANGSTROM
            high = max(farthest + float(lift.max()), float(ground.max())) + _HEADROOM
        else:
            low, high = float(lift.min()), float(lift.max())
        bottom = math.floor((low - _MARGIN) / _RANGE_STEP) * _RANGE_STEP
        top = bottom + math.ceil((high + _MARGIN - bottom) / _RANGE_STEP) * _RANGE_STEP
        return bottom * ANGSTROM, top * ANGSTROM


def _filled_up(positions: np.ndarray) -> np.ndarray:
    """Repeat the last position until there are 64, 256, 1024 or a multiple of 4096: few shapes are compiled."""
    size = next((size for size in _SIZES if size >= len(positions)), -(-len(positions) // _SIZES[-1]) * _SIZES[-1])
    missing = size - len(positions)
    return np.concatenate([positions, np.repeat(positions[-1:], missing, axis=0)])
