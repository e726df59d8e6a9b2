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

from twinscope.kernels import COULOMB, Atoms, Cantilever, ScanGrid, Tip, lennard_jones_coefficients

# Step, size and bottom of the force-field grid, in Å: ppafm's usual step, and little more than the probe can reach.
GRID_STEP = 0.1
FIELD_SIZE = (20.0, 20.0, 6.0)
FIELD_BOTTOM = 1.0
# Stiffness (N/m) and frequency (Hz) of the force sensor, in its words.
SENSOR = {"k0": Cantilever().stiffness, "f0": Cantilever().frequency}
# Forces (eV/Å) above this are cut, as its programs do.
_LARGEST_FORCE = 10.0


@dataclass
class CppPeer:
    """One simulation with ppafm's C++ code.

    Attributes
    ----------
    kind, charge
        Which charges the probe has, in its words.
    stages
        Seconds of its parts in the last run.
    """

    atoms: Atoms
    tip: Tip
    grid: ScanGrid
    kind: int
    charge: float
    name: str = "ppafm, C++"
    stages: dict[str, float] = field(default_factory=dict)
    _forces: np.ndarray | None = None

    def run(self) -> None:
        """Simulate."""
        with silence():
            self._run()

    def force_z(self) -> np.ndarray:
        """Return the forces of the last run, in eV/Å, shape (nz, ny, nx), from far to near."""
        assert self._forces is not None
        # It stores the nearest slice first.
        return self._forces[:, :, ::-1].transpose(2, 1, 0)

    def _run(self) -> None:
        from ppafm import HighLevel, common, core, io

        x, y, z = axes(self.grid)
        step = (x[1] - x[0], y[1] - y[0], z[0] - z[1])
        parameters = common.PpafmParameters(
            PBC=False,
            gridN=[round(length / GRID_STEP) for length in FIELD_SIZE],
            scanMin=[x[0], y[0], z[-1]],
            scanMax=[x[-1], y[-1], z[0]],
            scanStep=list(step),
            r0Probe=list(self.tip.rest),
            stiffness=[self.tip.stiffness[0], self.tip.stiffness[1], self.tip.stiffness[3]],
            charge=self.charge,
        )
        corner = np.array([-FIELD_SIZE[0] / 2, -FIELD_SIZE[1] / 2, FIELD_BOTTOM])
        cell = np.vstack([corner, np.diag(FIELD_SIZE)])
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
            common.Fz2df(forces, dz=step[2], amplitude=Cantilever().amplitude, **SENSOR)
        self._forces = forces

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.stages[stage] = time.perf_counter() - begin


def axes(grid: ScanGrid) -> tuple[np.ndarray, ...]:
    """Return x, y and z in float64, without the rounding of float32: ppafm would take it for one more slice."""
    return tuple(np.asarray(axis, float).round(4) for axis in (grid.x, grid.y, grid.z))


@contextmanager
def silence() -> Iterator[None]:
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
