"""Which molecules train, validate and test: by scaffold, so that no test asks for what training has shown."""

import hashlib
from typing import Literal, get_args

from twinscope.agents.structure_discovery.molecules.molecule import Molecule
from twinscope.errors import InvalidRequestError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

# It puts benzene into training, and PTCDA and pentacene, which networks are compared on, into the test.
_SALT = "twinscope-105"
_SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}


def split_of(molecule: Molecule) -> Split:
    """Tell the part that a molecule belongs to, always and everywhere the same: 80, 10 and 10 % of all scaffolds.

    Bemis and Murcko, J. Med. Chem. 39, 2887 (1996): the scaffold of a molecule is its rings and what links them. Those
    without rings go by their carbon skeleton.
    """
    return split_of_scaffold(molecule.scaffold)


def split_of_scaffold(scaffold: str) -> Split:
    """Tell the part that all molecules with this scaffold belong to."""
    digest = hashlib.sha256(f"{_SALT}:{scaffold}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    for split in SPLITS[:-1]:
        place -= _SHARES[split]
        if place < 0:
            return split
    return SPLITS[-1]


def check_split(split: str | None) -> None:
    """Refuse the name of a part that there is not; None stands for all.

    Raises
    ------
    InvalidRequestError
        When it is unknown.
    """
    if split is not None and split not in SPLITS:
        raise InvalidRequestError(f"split is {split!r}: expected one of {', '.join(SPLITS)}, or None for all")
