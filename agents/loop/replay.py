"""The same again: a run that anybody can repeat needs no trust."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from twinscope.agents.loop.agent import Observation
from twinscope.agents.loop.run_file import RunFile
from twinscope.agents.loop.running import BUDGET
from twinscope.errors import TwinscopeError
from twinscope.microscope import Microscope
from twinscope.results import ChannelData, Measurement

_LEASE = 60.0


@dataclass(frozen=True, slots=True)
class Difference:
    """What was not the same again.

    Attributes
    ----------
    number
        Of the command.
    what
        "time", "position", "error", or the name of a channel.
    then, now
        For people.
    """

    number: int
    what: str
    then: str
    now: str


def replay(path: str | Path, scope: Microscope) -> list[Difference]:
    """Carry out the commands of a run again, and compare what they bring, bit for bit.

    Parameters
    ----------
    path
        Of the file of the run.
    scope
        A microscope as it was when the run began: the same driver with the same options and seed, just started.

    Returns
    -------
    list of Difference
        Empty when everything is the same, as it is on a simulator with an accelerated clock.

    Raises
    ------
    StoreError
        When the file cannot be read.
    LeaseError
        When someone else holds the instrument.
    """
    found: list[Difference] = []
    with RunFile(path) as file, scope.control(purpose="replay of a run", duration=_LEASE):
        for then in file.observations():
            measurement, error = (None, None) if then.command is None else _again(then, scope)
            state = scope.state()
            now = Observation(then.number, then.command, state, then.cost, then.spent, measurement, error)
            found += _differences(then, now)
        scope.withdraw()
    return found


def _again(then: Observation, scope: Microscope) -> tuple[Measurement | None, TwinscopeError | None]:
    assert then.command is not None
    if then.error is not None and then.error.details.get("name") == BUDGET:
        # It was never sent.
        return None, then.error
    return then.command.carry_out(scope)


def _differences(then: Observation, now: Observation) -> Iterator[Difference]:
    told: tuple[tuple[str, object, object], ...] = (
        ("time", then.state.time, now.state.time),
        ("position", then.state.position, now.state.position),
        ("error", _code(then), _code(now)),
    )
    for what, was, is_now in told:
        if was != is_now:
            yield Difference(then.number, what, str(was), str(is_now))
    one: Mapping[str, ChannelData] = then.measurement or {}
    other: Mapping[str, ChannelData] = now.measurement or {}
    for name in sorted({*one, *other}):
        a, b = (np.asarray(each[name]) if name in each else None for each in (one, other))
        if a is None or b is None:
            yield Difference(then.number, name, *("nothing" if each is None else str(each.shape) for each in (a, b)))
        elif a.tobytes() != b.tobytes():
            off = np.count_nonzero(~((a == b) | (np.isnan(a) & np.isnan(b)))) if a.shape == b.shape else a.size
            yield Difference(then.number, name, f"{a.size} values", f"{off} others")


def _code(observation: Observation) -> str | None:
    return None if observation.error is None else observation.error.code
