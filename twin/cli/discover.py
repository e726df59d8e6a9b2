"""The command ``twinscope discover``: an agent finds molecules and tells what they are."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from twinscope.cli.options import FAILED, AddCommand, add_control_options, connect, numbers, size

if TYPE_CHECKING:
    from twinscope.agents.structure_discovery.agent import LiveProgress
    from twinscope.agents.structure_discovery.agent.record import MoleculeRecord
    from twinscope.agents.structure_discovery.prediction import Prediction


def discover(options: argparse.Namespace) -> int:
    """Find molecules on the surface, measure each until its structure is known, and write a report."""
    from twinscope import _jax_setup

    _jax_setup.keep_compiled_code()
    from twinscope.agents.structure_discovery import DiscoveryOptions, Predictor, refine, run_discovery

    predictor = Predictor.shipped() if options.weights is None else Predictor.from_file(options.weights)
    asked = DiscoveryOptions(
        center=options.center,
        size=options.size,
        molecules=options.molecules,
        budget=options.budget,
        refine=options.refine,
        second_tip=options.second_tip,
    )
    with connect(options) as scope:
        record = run_discovery(
            scope, predictor, asked, options.output, refiner=refine if options.refine else None, on_update=_tell
        )
    for number, molecule in enumerate(record.molecules, start=1):
        print(f"molecule {number}: {_summary(molecule)}")
    print(f"report: {(options.output / 'report.html').resolve()}")
    if record.note:
        print(f"the run ended: {record.note}")
    return 0 if record.succeeded else FAILED


def add_commands(add: AddCommand) -> None:
    """Add the commands of this module."""
    sub = add("discover", discover)
    sub.add_argument("output", type=Path, help="folder for the report, the molecules and the record; made anew")
    add_control_options(sub)
    sub.add_argument("--size", type=size, default=(3e-8, 3e-8), help="of the area to search, in nm (30)")
    sub.add_argument("--center", type=_center, default=(0.0, 0.0), metavar="X,Y", help="its middle, in nm (0,0)")
    sub.add_argument("--molecules", type=int, default=1, help="how many to solve (%(default)s)")
    sub.add_argument(
        "--budget", type=float, default=7200.0, metavar="S", help="seconds of instrument time for all (%(default)g)"
    )
    sub.add_argument("--weights", type=Path, help="of another network than the one that comes with the package")
    sub.add_argument("--second-tip", metavar="NAME", help="to measure molecules with again, for their charges: Xe")
    sub.add_argument(
        "--refine", action=argparse.BooleanOptionalAction, default=True, help="fit the structure to the images"
    )


def _tell(prediction: "Prediction", progress: "LiveProgress") -> None:
    done = f"slice {progress.layer}, line {progress.lines} of {progress.total}"
    print(f"molecule {progress.molecule + 1}, {done}: {len(prediction.structure)} atoms so far", flush=True)


def _summary(molecule: "MoleculeRecord") -> str:
    structure = molecule.structure
    atoms = "no structure" if structure is None else f"{len(structure)} atoms"
    x, y = (value * 1e9 for value in molecule.center)
    return f"{atoms} at {x:.2f}, {y:.2f} nm: {molecule.ended}{f'; {molecule.note}' if molecule.note else ''}"


def _center(text: str) -> tuple[float, float]:
    x, y = numbers(text, ",", (2,), "1.5,-2")
    return x * 1e-9, y * 1e-9
