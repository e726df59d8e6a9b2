"""Lists of the atoms of a sample and of its periodic images, filled up to a bucket size."""

from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._pairs import NOWHERE, bucket
from twinscope.kernels._types import ArrayLike, Atoms


def namespace(*values: ArrayLike) -> ModuleType:
    """NumPy for what is known, which saves the launch of many small computations; JAX for the rest."""
    return jnp if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(values)) else np


def precision(atoms: Atoms) -> jnp.dtype:
    """Return the precision of a simulation: that of the positions, and single for whole numbers."""
    positions = atoms.positions
    return jnp.result_type(positions if isinstance(positions, jax.Array) else np.asarray(positions), jnp.float32)


def image_shifts(atoms: Atoms, np_: ModuleType) -> ArrayLike:
    """Return the translations (m, 3) of the periodic images, in Å, the cell itself included."""
    if atoms.cell is None:
        return np.zeros((1, 3))
    ranges = [np.arange(-n, n + 1) for n in atoms.periodic_images]
    counts = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    return counts @ np_.asarray(atoms.cell)


def filled_up(np_: ModuleType, dtype: jnp.dtype, positions: ArrayLike, *values: ArrayLike) -> list[ArrayLike]:
    """Fill a list of sites up to its bucket with sites far away whose values are all zero."""
    missing = bucket(len(positions)) - len(positions)
    nowhere = np.broadcast_to(np.asarray(NOWHERE), (missing, 3))
    filled = [np_.concatenate([positions, nowhere]), *(np_.pad(value, (0, missing)) for value in values)]
    return [np_.asarray(value, dtype) for value in filled]


def sites_of(atoms: Atoms, *values: ArrayLike) -> list[ArrayLike]:
    """List the atoms with their images, filled up to a bucket size.

    Parameters
    ----------
    atoms
        Sample of n atoms.
    values
        What each atom brings with it, shape (n,); its images bring the same.

    Returns
    -------
    list of array
        Positions (m, 3) in Å and the values (m,), in the precision of the positions. Samples of similar size have the
        same m, so they share one compilation.
    """
    np_ = namespace(atoms.positions, atoms.cell, *values)
    shifts = image_shifts(atoms, np_)
    positions = (np_.asarray(atoms.positions)[None] + shifts[:, None, :]).reshape(-1, 3)
    tiled = (np_.tile(np_.asarray(value), len(shifts)) for value in values)
    return filled_up(np_, precision(atoms), positions, *tiled)
