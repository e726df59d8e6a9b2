"""Conversion between the SI units of the microscope and the units of the kernels. Nowhere else is converted."""

ANGSTROM = 1e-10
"""One Å in m."""

EV_PER_ANGSTROM = 1.602176634e-9
"""One eV/Å in N (the elementary charge is exact since 2019)."""
