"""The maps that networks predict, of atoms that are known."""

from functools import partial

import jax
import numpy as np

from twinscope.agents.structure_discovery.descriptors import descriptor_maps
from twinscope.agents.structure_discovery.prediction import DESCRIPTORS, DescriptorMap
from twinscope.agents.structure_discovery.structure import Structure
from twinscope.errors import InvalidRequestError

# Lists of atoms are filled up to a multiple of this, so that few lengths are compiled.
_BUCKET = 8

_maps = jax.jit(descriptor_maps)


def maps_of(structure: Structure, x: np.ndarray, y: np.ndarray) -> dict[str, DescriptorMap]:
    """Draw the maps of a structure, such as a refined one, to lay them beside those of a network.

    Parameters
    ----------
    structure
        Atoms with charges.
    x, y
        Å, shapes (nx,) and (ny,): coordinates of the maps.

    Returns
    -------
    dict
        By the names of prediction.DESCRIPTORS, in their order; their standard deviation is NaN.

    Raises
    ------
    InvalidRequestError
        When there are no atoms, or their charges are not known.
    """
    if not len(structure) or structure.charges is None:
        raise InvalidRequestError(
            f"the structure has {len(structure)} atoms and {'no ' if structure.charges is None else ''}charges:"
            " expected atoms with charges, such as those of a refined structure"
        )
    filled = partial(_filled_up, length=-(-len(structure) // _BUCKET) * _BUCKET)
    numbers = filled(np.asarray(structure.numbers, dtype=np.int32))
    positions, charges, x, y = (
        np.asarray(values, dtype=np.float32)
        for values in (filled(structure.positions), filled(structure.charges), x, y)
    )
    drawn = np.asarray(_maps(numbers, positions, charges, x, y))
    return {
        name: DescriptorMap(name, unit, values, np.full(values.shape, np.nan))
        for (name, unit), values in zip(DESCRIPTORS.items(), drawn, strict=True)
    }


def _filled_up(values: np.ndarray, length: int) -> np.ndarray:
    return np.pad(values, [(0, length - len(values)), *[(0, 0)] * (values.ndim - 1)])
