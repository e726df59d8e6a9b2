"""The part of a stack that is compared with the simulation, and its noise."""

from dataclasses import dataclass

import numpy as np

from twinscope.agents.noise import MEDIAN_TO_SIGMA
from twinscope.agents.structure_discovery.refinement.options import RefinementOptions
from twinscope.agents.structure_discovery.stack import ImageStack, force_heights, gradient_per_hertz
from twinscope.errors import InvalidRequestError

_FEWEST_VALUES = 100


@dataclass(frozen=True, eq=False)
class Measurement:
    """Values to be compared.

    Attributes
    ----------
    values
        Force gradient in N/m, shape (nz, ny, nx).
    measured
        Which of them are known, same shape.
    x, y
        Å, shapes (nx,) and (ny,).
    slices
        Indices into the stack, shape (nz,).
    noise
        Standard deviation of the noise, in N/m, shape (nz,).
    contrast
        Standard deviation of the values, in N/m, shape (nz,).
    levels
        Heights at which the force is needed, in Å, from far to near: above the middle of the oscillation in the lowest
        slice of the stack, measured or not.
    weights
        Force gradient = weights @ force along z in eV/Å, shape (nz, len(levels)).
    """

    values: np.ndarray
    measured: np.ndarray
    x: np.ndarray
    y: np.ndarray
    slices: np.ndarray
    noise: np.ndarray
    contrast: np.ndarray
    levels: np.ndarray
    weights: np.ndarray

    @property
    def points(self) -> np.ndarray:
        """Lateral positions in Å, shape (ny nx, 2), line after line."""
        return np.stack(np.meshgrid(self.x, self.y), axis=-1).reshape(-1, 2)


def select(stack: ImageStack, positions: np.ndarray, options: RefinementOptions) -> Measurement:
    """Take the pixels around atoms, and estimate the noise.

    Parameters
    ----------
    stack
        The whole measurement. Slices of which nothing was measured near the atoms are left out.
    positions
        Of the atoms, in Å, shape (n, 3).
    options
        How many pixels and slices, and the noise if it is known.

    Raises
    ------
    InvalidRequestError
        When the stack has next to no values near the atoms.
    """
    low, high = positions[:, :2].min(axis=0) - options.margin, positions[:, :2].max(axis=0) + options.margin
    columns = np.flatnonzero((stack.x >= low[0]) & (stack.x <= high[0]))
    lines = np.flatnonzero((stack.y >= low[1]) & (stack.y <= high[1]))
    stride = max(1, int(np.ceil(np.sqrt(len(columns) * len(lines) / options.pixels))))
    columns, lines = columns[::stride], lines[::stride]
    values = stack.force_gradient[:, lines][..., columns].astype(float)
    there = np.flatnonzero(np.isfinite(values).any(axis=(1, 2)))
    chosen = np.linspace(0, len(there) - 1, min(options.slices, len(there))).round().astype(int)
    slices = there[np.unique(chosen)]
    values = values[slices]
    measured = np.isfinite(values)
    if measured.sum() < _FEWEST_VALUES:
        raise InvalidRequestError(
            f"the stack has {measured.sum()} values within {options.margin} Å of the atoms: expected at least"
            f" {_FEWEST_VALUES}; look whether atoms and stack have the same origin"
        )
    levels, weights = force_heights(stack.z[slices] - stack.z[-1], float(stack.cantilever.amplitude))
    return Measurement(
        values,
        measured,
        stack.x[columns],
        stack.y[lines],
        slices,
        _noise(stack, slices, options),
        np.array([_spread(one[known]) for one, known in zip(values, measured, strict=True)]),
        levels,
        weights,
    )


def estimated_noise(image: np.ndarray) -> float:
    """Estimate the standard deviation of white noise in an image (ny, nx), NaN where nothing was measured.

    The second difference along both axes leaves nothing of a smooth image (Immerkær, Comput. Vis. Image Underst. 64,
    300 (1996)); the median instead of the mean leaves out the sharp lines.
    """
    difference = np.diff(np.diff(image, n=2, axis=0), n=2, axis=1)
    known = np.abs(difference[np.isfinite(difference)])
    return float(MEDIAN_TO_SIGMA * np.median(known) / 6) if len(known) else 0.0


def _noise(stack: ImageStack, slices: np.ndarray, options: RefinementOptions) -> np.ndarray:
    if options.noise is not None:
        return np.full(len(slices), options.noise * abs(gradient_per_hertz(stack.cantilever)))
    return np.array([estimated_noise(stack.force_gradient[number].astype(float)) for number in slices])


def _spread(values: np.ndarray) -> float:
    return float(np.std(values)) if len(values) else 0.0
