"""What an instrument is doing."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """What the instrument is doing."""

    WARMING = "warming"
    IDLE = "idle"
    MOVING = "moving"
    ACQUIRING = "acquiring"
    FAILED = "failed"
    CLOSED = "closed"


class TipState(StrEnum):
    """Where the tip is."""

    WITHDRAWN = "withdrawn"
    IN_RANGE = "in_range"
    UNKNOWN = "unknown"


class AcquisitionState(StrEnum):
    """How far an acquisition is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    ABORTED = "aborted"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will come."""
        return self in (AcquisitionState.DONE, AcquisitionState.ABORTED, AcquisitionState.FAILED)


@dataclass(frozen=True, slots=True)
class Position:
    """Position of the tip, in m. z is the height above the sample's highest atom."""

    x: float
    y: float
    z: float


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
    acquisition
        Id of the acquisition in progress, or else of the last one; None before the first.
    lease
        Who holds the instrument, for what, and for how many seconds yet; None when it is free.
    error
        Why the status is "failed".
    revision
        Grows with every change of the state.
    """

    status: Status
    tip: TipState
    position: Position | None
    time: float
    acquisition: str | None
    lease: Mapping[str, Any] | None
    error: str | None
    revision: int

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
