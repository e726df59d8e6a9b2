"""A sample of any size: a flake of a hexagonal lattice."""

import numpy as np

from twinscope.kernels import Atoms

# Å: between neighbours of graphene.
_BOND = 1.42
_CARBON = 6
_CHARGE = 0.05


def flake(count: int) -> Atoms:
    """Make a flat flake of so many carbon atoms around the middle, with charges that alternate."""
    reach = int(np.ceil(np.sqrt(count))) + 2
    rows, columns = np.meshgrid(np.arange(-reach, reach + 1), np.arange(-reach, reach + 1))
    corners = np.stack([1.5 * rows, np.sqrt(3) * (columns + rows / 2)], axis=-1).reshape(-1, 2) * _BOND
    lateral = np.concatenate([corners, corners + np.array([_BOND, 0])])
    charges = np.repeat([_CHARGE, -_CHARGE], len(corners))
    nearest = np.argsort(np.hypot(*lateral.T), kind="stable")[:count]
    positions = np.column_stack([lateral[nearest], np.zeros(count)])
    return Atoms(np.full(count, _CARBON), positions.astype(np.float32), charges[nearest].astype(np.float32))
