"""The other peer of the kernels: ppafm's OpenCL code (float32), on a CPU or a GPU, when it is installed.

It needs ``pip install ppafm pyopencl reikna`` and a driver that knows the processor; README.md names two.
"""

import importlib.util
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from _ppafm import FIELD_BOTTOM, FIELD_SIZE, GRID_STEP, SENSOR, axes, silence

from twinscope.kernels import Atoms, Cantilever, ScanGrid, Tip
from twinscope.kernels._mixing import mixed_parameters

# It wants four charges.
_CHARGES = 4


@dataclass
class OpenCLPeer:
    """One simulation with ppafm on OpenCL, after :func:`start`.

    Attributes
    ----------
    shift
        Frequency shift of the last run, in Hz, shape (nx, ny, nz').
    """

    atoms: Atoms
    tip: Tip
    grid: ScanGrid
    name: str = "ppafm, OpenCL"
    shift: np.ndarray | None = field(default=None)

    def run(self) -> None:
        """Simulate: force-field grid, relaxation, frequency shift, and its way into a NumPy array."""
        positions, charges = (np.asarray(values, float) for values in (self.atoms.positions, self.atoms.charges))
        with silence(), warnings.catch_warnings(action="ignore"):
            self.shift = self._simulator.eval(
                positions, np.asarray(self.atoms.numbers), charges, REAs=self._lennard_jones
            )

    def force_z(self) -> np.ndarray:
        """Return the forces of the last run, in eV/Å, shape (nz, ny, nx), from far to near."""
        with warnings.catch_warnings(action="ignore"):
            forces = self._simulator.scanner.run_relaxStrokesTilted()
        return np.asarray(forces[..., 2].transpose(2, 1, 0))

    @cached_property
    def _lennard_jones(self) -> np.ndarray:
        radius, depth = mixed_parameters(self.atoms, self.tip)
        return np.stack([radius, depth, 0 * depth, 0 * depth], axis=-1)

    @cached_property
    def _simulator(self) -> Any:
        from ppafm import common
        from ppafm.ocl.AFMulator import AFMulator

        x, y, z = axes(self.grid)
        step = z[0] - z[1]
        missing = (0.0,) * (_CHARGES - len(self.tip.charges))
        amplitude = Cantilever().amplitude
        corner = [-FIELD_SIZE[0] / 2, -FIELD_SIZE[1] / 2, FIELD_BOTTOM]
        simulator = AFMulator(
            pixPerAngstrome=round(1 / GRID_STEP),
            lvec=np.vstack([corner, np.diag(FIELD_SIZE)]),
            scan_dim=(len(x), len(y), len(z)),
            # It never reaches its lower end.
            scan_window=((x[0], y[0], z[0] - len(z) * step), (x[-1], y[-1], z[0])),
            iZPP=8,
            Qs=[*(charge for charge, _ in self.tip.charges), *missing],
            QZs=[*(height for _, height in self.tip.charges), *missing],
            df_steps=round(amplitude / step),
            tipR0=list(self.tip.rest),
            tipStiffness=list(self.tip.stiffness),
            npbc=(0, 0, 0),
            f0Cantilever=SENSOR["f0"],
            kCantilever=SENSOR["k0"],
        )
        # Its own weights are those of a smaller amplitude: it gets the ones of the C++ code.
        weights = common.get_df_weight(amplitude, dz=step) * common.eVA_Nm * SENSOR["f0"] / SENSOR["k0"]
        simulator.dfWeight = weights.astype(np.float32)
        simulator.scanner.prepareBuffers(
            scan_dim=simulator.scan_dim, nDimConv=len(weights), nDimConvOut=len(z) - len(weights) + 1
        )
        simulator.scanner.updateBuffers(WZconv=simulator.dfWeight)
        return simulator


def start() -> str:
    """Make ppafm use the first OpenCL platform on which its programs can be built, and name it.

    Raises
    ------
    RuntimeError
        When there is none; the message tells why.
    """
    for package in ("ppafm", "pyopencl", "reikna"):
        if importlib.util.find_spec(package) is None:
            raise RuntimeError(f"{package} is not installed")
    import pyopencl
    from ppafm.ocl import oclUtils

    failures = ["OpenCL finds no platform"]
    try:
        platforms = pyopencl.get_platforms()
    except pyopencl.LogicError as exc:
        raise RuntimeError(f"OpenCL finds no platform: {exc}") from exc
    for number, platform in enumerate(platforms):
        try:
            with silence(), warnings.catch_warnings(action="ignore"):
                oclUtils.init_env(number)
        except pyopencl.RuntimeError as exc:
            reasons = [line for line in str(exc).splitlines() if line.startswith("error")]
            failures.append(
                f"{platform.name} cannot build ppafm's programs ({'; '.join(reasons) or 'no reason given'})"
            )
        else:
            return f"{platform.name.strip()}, {platform.version.strip()}, {platform.get_devices()[0].name.strip()}"
    raise RuntimeError("; ".join(failures[1:] or failures))
