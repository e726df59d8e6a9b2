"""How long bonds of the known elements are, and how many of them an atom has."""

import numpy as np

ORDERS: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
"""Single, aromatic, double and triple."""

# Å, in the order of ELEMENTS: Pyykkö and Atsumi, Chem. Eur. J. 15, 186 and 12770 (2009); Pyykkö, Riedel and Patzschke,
# ibid. 11, 3511 (2005). Elements with one bond have no others: NaN.
_SINGLE = np.array([0.32, 0.75, 0.71, 0.63, 0.64, 1.16, 1.11, 1.03, 0.99, 1.14])
_DOUBLE = np.array([np.nan, 0.67, 0.60, 0.57, np.nan, 1.07, 1.02, 0.94, np.nan, np.nan])
_TRIPLE = np.array([np.nan, 0.60, 0.54, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan])
_RADII = np.stack([_SINGLE, (_SINGLE + _DOUBLE) / 2, _DOUBLE, _TRIPLE])

LENGTHS: np.ndarray = _RADII[:, :, None] + _RADII[:, None, :]
"""Å, shape (orders, elements, elements): lengths of bonds by :data:`ORDERS`; NaN where there is no such bond."""
LENGTHS.setflags(write=False)

SPREAD = 0.04
"""Å: standard deviation of the lengths of bonds of one kind."""

MOST_NEIGHBOURS: np.ndarray = np.array([1, 4, 4, 2, 1, 4, 4, 4, 1, 1])
"""Largest number of bonds of an atom, by element."""
MOST_NEIGHBOURS.setflags(write=False)

VALENCES: np.ndarray = np.array([1, 4, 3, 2, 1, 4, 5, 6, 1, 1])
"""Largest sum of the orders of an atom's bonds, by element; one more where nitrogen has four neighbours."""
VALENCES.setflags(write=False)
