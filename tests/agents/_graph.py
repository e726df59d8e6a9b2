"""Molecules in random poses, and what a network would say about them."""

import numpy as np
from ase.build import molecule

from twinscope.agents.structure_discovery.graph.peak_fit import PeakShape
from twinscope.agents.structure_discovery.structure import NUMBERS, Structure

# The coarse grid of networks: every 2 x 2 block of 128 x 128 pixels over 16 Å.
AXIS = (np.arange(64) - 31.5) * 32 / 127
DEPTHS = -0.2 * np.arange(8)
NAMES = ("C6H6", "C5H5N", "C4H4S", "C4H4O", "CH3CH2OH", "CH3CONH2", "CH3CH2Cl", "Si2H6", "CF4", "C2H2", "H2O", "PH3")


def pose(name, rng):
    """A molecule of ASE's collection, turned at random, with its highest atom at zero."""
    atoms = molecule(name)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    positions = atoms.positions @ rotation
    positions -= positions.mean(axis=0)
    positions[:, :2] += rng.uniform(-2, 2, 2)
    positions[:, 2] -= positions[:, 2].max()
    return Structure.known(atoms.numbers, positions)


def structure(numbers, positions, bonds=(), orders=None):
    """A structure without doubt; bonds are single unless told otherwise."""
    return Structure.known(numbers, positions, None, bonds, [1.0] * len(bonds) if orders is None else orders)


def occupancy(truth, depths=DEPTHS, x=AXIS, y=AXIS):
    return PeakShape().occupancy(truth.positions, depths, x, y)


def element_maps(truth, sure=0.9, x=AXIS, y=AXIS):
    """Each pixel has the element of the atom that is nearest to it in the plane: shape (elements, ny, nx)."""
    distances = [np.hypot(x[None] - px, y[:, None] - py) - 0.1 * pz for px, py, pz in truth.positions]
    nearest = truth.numbers[np.argmin(distances, axis=0)]
    certain = nearest == np.array(NUMBERS)[:, None, None]
    return np.where(certain, sure, (1 - sure) / (len(NUMBERS) - 1))
