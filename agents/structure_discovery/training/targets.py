"""What the heads of the network are to answer, made of the true atoms on the device where it is trained."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.agents.structure_discovery.networks.discovery import DEPTHS
from twinscope.agents.structure_discovery.structure import NUMBERS

LATERAL_WIDTH = 0.35
"""Standard deviation, in Å, of an atom in the occupancy, along x and y."""

DEPTH_WIDTH = 0.25
"""The same along z."""

_ELEMENT_RADIUS = 0.45  # Å: pixels as near as this to an atom are to name its element.
_ELEMENT_DEPTH = 1.2  # Å: deeper atoms are not asked for.
_FAR = 1e3

_Targets = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


class AtomTargets(NamedTuple):
    """Targets of the heads for atoms.

    Attributes
    ----------
    occupancy
        Shape (b, my, mx, nd): 1 at an atom and falling around it as a Gaussian.
    elements
        Index of the nearest atom's element in ELEMENTS, shape (b, my, mx).
    asked
        Whether there is an atom to be named at the pixel, shape (b, my, mx).
    offsets
        Where that atom is: x and y from the pixel, z from the highest atom, in Å, shape (b, my, mx, 3).
    """

    occupancy: jax.Array
    elements: jax.Array
    asked: jax.Array
    offsets: jax.Array


def atom_targets(numbers: jax.Array | np.ndarray, positions: jax.Array | np.ndarray, axis: jax.Array) -> AtomTargets:
    """Return the targets for padded molecules.

    Parameters
    ----------
    numbers
        Atomic numbers, 0 for padding, shape (b, n).
    positions
        Å, shape (b, n, 3), z from the highest atom down.
    axis
        Coordinates of the pixels of the occupancy along x and along y, in Å, shape (m,).
    """
    index_of = jnp.asarray(np.searchsorted(NUMBERS, np.arange(max(NUMBERS) + 1)))
    numbers, positions = jnp.asarray(numbers), jnp.asarray(positions)
    count, pixels = len(numbers), len(axis)
    depths = jnp.asarray(DEPTHS, positions.dtype)

    # One atom of all molecules after the other: an array of pixels by atoms would be much slower on a CPU.
    def add(targets: _Targets, atoms: tuple[jax.Array, jax.Array]) -> tuple[_Targets, None]:
        occupancy, elements, nearest, offsets = targets
        number, position = atoms
        x, y, z = jnp.where(number[:, None] > 0, position, _FAR).T[..., None]
        to_x, to_y = x - axis, y - axis  # (b, m)
        squared_x, squared_y = to_x**2, to_y**2
        peak_x, peak_y = (jnp.exp(-squared / (2 * LATERAL_WIDTH**2)) for squared in (squared_x, squared_y))
        peak_z = jnp.exp(-((depths - z) ** 2) / (2 * DEPTH_WIDTH**2))
        peak = peak_y[:, :, None, None] * peak_x[:, None, :, None] * peak_z[:, None, None, :]
        hidden = jnp.where(z > -_ELEMENT_DEPTH, 0.0, _FAR)
        distance = (squared_y + hidden)[:, :, None] + squared_x[:, None, :]
        nearer = distance < nearest
        here = jnp.broadcast_arrays(to_x[:, None, :], to_y[:, :, None], z[..., None])
        return (
            jnp.maximum(occupancy, peak),
            jnp.where(nearer, index_of[number][:, None, None], elements),
            jnp.where(nearer, distance, nearest),
            jnp.where(nearer[..., None], jnp.stack(here, axis=-1), offsets),
        ), None

    images = (count, pixels, pixels)
    nothing = (
        jnp.zeros((*images, len(DEPTHS)), positions.dtype),
        jnp.zeros(images, index_of.dtype),
        jnp.full(images, _ELEMENT_RADIUS**2, positions.dtype),
        jnp.zeros((*images, 3), positions.dtype),
    )
    (occupancy, elements, nearest, offsets), _ = jax.lax.scan(add, nothing, (numbers.T, positions.swapaxes(0, 1)))
    return AtomTargets(occupancy, elements, nearest < _ELEMENT_RADIUS**2, offsets)
