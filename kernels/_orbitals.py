"""Orbitals of a sample, and their gradients, wherever the probe is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._grid_energy import GridEnergy
from twinscope.kernels._types import ArrayLike
from twinscope.kernels._volume import Volume, check_volume


class Orbitals(Protocol):
    """Sample orbitals. They are a pytree: a frozen dataclass that is registered with JAX."""

    @property
    def energies(self) -> ArrayLike:
        """Energies in eV from the Fermi level, shape (m,)."""
        ...

    def amplitudes(self, points: jax.Array) -> jax.Array:
        """Orbitals and their derivatives by x, y and z, shape (4, m, n), at points (3, n) in Å."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GridOrbitals:
    """Orbitals on a grid, as electronic-structure codes write them, between the points by tricubic splines.

    Attributes
    ----------
    energies
        eV from the Fermi level, shape (m,).
    grid
        All orbitals: the coefficients have the shape (m, ...).
    """

    energies: ArrayLike
    grid: GridEnergy

    @classmethod
    def of(cls, energies: ArrayLike, volumes: Sequence[Volume]) -> "GridOrbitals":
        """Take one energy (eV from the Fermi level) and one real orbital on a common grid each.

        Raises
        ------
        ValueError
            When the numbers of both differ, or the grids.
        """
        if np.shape(energies) != (len(volumes),) or not volumes:
            raise ValueError(
                f"energies have shape {np.shape(energies)} for {len(volumes)} orbitals: expected one for each"
            )
        first = volumes[0]
        for i, volume in enumerate(volumes):
            check_volume(f"orbitals[{i}]", volume)
            if (np.shape(volume.values), volume.periodic) != (np.shape(first.values), first.periodic) or not (
                np.allclose(volume.cell, first.cell) and np.allclose(volume.origin, first.origin)
            ):
                raise ValueError(f"orbitals[{i}] is on another grid than orbitals[0]: expected one grid for all")
        grids = [GridEnergy.of(volume) for volume in volumes]
        return cls(jnp.asarray(energies), replace(grids[0], coefficients=jnp.stack([g.coefficients for g in grids])))

    def amplitudes(self, points: jax.Array) -> jax.Array:
        """See :class:`Orbitals`; NaN outside of the grid."""

        def of_one(coefficients: jax.Array) -> jax.Array:
            orbital = replace(self.grid, coefficients=coefficients)
            force, _ = orbital.force_and_hessian(points)
            return jnp.stack([orbital.energy(points), *(-part for part in force)])

        return jnp.moveaxis(jax.lax.map(of_one, self.grid.coefficients), 0, 1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PiOrbitals:
    """Pi orbitals of a flat molecule: ``sum_a c_a cos(theta_a) exp(-decay r_a)``, one p_z function on every atom.

    Attributes
    ----------
    energies
        eV from the Fermi level, shape (m,).
    coefficients
        Shape (m, atoms), as Hückel theory gives them.
    positions
        Of the atoms, in Å, shape (atoms, 3).
    decay
        1/Å: ``0.512 sqrt(work function in eV)`` in the vacuum.
    """

    energies: ArrayLike
    coefficients: ArrayLike
    positions: ArrayLike
    decay: ArrayLike = 1.0

    def amplitudes(self, points: jax.Array) -> jax.Array:
        """See :class:`Orbitals`."""
        dtype = points.dtype
        away = points[:, None, :] - jnp.asarray(self.positions, dtype).T[:, :, None]
        r = jnp.sqrt(jnp.sum(away * away, axis=0))
        radial = jnp.exp(-jnp.asarray(self.decay, dtype) * r) / r
        value = away[2] * radial
        gradient = -value * (self.decay + 1 / r) / r * away
        basis = jnp.stack([value, gradient[0], gradient[1], gradient[2] + radial])
        coefficients = jnp.asarray(self.coefficients, dtype)
        return jnp.einsum("ma,kan->kmn", coefficients, basis, precision=jax.lax.Precision.HIGHEST)
