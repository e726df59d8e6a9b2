import jax
import numpy as np
import pytest

from twinscope.kernels import (
    Atoms,
    ScanGrid,
    Tip,
    check_charges,
    check_neutral,
    check_tip,
    pair_terms,
    relax_columns,
    simulate,
)
from twinscope.kernels._checks import check_atoms

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
        ("numbers", np.array([6, 6.5]), r"atoms.numbers\[1\] is 6.5: expected a whole number"),
        ("numbers", np.array([NAN, 6]), r"atoms.numbers\[0\] is nan: expected a whole number"),
        ("numbers", ["C", "O"], r"atoms.numbers are \['C', 'O'\]: expected atomic numbers.*atomic_number\('C'\)"),
        ("positions", np.zeros((3, 3)), r"atoms.positions has shape \(3, 3\): expected \(2, 3\)"),
        ("positions", np.zeros((2, 2)), r"atoms.positions has shape \(2, 2\): expected \(2, 3\)"),
        ("positions", np.zeros(6), r"atoms.positions has shape \(6,\): expected \(2, 3\)"),
        ("positions", spoilt(ATOMS["positions"], NAN), r"atoms.positions\[1, 2\] is nan: expected finite"),
        ("positions", spoilt(ATOMS["positions"], -INF), r"atoms.positions\[1, 2\] is -inf: expected finite"),
        ("positions", [[0, 0, 0], [0, 0]], r"atoms.positions has rows of different length: expected an array"),
        ("positions", [["0", "0", "0"]] * 2, r"atoms.positions are .*'0'.*: expected real numbers"),
        ("charges", np.zeros((2, 1)), r"atoms.charges has shape \(2, 1\): expected \(2,\)"),
        ("charges", [6.0, 8.0], r"atoms.charges are the atomic numbers \[6, 8\]: expected the point charges"),
        ("charges", np.array([0.1j, 0]), r"atoms.charges are .*: expected real numbers"),
        ("charges", np.zeros(3), r"atoms.charges has shape \(3,\): expected \(2,\)"),
        ("charges", spoilt(ATOMS["charges"], NAN), r"atoms.charges\[1\] is nan: expected finite"),
        ("cell", np.eye(2), r"atoms.cell has shape \(2, 2\): expected \(3, 3\)"),
        ("cell", spoilt(np.eye(3), INF), r"atoms.cell\[2, 2\] is inf: expected finite"),
        ("periodic_images", 1, r"periodic_images is 1: expected three whole numbers >= 0"),
        ("periodic_images", ("a", 0, 0), r"periodic_images is \('a', 0, 0\): expected three whole numbers >= 0"),
        ("lennard_jones", np.ones((2, 3)), r"atoms.lennard_jones has shape \(2, 3\): expected \(2, 2\)"),
        ("lennard_jones", spoilt(np.ones((2, 2)), NAN), r"atoms.lennard_jones\[1, 1\] is nan: expected finite"),
        (
            "lennard_jones",
            spoilt(np.ones((2, 2)), -1),
            r"atoms.lennard_jones\[1\] is \(1.0, -1.0\): .* a depth >= 0 in eV",
        ),
        ("lennard_jones", [[1, 1], [0, 1]], r"atoms.lennard_jones\[1\] is \(0, 1\): expected a radius > 0 in Å"),
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
        ("rest", (NAN, 0.0, 3.0), r"tip.rest is \(nan, 0.0, 3.0\): expected 3 finite numbers"),
        ("rest", (0.0, 0.0, NAN), r"tip.rest is \(0.0, 0.0, nan\): expected 3 finite numbers"),
        ("rest", (0.0, 0.0, INF), r"tip.rest is \(0.0, 0.0, inf\): expected 3 finite numbers"),
        ("rest", ("a", 0.0, 3.0), r"tip.rest is \('a', 0.0, 3.0\): expected 3 finite numbers"),
        ("rest", 3.0, r"tip.rest is 3.0: expected 3 numbers"),
        ("stiffness", (-0.1, 0.2, 0.0, 30.0), r"tip.stiffness is \(-0.1, .* N/m: expected four numbers >= 0"),
        ("stiffness", (0.2, 0.2, 0.0, -30.0), r"tip.stiffness is .*-30.0\) N/m: expected four numbers >= 0"),
        ("stiffness", (0.2, NAN, 0.0, 30.0), r"tip.stiffness is \(0.2, nan, .*: expected 4 finite numbers"),
        ("stiffness", (0.2, 0.2, 0.0, INF), r"tip.stiffness is .*inf\): expected 4 finite numbers"),
        (
            "stiffness",
            (0.0, 0.0, 0.0, 0.0),
            r"tip.stiffness is .*: kz and k_radial .* fall off.*rigid=True",
        ),
        ("stiffness", (0.2, 0.2, 0.0, 0.0), r"tip.stiffness is .*: kz and k_radial .* probe would fall off"),
        ("element", 8.5, r"tip.element is 8.5: expected a chemical symbol or an atomic number"),
        ("element", None, r"tip.element is None: expected a chemical symbol or an atomic number"),
        ("charges", None, r"tip.charges is None: expected pairs \(\(q, z\), ...\), and \(\) for none"),
        ("charges", (0.1, 0.0), r"tip.charges has 0.1: expected pairs \(q, z\)"),
        ("charges", ((0.1,),), r"tip.charges has \(0.1,\): expected pairs \(q, z\)"),
        ("lennard_jones", (1.6,), r"tip.lennard_jones is \(1.6,\): expected 2 numbers"),
        ("lennard_jones", (1.6, INF), r"tip.lennard_jones is \(1.6, inf\): expected 2 finite numbers"),
        ("lennard_jones", (-1.6, 0.01), r"tip.lennard_jones is \(-1.6, 0.01\): expected a radius > 0 in Å"),
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
    with pytest.raises(ValueError, match=r"grid.x\[1\] is nan: expected finite"):
        simulate(Atoms(**ATOMS), Tip(), ScanGrid(np.array([0.0, NAN]), np.array([0.0]), HEIGHTS))
    with pytest.raises(ValueError, match=r"grid.x has shape \(0,\): expected \(n,\) with n >= 1"):
        simulate(Atoms(**ATOMS), Tip(), ScanGrid(np.array([]), np.array([0.0]), HEIGHTS))


@pytest.mark.parametrize("images", [(1, 0, 0), (1, 1, 0), (1, 1, 1)])
def test_a_cell_that_is_repeated_along_nothing_new_is_refused(images):
    flat = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 9.0]])
    if images == (1, 1, 1):
        flat[0] = [0.0, 1.0, 4.5]
        flat[1] = [0.0, 2.0, 0.0]
    with pytest.raises(ValueError, match=r"atoms.cell has the rows \[\[0.0, .*periodic_images .* not parallel"):
        check_atoms(Atoms(**ATOMS, cell=flat, periodic_images=images))


@pytest.mark.parametrize(("row", "images"), [(2, (1, 1, 0)), (0, (0, 0, 1)), (1, (0, 0, 0))])
def test_a_cell_may_be_zero_where_it_is_not_repeated(row, images):
    cell = 5 * np.eye(3)
    cell[row] = 0
    check_atoms(Atoms(**ATOMS, cell=cell, periodic_images=images))


def test_a_skew_cell_is_one():
    cell = np.array([[2.46, 0.0, 0.0], [-1.23, 2.13, 0.0], [0.0, 0.0, 0.01]])
    check_atoms(Atoms(**ATOMS, cell=cell, periodic_images=(3, 3, 1)))


def test_a_probe_that_cannot_move_needs_no_spring():
    check_tip(Tip(stiffness=(0.0, 0.0, 0.0, 0.0), rigid=True))
    check_tip(Tip(stiffness=(0.2, 0.2, 0.5, 0.0)))


def test_what_numpy_takes_is_taken():
    check_atoms(Atoms([6.0, 8.0], [[0, 0, 0], [0, 1.2, 0]], [0.1, -0.1], [[5, 0, 0], [0, 5, 0], [0, 0, 5]]))
    check_tip(Tip(np.int64(8), [0, 0, np.float32(3)], np.array([0.2, 0.2, 0, 20]), [[0.1, 0], [-0.1, 0.5]]))


def test_a_sample_as_nested_lists_has_the_forces_of_arrays():
    expected = pair_terms(Atoms(**ATOMS), Tip())
    listed = pair_terms(Atoms([6, 8], ATOMS["positions"].tolist(), ATOMS["charges"].tolist()), Tip())
    for ours, arrays in zip(jax.tree.leaves(listed), jax.tree.leaves(expected), strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, arrays)


def test_values_that_are_not_known_are_not_looked_at():
    @jax.jit
    def traced(positions, charges, cell, own, rest, stiffness, tip_charge, pair):
        atoms = Atoms(ATOMS["numbers"], positions, charges, cell, (1, 1, 0), own)
        tip = Tip("O", (0.0, 0.0, rest), (0.2, stiffness, 0.0, 20.0), ((tip_charge, 0.0),), (pair, pair))
        check_atoms(atoms)
        check_tip(tip)
        check_neutral(atoms, tip)
        check_charges(atoms, 5.0)
        return positions

    nan = np.float32(NAN)
    traced(np.full((2, 3), nan), np.full(2, nan), np.full((3, 3), nan), np.full((2, 2), nan), nan, nan, nan, nan)
    with pytest.raises(ValueError, match=r"atoms.charges has shape \(3,\): expected \(2,\)"):
        traced(np.zeros((2, 3)), np.zeros(3), np.eye(3), np.ones((2, 2)), 3.0, 0.2, 0.1, 1.0)


PERIODIC = {"cell": 5 * np.eye(3), "periodic_images": (2, 2, 0)}


def test_a_charged_cell_is_not_repeated_under_a_charged_tip():
    charged = {**ATOMS, "charges": np.array([0.3, -0.1])}
    with pytest.raises(ValueError, match=r"add up to 0.2 e per cell.*neutral within 0.001 e.*charges - charges.mean"):
        check_neutral(Atoms(**charged, **PERIODIC), Tip())
    check_neutral(Atoms(**charged, **PERIODIC), Tip(charges=()))
    check_neutral(Atoms(**charged), Tip())
    check_neutral(Atoms(**charged, cell=PERIODIC["cell"]), Tip())
    check_neutral(Atoms(**{**ATOMS, "charges": None}, **PERIODIC), Tip())
    check_neutral(Atoms(**{**ATOMS, "charges": np.array([0.3004, -0.3])}, **PERIODIC), Tip())


def test_charges_that_do_not_add_up_are_refused():
    atoms = Atoms(**{**ATOMS, "charges": np.array([0.7, 0.2])})
    with pytest.raises(ValueError, match=r"atoms.charges add up to 0.9 e: expected 1 e within 0.001 e"):
        check_charges(atoms, 1.0)
    with pytest.raises(ValueError, match=r"atoms.charges\[1\] is nan: expected finite"):
        check_charges(Atoms(**{**ATOMS, "charges": np.array([0.7, NAN])}))
    with pytest.raises(ValueError, match=r"atoms.charges add up to 0 e: expected 1 e"):
        check_charges(Atoms(**{**ATOMS, "charges": None}), 1.0)
    check_charges(atoms, 1.0, tolerance=0.11)
    check_charges(Atoms(**ATOMS))
