"""The simulations that the benchmarks of the kernels share, and how JAX is set up for them."""

import os
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from twinscope.drivers.simulator.sample import load_sample
from twinscope.kernels import Atoms, Cantilever, ScanGrid, Tip, frequency_shift, simulate, simulate_batch

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
PIXELS, SLICES = 128, 20
_PIXEL = 0.125
# Highest anchor of the tip: the probe hangs 3 Å lower.
_TOP, _SLICE = 7.9, 0.1


@dataclass(frozen=True)
class Case:
    """A tip over PTCDA, and what ppafm calls it.

    Attributes
    ----------
    name
        For people.
    tip
        Ours.
    peer_tip, peer_charge
        Number and charge of the same charges in ppafm's C++ code.
    target
        How many times faster than ppafm a stack shall be.
    """

    name: str
    tip: Tip
    peer_tip: int
    peer_charge: float
    target: float

    @property
    def atoms(self) -> Atoms:
        """PTCDA, its middle at x = y = 0, its highest atom at z = 0."""
        return load_sample("ptcda", self.tip).atoms


POINT = Case("point charge", Tip(charges=((-0.05, 0.0),)), 0, -0.05, 30.0)
# A quadrupole of -0.2 e Å² has the charge -0.1 in ppafm's C++ code.
QUADRUPOLE = Case("CO quadrupole", Tip(), 2, -0.1, 15.0)


def set_up(devices: int = CORES, *, keep_compiled: bool = False) -> None:
    """Make JAX see so many CPU devices, and let it compile everything anew unless told otherwise.

    The kernels spread their tiles over all devices. JAX takes all cores for one device if it is not told otherwise.
    This must come before JAX computes anything, and before ppafm is loaded, which gets the same cores.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(CORES))
    jax.config.update("jax_num_cpu_devices", devices)
    if not keep_compiled:
        jax.config.update("jax_enable_compilation_cache", False)


def scan_grid(
    pixels: int = PIXELS, slices: int = SLICES, *, pixel: float = _PIXEL, dtype: type = np.float32
) -> ScanGrid:
    """Make a square grid around the middle; with 20 slices the probe ends 3 Å above the highest atom."""
    axis = (np.arange(pixels) - (pixels - 1) / 2) * pixel
    return ScanGrid(*(values.astype(dtype) for values in (axis, axis, _TOP - _SLICE * np.arange(slices))))


def stack(atoms: Atoms, tip: Tip, grid: ScanGrid) -> tuple[np.ndarray, ...]:
    """Simulate what a user asks for: frequency shift, force and displacement, in NumPy arrays."""
    result = simulate(atoms, tip, grid)
    shift, _ = frequency_shift(result.force_z, grid.z, Cantilever())
    return np.asarray(shift), np.asarray(result.force_z), np.asarray(result.displacement)


def batch(atoms: list[Atoms], tip: Tip, grid: ScanGrid) -> np.ndarray:
    """Simulate many samples at once: frequency shifts (nz, sample, ny, nx) in a NumPy array."""
    result = simulate_batch(atoms, tip, grid)
    shift, _ = frequency_shift(jnp.moveaxis(result.force_z, 1, 0), grid.z, Cantilever())
    return np.asarray(shift)


def turned(atoms: Atoms, axis: str, degrees: float) -> Atoms:
    """Turn a sample about an axis through its middle; its highest atom stays at z = 0."""
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rotation = np.eye(3)
    rotation[[first, second], [first, second]] = cosine
    rotation[first, second], rotation[second, first] = -sine, sine
    positions = np.asarray(atoms.positions, float) @ rotation.T
    positions[:, :2] -= (positions[:, :2].min(axis=0) + positions[:, :2].max(axis=0)) / 2
    positions[:, 2] -= positions[:, 2].max()
    return replace(atoms, positions=positions.astype(np.asarray(atoms.positions).dtype))
