"""Molecules to train on: made at random or read from a folder, and parted by scaffold."""

from twinscope.agents.structure_discovery.molecules.generation import generate
from twinscope.agents.structure_discovery.molecules.library import cache_path, library
from twinscope.agents.structure_discovery.molecules.molecule import FLAT, Molecule
from twinscope.agents.structure_discovery.molecules.recipe import Charges, Elements, Recipe
from twinscope.agents.structure_discovery.molecules.splits import SPLITS, Split, split_of

__all__ = [
    "FLAT",
    "SPLITS",
    "Charges",
    "Elements",
    "Molecule",
    "Recipe",
    "Split",
    "cache_path",
    "generate",
    "library",
    "split_of",
]
