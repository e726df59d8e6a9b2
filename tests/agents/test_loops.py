"""Hysteresis loops, many at once."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from twinscope.agents.analyses.loops import NAMES, fit_loops, loop
from twinscope.errors import InvalidRequestError

VOLTAGE = np.concatenate(
    [
        np.linspace(0, 8, 16, endpoint=False),
        np.linspace(8, -8, 32, endpoint=False),
        np.linspace(-8, 0, 16, endpoint=False),
    ]
)
TRUE = dict(zip(NAMES, (0.5, 2.0, 2.5, -1.5, 0.02, 1.0, 0.6, 0.8, 1.4), strict=True))


def test_a_loop_goes_from_state_to_state_at_its_coercive_voltages() -> None:
    there = {"offset": 0.0, "slope": 0.0, "coercive_up": 2.7, "coercive_down": -1.7}
    steep = loop(VOLTAGE, TRUE | there | dict.fromkeys(NAMES[5:], 0.05))
    rising, falling = VOLTAGE[:17], slice(17, 49)
    assert np.allclose(steep[:17], np.where(rising > 2.7, 2.0, 0.0))
    assert np.allclose(steep[falling], np.where(VOLTAGE[falling] > -1.7, 2.0, 0.0))


@pytest.mark.parametrize("begin", [0, 16, 40])
def test_parameters_are_found_wherever_the_voltage_begins(begin: int) -> None:
    voltage = np.roll(VOLTAGE, -begin)
    upside_down = TRUE | {"height": -1.0, "offset": 3.0}
    curves = np.stack([loop(voltage, TRUE), 1e-9 * loop(voltage, upside_down)])
    found = fit_loops(voltage, curves.reshape(1, 2, -1))
    assert found.converged.all()
    for name in NAMES:
        size = 1e-9 if name in ("offset", "height", "slope") else 1.0
        assert found.values[name][0, 0] == pytest.approx(TRUE[name], abs=0.02), name
        assert found.values[name][0, 1] == pytest.approx(size * upside_down[name], abs=0.02 * size), name
    assert found.imprint[0, 0] == pytest.approx(0.5, abs=0.02)
    assert found.work[0, 0] == pytest.approx(8.0, abs=0.1)


def test_standard_deviations_are_true() -> None:
    random = np.random.default_rng(0)
    curves = loop(VOLTAGE, TRUE) + 0.05 * random.normal(size=(200, len(VOLTAGE)))
    found = fit_loops(VOLTAGE, curves)
    assert found.converged.mean() > 0.98
    assert np.median(found.residual) == pytest.approx(0.05, rel=0.1)
    for name in ("offset", "height", "coercive_up", "coercive_down", "slope"):
        within = np.abs(found.values[name] - TRUE[name]) < 1.645 * found.sigma[name]
        assert 0.8 < within.mean() < 0.97, name


def test_points_that_have_nothing_to_do_with_their_neighbours_are_left_out() -> None:
    curves = loop(VOLTAGE, TRUE) + 0.01 * np.random.default_rng(0).normal(size=(2, len(VOLTAGE)))
    curves[1, [5, 30]] += [-40.0, 25.0]
    found = fit_loops(VOLTAGE, curves)
    assert found.outliers.tolist() == [0, 2]
    assert found.values["height"][1] == pytest.approx(2.0, abs=0.05)


def test_loops_that_were_not_measured_stay_unknown() -> None:
    curves = np.stack([loop(VOLTAGE, TRUE)] * 3)
    curves[1, 4] = np.nan
    found = fit_loops(VOLTAGE, curves)
    assert np.isnan(found.values["height"]).tolist() == [False, True, False]
    assert found.converged.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("voltage", "response", "reason"),
    [
        (VOLTAGE, np.zeros((3, 60)), r"response \(3, 60\)"),
        (np.tile(VOLTAGE[::2], 2), np.zeros(64), "turns 4 times"),
        (np.linspace(-1, 1, 64), np.zeros(64), "63 of them rising"),
        (VOLTAGE[::8], np.zeros(8), "8 points"),
        (VOLTAGE, np.full(64, np.nan), "no loop was measured"),
    ],
)
def test_what_is_no_loop_is_refused(voltage: np.ndarray, response: np.ndarray, reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason):
        fit_loops(voltage, response)


def test_recorded_loops_of_lead_titanate(shared: Path) -> None:
    path = shared / "dtmicroscope" / "BEPS_PTO_50x50.h5"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with h5py.File(path) as file:
        group = file["Channel_000/generic"]
        voltage, response = group["Voltage"][()], group["generic"][10:20, 20:40]
    found = fit_loops(voltage, response)
    low, high = np.percentile(response, [5, 95], axis=-1)
    assert np.median(found.residual / (high - low)) < 0.06
    opened = found.values["coercive_up"] > found.values["coercive_down"]
    assert opened.mean() > 0.9
