"""What an agent is, and what it is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from twinscope._plain import PlainData
from twinscope.agents.loop.command import Command
from twinscope.agents.loop.cost import Budget, Cost
from twinscope.capabilities import Capabilities
from twinscope.errors import TwinscopeError
from twinscope.results import Measurement
from twinscope.state import InstrumentState


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(PlainData):
    """What is asked for, as far as an agent may know it.

    Attributes
    ----------
    name
        Of the kind of task: "find_molecules".
    details
        Plain data in SI units: the area, what is looked for.
    """

    name: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Observation:
    """What an agent learns from one command.

    Attributes
    ----------
    number
        Of the command, from 1; 0 for the look at the instrument before any command.
    command
        None at first.
    state
        Of the instrument, afterwards.
    cost, spent
        Of this command, and of all up to now.
    measurement
        None where nothing was acquired; cut short where there is an error, too.
    error
        Why it could not be done, or not to its end; None when all went well.
    """

    number: int
    command: Command | None
    state: InstrumentState
    cost: Cost
    spent: Cost
    measurement: Measurement | None = None
    error: TwinscopeError | None = None


@runtime_checkable
class Agent(Protocol):
    """Whoever decides what is done next. It has no hands: it sees the microscope only through observations.

    Attributes
    ----------
    name
        For people and files.
    needs
        What the instrument must have, as words of :attr:`~twinscope.capabilities.Capabilities.traits`.
    """

    name: str
    needs: frozenset[str]

    def reset(self, task: Task, capabilities: Capabilities, budget: Budget, seed: int) -> None:
        """Forget everything, and begin a task; all that is random comes from the seed."""
        ...

    def observe(self, observation: Observation) -> None:
        """Learn what a command has brought."""
        ...

    def decide(self) -> Command | None:
        """Say what to do next; None when there is nothing more to be done."""
        ...

    def belief(self) -> Mapping[str, Any]:
        """Tell what it believes now, for the file: plain data and arrays by name."""
        ...

    def answer(self) -> Mapping[str, Any]:
        """Answer the task, as plain data; it can be asked for at any moment."""
        ...
