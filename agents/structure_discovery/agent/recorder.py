"""A stack that grows while it is measured, in whatever order."""

import numpy as np

from twinscope.agents.structure_discovery.agent.operator import Place
from twinscope.agents.structure_discovery.stack import ImageStack, StackGrid
from twinscope.errors import InvalidRequestError
from twinscope.kernels import Cantilever

# So many pixels at either end of a line show the surface beside the molecule.
_BORDER = 4
# A line that is not there after so many tries is given up.
_MOST_TRIES = 2


class Recorder:
    """Slices of one molecule on the grid of a network, NaN where nothing was measured.

    Parameters
    ----------
    grid
        Of the network.
    x, y
        Å on the sample: the middle of the frame.
    lowest
        Å: height of the lowest slice.
    cantilever
        What measures.
    tip
        What is at its end.
    """

    def __init__(self, grid: StackGrid, x: float, y: float, lowest: float, cantilever: Cantilever, tip: str) -> None:
        self.grid = grid
        self.x, self.y = x, y
        self.lowest = lowest
        self.tip = tip
        self._cantilever = cantilever
        self._values = np.full((grid.slices, grid.pixels, grid.pixels), np.nan, np.float32)
        self._tries = np.zeros((grid.slices, grid.pixels), int)

    @property
    def heights(self) -> np.ndarray:
        """Of the slices, in Å, from far to near."""
        return self.lowest + self.grid.spacing * np.arange(self.grid.slices - 1, -1, -1)

    @property
    def measured(self) -> np.ndarray:
        """Which lines were measured, shape (nz, ny)."""
        return np.asarray(np.isfinite(self._values).all(axis=-1))

    @property
    def missing(self) -> np.ndarray:
        """Which lines can still be measured, shape (nz, ny): not those that were tried in vain."""
        return np.asarray(~self.measured & (self._tries < _MOST_TRIES))

    @property
    def empty(self) -> bool:
        """Whether nothing was measured yet."""
        return not self.measured.any()

    def place(self, rows: tuple[int, int]) -> Place:
        """Return the part of the frame with the rows from the first to below the second."""
        first, end = rows
        if not 0 <= first < end <= self.grid.pixels:
            raise InvalidRequestError(f"rows {rows} of {self.grid.pixels}: expected a first one and an end above it")
        pitch = self.grid.pitch
        middle = ((first + end) / 2 - self.grid.pixels / 2) * pitch
        width, height = self.grid.pixels * pitch, (end - first) * pitch
        return Place(self.x, self.y + middle, width, height, (self.grid.pixels, end - first))

    def put(self, layer: int, row: int, line: np.ndarray) -> None:
        """Keep a line (nx,) of a slice, in Hz."""
        self._values[layer, row] = line
        self._tries[layer, row] += 1

    def lines(self, layer: int, rows: tuple[int, int]) -> np.ndarray:
        """Return some lines of a slice as they were measured, in Hz, shape (n, nx)."""
        return self._values[layer, slice(*rows)].copy()

    def shift(self, slices: int) -> None:
        """Call the lowest slice one that is `slices` lower, or higher when negative; what falls off is forgotten."""
        moved, tries = np.full_like(self._values, np.nan), np.zeros_like(self._tries)
        there, here = (slice(slices, None), slice(-slices)) if slices > 0 else (slice(slices), slice(-slices, None))
        if slices:
            moved[here], tries[here] = self._values[there], self._tries[there]
            self._values, self._tries = moved, tries
        self.lowest -= slices * self.grid.spacing

    def stack(self) -> ImageStack:
        """Return what was measured up to now, in coordinates about the middle of the frame.

        The frequency shift of the surface beside the molecule is taken off every slice: that of the metal and of the
        body of the tip, which networks do not know.

        Raises
        ------
        InvalidRequestError
            When nothing was measured.
        """
        beside = np.concatenate([self._values[..., :_BORDER], self._values[..., -_BORDER:]], axis=-1)
        known = np.isfinite(beside).any(axis=(1, 2))
        surface = np.array([np.nanmedian(one) if any_ else 0.0 for one, any_ in zip(beside, known, strict=True)])
        axis = self.grid.axis()
        return ImageStack(
            self._values - surface[:, None, None].astype(np.float32),
            axis,
            axis,
            self.heights,
            self._cantilever,
            self.tip,
            notes=("the frequency shift beside the molecule was taken off every slice",),
        )
