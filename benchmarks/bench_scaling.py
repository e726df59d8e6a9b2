"""How time and memory of a simulation grow with pixels, slices and atoms."""

from collections.abc import Iterable
from functools import partial

import jax
import numpy as np
from _cases import CORES, POINT, scan_grid, set_up, stack
from _flake import flake
from _fresh_process import in_fresh_process
from _report import Figure, Report, arguments, formatted, interleaved_costs

_ROUNDS = 5
_PIXELS = (32, 64, 128, 256, 512)
_SLICES = (12, 25, 50, 100)
_ATOMS = (10, 30, 100, 300, 1000)
# What is held while something else varies.
_USUAL = {"pixels": 128, "slices": 20, "atoms": 40}
# Above this a doubling costs more than 2.14 times as much.
_LARGEST_EXPONENT = 1.1
_MANY_ATOMS = (64, 20, 5000)
_LARGE = (1024, 40, 500)


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__, large=f"also {_LARGE[0]} x {_LARGE[0]} x {_LARGE[1]} over {_LARGE[2]} atoms")
    set_up()
    report = Report("Scaling: flakes of carbon under a point charge, the lowest slice 3 Å above them")
    for varied, values in (("pixels", _PIXELS), ("slices", _SLICES), ("atoms", _ATOMS)):
        report_axis(report, varied, values)
    report_process(report, *_MANY_ATOMS, calls=1)
    if options.large:
        report_process(report, *_LARGE, calls=0)
    report.notes += [
        f"devices: {len(jax.devices())}; while one number varies the others are"
        f" {_USUAL['pixels']} x {_USUAL['pixels']} pixels, {_USUAL['slices']} slices of 0.1 Å, {_USUAL['atoms']} atoms",
        "exponent: of a power law through the medians; 1 is linear",
        "far slices are interpolated, so that time grows less than linearly with the height of the stack",
        "columns are relaxed in tiles of 4096, the last of which is filled up: 32 x 32 pixels take as long as 64 x 64,"
        " and both have but one device",
    ]
    report.finish(options.json)


def report_axis(report: Report, varied: str, values: Iterable[int]) -> None:
    """Vary one number."""
    costs = interleaved_costs([_simulation(**(_USUAL | {varied: value})) for value in values], _ROUNDS)
    found = {value: cost.wall for value, cost in zip(values, costs, strict=True)}
    costs_of_one = []
    for value, figure in found.items():
        report.add(f"{value} x {value} pixels" if varied == "pixels" else f"{value} {varied}", figure)
        size = _USUAL | {varied: value}
        costs_of_one.append(formatted(figure.median / _amount(**size), "s"))
    report.notes.append(f"per pixel, slice and atom, with {varied}: {', '.join(costs_of_one)}")
    logs = np.log([(value, figure.median) for value, figure in found.items()])
    if varied == "pixels":
        logs[:, 0] *= 2
    for name, part in ((f"exponent with {varied}", logs), (f"exponent with {varied}, largest three", logs[-3:])):
        exponent = float(np.polyfit(*part.T, 1)[0])
        report.add(name, Figure((exponent,), "exponent"), target=_LARGEST_EXPONENT)


def report_process(report: Report, pixels: int, slices: int, atoms: int, *, calls: int) -> None:
    """Simulate something large in a process of its own, for the sake of its memory."""
    name = f"{pixels} x {pixels} x {slices}, {atoms} atoms"
    found = in_fresh_process(atoms, devices=CORES, pixels=pixels, slices=slices, calls=calls, wait="begin")
    report.add(f"{name}: first call (compiles)", Figure((found.first,)))
    if found.later:
        report.add(f"{name}: later calls", Figure(found.later))
    best = min(found.later, default=found.first)
    report.add(f"{name}: per pixel, slice and atom", Figure((best / _amount(pixels, slices, atoms),)))
    report.add(f"{name}: most memory of its process", Figure((found.peak,), "B"))
    report.add(f"{name}: its result in memory", Figure((found.result,), "B"))
    report.notes.append(f"{name}: {formatted(found.before, 'B')} of memory before the first call")


def _amount(pixels: int, slices: int, atoms: int) -> int:
    return pixels**2 * slices * atoms


def _simulation(pixels: int, slices: int, atoms: int) -> partial:
    # The same window whatever the pixels, and the same lowest slice whatever the height.
    grid = scan_grid(pixels, slices, pixel=16 / pixels)
    lowest = scan_grid(1, _USUAL["slices"]).z[-1]
    lifted = type(grid)(grid.x, grid.y, (grid.z - grid.z[-1] + lowest).astype(np.float32))
    return partial(stack, flake(atoms), POINT.tip, lifted)


if __name__ == "__main__":
    main()
