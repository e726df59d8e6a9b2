"""What an instrument is doing."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

FEEDBACK_OFF = "off"
"""Name of the z-controller's state in which it holds nothing constant."""


class Status(StrEnum):
    """What the instrument is doing."""

    WARMING = "warming"
    IDLE = "idle"
    MOVING = "moving"
    ACQUIRING = "acquiring"
    PAUSED = "paused"
    FAILED = "failed"
    CLOSED = "closed"


class TipState(StrEnum):
    """Where the tip is."""

    WITHDRAWN = "withdrawn"
    IN_RANGE = "in_range"
    CRASHED = "crashed"
    UNKNOWN = "unknown"


class JobState(StrEnum):
    """How far an acquisition is."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    ABORTED = "aborted"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will come."""
        return self in (JobState.DONE, JobState.ABORTED, JobState.FAILED)


@dataclass(frozen=True, slots=True)
class Position:
    """Position of the tip, in m. z is the height above the sample's highest atom."""

    x: float
    y: float
    z: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What a driver tells at one moment.

    Attributes
    ----------
    time
        Instrument time, in s.
    position
        Where the tip is.
    tip
        Whether the tip is near the sample.
    signals
        Present value of each of the instrument's signals, in its unit.
    feedback
        What the z-controller holds constant ("constant_current", ...), or "off".
    probe
        What is at the end of the tip ("CO", ...), as far as that is known; None where it is not.
    """

    time: float
    position: Position
    tip: TipState
    signals: Mapping[str, float] = field(default_factory=dict)
    feedback: str = FEEDBACK_OFF
    probe: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self) | {"tip": self.tip.value, "signals": dict(self.signals)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Reading":
        """Build from :meth:`to_dict`."""
        return cls(**dict(data) | {"position": Position(**data["position"]), "tip": TipState(data["tip"])})


@dataclass(frozen=True, slots=True)
class InstrumentState:
    """A snapshot of an instrument.

    Attributes
    ----------
    status
        What it is doing; "warming" while the driver starts.
    tip
        Whether the tip is near the sample.
    position
        Where the tip is; None until the driver has started.
    time
        Instrument time, in s.
    signals
        Value of each of the instrument's signals as last read, in its unit.
    feedback
        What the z-controller holds constant, or "off".
    acquisition
        Id of the acquisition in progress, or else of the last one; None before the first.
    job
        Id of the job in progress, motions included; None when nothing is.
    lease
        Who holds the instrument, for what, and for how many seconds yet; None when it is free.
    error
        Why the status is "failed".
    blocked
        Why nothing moves until an operator acknowledges it; None when all is well.
    revision
        Grows with every change of the state.
    probe
        What is at the end of the tip, as far as that is known; None where it is not.
    """

    status: Status
    tip: TipState
    position: Position | None
    time: float
    signals: Mapping[str, float]
    feedback: str
    acquisition: str | None
    job: str | None
    lease: Mapping[str, Any] | None
    error: str | None
    blocked: str | None
    revision: int
    probe: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self) | {"status": self.status.value, "tip": self.tip.value}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "InstrumentState":
        """Build from :meth:`to_dict`."""
        position = data["position"]
        return cls(
            **dict(data)
            | {
                "status": Status(data["status"]),
                "tip": TipState(data["tip"]),
                "position": None if position is None else Position(**position),
            }
        )
