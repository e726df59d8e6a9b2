"""The maps that networks predict, of atoms that are known."""

import numpy as np

from twinscope.agents.structure_discovery.descriptors import descriptor_maps_of
from twinscope.agents.structure_discovery.prediction import DESCRIPTORS, DescriptorMap
from twinscope.agents.structure_discovery.structure import Structure
from twinscope.errors import InvalidRequestError


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
    drawn = descriptor_maps_of(structure.numbers, structure.positions, structure.charges, x, y)
    return {
        name: DescriptorMap(name, unit, values, np.full(values.shape, np.nan))
        for (name, unit), values in zip(DESCRIPTORS.items(), drawn, strict=True)
    }
