"""Atoms: how many are found and where, what refinement makes of them, and stacks of another simulator."""

import numpy as np
from _discovery_bench import Bench
from _discovery_data import NOISE, ForeignSample, foreign_samples
from _report import Figure, duration

from twinscope.agents.structure_discovery.graph import Summary, compare, find_shift, shifted, summarise
from twinscope.agents.structure_discovery.prediction import DESCRIPTORS, Prediction
from twinscope.agents.structure_discovery.refinement import Refined, RefinementOptions, refine
from twinscope.agents.structure_discovery.stack import ImageStack
from twinscope.agents.structure_discovery.structure import ELEMENTS, Structure
from twinscope.errors import InvalidRequestError

_FOUND = 0.95
# Targets before refinement, and after it with noise and without: RMS in Å, and elements.
_BEFORE, _AFTER = (0.10, 0.85), {NOISE: (0.05, 0.90), 0.0: (0.03, 0.90)}
_FIELD = list(DESCRIPTORS)[-1]
_SAME_PHYSICS = RefinementOptions(model_error=0.01)


def report_atoms(bench: Bench) -> None:
    """Score atoms before and after refinement, both for the same molecules."""
    if bench.ours is None:
        return
    for noise in (NOISE, 0.0):
        text = "noise" if noise else "no noise"
        stacks = list(bench.aligned.stacks(noise))
        predictions = bench.ours.predictions(stacks)
        structures = [one.structure for one in predictions]
        _add_summary(bench, f"atoms, {text}", _summary(structures, bench.aligned.structures), _BEFORE)
        count = min(bench.refined, len(stacks))
        if count:
            _report_refinement(bench, stacks[:count], predictions[:count], text, _AFTER[noise])


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


def _report_refinement(
    bench: Bench, stacks: list[ImageStack], predictions: list[Prediction], text: str, targets: tuple[float, float]
) -> None:
    truth = bench.aligned.structures[: len(stacks)]
    refined: list[Refined | None] = []
    seconds = []
    for stack, prediction in zip(stacks, predictions, strict=True):
        seconds.append(duration(lambda s=stack, p=prediction: refined.append(_refined(s, p))))
    before = [one.structure for one in predictions]
    after = [one.structure if one else start for one, start in zip(refined, before, strict=True)]
    what = f"{len(stacks)} molecules, {text}"
    _add_summary(bench, f"{what}, before refinement", _summary(before, truth), _BEFORE)
    _add_summary(bench, f"{what}, after refinement", _summary(after, truth), targets)
    sure = [one is not None and one.believable for one in refined]
    told = [one if kept else start for one, start, kept in zip(after, before, sure, strict=True)]
    _add_summary(bench, f"{what}, as agents tell: refined where believable", _summary(told, truth), targets)
    right = [_is_right(one, true) for one, true in zip(after, truth, strict=True)]
    both = sum(one and other for one, other in zip(sure, right, strict=True))
    bench.report.notes.append(
        f"{what}: {sum(sure)} refined structures are believable by their own account, {both} of these are right (no"
        f" atom missing, extra or of a wrong element); of the {sum(right)} that are right, {both} are believable"
    )
    if any(sure):
        chosen = [k for k, one in enumerate(sure) if one]
        summary = _summary([after[k] for k in chosen], [truth[k] for k in chosen])
        _add_summary(bench, f"{what}, the {len(chosen)} believable ones after refinement", summary, targets)
    bench.report.add(f"{what}, refinement of one", Figure(tuple(seconds)))


def _is_right(structure: Structure, true: Structure) -> bool:
    """Tell whether all atoms near the top are there, no others, and of the right elements."""
    found = compare(structure, true)
    return not len(found.missing) and not len(found.extra) and found.confusion.trace() == found.confusion.sum()


def _refined(stack: ImageStack, prediction: Prediction) -> Refined | None:
    """None where no atom was found to begin with."""
    if not len(prediction.structure):
        return None
    return refine(stack, prediction.structure, conditions=prediction.conditions, options=_SAME_PHYSICS)


def _summary(structures: list[Structure], truth: list[Structure]) -> Summary:
    return summarise([compare(one, true) for one, true in zip(structures, truth, strict=True)])


def _add_summary(bench: Bench, what: str, summary: Summary, targets: tuple[float, float]) -> None:
    rms, elements = targets
    rows = (
        ("precision", summary.precision, "part", _FOUND),
        ("recall", summary.recall, "part", _FOUND),
        ("rms", summary.rms, "Å", rms),
        ("rms in the plane", summary.rms_lateral, "Å", None),
        ("rms along z", summary.rms_z, "Å", None),
        ("elements, balanced", summary.balanced_accuracy, "part", elements),
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
