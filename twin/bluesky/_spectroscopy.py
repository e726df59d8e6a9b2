"""Spectra as a detector: small arrays, which stand in the events themselves."""

from dataclasses import replace
from typing import Any

import numpy as np
from bluesky.protocols import Reading
from event_model import DataKey

from twinscope.bluesky import _documents
from twinscope.bluesky._detector import SpmDetector
from twinscope.requests import SpectroscopyRequest
from twinscope.results import axes_of
from twinscope.state import Position


class SpmSpectroscopy(SpmDetector[SpectroscopyRequest]):
    """Spectra with each trigger; the parameters are those of :class:`SpmDetector`.

    Each event has the recordings, with axes (position, height) or (position, voltage), the values of that last axis,
    and x and y of the positions. With ``follow=True`` and the one position (0, 0), a spectrum is taken at the tip.
    """

    _request_type = SpectroscopyRequest

    async def describe(self) -> dict[str, DataKey]:
        """Describe what :meth:`read` returns."""
        swept = axes_of(self.request)[-1]
        count = len(self.request.positions)
        others = {swept.name: (swept.unit, len(swept.values)), "x": ("m", count), "y": ("m", count)}
        axes = {
            f"{self.name}-{name}": DataKey(
                source=self._source, dtype="array", dtype_numpy="<f8", shape=[length], units=unit
            )
            for name, (unit, length) in others.items()
        }
        recordings = _documents.described_recordings(self.name, self._source, self.request, self.link.capabilities)
        return await super().describe() | axes | recordings

    async def read(self) -> dict[str, Reading[Any]]:
        """Return the last spectra.

        Raises
        ------
        InvalidRequestError
            When there are none.
        """
        outcome = self._outcome()
        request = outcome.acquisition.request
        assert isinstance(request, SpectroscopyRequest)
        swept = axes_of(request)[-1]
        x, y = np.array(request.positions).T
        arrays = {swept.name: swept.values, "x": x, "y": y}
        arrays |= {name: data.values for name, data in outcome.measurement.items()}
        # Lists: not every consumer stores arrays of two dimensions.
        readings = {
            f"{self.name}-{name}": Reading(value=values.tolist(), timestamp=outcome.ended)
            for name, values in arrays.items()
        }
        return await super().read() | readings

    def _moved(self, request: SpectroscopyRequest, place: Position) -> SpectroscopyRequest:
        return replace(request, positions=tuple((place.x + x, place.y + y) for x, y in request.positions))
