"""What the probe feels where it came to rest."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from twinscope.kernels._checks import check_atoms, check_displacement, check_grid, check_tip
from twinscope.kernels._force_field import ForceField
from twinscope.kernels._sites import pair_terms
from twinscope.kernels._spring import Spring
from twinscope.kernels._terms import Term, TermSum
from twinscope.kernels._types import ArrayLike, Atoms, ScanGrid, Tip
from twinscope.kernels._vectors import add

# Points evaluated together: their pairs with a few hundred atoms stay in the cache.
_TILE = 4096


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ProbeProperties:
    """Energy, forces and stiffness at given positions of the probe, in the shape of the scan.

    Attributes
    ----------
    energy
        Of the probe in the field of the sample, in eV, shape (nz, ny, nx).
    spring_energy
        Of the springs, in eV, shape (nz, ny, nx).
    force
        Of the sample on the probe, in eV/Å, shape (nz, ny, nx, 3).
    hessian
        Second derivatives of the total energy, sample and springs, in eV/Å², shape (nz, ny, nx, 3, 3): what the probe
        vibrates in.
    """

    energy: jax.Array
    spring_energy: jax.Array
    force: jax.Array
    hessian: jax.Array


def probe_properties(
    atoms: Atoms, tip: Tip, grid: ScanGrid, displacement: ArrayLike, *terms: Term, lennard_jones: bool = True
) -> ProbeProperties:
    """Evaluate the force field where the probe is.

    Parameters
    ----------
    atoms, tip, grid, terms, lennard_jones
        As for :func:`~twinscope.kernels.simulate`.
    displacement
        Of the probe from its rest position, in Å, shape (nz, ny, nx, 3), as :func:`~twinscope.kernels.simulate` gives
        it.

    Returns
    -------
    ProbeProperties
        In the shape of the grid.

    Raises
    ------
    ValueError
        As :func:`~twinscope.kernels.simulate`, and when `displacement` has another shape.
    """
    check_atoms(atoms)
    check_tip(tip)
    check_grid(grid)
    shape = (len(grid.z), len(grid.y), len(grid.x))
    check_displacement(displacement, (*shape, 3))
    dtype = jnp.result_type(atoms.positions, jnp.float32)
    field = ForceField(TermSum((pair_terms(atoms, tip, lennard_jones=lennard_jones), *terms)), Spring.of(tip, dtype))
    z, y, x = jnp.meshgrid(*(jnp.asarray(axis, dtype) for axis in (grid.z, grid.y, grid.x)), indexing="ij")
    anchors = jnp.stack([x, y, z]).reshape(3, -1)
    displacements = jnp.moveaxis(jnp.asarray(displacement, dtype), -1, 0).reshape(3, -1)
    energy, spring_energy, force, hessian = _properties(field, anchors, displacements)
    return ProbeProperties(
        energy.reshape(shape),
        spring_energy.reshape(shape),
        force.T.reshape(*shape, 3),
        jnp.moveaxis(hessian, -1, 0).reshape(*shape, 3, 3),
    )


@jax.jit
def _properties(
    field: ForceField, anchors: jax.Array, displacements: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    count = anchors.shape[1]
    tiles = [
        jnp.pad(values, ((0, 0), (0, -count % _TILE)), mode="edge").reshape(3, -1, _TILE).swapaxes(0, 1)
        for values in (anchors, displacements)
    ]

    def of_tile(tile: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, ...]:
        anchor, displacement = tile
        moved = (displacement[0], displacement[1], displacement[2])
        points = field.probe((anchor[0], anchor[1]), anchor[2], moved)
        force, curvature = field.sample.force_and_hessian(points)
        _, stiffness = field.spring.force_and_hessian(moved)
        xx, xy, xz, yy, yz, zz = add(curvature, stiffness)
        hessian = jnp.stack([jnp.stack(row) for row in ((xx, xy, xz), (xy, yy, yz), (xz, yz, zz))])
        return field.sample.energy(points), field.spring.energy(moved), jnp.stack(force), hessian

    results = jax.lax.map(of_tile, tuple(tiles))
    return jax.tree.map(
        lambda values: jnp.moveaxis(values, 0, -2).reshape(*values.shape[1:-1], -1)[..., :count], results
    )
