"""The output of structure discovery: atoms with elements, positions and bonds."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike

from twinscope.errors import InvalidRequestError

ELEMENTS: tuple[str, ...] = ("H", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Br")
"""The elements that networks tell apart, in the order of their outputs."""

NUMBERS: tuple[int, ...] = (1, 6, 7, 8, 9, 14, 15, 16, 17, 35)
"""Their atomic numbers."""


@dataclass(frozen=True, eq=False)
class Structure:
    """Atoms, as far as they were seen.

    Attributes
    ----------
    numbers
        Atomic numbers, shape (n,).
    positions
        Å, shape (n, 3): x and y in the coordinates of the stack, z from the highest atom down (zero and below).
    confidence
        Probability that there is an atom, shape (n,).
    probabilities
        Of the elements of :data:`ELEMENTS`, shape (n, len(ELEMENTS)).
    sigma
        Standard deviation of the positions, in Å, shape (n, 3); NaN where it is not known.
    bonds
        Pairs of indices, the lower first, shape (m, 2).
    bond_orders
        1, 1.5 (aromatic), 2 or 3, shape (m,).
    charges
        e, shape (n,), or None.

    Raises
    ------
    InvalidRequestError
        When shapes do not fit together.
    """

    numbers: np.ndarray
    positions: np.ndarray
    confidence: np.ndarray
    probabilities: np.ndarray
    sigma: np.ndarray
    bonds: np.ndarray
    bond_orders: np.ndarray
    charges: np.ndarray | None = None

    def __post_init__(self) -> None:
        count, bond_count = len(self.numbers), len(self.bonds)
        shapes = {
            "numbers": (count,),
            "positions": (count, 3),
            "confidence": (count,),
            "probabilities": (count, len(ELEMENTS)),
            "sigma": (count, 3),
            "bonds": (bond_count, 2),
            "bond_orders": (bond_count,),
            "charges": (count,),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and np.shape(value) != shape:
                raise InvalidRequestError(
                    f"{name} of the structure has the shape {np.shape(value)}: expected {shape} for {count} atoms with"
                    f" {bond_count} bonds"
                )
        bonds = self.bonds
        if bonds.size and (bonds.min() < 0 or bonds.max() >= count or (bonds[:, 0] >= bonds[:, 1]).any()):
            raise InvalidRequestError(
                f"bonds of the structure are {bonds.tolist()}: expected pairs of different atoms below {count}, the"
                " lower first"
            )

    @classmethod
    def known(
        cls,
        numbers: ArrayLike,
        positions: ArrayLike,
        charges: ArrayLike | None = None,
        bonds: ArrayLike = (),
        bond_orders: ArrayLike = (),
    ) -> Self:
        """Make a structure without any doubt: the truth."""
        numbers = np.asarray(numbers, dtype=int).reshape(-1)
        count = len(numbers)
        return cls(
            numbers,
            np.asarray(positions, dtype=float).reshape(-1, 3),
            np.ones(count),
            (numbers[:, None] == np.array(NUMBERS)).astype(float),
            np.zeros((count, 3)),
            np.asarray(bonds, dtype=int).reshape(-1, 2),
            np.asarray(bond_orders, dtype=float).reshape(-1),
            None if charges is None else np.asarray(charges, dtype=float).reshape(-1),
        )

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Chemical symbols of the atoms."""
        names = dict(zip(NUMBERS, ELEMENTS, strict=True))
        return tuple(names.get(int(number), "X") for number in self.numbers)
