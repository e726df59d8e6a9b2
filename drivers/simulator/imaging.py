"""What the simulated microscope measures at given positions and heights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.capabilities import Channel
from twinscope.drivers.common.units import ANGSTROM, EV_PER_ANGSTROM
from twinscope.drivers.simulator.currents import tunnel_weights
from twinscope.drivers.simulator.surface import Block, Surface
from twinscope.kernels import (
    CONDUCTANCE_QUANTUM,
    Cantilever,
    RelaxedColumns,
    Tip,
    TunnelSites,
    frequency_shift_at,
    interpolation_weights,
    log_transmission,
    relax_columns,
)

# Spacing of the heights (Å) at which the probe is relaxed: fixed near the sample, where the force rises steeply, and in
# proportion to the height farther out, where it falls off as a power of the distance. The heights are the rungs of one
# ladder from z = 0 on, or from the highest terrace under the tip: a layer is the same whatever is measured with it.
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
# Longer ones, and the heights of tables, are a multiple of so many: few shapes are compiled.
_RUNGS = 16

# Points of an oscillation over which the current is averaged: exact to 1e-6 for an amplitude of 1 Å.
_PHASES = 8

FREQUENCY_SHIFT = Channel("frequency_shift", "Hz", "Frequency shift")
FORCE_Z = Channel("force_z", "N", "Vertical force")
Z = Channel("z", "m", "Tip height")
CURRENT = Channel("current", "A", "Tunnelling current")
CONVERGED = Channel("converged", "1", "Probe relaxation converged")
CHANNELS = (FREQUENCY_SHIFT, FORCE_Z, CURRENT, Z, CONVERGED)
# What a table for the z-controller holds.
_TABLED = (FREQUENCY_SHIFT, FORCE_Z, CURRENT, CONVERGED)


@dataclass(frozen=True)
class Imaging:
    """A surface under a tip on an oscillating sensor.

    Attributes
    ----------
    surface, tip, cantilever
        What is imaged, and with what.
    bias
        Of the sample, in V.
    """

    surface: Surface
    tip: Tip
    cantilever: Cantilever
    bias: float = 0.1

    def measure(self, positions: np.ndarray, heights: np.ndarray, channels: tuple[str, ...]) -> np.ndarray:
        """Measure above many positions at many heights.

        Parameters
        ----------
        positions
            x and y on the sample, in m, shape (n, 2).
        heights
            Of the unrelaxed probe, in the middle of the oscillation, in m, shape (m,). They are measured from the
            highest atom of a sample, from a flat molecule on the middle terrace of a world.
        channels
            Names.

        Returns
        -------
        numpy.ndarray
            float32, in the channels' units, shape (channels, m, n).
        """
        points, centres = positions / ANGSTROM, np.asarray(heights, dtype=float) / ANGSTROM
        return self._measured(points, centres, self._levels(centres, self._base(points)), channels)

    def table(self, positions: np.ndarray, low: float, high: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Measure at all heights of the ladder between two heights, and half-way, as a z-controller needs it.

        Parameters
        ----------
        positions
            x and y on the sample, in m, shape (n, 2).
        low, high
            Of the middle of the oscillation, in m.

        Returns
        -------
        heights
            In m, shape (m,), from far to near; the first is at `high` or above, the last at `low` or below.
        channels
            Frequency shift, force, current and convergence by name, each of shape (m, n). Where the oscillation would
            reach into the metal there is no value but that of the height above: there the tip has crashed.
        """
        points = positions / ANGSTROM
        base = self._base(points)
        rungs = self._ladder(low / ANGSTROM, high / ANGSTROM, base, multiple=_RUNGS)[::-1]
        # The probe is relaxed at the rungs; for the oscillation around it any height will do.
        rungs = np.sort(np.concatenate([rungs, (rungs[1:] + rungs[:-1]) / 2]))[::-1]
        names = tuple(channel.name for channel in _TABLED)
        values = self._measured(points, rungs, self._levels(rungs, base), names)
        for upper, lower in zip(range(len(rungs) - 1), range(1, len(rungs)), strict=True):
            values[:, lower] = np.where(np.isfinite(values[:, lower]), values[:, lower], values[:, upper])
        return rungs * ANGSTROM, dict(zip(names, values, strict=True))

    def _measured(
        self, points: np.ndarray, centres: np.ndarray, levels: np.ndarray, channels: tuple[str, ...]
    ) -> np.ndarray:
        values = np.empty((len(channels), len(centres), len(points)), np.float32)
        for block in self.surface.blocks(points):
            view = self._view(block, levels, centres)
            for row, name in zip(values, channels, strict=True):
                row[:, block.chosen] = np.asarray(_MEASURED[name](view), np.float32)
        return values

    def _view(self, block: Block, levels: np.ndarray, centres: np.ndarray) -> "_View":
        offset_x, offset_y, length = self.tip.rest
        hanging = np.sqrt(length**2 - offset_x**2 - offset_y**2)
        terms = () if block.metal is None else (block.metal,)
        columns = relax_columns(block.atoms, self.tip, block.points, levels + hanging, *terms, substeps=_SUBSTEPS)
        return _View(columns, levels, centres, block, self)

    def _base(self, points: np.ndarray) -> float:
        return float(self.surface.ground(points).max())

    def _ladder(self, low: float, high: float, base: float, multiple: int = 1) -> np.ndarray:
        """Rungs (Å), ascending: the first at `low` or below, the last at `high` or above; some multiple of them."""
        count = max(0, int(np.ceil((base - low) / _STEP)))
        ladder = [base - _STEP * rung for rung in range(count, -1, -1)]
        first = 0
        while len(ladder) < 2 or ladder[-1] < high or (len(ladder) - first) % multiple:
            ladder.append(ladder[-1] + max(_STEP, _RELATIVE_STEP * (ladder[-1] - base)))
            first = max(int(np.searchsorted(ladder, low)) - 1, 0)
        return np.array(ladder[first:])

    def _levels(self, centres: np.ndarray, base: float) -> np.ndarray:
        """Heights (Å), from far to near, that carry every oscillation around `centres`."""
        half = self.cantilever.amplitude / 2
        # One rung below the lowest point, for the interpolation.
        levels = list(self._ladder(centres.min() - half, centres.max() + half, base))
        while levels[-1] < base + _START or len(levels) < _LEVELS or len(levels) % _RUNGS:
            levels.append(levels[-1] + _LEAD_IN_GROWTH * (levels[-1] - levels[-2]))
        return np.array(levels[::-1])


@dataclass(frozen=True)
class _View:
    """Relaxed columns over a block, and the heights at which they are looked at."""

    columns: RelaxedColumns
    levels: np.ndarray
    centres: np.ndarray
    block: Block
    imaging: Imaging

    @property
    def cantilever(self) -> Cantilever:
        """Of the tip."""
        return self.imaging.cantilever


def _frequency_shift(view: _View) -> jax.Array:
    return frequency_shift_at(view.centres, view.columns.force_z, view.levels, view.cantilever)


def _force_z(view: _View) -> jax.Array:
    return _interpolated(view.centres, view.columns.force_z, view.levels) * EV_PER_ANGSTROM


def _current(view: _View) -> jax.Array:
    """Mean over the oscillation, as a slow amplifier measures it; electrons tunnel through the relaxed probe."""
    phases = np.cos((2 * np.arange(_PHASES) + 1) * np.pi / (2 * _PHASES))
    heights = view.centres + view.cantilever.amplitude / 2 * phases[:, None]
    # The lowest levels, as many as the interpolation needs; in sixteens, so that shapes are few.
    needed = int((view.levels < heights.max()).sum()) + 2
    lowest = slice(-min(-(-needed // 16) * 16, len(view.levels)), None)
    passed = _interpolated(heights.ravel(), _log_transmission(view, lowest), view.levels[lowest])
    return CONDUCTANCE_QUANTUM * view.imaging.bias * jnp.exp(passed).reshape(*heights.shape, -1).mean(axis=0)


def _log_transmission(view: _View, chosen: slice) -> jax.Array:
    """At some of the levels, shape (levels, n)."""
    block, imaging = view.block, view.imaging
    sites = TunnelSites.of(block.atoms, tunnel_weights(np.asarray(block.atoms.numbers)), block.metal)
    rest_x, rest_y, _ = imaging.tip.rest
    x, y = (block.points + np.array([rest_x, rest_y])).T
    rest = np.stack(np.broadcast_arrays(x, y, view.levels[chosen, None]), axis=-1)
    probe = rest.astype(view.columns.displacement.dtype) + view.columns.displacement[chosen]
    return log_transmission(probe.reshape(-1, 3), sites, imaging.surface.work_function).reshape(probe.shape[:2])


def _interpolated(heights: np.ndarray, values: jax.Array, levels: np.ndarray) -> jax.Array:
    """Interpolate values (levels, n) to heights (m,); NaN spoils those heights alone that use it."""
    weights = interpolation_weights(heights, levels)
    finite = jnp.isfinite(values)
    lost = jnp.asarray(weights != 0, float) @ (~finite).astype(float) > 0
    return jnp.where(lost, jnp.nan, jnp.asarray(weights) @ jnp.where(finite, values, 0))


def _z(view: _View) -> np.ndarray:
    return np.broadcast_to(view.centres[:, None] * ANGSTROM, (len(view.centres), view.columns.force_z.shape[1]))


def _converged(view: _View) -> np.ndarray:
    half = view.cantilever.amplitude / 2
    converged = np.asarray(view.columns.converged)
    return np.stack([converged[np.abs(view.levels - centre) <= half].all(axis=0) for centre in view.centres])


_MEASURED: Mapping[str, Callable[[_View], jax.Array | np.ndarray]] = {
    FREQUENCY_SHIFT.name: _frequency_shift,
    FORCE_Z.name: _force_z,
    CURRENT.name: _current,
    Z.name: _z,
    CONVERGED.name: _converged,
}
