"""A molecule with its geometry, charges and bonds: what training images are simulated from."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from twinscope.errors import InvalidRequestError

FLAT = 0.7
"""Å: a molecule of which the atoms lie within this distance of each other along the normal of its plane is flat."""

_DTYPES = {
    "numbers": np.int32,
    "positions": np.float32,
    "charges": np.float32,
    "bonds": np.int32,
    "bond_orders": np.float32,
}


@dataclass(frozen=True, eq=False)
class Molecule:
    """One molecule, or a few that hydrogen bonds hold together.

    Two are equal when all their fields are.

    Attributes
    ----------
    smiles
        With the stereochemistry of the positions; the parts of a cluster are separated by dots. Empty when only atoms
        are known.
    inchikey
        Empty when only atoms are known.
    scaffold
        What decides the split, see :func:`.split_of`: the Murcko scaffold, or without a ring the carbon skeleton.
    numbers
        Atomic numbers, shape (n,), int32.
    positions
        Å, shape (n, 3), float32.
    charges
        e, shape (n,), float32.
    bonds
        Pairs of indices, the lower first, shape (m, 2), int32. Hydrogen bonds are not among them.
    bond_orders
        1, 1.5 (aromatic), 2 or 3, shape (m,), float32.

    Raises
    ------
    InvalidRequestError
        When shapes do not fit together.
    """

    smiles: str
    inchikey: str
    scaffold: str
    numbers: NDArray[np.int32]
    positions: NDArray[np.float32]
    charges: NDArray[np.float32]
    bonds: NDArray[np.int32]
    bond_orders: NDArray[np.float32]

    def __post_init__(self) -> None:
        for name, dtype in _DTYPES.items():
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype))
        atoms, bonds = self.numbers.size, self.bond_orders.size
        shapes = {"numbers": (atoms,), "positions": (atoms, 3), "charges": (atoms,), "bonds": (bonds, 2)}
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value.shape != shape:
                raise InvalidRequestError(
                    f"{name} of the molecule {self.smiles!r} has the shape {value.shape}: expected {shape} for {atoms}"
                    f" atoms and {bonds} bonds"
                )

    def __len__(self) -> int:
        return self.numbers.size

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Molecule):
            return NotImplemented
        return all(np.array_equal(getattr(self, field.name), getattr(other, field.name)) for field in fields(self))

    def __hash__(self) -> int:
        return hash((self.smiles, self.positions.tobytes()))

    @property
    def extent(self) -> float:
        """Largest distance of two nuclei, in Å."""
        between = self.positions[:, None] - self.positions
        return float(np.sqrt((between**2).sum(axis=-1).max(initial=0)))

    @property
    def thickness(self) -> float:
        """Distance of the outermost nuclei along the normal of the plane that fits best, in Å."""
        if len(self) == 0:
            return 0.0
        centred = self.positions - self.positions.mean(axis=0)
        _, _, axes = np.linalg.svd(centred, full_matrices=True)
        return float(np.ptp(centred @ axes[-1]))

    @property
    def is_flat(self) -> bool:
        """Whether it is thinner than :data:`FLAT`."""
        return self.thickness < FLAT
