"""A run on disk: one HDF5 file with everything that was asked, seen, believed and answered, written as it happens."""

import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from twinscope._version import __version__
from twinscope.agents.loop.agent import Observation, Task
from twinscope.agents.loop.command import Command
from twinscope.agents.loop.cost import Budget, Cost
from twinscope.capabilities import Capabilities
from twinscope.errors import StoreError, TwinscopeError
from twinscope.results import Measurement, assemble, disassemble, request_of
from twinscope.state import InstrumentState

_FORMAT = "twinscope run 1"
_STEP = "step_{:06d}"
_TRACES, _BELIEF = "traces", "belief"


class _Closing:
    """A file that is open, and closed in the end."""

    _file: h5py.File

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class RunWriter(_Closing):
    """Writes the file of a run, step by step: each is on disk before the agent learns of it.

    Parameters
    ----------
    path
        Of the new file; never over an existing one.
    agent
        Its name, and what else is to be known about it, as plain data.
    task, budget, seed, capabilities
        With which the agent begins.

    Raises
    ------
    StoreError
        When it cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        agent: Mapping[str, Any],
        task: Task,
        budget: Budget,
        seed: int,
        capabilities: Capabilities,
    ) -> None:
        self._capabilities = capabilities
        self._file = _opened(Path(path), "x")
        self._file.attrs["format"] = _FORMAT
        told = {
            "agent": dict(agent),
            "task": task.to_dict(),
            "budget": asdict(budget),
            "seed": seed,
            "capabilities": capabilities.to_dict(),
            "versions": {"twinscope": __version__, "python": platform.python_version(), "numpy": np.__version__},
        }
        for name, value in told.items():
            self._file.attrs[name] = _text(value)
        self._file.flush()

    def add(self, observation: Observation) -> None:
        """Write what a command has brought.

        Raises
        ------
        StoreError
            When that is not possible.
        """
        try:
            self._add(observation)
        except OSError as exc:
            raise StoreError(f"step {observation.number} of the run cannot be written: {exc}") from exc

    def _add(self, observation: Observation) -> None:
        group = self._file.create_group(_STEP.format(observation.number))
        told = {
            "command": None if observation.command is None else observation.command.to_dict(),
            "state": observation.state.to_dict(),
            "cost": asdict(observation.cost),
            "spent": asdict(observation.spent),
            "error": None if observation.error is None else observation.error.to_dict(),
        }
        measurement = observation.measurement
        if measurement is not None:
            channels = tuple(map(self._capabilities.channel, measurement.request.channels))
            traces = disassemble(measurement, channels)
            group.create_dataset(_TRACES, data=traces, compression="gzip", compression_opts=1, shuffle=True)
            told["metadata"] = dict(measurement.metadata)
        for name, value in told.items():
            group.attrs[name] = _text(value)
        self._file.flush()

    def add_belief(self, number: int, belief: Mapping[str, Any]) -> None:
        """Write what the agent believes after a step: arrays as datasets, the rest as plain data."""
        group = self._file[_STEP.format(number)].create_group(_BELIEF)
        for name, value in belief.items():
            if isinstance(value, np.ndarray):
                group.create_dataset(name, data=value, compression="gzip", compression_opts=1)
            else:
                group.attrs[name] = _text(value)
        self._file.flush()

    def end(self, ended: str, note: str, answer: Mapping[str, Any] | None) -> None:
        """Write how it ended, and the answer."""
        for name, value in {"ended": ended, "note": note, "answer": answer}.items():
            self._file.attrs[name] = _text(value)
        self._file.flush()


class RunFile(_Closing):
    """Reads the file of a run, also of one that was cut short.

    Parameters
    ----------
    path
        That :class:`RunWriter` has written.

    Raises
    ------
    StoreError
        When it cannot be read, or is none.
    """

    def __init__(self, path: str | Path) -> None:
        self._file = _opened(Path(path), "r")
        if self._file.attrs.get("format") != _FORMAT:
            self.close()
            raise StoreError(f"{path} is no run of an agent: expected a file of the format {_FORMAT!r}")

    @property
    def agent(self) -> Mapping[str, Any]:
        """What is known about the agent."""
        found: Mapping[str, Any] = self._told("agent")
        return found

    @property
    def task(self) -> Task:
        """What was asked for."""
        task: Task = Task.from_dict(self._told("task"))
        return task

    @property
    def budget(self) -> Budget:
        """What could be spent."""
        return Budget(**self._told("budget"))

    @property
    def seed(self) -> int:
        """Of the agent."""
        return int(self._told("seed"))

    @property
    def capabilities(self) -> Capabilities:
        """Of the instrument at the beginning."""
        return Capabilities.from_dict(self._told("capabilities"))

    @property
    def versions(self) -> Mapping[str, str]:
        """Of the software."""
        versions: Mapping[str, str] = self._told("versions")
        return versions

    @property
    def ended(self) -> str | None:
        """How it ended, see :class:`~.running.Outcome`; None while it has not."""
        ended: str | None = self._told("ended")
        return ended

    @property
    def note(self) -> str:
        """For people: why it ended so."""
        return self._told("note") or ""

    @property
    def answer(self) -> Mapping[str, Any] | None:
        """Of the agent; None where there is none."""
        answer: Mapping[str, Any] | None = self._told("answer")
        return answer

    def __len__(self) -> int:
        """Return how many steps there are, the look before the first command included."""
        return sum(name.startswith("step_") for name in self._file)

    def observations(self) -> Iterator[Observation]:
        """Yield what the agent has seen, in its order."""
        for number in range(len(self)):
            yield self._observation(number)

    def belief(self, number: int) -> Mapping[str, Any]:
        """Return what the agent believed after a step; empty where it told nothing."""
        group = self._file[_STEP.format(number)].get(_BELIEF)
        if group is None:
            return {}
        arrays = {name: np.asarray(dataset) for name, dataset in group.items()}
        return arrays | {name: json.loads(value) for name, value in group.attrs.items()}

    def _observation(self, number: int) -> Observation:
        group = self._file[_STEP.format(number)]
        told = {name: json.loads(value) for name, value in group.attrs.items()}
        measurement: Measurement | None = None
        if _TRACES in group:
            request = request_of(told["metadata"])
            channels = tuple(map(self.capabilities.channel, request.channels))
            measurement = assemble(request, channels, np.asarray(group[_TRACES]), told["metadata"])
        return Observation(
            number,
            None if told["command"] is None else Command.from_dict(told["command"]),
            InstrumentState.from_dict(told["state"]),
            Cost(**told["cost"]),
            Cost(**told["spent"]),
            measurement,
            None if told["error"] is None else TwinscopeError.from_dict(told["error"]),
        )

    def _told(self, name: str) -> Any:
        return json.loads(self._file.attrs[name]) if name in self._file.attrs else None


def _opened(path: Path, mode: str) -> h5py.File:
    try:
        return h5py.File(path, mode)
    except OSError as exc:
        what = "read" if mode == "r" else "made"
        raise StoreError(f"{path} cannot be {what}: {exc}") from exc


def _text(value: Any) -> str:
    """Write plain data; infinity and NaN stand there as Python's JSON writes them."""
    return json.dumps(value, sort_keys=True)
