"""A pool of samples on disk, for machines on which making a sample takes longer than learning from it."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from twinscope.agents.structure_discovery.training_data.imaging import MoleculeLike, shown_in, simulate_samples
from twinscope.agents.structure_discovery.training_data.recipe import Recipe
from twinscope.agents.structure_discovery.training_data.shards import shard_numbers, write_shards

_APART = 1_000_003  # Chunks have seeds of their own.
_CHUNK = 200
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
    chunk: int = _CHUNK,
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
    there = shard_numbers(folder)
    missing = [number for number in range(len(chunks)) if number not in there]
    made = repeats * sum(len(chunk) for number, chunk in enumerate(chunks) if number in there)
    with _environment(ONE_THREAD), ProcessPoolExecutor(processes, get_context("spawn")) as workers:
        files = [workers.submit(_make, folder, number, chunks[number], recipe, repeats, seed) for number in missing]
        try:
            for file in as_completed(files):
                made += file.result()
                report(made)
        finally:
            workers.shutdown(cancel_futures=True)


def shown_by_pool(molecules: int, *, repeats: int = 1, seed: int = 0, chunk: int = _CHUNK) -> list[int]:
    """Return which molecule each sample of a pool shows; the parameters are those of :func:`fill`."""
    found = []
    for number, start in enumerate(range(0, molecules, chunk)):
        count = min(chunk, molecules - start)
        found += [start + shown_in(sample, count, _seed(seed, number)) for sample in range(repeats * count)]
    return found


def _make(folder: Path, number: int, molecules: Sequence[MoleculeLike], recipe: Recipe, repeats: int, seed: int) -> int:
    """Make one file; where the samples are made, since they are half a gigabyte to be sent to another process."""
    batch = simulate_samples(molecules, recipe, _seed(seed, number), range(repeats * len(molecules)))
    return write_shards(folder, [batch], recipe=recipe, seed=seed, first=number)


def _seed(seed: int, number: int) -> int:
    return seed + _APART * number


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
