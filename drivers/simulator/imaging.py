"""What the simulated microscope measures at given positions and heights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.capabilities import Channel
from twinscope.drivers.simulator.sample import Sample
from twinscope.drivers.simulator.units import ANGSTROM, EV_PER_ANGSTROM
from twinscope.kernels import (
    Cantilever,
    RelaxedColumns,
    Tip,
    frequency_shift_at,
    interpolation_weights,
    relax_columns,
)

# Spacing of the heights (Å) at which the probe is relaxed: fixed near the sample, where the force rises steeply, and in
# proportion to the height farther out, where it falls off as a power of the distance. The heights are the rungs of one
# ladder from z = 0 on: a layer is the same whatever is measured with it.
_STEP = 0.1
_RELATIVE_STEP = 0.03
# Above the oscillation the approach only has to lead the probe to its branch, in steps that grow by this factor.
_LEAD_IN_GROWTH = 1.25
# Where the probe moves fast, or is about to snap, the tip comes down in steps of a quarter: with these no column of the
# PTCDA of the reference data took another branch than in an approach in twenty times smaller steps.
_SUBSTEPS = 4
# The approach begins at least this high (Å), where the probe is at rest over every sample, and has at least this many
# levels: more than an ordinary scan needs, so that nearly all of them run the same compiled code.
_START = 12.0
_LEVELS = 32

FREQUENCY_SHIFT = Channel("frequency_shift", "Hz", "Frequency shift")
FORCE_Z = Channel("force_z", "N", "Vertical force")
Z = Channel("z", "m", "Tip height")
CONVERGED = Channel("converged", "1", "Probe relaxation converged")
CHANNELS = (FREQUENCY_SHIFT, FORCE_Z, Z, CONVERGED)


@dataclass(frozen=True)
class Imaging:
    """A sample under a tip on an oscillating sensor."""

    sample: Sample
    tip: Tip
    cantilever: Cantilever

    def measure(self, positions: np.ndarray, heights: np.ndarray, channels: tuple[str, ...]) -> np.ndarray:
        """Measure above many positions at many heights.

        Parameters
        ----------
        positions
            x and y on the sample, in m, shape (n, 2).
        heights
            Of the unrelaxed probe above the highest atom, in the middle of the oscillation, in m, shape (m,).
        channels
            Names.

        Returns
        -------
        numpy.ndarray
            float32, in the channels' units, shape (channels, m, n).
        """
        centres = np.asarray(heights, dtype=float) / ANGSTROM
        levels = self._levels(centres)
        offset_x, offset_y, length = self.tip.rest
        hanging = np.sqrt(length**2 - offset_x**2 - offset_y**2)
        terms = () if self.sample.plane is None else (self.sample.plane,)
        columns = relax_columns(
            self.sample.atoms,
            self.tip,
            self.sample.wrap(positions / ANGSTROM),
            levels + hanging,
            *terms,
            substeps=_SUBSTEPS,
        )
        view = _View(columns, levels, centres, self.cantilever)
        return np.stack([np.asarray(_MEASURED[name](view), np.float32) for name in channels])

    def _levels(self, centres: np.ndarray) -> np.ndarray:
        """Heights (Å), from far to near, that carry every oscillation around `centres`."""
        half = self.cantilever.amplitude / 2
        ladder = [0.0]
        while ladder[-1] < centres.max() + half:
            ladder.append(ladder[-1] + max(_STEP, _RELATIVE_STEP * ladder[-1]))
        # One rung below the lowest point, for the interpolation.
        below = int(np.searchsorted(ladder, centres.min() - half)) - 1
        levels = ladder[max(below, 0) :]
        while levels[-1] < _START or len(levels) < _LEVELS:
            levels.append(levels[-1] + _LEAD_IN_GROWTH * (levels[-1] - levels[-2]))
        return np.array(levels[::-1])


@dataclass(frozen=True)
class _View:
    """Relaxed columns and the heights at which they are looked at."""

    columns: RelaxedColumns
    levels: np.ndarray
    centres: np.ndarray
    cantilever: Cantilever


def _frequency_shift(view: _View) -> jax.Array:
    return frequency_shift_at(view.centres, view.columns.force_z, view.levels, view.cantilever)


def _force_z(view: _View) -> jax.Array:
    return jnp.asarray(interpolation_weights(view.centres, view.levels)) @ view.columns.force_z * EV_PER_ANGSTROM


def _z(view: _View) -> np.ndarray:
    return np.broadcast_to(view.centres[:, None] * ANGSTROM, (len(view.centres), view.columns.force_z.shape[1]))


def _converged(view: _View) -> np.ndarray:
    half = view.cantilever.amplitude / 2
    converged = np.asarray(view.columns.converged)
    return np.stack([converged[np.abs(view.levels - centre) <= half].all(axis=0) for centre in view.centres])


_MEASURED: Mapping[str, Callable[[_View], jax.Array | np.ndarray]] = {
    FREQUENCY_SHIFT.name: _frequency_shift,
    FORCE_Z.name: _force_z,
    Z.name: _z,
    CONVERGED.name: _converged,
}
