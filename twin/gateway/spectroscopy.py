"""What all spectroscopies have in common: their settings, the sweeps that they consist of, and their data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from twinscope.capabilities import Capabilities
from twinscope.errors import AbortedError, OutOfRangeError
from twinscope.gateway.codes import switched
from twinscope.gateway.tasks import Task
from twinscope.requests import SpectroscopyRequest, Sweep
from twinscope.state import FEEDBACK_OFF, InstrumentState, TipState

MOST_SPECTRA = 2**20
"""Spectra that one command may ask for: a few bytes of a client must not fill the memory with positions."""

_POINTS = 128
_POINT_TIME = 0.02
_BACKWARD = "bwd"


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of a sweep, in s, and its slew rate per second; a point takes the settling and the integration time."""

    z_averaging_time: float = 0.0
    initial_settling_time: float = 0.0
    maximum_slew_rate: float = math.inf
    settling_time: float = 0.0
    integration_time: float = _POINT_TIME
    end_settling_time: float = 0.0
    z_control_time: float = 0.0

    @property
    def point_time(self) -> float:
        """Seconds per point."""
        return self.settling_time + self.integration_time

    def part(self, sweep: Sweep, point_time: float | None = None) -> "Part":
        """Return a sweep with so many seconds per point, its own if not given; more where it would be too fast."""
        step = abs(sweep.stop - sweep.start) / (sweep.points - 1)
        # A rate of 0 is none, as in other settings of the protocol.
        least = step / self.maximum_slew_rate if self.maximum_slew_rate else 0.0
        return Part(sweep, max(self.point_time if point_time is None else point_time, least))


@dataclass(frozen=True, slots=True)
class Recording:
    """What a spectroscopy records, and how often.

    Attributes
    ----------
    channels
        Names of the instrument's channels.
    points
        Per sweep.
    sweeps
        How many are averaged.
    backward
        Whether each is followed by one the other way.
    timing
        Of each point.
    flags
        Switches that are told back and change nothing here: all data are in the files of the instrument.
    """

    channels: tuple[str, ...]
    points: int = _POINTS
    sweeps: int = 1
    backward: bool = False
    timing: Timing = Timing()
    flags: tuple[tuple[str, bool], ...] = ()

    @classmethod
    def initial(cls, capabilities: Capabilities) -> Self:
        """Return one that records all channels."""
        return cls(tuple(channel.name for channel in capabilities.channels))


@dataclass(frozen=True, slots=True)
class Part:
    """A sweep, with its time per point, in s."""

    sweep: Sweep
    point_time: float

    def reversed(self) -> "Part":
        """Return the way back."""
        return Part(Sweep(start=self.sweep.stop, stop=self.sweep.start, points=self.sweep.points), self.point_time)


@dataclass(frozen=True, slots=True)
class Plan:
    """A spectroscopy.

    Attributes
    ----------
    swept
        "z" or "bias".
    positions
        x and y of each spectrum, in m.
    parts
        Sweeps that follow each other.
    recording
        What is recorded.
    height
        Of the tip while the bias is swept, in m; None for the present one.
    resets
        Whether z and bias are brought back to where they were.
    """

    swept: str
    positions: tuple[tuple[float, float], ...]
    parts: tuple[Part, ...]
    recording: Recording
    height: float | None = None
    resets: bool = True

    def ways(self) -> Sequence[tuple[str, Sequence[Part]]]:
        """Return what is measured, one after the other: a note for the names of the channels, and the sweeps."""
        forward = [("", list(self.parts))]
        back = [(_BACKWARD, [part.reversed() for part in reversed(self.parts)])]
        return forward + back if self.recording.backward else forward

    def request(self, part: Part) -> SpectroscopyRequest:
        """Return the request of a sweep; those that are averaged are spectra at the same place.

        Raises
        ------
        OutOfRangeError
            When there are too many of them.
        """
        check_spectra(len(self.positions) * self.recording.sweeps)
        return SpectroscopyRequest(
            swept=self.swept,
            positions=tuple(position for position in self.positions for _ in range(self.recording.sweeps)),
            sweep=part.sweep,
            channels=self.recording.channels,
            height=self.height,
            point_time=part.point_time,
        )


def check_spectra(count: int) -> None:
    """Raise :class:`OutOfRangeError` when a command asks for too many spectra."""
    if count > MOST_SPECTRA:
        raise OutOfRangeError(
            f"{count} spectra were asked for: expected at most {MOST_SPECTRA}, take fewer points or sweeps",
            name="spectra",
            value=count,
            high=MOST_SPECTRA,
        )


Columns = Mapping[tuple[str, str], np.ndarray]
"""Values (positions, points) by channel and note, those of the way back in the order of the way there."""


def measure(task: Task, plan: Plan) -> Columns:
    """Carry out a spectroscopy and leave the z-controller, z and the bias as they were."""
    before = task.operator.state()
    try:
        measured = {
            (name, note): values
            for note, parts in plan.ways()
            for name, values in _way(task, plan, parts, note).items()
        }
    except AbortedError:
        # Whoever has aborted it otherwise has other plans with the tip.
        if task.was_stopped:
            _restore(task, plan, before)
        raise
    _restore(task, plan, before)
    return measured


def _way(task: Task, plan: Plan, parts: Sequence[Part], note: str) -> dict[str, np.ndarray]:
    count = plan.recording.sweeps
    spectra = [task.acquire(plan.request(part)) for part in parts]
    found = {}
    for name in plan.recording.channels:
        values = np.concatenate([np.asarray(spectrum[name].values) for spectrum in spectra], axis=1)
        if count > 1:
            values = values.reshape(len(plan.positions), count, -1).mean(axis=1, dtype=np.float64).astype(np.float32)
        found[name] = values[:, ::-1] if note == _BACKWARD else values
    return found


def _restore(task: Task, plan: Plan, before: InstrumentState) -> None:
    """Undo what a driver has left: it switches the z-controller off for a sweep and stays at its end."""
    now = task.operator.state()
    if now.tip is not TipState.IN_RANGE or now.position is None or before.position is None:
        # A trip has withdrawn the tip: it stays away.
        return
    if plan.resets and now.feedback == FEEDBACK_OFF and now.position.z != before.position.z:
        task.tidy("move_to", z=before.position.z)
    if plan.resets and "bias" in before.signals and now.signals["bias"] != before.signals["bias"]:
        task.tidy("set_signal", name="bias", value=before.signals["bias"])
    if before.feedback not in (FEEDBACK_OFF, now.feedback):
        task.tidy("set_feedback", mode=before.feedback)


def axis_of(plan: Plan, start: float) -> np.ndarray:
    """Return all values of what is swept, from `start` on, in the order of the way there."""
    return np.concatenate([part.sweep.values() for part in plan.parts]) - start


def flags(given: Mapping[str, Any], before: Recording, *names: str) -> tuple[tuple[str, bool], ...]:
    """Return switches of which 0 leaves one as it is, 1 switches it on and 2 off."""
    known = dict(before.flags)
    for name in names:
        known[name] = switched(name, given[name], known.get(name, False))
    return tuple(known.items())
