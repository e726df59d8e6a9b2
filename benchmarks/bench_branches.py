"""How often the probe ends on another branch than on a continuous approach: ours, and FIRE's beside it.

Close to a molecule the probe snaps from one minimum to another. Where it lands decides the image from there on, so that
a relaxation which takes another branch is wrong, however well it converges.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import jax
import numpy as np
from _cases import POINT, QUADRUPOLE, scan_grid, set_up, turned
from _fire import CAREFUL, FireScan, simulate_with_fire
from _report import Figure, Report, arguments

from twinscope.kernels import Atoms, ScanGrid, Tip, simulate

# Every other pixel of the stacks in bench_kernels.py, and how much closer than there the probe comes in some cases.
_PIXELS, _PIXEL = 64, 0.25
_SLICES, _CLOSER = 20, 2
_TILT = 25.0
# The reference divides every slice, and that again where the probe is about to snap: 0.02 Å and 0.005 Å.
_FINER, _REFERENCE_SUBSTEPS = 5, 4
_SUBSTEPS = (1, 4)
# A column is missed when its force differs by more (eV/Å) anywhere; a jump is longer than this (Å) between slices.
_MISS, _JUMP = 1e-3, 0.3


@dataclass(frozen=True)
class _Path:
    """Forces (nz, n) in eV/Å and displacements (nz, n, 3) in Å, as float64."""

    force_z: np.ndarray
    displacement: np.ndarray

    @cached_property
    def jumps(self) -> np.ndarray:
        """Where the probe moved far from one slice to the next."""
        return np.linalg.norm(np.diff(self.displacement, axis=0), axis=-1) > _JUMP

    def missed(self, reference: "_Path") -> np.ndarray:
        """Columns that are elsewhere than in the reference."""
        return (np.abs(self.force_z - reference.force_z) > _MISS).any(axis=0)

    def compared(self, reference: "_Path") -> str:
        """Say how this differs from the reference where it is on the same branch."""
        kept = ~self.missed(reference)
        difference = (self.force_z - reference.force_z)[:, kept]
        shared = (self.jumps & reference.jumps).sum()
        return (
            f"on the other columns forces differ by {np.abs(difference).max() * 1e3:.2g} meV/Å at most,"
            f" {np.sqrt((difference**2).mean()) * 1e3:.2g} rms; {shared} of the reference's {reference.jumps.sum()}"
            f" jumps, {self.jumps.sum() - shared} others"
        )


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__, independent="also find the branches without Newton, which takes minutes")
    set_up()
    jax.config.update("jax_enable_x64", True)
    report = Report(f"Branches: PTCDA, {_PIXELS} x {_PIXELS} columns, slices of 0.1 Å")
    tilted = turned(QUADRUPOLE.atoms, "y", _TILT)
    low = _SLICES + _CLOSER
    for name, atoms, tip, slices in (
        ("point charge", POINT.atoms, POINT.tip, _SLICES),
        ("CO quadrupole", QUADRUPOLE.atoms, QUADRUPOLE.tip, _SLICES),
        ("point charge, 0.2 Å closer", POINT.atoms, POINT.tip, low),
        ("CO quadrupole, 0.2 Å closer", QUADRUPOLE.atoms, QUADRUPOLE.tip, low),
        (f"tilted by {_TILT:g}°, 0.2 Å closer", tilted, QUADRUPOLE.tip, low),
    ):
        grid = scan_grid(_PIXELS, slices, pixel=_PIXEL, dtype=np.float64)
        report_case(report, name, atoms, tip, grid, independent=options.independent)
    report.notes += [
        f"missed: columns with a force that is off by more than {_MISS * 1e3:g} meV/Å at any height; FIRE has the"
        " settings of ppafm's OpenCL code, on our forces, and float32 as there",
        f"continuous: ours in float64 with {_FINER} times as many slices and {_REFERENCE_SUBSTEPS} substeps where the"
        " probe cannot be predicted",
    ]
    report.finish(options.json)


def report_case(report: Report, name: str, atoms: Atoms, tip: Tip, grid: ScanGrid, *, independent: bool) -> None:
    """Compare everything with the references of one case."""
    exact = replace(atoms, **{part: np.asarray(getattr(atoms, part), float) for part in ("positions", "charges")})
    continuous = _continuous(exact, tip, grid)
    columns = continuous.force_z.shape[1]
    report.notes.append(f"{name}: {continuous.jumps.sum()} jumps in {columns} columns")
    found: list[tuple[str, _Path, float]] = []
    for substeps in _SUBSTEPS:
        ours, evaluations = _ours(atoms, tip, grid, substeps)
        label = f"substeps={substeps}"
        found.append((label, ours, evaluations))
        double, _ = _ours(exact, tip, grid, substeps)
        count = int(ours.missed(double).sum())
        report.add(f"{name}: {label}, against float64 likewise", Figure((count,), "missed"), target=0)
        found.append((f"{label} in float64", double, evaluations))
    fire = simulate_with_fire(atoms, tip, grid)
    found.append(("FIRE", *_of_fire(fire)))
    if independent:
        slow = simulate_with_fire(exact, tip, _finer(grid), CAREFUL)
        found.append(("careful FIRE in many slices", *_of_fire(slow, _FINER)))
    for label, path, evaluations in found:
        count = int(path.missed(continuous).sum())
        # What takes single steps of 0.1 Å is not promised to find every branch.
        target = 0 if label.startswith((f"substeps={max(_SUBSTEPS)}", "careful")) else None
        report.add(f"{name}: {label}, against the continuous approach", Figure((count,), "missed"), target=target)
        if not label.endswith("float64"):
            report.notes.append(
                f"{name}: {label}: {evaluations:.1f} evaluations per column; {path.compared(continuous)}"
            )


def _ours(atoms: Atoms, tip: Tip, grid: ScanGrid, substeps: int) -> tuple[_Path, float]:
    result = simulate(atoms, tip, grid, substeps=substeps)
    assert result.force_z.dtype == np.asarray(atoms.positions).dtype
    assert np.asarray(result.converged).all()
    return _path(result.force_z, result.displacement), float(np.asarray(result.evaluations, float).sum(axis=0).mean())


def _continuous(atoms: Atoms, tip: Tip, grid: ScanGrid) -> _Path:
    result = simulate(atoms, tip, _finer(grid), substeps=_REFERENCE_SUBSTEPS)
    assert np.asarray(result.converged).all()
    return _path(result.force_z[::_FINER], result.displacement[::_FINER])


def _of_fire(result: FireScan, every: int = 1) -> tuple[_Path, float]:
    evaluations = float(np.asarray(result.evaluations).sum(axis=0).mean())
    return _path(result.force_z[::every], result.displacement[::every]), evaluations


def _finer(grid: ScanGrid) -> ScanGrid:
    """Divide every slice; every `_FINER`-th height is one of the grid."""
    slices = np.arange(len(grid.z))
    return replace(grid, z=np.interp(np.linspace(0, slices[-1], _FINER * slices[-1] + 1), slices, grid.z))


def _path(force_z: jax.Array, displacement: jax.Array) -> _Path:
    levels = len(force_z)
    return _Path(np.asarray(force_z, float).reshape(levels, -1), np.asarray(displacement, float).reshape(levels, -1, 3))


if __name__ == "__main__":
    main()
