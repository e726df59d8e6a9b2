import numpy as np
import pytest

from twinscope.kernels import Atoms, ScanGrid, Tip, relax_columns, simulate

ATOMS = {
    "numbers": np.array([6, 8]),
    "positions": np.array([[0.0, 0.0, 0.0], [0.0, 1.2, 0.0]], "float32"),
    "charges": np.array([0.1, -0.1], "float32"),
}
POINTS = np.zeros((3, 2), "float32")
HEIGHTS = np.array([8.0, 7.9, 7.8], "float32")
NAN, INF = float("nan"), float("inf")


def spoilt(array, value):
    """Return a copy with one bad value in the last place."""
    array = np.array(array, float)
    array[(-1,) * array.ndim] = value
    return array


@pytest.mark.parametrize(
    ("part", "value", "text"),
    [
        ("numbers", np.array([6, 119]), "unknown element 119: expected .* from 1 to 118"),
        ("numbers", np.array([6, 0]), "unknown element 0: expected"),
        ("numbers", np.array([-6, 6]), "unknown element -6: expected"),
        ("numbers", np.array([], int), r"atoms.numbers has shape \(0,\): expected \(n,\) with n >= 1"),
        ("numbers", np.array([[6, 8]]), r"atoms.numbers has shape \(1, 2\): expected"),
        ("numbers", 6, r"atoms.numbers has shape \(\): expected"),
        ("positions", np.zeros((3, 3)), r"atoms.positions has shape \(3, 3\): expected \(2, 3\)"),
        ("positions", np.zeros((2, 2)), r"atoms.positions has shape \(2, 2\): expected \(2, 3\)"),
        ("positions", np.zeros(6), r"atoms.positions has shape \(6,\): expected \(2, 3\)"),
        ("positions", spoilt(ATOMS["positions"], NAN), r"atoms.positions\[1, 2\] is nan: expected finite"),
        ("positions", spoilt(ATOMS["positions"], -INF), r"atoms.positions\[1, 2\] is -inf: expected finite"),
        ("charges", np.zeros(3), r"atoms.charges has shape \(3,\): expected \(2,\)"),
        ("charges", spoilt(ATOMS["charges"], NAN), r"atoms.charges\[1\] is nan: expected finite"),
        ("cell", np.eye(2), r"atoms.cell has shape \(2, 2\): expected \(3, 3\)"),
        ("cell", spoilt(np.eye(3), INF), r"atoms.cell\[2, 2\] is inf: expected finite"),
        ("periodic_images", (1, 1, 0), r"periodic_images is \(1, 1, 0\) but atoms.cell is None: give the cell"),
        ("periodic_images", (0, -1, 0), r"periodic_images is \(0, -1, 0\): expected three whole numbers >= 0"),
    ],
)
def test_atoms_that_cannot_be_simulated_are_refused(part, value, text):
    atoms = Atoms(**{**ATOMS, part: value})
    with pytest.raises(ValueError, match=text):
        relax_columns(atoms, Tip(), POINTS, HEIGHTS)
    with pytest.raises(ValueError, match=text):
        simulate(atoms, Tip(), ScanGrid(POINTS[:, 0], POINTS[:, 1], HEIGHTS))


@pytest.mark.parametrize(
    ("part", "value", "text"),
    [
        ("element", "Qx", "unknown element 'Qx': expected a chemical symbol"),
        ("element", 0, "unknown element 0: expected"),
        ("element", 200, "unknown element 200: expected"),
        ("rest", (3.0, 0.0, 3.0), r"tip.rest is \(3.0, 0.0, 3.0\): the length R must exceed the lateral offset"),
        ("rest", (2.0, 2.5, 3.0), r"tip.rest is \(2.0, 2.5, 3.0\): the length R must exceed"),
        ("rest", (0.0, 0.0, 0.0), r"tip.rest is \(0.0, 0.0, 0.0\): the length R must exceed"),
        ("rest", (0.0, 0.0, -3.0), r"tip.rest is \(0.0, 0.0, -3.0\): the length R must exceed"),
        ("rest", (NAN, 0.0, 3.0), r"tip.rest is \(nan, 0.0, 3.0\): the length R must exceed"),
        ("rest", (0.0, 0.0, NAN), r"tip.rest is \(0.0, 0.0, nan\): the length R must exceed"),
        ("stiffness", (-0.1, 0.2, 0.0, 30.0), r"tip.stiffness is \(-0.1, .* N/m: expected four finite numbers >= 0"),
        ("stiffness", (0.2, 0.2, 0.0, -30.0), r"tip.stiffness is .*-30.0\) N/m: expected four finite numbers >= 0"),
        ("stiffness", (0.2, NAN, 0.0, 30.0), r"tip.stiffness is \(0.2, nan, .* N/m: expected four finite numbers >= 0"),
        ("stiffness", (0.2, 0.2, 0.0, INF), r"tip.stiffness is .*inf\) N/m: expected four finite numbers >= 0"),
        ("charges", ((0.1, 0.0), (NAN, 0.1)), r"tip.charges has \(nan, 0.1\): expected finite numbers"),
        ("charges", ((0.1, INF),), r"tip.charges has \(0.1, inf\): expected finite numbers"),
    ],
)
def test_a_tip_that_cannot_be_is_refused(part, value, text):
    with pytest.raises(ValueError, match=text):
        relax_columns(Atoms(**ATOMS), Tip(**{part: value}), POINTS, HEIGHTS)


@pytest.mark.parametrize(
    ("points", "text"),
    [
        (np.zeros((0, 2)), r"lateral positions have shape \(0, 2\): expected \(n, 2\) with n >= 1"),
        (np.zeros((3, 3)), r"lateral positions have shape \(3, 3\): expected \(n, 2\)"),
        (np.zeros(2), r"lateral positions have shape \(2,\): expected \(n, 2\)"),
        (spoilt(POINTS, NAN), r"lateral positions\[2, 1\] is nan: expected finite"),
        (spoilt(POINTS, INF), r"lateral positions\[2, 1\] is inf: expected finite"),
    ],
)
def test_lateral_positions_that_are_none_are_refused(points, text):
    with pytest.raises(ValueError, match=text):
        relax_columns(Atoms(**ATOMS), Tip(), points, HEIGHTS)


@pytest.mark.parametrize(
    ("heights", "text"),
    [
        (HEIGHTS[::-1], "z must go from far to near: expected values that do not increase"),
        (np.array([8.0, 7.0, 7.5]), "z must go from far to near"),
        (np.array([8.0, NAN]), r"z\[1\] is nan: expected finite"),
        (np.array([INF, 8.0]), r"z\[0\] is inf: expected finite"),
        (np.array([]), r"z has shape \(0,\): expected \(nz,\) with nz >= 1"),
        (np.zeros((2, 2)), r"z has shape \(2, 2\): expected \(nz,\)"),
    ],
)
def test_heights_that_are_no_approach_are_refused(heights, text):
    with pytest.raises(ValueError, match=text):
        relax_columns(Atoms(**ATOMS), Tip(), POINTS, heights)
    with pytest.raises(ValueError, match=text):
        simulate(Atoms(**ATOMS), Tip(), ScanGrid(POINTS[:, 0], POINTS[:, 1], heights))


def test_a_grid_with_a_bad_place_is_refused():
    with pytest.raises(ValueError, match=r"lateral positions\[1, 0\] is nan: expected finite"):
        simulate(Atoms(**ATOMS), Tip(), ScanGrid(np.array([0.0, NAN]), np.array([0.0]), HEIGHTS))
    with pytest.raises(ValueError, match=r"lateral positions have shape \(0, 2\)"):
        simulate(Atoms(**ATOMS), Tip(), ScanGrid(np.array([]), np.array([0.0]), HEIGHTS))
