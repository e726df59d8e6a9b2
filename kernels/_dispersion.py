"""Dispersion (van der Waals attraction) of DFT-D3 with Becke-Johnson damping, between sample and probe particle.

The reference data of D3 - C6 coefficients of elements in different surroundings, and parameters for density functionals
- come from the package ``dftd3`` (simple-dftd3, kept up by the authors of the method), not from tables of our own.
"""

import difflib
import importlib
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._checks import check_atoms
from twinscope.kernels._elements import atomic_number
from twinscope.kernels._images import image_shifts, sites_of
from twinscope.kernels._pairs import radial_of_fraction, squared_distances, sum_over_sites
from twinscope.kernels._terms import Hessian, Vector
from twinscope.kernels._types import ArrayLike, Atoms, Tip

# CODATA 2018.
_BOHR = 0.529177210903
_HARTREE = 27.211386245988

# The method knows hydrogen to plutonium; beyond its tables the library reads memory that is not its own.
_HEAVIEST = 94
# Bonds are counted up to here; at 10 Å an atom counts a millionth of a bond.
_REACH = 10.0
# Where the probe stands while the coefficients are read, above everything: it counts no bond there.
_FAR = 50.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DispersionCoefficients:
    """What DFT-D3 knows about each pair of an atom of the sample and the probe.

    The pair energy is ``-c6 / (r**6 + radius**6) - c8 / (r**8 + radius**8)``.

    Attributes
    ----------
    c6, c8
        eV Å⁶ and eV Å⁸, shape (n,), scaled with the functional's s6 and s8.
    radius
        Damping radius ``a1 sqrt(C8 / C6) + a2``, in Å, shape (n,).
    """

    c6: ArrayLike
    c8: ArrayLike
    radius: ArrayLike


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DispersionSites:
    """Sites with the pair energy ``-c6 / (r**6 + radius**6) - c8 / (r**8 + radius**8)``.

    Attributes
    ----------
    positions
        Å, shape (m, 3).
    c6, c8, radius
        As in :class:`DispersionCoefficients`, shape (m,).
    cutoff
        Å. Sites farther away than this do not pull.
    """

    positions: ArrayLike
    c6: ArrayLike
    c8: ArrayLike
    radius: ArrayLike
    cutoff: ArrayLike = np.inf

    def energy(self, points: jax.Array) -> jax.Array:
        """Sum over all sites; see :class:`~twinscope.kernels.Term`."""
        s = squared_distances(points, self.positions)
        energy = -self.c6[:, None] / self._sixth(s) - self.c8[:, None] / self._eighth(s)
        return jnp.sum(jnp.where(self._near(s), energy, 0), axis=0)

    def force_and_hessian(self, points: jax.Array) -> tuple[Vector, Hessian]:
        """Sum over all sites; see :class:`~twinscope.kernels.Term`."""
        return sum_over_sites(points, self.positions, self.c6 != 0, self._radial)

    def _radial(self, s: jax.Array) -> tuple[jax.Array, jax.Array]:
        g6, h6 = radial_of_fraction(-self.c6[:, None], self._sixth)(s)
        g8, h8 = radial_of_fraction(-self.c8[:, None], self._eighth)(s)
        near = self._near(s)
        return jnp.where(near, g6 + g8, 0), jnp.where(near, h6 + h8, 0)

    def _near(self, s: jax.Array) -> jax.Array:
        return s <= self.cutoff**2

    def _sixth(self, s: jax.Array) -> jax.Array:
        return s**3 + (self.radius**6)[:, None]

    def _eighth(self, s: jax.Array) -> jax.Array:
        return s**4 + (self.radius**8)[:, None]


def dispersion_d3(
    atoms: Atoms,
    tip: Tip,
    functional: str = "pbe",
    *,
    cutoff: float | None = None,
    coefficients: DispersionCoefficients | None = None,
) -> DispersionSites:
    """DFT-D3(BJ) dispersion between a sample and the probe particle.

    It only attracts: give it to :func:`simulate` together with ``lennard_jones=False`` and a term that repels.

    Parameters
    ----------
    atoms, tip
        Sample and probe. Periodic images are written out.
    functional
        Density functional whose parameters to use, in the spelling of ``dftd3``: "pbe", "revpbe", "b3lyp", "r2scan"...
    cutoff
        Å; sites farther away do not pull (the reference code ``ppafm`` takes 20 Å). The energy has a step there. None
        for no limit.
    coefficients
        What :func:`dispersion_coefficients` gave for these atoms, this tip and a functional, which is then not looked
        at. Needed where the positions are not known, inside of a JAX transformation; the coefficients stay as they are
        while the atoms move.

    Returns
    -------
    DispersionSites
        A term of the force field.

    Raises
    ------
    ModuleNotFoundError
        When the package ``dftd3`` is not installed; the message says how to get it.
    ValueError
        As for :func:`dispersion_coefficients`, or when the cut-off is not positive or the coefficients belong to
        another number of atoms.
    """
    if cutoff is not None and not cutoff > 0:
        raise ValueError(f"cutoff is {cutoff} Å: expected a positive number, or None for no limit")
    if coefficients is None:
        coefficients = dispersion_coefficients(atoms, tip, functional)
    count = np.shape(atoms.positions)[0]
    if np.shape(coefficients.c6) != (count,):
        raise ValueError(
            f"the coefficients are those of {np.size(coefficients.c6)} atoms, but the sample has {count}: "
            "call dispersion_coefficients for this sample"
        )
    positions, c6, c8, radius = sites_of(atoms, coefficients.c6, coefficients.c8, coefficients.radius)
    return DispersionSites(positions, c6, c8, radius, np.inf if cutoff is None else cutoff)


def dispersion_coefficients(atoms: Atoms, tip: Tip, functional: str = "pbe") -> DispersionCoefficients:
    """Coefficients of DFT-D3(BJ) between the atoms of a sample and the probe particle.

    They depend on how many neighbours an atom has, its periodic images included. The probe has none. There is no
    three-body term.

    Parameters
    ----------
    atoms, tip
        Sample and probe. Numbers and positions must be known, which they are not inside of a JAX transformation.
    functional
        As for :func:`dispersion_d3`.

    Returns
    -------
    DispersionCoefficients
        In the order of the atoms.

    Raises
    ------
    ModuleNotFoundError
        When the package ``dftd3`` is not installed; the message says how to get it.
    ValueError
        When the functional is unknown, an element is beyond plutonium, or atoms stand on top of each other.

    Notes
    -----
    The library tells energies of pairs, not coefficients. With the probe far above and no damping (a1 = a2 = 0), the
    energy of a pair is ``-s6 C6 / r**6 - s8 C8 / r**8``, so asking once with (s6, s8) = (1, 0) and once with (0, 1)
    gives both without any loss of digits.

    References
    ----------
    Grimme, Antony, Ehrlich, Krieg, J. Chem. Phys. 132, 154104 (2010); Grimme, Ehrlich, Goerigk, J. Comput. Chem. 32,
    1456 (2011).
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((atoms.numbers, atoms.positions, atoms.cell))):
        raise ValueError(
            "the sample is not known inside of a JAX transformation: call dispersion_coefficients outside of it, and "
            "give the result to dispersion_d3(..., coefficients=...)"
        )
    check_atoms(atoms)
    _check_elements(atoms, tip)
    damping = _damping_parameters(functional)
    c6, c8 = _bare_coefficients(atoms, tip)
    radius = damping["a1"] * np.sqrt(c8 / c6) + damping["a2"] * _BOHR
    return DispersionCoefficients(damping["s6"] * c6, damping["s8"] * c8, radius)


def _check_elements(atoms: Atoms, tip: Tip) -> None:
    for number in (*np.asarray(atoms.numbers), atomic_number(tip.element)):
        if number > _HEAVIEST:
            raise ValueError(f"DFT-D3 has no coefficients for element {number}: expected 1 (H) to {_HEAVIEST} (Pu)")


def _damping_parameters(functional: str) -> dict[str, float]:
    """Return s6, s8, a1 (no units) and a2 (bohr) of a functional."""
    library = _import("dftd3.parameters")
    known = library.get_all_damping_params(["bj"])
    try:
        parameters: dict[str, float] = library.get_damping_param(functional, defaults=["bj"])
    except (KeyError, AttributeError) as exc:
        close = difflib.get_close_matches(str(functional).lower(), known, n=4) or ["pbe", "revpbe", "b3lyp", "r2scan"]
        raise ValueError(
            f"unknown functional {functional!r}: expected one of the {len(known)} that the package dftd3 knows, such "
            f"as {', '.join(close)}"
        ) from exc
    return parameters


def _bare_coefficients(atoms: Atoms, tip: Tip) -> tuple[np.ndarray, np.ndarray]:
    """Return C6 and C8 of every atom with the probe, in eV Å⁶ and eV Å⁸."""
    library = _import("dftd3.interface")
    numbers, positions = _with_neighbours(atoms)
    probe = positions.mean(axis=0)
    probe[2] = positions[:, 2].max() + _FAR
    try:
        model = library.DispersionModel(
            np.append(numbers, atomic_number(tip.element)), np.vstack([positions, probe]) / _BOHR
        )
    except RuntimeError as exc:
        raise ValueError(f"the positions of the atoms are not those of a sample: {exc}") from exc
    distance = np.linalg.norm(positions - probe, axis=1) / _BOHR
    # Every pair with the probe, no three-body terms, and the library's own reach for counting bonds, all in bohr.
    model.set_realspace_cutoff(2 * distance.max(), 1e-3, 40.0)
    count = len(np.asarray(atoms.numbers))

    def pair_energies(s6: float, s8: float) -> np.ndarray:
        bare = library.RationalDampingParam(s6=s6, s8=s8, s9=0.0, a1=0.0, a2=0.0)
        shares = model.get_pairwise_dispersion(bare)["additive pairwise energy"]
        # Half of the energy of a pair is booked with each of the two.
        energies: np.ndarray = (shares[-1] + shares[:, -1])[:count]
        return energies

    c6 = -pair_energies(1.0, 0.0) * distance[:count] ** 6
    c8 = -pair_energies(0.0, 1.0) * distance[:count] ** 8
    return c6 * _HARTREE * _BOHR**6, c8 * _HARTREE * _BOHR**8


def _with_neighbours(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers and positions of the atoms, then of the images that stand close enough to count as neighbours."""
    numbers, positions = np.asarray(atoms.numbers), np.asarray(atoms.positions, float)
    shifts = np.asarray(image_shifts(atoms, np), float)
    shifts = shifts[np.any(shifts != 0, axis=1)]
    images = (positions + shifts[:, None]).reshape(-1, 3)
    low, high = positions.min(axis=0) - _REACH, positions.max(axis=0) + _REACH
    near = np.all((images > low) & (images < high), axis=1)
    return np.append(numbers, np.tile(numbers, len(shifts))[near]), np.vstack([positions, images[near]])


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        raise ModuleNotFoundError(
            f"DFT-D3 needs the package 'dftd3' ({exc}): pip install 'twinscope[dispersion]'", name=exc.name
        ) from exc
