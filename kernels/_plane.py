"""A flat surface under the sample."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.kernels._elements import atomic_number
from twinscope.kernels._mixing import lennard_jones_coefficients
from twinscope.kernels._terms import Hessian, Vector
from twinscope.kernels._types import Atoms, Tip


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Plane:
    """A flat surface, filled with Lennard-Jones atoms from its height down: the "9-3" wall.

    The pair energy ``c12 / r**12 - c6 / r**6`` summed over a half-space of number density n gives
    ``pi n (c12 / (45 h**9) - c6 / (6 h**3))`` at the height h above it (Israelachvili, Intermolecular and Surface
    Forces, 3rd ed., sec. 11.1; Steele, Surf. Sci. 36, 317 (1973)).

    Attributes
    ----------
    height
        z of the surface, in Å.
    c3, c9
        eV Å³ and eV Å⁹ in ``E = c9 / h**9 - c3 / h**3``.
    """

    height: jax.Array | float
    c3: jax.Array | float
    c9: jax.Array | float

    @classmethod
    def of(cls, element: int | str, density: float, height: float, probe: int | str) -> "Plane":
        """Surface of an element with `density` atoms per Å³ below `height` (Å), seen by a probe particle.

        Raises
        ------
        ValueError
            When an element is unknown or the density is not positive.
        """
        if not density > 0:
            raise ValueError(f"surface density is {density!r} atoms per Å³: expected a positive number")
        atom = Atoms(np.array([atomic_number(element)]), np.zeros((1, 3)))
        (c6,), (c12,) = lennard_jones_coefficients(atom, Tip(probe))
        return cls(height, float(np.pi * density * c6 / 6), float(np.pi * density * c12 / 45))

    def energy(self, points: jax.Array) -> jax.Array:
        """See :class:`~twinscope.kernels.Term`."""
        u = 1 / (points[2] - self.height)
        u3 = u * u * u
        return self.c9 * u3 * u3 * u3 - self.c3 * u3

    def force_and_hessian(self, points: jax.Array) -> tuple[Vector, Hessian]:
        """See :class:`~twinscope.kernels.Term`."""
        u = 1 / (points[2] - self.height)
        u3 = u * u * u
        nothing = jnp.zeros_like(u)
        force_z = u * (9 * self.c9 * u3 * u3 * u3 - 3 * self.c3 * u3)
        curvature = u * u * (90 * self.c9 * u3 * u3 * u3 - 12 * self.c3 * u3)
        return (nothing, nothing, force_z), (nothing,) * 5 + (curvature,)
