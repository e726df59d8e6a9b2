"""A pool of samples on disk, for machines on which making a sample takes longer than learning from it."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from twinscope.agents.structure_discovery.molecules import Molecule, library, split_of
from twinscope.agents.structure_discovery.training_data.batch import Batch
from twinscope.agents.structure_discovery.training_data.imaging import simulate_samples
from twinscope.agents.structure_discovery.training_data.recipe import Recipe
from twinscope.agents.structure_discovery.training_data.shards import write_shards

_CHUNK = 250  # Molecules of the library that make one file.
_AHEAD = 1  # Chunks that wait to be written, beside those that are made.
# XLA's own threads would compete with the processes.
_ONE_THREAD = {
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "OMP_NUM_THREADS": "1",
    "JAX_NUM_CPU_DEVICES": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Which samples a pool holds: together with the recipe it decides every number in them.

    Attributes
    ----------
    molecules
        How many of the library are looked at; those of the part are used.
    part
        "train", "validation" or "test".
    repeats
        Samples of each molecule.
    elements
        Of the library: "light" or "heavy".
    seed
        Of the samples and of the library.
    """

    molecules: int
    part: str = "train"
    repeats: int = 2
    elements: str = "light"
    seed: int = 0


def fill(
    folder: Path, pool: Pool, recipe: Recipe, *, processes: int = 1, report: Callable[[int], None] = lambda _: None
) -> None:
    """Make the samples that are missing in a folder; one that was stopped is gone on with.

    Parameters
    ----------
    folder
        Of the files.
    pool, recipe
        What it shall hold.
    processes
        That simulate at the same time.
    report
        Called with the number of samples of every file that is written.
    """
    chunks = range(len(list(folder.glob("shard-*.h5"))), -(-pool.molecules // _CHUNK))
    for batch in _made(pool, recipe, chunks, processes):
        write_shards(folder, [batch], recipe=recipe, seed=pool.seed)
        report(len(batch))


def _made(pool: Pool, recipe: Recipe, chunks: Sequence[int], processes: int) -> Iterator[Batch]:
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(_ONE_THREAD)
    try:
        with ProcessPoolExecutor(processes, get_context("spawn")) as workers:
            waiting = []
            for chunk in chunks:
                waiting.append(workers.submit(_simulate, _molecules(pool, chunk), recipe, pool, chunk))
                if len(waiting) > processes + _AHEAD:
                    yield waiting.pop(0).result()
            for future in waiting:
                yield future.result()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _molecules(pool: Pool, chunk: int) -> list[Molecule]:
    end = min((chunk + 1) * _CHUNK, pool.molecules)
    known = library(end, seed=pool.seed, elements=pool.elements)  # type: ignore[arg-type]
    return [molecule for molecule in known[chunk * _CHUNK :] if split_of(molecule) == pool.part]


def _simulate(molecules: list[Molecule], recipe: Recipe, pool: Pool, chunk: int) -> Batch:
    # Each chunk has random numbers of its own.
    seed = pool.seed + chunk * 1_000_003
    return simulate_samples(molecules, recipe, seed, range(pool.repeats * len(molecules)))
