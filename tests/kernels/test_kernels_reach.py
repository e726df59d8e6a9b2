import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twinscope.kernels import Atoms, Plane, ScanGrid, Tip, pair_terms, relax_columns, simulate
from twinscope.kernels._sites import within_reach

REACH = 20.0
# What atoms farther away than 20 Å pull with, in eV/Å; measured 9e-6 where the force is 0.04.
FAR = 2e-5
HEIGHTS = np.linspace(8.0, 6.0, 8, dtype="float32")
CO = Tip()
# Forces of a rigid tip are sums over atoms and nothing else: they compile fast.
RIGID = Tip(rigid=True)


def sheet(width, spacing=2.5):
    """A rippled square lattice of three elements without charges, `width` Å wide, around the origin."""
    axis = np.arange(-width / 2, width / 2 + 1e-6, spacing)
    x, y = (values.ravel() for values in np.meshgrid(axis, axis))
    positions = np.stack([x, y, 0.3 * np.sin(x) * np.cos(y / 2)], axis=-1)
    return Atoms(np.resize([14, 6, 7], len(x)), positions.astype("float32"))


@pytest.fixture(scope="module")
def patch():
    """Hundreds of atoms over 60 by 60 Å."""
    return sheet(60.0)


def scattered(count, width=60.0):
    return np.random.default_rng(7).uniform(-width / 2, width / 2, (count, 2)).astype("float32")


def test_a_relaxed_probe_does_not_miss_what_is_beyond_reach():
    # Some 5000 atoms over 175 by 175 Å.
    atoms, points = sheet(175.0), scattered(60, 20.0)
    assert len(atoms.numbers) > 5000
    near = relax_columns(atoms, CO, points, HEIGHTS, reach=REACH)
    every = relax_columns(atoms, CO, points, HEIGHTS)
    assert np.asarray(near.converged & every.converged).all()
    assert near.force_z.shape == every.force_z.shape
    assert near.displacement.shape == every.displacement.shape
    error = np.abs(near.force_z - every.force_z).max()
    assert 0 < error < FAR
    np.testing.assert_allclose(near.displacement, every.displacement, rtol=0, atol=3e-3)
    assert np.ptp(every.force_z) > 1000 * FAR
    assert np.abs(every.displacement).max() > 0.1


# More than a tile of columns, which is then cut into several.
@pytest.mark.parametrize("count", [70, 20000])
def test_scattered_columns_come_back_in_their_order(patch, count):
    points = scattered(count)
    near = np.asarray(relax_columns(patch, RIGID, points, HEIGHTS, reach=REACH).force_z)
    every = np.asarray(relax_columns(patch, RIGID, points, HEIGHTS).force_z)
    assert near.shape == every.shape == (8, count)
    # Neighbours in this list have nothing to do with each other.
    assert np.abs(np.diff(every, axis=1)).mean() > 100 * FAR
    np.testing.assert_allclose(near, every, rtol=0, atol=FAR)


def test_an_image_keeps_its_rows(patch):
    grid = ScanGrid(np.linspace(-20, 20, 9, dtype="float32"), np.linspace(-5, 25, 7, dtype="float32"), HEIGHTS)
    near, every = simulate(patch, RIGID, grid, reach=REACH), simulate(patch, RIGID, grid)
    assert near.force_z.shape == (8, 7, 9)
    np.testing.assert_allclose(near.force_z, every.force_z, rtol=0, atol=FAR)


@pytest.mark.parametrize("reach", [3.0, 6.0, 10.0])
def test_the_error_is_what_the_atoms_beyond_would_pull(reference, patch, reach):
    # All columns at one place: what is near them is a square, the atoms in which are known.
    points = np.full((60, 2), (3.2, -4.1), "float32")
    near = relax_columns(patch, RIGID, points, HEIGHTS, reach=reach)
    inside = (np.abs(patch.positions[:, :2] - points[0]) <= reach).all(axis=1)
    kept = Atoms(patch.numbers[inside], patch.positions[inside])
    anchors = np.array([[3.2, -4.1, z] for z in HEIGHTS.astype(float)])
    expected = reference.sample_force(kept, RIGID, anchors + reference.rest(RIGID))[:, 2]
    np.testing.assert_allclose(near.force_z, np.tile(expected[:, None], 60), rtol=0, atol=2e-6)
    every = relax_columns(patch, RIGID, points, HEIGHTS)
    # Measured: 6e-5 eV/Å come from beyond 10 Å, more from beyond less.
    assert np.abs(near.force_z - every.force_z).max() > 5e-5


def test_every_tile_keeps_the_atoms_near_it_and_no_others(patch):
    corners = np.array([[-25.0, -25.0], [0.0, 10.0], [22.0, -8.0]])
    tiles = np.stack([corners, corners + np.array([4.0, 2.0])], axis=1).astype("float32")
    pairs = pair_terms(patch, CO)
    near = within_reach(pairs, tiles, REACH)
    (sites,), (all_sites,) = near.terms, pairs.terms
    assert sites.positions.shape[0] == 3
    assert sites.positions.shape[1] < 0.8 * all_sites.positions.shape[0]
    for positions, c6, tile in zip(sites.positions, sites.c6, tiles, strict=True):
        lateral = patch.positions[:, :2]
        inside = ((lateral >= tile.min(axis=0) - REACH) & (lateral <= tile.max(axis=0) + REACH)).all(axis=1)
        acting = c6 != 0
        assert 100 < inside.sum() == acting.sum()
        np.testing.assert_array_equal(positions[acting], patch.positions[inside])
        assert (positions[~acting, 2] == -1000).all()


def test_terms_act_at_any_distance(patch):
    points, gold = scattered(70), Plane.of("Au", 0.059, -3.0, "O")
    near = relax_columns(patch, RIGID, points, HEIGHTS, gold, reach=REACH)
    without = relax_columns(patch, RIGID, points, HEIGHTS, reach=REACH)
    height = HEIGHTS.astype(float) - 3 + 3
    expected = 9 * gold.c9 / height**10 - 3 * gold.c3 / height**4
    assert np.abs(expected).min() > 1e-3
    np.testing.assert_allclose(near.force_z - without.force_z, np.tile(expected[:, None], 70), rtol=0, atol=1e-6)


def test_far_from_all_atoms_there_is_no_force(patch):
    far = relax_columns(patch, RIGID, scattered(60) + np.float32(500), HEIGHTS, reach=REACH)
    np.testing.assert_array_equal(far.force_z, np.zeros((8, 60)))
    assert np.asarray(far.converged).all()


@pytest.mark.parametrize("reach", [0, 0.0, -5.0, float("nan"), float("inf"), "a"])
def test_a_reach_that_is_none_is_refused(patch, reach):
    with pytest.raises(ValueError, match=rf"reach is {reach!r}: expected a positive number"):
        relax_columns(patch, RIGID, scattered(3), HEIGHTS, reach=reach)


def test_what_is_not_known_cannot_be_cut(patch):
    def force(positions, points, heights):
        return relax_columns(Atoms(patch.numbers, positions), RIGID, points, heights, reach=REACH).force_z

    known = (patch.positions, scattered(3), HEIGHTS)
    for index in range(3):

        def partly(value, index=index):
            return force(*known[:index], value, *known[index + 1 :])

        with pytest.raises(ValueError, match="differentiate with reach=None"):
            jax.jit(partly)(jnp.asarray(known[index]))
