"""Which rows of the buffer of a scan are new: a controller may keep those of the scan before until new ones come."""

import numpy as np


class FrameRows:
    """Watches the buffer of one channel and direction.

    Parameters
    ----------
    before
        What was in it before the scan, of any shape.
    pixels
        Pixels per line, and lines.
    """

    def __init__(self, before: np.ndarray, pixels: tuple[int, int]) -> None:
        shape = (pixels[1], pixels[0])
        self._before = before if before.shape == shape else np.full(shape, np.nan, np.float32)
        self._rows = self._before
        self._cleared: np.ndarray = np.asarray(np.isnan(self._before).any(axis=1))

    def look(self, rows: np.ndarray) -> None:
        """Take what is in the buffer now, (lines, pixels)."""
        self._rows = rows
        self._cleared |= np.isnan(rows).any(axis=1)

    @property
    def is_full(self) -> bool:
        """Whether no value is missing."""
        return not np.isnan(self._rows).any()

    @property
    def last_begun(self) -> int:
        """Number of the last row in which something is new; -1 when there is none."""
        finite = np.isfinite(self._rows)
        same = (self._rows == self._before) | ~finite
        begun = np.flatnonzero(np.where(self._cleared, finite.any(axis=1), ~same.all(axis=1)))
        return int(begun[-1]) if begun.size else -1

    def complete(self) -> int:
        """Return how many rows from the first are new as a whole: the last one that was begun may not be."""
        last = self.last_begun
        whole = last >= 0 and self._cleared[last] and bool(np.isfinite(self._rows[last]).all())
        return last + 1 if whole else max(last, 0)
