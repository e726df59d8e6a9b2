"""Windows, Fourier transforms and factors: how fast, beside scikit-learn and HyperSpy, and how right they are."""

import argparse
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from _cases import set_up
from _polycrystal import LATTICES, Polycrystal, polycrystal
from _report import Figure, Report, duration, interleaved
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import NMF
from sklearn.metrics import adjusted_rand_score

from twinscope.agents.analyses.fft_nmf import Components, analyse
from twinscope.agents.analyses.recipes import JANY2020, ROBUST, ROTATION_INVARIANT, Recipe
from twinscope.agents.analyses.regions import find_regions

_SIZE, _COMPONENTS = 2048, 11
_SLOWEST = 5.0  # s
_COSINE = 0.99
_PHASES, _GRAINS = 0.75, 0.80
_FINE = {"window": 64, "step": 16}


def main() -> None:
    """Measure and report."""
    arguments = _arguments()
    set_up(keep_compiled=True)
    report = Report(f"Windows, Fourier transforms and factors: {arguments.seeds} polycrystals")
    report_speed(report, arguments.rounds, arguments.hyperspy)
    report_quality(report, arguments.seeds, arguments.first)
    report.finish(arguments.json)


def report_speed(report: Report, rounds: int, hyperspy: Path | None) -> None:
    """Time the published recipe on an image of 2048 x 2048 pixels, and compare factors."""
    image = polycrystal(0, _SIZE, noise=0.3).image
    recipe = replace(JANY2020, components=_COMPONENTS)
    report.add(
        f"{_SIZE} x {_SIZE} pixels, {_COMPONENTS} factors: first time",
        Figure((duration(lambda: analyse(image, recipe)),)),
    )
    ours, theirs = interleaved([lambda: analyse(image, recipe), lambda: _by_scikit_learn(image)], rounds)
    what = f"{_SIZE} x {_SIZE} pixels, {_COMPONENTS} factors"
    report.add(what, ours, peer=("scikit-learn", theirs), target=_SLOWEST)
    found = analyse(image, recipe)
    report.add(
        "loadings, worst cosine to scikit-learn's", Figure((_cosine(found, _by_scikit_learn(image)),), "correlation")
    )
    if hyperspy is None:
        report.notes.append("HyperSpy was not asked: --hyperspy PYTHON names an interpreter that has it")
        return
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "image.npy", Path(folder) / "out.npz"
        np.save(given, image)
        peer = Path(__file__).with_name("_hyperspy_peer.py")
        subprocess.run([hyperspy, peer, given, str(_COMPONENTS), out], check=True)
        with np.load(out) as told:
            seconds, loadings = float(told["seconds"]), told["loadings"]
    report.add(f"{what}, once more", ours, peer=("HyperSpy", Figure((seconds,))))
    report.add(
        "loadings, worst cosine to HyperSpy's", Figure((_cosine(found, loadings),), "correlation"), target=_COSINE
    )


def report_quality(report: Report, seeds: int, first: int) -> None:
    """Compare regions and labels with the truth (adjusted Rand index; 1 is the truth, 0 is chance)."""
    number = len(LATTICES) + 1
    every: dict[str, list[float]] = {}
    right = 0
    for seed in range(first, first + seeds):
        crystal = polycrystal(seed)
        regions = find_regions(crystal.image, replace(ROBUST, **_FINE), phases=number)
        grains, phases = (_at_windows(truth, regions.x, regions.y) for truth in (crystal.grains, crystal.phases))
        assert regions.phases is not None
        scores = {"regions: grains": _index(grains, regions.grains), "regions: phases": _index(phases, regions.phases)}
        right += regions.grain_count == len(np.unique(crystal.grains))
        for recipe in (JANY2020, ROBUST, ROTATION_INVARIANT):
            scores[f"strongest factor, {recipe.name}: phases"] = _labels(
                crystal, replace(recipe, components=number, **_FINE)
            )
        for what, score in scores.items():
            every.setdefault(what, []).append(score)
    targets = {"regions: grains": _GRAINS, "regions: phases": _PHASES}
    for what, values in every.items():
        report.add(f"{what}, adjusted Rand index", Figure(tuple(values), "correlation"), target=targets.get(what))
        low, high = np.percentile(values, [10, 90])
        report.notes.append(f"{what}: 10 % to 90 % of the images: {low:.2f} to {high:.2f}")
    report.notes.append(f"the number of grains is right in {right} of {seeds} images; that of phases was given")


def _labels(crystal: Polycrystal, recipe: Recipe) -> float:
    found = analyse(crystal.image, recipe)
    return _index(_at_windows(crystal.phases, found.x, found.y), found.labels)


def _by_scikit_learn(image: np.ndarray) -> np.ndarray:
    """Return loadings (k, my, mx) by the published steps, without HyperSpy: the whole spectrum, in double precision."""
    side, step = JANY2020.window, JANY2020.step
    windows = np.lib.stride_tricks.sliding_window_view(image, (side, side))[::step, ::step]
    taper = np.sqrt(np.outer(np.hanning(side), np.hanning(side)))
    features = np.log(np.abs(np.fft.fft2(windows * taper)) ** 2 + JANY2020.offset)
    weights = NMF(_COMPONENTS, init="nndsvda", random_state=0).fit_transform(features.reshape(-1, side**2))
    return np.moveaxis(weights.reshape(*windows.shape[:2], -1), -1, 0)


def _cosine(found: Components, loadings: np.ndarray) -> float:
    one, other = (rows.reshape(len(rows), -1) for rows in (found.loadings, loadings))
    cosines = one @ other.T / np.linalg.norm(one, axis=1)[:, None] / np.linalg.norm(other, axis=1)
    return float(cosines[linear_sum_assignment(-cosines)].min())


def _at_windows(truth: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return truth[np.ix_(np.rint(y).astype(int), np.rint(x).astype(int))]


def _index(truth: np.ndarray, found: np.ndarray) -> float:
    return float(adjusted_rand_score(truth.ravel(), found.ravel()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many polycrystals")
    parser.add_argument("--first", type=int, default=1000, help="seed of the first; 0 to 299 were looked at before")
    parser.add_argument("--rounds", type=int, default=5, help="of the timing")
    parser.add_argument(
        "--hyperspy", type=Path, metavar="PYTHON", help="an interpreter that has HyperSpy and scikit-learn"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
