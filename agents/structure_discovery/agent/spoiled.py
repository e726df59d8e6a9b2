"""Lines that went wrong while they were measured: glitches of the tip, and values that are none."""

from collections.abc import Iterator

import numpy as np

# A line is spoiled when it differs from both neighbours this many times more than they do from each other,
_FROM_EACH_OTHER = 3.0
# and this many times more than all but a few lines of the image do from their neighbours: noise, and real edges.
_FROM_USUAL, _USUAL = 3.0, 80.0


def spoiled_lines(lines: np.ndarray) -> np.ndarray:
    """Say which lines of an image ought to be measured again.

    Neighbouring lines are nearer to each other than an atom is wide: what only one of them shows is not of the sample.
    The first and the last line have one neighbour, and are only spoiled by values that are not finite.

    Parameters
    ----------
    lines
        Shape (n, nx), in any unit.

    Returns
    -------
    numpy.ndarray
        Of bool, shape (n,).
    """
    spoiled: np.ndarray = ~np.isfinite(lines).all(axis=1)
    apart = _difference(lines[1:], lines[:-1])
    known = apart[np.isfinite(apart)]
    if len(lines) < 3 or not len(known):
        return spoiled
    beyond = _FROM_EACH_OTHER * _difference(lines[2:], lines[:-2])
    beyond = np.maximum(beyond, _FROM_USUAL * np.percentile(known, _USUAL))
    # Comparisons with NaN are false: beside a line that is not known nothing can be said.
    spoiled[1:-1] |= np.minimum(apart[1:], apart[:-1]) > beyond
    return spoiled


def runs(chosen: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield the first and the one after the last of each run of true values (n,)."""
    numbers = np.flatnonzero(chosen)
    for run in np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1):
        if len(run):
            yield int(run[0]), int(run[-1]) + 1


def _difference(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Root of the mean squared difference of lines (n, nx): shape (n,)."""
    return np.asarray(np.sqrt(np.mean((some - others) ** 2, axis=1)))
