"""Where a training takes its samples from."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from twinscope.agents.structure_discovery.molecules import Molecule
from twinscope.agents.structure_discovery.training_data.batch import Batch
from twinscope.agents.structure_discovery.training_data.pool import shown_by_pool
from twinscope.agents.structure_discovery.training_data.shards import Shards
from twinscope.agents.structure_discovery.training_data.stream import own_part


class PoolSource:
    """Samples of a pool, each once before any comes again, in an order that the seed decides.

    Parameters
    ----------
    folder
        Of the files of the pool.
    molecules, repeats
        What the pool was filled with.
    seed
        Of the order.
    """

    def __init__(self, folder: Path, molecules: Sequence[Molecule], repeats: int, seed: int) -> None:
        self._shards = Shards(folder)
        self._molecules = molecules
        self._shown = shown_by_pool(len(molecules), repeats=repeats, seed=self._shards.seed)
        self._seed = seed

    def __len__(self) -> int:
        return len(self._shards)

    def batch(self, number: int, size: int) -> Batch:
        """Return a batch, or this process's part of it; its number decides the samples."""
        return self._shards.batch(self._samples(number, size))

    def shown(self, number: int, size: int) -> list[Molecule]:
        """Return the molecules that a batch shows."""
        return [self._molecules[self._shown[sample]] for sample in self._samples(number, size)]

    def _samples(self, number: int, size: int) -> np.ndarray:
        rounds, index = np.divmod(np.array(own_part(number, size)), len(self))
        return np.array([_order(self._seed, int(turn), len(self))[i] for turn, i in zip(rounds, index, strict=True)])


@lru_cache(maxsize=4)
def _order(seed: int, turn: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, turn]).permutation(count)
