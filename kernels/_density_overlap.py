"""The full-density-based model: Pauli repulsion from the overlap of electron densities."""

from collections.abc import Mapping

import numpy as np

from twinscope.kernels._electrostatics import correlate
from twinscope.kernels._elements import atomic_number
from twinscope.kernels._grid_energy import GridEnergy
from twinscope.kernels._types import ArrayLike, Atoms
from twinscope.kernels._volume import Volume, check_volume, exact_namespace, is_known, known_array


def pauli(
    sample: Volume,
    tip: Volume,
    amplitude: ArrayLike = 12.0,
    exponent: ArrayLike = 1.2,
    cutoff: float | None = None,
) -> GridEnergy:
    """Pauli repulsion ``E(R) = A ∫ rho_tip(r - R)**B rho_sample(r)**B dr`` of a tip with the probe at R.

    Together with :func:`~twinscope.kernels.hartree` of the tip's :func:`delta_density` and a dispersion energy, this
    takes the place of Lennard-Jones forces and point charges: ``simulate(..., lennard_jones=False)``. Where densities
    are slightly negative, as codes write them, they are set to zero and the rest is scaled to keep the integral.

    Parameters
    ----------
    sample, tip
        Densities of valence or all electrons in e/Å³, electrons positive, with the same steps. The probe is at
        (0, 0, 0) of the tip, as :func:`~twinscope.kernels.tip_density` makes it. Outside of a grid that is not
        periodic there are no electrons.
    amplitude, exponent
        A (eV, with densities in e/Å³ and volumes in Å³) and B. They are fitted to reference energies; the defaults
        are those of Oinonen et al. for CO tips. B is usually between 1 and 1.2.
    cutoff
        Largest density in e/Å³, for both; 100 suits all-electron densities, whose peaks at the nuclei no grid
        resolves. None for no limit.

    Returns
    -------
    GridEnergy
        A term for :func:`~twinscope.kernels.simulate`.

    Raises
    ------
    ValueError
        When numbers are not finite, the grids do not fit together, A or B is not positive, or a density holds no
        electrons.

    References
    ----------
    M. Ellner, P. Pou, R. Pérez, ACS Nano 13, 786 (2019); N. Oinonen et al., Comput. Phys. Commun. 305, 109341 (2024).
    """
    for name, value in (("amplitude", amplitude), ("exponent", exponent), ("cutoff", cutoff)):
        if value is not None and is_known(value) and not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} is {value}: expected a positive number")
    check_volume("sample density", sample)
    check_volume("tip density", tip)
    powers = []
    for name, volume in (("sample density", sample), ("tip density", tip)):
        values = _electrons(name, known_array(volume.values), cutoff)
        powers.append(Volume(values**exponent, volume.cell, volume.origin, volume.periodic))
    overlap = correlate(*powers, whole_tip=False)
    return GridEnergy.of(Volume(amplitude * overlap.values, overlap.cell, overlap.origin, overlap.periodic))


def delta_density(electrons: Volume, atoms: Atoms, valence: Mapping[int | str, float], radius: float = 0.7) -> Volume:
    """Charge density of the tip: its ion cores minus its electrons, for :func:`~twinscope.kernels.hartree`.

    A core is spread over ``105 / (32 pi radius³) (1 - (r / radius)²)²``, so that a grid can hold it; on the grid it
    is scaled to hold exactly its charge.

    Parameters
    ----------
    electrons
        Density of the valence electrons in e/Å³, electrons positive, as it was read.
    atoms
        The tip, in the same frame.
    valence
        Charge of the core, in e, of each element: as many as its valence electrons in the calculation, for example
        ``{"C": 4, "O": 6}``.
    radius
        Of the cores, in Å; the default is that of ppafm.

    Returns
    -------
    Volume
        e/Å³ on the grid of `electrons`, positive charges are positive. Its ``integral`` is the charge of the tip: it
        should be near zero.

    Raises
    ------
    ValueError
        When an element has no valence, an atom is outside of the grid, or the grid is too coarse for the cores.
    """
    check_volume("electron density", electrons)
    charges = {atomic_number(element): float(charge) for element, charge in valence.items()}
    missing = sorted(set(np.asarray(atoms.numbers).tolist()) - set(charges))
    if missing:
        raise ValueError(f"valence has no element {missing[0]}: expected the core charge of each element of the tip")
    steps = np.asarray(electrons.steps)
    if np.linalg.norm(steps, axis=1).max() > radius / 2:
        raise ValueError(
            f"the grid is too coarse for the cores: its steps are up to {np.linalg.norm(steps, axis=1).max():.2f} Å"
            f" long, expected at most half of the radius of {radius} Å"
        )
    density = -known_array(electrons.values)
    counts, periodic = np.array(density.shape), np.array(electrons.periodic)
    half = np.ceil(radius * np.linalg.norm(np.linalg.inv(steps), axis=0)).astype(int) + 1
    around = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in half), indexing="ij"), axis=-1).reshape(-1, 3)
    for number, position in zip(np.asarray(atoms.numbers), np.asarray(atoms.positions, float), strict=True):
        place = (position - known_array(electrons.origin)) @ np.linalg.inv(steps)
        index = np.round(place).astype(int) + around
        core = np.maximum(1 - np.sum(((index - place) @ steps) ** 2, axis=1) / radius**2, 0) ** 2
        index, core = index[core > 0], core[core > 0]
        if (~periodic & ((index < 0) | (index >= counts))).any():
            raise ValueError(
                f"the atom at {position.tolist()} Å is not inside of the grid of the electron density: expected both in"
                " the same frame, and the core within the grid"
            )
        # Two points of a core may fall on one point of a cell that is smaller than the core.
        core = charges[int(number)] * core / (core.sum() * electrons.point_volume)
        if exact_namespace(density) is np:
            np.add.at(density, tuple((index % counts).T), core)
        else:
            density = density.at[tuple((index % counts).T)].add(core)
    return Volume(density, electrons.cell, electrons.origin, electrons.periodic)


def _electrons(name: str, values: ArrayLike, cutoff: float | None) -> ArrayLike:
    """Return a density without negative values, with the same integral, up to the cut-off."""
    np_ = exact_namespace(values)
    positive = np_.maximum(values, 0)
    if is_known(values) and not values.sum() > 0:
        raise ValueError(
            f"the {name} sums up to {values.sum():.4g}: expected electrons, as positive numbers; turn the sign if the"
            " file holds charges"
        )
    kept = positive * (values.sum() / positive.sum())
    return kept if cutoff is None else np_.minimum(kept, cutoff)
