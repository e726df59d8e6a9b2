"""Where a training takes its samples from."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from twinscope.agents.structure_discovery.training_data.batch import Batch
from twinscope.agents.structure_discovery.training_data.shards import Shards
from twinscope.agents.structure_discovery.training_data.stream import own_part


class PoolSource:
    """Samples of a pool, each once before any comes again, in an order that the seed decides.

    Parameters
    ----------
    folder
        Of the files of the pool.
    seed
        Of the order.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._shards = Shards(folder)
        self._seed = seed

    def __len__(self) -> int:
        return len(self._shards)

    def batch(self, number: int, size: int) -> Batch:
        """Return a batch, or this process's part of it; its number decides the samples."""
        rounds, index = np.divmod(np.array(own_part(number, size)), len(self))
        chosen = [_order(self._seed, int(turn), len(self))[i] for turn, i in zip(rounds, index, strict=True)]
        return self._shards.batch(np.array(chosen))


@lru_cache(maxsize=4)
def _order(seed: int, turn: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, turn]).permutation(count)
