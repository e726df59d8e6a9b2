"""Where the tip is sent during an acquisition, in the order of time."""

from dataclasses import dataclass

import numpy as np

from twinscope.requests import CONSTANT_HEIGHT, AcquisitionRequest, PathRequest, ScanRequest


@dataclass(frozen=True)
class Motion:
    """What the tip is told to do during one trace.

    Attributes
    ----------
    x, y
        On the sample, in m, in the order of time, shape (n,).
    z
        Height in m, shape (n,); None when the z-controller decides.
    bias
        V, shape (n,); None for the present one.
    interval
        Seconds per sample.
    backward
        Whether the samples are recorded in the order opposite to that of time.
    lead
        Seconds before the first sample, on the way from the last trace.
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray | None
    bias: np.ndarray | None
    interval: float
    backward: bool = False
    lead: float = 0.0

    @property
    def duration(self) -> float:
        """Seconds from the end of the last trace to the end of this one."""
        return self.lead + self.interval * len(self.x)

    def recorded(self, values: np.ndarray) -> np.ndarray:
        """Bring values (..., n) from the order of time into that of recording."""
        return values[..., ::-1] if self.backward else values


def motion_of(request: AcquisitionRequest, trace: int, height: float, lift_speed: float) -> Motion:
    """Return what the tip is told during a trace.

    Parameters
    ----------
    request
        What is acquired.
    trace
        Number of the trace.
    height
        Present height of the tip, in m, for requests that do not give one.
    lift_speed
        Speed with which the tip is lifted between separate points, in m/s.
    """
    if isinstance(request, ScanRequest):
        return _scan_motion(request, trace, height)
    if isinstance(request, PathRequest):
        return _path_motion(request, trace, height, lift_speed)
    count = request.trace_length
    x, y = (np.full(count, value) for value in request.positions[trace])
    swept = request.sweep.values()
    if request.swept == "z":
        return Motion(x, y, swept, None, request.point_time)
    fixed = height if request.height is None else request.height
    return Motion(x, y, np.full(count, fixed), swept, request.point_time)


def _scan_motion(request: ScanRequest, trace: int, height: float) -> Motion:
    address = request.address(trace)
    x, y = request.row_positions(address.row)
    backward = address.direction == "backward"
    if backward:
        x, y = x[::-1], y[::-1]
    level = height if request.heights is None else request.heights[address.layer]
    z = np.full_like(x, level) if request.z_mode == CONSTANT_HEIGHT else None
    return Motion(x, y, z, None, request.line_time / len(x), backward)


def _path_motion(request: PathRequest, trace: int, height: float, lift_speed: float) -> Motion:
    points = np.array(request.positions)
    if request.separate:
        points = np.repeat(points[trace : trace + 1], request.passes, axis=0)
    level = height if request.height is None else request.height
    z = np.full(len(points), level) if request.z_mode == CONSTANT_HEIGHT else None
    lead = 2 * request.lift / lift_speed if request.separate else 0.0
    return Motion(points[:, 0], points[:, 1], z, None, request.point_time, lead=lead)
