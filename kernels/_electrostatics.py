"""Electrostatic energy of a charged tip in the potential of a sample."""

from collections.abc import Mapping

import numpy as np

from twinscope.kernels._grid_energy import GridEnergy
from twinscope.kernels._pairs import bucket
from twinscope.kernels._tip_density import multipole_density
from twinscope.kernels._types import ArrayLike
from twinscope.kernels._volume import Volume, check_volume, exact_namespace, is_known, known_array

# This part of a tip may stick out of a field that is not periodic.
_OUTSIDE = 1e-3
# Steps of two grids may differ so little that they are apart by this part of a step at the end of the tip.
_MISFIT = 0.01


def hartree(
    potential: Volume,
    tip: Mapping[str, ArrayLike] | Volume,
    sigma: float = 0.7,
    rotation: ArrayLike | None = None,
) -> GridEnergy:
    """Electrostatic energy ``E(R) = ∫ rho(r - R) V(r) dr`` of a tip with the probe at R.

    Along vectors that are not periodic, the energy is known only where the tip lies within the potential, so it ends
    a few sigma before the potential does.

    Parameters
    ----------
    potential
        In V: the potential that a positive charge feels. Codes write the energy of an electron, the negative of it.
    tip
        Charges of Gaussian multipoles, as for :func:`~twinscope.kernels.multipole_density`, or a charge density in
        e/Å³ (electrons negative) with the probe at (0, 0, 0) and the steps of the potential, as
        :func:`~twinscope.kernels.tip_density` and :func:`~twinscope.kernels.delta_density` give it.
    sigma
        Width of the Gaussians, in Å; the default is that of ppafm's command line. Not used with a density.
    rotation
        Turns the multipoles; see :func:`~twinscope.kernels.multipole_density`.

    Returns
    -------
    GridEnergy
        A term for :func:`~twinscope.kernels.simulate`.

    Raises
    ------
    ValueError
        When numbers are not finite, the grids do not fit together, or the potential is too small or too coarse for
        the tip.

    References
    ----------
    N. Oinonen et al., Comput. Phys. Commun. 305, 109341 (2024).
    """
    check_volume("potential", potential)
    if isinstance(tip, Volume):
        if rotation is not None:
            raise ValueError("rotation turns multipoles: turn a density with tip_density(..., rotation=...)")
        return GridEnergy.of(correlate(potential, tip, whole_tip=True))
    density = multipole_density(tip, sigma, potential, rotation)
    return GridEnergy.of(correlate(potential, density, whole_tip=True))


def correlate(sample: Volume, tip: Volume, *, whole_tip: bool) -> Volume:
    """Cross-correlation ``∫ tip(r - R) sample(r) dr`` on a grid of positions R, by Fourier transforms.

    Parameters
    ----------
    sample, tip
        Fields with the same steps; the probe is at (0, 0, 0) of the tip.
    whole_tip
        Along vectors that are not periodic: True for the positions where the tip lies within the sample's grid; False
        for all positions of the probe within it, the sample being zero outside.
    """
    check_volume("sample", sample)
    check_volume("tip density", tip)
    fields, tip_field = known_array(sample.values), known_array(tip.values)
    np_ = exact_namespace(fields, tip_field)
    _check_steps(sample, tip)
    start = known_array(tip.origin) @ np.linalg.inv(np.asarray(sample.steps))
    lengths, taken = [], []
    for axis in range(3):
        count, tip_count = fields.shape[axis], tip_field.shape[axis]
        if sample.periodic[axis]:
            tip_field = _folded(tip_field, axis, count)
            lengths.append(count)
            taken.append(np.arange(count))
            continue
        lengths.append(bucket(count + tip_count - 1))
        first, last = _extent(tip_field, axis) if whole_tip else (-start[axis], -start[axis])
        taken.append(np.arange(np.ceil(-first - 1e-6), np.floor(count - 1 - last + 1e-6) + 1, dtype=int))
        if len(taken[-1]) < 4:
            raise ValueError(
                f"the sample's grid is too small for the tip along vector {axis + 1}: it has {count} points, the tip"
                f" {tip_count}, and {len(taken[-1])} positions are left for the probe; give a larger grid or, if the"
                " sample is periodic, mark it so"
            )
    transform = np_.fft.rfftn(fields, s=lengths, axes=(0, 1, 2)) * np_.conj(
        np_.fft.rfftn(tip_field, s=lengths, axes=(0, 1, 2))
    )
    energies = np_.fft.irfftn(transform, s=lengths, axes=(0, 1, 2)) * sample.point_volume
    steps = np.asarray(sample.steps)
    counts = np.array([len(indices) for indices in taken])
    return Volume(
        energies[np.ix_(*(indices % length for indices, length in zip(taken, lengths, strict=True)))],
        steps * counts[:, None],
        known_array(sample.origin) - known_array(tip.origin) + np.array([indices[0] for indices in taken]) @ steps,
        sample.periodic,
    )


def _check_steps(sample: Volume, tip: Volume) -> None:
    ours, theirs = np.asarray(sample.steps), np.asarray(tip.steps)
    counts = np.array(np.shape(tip.values))[:, None]
    if (np.abs(theirs - ours) * counts).max() > _MISFIT * np.linalg.norm(ours, axis=1).min():
        raise ValueError(
            f"the grid of the tip density has the steps {theirs.round(4).tolist()} Å, that of the sample"
            f" {ours.round(4).tolist()}: expected the same; bring the tip on the sample's grid with tip_density()"
        )
    for axis in range(3):
        if not tip.periodic[axis]:
            continue
        if not sample.periodic[axis]:
            raise ValueError(
                f"the tip density is periodic along vector {axis + 1} but the sample is not: cut the tip out of its"
                " cell with tip_density()"
            )
        if tip.values.shape[axis] != sample.values.shape[axis]:
            raise ValueError(
                f"the periodic grid of the tip density has {tip.values.shape[axis]} points along vector {axis + 1},"
                f" that of the sample {sample.values.shape[axis]}: expected the same cell; cut the tip out of its cell"
                " with tip_density()"
            )


def _folded(values: ArrayLike, axis: int, count: int) -> ArrayLike:
    """Add up what falls on the same point of a cell of `count` points; fill up what is shorter."""
    np_ = exact_namespace(values)
    values = np_.moveaxis(values, axis, 0)
    values = np_.pad(values, ((0, -len(values) % count), (0, 0), (0, 0)))
    return np_.moveaxis(values.reshape(-1, count, *values.shape[1:]).sum(axis=0), 0, axis)


def _extent(values: ArrayLike, axis: int) -> tuple[int, int]:
    """First and last index between which next to all of a density lies."""
    if not is_known(values):
        return 0, values.shape[axis] - 1
    share = np.abs(values).sum(axis=tuple(i for i in range(3) if i != axis))
    share = np.cumsum(share) / max(share.sum(), np.finfo(float).tiny)
    first = int(np.searchsorted(share, _OUTSIDE / 2))
    return first, int(np.searchsorted(share, 1 - _OUTSIDE / 2))
