"""A simulated acquisition under way: what is measured next, and with how much noise."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from twinscope.drivers.simulator.imaging import CONVERGED, FREQUENCY_SHIFT, Imaging
from twinscope.requests import ScanRequest, SpectroscopyRequest

# Positions measured together: one tile of the kernels.
_BLOCK = 4096


@dataclass(frozen=True)
class Measured:
    """One trace, how long it took, where the tip was at its end, and how many of its values did not converge."""

    trace: np.ndarray
    duration: float
    end: tuple[float, float, float]
    unconverged: int


def scan_traces(request: ScanRequest, imaging: Imaging, height: float) -> Iterator[Measured]:
    """Yield the traces of a scan in their order.

    The whole approach over a block of rows is simulated when the first of its lines is due, for all layers at once:
    the layers below come for free.
    """
    nx, ny = request.pixels
    heights = np.array([height] if request.heights is None else request.heights)
    channels = (*request.channels, CONVERGED.name)
    rows_per_block = max(1, _BLOCK // nx)
    blocks: dict[int, np.ndarray] = {}

    for index in range(request.trace_count):
        address = request.address(index)
        block, row = divmod(address.row, rows_per_block)
        if block not in blocks:
            rows = range(block * rows_per_block, min(ny, (block + 1) * rows_per_block))
            positions = np.concatenate([np.stack(request.row_positions(r), axis=-1) for r in rows])
            measured = imaging.measure(positions, heights, channels)
            blocks[block] = measured.reshape(len(channels), len(heights), len(rows), nx)
        values = blocks[block][:, address.layer, row]
        x, y = request.row_positions(address.row)
        last = -1 if address.direction == "forward" else 0
        end = (float(x[last]), float(y[last]), float(heights[address.layer]))
        yield Measured(values[:-1], request.line_time, end, int((values[-1] == 0).sum()))


def spectroscopy_traces(request: SpectroscopyRequest, imaging: Imaging) -> Iterator[Measured]:
    """Yield the spectra in their order."""
    heights = request.sweep.values()
    channels = (*request.channels, CONVERGED.name)
    positions = np.array(request.positions)
    for start in range(0, len(positions), _BLOCK):
        some = positions[start : start + _BLOCK]
        values = imaging.measure(some, heights, channels)
        for i, (x, y) in enumerate(some):
            end = (float(x), float(y), float(heights[-1]))
            duration = request.point_time * request.trace_length
            yield Measured(values[:-1, :, i], duration, end, int((values[-1, :, i] == 0).sum()))


def add_noise(trace: np.ndarray, channels: tuple[str, ...], noise: float, seed: tuple[int, ...]) -> np.ndarray:
    """Add white noise (Hz) to the frequency shift of a trace (channels, samples), as the seed says."""
    if noise == 0 or FREQUENCY_SHIFT.name not in channels:
        return trace
    noisy = trace.copy()
    row = channels.index(FREQUENCY_SHIFT.name)
    noisy[row] += np.random.default_rng(seed).normal(scale=noise, size=trace.shape[1])
    return noisy
