"""What scans and spectra have in common as detectors."""

import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from typing import Any, Generic

from bluesky.protocols import Preparable, Reading, Triggerable
from event_model import DataKey
from ophyd_async.core import AsyncPausable, AsyncStatus, WatchableAsyncStatus, WatcherUpdate, make_datakey

from twinscope import _checks
from twinscope.bluesky import _documents
from twinscope.bluesky._device import SpmDevice
from twinscope.bluesky._frame import STAY, WITHDRAW, Frame, Outcome, RequestT
from twinscope.bluesky._link import SpmLink
from twinscope.errors import InvalidRequestError, LeaseError
from twinscope.state import Position


class SpmDetector(SpmDevice, Triggerable, Preparable, AsyncPausable, Generic[RequestT]):
    """A detector of which each trigger is one acquisition.

    A trigger needs the device to be staged, as only ``unstage()`` ends well what a plan has left in progress. When the
    RunEngine pauses, the acquisition pauses, and goes on with it. One that is still in progress when the device is
    unstaged, because the plan was stopped, was aborted or has failed, is aborted.

    Parameters
    ----------
    link
        The way to the instrument.
    request
        What a trigger asks for.
    follow
        Whether positions in the request count from where the stage has been told to be; the tip goes back there after
        each acquisition. Otherwise they are those of the sample.
    on_abort
        What becomes of the tip when an acquisition is given up: "withdraw", or "stay" where it is.
    on_lease_loss
        What becomes of an acquisition when this process dies: "continue", "pause" or "abort_and_withdraw".
    name
        Of the device, in documents.

    Attributes
    ----------
    request
        What the next trigger asks for; see :meth:`prepare`.

    Raises
    ------
    InvalidRequestError, OutOfRangeError, UnknownChannelError
        When the instrument cannot do it.
    """

    _request_type: type[RequestT]

    def __init__(
        self,
        link: SpmLink,
        request: RequestT,
        *,
        follow: bool = False,
        on_abort: str = WITHDRAW,
        on_lease_loss: str = "abort_and_withdraw",
        name: str = "",
    ) -> None:
        super().__init__(link, name)
        self._follow = _checks.flag("follow", follow)
        self._on_abort = _checks.choice("on_abort", on_abort, (WITHDRAW, STAY))
        self._on_lease_loss = on_lease_loss
        self._frame: Frame[RequestT] | None = None
        self._adopt(request)

    # ------------------------------------------------------------------ preparing

    @AsyncStatus.wrap
    async def prepare(self, value: RequestT | Mapping[str, Any]) -> None:
        """Change what a trigger asks for: to another request, or in the fields that are given.

        What changes the shape of the data belongs between two runs: the documents of a run tell it once.

        Raises
        ------
        InvalidRequestError, OutOfRangeError, UnknownChannelError
            When the instrument cannot do it; nothing is changed then.
        """
        if isinstance(value, Mapping):
            value = self._request_type.from_dict(self.request.to_dict() | dict(value))
        self._adopt(value)

    def _adopt(self, request: object) -> None:
        if not isinstance(request, self._request_type):
            raise InvalidRequestError(f"the request is {request!r}: expected a {self._request_type.__name__}")
        if self._follow:
            # Where the stage will be, nobody knows yet.
            for channel in request.channels:
                self.link.capabilities.channel(channel)
        else:
            self.link.capabilities.check_request(request)
        self.request: RequestT = request
        self._prepared = time.time()

    def _begin_work(self) -> None:
        self._frame = None

    async def _end_work(self) -> None:
        frame, self._frame = self._frame, None
        if frame is not None:
            await frame.give_up()

    # ------------------------------------------------------------------ acquiring

    @WatchableAsyncStatus.wrap
    async def trigger(self) -> AsyncIterator[WatcherUpdate[int]]:
        """Begin an acquisition as soon as the instrument is free; done when it is complete.

        After a pause, it means the acquisition that is in progress, unless something was set since.

        Raises
        ------
        LeaseError
            When the device is not staged.
        TwinscopeError
            What went wrong with it.
        """
        if not self.is_held:
            raise LeaseError(
                f"{self.name} is {'connected as a mock' if self.is_mock else 'not staged'}: it takes data only while it"
                " is staged, see bluesky.preprocessors.stage_decorator"
            )
        if self._frame is None or not self._frame.rejoin(self.request):
            self._frame = Frame(
                self.link,
                self.request,
                self._moved if self._follow else None,
                on_abort=self._on_abort,
                on_lease_loss=self._on_lease_loss,
            )
        async for update in self._frame.updates(self.name):
            yield update

    async def pause(self) -> None:
        """Let the acquisition in progress rest after its line; the tip stays where it is."""
        if self._frame is not None:
            await self._frame.pause()

    async def resume(self) -> None:
        """Let it go on."""
        if self._frame is not None:
            await self._frame.resume()

    @abstractmethod
    def _moved(self, request: RequestT, place: Position) -> RequestT:
        """Return the request with its positions counted from a place."""

    # ------------------------------------------------------------------ documents

    async def describe_configuration(self) -> dict[str, DataKey]:
        """Describe the parameters of the request."""
        return _documents.described_configuration(self.name, self._source, self.request, self.link.capabilities)

    async def read_configuration(self) -> dict[str, Reading[Any]]:
        """Return the parameters of the request."""
        return _documents.read_configuration(self.name, self.request, self._prepared)

    async def describe(self) -> dict[str, DataKey]:
        """Describe what :meth:`read` returns, and what is in the file."""
        return {f"{self.name}-acquisition": make_datakey(str, "", self._source, {})}

    async def read(self) -> dict[str, Reading[Any]]:
        """Return the id of the last acquisition, by which the server knows it.

        Raises
        ------
        InvalidRequestError
            When there is none.
        """
        outcome = self._outcome()
        return {f"{self.name}-acquisition": Reading(value=outcome.acquisition.id, timestamp=outcome.ended)}

    def _outcome(self) -> Outcome:
        outcome = None if self._frame is None else self._frame.outcome
        if outcome is None:
            raise InvalidRequestError(f"{self.name} has nothing to read: trigger it first, and wait for it")
        return outcome

    @property
    def _source(self) -> str:
        return f"twinscope://{self.link.capabilities.driver}/{self._request_type.kind}"
