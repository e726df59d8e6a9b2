"""Atoms: how many are found and where, what refinement makes of them, and stacks of another simulator."""

from itertools import islice

import numpy as np
from _discovery_bench import Bench
from _discovery_data import NOISE, ForeignSample, foreign_samples
from _report import Figure, duration

from twinscope.agents.structure_discovery.graph import Summary, compare, find_shift, shifted, summarise
from twinscope.agents.structure_discovery.prediction import DESCRIPTORS, Prediction
from twinscope.agents.structure_discovery.refinement import Refined, refine
from twinscope.agents.structure_discovery.stack import ImageStack
from twinscope.agents.structure_discovery.structure import ELEMENTS, Structure
from twinscope.errors import InvalidRequestError

_FOUND, _ELEMENTS = 0.95, 0.85
_RMS, _REFINED_RMS = 0.10, 0.05  # Å.
_FIELD = list(DESCRIPTORS)[-1]


def report_atoms(bench: Bench) -> None:
    """Score atoms before and after refinement, both for the same molecules."""
    if bench.ours is None:
        return
    for noise in (NOISE, 0.0):
        text = "noise" if noise else "no noise"
        stacks = list(bench.aligned.stacks(noise))
        predictions = bench.ours.predictions(stacks)
        structures = [one.structure for one in predictions]
        _add_summary(bench, f"atoms, {text}", _summary(structures, bench.aligned.structures), _RMS)
    count = min(bench.refined, len(stacks))
    if count:
        _report_refinement(bench, list(islice(bench.aligned.stacks(NOISE), count)))


def report_foreign(bench: Bench) -> None:
    """Score atoms on images that neither we nor the authors of the published weights have simulated."""
    if bench.ours is None:
        return
    if not bench.foreign.exists():
        bench.report.notes.append(f"no stacks of another simulator: {bench.foreign} is not there")
        return
    for sample in foreign_samples(bench.foreign):
        (prediction,) = bench.ours.predictions([sample.stack])
        _add_foreign(bench, sample, prediction)
    bench.report.notes.append(
        "other simulator: ppafm with Hartree potentials of density functional theory, six slices (Oinonen et al., ACS"
        " Nano 16, 89 (2022)); structures are shifted onto each other before they are compared"
    )


def _report_refinement(bench: Bench, stacks: list[ImageStack]) -> None:
    truth = bench.aligned.structures[: len(stacks)]
    predictions = bench.ours.predictions(stacks)
    refined: list[Refined | None] = []
    seconds = []
    for stack, prediction in zip(stacks, predictions, strict=True):
        seconds.append(duration(lambda s=stack, p=prediction: refined.append(_refined(s, p))))
    before = [one.structure for one in predictions]
    after = [one.structure if one else start for one, start in zip(refined, before, strict=True)]
    _add_summary(bench, f"{len(stacks)} molecules before refinement", _summary(before, truth), _RMS)
    _add_summary(bench, f"{len(stacks)} molecules after refinement", _summary(after, truth), _REFINED_RMS)
    sure = [k for k, one in enumerate(refined) if one is not None and one.believable]
    bench.report.notes.append(f"refinement: {len(sure)} of {len(stacks)} are believable, by its own account")
    if sure:
        chosen = _summary([after[k] for k in sure], [truth[k] for k in sure])
        _add_summary(bench, f"the {len(sure)} believable ones after refinement", chosen, _REFINED_RMS)
    bench.report.add("refinement of one molecule", Figure(tuple(seconds)))


def _refined(stack: ImageStack, prediction: Prediction) -> Refined | None:
    """None where no atom was found to begin with."""
    if not len(prediction.structure):
        return None
    return refine(stack, prediction.structure, conditions=prediction.conditions)


def _summary(structures: list[Structure], truth: list[Structure]) -> Summary:
    return summarise([compare(one, true) for one, true in zip(structures, truth, strict=True)])


def _add_summary(bench: Bench, what: str, summary: Summary, rms: float) -> None:
    rows = (
        ("precision", summary.precision, "part", _FOUND),
        ("recall", summary.recall, "part", _FOUND),
        ("rms", summary.rms, "Å", rms),
        ("rms in the plane", summary.rms_lateral, "Å", None),
        ("rms along z", summary.rms_z, "Å", None),
        ("elements, balanced", summary.balanced_accuracy, "part", _ELEMENTS),
        ("molecules without a fault", summary.perfect, "part", None),
        ("bonds, precision", summary.bond_precision, "part", None),
        ("bonds, recall", summary.bond_recall, "part", None),
    )
    for text, value, unit, target in rows:
        bench.report.add(f"{what}: {text}", Figure((value,), unit), target=target)
    bench.report.notes.append(f"{what}: elements, true: predicted {_confusion(summary.confusion)}")


def _confusion(table: np.ndarray) -> str:
    """Write the rows that are not empty."""
    rows = [
        f"{ELEMENTS[true]}: " + " ".join(f"{ELEMENTS[k]} {count}" for k, count in enumerate(row) if count)
        for true, row in enumerate(table)
        if row.any()
    ]
    return "; ".join(rows)


def _add_foreign(bench: Bench, sample: ForeignSample, prediction: Prediction) -> None:
    what = f"other simulator, {sample.name}"
    try:
        shift = find_shift(prediction.structure, sample.structure)
    except InvalidRequestError as exc:
        bench.report.notes.append(f"{what}: {exc}")
        return
    summary = summarise([compare(shifted(prediction.structure, shift), sample.structure)])
    rows = (("precision", summary.precision, "part"), ("recall", summary.recall, "part"), ("rms", summary.rms, "Å"))
    for text, value, unit in rows:
        bench.report.add(f"{what}: {text}", Figure((value,), unit))
    maps = prediction.maps[_FIELD].values
    if maps.shape == sample.field.shape:
        likeness = float(np.corrcoef(maps.ravel(), sample.field.ravel())[0, 1])
        bench.report.add(f"{what}: electrostatic map", Figure((likeness,), "correlation"))
