"""The forward model: from parameters to force gradients, and their derivatives."""

from dataclasses import dataclass

import numpy as np

from twinscope.agents.structure_discovery.refinement.hidden import matter
from twinscope.agents.structure_discovery.refinement.measurement import Measurement
from twinscope.agents.structure_discovery.refinement.parameters import Layout, atoms_of, tip_of
from twinscope.agents.structure_discovery.refinement.response import response
from twinscope.kernels import Atoms, PairSites, Sensitivity, Tip, relax_columns, sensitivity

# Where the probe moves this many times farther than the tip it is about to snap: there no derivative tells anything.
_LONGEST_LEVER = 4.0
# Columns are filled up to a multiple of this, so that molecules of similar size share one compilation.
_COLUMNS = 256
# The softest spring that is tried, in N/m.
_SOFTEST = 0.03


@dataclass(frozen=True, eq=False)
class Simulated:
    """A simulation of a measurement.

    Attributes
    ----------
    values
        Force gradient in N/m, shape (nz, n).
    valid
        False where the probe did not converge or snapped within the oscillation, same shape.
    atoms, tip, hidden, heights
        What was simulated; heights of the anchor in Å, shape (levels,).
    displacement
        Of the probe, in Å, shape (levels, n, 3).
    """

    values: np.ndarray
    valid: np.ndarray
    atoms: Atoms
    tip: Tip
    hidden: PairSites
    heights: np.ndarray
    displacement: np.ndarray


@dataclass(frozen=True, eq=False)
class Derivatives:
    """Of the force gradients: by parameter, shape (parameters, nz, n), where they are valid, and what else they need.

    `probe` and `lever` as in :class:`~twinscope.kernels.Sensitivity`.
    """

    values: np.ndarray
    valid: np.ndarray
    probe: np.ndarray
    lever: np.ndarray


@dataclass(frozen=True, eq=False)
class Model:
    """Simulates what was measured.

    Attributes
    ----------
    measurement
        Where and how it was measured.
    numbers
        Atomic numbers, shape (atoms,).
    tip
        Everything about the tip that is not varied.
    places
        Of hidden matter, in Å, shape (d, 3).
    """

    measurement: Measurement
    numbers: np.ndarray
    tip: Tip
    places: np.ndarray

    @property
    def layout(self) -> Layout:
        """Of the parameters."""
        return Layout(len(self.numbers), len(self.measurement.slices), len(self.places))

    def allows(self, parameters: np.ndarray) -> bool:
        """Tell whether there is such a tip: one that has a spring, and hangs down."""
        _, lateral, _, x0, y0, _ = parameters[self.layout.tip]
        return bool(lateral > _SOFTEST and np.hypot(x0, y0) < float(self.tip.rest[2]) / 2)

    def simulate(self, parameters: np.ndarray) -> Simulated:
        """Compute the force gradients of a list of parameters."""
        layout, measurement = self.layout, self.measurement
        tip = tip_of(parameters[layout.tip], self.tip)
        atoms = atoms_of(parameters, layout, self.numbers)
        below = matter(self.places, parameters[layout.hidden_matter], parameters[layout.hidden_charges], tip)
        heights = (measurement.levels + parameters[layout.tip][0] + _hang(tip)).astype(np.float32)
        points = self._anchors(tip)
        count = len(points)
        filled = np.pad(points, ((0, -count % _COLUMNS), (0, 0)), mode="edge")
        columns = relax_columns(atoms, tip, filled, heights, below)
        force = np.asarray(columns.force_z, dtype=float)[:, :count]
        settled = np.asarray(columns.converged) & ~np.asarray(columns.snapped)
        bad = ~settled[:, :count] | ~np.isfinite(force)
        values = measurement.weights @ np.where(bad, 0, force) + parameters[layout.offsets][:, None]
        valid = ~self._touched(bad)
        return Simulated(values, valid, atoms, tip, below, heights, np.asarray(columns.displacement)[:, :count])

    def differentiate(self, simulated: Simulated) -> Derivatives:
        """Differentiate a simulation with respect to all parameters."""
        layout, measurement = self.layout, self.measurement
        moved = np.nan_to_num(simulated.displacement)
        found = sensitivity(
            simulated.atoms,
            simulated.tip,
            self._anchors(simulated.tip),
            simulated.heights,
            moved,
            simulated.hidden,
            weights=measurement.weights,
        )
        rows = np.empty((layout.size, *simulated.values.shape), np.float32)
        rows[layout.positions] = found.positions.reshape(-1, *simulated.values.shape)
        rows[layout.charges] = found.charges
        rows[layout.tip] = _of_tip(found, simulated.tip)
        rows[layout.offsets] = np.eye(layout.slices)[:, :, None]
        one, nothing = np.ones(layout.hidden), np.zeros(layout.hidden)
        for place, pair in ((layout.hidden_matter, (one, nothing)), (layout.hidden_charges, (nothing, one))):
            unit = matter(self.places, *pair, simulated.tip)
            rows[place] = response(unit, found.probe, found.lever, measurement.weights)[: layout.hidden]
        wild = (np.abs(found.lever) > _LONGEST_LEVER).any(axis=0) | ~np.isfinite(found.lever).all(axis=0)
        valid = simulated.valid & ~self._touched(wild)
        return Derivatives(np.where(valid, rows, 0), valid, found.probe, found.lever)

    def _anchors(self, tip: Tip) -> np.ndarray:
        """Where the tip is, in Å, shape (n, 2), when the probe at rest is above the pixels.

        Where the tip itself was is another origin of the images, and cannot be told; this one shows atoms where they
        are, as training data do.
        """
        x0, y0, _ = tip.rest
        return (self.measurement.points - [x0, y0]).astype(np.float32)

    def _touched(self, bad: np.ndarray) -> np.ndarray:
        """Tell which force gradients use any of the forces (levels, n) that are marked."""
        return (np.abs(self.measurement.weights) > 0) @ bad.astype(np.float32) > 0


def _hang(tip: Tip) -> float:
    """How far below the anchor the probe hangs, in Å."""
    x0, y0, length = tip.rest
    return float(np.sqrt(length**2 - x0**2 - y0**2))


def _of_tip(found: Sensitivity, tip: Tip) -> np.ndarray:
    """Return derivatives in the order of the parameters of the tip, shape (6, nz, n)."""
    x0, y0, _ = tip.rest
    outer, inner, lower = found.tip_charges
    arm = tip.charges[0][1]
    return np.stack(
        [
            found.anchor[2],
            found.stiffness[0] + found.stiffness[1],
            inner,
            # The anchor comes down and aside as the probe swings up, so that the probe stays.
            found.rest[0] - found.anchor[0] - x0 / _hang(tip) * found.anchor[2],
            found.rest[1] - found.anchor[1] - y0 / _hang(tip) * found.anchor[2],
            (outer + lower - 2 * inner) / (2 * arm**2),
        ]
    )
