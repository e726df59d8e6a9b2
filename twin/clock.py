"""Instrument time."""

import math
import threading
import time

from twinscope.errors import ConfigurationError


class Clock:
    """Instrument time, in seconds since the instrument was started.

    Parameters
    ----------
    rate
        How many times faster than the wall clock the instrument lives: 1 is real time, infinity does not wait at all.

    Notes
    -----
    Time is counted in the durations that the instrument says it needs, so that a run gives the same times at any rate.
    """

    def __init__(self, rate: float = 1.0) -> None:
        if not rate > 0:
            raise ConfigurationError(f"clock rate is {rate!r}: expected a number above zero")
        self.rate = rate
        self._elapsed = 0.0
        self._wall_start = time.monotonic()

    @classmethod
    def parse(cls, text: str | float) -> "Clock":
        """Make a clock from "realtime", "accelerated" or a rate.

        Raises
        ------
        ConfigurationError
            When the text is none of these.
        """
        named = {"realtime": 1.0, "accelerated": math.inf}
        try:
            return cls(named[text] if isinstance(text, str) and text in named else float(text))
        except ValueError as exc:
            raise ConfigurationError(f"clock is {text!r}: expected realtime, accelerated or a rate above zero") from exc

    @property
    def now(self) -> float:
        """Instrument time, in s."""
        return self._elapsed

    @property
    def behind(self) -> float:
        """How far, in s, instrument time is behind what passed on the wall clock; zero for an accelerated clock."""
        if math.isinf(self.rate):
            return 0.0
        return max((time.monotonic() - self._wall_start) * self.rate - self._elapsed, 0.0)

    def catch_up(self) -> None:
        """Let the time pass that went by on the wall clock since the last action; an accelerated clock has none."""
        if not math.isinf(self.rate):
            self._elapsed = max(self._elapsed, (time.monotonic() - self._wall_start) * self.rate)

    def spend(self, seconds: float, interrupt: threading.Event | None = None) -> float:
        """Let instrument time pass.

        Parameters
        ----------
        seconds
            How much.
        interrupt
            Ends the waiting early when it is set.

        Returns
        -------
        float
            The part that has passed: 1 unless interrupted.
        """
        begin = self._elapsed
        self._elapsed = begin + seconds
        if math.isinf(self.rate):
            return 1.0
        wait = max(self._wall_start + self._elapsed / self.rate - time.monotonic(), 0)
        if interrupt is None:
            time.sleep(wait)
        elif interrupt.wait(wait):
            reached = (time.monotonic() - self._wall_start) * self.rate
            self._elapsed = min(max(reached, begin), begin + seconds)
            return (self._elapsed - begin) / seconds if seconds else 1.0
        return 1.0
