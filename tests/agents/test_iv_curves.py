"""Kinds of current-voltage curves over islands."""

import numpy as np
import pytest

from twinscope.agents.analyses.iv_curves import curve_kinds, find_islands
from twinscope.errors import InvalidRequestError

VOLTAGE = np.linspace(-1.0, 1.0, 60)


@pytest.fixture(scope="module")
def sample() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heights, currents and true islands: two ohmic ones and two diodes on a tilted plane, of very unlike currents."""
    random = np.random.default_rng(0)
    rows, columns = np.indices((40, 60))
    height = 3e-11 * rows - 2e-11 * columns + 1e-10 * random.normal(size=rows.shape)
    current = 1e-12 * random.normal(size=(*rows.shape, len(VOLTAGE)))
    islands = np.zeros(rows.shape, int)
    diode = np.where(VOLTAGE > 0.3, VOLTAGE - 0.3, 0.0)
    places = [(10, 12, VOLTAGE, 1e-9), (10, 45, diode, 8e-9), (30, 14, diode, 1e-9), (29, 44, VOLTAGE, 1e-10)]
    for number, (y, x, shape, size) in enumerate(places, start=1):
        inside = np.hypot(rows - y, columns - x) < 5
        islands[inside] = number
        height[inside] += 4e-9 + 2e-9 * number
        current[inside] += size * shape
    return height, current, islands


def test_islands_are_found_in_the_topography(sample: tuple[np.ndarray, ...]) -> None:
    height, _, islands = sample
    found = find_islands(height)
    assert found.max() == 4
    assert np.mean((found > 0) == (islands > 0)) > 0.99


def test_curves_of_one_shape_are_of_one_kind_however_large(sample: tuple[np.ndarray, ...]) -> None:
    height, current, truth = sample
    islands = find_islands(height)
    found = curve_kinds(current, islands)
    kind_at = {number: found.kinds[islands[truth == number].max() - 1] for number in range(1, 5)}
    assert kind_at[1] == kind_at[4] != kind_at[2] == kind_at[3]
    assert (found.agreement > 0.8).all()
    assert (found.labels[islands == 0] == 0).all()
    ohmic = found.curves[kind_at[1] - 1]
    assert np.allclose(ohmic, VOLTAGE / np.linalg.norm(VOLTAGE), atol=0.03)


def test_a_few_curves_tell_as_much(sample: tuple[np.ndarray, ...]) -> None:
    height, current, _ = sample
    islands = find_islands(height)
    few = np.full(current.shape, np.nan)
    for number in range(1, 4):
        row, column = np.argwhere(islands == number)[20]
        few[row, column] = current[row, column]
    found = curve_kinds(few, islands)
    assert np.array_equal(found.kinds[:3] == found.kinds[0], curve_kinds(current, islands).kinds[:3] == found.kinds[0])
    assert found.kinds[3] == 0
    assert np.isnan(found.agreement[3])


@pytest.mark.parametrize(
    ("height", "reason"),
    [
        (np.zeros(9), "rows and columns"),
        (np.full((9, 9), np.nan), "81 values that are no numbers"),
        (np.zeros((20, 20)), "nothing stands out"),
        (np.indices((20, 20))[0] * 1e-10, "nothing stands out"),
    ],
)
def test_topographies_without_islands_are_refused(height: np.ndarray, reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason):
        find_islands(height)


def test_curves_that_do_not_fit_are_refused(sample: tuple[np.ndarray, ...]) -> None:
    _, current, islands = sample
    with pytest.raises(InvalidRequestError, match="unequal length"):
        curve_kinds(current[..., 0], islands)
    with pytest.raises(InvalidRequestError, match=r"current has the shape \(39, 60, 60\)"):
        curve_kinds(current[1:], islands)
    with pytest.raises(InvalidRequestError, match="there are 0 curves on islands"):
        curve_kinds(np.full(current.shape, np.nan), islands)
    with pytest.raises(InvalidRequestError, match="kinds is 0"):
        curve_kinds(current, islands, kinds=0)
