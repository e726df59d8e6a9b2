import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twinscope.kernels import Atoms, GridEnergy, Plane, ScanGrid, Tip, Volume, simulate, simulate_batch

# Its time is that of compiling.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

# As many heights as in test_kernels_relax.py, whose compiled programs serve here too.
HEIGHTS = np.linspace(8.0, 5.9, 24)
CO = Tip()
# As many charges beside the probe as CO has.
SOFT = Tip("Xe", (0.3, -0.2, 3.0), (0.2, 0.3, 0.05, 20.0), ((0.1, 0.2), (0.2, 0.0), (-0.1, -0.2)))
STIFF = Tip(stiffness=(0.5, 0.5, 0.0, 30.0))
TIPS = [CO, SOFT, STIFF]
PLANES = [(Plane.of("Au", 0.059, z, "O"),) for z in (-3.0, -2.5, -4.0)]
# Which slices are interpolated may differ, which is right to 1e-5 eV/Å; the springs are soft.
FORCE, DISTANCE = 2e-5, 2e-3


def grid(dtype="float32", shift=0.0, heights=HEIGHTS):
    return ScanGrid(*(v.astype(dtype) for v in (np.linspace(-3, 4, 6) + shift, np.linspace(-2, 2, 3), heights)))


GRIDS = [grid(shift=shift) for shift in (0.0, 0.7, -0.4)]


@pytest.fixture
def samples(benzene):
    """Samples of 12, 3 and 11 atoms: first and last are computed together, the one in the middle alone."""
    water = Atoms(
        np.array([8, 1, 1]),
        np.array([[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]], "float32"),
        np.array([-0.8, 0.4, 0.4], "float32"),
    )
    ring = benzene(shift=(-1, 1, -0.3))
    both = Atoms(
        np.concatenate([ring.numbers[:8], water.numbers]),
        np.concatenate([ring.positions[:8], water.positions + np.float32([3, -1, 0])]),
        np.concatenate([ring.charges[:8], water.charges]),
    )
    return [benzene(), water, both]


def of(batch, number):
    return jax.tree.map(lambda values: values[number], batch)


def assert_same(ours, single):
    """Compare one simulation of a batch with itself alone."""
    assert jax.tree.map(np.shape, ours) == jax.tree.map(np.shape, single)
    assert jax.tree.map(lambda values: values.dtype, ours) == jax.tree.map(lambda values: values.dtype, single)
    np.testing.assert_array_equal(ours.converged, single.converged)
    np.testing.assert_array_equal(ours.snapped, single.snapped)
    np.testing.assert_allclose(ours.force_z, single.force_z, rtol=0, atol=FORCE)
    np.testing.assert_allclose(ours.displacement, single.displacement, rtol=0, atol=DISTANCE)


@pytest.mark.parametrize(
    "options", [{}, {"lennard_jones": False, "substeps": 5}], ids=["plain", "charges alone, more steps"]
)
def test_a_batch_is_what_its_simulations_are_one_after_the_other(samples, options):
    batch = simulate_batch(samples, TIPS, GRIDS, PLANES, **options)
    assert batch.force_z.shape == batch.evaluations.shape == (3, 24, 3, 6)
    assert batch.displacement.shape == (3, 24, 3, 6, 3)
    assert np.asarray(batch.converged).all()
    for number, (atoms, tip, one, terms) in enumerate(zip(samples, TIPS, GRIDS, PLANES, strict=True)):
        assert_same(of(batch, number), simulate(atoms, tip, one, *terms, **options))
    # They differ from each other by far more than what is tolerated.
    force = np.asarray(batch.force_z)
    assert all(np.abs(force[a] - force[b]).max() > 100 * FORCE for a, b in ((0, 1), (1, 2), (0, 2)))


def test_the_options_count(samples):
    plain = np.asarray(simulate_batch(samples, TIPS, GRIDS, PLANES).force_z)
    charges = np.asarray(simulate_batch(samples, TIPS, GRIDS, PLANES, lennard_jones=False).force_z)
    weaker = np.asarray(simulate_batch(samples, TIPS, GRIDS, PLANES[::-1]).force_z)
    assert np.abs(charges - plain).max(axis=(1, 2, 3)).min() > 1e-3
    # The plane of the one in the middle stays where it is.
    np.testing.assert_array_equal(np.abs(weaker - plain).max(axis=(1, 2, 3)) > 1e-4, [True, False, True])


def test_the_order_of_a_batch_is_kept(samples):
    forward = simulate_batch(samples, TIPS, GRIDS, PLANES)
    backward = simulate_batch(samples[::-1], TIPS[::-1], GRIDS[::-1], PLANES[::-1])
    for number in range(3):
        assert_same(of(backward, number), of(forward, 2 - number))


def test_a_batch_of_one_has_a_leading_axis(samples):
    last = simulate_batch(samples[2:], STIFF, GRIDS[2], PLANES[2:])
    assert last.force_z.shape == (1, 24, 3, 6)
    assert_same(of(last, 0), of(simulate_batch(samples, TIPS, GRIDS, PLANES), 2))


def test_more_columns_than_a_tile_holds_keep_their_simulation_and_place(benzene):
    x, y = np.linspace(-4, 4, 97, dtype="float32"), np.linspace(-4, 4, 53, dtype="float32")
    molecules = [benzene(), benzene(shift=(1.5, 0, -0.5))]
    # One tip and one grid serve both.
    batch = simulate_batch(molecules, CO, ScanGrid(x, y, HEIGHTS.astype("float32")))
    assert batch.force_z.shape == (2, 24, 53, 97)
    few = ScanGrid(x[::16], y[::7], HEIGHTS.astype("float32"))
    for number, atoms in enumerate(molecules):
        expected = simulate(atoms, CO, few)
        np.testing.assert_allclose(batch.force_z[number, :, ::7, ::16], expected.force_z, rtol=0, atol=FORCE)
        np.testing.assert_allclose(
            batch.displacement[number, :, ::7, ::16], expected.displacement, rtol=0, atol=DISTANCE
        )


def test_compiled_with_unknown_positions_it_is_the_same_and_derivatives_belong_to_their_simulation(benzene, x64):
    molecules = [benzene("float64"), benzene("float64", (1.5, 0.4, -0.5)), benzene("float64", (0, -1, 0.1))]
    heights = HEIGHTS[:21].copy()
    weight = np.random.default_rng(3).normal(size=(21, 3, 6))

    def total(positions, factors):
        moved = [Atoms(s.numbers, p, s.charges) for s, p in zip(molecules, positions, strict=True)]
        scan = simulate_batch(moved, CO, grid("float64", heights=heights))
        return jnp.sum(factors * jnp.sum(weight * scan.force_z, axis=(1, 2, 3))), scan

    compiled = jax.jit(jax.value_and_grad(total, has_aux=True))
    positions = jnp.stack([atoms.positions for atoms in molecules])
    # The simulation in the middle does not count.
    factors = jnp.array([1.0, 0.0, 2.0])
    (_, scan), slopes = compiled(positions, factors)
    for number, atoms in enumerate(molecules):
        alone = simulate(atoms, CO, grid("float64", heights=heights))
        np.testing.assert_allclose(scan.force_z[number], alone.force_z, rtol=0, atol=1e-9)
    assert np.abs(slopes[0]).max() > 0.01
    np.testing.assert_array_equal(slopes[1], 0)

    step = 1e-4
    direction = np.random.default_rng(4).normal(size=positions.shape)
    (ahead, _), _ = compiled(positions + step * direction, factors)
    (back, _), _ = compiled(positions - step * direction, factors)
    np.testing.assert_allclose(jnp.sum(slopes * direction), (ahead - back) / (2 * step), rtol=1e-5)


@pytest.mark.parametrize(
    ("tip", "grids", "terms", "message"),
    [
        ([CO], grid(), (), "tip has 1 entries: expected one for each of 2 simulations, or one alone"),
        (CO, [grid()] * 3, (), "grid has 3 entries: expected one for each of 2"),
        (CO, grid(), [()], "terms has 1 entries: expected one for each of 2"),
        (CO, [grid(), grid(heights=HEIGHTS[:5])], (), r"shapes \[\(5, 3, 6\), \(24, 3, 6\)\]"),
        ([CO, Tip("Qq")], grid(), (), "simulation 1: unknown element 'Qq'"),
        ([Tip(stiffness=(0.1, 0.1, 0.0, 0.0)), CO], grid(), (), "simulation 0: tip.stiffness"),
        (CO, [grid(), grid(heights=HEIGHTS[::-1])], (), "simulation 1: z must go from far to near"),
    ],
)
def test_what_does_not_fit_together_is_refused(benzene, tip, grids, terms, message):
    with pytest.raises(ValueError, match=message):
        simulate_batch([benzene(), benzene()], tip, grids, terms)


def test_a_bad_sample_is_named(benzene):
    broken = benzene()
    broken.positions[4, 1] = np.nan
    with pytest.raises(ValueError, match=r"simulation 2: atoms.positions\[4, 1\] is nan"):
        simulate_batch([benzene(), benzene(), broken], CO, grid())


def test_charged_and_uncharged_samples_and_soft_and_rigid_tips_go_together(benzene):
    charged = benzene()
    samples = [charged, Atoms(charged.numbers, charged.positions), charged]
    tips = [CO, CO, Tip(rigid=True)]
    together = simulate_batch(samples, tips, grid())
    for number, (sample, tip) in enumerate(zip(samples, tips, strict=True)):
        alone = simulate(sample, tip, grid())
        np.testing.assert_allclose(together.force_z[number], alone.force_z, rtol=0, atol=1e-6)


def energy_grid(count, height=8.0):
    cell = np.diag([16.0, 16.0, height])
    return GridEnergy.of(Volume(np.zeros((count,) * 3, "float32"), cell, (-7.0, -7.0, 0.0), (False,) * 3))


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (energy_grid(10, height=4.0), "simulation 1: the probe would leave the energy grid along its vector 3"),
    ],
)
def test_grids_of_terms_hold_the_scan(benzene, second, message):
    with pytest.raises(ValueError, match=message):
        simulate_batch([benzene()] * 2, CO, grid(), [(energy_grid(10),), (second,)])
