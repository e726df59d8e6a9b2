"""What is varied: one list of numbers for atoms, tip, background and hidden matter."""

from dataclasses import dataclass, replace

import numpy as np

from twinscope.kernels import Atoms, Tip

TIP = ("height", "lateral_stiffness", "tip_charge", "tilt_x", "tilt_y", "tip_quadrupole")
"""Names of what is varied about the tip: prediction.CONDITIONS, and the quadrupole moment in e Å²."""

CO_TIPS = (Tip(rest=(0.0, 0.0, 4.0), charges=((-0.1, 0.0),)), Tip())
"""The models of a CO tip that are in use: that of the published networks, with a charge, and a shorter one with a
quadrupole moment. How far the probe hangs below its anchor is not varied in a fit."""

# Distance of the charges that make the quadrupole from the probe, in Å, as in kernels.Tip.
_ARM = 0.1


@dataclass(frozen=True, slots=True)
class Layout:
    """Where what stands in the list of parameters: positions, charges, tip, offsets of the slices, hidden matter."""

    atoms: int
    slices: int
    hidden: int

    @property
    def positions(self) -> slice:
        """x, y, z of the first atom, of the second..., in Å; z from the highest atom at the start."""
        return slice(0, 3 * self.atoms)

    @property
    def charges(self) -> slice:
        """Charges of the atoms, in e."""
        return slice(3 * self.atoms, 4 * self.atoms)

    @property
    def tip(self) -> slice:
        """In the order of :data:`TIP`."""
        return slice(4 * self.atoms, 4 * self.atoms + len(TIP))

    @property
    def offsets(self) -> slice:
        """Of the slices, in N/m."""
        return slice(self.tip.stop, self.tip.stop + self.slices)

    @property
    def hidden_matter(self) -> slice:
        """Carbon atoms at each place below."""
        return slice(self.offsets.stop, self.offsets.stop + self.hidden)

    @property
    def hidden_charges(self) -> slice:
        """Charges of these places times that of the tip, in e²."""
        return slice(self.hidden_matter.stop, self.hidden_matter.stop + self.hidden)

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.hidden_charges.stop


def moments(tip: Tip) -> tuple[float, float]:
    """Charge (e) and quadrupole moment (e Å²) of a tip."""
    pairs = np.asarray(tip.charges, dtype=float).reshape(-1, 2)
    return float(pairs[:, 0].sum()), float(pairs[:, 0] @ pairs[:, 1] ** 2)


def tip_of(values: np.ndarray, like: Tip) -> Tip:
    """Make a tip of the numbers in the order of :data:`TIP`; the rest is that of another."""
    _, lateral, charge, x0, y0, quadrupole = map(float, values)
    outer = quadrupole / (2 * _ARM**2)
    return replace(
        like,
        rest=(x0, y0, float(like.rest[2])),
        stiffness=(lateral, lateral, float(like.stiffness[2]), float(like.stiffness[3])),
        charges=((outer, _ARM), (charge - 2 * outer, 0.0), (outer, -_ARM)),
    )


def atoms_of(values: np.ndarray, layout: Layout, numbers: np.ndarray) -> Atoms:
    """Make atoms of the list of parameters."""
    positions = values[layout.positions].reshape(-1, 3).astype(np.float32)
    return Atoms(numbers, positions, values[layout.charges].astype(np.float32))
