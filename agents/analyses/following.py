"""The same analysis while a scan runs: after every line of windows."""

from collections.abc import Iterator

import numpy as np

from twinscope.acquisition import Acquisition
from twinscope.agents.analyses.fft_nmf import Components, Factors, analyse, apply
from twinscope.agents.analyses.recipes import ROBUST, Recipe
from twinscope.agents.analyses.windows import window_starts
from twinscope.errors import InvalidRequestError
from twinscope.requests import ScanRequest


def follow(
    acquisition: Acquisition, channel: str, recipe: Recipe = ROBUST, factors: Factors | None = None
) -> Iterator[Components]:
    """Analyse what a running scan has measured, as often as a further line of windows is complete.

    Parameters
    ----------
    acquisition
        A scan in its first direction, at one height.
    channel
        Which is looked at.
    recipe
        How; that of the factors where these are given.
    factors
        Of another image: then `novelty` says where this one is unlike it. They are found anew each time unless given.

    Yields
    ------
    Components
        Of the whole frame, NaN where nothing is measured yet.

    Raises
    ------
    InvalidRequestError
        When it is no scan, the channel is not recorded, the frame is smaller than a window, or has fewer windows
        than components.
    """
    request = acquisition.request
    if not isinstance(request, ScanRequest) or channel not in request.channels:
        raise InvalidRequestError(
            f"the acquisition records {', '.join(request.channels)}: expected a scan with {channel!r}", name="channel"
        )
    recipe = recipe if factors is None else factors.recipe
    columns, rows = request.pixels
    for length in (columns, rows):
        window_starts(length, recipe)
    image = np.full((rows, columns), np.nan)
    complete = 0
    for line in acquisition.lines():
        assert line.address is not None
        if line.address.direction != request.directions[0] or line.address.layer:
            continue
        image[line.address.row] = line.values[channel]
        known = np.isfinite(image).all(axis=1)
        whole = sum(bool(known[start : start + recipe.window].all()) for start in window_starts(rows, recipe))
        if whole == complete:
            continue
        complete = whole
        if factors is not None:
            yield apply(image, factors)
        elif whole * len(window_starts(columns, recipe)) >= (recipe.components or 1):
            yield analyse(image, recipe)
