"""The peer of the kernels: ppafm's C++ code (OpenMP, float64), when it is installed.

The steps and settings are those of its command-line programs: force-field grids of Lennard-Jones and electrostatics,
relaxation by FIRE on them, frequency shift. Only what would read or write files is left out.
"""

import ctypes
import importlib.util
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from twinscope.kernels import COULOMB, Atoms, ScanGrid, Tip, lennard_jones_coefficients

# Step, size and bottom of the force-field grid, in Å: ppafm's usual step, and little more than the probe can reach.
_GRID_STEP = 0.1
_FIELD_SIZE = (20.0, 20.0, 6.0)
_FIELD_BOTTOM = 1.0
# Forces (eV/Å) above this are cut, as its programs do.
_LARGEST_FORCE = 10.0
# Names of a point charge and of a quadrupole (of -0.2 e Å² at the charge -0.1) in its C++ code.
MONOPOLE, QUADRUPOLE = 0, 2


@dataclass
class Peer:
    """One simulation with ppafm.

    Attributes
    ----------
    stages
        Seconds of its parts in the last run.
    force_z
        Of the last run, in eV/Å, shape (nz, ny, nx), from far to near.
    """

    atoms: Atoms
    tip: Tip
    grid: ScanGrid
    kind: int
    charge: float
    stages: dict[str, float] = field(default_factory=dict)
    force_z: np.ndarray | None = None

    def run(self) -> None:
        """Simulate."""
        with _silence():
            self._run()

    def _run(self) -> None:
        from ppafm import HighLevel, common, core, io

        x, y, z = (np.asarray(axis, float) for axis in (self.grid.x, self.grid.y, self.grid.z))
        step = (x[1] - x[0], y[1] - y[0], z[0] - z[1])
        parameters = common.PpafmParameters(
            PBC=False,
            gridN=[round(length / _GRID_STEP) for length in _FIELD_SIZE],
            scanMin=[x[0], y[0], z[-1]],
            scanMax=[x[-1], y[-1], z[0]],
            scanStep=list(step),
            r0Probe=list(self.tip.rest),
            stiffness=[self.tip.stiffness[0], self.tip.stiffness[1], self.tip.stiffness[3]],
            charge=self.charge,
        )
        corner = np.array([-_FIELD_SIZE[0] / 2, -_FIELD_SIZE[1] / 2, _FIELD_BOTTOM])
        cell = np.vstack([corner, np.diag(_FIELD_SIZE)])
        positions = np.ascontiguousarray(np.asarray(self.atoms.positions, float) - corner)
        c6, c12 = lennard_jones_coefficients(self.atoms, self.tip)

        with self._timed("Lennard-Jones grid"):
            dispersion, _ = HighLevel.setFF(None, False, lvec=cell, parameters=parameters)
            core.getLennardJonesFF(positions, np.ascontiguousarray(np.stack([c6, c12], axis=-1)))
            io.limit_vec_field(dispersion, Fmax=_LARGEST_FORCE)
        with self._timed("electrostatic grid"):
            electric, _ = HighLevel.setFF(None, False, lvec=cell, parameters=parameters)
            core.getCoulombFF(positions, np.asarray(self.atoms.charges, float) * COULOMB, kind=self.kind)
            io.limit_vec_field(electric, Fmax=_LARGEST_FORCE)
        with self._timed("relaxation"):
            forces, *_ = HighLevel.perform_relaxation(cell, dispersion, FFel=electric, parameters=parameters)
        with self._timed("frequency shift"):
            common.Fz2df(forces, dz=step[2], k0=1800.0, f0=30300.0, amplitude=1.0)
        # It stores the nearest slice first.
        self.force_z = forces[:, :, ::-1].transpose(2, 1, 0)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.stages[stage] = time.perf_counter() - begin


@contextmanager
def _silence() -> Iterator[None]:
    """Drop what the C++ code prints: kilobytes of progress."""
    kept = os.dup(1)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        # C has its own buffer.
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)


def is_installed() -> bool:
    """Tell whether ppafm can be run here."""
    if importlib.util.find_spec("ppafm") is None:
        return False
    logging.getLogger("ppafm").setLevel(logging.WARNING)
    return True
