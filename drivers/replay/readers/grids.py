"""Grids of positions, and the frames that they fill."""

import numpy as np

from twinscope.requests import ScanFrame


def frame_of(positions: np.ndarray, pixels: tuple[int, int]) -> ScanFrame | None:
    """Return the frame of which positions are the middles of the cells; None when they are no such grid, or not all.

    Parameters
    ----------
    positions
        Shape (positions, 2), in m, row by row from the bottom left.
    pixels
        How many there are in a row, and how many rows.
    """
    nx, ny = pixels
    if nx < 2 or ny < 2 or len(positions) != nx * ny:
        return None
    grid = positions.reshape(ny, nx, 2)
    along = (grid[0, -1] - grid[0, 0]) / (nx - 1)
    across = (grid[-1, 0] - grid[0, 0]) / (ny - 1)
    size = float(np.hypot(*along) * nx), float(np.hypot(*across) * ny)
    if not all(size):
        return None
    center = grid[[0, -1], [0, -1]].mean(axis=0)
    angle = float(np.degrees(np.arctan2(along[1], along[0])))
    frame = ScanFrame(size=size, center=(float(center[0]), float(center[1])), angle=angle)
    off = np.abs(np.array(frame.grid(pixels)) - positions).max()
    # A piezo that missed a position by half a cell has left the grid.
    return frame if off < 0.5 * min(size[0] / nx, size[1] / ny) else None
