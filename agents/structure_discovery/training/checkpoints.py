"""Checkpoints of a training, by orbax."""

import json
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from twinscope._optional import import_optional
from twinscope.errors import ConfigurationError

_KEPT = 2
_OPTIONS = "training.json"

State = TypeVar("State")


class Checkpoints:
    """The checkpoints in a folder, which belong to one set of options.

    Parameters
    ----------
    folder
        Is made when it is missing.
    options
        Of the training, as plain data: they must be those that the folder was begun with.

    Raises
    ------
    ConfigurationError
        When the folder belongs to another training.
    MissingPackageError
        When orbax is not installed.
    """

    def __init__(self, folder: Path, options: dict[str, Any]) -> None:
        self._orbax = import_optional("orbax.checkpoint", "train", "a training")
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        _check_options(folder.parent / _OPTIONS, options)
        self._manager = self._orbax.CheckpointManager(
            folder, options=self._orbax.CheckpointManagerOptions(max_to_keep=_KEPT)
        )

    def latest(self, first: State) -> State:
        """Return the latest state, or `first`, of the same shapes, when there is none."""
        step = self._manager.latest_step()
        if step is None:
            return first
        leaves, structure = jax.tree.flatten(first)
        shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
        restored = self._manager.restore(step, args=self._orbax.args.StandardRestore(shapes))
        state: State = jax.tree.unflatten(structure, restored)
        return state

    def save(self, step: int, state: Any) -> None:
        """Keep a state, written in the background; old ones are removed."""
        # A copy: the next step reuses the memory of this one.
        leaves = [np.array(leaf) for leaf in jax.tree.leaves(state)]
        self._manager.save(step, args=self._orbax.args.StandardSave(leaves))

    def wait(self) -> None:
        """Wait until everything is on disk."""
        self._manager.wait_until_finished()


def _check_options(path: Path, options: dict[str, Any]) -> None:
    given = json.loads(json.dumps(options))
    if not path.exists():
        path.write_text(json.dumps(given, indent=2) + "\n")
        return
    begun = json.loads(path.read_text())
    different = [name for name in given if given[name] != begun.get(name)]
    if different:
        told = ", ".join(f"{name} {begun.get(name)!r} (now {given[name]!r})" for name in different)
        raise ConfigurationError(
            f"{path.parent} holds a training with other options: {told}; give the same ones, or another folder"
        )
