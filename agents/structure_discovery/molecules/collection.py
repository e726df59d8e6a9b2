"""Sets of molecules, made once and kept."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from twinscope._optional import import_optional
from twinscope.agents.structure_discovery.molecules import storage
from twinscope.agents.structure_discovery.molecules.generation import build_all, chosen_candidates
from twinscope.agents.structure_discovery.molecules.molecule import Molecule
from twinscope.agents.structure_discovery.molecules.recipe import Charges, Elements, Recipe
from twinscope.agents.structure_discovery.molecules.splits import Split, check_split, split_of
from twinscope.agents.structure_discovery.molecules.storage import Store
from twinscope.errors import InvalidRequestError

Cache = Path | Literal["user"] | None
"""Folder to keep molecules in; "user" is the one of the user's caches, None keeps nothing."""

Progress = Callable[[int, int], None]
"""Called with the number of molecules that there are, and that there shall be."""

LARGE = 11.0
"""Å: a longer molecule fills the field of view of the published networks, 16 Å, nearly."""

_SAVED_EVERY = 500


@dataclass(frozen=True)
class _Collection:
    """The molecules of one recipe that belong to a set.

    Attributes
    ----------
    recipe
        Makes them.
    kind
        Name of the set; part of the name of its file.
    split
        Only those of this part.
    accepts
        Only those for which it is true.
    """

    recipe: Recipe
    kind: str
    split: Split | None = None
    accepts: Callable[[Molecule], bool] = lambda _: True

    def first(self, count: int, processes: int, cache: Cache, progress: Progress | None) -> list[Molecule]:
        """Load the first ones, make those that are missing, and keep them."""
        if count < 0:
            raise InvalidRequestError(f"count is {count}: expected a number of molecules")
        path = None if cache is None else self.path(cache)
        store = storage.load(path) if path is not None and path.exists() else Store()
        if len(store.molecules) < count:
            self._extend(store, count, processes, path, progress)
        return store.molecules[:count]

    def path(self, cache: Path | Literal["user"]) -> Path:
        """Tell the file that they are kept in."""
        if cache == "user":
            platformdirs = import_optional("platformdirs", "simulator", "the cache of molecules")
            cache = platformdirs.user_cache_path("twinscope") / "molecules"
        return Path(cache) / f"{self.kind}-{self.recipe.fingerprint()}.h5"

    def _extend(self, store: Store, count: int, processes: int, path: Path | None, progress: Progress | None) -> None:
        new = chosen_candidates(self.recipe, self.split, start=store.attempts, seen=set(store.keys))
        for candidate, molecule in build_all(new, self.recipe, processes):
            store.keys.append(candidate.key)
            store.attempts = candidate.index + 1
            if molecule is None or not self.accepts(molecule):
                continue
            store.molecules.append(molecule)
            made = len(store.molecules)
            if progress is not None:
                progress(made, count)
            if path is not None and (made % _SAVED_EVERY == 0 or made == count):
                storage.save(path, store)
            if made == count:
                return


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
    cache: Cache = "user",
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
        See :data:`Cache`.
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
    check_split(split)
    collection = _library(Recipe(seed, elements, flat_share, cluster_share, charges))
    molecules = collection.first(count, processes, cache, progress)
    return [molecule for molecule in molecules if split is None or split_of(molecule) == split]


def cache_path(recipe: Recipe, cache: Path | Literal["user"] = "user") -> Path:
    """Tell the file that keeps the library of a recipe."""
    return _library(recipe).path(cache)


def large_flat(
    count: int,
    seed: int = 0,
    elements: Elements = "light",
    *,
    processes: int = 1,
    cache: Cache = "user",
    progress: Progress | None = None,
) -> list[Molecule]:
    """Return molecules like PTCDA to test with: flat, longer than :data:`LARGE`, and all of them of the test part.

    The published networks fail on this class. One in forty flat attempts belongs to it, so it takes about half a second
    to make one.

    Parameters
    ----------
    count
        How many.
    seed, elements
        See :class:`.Recipe`.
    processes, cache, progress
        See :func:`library`.

    Raises
    ------
    InvalidRequestError
        When a value is out of range.
    MissingPackageError
        Without rdkit, where molecules have to be made.
    StoreError
        When the file cannot be read or written.
    """
    recipe = Recipe(seed, elements, flat_share=1.0)
    collection = _Collection(recipe, f"{elements}-large-flat-test", "test", _is_large_and_flat)
    return collection.first(count, processes, cache, progress)


def _library(recipe: Recipe) -> _Collection:
    return _Collection(recipe, recipe.elements)


def _is_large_and_flat(molecule: Molecule) -> bool:
    return molecule.extent > LARGE and molecule.is_flat
