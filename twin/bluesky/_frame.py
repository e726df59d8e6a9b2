"""One acquisition of a detector, from its trigger to its end."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ophyd_async.core import WatcherUpdate

from twinscope.acquisition import Acquisition, Progress
from twinscope.bluesky._link import SpmLink, position_in
from twinscope.errors import InvalidRequestError, LeaseError
from twinscope.requests import ScanRequest, SpectroscopyRequest
from twinscope.results import Measurement
from twinscope.state import Position

log = logging.getLogger(__name__)

RequestT = TypeVar("RequestT", ScanRequest, SpectroscopyRequest)

# How often it is looked how far the acquisition is, in s.
_INTERVAL = 0.2
WITHDRAW, STAY = "withdraw", "stay"
"""What becomes of the tip when an acquisition is given up."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What has become of a frame that was completed.

    Attributes
    ----------
    acquisition, measurement
        The handle of it, and its data.
    ended
        When it was complete, in s since 1970.
    """

    acquisition: Acquisition
    measurement: Measurement
    ended: float


class Frame(Generic[RequestT]):
    """An acquisition that is begun as soon as the instrument is free.

    Parameters
    ----------
    link
        The way to the instrument.
    request
        What is to be measured.
    moved
        Makes of it what is to be measured when its positions count from where the stage has been told to be; the tip
        goes back there afterwards. None: they are those of the sample.
    on_abort
        What becomes of the tip when it is given up: "withdraw" or "stay".
    on_lease_loss
        As for :meth:`Microscope.acquire`.

    Attributes
    ----------
    outcome
        None until it is complete.
    """

    def __init__(
        self,
        link: SpmLink,
        request: RequestT,
        moved: Callable[[RequestT, Position], RequestT] | None,
        *,
        on_abort: str,
        on_lease_loss: str,
    ) -> None:
        self.outcome: Outcome | None = None
        self._link = link
        self._request: RequestT = request
        self._targets = dict(link.targets)
        self._acquisition: Acquisition | None = None
        self._moved: Callable[[RequestT, Position], RequestT] | None = moved
        self._on_abort = on_abort
        self._on_lease_loss = on_lease_loss
        self._progress: Progress | None = None
        self._is_begun = False
        self._is_interrupted = False
        self._is_given_up = False
        self._may_go = asyncio.Event()
        self._may_go.set()
        self._task = asyncio.create_task(self._run())

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens."""
        return self._task.done()

    def rejoin(self, request: RequestT) -> bool:
        """Tell whether a trigger means this frame: it is in progress, or ended in a pause, and all is set as it was.

        After a pause, a RunEngine triggers once more what it has triggered since the last checkpoint.
        """
        is_wanted = self._is_interrupted or not self.is_over
        has_failed = self.is_over and self.outcome is None
        self._is_interrupted = False
        is_same = self._request == request and self._targets == self._link.targets
        return is_wanted and is_same and not has_failed

    async def updates(self, name: str) -> AsyncIterator[WatcherUpdate[int]]:
        """Tell how far it is until it is over, and then raise what went wrong; one that was given up just ends."""
        while not self.is_over:
            if self._progress is not None:
                yield _update(name, self._progress)
            await asyncio.wait([self._task], timeout=_INTERVAL)
        if not self._is_given_up:
            self._task.result()
            assert self._progress is not None
            yield _update(name, self._progress)

    async def pause(self) -> None:
        """Let it rest after the line in progress, or not begin yet."""
        if not self.is_over:
            self._is_interrupted = True
            self._may_go.clear()
            await self._direct()

    async def resume(self) -> None:
        """Let it go on."""
        if not self._may_go.is_set():
            self._may_go.set()
            await self._direct()

    async def give_up(self) -> None:
        """Abort it, and return when the tip is where it is to be then.

        Raises
        ------
        TwinscopeError
            When that cannot be done.
        """
        if self.is_over:
            return
        self._is_given_up = True
        self._may_go.set()
        if not self._is_begun:
            self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            error = self._task.exception()
            if isinstance(error, LeaseError):
                # Without control, what becomes of it is what `on_lease_loss` says.
                log.warning("the acquisition could not be aborted: %s", error)
            elif error is not None:
                raise error

    # ------------------------------------------------------------------ inside

    async def _run(self) -> None:
        async with self._link.turn():
            self._link.acquiring = True
            try:
                await self._may_go.wait()
                self._is_begun = True
                await self._measure()
            finally:
                self._link.acquiring = False

    async def _measure(self) -> None:
        link = self._link
        place = await link.place()
        request = self._request if self._moved is None else self._moved(self._request, place)
        acquisition = await link.call(link.microscope.acquire, request, on_lease_loss=self._on_lease_loss)
        self._acquisition = acquisition
        if not self._may_go.is_set():
            await self._direct()
        while not (self._is_given_up or await link.call(acquisition.wait, _INTERVAL)):
            self._progress = await link.call(acquisition.progress)
        self._progress = await link.call(acquisition.progress)
        if self._is_given_up:
            await self._abort(acquisition)
            return
        measurement = await link.call(acquisition.result)
        ended = time.time()
        if self._moved is not None:
            await self._return_to(place)
        self.outcome = Outcome(acquisition, measurement, ended)

    async def _abort(self, acquisition: Acquisition) -> None:
        if self._progress is not None and self._progress.state.is_final:
            return
        log.info("%s is given up, the tip: %s", acquisition.id, self._on_abort)
        if self._on_abort == WITHDRAW:
            await self._link.call(self._link.microscope.withdraw)
        else:
            await self._link.call(acquisition.abort)

    async def _return_to(self, place: Position) -> None:
        position = position_in(await self._link.state())
        if (position.x, position.y) != (place.x, place.y):
            await self._link.call(self._link.microscope.move_to, place.x, place.y)

    async def _direct(self) -> None:
        """Tell the instrument whether to pause or to go on; one that is over just now is none of both."""
        if self._acquisition is None:
            return
        order = self._acquisition.resume if self._may_go.is_set() else self._acquisition.pause
        try:
            await self._link.call(order)
        except InvalidRequestError as exc:
            log.debug("too late: %s", exc)


def _update(name: str, progress: Progress) -> WatcherUpdate[int]:
    return WatcherUpdate(
        current=progress.done,
        initial=0,
        target=progress.total,
        name=name,
        unit="lines",
        precision=0,
        fraction=progress.done / progress.total,
        time_elapsed=progress.elapsed,
        time_remaining=progress.remaining,
    )
