"""Events: what has happened, in order, for those who watch."""

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes
    ----------
    number
        Counts from 1 without gaps.
    kind
        "state", "job", "traces", "lease", "trip", "blocked" or "driver".
    time
        Wall-clock time, in s since 1970.
    data
        What the kind says of it, as plain data.
    """

    number: int
    kind: str
    time: float
    data: Mapping[str, Any]


class EventLog:
    """The latest events, written by the instrument and read by any number of watchers at their own pace.

    Nothing waits for a watcher: one that is slow finds that the oldest events are gone, and is told how many.

    Parameters
    ----------
    capacity
        How many events are kept.
    """

    def __init__(self, capacity: int = 4096) -> None:
        self._events: deque[Event] = deque(maxlen=capacity)
        self._last = 0
        self._changed = threading.Condition()

    @property
    def last(self) -> int:
        """Number of the latest event; 0 before the first."""
        return self._last

    def publish(self, kind: str, time: float, **data: Any) -> None:
        """Add an event."""
        with self._changed:
            self._last += 1
            self._events.append(Event(self._last, kind, time, data))
            self._changed.notify_all()

    def after(self, cursor: int, timeout: float, most: int = 1000) -> tuple[list[Event], int]:
        """Return the events after number `cursor`, waiting for one up to `timeout` seconds.

        Returns
        -------
        list of Event
            At most `most`, oldest first.
        int
            How many events after the cursor are gone.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._last > cursor, timeout)
            if self._last <= cursor:
                return [], 0
            first = self._events[0].number
            start = max(cursor + 1 - first, 0)
            return list(islice(self._events, start, start + most)), max(first - cursor - 1, 0)
