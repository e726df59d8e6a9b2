"""Images as a detector: each trigger is one frame, in a file that the documents point at."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from bluesky.protocols import Reading, StreamAsset, WritesStreamAssets
from event_model import DataKey

from twinscope.bluesky import _documents
from twinscope.bluesky._detector import SpmDetector
from twinscope.bluesky._frame import Outcome
from twinscope.requests import ScanRequest
from twinscope.state import Position


class SpmScan(SpmDetector[ScanRequest], WritesStreamAssets):
    """An image, or a stack of them, with each trigger; the parameters are those of :class:`SpmDetector`.

    The data stay in the file of the acquisition. Each event has one ``stream_datum`` per recording, and each file its
    ``stream_resource``: the datum is the whole dataset that ``parameters["dataset"]`` names, with axes (y, x) or
    (height, y, x). The event itself has the acquisition's id and the centre of the frame.
    """

    _request_type = ScanRequest
    # How many frames were reported since it was staged, and the last of them.
    _count = 0
    _reported: Outcome | None = None

    def _begin_work(self) -> None:
        super()._begin_work()
        self._count = 0
        self._reported = None

    async def describe(self) -> dict[str, DataKey]:
        """Describe what :meth:`read` returns, and what is in the file."""
        center = {
            f"{self.name}-center_{axis}": DataKey(
                source=self._source, dtype="number", dtype_numpy="<f8", shape=[], units="m"
            )
            for axis in ("x", "y")
        }
        recordings = _documents.described_recordings(self.name, self._source, self.request, self.link.capabilities)
        for key in recordings.values():
            key["external"] = "STREAM:"
        return await super().describe() | center | recordings

    async def read(self) -> dict[str, Reading[Any]]:
        """Return the id of the last acquisition and the centre of its frame.

        Raises
        ------
        InvalidRequestError
            When there is none.
        """
        outcome = self._outcome()
        request = outcome.acquisition.request
        assert isinstance(request, ScanRequest)
        center = {
            f"{self.name}-center_{axis}": Reading(value=value, timestamp=outcome.ended)
            for axis, value in zip(("x", "y"), request.frame.center, strict=True)
        }
        return await super().read() | center

    async def collect_asset_docs(self, index: int | None = None) -> AsyncIterator[StreamAsset]:
        """Yield the documents of the last frame, once."""
        del index
        outcome = self._outcome()
        if outcome is self._reported:
            return
        self._reported = outcome
        self._count += 1
        for document in _documents.stream_documents(
            self.name, outcome.acquisition, self._count - 1, self.link.root_map
        ):
            yield document

    async def get_index(self) -> int:
        """Return how many frames were reported since the device was staged."""
        return self._count

    def _moved(self, request: ScanRequest, place: Position) -> ScanRequest:
        x, y = request.frame.center
        return replace(request, frame=replace(request.frame, center=(place.x + x, place.y + y)))
