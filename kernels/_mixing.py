"""Lennard-Jones parameters between the atoms of a sample and a probe particle."""

import numpy as np

from twinscope.kernels._elements import ELEMENTS, atomic_number
from twinscope.kernels._images import namespace
from twinscope.kernels._types import ArrayLike, Atoms, Tip


def mixed_parameters(atoms: Atoms, tip: Tip) -> tuple[ArrayLike, ArrayLike]:
    """Distance and depth of the pair minimum between every atom and the probe.

    The radii add up, ``R = R_i + R_probe``, and the depths have their geometric mean, ``eps = sqrt(eps_i eps_probe)``
    (Hapala et al., Phys. Rev. B 90, 085421 (2014)). Parameters that atoms or tip bring with them go before those of
    the elements.

    Returns
    -------
    radius, depth
        Å and eV, shape (n,).

    Raises
    ------
    ValueError
        When an element is unknown.
    """
    if atoms.lennard_jones is None:
        elements = [ELEMENTS[atomic_number(int(number)) - 1] for number in np.asarray(atoms.numbers)]
        own = np.array([(element.radius, element.depth) for element in elements], dtype=float)
    else:
        own = namespace(atoms.lennard_jones).asarray(atoms.lennard_jones)
    if tip.lennard_jones is None:
        element = ELEMENTS[atomic_number(tip.element) - 1]
        radius, depth = element.radius, element.depth
    else:
        radius, depth = tip.lennard_jones
    return own[:, 0] + radius, (own[:, 1] * depth) ** 0.5


def lennard_jones_coefficients(atoms: Atoms, tip: Tip) -> tuple[ArrayLike, ArrayLike]:
    """Coefficients c6 and c12 (eV Å⁶, eV Å¹²), shape (n,), of the pair energies ``c12 / r**12 - c6 / r**6``.

    ``c6 = 2 eps R**6`` and ``c12 = eps R**12`` with the mixed parameters; errors as there.
    """
    radius, depth = mixed_parameters(atoms, tip)
    return 2 * depth * radius**6, depth * radius**12
