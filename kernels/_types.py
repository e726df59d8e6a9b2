"""What goes into a simulation and what comes out: frozen dataclasses that are JAX pytrees."""

from dataclasses import dataclass, field
from typing import Any

import jax

ArrayLike = Any
"""Anything that NumPy or JAX takes as an array, tracers included."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Atoms:
    """The atoms of a sample.

    Attributes
    ----------
    numbers
        Atomic numbers, shape (n,).
    positions
        Å, shape (n, 3). Their dtype is the precision of the simulation.
    charges
        Point charges in units of e, shape (n,); None for a sample without.
    cell
        Å, shape (3, 3), rows are the cell vectors; None for an isolated sample.
    periodic_images
        How many copies of the cell stand on each side of it, along each vector.
    lennard_jones
        Own Lennard-Jones parameters, shape (n, 2): radius R_min/2 in Å and depth in eV of every atom, as in
        :data:`ELEMENTS`; None for those of the elements.
    """

    numbers: ArrayLike
    positions: ArrayLike
    charges: ArrayLike | None = None
    cell: ArrayLike | None = None
    periodic_images: tuple[int, int, int] = field(default=(0, 0, 0), metadata={"static": True})
    lennard_jones: ArrayLike | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tip:
    """A probe particle hanging from a tip (Hapala et al., Phys. Rev. B 90, 085421 (2014)).

    Attributes
    ----------
    element
        The probe particle, as symbol or atomic number.
    rest
        (x0, y0, R) in Å: the rest position of the probe is (x0, y0, -sqrt(R² - x0² - y0²)) from the anchor.
    stiffness
        (kx, ky, kz, k_radial) in N/m: a spring to the rest position and one that keeps the distance R to the anchor.
    charges
        ((q, z), ...): point charges q in e at heights z in Å relative to the probe. They move with the probe and do
        not rotate. The default is the quadrupole of CO, -0.2 e Å² (ppafm's ``Qs=(-10, 20, -10)``).
    lennard_jones
        Own Lennard-Jones parameters of the probe: radius R_min/2 in Å and depth in eV; None for those of its element.
    rigid
        True for a probe that cannot move: the apex of a bare metal tip. It stays at its rest position, whatever the
        stiffness.
    """

    element: int | str = field(default="O", metadata={"static": True})
    rest: tuple[float, float, float] = (0.0, 0.0, 3.0)
    stiffness: tuple[float, float, float, float] = (0.25, 0.25, 0.0, 30.0)
    charges: tuple[tuple[float, float], ...] = ((-10.0, 0.1), (20.0, 0.0), (-10.0, -0.1))
    lennard_jones: tuple[float, float] | None = None
    rigid: bool = field(default=False, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ScanGrid:
    """A rectilinear grid of tip anchor positions.

    Attributes
    ----------
    x, y
        Å, shapes (nx,) and (ny,).
    z
        Å, shape (nz,): height of the tip *anchor*, from far to near. The probe hangs about R lower.
    """

    x: ArrayLike
    y: ArrayLike
    z: ArrayLike


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cantilever:
    """An oscillating force sensor; the defaults are those of a qPlus sensor.

    Attributes
    ----------
    frequency
        Resonance frequency f0, in Hz.
    stiffness
        Spring constant, in N/m.
    amplitude
        Oscillation amplitude, *peak to peak*, in Å.
    """

    frequency: float = 30300.0
    stiffness: float = 1800.0
    amplitude: float = 1.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RelaxedColumns:
    """Result of an approach over a list of lateral positions.

    Attributes
    ----------
    force_z
        Force of the sample on the relaxed probe along z, in eV/Å, shape (nz, n); positive is repulsive.
    displacement
        Probe minus its rest position, in Å, shape (nz, n, 3).
    converged
        Shape (nz, n). False where the relaxation did not settle: do not trust these numbers.
    snapped
        Shape (nz, n). True where the probe lost its minimum on the way from the slice before and went to another one.
        From there on the path depends on where it came from: the way back is another one. After coarse steps of z
        many of them only moved fast; with several ``substeps`` most of these are told apart.
    evaluations
        How often force and Hessian were computed for this slice, shape (nz, n); zero where it was interpolated
        between its neighbours.
    """

    force_z: jax.Array
    displacement: jax.Array
    converged: jax.Array
    snapped: jax.Array
    evaluations: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RelaxedScan:
    """Result of an approach over a grid: :class:`RelaxedColumns` with the shapes (nz, ny, nx[, 3])."""

    force_z: jax.Array
    displacement: jax.Array
    converged: jax.Array
    snapped: jax.Array
    evaluations: jax.Array
