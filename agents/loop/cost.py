"""What everything costs: nothing is free, so that no policy can win by something that only looks free."""

from dataclasses import asdict, dataclass, fields
from itertools import pairwise

import numpy as np

from twinscope.agents.loop.command import Command
from twinscope.capabilities import ACQUISITIONS
from twinscope.errors import InvalidRequestError
from twinscope.requests import AcquisitionRequest, PathRequest, ScanRequest, SpectroscopyRequest
from twinscope.state import InstrumentState, TipState

_WAYS = 2  # There and back: of a line, a sweep, a dip.
_BIAS = "bias"


@dataclass(frozen=True, slots=True)
class Cost:
    """What was spent.

    Attributes
    ----------
    time
        Of the instrument, in s, with the overhead of each command.
    travel
        How far the tip went near the sample, in m: what wears it.
    bias_exposure
        The highest bias of each command, whatever its sign, times its time with the tip near the sample, in V s.
    commands
        How many.
    """

    time: float = 0.0
    travel: float = 0.0
    bias_exposure: float = 0.0
    commands: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        pairs = zip(asdict(self).items(), asdict(other).values(), strict=True)
        return Cost(**{name: mine + yours for (name, mine), yours in pairs})


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent. A run ends when one of them is used up.

    Attributes
    ----------
    time
        Of the instrument, in s.
    travel, bias_exposure, commands
        As in :class:`Cost`; infinite unless given.
    overhead
        Seconds that every command costs beside what the instrument takes: a computer must decide, tell it, and wait
        until all is at rest. Commands that are refused cost it, too.

    Raises
    ------
    InvalidRequestError
        When one is not positive.
    """

    time: float
    travel: float = np.inf
    bias_exposure: float = np.inf
    commands: float = np.inf
    overhead: float = 0.1

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise InvalidRequestError(f"{field.name} of the budget is {value!r}: expected a number above zero")

    def used_up(self, spent: Cost) -> bool:
        """Whether nothing is left of one of them."""
        return any(value >= getattr(self, name) for name, value in asdict(spent).items())

    def shortage(self, command: Command, spent: Cost) -> str | None:
        """Tell why a command does not fit into what is left; None when it may."""
        needed, left = least_time(command.request), self.time - spent.time - self.overhead
        if needed > left:
            return f"the command takes {needed:.6g} s and {max(left, 0.0):.6g} s of the budget are left"
        return None


def least_time(request: AcquisitionRequest | None) -> float:
    """Return how long an acquisition takes at least, in s; zero for what is none."""
    if request is None:
        return 0.0
    if isinstance(request, ScanRequest):
        return request.line_time * request.trace_count
    return request.point_time * request.trace_count * request.trace_length


def cost_of(command: Command, before: InstrumentState, after: InstrumentState, overhead: float) -> Cost:
    """Return what a command has cost.

    Parameters
    ----------
    command
        That was carried out, or refused.
    before, after
        What the instrument was doing.
    overhead
        Of the command, in s.
    """
    time = max(after.time - before.time, 0.0)
    if time == 0:
        # Refused, or done at once.
        return Cost(overhead, commands=1)
    near = command.verb in ACQUISITIONS or TipState.WITHDRAWN not in (before.tip, after.tip)
    if not near:
        return Cost(time + overhead, commands=1)
    return Cost(time + overhead, _travel(command, before, after), _bias(command, before, after) * time, 1)


def _bias(command: Command, before: InstrumentState, after: InstrumentState) -> float:
    """Return the highest bias of a command, in V, whatever its sign."""
    voltages = [state.signals.get(_BIAS, 0.0) for state in (before, after)]
    request = command.request
    if isinstance(request, SpectroscopyRequest) and request.swept == _BIAS:
        voltages += [request.sweep.start, request.sweep.stop]
    voltages.append(command.parameters.get("voltage", 0.0))  # Of a pulse, or of shaping.
    return max(map(abs, voltages))


def _travel(command: Command, before: InstrumentState, after: InstrumentState) -> float:
    """How far the tip went, in m."""
    request = command.request
    if isinstance(request, ScanRequest):
        width, height = request.frame.size
        return (_WAYS * width * request.pixels[1] + height) * request.layers
    if request is not None:
        passes = request.passes if isinstance(request, PathRequest) and not request.separate else 1
        steps = [np.hypot(x1 - x0, y1 - y0) for (x0, y0), (x1, y1) in pairwise(request.positions)]
        way = float(np.sum(steps)) * passes
        if isinstance(request, SpectroscopyRequest) and request.swept == "z":
            way += _WAYS * abs(request.sweep.stop - request.sweep.start) * len(request.positions)
        return way
    if before.position is None or after.position is None:
        return 0.0
    start, end = ((place.x, place.y, place.z) for place in (before.position, after.position))
    dipped = _WAYS * command.parameters.get("depth", 0.0)
    return float(np.linalg.norm(np.subtract(end, start))) + dipped
