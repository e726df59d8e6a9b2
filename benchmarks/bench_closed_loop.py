"""The agent on worlds that it does not know, scored by their oracle, beside a raster of the whole area."""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _report import Figure, Report
from ase import Atoms
from ase.neighborlist import natural_cutoffs, neighbor_list
from scipy.optimize import linear_sum_assignment

from twinscope import Microscope
from twinscope.agents.structure_discovery.agent import (
    DiscoveryOptions,
    DiscoveryRecord,
    MoleculeRecord,
    StructureDiscoveryAgent,
)
from twinscope.agents.structure_discovery.agent.operator import ANGSTROM, Operator
from twinscope.agents.structure_discovery.agent.overview import Overview, take_overview
from twinscope.agents.structure_discovery.graph.align import find_shift, shifted
from twinscope.agents.structure_discovery.graph.matching import compare
from twinscope.agents.structure_discovery.predictor import Predictor
from twinscope.agents.structure_discovery.refinement import refine
from twinscope.agents.structure_discovery.stack import PUBLISHED_GRID
from twinscope.agents.structure_discovery.structure import ELEMENTS, NUMBERS, Structure

# Whoever is nearer than this (Å) to a molecule has found it: half of a small one, and the creep of the piezo.
_FOUND = 8.0
_KINDS = {"molecule": "alone", "island": "in islands", "edge": "at steps"}


@dataclass(frozen=True)
class Score:
    """Of one world.

    Attributes
    ----------
    found
        For each kind, whether each true molecule was found.
    false
        How many were seen where none is.
    solved, right
        Molecules for which a structure was given, and those with the right graph.
    time, area
        Instrument time in s, and scanned area in nm², each slice counted.
    raster_time, raster_area
        Of the whole area at the resolution of the network, at all heights.
    """

    found: Mapping[str, Sequence[bool]]
    false: int
    solved: int
    right: int
    time: float
    area: float
    raster_time: float
    raster_area: float


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=50, help="how many, with the seeds 0, 1, ...")
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument("--size", type=float, default=20.0, help="of the area, in nm")
    parser.add_argument("--realism", default="low_temperature", help="profile of the microscope")
    parser.add_argument("--detection", action="store_true", help="overview only: needs no network")
    parser.add_argument("--refine", action="store_true", help="fit structures to the stacks, too")
    parser.add_argument("--weights", type=Path, help="of the network; those that are shipped unless given")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    arguments = parser.parse_args()
    predictor = None
    if not arguments.detection:
        predictor = Predictor.shipped() if arguments.weights is None else Predictor.from_file(arguments.weights)
    scores = []
    for seed in range(arguments.first, arguments.first + arguments.worlds):
        scores.append(score_world(seed, arguments, predictor))
        print(f"world {seed}: {scores[-1]}", flush=True)
    report(scores, arguments)


def score_world(seed: int, arguments: argparse.Namespace, predictor: Predictor | None) -> Score:
    """Let the agent loose on a world, and compare with the truth."""
    side = arguments.size * 1e-9
    options = DiscoveryOptions(size=(side, side))
    half = side / 2 + 2e-9
    with (
        tempfile.TemporaryDirectory() as folder,
        Microscope(world={}, realism=arguments.realism, seed=seed, oracle=True, directory=folder) as scope,
        scope.control(purpose="benchmark", duration=60),
    ):
        record = None
        if predictor is None:
            overview: Overview | None = take_overview(Operator(scope), options)
        else:
            refiner = refine if arguments.refine else None
            record = StructureDiscoveryAgent(scope, predictor, options, refiner=refiner).run()
            overview = record.overview
        truth = scope.oracle((-half, -half), (half, half))["molecules"]
        time = scope.state().time
    found, false = score_detection(overview, truth, side / 2 / ANGSTROM)
    molecules = () if record is None else tuple(one for one in record.molecules if one.structure is not None)
    right = sum(is_right(one, truth) for one in molecules)
    return Score(found, false, len(molecules), right, time, *costs(record, overview, options))


def score_detection(
    overview: Overview | None, truth: Sequence[Mapping[str, Any]], half: float
) -> tuple[dict[str, list[bool]], int]:
    """Match what was seen with what is there; return the matches by kind and the number of false ones."""
    real = np.array([one["position"][:2] for one in truth]).reshape(-1, 2) / ANGSTROM
    regions = () if overview is None else overview.molecules
    seen = np.array([(one.x, one.y) for one in regions]).reshape(-1, 2)
    away = np.linalg.norm(real[:, None] - seen[None], axis=-1)
    rows, columns = linear_sum_assignment(np.minimum(away, 10 * _FOUND))
    near = away[rows, columns] < _FOUND
    # The edge of the area is as uncertain as the positions: what lies within that of it does not count.
    counts = (np.abs(real) < half - _FOUND).all(axis=1)
    found: dict[str, list[bool]] = {kind: [] for kind in _KINDS}
    for number, one in enumerate(truth):
        if counts[number]:
            found[one["id"].partition(":")[0]].append(number in rows[near])
    wrong = np.setdiff1d(np.arange(len(seen)), columns[near])
    return found, len(wrong)


def is_right(molecule: MoleculeRecord, truth: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the structure has the right atoms, elements and bonds."""
    assert molecule.structure is not None
    middle = np.array(molecule.center) / ANGSTROM
    real = min(truth, key=lambda one: float(np.hypot(*(np.array(one["position"][:2]) / ANGSTROM - middle))))
    expected = true_structure(real, middle)
    moved = shifted(molecule.structure, find_shift(molecule.structure, expected, reach=3.0))
    comparison = compare(moved, expected)
    elements = comparison.confusion
    same = not len(comparison.missing) and not len(comparison.extra) and elements.sum() == np.trace(elements)
    return bool(same and not comparison.missing_bonds and not comparison.extra_bonds)


def true_structure(molecule: Mapping[str, Any], middle: np.ndarray) -> Structure:
    """Return the truth in the coordinates of the frame."""
    numbers = [NUMBERS[ELEMENTS.index(symbol)] for symbol, *_ in molecule["atoms"]]
    positions = np.array([place for _, *place in molecule["atoms"]]) / ANGSTROM - [*middle, 0.0]
    positions[:, 2] -= positions[:, 2].max()
    first, second = neighbor_list("ij", Atoms(numbers, positions), natural_cutoffs(Atoms(numbers)))
    bonds = np.stack([first, second], axis=-1)[first < second]
    return Structure.known(numbers, positions, bonds=bonds, bond_orders=np.ones(len(bonds)))


def costs(
    record: DiscoveryRecord | None, overview: Overview | None, options: DiscoveryOptions
) -> tuple[float, float, float]:
    """Return the scanned area (nm²), and time (s) and area (nm²) of a raster of everything."""
    scanned = 0.0 if overview is None else float(np.ptp(overview.x) * np.ptp(overview.y)) / 100
    frame = (PUBLISHED_GRID.pixels * PUBLISHED_GRID.pitch) ** 2 / 100
    for molecule in () if record is None else record.molecules:
        lines = sum(action.rows[1] - action.rows[0] for action in molecule.actions)
        images = 0 if molecule.framed is None else len(molecule.framed.images)
        scanned += frame * (lines / PUBLISHED_GRID.pixels + images)
    area = options.size[0] * options.size[1] * 1e18
    per_frame = 2 * options.line_time * PUBLISHED_GRID.pixels * PUBLISHED_GRID.slices
    return scanned, per_frame * area / frame, area * PUBLISHED_GRID.slices


def report(scores: Sequence[Score], arguments: argparse.Namespace) -> None:
    """Put everything into one table."""
    table = Report(f"Closed loop: {len(scores)} worlds, {arguments.size:g} nm, {arguments.realism}")
    for kind, name in _KINDS.items():
        pooled = [one for score in scores for one in score.found[kind]]
        if pooled:
            target = 0.95 if kind == "molecule" else None
            table.add(f"molecules {name}: found", Figure((float(np.mean(pooled)),), "share"), target=target)
            table.notes.append(f"{name}: {sum(pooled)} of {len(pooled)} found")
    table.notes.append(f"seen where none is: {sum(score.false for score in scores)}")
    times = Figure(tuple(score.time for score in scores), "s")
    shares = Figure(tuple(score.area / score.raster_area for score in scores), "times")
    table.add("instrument time", times)
    # No ratio: a raster shows every molecule of the area, the agent goes to as many as it was asked for.
    table.notes.append(f"a raster of the whole area, at all heights, takes {scores[0].raster_time:.0f} s")
    table.add("scanned area, all slices, as a part of a raster's", shares)
    spread = np.percentile(times.values, [10, 90])
    table.notes.append(f"instrument time, 10 % to 90 %: {spread[0]:.0f} to {spread[1]:.0f} s")
    solved = sum(score.solved for score in scores)
    if solved:
        right = sum(score.right for score in scores)
        table.add("right graphs", Figure((right / solved,), "share"))
        table.notes.append(f"right graphs: {right} of {solved}")
    table.finish(arguments.json)


if __name__ == "__main__":
    main()
