"""How fast samples of training data are made, beside ppafm's generator in the same run."""

import os
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _cases import CORES, set_up
from _ppafm import is_installed, silence
from _ppafm_opencl import start
from _report import Figure, Report, arguments, interleaved_costs

from twinscope.agents.structure_discovery.training_data import PUBLISHED, pool, simulate_samples
from twinscope.agents.structure_discovery.training_data.imaging import Scene, draw_scene
from twinscope.drivers.simulator.sample import load_sample
from twinscope.kernels import Atoms, Tip

# Of about the same size, so that little is compiled.
_MOLECULES = ("coronene", "pentacene", "ptcda")
_SAMPLES, _ROUNDS = 6, 5
_PROCESSES = 2
# Files of the pool: those that come first hold the time in which each process starts and compiles.
_CHUNK, _FILES, _NOT_COUNTED = 6, 8, 4
# The force-field grid, in Å, as the published training data had it: 5 points per Å.
_POINTS_PER_ANGSTROM = 5
_FIELD = np.array([[0, 0, 0], [20, 0, 0], [0, 20, 0], [0, 0, 6]], float)
_WINDOW = ((2.0, 2.0, 7.0), (18.0, 18.0, 9.0))
_DISTANCE = 5.0


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__)
    os.environ.update(pool.ONE_THREAD)
    set_up(1)
    report = Report("Training data: samples of 128 x 128 x 10 with four maps, published recipe")
    report.notes.append(f"molecules: {', '.join(_MOLECULES)}; {_SAMPLES} samples in a round; compiling is apart")
    molecules = [_with_charges(load_sample(name, Tip()).atoms) for name in _MOLECULES]
    peer = _peer(report, molecules)
    actions = [partial(simulate_samples, molecules, PUBLISHED, 0, range(_SAMPLES)), *([] if peer is None else [peer])]
    ours, *theirs = interleaved_costs(actions, _ROUNDS)
    name = "ppafm's generator, all cores"
    for part, what in (("wall", "samples per second"), ("processor", "samples per second of processor time")):
        rates = [getattr(cost, part).per(_SAMPLES, "samples/s") for cost in (ours, *theirs)]
        report.add(f"one core: {what}", rates[0], peer=(name, rates[1]) if theirs else None)
        if theirs:
            ratios = tuple(a / b for a, b in zip(rates[0].values, rates[1].values, strict=True))
            report.add(f"one core: times the {what} of ppafm", Figure(ratios, "x"))
    # Without the peer, whose rate is that of another moment.
    report.add(f"{_PROCESSES} processes that fill a pool: samples per second", _pool_rate(molecules))
    report.finish(options.json)


def _with_charges(atoms: Atoms) -> Atoms:
    """Give a sample charges of zero if it has none."""
    charges = np.zeros(len(atoms.numbers)) if atoms.charges is None else np.asarray(atoms.charges)
    return Atoms(np.asarray(atoms.numbers), np.asarray(atoms.positions), charges)


def _pool_rate(molecules: list[Atoms]) -> Figure:
    """Fill a pool and count what comes after the processes have started."""
    wanted = [molecules[number % len(molecules)] for number in range(_CHUNK * _FILES)]
    reports: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        pool.fill(
            Path(folder),
            wanted,
            PUBLISHED,
            processes=_PROCESSES,
            chunk=_CHUNK,
            report=lambda made: reports.append((time.perf_counter(), made)),
        )
    (begin, before), (end, after) = reports[_NOT_COUNTED - 1], reports[-1]
    return Figure(((after - before) / (end - begin),), "samples/s")


def _peer(report: Report, molecules: list[Atoms]) -> Any:
    """Prepare ppafm's generator for the same samples, or say why it is left out."""
    if not is_installed():
        report.notes.append("ppafm is not installed, so there is nothing to compare with: pip install ppafm")
        return None
    try:
        report.notes.append(f"ppafm's OpenCL code runs on: {start()} ({CORES} cores)")
    except RuntimeError as exc:
        report.notes.append(f"ppafm's generator is left out: {exc}")
        return None
    scenes = [
        draw_scene(molecules[number % len(molecules)], PUBLISHED, np.random.default_rng(number))
        for number in range(_SAMPLES)
    ]
    report.notes.append(
        f"ppafm: force-field grid of {_POINTS_PER_ANGSTROM} points per Å (ours has none), the same molecules, turned as"
        " ours; atomic disks, van der Waals spheres, height map and electrostatic map as ours"
    )
    return _Generator(scenes)


class _Generator:
    """ppafm's generator, once over some scenes for each call."""

    def __init__(self, scenes: list[Scene]) -> None:
        from ppafm.ml.AuxMap import AtomicDisks, ESMapConstant, HeightMap, vdwSpheres
        from ppafm.ml.Generator import InverseAFMtrainer
        from ppafm.ocl.AFMulator import AFMulator

        tip = scenes[0].tips[0]
        charge = [tip.charges[0][0], 0.0, 0.0, 0.0]
        pixels, slices = PUBLISHED.grid.pixels, 2 * PUBLISHED.grid.slices
        flat = tuple(corner[:2] for corner in _WINDOW)
        with silence(), warnings.catch_warnings(action="ignore"):
            simulator = AFMulator(
                pixPerAngstrome=_POINTS_PER_ANGSTROM,
                lvec=_FIELD,
                scan_dim=(pixels, pixels, slices),
                scan_window=_WINDOW,
                df_steps=10,
                tipR0=list(tip.rest),
                tipStiffness=list(tip.stiffness),
                npbc=(0, 0, 0),
            )
            maps = [
                AtomicDisks((pixels, pixels), flat),
                vdwSpheres((pixels, pixels), flat),
                HeightMap(simulator.scanner),
                ESMapConstant((pixels, pixels), flat, vdW_cutoff=-2.0, Rpp=1.0),
            ]
            self._generator = InverseAFMtrainer(
                simulator, maps, [], len(scenes), _DISTANCE, iZPPs=[8], Qs=[charge], QZs=[[0.0] * 4]
            )
        self._molecules = [
            np.column_stack([np.asarray(values, float) for values in (a.positions, a.charges, a.numbers)])
            for a in (scene.atoms for scene in scenes)
        ]

    def __call__(self) -> None:
        # It moves the molecules it is given.
        self._generator.molecules = [molecule.copy() for molecule in self._molecules]
        with silence(), warnings.catch_warnings(action="ignore"):
            next(iter(self._generator))


if __name__ == "__main__":
    main()
