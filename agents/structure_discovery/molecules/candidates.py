"""Molecular graphs at random, without a geometry yet: cheap enough to count and to sort."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from rdkit import Chem, rdBase

from twinscope.agents.structure_discovery.molecules.assembly import assemble
from twinscope.agents.structure_discovery.molecules.clusters import cluster_smiles
from twinscope.agents.structure_discovery.molecules.geometry import scaffold_of
from twinscope.agents.structure_discovery.molecules.recipe import Recipe

_CONNECTIVITY = 14  # letters of an InChIKey before stereochemistry and isotopes
_TRIES = 10


@dataclass(frozen=True)
class Candidate:
    """A molecule that may turn out to have a geometry.

    Attributes
    ----------
    index
        Its place among all attempts of the recipe, whether they gave a molecule or not.
    smiles
        Canonical.
    key
        What no two molecules of a set share: the part of the InChIKey that tells the connectivity, so that they are not
        even stereoisomers. Clusters have their index with it: they differ in their arrangement.
    scaffold
        See :class:`.Molecule`.
    """

    index: int
    smiles: str
    key: str
    scaffold: str


def candidates(recipe: Recipe, *, start: int = 0, seen: set[str] | None = None) -> Iterator[Candidate]:
    """Try one molecule after the other, without end.

    Parameters
    ----------
    recipe
        Decides everything: each attempt has random numbers of its own.
    start
        Index of the first attempt.
    seen
        Keys that are passed over; those that come are added.

    Yields
    ------
    Candidate
        Each with another key.
    """
    seen = set() if seen is None else seen
    index = start
    while True:
        with rdBase.BlockLogs():  # attempts that give no molecule are no news
            candidate = _attempt(recipe, index)
        index += 1
        if candidate is not None and candidate.key not in seen:
            seen.add(candidate.key)
            yield candidate


def _attempt(recipe: Recipe, index: int) -> Candidate | None:
    rng = np.random.default_rng([recipe.seed, index])
    smiles = _smiles(recipe, rng)
    # Anew from its SMILES, as its geometry is built from them, too.
    mol = None if smiles is None else Chem.MolFromSmiles(smiles)
    if smiles is None or mol is None:
        return None
    try:
        key = Chem.MolToInchiKey(mol)[:_CONNECTIVITY]
    except Chem.MolSanitizeException:  # about one of 10 000 has no double bonds that suit both RDKit and InChI
        return None
    if not key:
        return None
    return Candidate(index, smiles, f"{key}-{index}" if "." in smiles else key, scaffold_of(mol))


def _smiles(recipe: Recipe, rng: np.random.Generator) -> str | None:
    kind = rng.random()
    if kind < recipe.cluster_share:
        return cluster_smiles(rng)
    # Flat molecules fail more often: without these tries there would be less of them than asked for.
    for _ in range(_TRIES):
        mol = assemble(rng, recipe.elements, flat=kind < recipe.cluster_share + recipe.flat_share)
        if mol is not None:
            return Chem.MolToSmiles(mol)
    return None
