"""The loop of an autonomous experiment: an agent decides, a microscope acts, everything costs, a file has it all."""

from twinscope.agents.loop.agent import Agent, Observation, Task
from twinscope.agents.loop.command import Command
from twinscope.agents.loop.cost import Budget, Cost
from twinscope.agents.loop.referee import MoleculesReferee, Referee
from twinscope.agents.loop.replay import Difference, replay
from twinscope.agents.loop.run_file import RunFile
from twinscope.agents.loop.running import Outcome, run

__all__ = [
    "Agent",
    "Budget",
    "Command",
    "Cost",
    "Difference",
    "MoleculesReferee",
    "Observation",
    "Outcome",
    "Referee",
    "RunFile",
    "Task",
    "replay",
    "run",
]
