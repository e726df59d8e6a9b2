"""Where the tip is sent during an acquisition, in the order of time."""

import math
from dataclasses import dataclass, replace

import numpy as np

from twinscope.requests import CONSTANT_HEIGHT, AcquisitionRequest, PathRequest, ScanRequest

# How long (s) the z-controller settles at a separate point before it is measured there, and in how many samples.
_SETTLE_TIME = 0.2
_MOST_SETTLING = 32


@dataclass(frozen=True)
class Speeds:
    """Speeds of moves, sideways and up or down, in m/s."""

    lateral: float
    vertical: float

    def time(self, start: np.ndarray, end: np.ndarray) -> float:
        """Seconds from one place (3,), in m, to another."""
        lateral, vertical = float(np.hypot(*(end - start)[:2])), abs(float((end - start)[2]))
        return max(lateral / self.lateral, vertical / self.vertical)


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
    skipped
        How many of the first samples are not recorded: on the way back, or while the z-controller settles.
    lift
        How much higher, in m, the z-controller begins than it ended.
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray | None
    bias: np.ndarray | None
    interval: float
    backward: bool = False
    lead: float = 0.0
    skipped: int = 0
    lift: float = 0.0

    @property
    def duration(self) -> float:
        """Seconds from the end of the last trace to the end of this one."""
        return self.lead + self.interval * len(self.x)

    @property
    def first(self) -> np.ndarray:
        """The first place (3,), in m; z is 0 where the z-controller decides."""
        return np.array([self.x[0], self.y[0], 0.0 if self.z is None else self.z[0]])

    @property
    def last(self) -> np.ndarray:
        """The last place (3,), in m; z is 0 where the z-controller decides."""
        return np.array([self.x[-1], self.y[-1], 0.0 if self.z is None else self.z[-1]])

    def recorded(self, values: np.ndarray) -> np.ndarray:
        """Leave out what is not recorded of values (..., n), and bring them into the order of recording."""
        kept = values[..., self.skipped :]
        return kept[..., ::-1] if self.backward else kept


def straight(start: np.ndarray, end: np.ndarray, steps: int, duration: float, *, controlled: bool) -> Motion:
    """Return a move along a straight line from one place (3,), in m, to another; its start is not a part of it."""
    places = start[:, None] + (end - start)[:, None] * np.arange(1, steps + 1) / steps
    # Not by rounding anywhere else: whoever sent the tip there compares.
    places[:, -1] = end
    x, y, z = places
    return Motion(x, y, None if controlled else z, None, duration / steps)


def motion_of(request: AcquisitionRequest, trace: int, height: float, speeds: Speeds) -> Motion:
    """Return what the tip is told during a trace, and on the way to it from the trace before.

    Parameters
    ----------
    request
        What is acquired.
    trace
        Number of the trace.
    height
        Present height of the tip, in m, for requests that do not give one.
    speeds
        With which the tip moves between traces.
    """
    motion = _alone(request, trace, height)
    if trace == 0:
        return motion
    before = _alone(request, trace - 1, height)
    separate = isinstance(request, PathRequest) and request.separate
    lift = request.lift if isinstance(request, PathRequest) else 0.0
    way = speeds.time(before.last, motion.first) + 2 * lift / speeds.vertical
    # The first sample has its own interval for the way from the last one.
    lead = max(way - motion.interval, 0.0)
    if motion.z is not None:
        return replace(motion, lead=lead)
    if separate:
        return _settling(replace(motion, lead=lead, lift=lift))
    return _with_way_back(motion, before.last, lead)


def _settling(motion: Motion) -> Motion:
    """Let the z-controller settle at a point before it is measured."""
    count = int(np.clip(math.ceil(_SETTLE_TIME / motion.interval), 1, _MOST_SETTLING))
    x, y = (np.concatenate([np.repeat(values[:1], count), values]) for values in (motion.x, motion.y))
    return replace(motion, x=x, y=y, skipped=count)


def _with_way_back(motion: Motion, start: np.ndarray, lead: float) -> Motion:
    """Let the z-controller follow the sample on the way to the first sample, not faster than moves or the scan are."""
    count = min(round(lead / motion.interval), len(motion.x))
    if count == 0:
        return motion
    back = straight(start, motion.first, count + 1, lead, controlled=True)
    x, y = (np.concatenate([way[:-1], values]) for way, values in ((back.x, motion.x), (back.y, motion.y)))
    return replace(motion, x=x, y=y, skipped=count)


def _alone(request: AcquisitionRequest, trace: int, height: float) -> Motion:
    """Return the motion of a trace without the way to it."""
    if isinstance(request, ScanRequest):
        return _scan_motion(request, trace, height)
    if isinstance(request, PathRequest):
        return _path_motion(request, trace, height)
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


def _path_motion(request: PathRequest, trace: int, height: float) -> Motion:
    # There may be very many separate points: only the one is turned into an array.
    chosen = request.positions[trace : trace + 1] * request.passes if request.separate else request.positions
    points = np.array(chosen)
    level = height if request.height is None else request.height
    z = np.full(len(points), level) if request.z_mode == CONSTANT_HEIGHT else None
    return Motion(points[:, 0], points[:, 1], z, None, request.point_time)
