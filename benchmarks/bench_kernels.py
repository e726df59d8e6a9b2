"""How fast a stack of AFM images is simulated, beside ppafm and beside the least work that it can be."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

# Before JAX is loaded: its messages would run through the table.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import jax.numpy as jnp
import numpy as np
from _ppafm import MONOPOLE, QUADRUPOLE, Peer, is_installed
from _report import Figure, Report, arguments, duration, interleaved

from twinscope.drivers.simulator.sample import load_sample
from twinscope.kernels import Atoms, Cantilever, ScanGrid, Tip, frequency_shift, pair_sites, simulate

_PIXELS, _SLICES = 128, 20
_ROUNDS, _PEER_ROUNDS = 9, 3
# FACTS-kernels.md, section 7: stacks per second that must hold on two cores.
_TARGET = 10.0
# Positions evaluated together: the tile of the kernels.
_TILE = 4096


@dataclass(frozen=True)
class _Case:
    """A tip, and what ppafm calls it."""

    name: str
    tip: Tip
    peer_kind: int
    peer_charge: float

    @property
    def charged_copies(self) -> int:
        """How many times the atoms are summed over for charges that are not on the probe."""
        return sum(height != 0 for _, height in self.tip.charges)


_CASES = (
    _Case("point charge", Tip(charges=((-0.05, 0.0),)), MONOPOLE, -0.05),
    _Case("CO, quadrupole", Tip(), QUADRUPOLE, -0.1),
)


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__)
    # The first call shall compile, whatever the user keeps.
    jax.config.update("jax_enable_compilation_cache", False)
    axis = (np.arange(_PIXELS) - (_PIXELS - 1) / 2) * 0.125
    heights = 7.9 - 0.1 * np.arange(_SLICES)
    grid = ScanGrid(*(values.astype(np.float32) for values in (axis, axis, heights)))
    report = Report(f"Kernels: PTCDA, {_PIXELS} x {_PIXELS} pixels, {_SLICES} slices, probe 4.9 to 3.0 Å above it")
    for case in _CASES:
        report_case(report, case, load_sample("ptcda", case.tip).atoms, grid)
    report.notes += [
        "the fused evaluation sums force and Hessian over all pairs once per pixel and slice, at fixed positions:"
        " whatever relaxes the probe with them cannot do with less",
        "NumPy sums the same pairs in float32, one slice measured and multiplied by the number of slices",
    ]
    if not is_installed():
        report.notes += [
            "ppafm not installed: pip install ppafm",
            "not measured in this run: ppafm 0.4.1 on two busy cores of a Xeon at 2.5 GHz: C++ 4.8 to 9.5 s per stack"
            " (point charge), 9 to 12.3 s (quadrupole); OpenCL on PoCL 3.0 to 6.25 s; published for a GPU: 10 to 100"
            " per second",
        ]
    report.finish(options.json)


def report_case(report: Report, case: _Case, atoms: Atoms, grid: ScanGrid) -> None:
    """Measure one tip."""
    simulation = partial(stack, atoms, case.tip, grid)
    first = duration(simulation)
    least, pairs, slots = fused_evaluation(atoms, case, grid)
    ours, bound = interleaved([simulation, least], _ROUNDS)
    slice_ = interleaved([numpy_slice(atoms, case, grid)], 3)[0]
    numpy = Figure(tuple(_SLICES * value for value in slice_.values))

    limit = ("fused evaluation", bound)
    report.add(f"{case.name}: one stack", ours, peer=limit)
    report.add(
        f"{case.name}: stacks per second", ours.per(1, "/s"), peer=(limit[0], bound.per(1, "/s")), target=_TARGET
    )
    report.add(f"{case.name}: the same pairs in NumPy", numpy, peer=limit)
    report.add(f"{case.name}: pairs per second, if each were needed once", ours.per(pairs, "pairs/s"))
    report.add(f"{case.name}: first call (compiles)", Figure((first,)))
    report.notes.append(
        f"{case.name}: {pairs / 1e6:.3g} million pairs of pixel, slice and atom (or its copy), {slots / pairs - 1:.0%}"
        " more with what fills the arrays up"
    )
    if is_installed():
        report_peer(report, case, Peer(atoms, case.tip, grid, case.peer_kind, case.peer_charge), simulation)


def report_peer(report: Report, case: _Case, peer: Peer, simulation: Callable[[], np.ndarray]) -> None:
    """Measure ppafm and us in turns."""
    ours, theirs = interleaved([simulation, peer.run], _PEER_ROUNDS, warmup=0)
    report.add(f"{case.name}: one stack, in turns with ppafm", ours, peer=("ppafm, C++", theirs))
    assert peer.force_z is not None
    force_z = np.asarray(simulate(peer.atoms, peer.tip, peer.grid).force_z)
    difference = np.abs(force_z - peer.force_z)
    stages = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in peer.stages.items())
    report.notes.append(
        f"{case.name}: ppafm's stages: {stages}; forces differ by {np.median(difference) * 1e3:.2g} meV/Å (median) and"
        f" {np.percentile(difference, 99) * 1e3:.2g} (99 %) of {np.ptp(force_z) * 1e3:.3g}"
    )


def stack(atoms: Atoms, tip: Tip, grid: ScanGrid) -> np.ndarray:
    """Simulate what a user asks for: forces and frequency shift, in NumPy arrays."""
    result = simulate(atoms, tip, grid)
    shift, _ = frequency_shift(result.force_z, grid.z, Cantilever())
    jax.block_until_ready((result.displacement, result.converged))
    return np.asarray(shift)


def fused_evaluation(atoms: Atoms, case: _Case, grid: ScanGrid) -> tuple[Callable[[], object], int, int]:
    """Make the least work: force and Hessian of all pairs once per pixel and slice.

    Returns
    -------
    callable
        Does it.
    pairs, slots
        Pairs that count, and with those that fill the arrays.
    """
    sites = pair_sites(atoms, case.tip)
    tiles = jnp.asarray(_probe_positions(grid)).reshape(2, -1, _TILE).swapaxes(0, 1)
    heights = jnp.asarray(grid.z) - case.tip.rest[2]

    @jax.jit
    def evaluate(tile: jax.Array) -> jax.Array:
        def slice_(total: jax.Array, z: jax.Array) -> tuple[jax.Array, None]:
            points = jnp.concatenate([tile, jnp.broadcast_to(z, (1, _TILE))])
            force, hessian = sites.force_and_hessian(points)
            # Everything is used, so that nothing is optimised away.
            return total + sum(force) + sum(hessian), None

        return jax.lax.scan(slice_, jnp.zeros(_TILE, tile.dtype), heights)[0]

    def run() -> None:
        jax.block_until_ready([evaluate(tile) for tile in tiles])

    points = _PIXELS * _PIXELS * _SLICES
    return run, points * len(atoms.numbers) * (1 + case.charged_copies), points * len(sites.c6)


def numpy_slice(atoms: Atoms, case: _Case, grid: ScanGrid) -> Callable[[], object]:
    """Make the same sum over the pairs of one slice, as one would write it in NumPy."""
    sites = pair_sites(atoms, case.tip)
    count = len(atoms.numbers) * (1 + case.charged_copies)
    place, c6, c12, coulomb = (
        np.asarray(values)[:count] for values in (sites.positions, sites.c6, sites.c12, sites.coulomb)
    )
    height = np.float32(grid.z[-1] - case.tip.rest[2])
    points = np.vstack([_probe_positions(grid), np.full(_PIXELS**2, height, np.float32)])

    def run() -> np.ndarray:
        distance = [points[axis] - place[:, axis, None] for axis in range(3)]
        u = 1 / (distance[0] ** 2 + distance[1] ** 2 + distance[2] ** 2)
        u3 = u * u * u
        dispersion, repulsion, charge = c6[:, None] * u3, c12[:, None] * u3 * u3, coulomb[:, None] * np.sqrt(u)
        g = u * (6 * dispersion - 12 * repulsion - charge)
        h = u * u * (168 * repulsion - 48 * dispersion + 3 * charge)
        force = [-(g * d).sum(axis=0) for d in distance]
        hessian = [
            (h * distance[i] * distance[j]).sum(axis=0) + (g.sum(axis=0) if i == j else 0)
            for i in range(3)
            for j in range(i, 3)
        ]
        return np.stack(force + hessian)

    return run


def _probe_positions(grid: ScanGrid) -> np.ndarray:
    return np.stack(np.meshgrid(grid.x, grid.y)).reshape(2, -1)


if __name__ == "__main__":
    main()
