"""How an instrument of this package lives in time: commands begin, last, are stopped, and are followed by rests."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np

from twinscope.clock import Clock
from twinscope.drivers.common.motion import Speeds

log = logging.getLogger(__name__)

# An instrument that was left alone for longer than this, in s of its time, has lived on meanwhile.
_LEFT_ALONE = 1.0
# Who waits for a calculation looks this often, in s, whether a stop was asked for, and lets it end for so long then.
_LOOK = 0.02
_GRACE = 0.15

_Result = TypeVar("_Result")


class StoppedError(Exception):
    """A stop was asked for while something was calculated. It does not leave the driver."""


class Pace:
    """Instrument time and the request to stop.

    Parameters
    ----------
    clock
        "realtime", "accelerated", or how many times faster than real time.

    Attributes
    ----------
    clock
        Instrument time.
    interrupt
        Set when a stop was asked for.
    """

    def __init__(self, clock: str | float) -> None:
        self.clock = Clock.parse(clock)
        self.interrupt = threading.Event()
        self._left = time.monotonic()
        self._worker: ThreadPoolExecutor | None = None

    def begin(self) -> None:
        """Begin a command: no stop is asked for yet, and the time since the last one has passed."""
        self.interrupt.clear()
        self.catch_up()

    def resume(self) -> None:
        """Go on with an acquisition; what passed on the wall clock since the last trace counts if it was a pause."""
        if (time.monotonic() - self._left) * self.clock.rate > _LEFT_ALONE:
            self.catch_up()

    def leave(self) -> None:
        """Note that nobody asks for anything from now on, until the next command or trace."""
        self._left = time.monotonic()

    def spend(self, duration: float) -> float:
        """Let time pass, and return which part of it has: 1 if it was not stopped."""
        return self.clock.spend(duration, self.interrupt)

    def calculate(self, work: Callable[[], _Result]) -> _Result:
        """Do work that cannot be interrupted, and does not have to be: a stop leaves it to itself.

        What it would have given is lost, so it must not change anything that is used afterwards. A kernel that is
        compiled meanwhile is not lost.

        Raises
        ------
        StoppedError
            When a stop was asked for before it was done.
        """
        if self._worker is None:
            self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="calculation")
        future = self._worker.submit(work)
        while not wait([future], _LOOK).done:
            if self.interrupt.is_set() and not wait([future], _GRACE).done:
                self._worker.shutdown(wait=False)
                self._worker = None
                raise StoppedError
        return future.result()

    def catch_up(self) -> None:
        """Let the time pass that went by on the wall clock."""
        self.clock.catch_up()

    def travel_time(
        self, start: np.ndarray, end: np.ndarray, speeds: Speeds, speed: float | None = None
    ) -> tuple[np.ndarray, float]:
        """Let the time of a straight move pass; a stop ends it on the way.

        Parameters
        ----------
        start, end
            Places (3,), in m.
        speeds
            Highest ones.
        speed
            Highest one for this move along its way, in m/s; None for no other.

        Returns
        -------
        end
            Where it came to, in m, shape (3,).
        duration
            How long it took, in s.
        """
        duration = speeds.time(start, end)
        if speed is not None:
            duration = max(duration, float(np.linalg.norm(end - start)) / speed)
        done = self.spend(duration)
        if done == 1:
            return end, duration
        log.info("a move was stopped after %.0f %% of the way", 100 * done)
        return start + done * (end - start), done * duration
