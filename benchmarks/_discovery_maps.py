"""Maps: their errors, how robust they are, what standard deviations and slices are worth, and what they cost."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite

import numpy as np
from _discovery_bench import SQUARED_UNITS, UNITS, Bench
from _discovery_data import ALIGNED, NOISE, TestSet, imaged, large_molecules, test_molecules
from _discovery_scores import MapScore, coverage, map_score, rank_correlation
from _report import Figure, interleaved

from twinscope.agents.structure_discovery.prediction import DESCRIPTORS
from twinscope.agents.structure_discovery.training_data import PUBLISHED, Recipe

_TARGETS = {"atomic_disks": 2.2e-4, "vdw_spheres": 3.0e-3, "height_map": 5.0e-3, "electrostatic_map": 0.0036**2}
_MOST_LOST_WITHOUT_NOISE = 1.1  # Times the squared error with noise.
_MOST_LOST_ELSEWHERE = 1.5
_LARGE_EXPLAINED = 0.85
_COVERAGE, _COVERAGE_MARGIN = 0.9, 0.02
_CORRELATION = 0.6
_SPHERES = list(DESCRIPTORS).index("vdw_spheres")
_FIELD = list(DESCRIPTORS).index("electrostatic_map")
_FIELD_ERROR = 0.0036  # V/Å: of ED-AFM with two tips (Oinonen et al., ACS Nano 16, 89 (2022)).
_MISMATCH = 0.1  # Å: how much nearer or farther the second tip is, as in training.
# Which slices are left, 0 is far.
_SLICES: Mapping[str, Sequence[int]] = {
    "the nearest alone": [9],
    "the two nearest": [8, 9],
    "the three nearest": [7, 8, 9],
    "the five nearest": [5, 6, 7, 8, 9],
    "every second, the nearest among them": [1, 3, 5, 7, 9],
    "the five farthest": [0, 1, 2, 3, 4],
    "all ten": list(range(10)),
}
_SLOWEST = 0.05  # s for one stack.
_ROUNDS = 20


def report_maps(bench: Bench) -> None:
    """Errors of all maps on molecules of the test part."""
    sets = {"aligned": bench.aligned, "tip's coordinates": imaged(test_molecules(bench.count), PUBLISHED, bench.seed)}
    for name, samples in sets.items():
        noisy = _add_scores(bench, f"{name}, noise", samples, NOISE, _TARGETS)
        clean = {key: _MOST_LOST_WITHOUT_NOISE * value for key, value in noisy.items()}
        _add_scores(bench, f"{name}, no noise", samples, 0.0, clean)
    bench.report.notes += [
        f"maps: {bench.count} molecules of the test part, each in one orientation; published conditions, but"
        ' "aligned" images are in the coordinates of the resting probe, as our network learns them, and the published'
        " one learned those of the tip, which are displaced by up to 0.5 Å",
        "on molecule: mean absolute error where the vdW spheres are",
    ]


def report_large(bench: Bench) -> None:
    """Errors on molecules like PTCDA."""
    samples = imaged(large_molecules(max(bench.count // 4, 1)), ALIGNED, bench.seed)
    _add_scores(bench, "large and flat, noise", samples, NOISE, {}, explained={"vdw_spheres": _LARGE_EXPLAINED})


def report_robustness(bench: Bench) -> None:
    """Squared error of the spheres in other conditions than the published ones, as a multiple of that in those."""
    molecules = test_molecules(bench.count)
    nominal = {key: score.squared for key, score in _scores(bench, bench.aligned, NOISE, _SPHERES).items()}
    for what, recipe in _conditions().items():
        found = _scores(bench, imaged(molecules, recipe, bench.seed), NOISE, _SPHERES)
        times = {key: score.squared / nominal[key] for key, score in found.items()}
        bench.add(f"spheres, {what}: squared error as a multiple", times, "", _MOST_LOST_ELSEWHERE)
    bench.report.notes.append("as a multiple: of the squared error in the published conditions, each network's own")


def report_electrostatics(bench: Bench) -> None:
    """Errors of the electrostatic map from one CO tip and, where the network knows another one, from both."""
    if bench.ours is None:
        return
    tips = bench.ours.predictor.tips
    both = imaged(test_molecules(bench.count), replace(ALIGNED, tips=tips, tip_mismatch=_MISMATCH), bench.seed)
    truth = np.asarray(both.batch.maps)
    for noise, text in ((NOISE, "noise"), (0.0, "no noise")):
        ways = {tips[0]: both.stacks(noise)}
        if len(tips) > 1:
            ways[" and ".join(tips)] = both.stacks_of_all_tips(noise)
        for name, stacks in ways.items():
            score = map_score(bench.ours.maps(stacks).values, truth, _FIELD)
            what = f"electrostatic map from {name}, {text}"
            bench.add(f"{what}: rms error", {bench.ours.name: score.squared**0.5}, "V/Å", _FIELD_ERROR)
            bench.add(f"{what}: explained", {bench.ours.name: score.explained}, "R²")


def report_uncertainty(bench: Bench) -> None:
    """Whether standard deviations are true."""
    if bench.ours is None:
        return
    truth = np.asarray(bench.aligned.batch.maps)
    for noise in (NOISE, 0.0):
        maps = bench.ours.maps(bench.aligned.stacks(noise))
        for channel, name in enumerate(DESCRIPTORS):
            errors, sigma = maps.values[:, channel] - truth[:, channel], maps.sigma[:, channel]
            what = f"{name}, {'noise' if noise else 'no noise'}: "
            off = Figure((abs(coverage(errors, sigma) - _COVERAGE),), "off")
            bench.report.add(f"{what}coverage of 90 % intervals, from 0.9", off, target=_COVERAGE_MARGIN)
            ranks = Figure((rank_correlation(errors, sigma),), "correlation")
            bench.report.add(f"{what}rank correlation of sigma and error", ranks, target=_CORRELATION)


def report_slices(bench: Bench) -> None:
    """Squared error of the spheres with fewer slices."""
    truth = np.asarray(bench.aligned.batch.maps)
    for what, kept in _SLICES.items():
        errors = {
            model.name: map_score(model.maps(bench.aligned.stacks(NOISE, kept)).values, truth, _SPHERES).squared
            for model in bench.models
        }
        bench.add(f"squared error of the spheres, {what}", errors, "Å²")


def report_speed(bench: Bench) -> None:
    """Time from one stack to everything that a network says."""
    (stack,) = imaged(test_molecules(1), ALIGNED, bench.seed).stacks(NOISE)
    figures = interleaved([partial(model.maps, [stack]) for model in bench.models], _ROUNDS)
    (name, figure), *others = zip([model.name for model in bench.models], figures, strict=True)
    bench.report.add(f"one stack, {name}", figure, peer=others[0] if others else None, target=_SLOWEST)


def _conditions() -> dict[str, Recipe]:
    low, high = ALIGNED.clearance
    conditions = {
        "0.25 Å nearer": replace(ALIGNED, clearance=(low - 0.25, high - 0.25)),
        "0.25 Å farther": replace(ALIGNED, clearance=(low + 0.25, high + 0.25)),
    }
    for value in (0.20, 0.30, 0.35):
        conditions[f"lateral stiffness {value} N/m"] = replace(ALIGNED, lateral_stiffness=(value, value))
    for value in (-0.2, 0.0, 0.1):
        conditions[f"tip charge {value} e"] = replace(ALIGNED, tip_charge=(value, value))
    return conditions | {"quadrupole of CO": replace(ALIGNED, quadrupole_share=1.0)}


def _scores(bench: Bench, samples: TestSet, noise: float, channel: int) -> dict[str, MapScore]:
    """Score one map, by the names of the networks that have it."""
    truth = np.asarray(samples.batch.maps)
    found = {model.name: map_score(model.maps(samples.stacks(noise)).values, truth, channel) for model in bench.models}
    return {name: score for name, score in found.items() if isfinite(score.squared)}


def _add_scores(
    bench: Bench,
    what: str,
    samples: TestSet,
    noise: float,
    targets: Mapping[str, float],
    explained: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Add rows for all maps; the squared errors of the first network that has a map, by its name."""
    truth = np.asarray(samples.batch.maps)
    every = {model.name: model.maps(samples.stacks(noise)).values for model in bench.models}
    squared = {}
    for channel, name in enumerate(DESCRIPTORS):
        scores = {key: map_score(values, truth, channel) for key, values in every.items()}
        known = {key: score for key, score in scores.items() if isfinite(score.squared)}
        if not known:
            continue
        rows = (
            ("squared error", "squared", SQUARED_UNITS[channel], targets.get(name)),
            ("absolute error", "absolute", UNITS[channel], None),
            ("on molecule", "on_molecule", UNITS[channel], None),
            ("explained", "explained", "R²", (explained or {}).get(name)),
        )
        for text, field, unit, target in rows:
            figures = {key: getattr(score, field) for key, score in known.items()}
            bench.add(f"{name}, {what}: {text}", figures, unit, target)
        squared[name] = next(iter(known.values())).squared
    return squared
