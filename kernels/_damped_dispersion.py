"""Dispersion (van der Waals attraction) alone, damped where the electron clouds touch.

It is what remains of Lennard-Jones when something else, such as the overlap of densities, stands for the repulsion.
"""

from dataclasses import dataclass, field
from enum import StrEnum

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._images import sites_of
from twinscope.kernels._mixing import mixed_parameters
from twinscope.kernels._pairs import radial_of_fraction, squared_distances, sum_over_sites
from twinscope.kernels._terms import Hessian, Vector
from twinscope.kernels._types import ArrayLike, Atoms, Tip


class Damping(StrEnum):
    """How the attraction is kept from diverging, with the names of the reference code ``ppafm``.

    The pair energy is ``-2 eps / (u**6 + A D(u))`` with ``u = r / R``: outside of the pair minimum R it is (nearly)
    the attraction of Lennard-Jones. Inside it flattens out, and closer than 0.64 R (R2), 0.66 R (R4), 0.68 R (invR4)
    or 0.73 R (invR8) it rises again: only a repulsion of its own keeps a probe from there.
    """

    NONE = "none"
    """D = 0: the bare ``-C6 / r**6``."""

    R2 = "R2"
    """D = 1 - u² for u < 1, else 0. The force jumps by a sixth at u = 1; a probe may rest in that kink."""

    R4 = "R4"
    """D = (1 - u²)² for u < 1, else 0. The force is continuous, the Hessian jumps at u = 1."""

    INVERSE_R4 = "invR4"
    """D = u**-4: smooth everywhere."""

    INVERSE_R8 = "invR8"
    """D = u**-8: smooth everywhere, and closer to Lennard-Jones outside of R than invR4."""


_STRENGTH = {Damping.NONE: 0.0, Damping.R2: 0.5, Damping.R4: 0.5, Damping.INVERSE_R4: 0.03, Damping.INVERSE_R8: 0.01}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DampedSites:
    """Sites with the pair energy ``-2 depth / (u**6 + strength D(u))`` with ``u = r / radius``; see :class:`Damping`.

    Attributes
    ----------
    positions
        Å, shape (m, 3).
    radius, depth
        Distance and depth of the minimum that Lennard-Jones has with the same attraction, in Å and eV, shape (m,).
    strength
        A, without unit.
    damping
        Which D.
    """

    positions: ArrayLike
    radius: ArrayLike
    depth: ArrayLike
    strength: ArrayLike
    damping: Damping = field(default=Damping.R4, metadata={"static": True})

    def energy(self, points: jax.Array) -> jax.Array:
        """Sum over all sites; see :class:`~twinscope.kernels.Term`."""
        s = squared_distances(points, self.positions)
        return jnp.sum(self._numerator() / self._denominator(s), axis=0)

    def force_and_hessian(self, points: jax.Array) -> tuple[Vector, Hessian]:
        """Sum over all sites; see :class:`~twinscope.kernels.Term`."""
        radial = radial_of_fraction(self._numerator(), self._denominator)
        return sum_over_sites(points, self.positions, self.depth != 0, radial)

    def _numerator(self) -> jax.Array:
        return (-2 * self.depth * self.radius**6)[:, None]

    def _denominator(self, s: jax.Array) -> jax.Array:
        """Return R⁶ (u⁶ + A D(u)), in Å⁶; free of divisions by R, which is zero for sites that fill the list up."""
        square = (self.radius * self.radius)[:, None]
        inside = jnp.maximum(square - s, 0)
        match self.damping:
            case Damping.NONE:
                return s * s * s
            case Damping.R2:
                screen = square * square * inside
            case Damping.R4:
                screen = square * inside * inside
            case Damping.INVERSE_R4:
                screen = square**3 * (square / s) ** 2
            case Damping.INVERSE_R8:
                screen = square**3 * (square / s) ** 4
        return s * s * s + self.strength * screen


def damped_dispersion(
    atoms: Atoms, tip: Tip, damping: Damping | str = Damping.R4, strength: ArrayLike | None = None
) -> DampedSites:
    """Attraction of Lennard-Jones between a sample and the probe particle, damped at short distance.

    Give it to :func:`simulate` together with ``lennard_jones=False`` and a term that repels.

    Parameters
    ----------
    atoms, tip
        Sample and probe. Periodic images are written out.
    damping
        One of :class:`Damping`, or its value: "none", "R2", "R4", "invR4", "invR8".
    strength
        A in ``-2 eps / (u**6 + A D(u))``. None for the reference code's own: 0.5 for R2 and R4, 0.03 for invR4, 0.01
        for invR8 (``ppafm`` 0.4.1, ``Forces.h``).

    Returns
    -------
    DampedSites
        A term of the force field.

    Raises
    ------
    ValueError
        When an element or the damping is unknown, or the strength is not positive.

    Notes
    -----
    The reference code has one more kind, "const", which is left out: its force ``6 C6 r / (r**8 + 180 C6)`` adds
    quantities of different dimensions, and no energy belongs to it there.
    """
    try:
        kind = Damping(damping)
    except ValueError:
        raise ValueError(f"damping is {damping!r}: expected one of {', '.join(map(repr, map(str, Damping)))}") from None
    amount = _STRENGTH[kind] if strength is None else strength
    if strength is not None and not isinstance(strength, jax.core.Tracer):
        if kind is Damping.NONE:
            raise ValueError(f"strength is {strength}, but damping 'none' has no strength: leave it out")
        if not (np.ndim(strength) == 0 and 0 < strength < np.inf):
            raise ValueError(f"strength is {strength}: expected one positive number")
    positions, radius, depth = sites_of(atoms, *mixed_parameters(atoms, tip))
    return DampedSites(positions, radius, depth, amount, kind)
