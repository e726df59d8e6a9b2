import numpy as np
import pytest

from twinscope.kernels import Atoms, Plane, ScanGrid, Tip, relax_columns, simulate, simulate_batch, simulate_cycle

GRID = ScanGrid(
    np.linspace(-3, 3, 7, dtype="float32"),
    np.linspace(-2, 2, 5, dtype="float32"),
    np.linspace(8.0, 5.6, 11, dtype="float32"),
)
CHARGES = ((0.1, 0.0), (0.2, 0.3), (-0.1, -0.3))
# Whatever the springs are, they do not count.
BARE = Tip("Cu", (0.4, -0.3, 3.0), (0.2, 0.3, 0.1, 20.0), CHARGES, rigid=True)
BLUNT = Tip("Xe", (0.0, 0.0, 2.5), (0.0, 0.0, 0.0, 0.0), CHARGES, rigid=True)
# Of the force, in eV/Å: measured 3e-6 where it is 4 eV/Å.
TOLERANCE = 1e-5


def direct(reference, atoms, tip, grid):
    """Force along z where the probe rests, (nz, ny, nx), in eV/Å."""
    z, y, x = np.meshgrid(*(np.asarray(axis, float) for axis in (grid.z, grid.y, grid.x)), indexing="ij")
    points = np.stack([x, y, z], axis=-1) + reference.rest(tip)
    return reference.sample_force(atoms, tip, points.reshape(-1, 3))[:, 2].reshape(x.shape)


def assert_at_rest(scan, expected):
    np.testing.assert_allclose(scan.force_z, expected, rtol=TOLERANCE, atol=TOLERANCE)
    np.testing.assert_array_equal(scan.displacement, np.zeros((*expected.shape, 3)))
    assert np.asarray(scan.converged).all()
    assert not np.asarray(scan.snapped).any()
    np.testing.assert_array_equal(scan.evaluations, 1)


@pytest.mark.parametrize("tip", [BARE, BLUNT])
def test_a_rigid_tip_feels_the_direct_sum_where_it_rests(reference, benzene, tip):
    expected = direct(reference, benzene(), tip, GRID)
    assert expected.min() < -0.01
    assert expected.max() > 0.1
    assert_at_rest(simulate(benzene(), tip, GRID), expected)


def test_it_goes_back_as_it_came(reference, benzene):
    approach, retract = simulate_cycle(benzene(), BARE, GRID)
    expected = direct(reference, benzene(), BARE, GRID)
    assert_at_rest(approach, expected)
    assert_at_rest(retract, expected)


def test_so_do_those_of_a_batch_whose_samples_have_different_numbers_of_atoms(reference, benzene):
    left, right = benzene(shift=(-1, 3, -0.3)), benzene(shift=(1, -3, -0.2))
    parts = zip(*((one.numbers, one.positions, one.charges) for one in (left, right)), strict=True)
    samples = [benzene(), Atoms(*map(np.concatenate, parts)), benzene(shift=(0.5, 0.3, -0.6))]
    tips = [BARE, BLUNT, BLUNT]
    batch = simulate_batch(samples, tips, GRID)
    expected = [direct(reference, *pair, GRID) for pair in zip(samples, tips, strict=True)]
    assert_at_rest(batch, np.stack(expected))


def test_further_terms_act_at_rest(reference, benzene):
    gold = Plane.of("Au", 0.059, -1.0, "Cu")
    height = GRID.z.astype(float) + reference.rest(BARE)[2] + 1.0
    of_gold = 9 * gold.c9 / height**10 - 3 * gold.c3 / height**4
    assert np.abs(of_gold).max() > 1e-3
    expected = direct(reference, benzene(), BARE, GRID) + of_gold[:, None, None]
    assert_at_rest(simulate(benzene(), BARE, GRID, gold), expected)


def test_it_is_the_limit_of_stiff_springs(benzene):
    points = np.random.default_rng(5).uniform(-3, 3, (60, 2)).astype("float32")
    heights = np.linspace(8.0, 5.8, 24, dtype="float32")
    # Charges as CO has them: the program of test_kernels_relax.py serves here too.
    rigid = np.asarray(relax_columns(benzene(), Tip(rigid=True), points, heights).force_z)
    error = []
    for stiffness in (1e3, 1e4):
        result = relax_columns(benzene(), Tip(stiffness=(stiffness,) * 4), points, heights)
        assert np.asarray(result.converged).all()
        error.append(np.abs(result.force_z - rigid).max())
    # The probe gives way by F / k: the error is a tenth when the springs are ten times as stiff.
    assert error[0] > 1e-4
    np.testing.assert_allclose(error[0] / error[1], 10, rtol=0.1)
