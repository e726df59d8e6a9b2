"""A pool of samples on disk, for machines on which making a sample takes longer than learning from it."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from twinscope.agents.structure_discovery.training_data.batch import Batch
from twinscope.agents.structure_discovery.training_data.imaging import MoleculeLike, simulate_samples
from twinscope.agents.structure_discovery.training_data.recipe import Recipe
from twinscope.agents.structure_discovery.training_data.shards import count_shards, write_shards

_AHEAD = 1  # Chunks that wait to be written, beside those that are made.
_APART = 1_000_003  # Chunks have seeds of their own.
ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "OMP_NUM_THREADS": "1",
    "JAX_NUM_CPU_DEVICES": "1",
}
"""Environment of a process that simulates: XLA's own threads would compete with the other processes."""


def fill(
    folder: Path,
    molecules: Sequence[MoleculeLike],
    recipe: Recipe,
    *,
    repeats: int = 1,
    seed: int = 0,
    processes: int = 1,
    chunk: int = 200,
    report: Callable[[int], None] = lambda _: None,
) -> None:
    """Make the samples that are missing in a folder; one in which that was stopped is gone on with.

    Parameters
    ----------
    folder
        Of the files.
    molecules, recipe, repeats, seed
        What it shall hold: each molecule so many times. Together they decide every number.
    processes
        That simulate at the same time.
    chunk
        Molecules of which the samples make one file: the same for a folder that is gone on with.
    report
        Called with the number of samples that there are, after every file.

    Raises
    ------
    StoreError
        When a file cannot be written.
    """
    chunks = [molecules[start : start + chunk] for start in range(0, len(molecules), chunk)]
    there = count_shards(folder)
    made = repeats * sum(map(len, chunks[:there]))
    for batch in _simulated(list(enumerate(chunks))[there:], recipe, repeats, seed, processes):
        write_shards(folder, [batch], recipe=recipe, seed=seed)
        made += len(batch)
        report(made)


def _simulated(
    chunks: Sequence[tuple[int, Sequence[MoleculeLike]]], recipe: Recipe, repeats: int, seed: int, processes: int
) -> Iterator[Batch]:
    with _environment(ONE_THREAD), ProcessPoolExecutor(processes, get_context("spawn")) as workers:
        waiting = []
        for number, molecules in chunks:
            indices = range(repeats * len(molecules))
            waiting.append(workers.submit(simulate_samples, molecules, recipe, seed + _APART * number, indices))
            if len(waiting) > processes + _AHEAD:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
