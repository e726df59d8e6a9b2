"""Training data without end, made while they are used."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import jax

from twinscope.agents.structure_discovery.training_data.batch import Batch
from twinscope.agents.structure_discovery.training_data.imaging import MoleculeLike, shown_in, simulate_samples
from twinscope.agents.structure_discovery.training_data.recipe import Recipe
from twinscope.errors import InvalidRequestError

Shown = TypeVar("Shown", bound=MoleculeLike)


@dataclass(frozen=True, eq=False)
class Stream(Generic[Shown]):
    """Numbered batches, each of which is the same whatever was asked for before: to go on is to ask for the next.

    Where several processes train together (``jax.distributed``), each makes its own part of every batch.

    Attributes
    ----------
    molecules
        To be shown, each once in every ``len(molecules)`` samples.
    recipe
        How.
    seed
        Of the randomness.
    """

    molecules: Sequence[Shown]
    recipe: Recipe
    seed: int

    def batch(self, number: int, size: int) -> Batch:
        """Make this process's part of a batch of `size` samples.

        Raises
        ------
        InvalidRequestError
            When the processes cannot share the samples equally, or the number is negative.
        """
        return simulate_samples(self.molecules, self.recipe, self.seed, own_part(number, size))

    def shown(self, number: int, size: int) -> list[Shown]:
        """Return the molecules that this process's part of a batch shows."""
        count = len(self.molecules)
        return [self.molecules[shown_in(sample, count, self.seed)] for sample in own_part(number, size)]


def own_part(number: int, size: int) -> range:
    """Return which samples of a batch are made by this process, where several train together.

    Raises
    ------
    InvalidRequestError
        When the processes cannot share the samples equally, or the number is negative.
    """
    processes = jax.process_count()
    if number < 0 or size < 1 or size % processes:
        raise InvalidRequestError(
            f"batch {number} of {size} samples: expected a number from 0 and a size that is a multiple of"
            f" {processes}, the number of processes"
        )
    part = size // processes
    first = number * size + jax.process_index() * part
    return range(first, first + part)
