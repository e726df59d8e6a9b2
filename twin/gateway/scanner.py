"""The scan control: scans one after the other, and the buffer with the latest."""

import logging
from typing import Any

import numpy as np

from twinscope.acquisition import Acquisition
from twinscope.errors import AbortedError, InvalidRequestError, UnknownChannelError
from twinscope.gateway.operator import Operator
from twinscope.gateway.scan_settings import ScanSettings
from twinscope.gateway.settings import Settings
from twinscope.gateway.tasks import Task, Tasks
from twinscope.requests import CONSTANT_HEIGHT, ScanRequest
from twinscope.results import recorded_name
from twinscope.state import FEEDBACK_OFF

log = logging.getLogger(__name__)

_NAME = "the scan"
_LAST_MOMENT = 1.0
_OTHER = {"up": "down", "down": "up"}


class Scanner:
    """Starts, stops and looks at scans. Any thread may use it.

    Parameters
    ----------
    operator
        Who calls the verbs.
    settings
        Where the settings of the scan are.
    tasks
        Where the running scan is kept.
    """

    def __init__(self, operator: Operator, settings: Settings, tasks: Tasks) -> None:
        self._operator = operator
        self._settings = settings
        self._tasks = tasks
        self._latest: Acquisition | None = None
        self.direction = "up"

    # ------------------------------------------------------------------ control

    def start(self, direction: str) -> None:
        """Begin to scan with the present settings; a scan in progress is given up for that."""
        self.stop()
        self.direction = direction
        # Begun here, so that who asked hears when it is refused.
        first = self._begin(patient=True)
        self._tasks.begin(_NAME, lambda task: self._follow(task, first))

    def stop(self) -> None:
        """Abort the scan, whoever has begun it; without one there is nothing to stop."""
        self._tasks.stop(_NAME)
        self._direct("abort")

    def pause(self) -> None:
        """Let the scan rest after the line in progress."""
        self._direct("pause")

    def resume(self) -> None:
        """Let it go on."""
        self._direct("resume")

    # ------------------------------------------------------------------ looking

    @property
    def running(self) -> bool:
        """Whether the instrument scans, or rests within a scan."""
        return self._tasks.running(_NAME) or self._job() is not None

    @property
    def current(self) -> Acquisition | None:
        """The scan in the buffer, whoever has begun it; None before the first."""
        job = self._job()
        if job is not None and (self._latest is None or self._latest.id != job["id"]):
            self._latest = self._operator.acquisition(job["id"])
        return self._latest

    def check(self, frame: Acquisition) -> None:
        """Raise what a scan that is over has failed with; one that was stopped has not failed."""
        task = self._tasks.latest(_NAME)
        if task is not None and frame is self._latest and not self._settings.of(ScanSettings).continuous:
            # Who hears of the end finds the instrument at rest.
            task.done.wait(_LAST_MOMENT)
        try:
            frame.result(timeout=0)
        except AbortedError:
            log.debug("the scan %s was stopped", frame.id)

    def data(self, channel: str, *, forward: bool) -> tuple[np.ndarray, str]:
        """Return the buffer of a channel, and the direction of its scan, "up" or "down".

        Returns
        -------
        tuple
            Values (lines, pixels), float32, lines and pixels in the order in which they are measured; NaN for what is
            not yet measured.

        Raises
        ------
        UnknownChannelError
            When the channel is not recorded.
        """
        scan = self.current
        if scan is None:
            settings = self._settings.of(ScanSettings)
            _check_recorded(channel, settings.channels)
            return np.full((settings.lines, settings.pixels), np.nan, np.float32), self.direction
        request = scan.request
        assert isinstance(request, ScanRequest)
        _check_recorded(channel, request.channels)
        measured = scan.partial()
        values = measured[recorded_name(channel, "forward" if forward else "backward")].values
        if request.heights is not None:
            values = values[_layer_in_progress(request, measured.metadata["traces_done"])]
        lines = values[::-1] if request.slow_direction == "down" else values
        return (lines if forward else lines[:, ::-1]), request.slow_direction

    # ------------------------------------------------------------------ inside

    def _begin(self, *, patient: bool = False) -> Acquisition:
        feedback = self._operator.state().feedback
        z_mode = CONSTANT_HEIGHT if feedback == FEEDBACK_OFF else feedback
        settings = self._settings.of(ScanSettings)
        self._latest = self._operator.acquire(settings.request(self.direction, z_mode), patient=patient)
        return self._latest

    def _follow(self, task: Task, frame: Acquisition) -> None:
        """Stay with the scan to its end; in a continuous scan, begin the next."""
        while True:
            task.follow({"id": frame.id})
            settings = self._settings.of(ScanSettings)
            # Nobody is there any more who could stop it.
            if not settings.continuous or not self._operator.holds_lease:
                return
            task.check()
            if settings.bouncy:
                self.direction = _OTHER[self.direction]
            frame = self._begin()

    def _job(self) -> Any:
        job = self._operator.job_in_progress()
        return job if job is not None and job["verb"] == ScanRequest.kind else None

    def _direct(self, verb: str) -> None:
        job = self._job()
        if job is not None:
            self._operator.command(verb, id=job["id"])
        elif verb != "abort":
            raise InvalidRequestError(f"there is no scan to {verb}: start one")


def _check_recorded(channel: str, recorded: tuple[str, ...]) -> None:
    if channel not in recorded:
        raise UnknownChannelError(
            f"{channel} is not recorded by the scan: it records {', '.join(recorded)}; choose the channels with"
            " Scan.BufferSet",
            name=channel,
        )


def _layer_in_progress(request: ScanRequest, traces: int) -> int:
    """Return which image of a stack is measured, or was last, when so many traces are there."""
    return min(traces // (request.trace_count // request.layers), request.layers - 1)
