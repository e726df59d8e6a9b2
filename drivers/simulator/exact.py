"""Measuring with a perfect microscope at given heights: what the kernels say, and nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from twinscope.drivers.common.motion import Motion, Speeds, motion_of
from twinscope.drivers.simulator.imaging import CONVERGED, FREQUENCY_SHIFT, Imaging
from twinscope.requests import CONSTANT_HEIGHT, AcquisitionRequest, PathRequest, ScanRequest, SpectroscopyRequest

# Positions measured together: one tile of the kernels.
_BLOCK = 4096


@dataclass(frozen=True)
class Measured:
    """One trace (channels, n), the motion of the tip, and how many of the values did not converge."""

    trace: np.ndarray
    motion: Motion
    unconverged: int


def is_exact(request: AcquisitionRequest) -> bool:
    """Whether a request can be carried out here: at given heights, with one bias."""
    if isinstance(request, SpectroscopyRequest):
        return request.swept == "z"
    return request.z_mode == CONSTANT_HEIGHT


def exact_traces(request: AcquisitionRequest, imaging: Imaging, height: float, speeds: Speeds) -> Iterator[Measured]:
    """Yield the traces of an acquisition in their order.

    Parameters
    ----------
    request
        What is acquired.
    imaging
        What the tip sees.
    height
        Present height of the tip, in m.
    speeds
        With which the tip moves between traces.
    """
    if isinstance(request, ScanRequest):
        return _scan_traces(request, imaging, height, speeds)
    if isinstance(request, PathRequest):
        return _path_traces(request, imaging, height, speeds)
    return _spectroscopy_traces(request, imaging, speeds)


def _path_traces(request: PathRequest, imaging: Imaging, height: float, speeds: Speeds) -> Iterator[Measured]:
    level = height if request.height is None else request.height
    channels = (*request.channels, CONVERGED.name)
    positions = np.array(request.positions)
    values = imaging.measure(positions, np.array([level]), channels)[:, 0]
    for index in range(request.trace_count):
        trace = np.repeat(values[:, index : index + 1], request.passes, axis=1) if request.separate else values
        motion = motion_of(request, index, level, speeds)
        yield _measured(trace, motion)


def _scan_traces(request: ScanRequest, imaging: Imaging, height: float, speeds: Speeds) -> Iterator[Measured]:
    """Yield the traces of a scan.

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
        yield _measured(values, motion_of(request, index, height, speeds))


def _spectroscopy_traces(request: SpectroscopyRequest, imaging: Imaging, speeds: Speeds) -> Iterator[Measured]:
    heights = request.sweep.values()
    channels = (*request.channels, CONVERGED.name)
    positions = np.array(request.positions)
    for start in range(0, len(positions), _BLOCK):
        some = positions[start : start + _BLOCK]
        values = imaging.measure(some, heights, channels)
        for i in range(len(some)):
            yield _measured(values[:, :, i], motion_of(request, start + i, heights[0], speeds))


def _measured(values: np.ndarray, motion: Motion) -> Measured:
    """Take the last channel, which is whether the probe has converged, off a trace."""
    return Measured(values[:-1], motion, int((values[-1] == 0).sum()))


def add_noise(trace: np.ndarray, channels: tuple[str, ...], noise: float, seed: tuple[int, ...]) -> np.ndarray:
    """Add white noise (Hz) to the frequency shift of a trace (channels, samples), as the seed says."""
    if noise == 0 or FREQUENCY_SHIFT.name not in channels:
        return trace
    noisy = trace.copy()
    row = channels.index(FREQUENCY_SHIFT.name)
    noisy[row] += np.random.default_rng(seed).normal(scale=noise, size=trace.shape[1])
    return noisy
