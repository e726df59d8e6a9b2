"""Molecules to train on, without end: the same ones for the same recipe."""

import collections
import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TYPE_CHECKING

from twinscope._optional import import_optional
from twinscope.agents.structure_discovery.molecules.molecule import Molecule
from twinscope.agents.structure_discovery.molecules.recipe import Charges, Elements, Recipe
from twinscope.agents.structure_discovery.molecules.splits import Split, check_split, split_of_scaffold
from twinscope.errors import InvalidRequestError

if TYPE_CHECKING:
    from twinscope.agents.structure_discovery.molecules.candidates import Candidate

_AHEAD = 16  # candidates that wait for each process


def generate(
    count: int | None = None,
    *,
    seed: int = 0,
    elements: Elements = "light",
    split: Split | None = None,
    flat_share: float = 0.35,
    cluster_share: float = 0.0,
    charges: Charges = "gasteiger",
    processes: int = 1,
) -> Iterator[Molecule]:
    """Make distinct molecules of 6 to 60 atoms, with a geometry and charges.

    Parameters
    ----------
    count
        How many; None is without end.
    seed, elements, flat_share, cluster_share, charges
        See :class:`.Recipe`.
    split
        Only those of this part, see :func:`.split_of`.
    processes
        How many work; it does not change the molecules. More than one need the guard ``if __name__ == "__main__"`` in a
        script.

    Yields
    ------
    Molecule
        No two with the same connectivity, but for clusters, which differ in their arrangement.

    Raises
    ------
    InvalidRequestError
        When a value is out of range.
    MissingPackageError
        Without rdkit, which the extra "train" installs.
    """
    recipe = Recipe(seed, elements, flat_share, cluster_share, charges)
    check_split(split)
    if count is not None and count < 0:
        raise InvalidRequestError(f"count is {count}: expected a number of molecules, or None for no end")
    candidates = chosen_candidates(recipe, split)
    built = (molecule for _, molecule in build_all(candidates, recipe, processes) if molecule is not None)
    return itertools.islice(built, count)


def chosen_candidates(
    recipe: Recipe, split: Split | None, *, start: int = 0, seen: set[str] | None = None
) -> Iterator["Candidate"]:
    """Give the candidates of a part, see :func:`.candidates`; None stands for all.

    Raises
    ------
    MissingPackageError
        Without rdkit.
    """
    import_optional("rdkit", "train", "making molecules")
    from twinscope.agents.structure_discovery.molecules.candidates import candidates

    return (
        candidate
        for candidate in candidates(recipe, start=start, seen=seen)
        if split is None or split_of_scaffold(candidate.scaffold) == split
    )


def build_all(
    candidates: Iterable["Candidate"], recipe: Recipe, processes: int
) -> Iterator[tuple["Candidate", Molecule | None]]:
    """Build the geometries of candidates, in their order; None where there is none."""
    from twinscope.agents.structure_discovery.molecules.geometry import build

    if processes < 1:
        raise InvalidRequestError(f"processes is {processes}: expected at least 1")
    if processes == 1:
        yield from ((candidate, build(candidate.smiles, candidate.key, recipe.charges)) for candidate in candidates)
        return
    # A fork would inherit locks and threads, those of JAX among them, in the middle of what they do.
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield from _in_order(pool, build, candidates, recipe, processes * _AHEAD)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: ProcessPoolExecutor,
    build: Callable[[str, str, Charges], Molecule | None],
    candidates: Iterable["Candidate"],
    recipe: Recipe,
    ahead: int,
) -> Iterator[tuple["Candidate", Molecule | None]]:
    """Keep a pool busy with so many candidates, also where they have no end."""
    waiting: collections.deque[tuple[Candidate, Future[Molecule | None]]] = collections.deque()
    for candidate in candidates:
        waiting.append((candidate, pool.submit(build, candidate.smiles, candidate.key, recipe.charges)))
        if len(waiting) >= ahead:
            first, result = waiting.popleft()
            yield first, result.result()
    for first, result in waiting:
        yield first, result.result()
