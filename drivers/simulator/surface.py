"""What the tip can be over: one sample, or a world of many molecules."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from twinscope.kernels import Atoms, Plane, Terraces


@dataclass(frozen=True)
class Block:
    """Positions of the tip that are relaxed together, with what is near them.

    Attributes
    ----------
    chosen
        Which of the positions that were asked for, shape (n,).
    points
        x and y of these, in Å, shape (n, 2), from an origin of the block's own: single precision would lose digits
        of positions that are far from zero.
    atoms, metal
        From the same origin.
    """

    chosen: np.ndarray
    points: np.ndarray
    atoms: Atoms
    metal: Plane | Terraces | None


class Surface(Protocol):
    """Something to be imaged."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def source(self) -> dict[str, Any]:
        """What it was made from, enough to make it again."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know about it."""
        ...

    @property
    def atom_count(self) -> int | None:
        """How many atoms it has; None where they are made when the tip comes near."""
        ...

    @property
    def work_function(self) -> float:
        """In eV."""
        ...

    def ground(self, points: np.ndarray) -> np.ndarray:
        """Height (Å) of the atoms of a flat molecule at positions (n, 2), in Å; zero on the reference terrace."""
        ...

    def blocks(self, points: np.ndarray) -> Iterator[Block]:
        """Cut positions (n, 2), in Å, into blocks; each position is in one of them."""
        ...
