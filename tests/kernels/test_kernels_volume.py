import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twinscope.kernels import GridEnergy, TermSum, Volume, resample
from twinscope.kernels._grid_energy import check_inside, check_reach

TRICLINIC = np.array([[6.0, 0.3, -0.2], [1.8, 5.1, 0.4], [-0.5, 0.7, 7.0]])
ORIGIN = (-1.0, 0.5, 2.0)
SHAPE = (24, 20, 27)


def points_of(volume):
    """Positions (nx, ny, nz, 3) of a grid, by the definition in the class."""
    nx, ny, nz = volume.values.shape
    i, j, k = np.meshgrid(np.arange(nx) / nx, np.arange(ny) / ny, np.arange(nz) / nz, indexing="ij")
    a, b, c = np.asarray(volume.cell)
    return np.asarray(volume.origin) + i[..., None] * a + j[..., None] * b + k[..., None] * c


def on_grid(function, shape=SHAPE, cell=TRICLINIC, origin=ORIGIN, periodic=(True, True, True)):
    volume = Volume(np.zeros(shape), cell, origin, periodic)
    return Volume(function(points_of(volume)), cell, origin, periodic)


def waves(points):
    """A function that repeats itself in the triclinic cell."""
    phase = 2 * np.pi * (points - ORIGIN) @ np.linalg.inv(TRICLINIC)
    a, b, c = phase[..., 0], phase[..., 1], phase[..., 2]
    return np.sin(a) * np.cos(b + c) + 0.5 * np.cos(2 * b - a) + 0.3 * np.sin(c - a)


def cubic(points):
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    return 0.3 - x + 0.2 * x * y + 0.1 * z**3 - 0.05 * x * y * z + 0.07 * x**2 * z - 0.02 * y**3 + 0.1 * z


def random_inside(count=60, low=0.0, high=1.0, seed=0, shape=SHAPE):
    """Points of the triclinic cell between its fractions, up to the last point of the grid."""
    fractions = np.random.default_rng(seed).uniform(low, high, (count, 3)) * (1 - 1 / np.array(shape))
    return ORIGIN + fractions @ TRICLINIC


energy_of = jax.jit(lambda term, points: term.energy(points))
force_and_hessian_of = jax.jit(lambda term, points: term.force_and_hessian(points))


def energy(term, points):
    return np.asarray(energy_of(term, jnp.asarray(np.asarray(points).T)))


def force_and_hessian(term, points):
    force, (xx, xy, xz, yy, yz, zz) = force_and_hessian_of(term, jnp.asarray(points.T))
    hessian = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return np.array(force).T, np.moveaxis(hessian, -1, 0)


@pytest.mark.parametrize("periodic", [(True, True, True), (True, True, False), (False, True, False), (False,) * 3])
def test_the_spline_passes_through_the_values_of_the_grid(periodic, x64):
    values = np.random.default_rng(1).normal(size=(5, 7, 4))
    volume = Volume(values, TRICLINIC, ORIGIN, periodic)
    grid = GridEnergy.of(volume)
    assert grid.shape == values.shape
    np.testing.assert_allclose(energy(grid, points_of(volume).reshape(-1, 3)), values.reshape(-1), atol=1e-12)


def test_cubic_polynomials_are_exact_up_to_the_border(x64):
    grid = GridEnergy.of(on_grid(cubic, periodic=(False,) * 3))
    points = random_inside()
    np.testing.assert_allclose(energy(grid, points), cubic(points), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("periodic", [(True, True, True), (False, False, False), (True, False, True)])
def test_force_and_hessian_are_the_slopes_of_the_energy(periodic, x64):
    # Noise, the worst there is to interpolate.
    volume = Volume(np.random.default_rng(2).normal(size=(9, 8, 10)), TRICLINIC, ORIGIN, periodic)
    grid = GridEnergy.of(volume)
    points, step = random_inside(80, 0.1, 0.8, shape=(9, 8, 10)), 1e-4
    force, hessian = force_and_hessian(grid, points)
    slope = [(energy(grid, points + d) - energy(grid, points - d)) / (2 * step) for d in step * np.eye(3)]
    np.testing.assert_allclose(force, -np.stack(slope, axis=-1), rtol=1e-6, atol=1e-6)
    slope = [
        (force_and_hessian(grid, points + d)[0] - force_and_hessian(grid, points - d)[0]) / (2 * step)
        for d in step * np.eye(3)
    ]
    # The third derivative jumps where a step crosses from one cell of the grid to the next.
    np.testing.assert_allclose(hessian, -np.stack(slope, axis=-1), rtol=1e-4, atol=5e-3)


def test_force_and_hessian_are_those_that_jax_derives(x64):
    grid = GridEnergy.of(on_grid(waves))
    points = jnp.asarray(random_inside(10).T)
    force, hessian = force_and_hessian(grid, np.asarray(points).T)
    np.testing.assert_allclose(force.T, -jax.grad(lambda p: energy_of(grid, p).sum())(points), atol=1e-12)
    direction = np.array([0.3, -0.5, 0.8])
    along = jnp.broadcast_to(direction[:, None], points.shape)
    _, change = jax.jvp(lambda p: jnp.stack(force_and_hessian_of(grid, p)[0]), (points,), (along,))
    np.testing.assert_allclose(hessian @ direction, -change.T, atol=1e-11)


def test_a_periodic_energy_repeats_itself_in_a_triclinic_cell(x64):
    grid = GridEnergy.of(on_grid(waves))
    points = random_inside(40, -0.5, 0.5)
    # A spline is wrong by the fourth power of the step: measured 4e-4 here, and 16 times less with half of the step.
    np.testing.assert_allclose(energy(grid, points), waves(points), atol=1e-3)
    finer = GridEnergy.of(on_grid(waves, shape=tuple(2 * n for n in SHAPE)))
    np.testing.assert_allclose(energy(finer, points), waves(points), atol=1e-3 / 14)
    for shift in (TRICLINIC[0], -2 * TRICLINIC[1] + TRICLINIC[2], 3 * TRICLINIC.sum(axis=0)):
        np.testing.assert_allclose(energy(grid, points + shift), energy(grid, points), atol=1e-12)
        for ours, expected in zip(
            force_and_hessian(grid, points + shift), force_and_hessian(grid, points), strict=True
        ):
            np.testing.assert_allclose(ours, expected, atol=1e-11)


def test_nothing_jumps_at_the_border_of_a_periodic_cell(x64):
    grid = GridEnergy.of(Volume(np.random.default_rng(3).normal(size=(6, 5, 7)), TRICLINIC, ORIGIN))
    on_border = ORIGIN + np.array([[0.0, 0.3, 0.2], [1.0, 0.3, 0.2], [0.4, 0.0, 0.7], [0.1, 0.6, 1.0]]) @ TRICLINIC
    inwards = 1e-9 * np.ones(3)
    for before, behind in zip(
        force_and_hessian(grid, on_border - inwards), force_and_hessian(grid, on_border + inwards), strict=True
    ):
        np.testing.assert_allclose(before, behind, atol=1e-5)


def test_outside_of_a_grid_that_is_not_periodic_there_is_no_number():
    grid = GridEnergy.of(on_grid(cubic, periodic=(True, False, False)))
    last = 1 - 1 / np.array(SHAPE)
    fractions = np.array([[2.5, 0.5, 0.5], [0.5, 0, 0], [0.5, last[1], last[2]]])
    outside = np.array([[0.5, -0.01, 0.5], [0.5, last[1] + 0.01, 0.5], [0.5, 0.5, -0.01], [0.5, 0.5, 5.0]])
    points = ORIGIN + np.concatenate([fractions, outside, [[np.nan] * 3, [0.5, np.inf, 0.5]]]) @ TRICLINIC
    for result in (energy(grid, points.astype("float32")), *force_and_hessian(grid, points.astype("float32"))):
        finite = np.isfinite(result.reshape(len(points), -1))
        assert finite[:3].all()
        assert not finite[3:].any()


def test_positions_that_are_no_numbers_give_none_in_a_periodic_grid():
    grid = GridEnergy.of(on_grid(waves))
    assert np.isnan(energy(grid, np.array([[np.nan, 0, 0], [0, np.inf, 0]], "float32"))).all()


def test_single_precision_keeps_six_digits():
    grid = GridEnergy.of(on_grid(waves))
    points = random_inside(100).astype("float32")
    assert energy(grid, points).dtype == np.float32
    with jax.enable_x64(True):
        exact = GridEnergy.of(on_grid(waves))
        for ours, expected in zip(
            (energy(grid, points), *force_and_hessian(grid, points)),
            (energy(exact, points.astype(float)), *force_and_hessian(exact, points.astype(float))),
            strict=True,
        ):
            np.testing.assert_allclose(ours, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("periodic", [(True, True, True), (True, False, False)])
def test_building_and_evaluating_can_be_differentiated(periodic, x64):
    volume = on_grid(cubic, shape=(6, 5, 7), periodic=periodic)
    points = jnp.asarray(random_inside(5, shape=(6, 5, 7)).T)

    def total(values):
        return jnp.sum(GridEnergy.of(Volume(values, volume.cell, volume.origin, periodic)).energy(points) ** 2)

    direction = np.random.default_rng(4).normal(size=volume.values.shape)
    slope = jnp.vdot(jax.jit(jax.grad(total))(jnp.asarray(volume.values)), direction)
    step = 1e-5
    difference = (total(volume.values + step * direction) - total(volume.values - step * direction)) / (2 * step)
    np.testing.assert_allclose(slope, difference, rtol=1e-6)


def test_a_resampled_volume_has_the_same_values_at_the_same_places(x64):
    volume = on_grid(waves)
    like = on_grid(waves, shape=(30, 31, 32), cell=TRICLINIC * 0.7, origin=(3.0, 1.0, 0.0))
    np.testing.assert_allclose(resample(volume, like).values, like.values, atol=1e-3)
    with pytest.raises(ValueError, match=r"\d+ of 29760 points of the new grid lie outside of the old: expected none"):
        resample(on_grid(waves, periodic=(True, True, False)), like)


def test_a_scan_that_leaves_a_grid_is_refused():
    slab = GridEnergy.of(Volume(np.zeros((10, 10, 20)), np.diag([5.0, 5.0, 10.0]), (0, 0, -2.0), (True, True, False)))
    check_reach(TermSum((slab,)), (-50, -50, -2), (50, 50, 7.5))
    check_reach(TermSum(()), (-50, -50, -2), (50, 50, 7.5))
    with pytest.raises(ValueError, match=r"along its vector 3 by 0.50 Å: it goes from 0.00 to 10.00 Å of a grid that"):
        check_reach(TermSum((slab,)), (-50, -50, -2), (50, 50, 8))
    box = GridEnergy.of(Volume(np.zeros(SHAPE), TRICLINIC, ORIGIN, (False,) * 3))
    middle = ORIGIN + TRICLINIC.sum(axis=0) / 2
    check_reach(box, middle - 1, middle + 1)
    with pytest.raises(ValueError, match="along its vector 2 by"):
        check_reach(box, middle - (0, 4, 0), middle)


def test_a_scan_is_checked_at_the_rest_position_of_the_probe_and_as_far_as_it_may_wander():
    grid = GridEnergy.of(Volume(np.zeros((11, 11, 11)), 11 * np.eye(3), periodic=(False,) * 3))
    points, heights = np.array([[1.0, 1.0], [9.0, 5.0]]), np.array([13.0, 3.0])
    check_inside((grid,), points, heights, (0, 0, -3), (1, 1, 0))
    with pytest.raises(ValueError, match=r"along its vector 1 by 0\.50 Å"):
        check_inside((grid,), points, heights, (0, 0, -3), (1.5, 1, 0))
    with pytest.raises(ValueError, match=r"along its vector 3 by 1\.00 Å"):
        check_inside((grid,), points, heights, (0, 0, -4), (1, 1, 0))
    jax.jit(lambda heights: check_inside((grid,), points, heights, (0, 0, -4), (1, 1, 0)))(heights)


def test_volumes_know_their_geometry():
    volume = Volume(np.full((4, 5, 6), 2.0), TRICLINIC, ORIGIN)
    np.testing.assert_allclose(volume.steps, TRICLINIC / np.array([[4], [5], [6]]))
    np.testing.assert_allclose(volume.integral, 2 * abs(np.linalg.det(TRICLINIC)))
    np.testing.assert_allclose(volume.shifted((1, 2, 3)).origin, [0, 2.5, 5])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros((3, 5, 5))}, r"energy.values has shape \(3, 5, 5\): expected .* at least 4 points"),
        ({"values": np.zeros((5, 5))}, r"energy.values has shape \(5, 5\)"),
        ({"values": np.full((5, 5, 5), np.nan)}, r"energy.values\[0, 0, 0\] is nan, one of 125: expected finite"),
        ({"cell": np.eye(2)}, r"energy.cell has shape \(2, 2\): expected \(3, 3\)"),
        ({"cell": np.ones((3, 3))}, "expected three vectors that span a volume"),
        ({"origin": (0.0, 0.0)}, r"energy.origin has shape \(2,\)"),
        ({"periodic": (True, True)}, "energy.periodic is .*: expected True or False for each"),
    ],
)
def test_a_volume_that_makes_no_sense_is_named(change, message):
    good = {"values": np.zeros((5, 5, 5)), "cell": np.eye(3), "origin": (0, 0, 0), "periodic": (True, True, True)}
    with pytest.raises(ValueError, match=message):
        GridEnergy.of(Volume(**good | change))
