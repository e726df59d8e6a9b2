"""Physical constants in the kernels' units (Å, eV, e)."""

COULOMB = 14.399645
"""Coulomb constant e²/(4 pi eps0), in eV Å (CODATA)."""

NEWTON_PER_METRE = 1 / 16.0217662
"""One N/m in eV/Å²: the spring and cantilever constants are quoted in N/m."""
