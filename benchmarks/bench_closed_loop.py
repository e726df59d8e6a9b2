"""The agent on worlds that it does not know, scored by their oracle, beside a raster of the whole area."""

import argparse
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from _agent_choice import report_choice
from _cases import set_up
from _closed_loop_score import KINDS, Detection, compare_molecule, field_errors, is_right, raster_costs, score_detection
from _report import Figure, Report

from twinscope import Microscope
from twinscope.agents.structure_discovery.agent import DiscoveryOptions, DiscoveryRecord, StructureDiscoveryAgent
from twinscope.agents.structure_discovery.agent.operator import ANGSTROM, Operator
from twinscope.agents.structure_discovery.agent.overview import Overview, take_overview
from twinscope.agents.structure_discovery.graph.matching import Comparison
from twinscope.agents.structure_discovery.graph.summary import summarise
from twinscope.agents.structure_discovery.predictor import Predictor
from twinscope.agents.structure_discovery.refinement import refine
from twinscope.agents.structure_discovery.training_data.recipe import TIPS

# Molecules whose middle is so far (m) outside the area are known to the oracle, too: they may be seen at its edge.
_AROUND = 2e-9
_SECOND_TIP = "Xe"


@dataclass(frozen=True)
class Score:
    """Of one world.

    Attributes
    ----------
    detection
        What was seen in the overview.
    molecules
        True ones in the area.
    comparisons
        Of the structures that were given, with the truth.
    endings
        How the work on each molecule ended.
    slices
        Of each molecule that was measured: in how many lines were measured.
    surveying, investigating
        Instrument time of the overview, and of everything after it, in s.
    scanned
        nm², each slice counted.
    cost
        Processor time, in s.
    fields
        Errors of the electrostatic maps of molecules that were measured with two tips: from the first, and from both.
    """

    detection: Detection
    molecules: int
    comparisons: Sequence[Comparison] = field(repr=False)
    endings: Sequence[str]
    slices: Sequence[int]
    surveying: float
    investigating: float
    scanned: float
    cost: float
    fields: Sequence[tuple[float, float]]


def main() -> None:
    """Measure and report."""
    arguments = _arguments()
    set_up(keep_compiled=True)
    options = DiscoveryOptions(
        size=(arguments.size * 1e-9, arguments.size * 1e-9),
        molecules=arguments.molecules,
        bands=not arguments.whole,
        second_tip=_SECOND_TIP if arguments.second_tip else None,
    )
    predictor = None
    if arguments.choice or not arguments.detection:
        predictor = Predictor.shipped() if arguments.weights is None else Predictor.from_file(arguments.weights)
    if arguments.choice:
        assert predictor is not None
        report = Report(f"Slices and lines that the agent chooses: {arguments.choice} molecules")
        report_choice(report, predictor, arguments.choice, arguments.first)
        report.finish(arguments.json)
        return
    scores, failures = [], []
    for seed in range(arguments.first, arguments.first + arguments.worlds):
        # A world that fails is a result, and no reason to lose those of the others.
        try:
            scores.append(score_world(seed, options, predictor, arguments))
        except Exception as exc:  # noqa: BLE001
            traceback.print_exc()
            failures.append(f"world {seed} failed: {type(exc).__name__}: {exc}")
        else:
            print(f"world {seed}: {scores[-1]}", flush=True)
    report = Report(f"Closed loop: {arguments.worlds} worlds, {arguments.size:g} nm, {arguments.realism}")
    report.notes += failures
    report.add("worlds that failed", Figure((float(len(failures)),), "missed"), target=0)
    if scores:
        report_detection(report, [score.detection for score in scores])
        report_costs(report, scores, options)
        report_structures(report, scores)
        if arguments.second_tip:
            report_fields(report, [pair for score in scores for pair in score.fields])
    report.finish(arguments.json)


def score_world(seed: int, options: DiscoveryOptions, predictor: Predictor | None, wanted: argparse.Namespace) -> Score:
    """Let the agent loose on a world, and compare with the truth; without a predictor it only looks around."""
    begin = time.process_time()
    half = options.size[0] / 2
    with (
        tempfile.TemporaryDirectory() as folder,
        Microscope(
            world={},
            realism=wanted.realism,
            seed=seed,
            oracle=True,
            directory=folder,
            probes={_SECOND_TIP: asdict(TIPS[_SECOND_TIP])},
            interlocks={"allow": ["tip_exchange"]},
        ) as scope,
        scope.control(purpose="benchmark", duration=60),
    ):
        record: DiscoveryRecord | None = None
        overview: Overview | None
        if predictor is None:
            operator = Operator(scope)
            overview = take_overview(operator, options)
            surveying, investigating, scanned = operator.time, 0.0, operator.scanned / 100
        else:
            refiner = refine if wanted.refine else None
            record = StructureDiscoveryAgent(scope, predictor, options, refiner=refiner).run()
            overview = record.overview
            surveying, investigating = record.surveyed - record.begin, record.end - record.surveyed
            scanned = record.scanned * 1e18
        corners = (-half - _AROUND, -half - _AROUND), (half + _AROUND, half + _AROUND)
        truth = scope.oracle(*corners)["molecules"]
    molecules = () if record is None else record.molecules
    stacks = [one.stack for one in molecules if one.stack is not None]
    return Score(
        score_detection(overview, truth, half / ANGSTROM),
        sum(max(abs(place) for place in one["position"][:2]) <= half for one in truth),
        [compare_molecule(one, truth) for one in molecules if one.structure is not None],
        [one.ended for one in molecules],
        [int(stack.measured.any(axis=(1, 2)).sum()) for stack in stacks],
        surveying,
        investigating,
        scanned,
        time.process_time() - begin,
        [
            field_errors(one, truth, predictor)
            for one in molecules
            if predictor is not None and one.others and len(one.structure or ())
        ],
    )


def report_detection(report: Report, detections: Sequence[Detection]) -> None:
    """Add what was seen of what is there."""
    for kind, name in KINDS.items():
        pooled = [one for detection in detections for one in detection.found[kind]]
        if pooled:
            target = 0.95 if kind == "molecule" else None
            report.add(f"molecules {name}: found", Figure((float(np.mean(pooled)),), "share"), target=target)
            report.notes.append(f"{name}: {sum(pooled)} of {len(pooled)} found")
    pooled = [one for detection in detections for every in detection.found.values() for one in every]
    if pooled:
        report.add("molecules: found", Figure((float(np.mean(pooled)),), "share"), target=0.95)
        report.notes.append(f"all: {sum(pooled)} of {len(pooled)} found")
    report.notes.append(f"seen where none is: {sum(one.false for one in detections)}")
    missed = [one for detection in detections for one in detection.missed]
    if missed:
        report.notes.append("missed: " + "; ".join(missed))


def report_costs(report: Report, scores: Sequence[Score], options: DiscoveryOptions) -> None:
    """Add instrument time and scanned area, beside those of a raster, and what it took to simulate."""
    raster_time, raster_area = raster_costs(options)
    report.add("instrument time, overview", Figure(tuple(score.surveying for score in scores)))
    shares = Figure(tuple(score.scanned / raster_area for score in scores), "times")
    report.add("scanned area as a part of a raster's", shares)
    report.notes.append(f"a raster of the area at all heights takes {raster_time:.0f} s for {raster_area:.0f} nm²")
    tried = [score for score in scores if score.endings]
    if tried:
        times = Figure(tuple(score.surveying + score.investigating for score in tried))
        spread = np.percentile(times.values, [10, 90])
        report.add("instrument time, everything", times, peer=("a raster of the area", Figure((raster_time,))))
        report.notes.append(f"instrument time of everything, 10 % to 90 %: {spread[0]:.0f} to {spread[1]:.0f} s")
        # A raster shows every molecule of the area, the agent goes to as many as it was asked for.
        each = Figure(tuple(score.investigating / len(score.endings) for score in tried))
        peers = Figure(tuple(raster_time / max(score.molecules, 1) for score in tried))
        report.add("instrument time of a molecule, without the overview", each, peer=("raster, each molecule", peers))
        of_all = tuple(one.surveying + one.molecules * one.investigating / len(one.endings) for one in tried)
        report.add(
            "instrument time if every molecule of the area took as long",
            Figure(of_all),
            peer=("a raster of the area", Figure((raster_time,))),
        )
    report.notes.append(f"processor time of a world: {np.median([score.cost for score in scores]):.0f} s in the median")


def report_structures(report: Report, scores: Sequence[Score]) -> None:
    """Add how right the structures are."""
    endings = [ending for score in scores for ending in score.endings]
    if not endings:
        return
    counts = ", ".join(f"{endings.count(ending)} {ending.replace('_', ' ')}" for ending in sorted(set(endings)))
    report.notes.append(f"{len(endings)} molecules were tried: {counts}")
    slices = [count for score in scores for count in score.slices]
    comparisons = [one for score in scores for one in score.comparisons]
    if not comparisons:
        report.notes.append("no structure was given")
        return
    right, summary = sum(map(is_right, comparisons)), summarise(comparisons)
    report.add("right graphs: atoms, elements and bonds", Figure((right / len(comparisons),), "share"))
    report.notes.append(f"right graphs: {right} of {len(comparisons)}; slices: {np.median(slices):.0f} in the median")
    for name in ("precision", "recall", "accuracy", "bond_precision", "bond_recall"):
        what = {"accuracy": "elements of right atoms"}.get(name, name.replace("_", " "))
        report.add(f"atoms: {what}", Figure((float(getattr(summary, name)),), "share"))


def report_fields(report: Report, fields: Sequence[tuple[float, float]]) -> None:
    """Add how well the electrostatic maps were told."""
    report.notes.append(f"{len(fields)} molecules were measured with {_SECOND_TIP} at the tip, too")
    if fields:
        first, both = zip(*fields, strict=True)
        report.add(
            "electrostatic map, both tips: rms error", Figure(both, "V/Å"), peer=("the first", Figure(first, "V/Å"))
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=50, help="how many, with the seeds 0, 1, ...")
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument("--size", type=float, default=20.0, help="of the area, in nm")
    parser.add_argument("--molecules", type=int, default=1, help="that the agent goes to in each world")
    parser.add_argument("--realism", default="low_temperature", help="profile of the microscope")
    parser.add_argument("--detection", action="store_true", help="overview only: needs no network")
    parser.add_argument("--choice", type=int, default=0, metavar="N", help="instead: order of slices on N molecules")
    parser.add_argument("--whole", action="store_true", help="whole slices only, no bands of lines")
    parser.add_argument("--second-tip", action="store_true", help=f"measure again with {_SECOND_TIP} at the tip")
    parser.add_argument("--refine", action="store_true", help="fit structures to the stacks, too")
    parser.add_argument("--weights", type=Path, help="of the network; those that are shipped unless given")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
