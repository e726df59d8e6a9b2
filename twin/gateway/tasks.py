"""What a Nanonis command begins and does not wait for: a few steps on the instrument, one after the other."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from twinscope.acquisition import Acquisition
from twinscope.errors import AbortedError, BusyError, TwinscopeError
from twinscope.gateway.operator import Operator
from twinscope.requests import AcquisitionRequest
from twinscope.results import Measurement

log = logging.getLogger(__name__)


class Task:
    """Steps that are carried out in a thread of their own.

    Parameters
    ----------
    name
        What it is, for people.
    operator
        Who calls the verbs.
    steps
        What to do; is given this task, by whose methods it does it.

    Attributes
    ----------
    done
        Is set at the end.
    result
        What the steps have returned.
    error
        What they have raised.
    acquisition
        The latest acquisition that they have begun.
    """

    def __init__(self, name: str, operator: Operator, steps: "Callable[[Task], Any]") -> None:
        self.name = name
        self.operator = operator
        self.done = threading.Event()
        self.result: Any = None
        self.error: TwinscopeError | None = None
        self.acquisition: Acquisition | None = None
        self._steps = steps
        self._stopped = threading.Event()
        self._halted = False
        self._job: str | None = None

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name=f"nanonis {self.name}", daemon=True).start()

    def stop(self) -> None:
        """Abort the step in progress and begin no other; returns when the instrument stands still."""
        self._stopped.set()
        job = self._job
        if job is not None:
            self.operator.command("abort", id=job)

    def halt(self) -> None:
        """Begin no other step, not even to leave the instrument as it was: the tip is being withdrawn."""
        self._halted = True
        self._stopped.set()

    # ------------------------------------------------------------------ for the steps

    def do(self, verb: str, /, **parameters: Any) -> None:
        """Call a verb and wait for its end."""
        self.check()
        self.follow(self.operator.command(verb, **parameters))

    def acquire(self, request: AcquisitionRequest) -> Measurement:
        """Carry out an acquisition and return its data."""
        self.check()
        self.acquisition = self.operator.acquire(request)
        self.follow({"id": self.acquisition.id})
        return self.acquisition.result()

    def follow(self, progress: Mapping[str, Any]) -> None:
        """Wait for the end of a job."""
        self._job = progress["id"]
        try:
            # A stop that came before the job was known has not aborted it.
            if self._stopped.is_set():
                self.operator.command("abort", id=self._job)
            self.operator.finish(progress, lambda: None)
        finally:
            self._job = None

    def tidy(self, verb: str, /, **parameters: Any) -> None:
        """Call a verb and wait for its end, also after a stop, to leave the instrument as it was; not after a halt."""
        if self._halted:
            raise AbortedError(f"{self.name} was given up: the tip is withdrawn")
        self.operator.finish(self.operator.command(verb, **parameters), lambda: None)

    @property
    def was_stopped(self) -> bool:
        """Whether it was asked to stop and may still leave the instrument as it was."""
        return self._stopped.is_set() and not self._halted

    def check(self) -> None:
        """Raise :class:`AbortedError` when it was stopped."""
        if self._stopped.is_set():
            raise AbortedError(f"{self.name} was stopped")

    # ------------------------------------------------------------------ inside

    def _run(self) -> None:
        try:
            self.result = self._steps(self)
        except TwinscopeError as exc:
            self.error = exc
            log.info("%s has ended: %s", self.name, exc)
        # Whatever it was, those who wait must hear of the end.
        except Exception as exc:
            self.error = TwinscopeError(f"internal error: {type(exc).__name__}: {exc}")
            log.exception("%s failed", self.name)
        finally:
            self.done.set()


class Tasks:
    """The latest task of each name. Any thread may use it."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._latest: dict[str, Task] = {}
        self._lock = threading.Lock()

    def begin(self, name: str, steps: Callable[[Task], Any]) -> Task:
        """Begin a task.

        Raises
        ------
        BusyError
            When one of this name is not over.
        """
        task = Task(name, self._operator, steps)
        with self._lock:
            if self.running(name):
                raise BusyError(f"{name} is running already: wait for its end, or stop it")
            self._latest[name] = task
        task.start()
        return task

    def latest(self, name: str) -> Task | None:
        """Return the latest task of a name."""
        return self._latest.get(name)

    def running(self, name: str) -> bool:
        """Whether a task of this name is in progress."""
        task = self._latest.get(name)
        return task is not None and not task.done.is_set()

    def stop(self, name: str) -> None:
        """Stop the task of this name, if it is running."""
        task = self._latest.get(name)
        if task is not None and not task.done.is_set():
            task.stop()
            task.done.wait()

    def halt_all(self) -> None:
        """Let no task begin another step."""
        for task in list(self._latest.values()):
            task.halt()
