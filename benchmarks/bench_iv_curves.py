"""Kinds of current-voltage curves on islands whose types are known, beside k-means of raw currents."""

import argparse
from pathlib import Path

import numpy as np
from _electrodes import Electrodes, electrodes
from _report import Figure, Report, duration
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from twinscope.agents.analyses.iv_curves import curve_kinds, find_islands

_CLASSES, _TYPES = 0.97, 0.98
_FEW = 3
_CLASS_COUNT = 3
_NANOAMPERE = 1e-9


def main() -> None:
    """Measure and report."""
    arguments = _arguments()
    report = Report(f"Kinds of current-voltage curves: {arguments.seeds} maps of 7200 curves")
    every: dict[str, list[float]] = {}
    curves = []
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        sample = electrodes(seed)
        for what, value in _scores(sample, curves).items():
            every.setdefault(what, []).append(value)
    figures = {what: Figure(tuple(values), "s" if "time" in what else "part") for what, values in every.items()}
    raw = figures.pop("raw")
    whole = figures.pop("classes")
    report.add("classes of all pixels, adjusted Rand index", whole, peer=("k-means of currents", raw), target=_CLASSES)
    report.add("types of islands, few curves", figures.pop("types"), target=_TYPES)
    report.add("time for all curves", figures.pop("time"), peer=("k-means of currents", figures.pop("time of raw")))
    report.notes.append(
        f"few: the {_FEW} curves in the middle of each island, {np.median(curves):.2%} of all in the median; worst Rand"
        f" index {min(whole.values):.3f}"
    )
    report.finish(arguments.json)


def _scores(sample: Electrodes, curves: list[float]) -> dict[str, float]:
    """Score one map, and add the part of the curves that were few."""
    truth = sample.classes
    islands = find_islands(sample.height)
    found = curve_kinds(sample.current, islands)
    rows = sample.current.reshape(-1, len(sample.voltage)) / _NANOAMPERE

    def raw() -> np.ndarray:
        return np.asarray(KMeans(_CLASS_COUNT, n_init=10, random_state=0).fit_predict(rows))

    few = _only_middles(sample.current, islands)
    curves.append(float(np.isfinite(few[..., 0]).mean()))
    kinds = curve_kinds(few, islands).kinds
    types = np.array([np.bincount(truth[islands == one]).argmax() for one in range(1, islands.max() + 1)])
    return {
        "classes": float(adjusted_rand_score(truth.ravel(), found.labels.ravel())),
        "raw": float(adjusted_rand_score(truth.ravel(), raw())),
        # The numbers of the two kinds mean nothing.
        "types": float(max(np.mean(kinds == types), np.mean(kinds == 3 - types))),
        "time": duration(lambda: curve_kinds(sample.current, find_islands(sample.height))),
        "time of raw": duration(raw),
    }


def _only_middles(current: np.ndarray, islands: np.ndarray) -> np.ndarray:
    """Leave the curves nearest to the middle of each island, and NaN elsewhere."""
    few = np.full(current.shape, np.nan)
    for one in range(1, islands.max() + 1):
        places = np.argwhere(islands == one)
        away = np.hypot(*(places - places.mean(axis=0)).T)
        for row, column in places[np.argsort(away)[:_FEW]]:
            few[row, column] = current[row, column]
    return few


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many maps")
    parser.add_argument("--first", type=int, default=1000, help="seed of the first; 0 to 9 were looked at before")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
