"""What a network says about a stack: maps with their uncertainty, and the atoms that it sees."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from twinscope.agents.structure_discovery.structure import Structure

DESCRIPTORS: Mapping[str, str] = {
    "atomic_disks": "1",
    "vdw_spheres": "Å",
    "height_map": "Å",
    "electrostatic_map": "V/Å",
}
"""Names and units of the maps; :mod:`.descriptors` computes them from atoms."""

CONDITIONS: Mapping[str, str] = {
    # Of the unrelaxed probe above the highest atom, in the lowest slice, at the middle of the oscillation.
    "height": "Å",
    "lateral_stiffness": "N/m",
    "tip_charge": "e",
    "tilt_x": "Å",
    "tilt_y": "Å",
}
"""Names and units of what is not known about a measurement: nuisance parameters of the simulation."""


@dataclass(frozen=True, eq=False)
class DescriptorMap:
    """One picture of the molecule.

    Attributes
    ----------
    name, unit
        A row of :data:`DESCRIPTORS`.
    values
        Shape (ny, nx).
    sigma
        Calibrated standard deviation, shape (ny, nx); NaN from a network that does not tell.
    """

    name: str
    unit: str
    values: np.ndarray
    sigma: np.ndarray


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says about a stack.

    Attributes
    ----------
    x, y
        Å, shapes (nx,) and (ny,): coordinates of the maps, those of the stack.
    maps
        By name.
    occupancy
        Where atoms are: 1 at an atom and falling to 0 around it, shape (nd, my, mx), on a coarser grid.
    depths
        Å, shape (nd,), falling from 0: depths of the layers of `occupancy` below the highest atom.
    occupancy_x, occupancy_y
        Å, shapes (mx,) and (my,).
    structure
        The atoms, with elements, confidence and bonds.
    conditions
        What the network thinks of the measurement itself, as (value, standard deviation) by the names of
        :data:`CONDITIONS`; empty from a network that does not tell.
    network
        Name and version of the weights.
    notes
        What was done to the data before, and what the network cannot tell, for people.
    """

    x: np.ndarray
    y: np.ndarray
    maps: Mapping[str, DescriptorMap]
    occupancy: np.ndarray
    depths: np.ndarray
    occupancy_x: np.ndarray
    occupancy_y: np.ndarray
    structure: Structure
    conditions: Mapping[str, tuple[float, float]]
    network: str
    notes: tuple[str, ...] = ()
