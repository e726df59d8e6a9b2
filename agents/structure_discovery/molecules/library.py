"""Sets of training molecules, made once and kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from twinscope._optional import import_optional
from twinscope.agents.structure_discovery.molecules import storage
from twinscope.agents.structure_discovery.molecules.generation import build_all
from twinscope.agents.structure_discovery.molecules.molecule import Molecule
from twinscope.agents.structure_discovery.molecules.recipe import Charges, Elements, Recipe
from twinscope.agents.structure_discovery.molecules.splits import Split, check_split, split_of
from twinscope.agents.structure_discovery.molecules.storage import Store
from twinscope.errors import InvalidRequestError

_WHAT = "making molecules"
_SAVED_EVERY = 500

Progress = Callable[[int, int], None]
"""Called with the number of molecules that there are, and that there shall be."""


def library(
    count: int,
    seed: int = 0,
    elements: Elements = "light",
    *,
    split: Split | None = None,
    flat_share: float = 0.35,
    cluster_share: float = 0.0,
    charges: Charges = "gasteiger",
    processes: int = 1,
    cache: Path | Literal["user"] | None = "user",
    progress: Progress | None = None,
) -> list[Molecule]:
    """Return the first molecules of a recipe: those that are kept on disk, and what is missing is made and kept.

    A file holds all molecules of one recipe, whatever their number and part. It is renewed after every 500, so that a
    run that was stopped goes on where it was, and others can use the first ones before it ends.

    Parameters
    ----------
    count
        Number of molecules of all parts together.
    seed, elements, flat_share, cluster_share, charges
        See :class:`.Recipe`.
    split
        Return only those of this part, about 80 % of `count` for "train"; None returns all.
    processes
        See :func:`.generate`.
    cache
        Folder to keep them in; "user" is the one of the user's caches. None keeps nothing.
    progress
        Called after each new molecule.

    Raises
    ------
    InvalidRequestError
        When a value is out of range.
    MissingPackageError
        Without rdkit, where molecules have to be made.
    StoreError
        When the file cannot be read or written.
    """
    recipe = Recipe(seed, elements, flat_share, cluster_share, charges)
    check_split(split)
    if count < 0:
        raise InvalidRequestError(f"count is {count}: expected a number of molecules")
    path = None if cache is None else cache_path(recipe, cache)
    store = storage.load(path) if path is not None and path.exists() else Store()
    if len(store.molecules) < count:
        _extend(store, count, recipe, processes, path, progress)
    return [molecule for molecule in store.molecules[:count] if split is None or split_of(molecule) == split]


def cache_path(recipe: Recipe, cache: Path | Literal["user"] = "user") -> Path:
    """Tell the file that keeps the molecules of a recipe."""
    if cache == "user":
        platformdirs = import_optional("platformdirs", "simulator", "the cache of molecules")
        cache = platformdirs.user_cache_path("twinscope") / "molecules"
    return Path(cache) / f"{recipe.elements}-{recipe.fingerprint()}.h5"


def _extend(
    store: Store, count: int, recipe: Recipe, processes: int, path: Path | None, progress: Progress | None
) -> None:
    import_optional("rdkit", "train", _WHAT)
    from twinscope.agents.structure_discovery.molecules.candidates import candidates

    new = candidates(recipe, start=store.attempts, seen=set(store.keys))
    for candidate, molecule in build_all(new, recipe, processes):
        store.keys.append(candidate.key)
        store.attempts = candidate.index + 1
        if molecule is None:
            continue
        store.molecules.append(molecule)
        made = len(store.molecules)
        if progress is not None:
            progress(made, count)
        if path is not None and (made % _SAVED_EVERY == 0 or made == count):
            storage.save(path, store)
        if made == count:
            return
