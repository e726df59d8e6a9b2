"""Hysteresis loops: 2500 of them fitted at once, beside SciPy one by one; errors beside the least that noise allows."""

import argparse
from pathlib import Path

import h5py
import numpy as np
from _cases import set_up
from _report import Figure, Report, duration
from scipy.optimize import least_squares

from twinscope.agents.analyses.loops import NAMES, fit_loops, loop

_LOOPS, _FEW = 2500, 25
_NOISE = 0.05
_SLOWEST = 2.0
_MOST_ERROR = 1.5
_STEP = 1e-2
_RECORDED = Path(__file__).resolve().parents[2] / "shared" / "dtmicroscope" / "BEPS_PTO_50x50.h5"


def main() -> None:
    """Measure and report."""
    arguments = _arguments()
    set_up(keep_compiled=True)
    report = Report(f"Hysteresis loops: {_LOOPS} of 64 points, noise of {_NOISE} in units where heights are 1 to 3")
    voltage = _voltages()
    truth = _parameters(np.random.default_rng(arguments.seed))
    clean = loop(voltage, truth)
    noisy = clean + _NOISE * np.random.default_rng([arguments.seed, 1]).normal(size=clean.shape)
    report.add("first time", Figure((duration(lambda: fit_loops(voltage, noisy)),)))
    ours = Figure(tuple(duration(lambda: fit_loops(voltage, noisy)) for _ in range(arguments.rounds)))
    peer = duration(lambda: [_by_scipy(voltage, curve) for curve in noisy[:_FEW]]) * _LOOPS / _FEW
    report.add("all loops", ours, peer=(f"SciPy, from {_FEW}", Figure((peer,))), target=_SLOWEST)
    found = fit_loops(voltage, noisy)
    report.add("fits that did not settle", Figure((float(np.mean(~found.converged)),), "missed"), target=0.01)
    least = _cramer_rao(voltage, truth)
    for name in NAMES:
        away = np.abs(found.values[name] - truth[name]) / least[name]
        # Of a Gaussian, two thirds are within one standard deviation.
        inside = float(np.quantile(away, 0.683))
        report.add(f"{name}: error in units of the Cramér-Rao bound", Figure((inside,), ""), target=_MOST_ERROR)
        within = np.abs(found.values[name] - truth[name]) < 1.645 * found.sigma[name]
        report.notes.append(f"{name}: {within.mean():.1%} are within the 90 % interval that is told")
    if _RECORDED.exists():
        _report_recorded(report)
    else:
        report.notes.append(f"{_RECORDED.name} is not there: no recorded loops")
    report.finish(arguments.json)


def _report_recorded(report: Report) -> None:
    with h5py.File(_RECORDED) as file:
        group = file["Channel_000/generic"]
        voltage, response = group["Voltage"][()], group["generic"][()]
    found = fit_loops(voltage, response)
    report.add("2500 recorded loops", Figure((duration(lambda: fit_loops(voltage, response)),)), target=_SLOWEST)
    low, high = np.percentile(response, [5, 95], axis=-1)
    report.notes.append(
        f"recorded: {found.converged.mean():.1%} settled, {np.median(found.residual / (high - low)):.1%} of the range"
        f" left in the median, {np.mean(found.outliers > 0):.1%} of the loops with outliers"
    )


def _voltages() -> np.ndarray:
    ways = ((0, 8, 16), (8, -8, 32), (-8, 0, 16))
    return np.concatenate([np.linspace(start, stop, count, endpoint=False) for start, stop, count in ways])


def _parameters(random: np.random.Generator) -> dict[str, np.ndarray]:
    truth = {
        "offset": random.uniform(-1, 1, _LOOPS),
        "height": random.uniform(1, 3, _LOOPS) * random.choice([1, -1], _LOOPS),
        "coercive_up": random.uniform(1, 4, _LOOPS),
        "coercive_down": random.uniform(-4, -1, _LOOPS),
        "slope": random.uniform(-0.05, 0.05, _LOOPS),
    }
    return truth | {name: random.uniform(0.5, 3, _LOOPS) for name in NAMES[5:]}


def _cramer_rao(voltage: np.ndarray, truth: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the least standard deviations that any unbiased fit can have with this noise."""
    slopes = [
        (loop(voltage, truth | {name: truth[name] + _STEP}) - loop(voltage, truth | {name: truth[name] - _STEP}))
        / (2 * _STEP)
        for name in NAMES
    ]
    every = np.stack(slopes, axis=1)
    information = every @ every.transpose(0, 2, 1) / _NOISE**2
    least = np.sqrt(np.diagonal(np.linalg.inv(information), axis1=1, axis2=2))
    return dict(zip(NAMES, least.T, strict=True))


def _by_scipy(voltage: np.ndarray, curve: np.ndarray) -> np.ndarray:
    low, high = curve.min(), curve.max()
    start = np.array([low, high - low, 2.0, -2.0, 0.0, *[1.0] * 4])

    def left(values: np.ndarray) -> np.ndarray:
        inside = np.concatenate([values[:5], np.maximum(np.abs(values[5:]), 1e-3)])
        return loop(voltage, dict(zip(NAMES, inside, strict=True))) - curve

    return np.asarray(least_squares(left, start, method="lm", max_nfev=2000).x)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of loops and noise")
    parser.add_argument("--rounds", type=int, default=5, help="of the timing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
