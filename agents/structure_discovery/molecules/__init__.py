"""Molecules to train on: made at random or read from a folder, and parted by scaffold."""

from twinscope.agents.structure_discovery.molecules.collection import (
    LARGE,
    Cache,
    Progress,
    cache_path,
    large_flat,
    library,
)
from twinscope.agents.structure_discovery.molecules.folder import from_folder
from twinscope.agents.structure_discovery.molecules.generation import generate
from twinscope.agents.structure_discovery.molecules.molecule import FLAT, Molecule
from twinscope.agents.structure_discovery.molecules.recipe import Charges, Elements, Recipe
from twinscope.agents.structure_discovery.molecules.splits import SPLITS, Split, split_of

__all__ = [
    "FLAT",
    "LARGE",
    "SPLITS",
    "Cache",
    "Charges",
    "Elements",
    "Molecule",
    "Progress",
    "Recipe",
    "Split",
    "cache_path",
    "from_folder",
    "generate",
    "large_flat",
    "library",
    "split_of",
]
