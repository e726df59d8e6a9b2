"""The loop itself."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from twinscope.agents.loop.agent import Agent, Observation, Task
from twinscope.agents.loop.command import Command, plain_data
from twinscope.agents.loop.cost import Budget, Cost, cost_of
from twinscope.agents.loop.run_file import RunWriter
from twinscope.errors import (
    AbortedError,
    InvalidRequestError,
    LeaseError,
    OutOfRangeError,
    RemoteError,
    StoreError,
    TwinscopeError,
)
from twinscope.microscope import Microscope
from twinscope.results import Measurement
from twinscope.state import InstrumentState, TipState

log = logging.getLogger(__name__)

Told = TypeVar("Told")

ANSWERED = "answered"
"""The agent had nothing more to do."""

OUT_OF_BUDGET = "out_of_budget"
"""Nothing was left to be spent."""

AGENT_FAILED = "agent_failed"
"""The agent itself has failed; it has no answer."""

BUDGET = "budget"
"""Name in the error of a command that was not sent because it does not fit into what is left."""

# While an agent computes, the lease is renewed by another thread, which a busy computer may keep waiting.
_LEASE = 60.0
# Errors after which nothing more can be done.
_FINAL = (AbortedError, LeaseError, RemoteError)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run has ended.

    Attributes
    ----------
    ended
        :data:`ANSWERED`, :data:`OUT_OF_BUDGET`, :data:`AGENT_FAILED`, or the code of an error of the instrument.
    note
        For people: why.
    answer
        Of the agent; None when it has failed.
    spent
        In all.
    thinking
        Seconds of the computer's time that the agent itself took.
    """

    ended: str
    note: str
    answer: dict[str, Any] | None
    spent: Cost
    thinking: float


def run(
    agent: Agent, scope: Microscope, task: Task, budget: Budget, path: str | Path, *, seed: int = 0, beliefs: int = 0
) -> Outcome:
    """Let an agent do a task.

    Parameters
    ----------
    agent
        Who decides.
    scope
        In this process or behind a server; its control is taken for the run and given back, with the tip withdrawn.
    task, budget, seed
        For the agent.
    path
        Of the file that is written, see :class:`~.run_file.RunFile`.
    beliefs
        After every so many commands the file gets what the agent believes; 0 for never.

    Raises
    ------
    InvalidRequestError
        When the instrument lacks what the agent needs. Nothing was done then, and there is no file.
    LeaseError
        When someone else holds the instrument.
    StoreError
        When the file cannot be written; the tip is withdrawn first.

    Notes
    -----
    Whatever the agent asks for and the instrument refuses, the agent observes with the error, and goes on: a refusal
    costs the overhead of a command. An exception of the agent ends the run as :data:`AGENT_FAILED`.
    """
    capabilities = scope.capabilities()
    missing = sorted(set(agent.needs) - set(capabilities.traits))
    if missing:
        raise InvalidRequestError(
            f"the agent {agent.name!r} needs {', '.join(missing)}: this instrument has {', '.join(capabilities.traits)}"
        )
    with (
        scope.control(purpose=f"agent {agent.name}", duration=_LEASE),
        RunWriter(path, {"name": agent.name}, task, budget, seed, capabilities) as file,
    ):
        work = _Run(agent, scope, budget, file, beliefs)
        try:
            work.go(lambda: agent.reset(task, capabilities, budget, seed))
        finally:
            work.withdraw()
        outcome = work.outcome()
        file.end(outcome.ended, outcome.note, outcome.answer)
    return outcome


class _AgentFailedError(Exception):
    """Carries an exception of the agent out of the loop."""


class _Run:
    """What a run remembers while it goes on."""

    def __init__(self, agent: Agent, scope: Microscope, budget: Budget, file: RunWriter, beliefs: int) -> None:
        self._agent, self._scope, self._budget = agent, scope, budget
        self._file, self._beliefs = file, beliefs
        self._spent, self._thinking, self._number = Cost(), 0.0, 0
        self._ended, self._note = ANSWERED, ""

    def go(self, reset: Callable[[], None]) -> None:
        """Do everything up to the end of the budget, the task, or the instrument."""
        try:
            self._ask(reset)
            state = self._scope.state()
            self._tell(Observation(0, None, state, Cost(), Cost()))
            while (command := self._next()) is not None:
                state = self._do(command, state)
        except _AgentFailedError as exc:
            cause = exc.__cause__
            log.warning("the agent %s has failed", self._agent.name, exc_info=cause)
            self._ended, self._note = AGENT_FAILED, f"{type(cause).__name__}: {cause}"
        except StoreError:
            raise
        except TwinscopeError as exc:
            log.warning("the run ends: %s", exc)
            self._ended, self._note = exc.code, exc.message

    def withdraw(self) -> None:
        """Take the tip away, if that is possible."""
        try:
            if self._scope.state().tip is not TipState.WITHDRAWN:
                self._scope.withdraw()
        except TwinscopeError as exc:
            log.warning("the tip could not be withdrawn: %s", exc)
            self._note = f"{self._note}; the tip is not withdrawn: {exc.message}".removeprefix("; ")

    def outcome(self) -> Outcome:
        """Ask for the answer, which an agent has whatever has ended its run."""
        answer = None
        if self._ended != AGENT_FAILED:
            try:
                answer = self._ask(lambda: dict(plain_data(self._agent.answer())))
            except _AgentFailedError as exc:
                self._ended, self._note = AGENT_FAILED, f"{type(exc.__cause__).__name__}: {exc.__cause__}"
        return Outcome(self._ended, self._note, answer, self._spent, self._thinking)

    def _next(self) -> Command | None:
        if self._budget.used_up(self._spent):
            self._ended, self._note = OUT_OF_BUDGET, f"after {self._number} commands"
            return None
        return self._ask(lambda: _checked(self._agent.decide()))

    def _do(self, command: Command, before: InstrumentState) -> InstrumentState:
        """Carry a command out, and let the agent know; return what the instrument is doing then."""
        self._number += 1
        measurement, error = self._tried(command)
        after = self._scope.state()
        cost = cost_of(command, before, after, self._budget.overhead)
        self._spent += cost
        self._tell(Observation(self._number, command, after, cost, self._spent, measurement, error))
        if isinstance(error, _FINAL) or after.blocked is not None:
            raise error or AbortedError(f"the instrument was stopped: {after.blocked}")
        return after

    def _tried(self, command: Command) -> tuple[Measurement | None, TwinscopeError | None]:
        try:
            shortage = self._budget.shortage(command, self._spent)
        except InvalidRequestError as exc:
            return None, exc
        if shortage is not None:
            return None, OutOfRangeError(shortage, name=BUDGET)
        return command.carry_out(self._scope)

    def _tell(self, observation: Observation) -> None:
        self._file.add(observation)
        self._ask(lambda: self._agent.observe(observation))
        if self._beliefs and observation.number % self._beliefs == 0:
            self._file.add_belief(observation.number, self._ask(self._agent.belief))

    def _ask(self, question: Callable[[], Told]) -> Told:
        """Let the agent think, and count how long it does; whatever goes wrong in it is its own failure."""
        begin = time.perf_counter()
        try:
            return question()
        except Exception as exc:
            raise _AgentFailedError from exc
        finally:
            self._thinking += time.perf_counter() - begin


def _checked(decision: Any) -> Command | None:
    if decision is not None and not isinstance(decision, Command):
        raise InvalidRequestError(f"the agent has decided {decision!r}: expected a Command, or None for the end")
    return decision
