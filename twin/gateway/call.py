"""One command of a Nanonis client while it is carried out, as the handlers of the commands see it."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twinscope.capabilities import Capabilities
from twinscope.errors import TwinscopeError
from twinscope.gateway.controller import Controller
from twinscope.gateway.operator import Operator
from twinscope.gateway.settings import Settings
from twinscope.gateway.signal_list import SignalList
from twinscope.gateway.tasks import Task

# A wait is cut into pieces of this, in s, so that it ends when the client is gone.
_SLICE = 0.1


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler may use.

    Attributes
    ----------
    controller
        What all clients share.
    check_client
        Raises :class:`ClientGoneError` when nobody waits for the answer any more.
    """

    controller: Controller
    check_client: Callable[[], None]

    @property
    def operator(self) -> Operator:
        """Who calls the verbs."""
        return self.controller.operator

    @property
    def capabilities(self) -> Capabilities:
        """What the instrument can do."""
        return self.controller.capabilities

    @property
    def settings(self) -> Settings:
        """What clients have set."""
        return self.controller.settings

    @property
    def signals(self) -> SignalList:
        """The list of 128 signals."""
        return self.controller.signals

    def do(self, verb: str, /, **parameters: Any) -> None:
        """Call a verb that changes something and wait for its end."""
        self.operator.finish(self.operator.command(verb, patient=True, **parameters), self.check_client)

    def begin(self, verb: str, /, *, wait: bool, timeout: float | None = None, **parameters: Any) -> None:
        """Call a verb that changes something, and wait for its end if asked to.

        Parameters
        ----------
        verb, parameters
            What to do.
        wait
            Whether to wait.
        timeout
            Seconds after which the wait ends with an error; None for no limit. What was begun goes on.
        """
        progress = self.operator.command(verb, patient=True, **parameters)
        if wait:
            self.operator.finish(progress, self._until(timeout, verb))

    def wait_for(self, task: Task, timeout: float | None = None) -> Any:
        """Wait for the end of a task, return its result, or raise its error; the parameters are those of begin."""
        if not self.wait_until(task.done.wait, timeout):
            raise TwinscopeError(f"{task.name} was not over after {timeout} s: it goes on")
        if task.error is not None:
            raise TwinscopeError.from_dict(task.error.to_dict())
        return task.result

    def wait_until(self, attempt: Callable[[float], bool], timeout: float | None) -> bool:
        """Wait for something as long as the client is there.

        Parameters
        ----------
        attempt
            Waits so many seconds for it, and tells whether it has come.
        timeout
            Seconds after which the wait is over, and False; None for no limit.
        """
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not attempt(min(max(end - time.monotonic(), 0.0), _SLICE)):
            if time.monotonic() >= end:
                return False
            self.check_client()
        return True

    def _until(self, timeout: float | None, what: str) -> Callable[[], None]:
        end = math.inf if timeout is None else time.monotonic() + timeout

        def check() -> None:
            self.check_client()
            if time.monotonic() >= end:
                raise TwinscopeError(f"{what} was not over after {timeout} s: it goes on")

        return check


Handler = Callable[[Call, Mapping[str, Any]], Mapping[str, Any] | None]
"""Carries out a command: takes its arguments by name and returns its results; None, or what is left out, is empty."""


def seconds(milliseconds: int) -> float | None:
    """Return a timeout as it is given in commands, in ms and below zero for no limit, in s or None."""
    return None if milliseconds < 0 else milliseconds / 1000
