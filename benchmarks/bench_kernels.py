"""How fast stacks of AFM images are simulated, beside ppafm in the same run and beside what the machine can do."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from _cases import CORES, PIXELS, POINT, QUADRUPOLE, SLICES, Case, batch, scan_grid, set_up, stack, turned
from _fresh_process import PTCDA_POINT, PTCDA_QUADRUPOLE, in_fresh_process
from _ppafm import CppPeer, is_installed
from _ppafm_opencl import OpenCLPeer, start
from _report import Cost, Figure, Report, arguments, duration, interleaved, interleaved_costs
from _roofline import measured_machine, one_evaluation, work

from twinscope.drivers.simulator.sample import library, load_sample
from twinscope.kernels import Atoms, Cantilever, ScanGrid, Tip, frequency_shift, simulate

_ROUNDS, _BATCH_ROUNDS, _WARM_STARTS = 7, 5, 5
# Calls of ours in one round: they are short, so that one alone would be a matter of luck.
_CALLS = 4
_TARGET = 20.0
_FIRST_TARGET, _SECOND_TARGET = 3.0, 0.3
_BATCHES = {"cpu": (16,)}
_BATCHES_ON_ACCELERATOR = (32, 128)
_GRADIENT_PIXELS = 64


@dataclass(frozen=True)
class _Peers:
    """Which codes are compared with."""

    opencl: bool

    def of(self, case: Case, grid: ScanGrid) -> list[CppPeer | OpenCLPeer]:
        """Prepare them for a case."""
        peers: list[CppPeer | OpenCLPeer] = []
        if is_installed():
            peers.append(CppPeer(case.atoms, case.tip, grid, case.peer_tip, case.peer_charge))
        if self.opencl:
            peers.append(OpenCLPeer(case.atoms, case.tip, grid))
        return peers


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__)
    set_up()
    report = Report(f"Kernels: PTCDA, {PIXELS} x {PIXELS} pixels, {SLICES} slices, probe 4.9 to 3.0 Å above it")
    report.notes += [
        f"devices: {len(jax.devices())} of the kind {jax.devices()[0].device_kind} ({jax.default_backend()});"
        f" ppafm's C++ code with OMP_NUM_THREADS={CORES}",
        "a stack: simulation, frequency shift, and the way into NumPy arrays; compiling is apart",
    ]
    peers = _Peers(opencl=_opencl(report))
    for case in (POINT, QUADRUPOLE):
        report_case(report, case, peers)
    report_batches(report)
    report_gradient(report)
    report_first_results(report)
    if jax.default_backend() == "cpu":
        report.notes.append("no GPU: batches of 32 and 128 are measured where JAX finds one")
    report.finish(options.json)


def report_case(report: Report, case: Case, peers: _Peers) -> None:
    """Measure one tip: alone, beside ppafm, and beside the machine."""
    grid = scan_grid()
    simulation = partial(stack, case.atoms, case.tip, grid)
    report.add(f"{case.name}: first call (compiles)", Figure((duration(simulation),)))
    others = peers.of(case, grid)
    ours, *theirs = interleaved_costs([_repeated(simulation), *(peer.run for peer in others)], _ROUNDS)
    wall = ours.wall.per_call(_CALLS)
    report.add(f"{case.name}: one stack", wall)
    report.add(f"{case.name}: stacks per second", wall.per(1, "stacks/s"), target=_TARGET)
    for peer, cost in zip(others, theirs, strict=True):
        report.add(f"{case.name}: {peer.name}", cost.wall, peer=("ours", wall))
    if theirs:
        report_ratios(report, case, ours, theirs)
    report_one_device(report, case)
    report_work(report, case, simulation)
    report.notes += [f"{case.name}: {_difference(peer, case, grid)}" for peer in others]


def report_ratios(report: Report, case: Case, ours: Cost, theirs: list[Cost]) -> None:
    """Compare with the faster of the peers, round by round."""
    for name, part, target in (("", "wall", case.target), (" in processor time", "processor", None)):
        mine = getattr(ours, part).per_call(_CALLS).values
        least = [min(values) for values in zip(*(getattr(cost, part).values for cost in theirs), strict=True)]
        ratios = tuple(other / own for own, other in zip(mine, least, strict=True))
        report.add(f"{case.name}: times faster than the faster ppafm{name}", Figure(ratios, "x"), target=target)


def report_one_device(report: Report, case: Case) -> None:
    """Measure what JAX does by itself, which is to take all cores for one device."""
    sample = PTCDA_QUADRUPOLE if case is QUADRUPOLE else PTCDA_POINT
    found = in_fresh_process(sample, devices=1, pixels=PIXELS, slices=SLICES, calls=_ROUNDS * _CALLS)
    report.add(f"{case.name}: one stack, one device (JAX's default)", Figure(found.later))


def report_work(report: Report, case: Case, simulation: Callable[[], object]) -> None:
    """Compare what is done with what could be done."""
    grid, machine = scan_grid(), measured_machine()
    report.add(f"{case.name}: bandwidth, a pass over 256 MB per device", machine.bandwidth)
    did = work(simulate(case.atoms, case.tip, grid), case.atoms, case.tip)
    ours, once = interleaved([simulation, one_evaluation(case.atoms, case.tip, grid)], _ROUNDS, calls=_CALLS)
    sums = Figure(tuple(did.evaluations * value for value in once.values))
    report.add(f"{case.name}: one stack, in turns with", ours, peer=("its sums over pairs alone", sums))
    report.add(
        f"{case.name}: operations in sums over pairs",
        ours.per(did.flops, "flop/s"),
        peer=("matrix product", machine.flops),
    )
    report.notes.append(
        f"{case.name}: {did.evaluations:.1f} evaluations of force and Hessian per column, {did.pairs / 1e6:.3g} million"
        f" pairs (padding included), {did.flops / 1e9:.2g} Gflop, radial arrays {did.radial_bytes / 1e6:.3g} MB (in the"
        f" cache), result {did.result_bytes / 1e6:.2g} MB; of the measured peaks:"
        f" {_share(did.flops, ours, machine.flops)} of the operations in the whole stack,"
        f" {_share(did.flops, sums, machine.flops)} in the sums alone;"
        f" {_share(did.result_bytes, ours, machine.bandwidth)} of the bandwidth if the radial arrays stay in the cache,"
        f" {_share(did.result_bytes + did.radial_bytes, ours, machine.bandwidth)} if they did not"
    )


def report_batches(report: Report) -> None:
    """Measure many samples at once."""
    grid, tip = scan_grid(), QUADRUPOLE.tip
    backend = jax.default_backend()
    for count in _BATCHES.get(backend, _BATCHES_ON_ACCELERATOR):
        rotated = [turned(QUADRUPOLE.atoms, "z", 360 * number / count) for number in range(count)]
        library_atoms = [load_sample(name, tip).atoms for name in sorted(library())]
        charged = [atoms for atoms in library_atoms if atoms.charges is not None]
        mixed = [charged[number % len(charged)] for number in range(count)]
        sizes = [len(atoms.numbers) for atoms in mixed]
        for name, samples in (
            (f"{count} rotations of PTCDA", rotated),
            (f"{count} molecules of {min(sizes)} to {max(sizes)} atoms", mixed),
        ):
            together, apart = interleaved_costs(
                [partial(batch, samples, tip, grid), partial(_one_by_one, samples, tip, grid)], _BATCH_ROUNDS
            )
            report.add(
                f"batch, CO quadrupole: {name}",
                together.wall.per(count, "stacks/s"),
                peer=("one after the other", apart.wall.per(count, "stacks/s")),
                target=_TARGET,
            )


def report_gradient(report: Report) -> None:
    """Measure the derivative of a loss on frequency shifts with respect to all atoms."""
    grid, atoms = scan_grid(_GRADIENT_PIXELS, pixel=2 * 0.125), POINT.atoms
    for case in (POINT, QUADRUPOLE):
        wanted = stack(turned(atoms, "z", 1.0), case.tip, grid)[0]

        def loss(positions: jax.Array, tip: Tip = case.tip, wanted: np.ndarray = wanted) -> jax.Array:
            moved = Atoms(atoms.numbers, positions, atoms.charges)
            shift, _ = frequency_shift(simulate(moved, tip, grid).force_z, grid.z, Cantilever())
            return jnp.mean((shift - wanted) ** 2)

        forward, both = jax.jit(loss), jax.jit(jax.value_and_grad(loss))
        positions = jnp.asarray(atoms.positions)
        costs = interleaved_costs([_waiting(partial(forward, positions)), _waiting(partial(both, positions))], _ROUNDS)
        value, gradient = (cost.wall for cost in costs)
        ratio = Figure(tuple(b / a for a, b in zip(value.values, gradient.values, strict=True)), "times")
        name = f"{case.name}: loss and its gradient, {_GRADIENT_PIXELS} x {_GRADIENT_PIXELS}"
        report.add(name, gradient, peer=("the loss alone", value))
        report.add(f"{case.name}: cost of value and gradient by that of the value", ratio)


def report_first_results(report: Report) -> None:
    """Measure how long a new process takes to its first result, with an empty and a filled cache."""
    simulated = partial(in_fresh_process, PTCDA_QUADRUPOLE, devices=1, pixels=PIXELS, slices=SLICES, calls=1)
    with tempfile.TemporaryDirectory() as folder:
        cold, *warm = [simulated(folder=Path(folder)) for _ in range(1 + _WARM_STARTS)]
    report.add("new process to its first stack, empty cache", Figure((cold.ready,)))
    report.add("the same, filled cache", Figure(tuple(one.ready for one in warm)), target=_FIRST_TARGET)
    report.add("of that: the call alone", Figure(tuple(one.first for one in warm)))
    report.add("second call in that process", Figure(tuple(one.later[0] for one in warm)), target=_SECOND_TARGET)


def _opencl(report: Report) -> bool:
    """Start ppafm's OpenCL code and say what it runs on, or why it does not."""
    if not is_installed():
        report.notes.append("ppafm is not installed, so there is nothing to compare with: pip install ppafm")
        return False
    try:
        name = start()
    except RuntimeError as exc:
        report.notes.append(f"ppafm's OpenCL code is left out: {exc}")
        return False
    report.notes.append(f"ppafm's OpenCL code runs on: {name}")
    return True


def _difference(peer: CppPeer | OpenCLPeer, case: Case, grid: ScanGrid) -> str:
    """Tell how far a peer's forces are from ours, which shows that both simulate the same."""
    peer.run()
    force_z = np.asarray(simulate(case.atoms, case.tip, grid).force_z)
    difference = np.abs(force_z - peer.force_z())
    stages = ""
    if isinstance(peer, CppPeer):
        stages = "; its stages: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in peer.stages.items())
    return (
        f"forces of {peer.name} differ from ours by {np.median(difference) * 1e3:.2g} meV/Å (median) and"
        f" {np.percentile(difference, 99) * 1e3:.2g} (99 %) of {np.ptp(force_z) * 1e3:.3g}{stages}"
    )


def _one_by_one(samples: list[Atoms], tip: Tip, grid: ScanGrid) -> None:
    for atoms in samples:
        stack(atoms, tip, grid)


def _repeated(action: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        for _ in range(_CALLS):
            action()

    return run


def _waiting(action: Callable[[], object]) -> Callable[[], object]:
    return lambda: jax.block_until_ready(action())


def _share(amount: float, time: Figure, peak: Figure) -> str:
    return f"{amount / time.median / peak.median:.2g}"


if __name__ == "__main__":
    main()
