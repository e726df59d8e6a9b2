"""Entry points of the probe-particle model."""

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._checks import check_atoms, check_heights, check_points, check_tip
from twinscope.kernels._pairs import bucket
from twinscope.kernels._relax import ForceField, approach, step_tolerance
from twinscope.kernels._sites import pair_terms
from twinscope.kernels._spring import Spring
from twinscope.kernels._terms import Term, TermSum
from twinscope.kernels._types import ArrayLike, Atoms, RelaxedColumns, RelaxedScan, ScanGrid, Tip

# Columns relaxed by one call: enough to fill two cores and few enough for the cache; fewer when there are many atoms.
_LARGEST_TILE = 4096
_SMALLEST_TILE = 64
_PAIRS_PER_TILE = 2**22


def simulate(atoms: Atoms, tip: Tip, grid: ScanGrid, *terms: Term, lennard_jones: bool = True) -> RelaxedScan:
    """Simulate the approach of a probe-particle tip over a grid.

    Parameters
    ----------
    atoms
        The sample. The dtype of its positions is the precision of the computation.
    tip
        The probe particle and its springs.
    grid
        Positions of the tip anchor; z from far to near. Each slice starts from the one before, so the first should be
        so far away (or so close to the next) that the probe can find its minimum.
    terms
        Further parts of the force field, such as a :class:`~twinscope.kernels.Plane`.
    lennard_jones
        False when the terms take the place of the Lennard-Jones forces between atoms and probe.

    Returns
    -------
    RelaxedScan
        Forces, displacements and convergence, in the shape (nz, ny, nx).

    Raises
    ------
    ValueError
        When shapes do not fit, numbers are not finite, an element is unknown or z does not go from far to near. The
        message names the value.

    Notes
    -----
    The model is that of Hapala et al., Phys. Rev. B 90, 085421 (2014), without the interpolation grid of its usual
    implementations: forces are direct sums over atoms, at the probe.
    """
    x, y = jnp.asarray(grid.x), jnp.asarray(grid.y)
    points = jnp.stack(jnp.meshgrid(x, y, indexing="xy"), axis=-1).reshape(-1, 2)
    columns = relax_columns(atoms, tip, points, grid.z, *terms, lennard_jones=lennard_jones)
    shape = (len(grid.z), len(y), len(x))
    return RelaxedScan(
        columns.force_z.reshape(shape), columns.displacement.reshape(*shape, 3), columns.converged.reshape(shape)
    )


def relax_columns(
    atoms: Atoms, tip: Tip, points: ArrayLike, heights: ArrayLike, *terms: Term, lennard_jones: bool = True
) -> RelaxedColumns:
    """Simulate the approach over any list of lateral positions; see :func:`simulate`.

    Parameters
    ----------
    atoms, tip, terms, lennard_jones
        As for :func:`simulate`.
    points
        x and y of the tip anchor, in Å, shape (n, 2).
    heights
        z of the tip anchor, in Å, shape (nz,), from far to near.

    Returns
    -------
    RelaxedColumns
        Shapes (nz, n[, 3]).

    Raises
    ------
    ValueError
        As for :func:`simulate`.
    """
    check_atoms(atoms)
    check_tip(tip)
    check_points(points)
    check_heights(heights)
    pairs = pair_terms(atoms, tip, lennard_jones=lennard_jones)
    dtype = jnp.result_type(atoms.positions, jnp.float32)
    field = ForceField(TermSum((pairs, *terms)), Spring.of(tip, dtype))

    count, levels = len(points), len(heights)
    # Repeating the last height fills the stack to its bucket; each of those slices costs one evaluation.
    z = jnp.pad(jnp.asarray(heights, dtype), (0, bucket(levels, smallest=8) - levels), mode="edge")
    size = _tile_size(count, sum(leaf.shape[0] for leaf in jax.tree.leaves(pairs)) // 2)
    lateral = jnp.pad(jnp.asarray(points, dtype), ((0, -count % size), (0, 0)), mode="edge").T
    tiles = [
        approach(field, lateral[:, start : start + size], z, step_tolerance(dtype))
        for start in range(0, lateral.shape[1], size)
    ]
    force_z, displacement, converged = (jnp.concatenate(parts, axis=-1) for parts in zip(*tiles, strict=True))
    return RelaxedColumns(
        force_z[:levels, :count],
        jnp.moveaxis(displacement[:levels, :, :count], 1, -1),
        converged[:levels, :count],
    )


def _tile_size(points: int, sites: int) -> int:
    """Columns per tile: a power of eight below the largest tile, so that few shapes are ever compiled."""
    affordable = max(_SMALLEST_TILE, 2 ** int(np.log2(_PAIRS_PER_TILE / sites)))
    size = _SMALLEST_TILE
    while size < min(points, _LARGEST_TILE):
        size *= 8
    return min(size, affordable, _LARGEST_TILE)
