from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

from twinscope.kernels import Atoms, Plane, ScanGrid, Tip, relax_columns, simulate

# All of these have the same shapes, so that the relaxation is compiled once for each precision.
CO = Tip()
TILTED = Tip(
    "Xe", rest=(0.5, -0.3, 4.0), stiffness=(0.2, 0.3, 0.05, 20.0), charges=((0.1, 0.0), (0.2, 0.3), (-0.1, -0.3))
)
HEIGHTS = np.linspace(8.0, 5.7, 24)
# Of one force, in eV/Å: float32 leaves 3e-6 at the worst place of the approaches here.
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
every_tip = pytest.mark.parametrize(("tip", "lift"), [(CO, 0.0), (TILTED, 1.5)], ids=["CO", "tilted"])


def random_points(dtype, count=60, seed=11):
    return np.random.default_rng(seed).uniform(-5, 5, (count, 2)).astype(dtype)


def residual(reference, atoms, tip, points, heights, displacement):
    """Sum of all forces on the probe (nz, n, 3), and of those of the sample alone along z."""
    u = np.asarray(displacement, float)
    anchors = np.array([[(x, y, z) for x, y in np.asarray(points, float)] for z in np.asarray(heights, float)])
    flat = (anchors + u + reference.rest(tip)).reshape(-1, 3)
    sample = reference.sample_force(atoms, tip, flat).reshape(u.shape)
    return sample + reference.spring_force(tip, u.reshape(-1, 3)).reshape(u.shape), sample[..., 2]


@every_tip
def test_the_probe_is_in_equilibrium_everywhere(reference, benzene, tip, lift, dtype):
    atoms, points, heights = benzene(dtype), random_points(dtype), (HEIGHTS + lift).astype(dtype)
    result = relax_columns(atoms, tip, points, heights)
    assert result.force_z.dtype == result.displacement.dtype == dtype
    assert np.asarray(result.converged).all()
    total, sample_z = residual(reference, atoms, tip, points, heights, result.displacement)
    assert np.abs(total).max() < TOLERANCE[dtype]
    np.testing.assert_allclose(result.force_z, sample_z, rtol=0, atol=TOLERANCE[dtype])
    # It is a real approach: from attraction into repulsion, with the probe far off its rest.
    assert sample_z.min() < -0.01
    assert sample_z.max() > 0.04
    assert np.abs(result.displacement).max() > 0.5


def test_the_equilibrium_is_a_minimum(reference, benzene, dtype):
    atoms, points, heights = benzene(dtype), random_points(dtype, 20), HEIGHTS.astype(dtype)
    u = np.asarray(relax_columns(atoms, CO, points, heights).displacement, float)[-1]
    anchors = np.concatenate([points, np.full((20, 1), heights[-1])], axis=1).astype(float)

    def energy(displacement):
        return reference.sample_energy(
            atoms, CO, anchors + reference.rest(CO) + displacement
        ) + reference.spring_energy(CO, displacement)

    rng = np.random.default_rng(12)
    for _ in range(50):
        direction = rng.normal(size=(20, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        assert (energy(u + 0.02 * direction) > energy(u)).all()


@every_tip
def test_far_away_the_probe_hangs_at_rest(benzene, tip, lift, dtype):
    heights = np.linspace(140, 100, 24).astype(dtype)
    result = relax_columns(benzene(dtype), tip, random_points(dtype), heights)
    assert np.asarray(result.converged).all()
    assert np.abs(result.displacement).max() < 2e-4
    assert np.abs(result.force_z).max() < 1e-6


@pytest.mark.parametrize("count", [1, 2, 100])
def test_a_column_does_not_depend_on_the_others(benzene, count):
    atoms, points, heights = benzene(), random_points("float32", 100), HEIGHTS.astype("float32")
    together = relax_columns(atoms, CO, points[-count:], heights)
    assert together.force_z.shape == (24, count)
    assert together.displacement.shape == (24, count, 3)
    few = relax_columns(atoms, CO, points[-60:], heights)
    n = min(count, 60)
    # Which slices are interpolated depends on all of them; that is right to 1e-5 eV/Å.
    np.testing.assert_allclose(together.force_z[:, -n:], few.force_z[:, -n:], rtol=0, atol=2e-5)
    np.testing.assert_allclose(together.displacement[:, -n:], few.displacement[:, -n:], rtol=0, atol=1e-3)


def test_slices_do_not_depend_on_those_that_follow(benzene, dtype):
    atoms, points, heights = benzene(dtype), random_points(dtype), HEIGHTS.astype(dtype)
    whole = relax_columns(atoms, CO, points, heights)
    # 17 heights are filled up to 24.
    upper = relax_columns(atoms, CO, points, heights[:17])
    assert upper.force_z.shape == (17, 60)
    np.testing.assert_allclose(upper.force_z, whole.force_z[:17], rtol=0, atol=TOLERANCE[dtype])


def test_waiting_at_a_height_changes_nothing(benzene, dtype):
    atoms, points, heights = benzene(dtype), random_points(dtype), HEIGHTS[:20].astype(dtype)
    waiting = np.concatenate([heights[:10], heights[9:10], heights[9:10], heights[10:], heights[-1:], heights[-1:]])
    result = relax_columns(atoms, CO, points, waiting)
    once = relax_columns(atoms, CO, points, heights)
    assert np.asarray(result.converged).all()
    for ours, index in ((9, 9), (10, 9), (11, 9), (12, 10), (21, 19), (22, 19), (23, 19)):
        np.testing.assert_allclose(result.force_z[ours], once.force_z[index], rtol=0, atol=TOLERANCE[dtype])


def test_coarse_slices_follow_the_same_branch_as_fine_ones(benzene, dtype):
    atoms, points, fine = benzene(dtype), random_points(dtype), HEIGHTS.astype(dtype)
    coarse = np.pad(fine[1::2], (0, 12), mode="edge")
    expected = relax_columns(atoms, CO, points, fine).force_z[1::2]
    # Next to a snap the minimum is so flat that float32 leaves more than elsewhere.
    tolerance = {"float32": 3e-5, "float64": 1e-9}[dtype]
    np.testing.assert_allclose(relax_columns(atoms, CO, points, coarse).force_z[:12], expected, rtol=0, atol=tolerance)


def test_a_stiff_tip_feels_the_force_where_it_hangs(reference, benzene, dtype):
    tip = Tip(stiffness=(1e6, 1e6, 1e6, 1e6))
    atoms, points, heights = benzene(dtype), random_points(dtype), HEIGHTS.astype(dtype)
    result = relax_columns(atoms, tip, points, heights)
    assert np.asarray(result.converged).all()
    assert np.abs(result.displacement).max() < 1e-5
    _, rigid = residual(reference, atoms, tip, points, heights, np.zeros((24, 60, 3)))
    np.testing.assert_allclose(result.force_z, rigid, rtol=1e-4, atol=1e-5)


def test_a_sixfold_molecule_gives_a_sixfold_and_mirrored_image(benzene, dtype):
    points = random_points(dtype, 20, seed=13)
    c, s = 0.5, 3**0.5 / 2
    turn, mirror = np.array([[c, -s], [s, c]]), np.diag([1.0, -1.0])
    points = np.concatenate([points, points @ turn.T, points @ mirror.T]).astype(dtype)
    result = relax_columns(benzene(dtype), CO, points, HEIGHTS.astype(dtype))
    force, (u, turned, mirrored) = np.asarray(result.force_z), np.split(np.asarray(result.displacement), 3, axis=1)
    tolerance = {"float32": 2e-5, "float64": 1e-9}[dtype]
    np.testing.assert_allclose(force[:, 20:40], force[:, :20], rtol=0, atol=tolerance)
    np.testing.assert_allclose(force[:, 40:], force[:, :20], rtol=0, atol=tolerance)
    # The probe is soft sideways: 0.0156 eV/Å².
    np.testing.assert_allclose(turned[..., :2], u[..., :2] @ turn.T, rtol=0, atol=100 * tolerance)
    np.testing.assert_allclose(mirrored[..., :2], u[..., :2] @ mirror, rtol=0, atol=100 * tolerance)


@every_tip
def test_only_relative_positions_count(benzene, tip, lift, dtype):
    shift = np.array([37.5, -12.25, 6.0])
    points, heights = random_points(dtype), (HEIGHTS + lift).astype(dtype)
    here = relax_columns(benzene(dtype), tip, points, heights)
    there = relax_columns(benzene(dtype, shift), tip, (points + shift[:2]).astype(dtype), (heights + 6).astype(dtype))
    # In float32 positions near 40 Å are rounded to 4e-6 Å.
    tolerance = {"float32": 3e-5, "float64": 1e-9}[dtype]
    np.testing.assert_allclose(there.force_z, here.force_z, rtol=0, atol=tolerance)


def test_a_mirrored_tip_over_a_mirrored_sample_gives_a_mirrored_image(benzene, dtype):
    atoms = benzene(dtype, (0.4, 0.2, 0.0))
    mirror = np.array([-1, 1, 1])
    mirrored = Atoms(atoms.numbers, (atoms.positions * mirror).astype(dtype), atoms.charges)
    x0, y0, length = TILTED.rest
    tip = Tip(TILTED.element, (-x0, y0, length), TILTED.stiffness, TILTED.charges)
    points, heights = random_points(dtype), (HEIGHTS + 1.5).astype(dtype)
    here = relax_columns(atoms, TILTED, points, heights)
    there = relax_columns(mirrored, tip, points * mirror[:2].astype(dtype), heights)
    np.testing.assert_allclose(there.force_z, here.force_z, rtol=0, atol=TOLERANCE[dtype])


def test_a_probe_that_starts_on_a_nucleus_is_flagged_and_harms_no_other(benzene, dtype):
    atoms, heights = benzene(dtype), HEIGHTS.astype(dtype)
    # The nucleus of one more carbon is where the probe hangs in the first slice of this column: all is infinite there.
    hopeless = np.array([[3.0, 2.0]], dtype)
    carbon = np.array([[3.0, 2.0, 5.0]], dtype)
    crowded = Atoms(np.append(atoms.numbers, 6), np.concatenate([atoms.positions, carbon]), np.append(atoms.charges, 0))
    others = (random_points(dtype, 30) * 0.5 - (3, 3)).astype(dtype)
    result = relax_columns(crowded, CO, np.concatenate([hopeless, others]), heights)
    assert not np.asarray(result.converged)[0, 0]
    assert np.asarray(result.converged)[:, 1:].all()
    assert np.isfinite(result.force_z).all()
    alone = relax_columns(crowded, CO, others, heights)
    np.testing.assert_allclose(result.force_z[:, 1:], alone.force_z, rtol=0, atol=TOLERANCE[dtype])


def test_a_minimum_so_flat_that_its_force_is_rounding_is_converged(benzene):
    # Near the middle of the ring the probe is about to snap at some height; there one step in float32 is never short.
    x, y = np.array([0.0793651, 0.2380952, 0.3968254]), np.array([0.2380952, 0.3968254, 0.5555556, 0.7142857])
    points = np.stack(np.meshgrid([x, -x], [y, -y]), axis=-1).reshape(-1, 2).astype("float32")
    result = relax_columns(benzene("float32"), CO, points, HEIGHTS.astype("float32"))
    assert np.asarray(result.converged).all()


@pytest.mark.parametrize("start", [5.2, 4.6, 4.0, 3.3])
def test_what_is_called_converged_is_in_equilibrium_wherever_the_tip_starts(reference, benzene, start, dtype):
    # The tip appears inside of the molecule: the probe may find no rest, but then it must say so.
    atoms, points = benzene(dtype), random_points(dtype, 60, seed=14) * 0.5
    heights = (start - 0.05 * np.arange(20)).astype(dtype)
    result = relax_columns(atoms, CO, points, heights)
    converged = np.asarray(result.converged)
    assert converged.mean() > 0.9
    total, _ = residual(reference, atoms, CO, points, heights, result.displacement)
    assert np.abs(total).max(axis=-1)[converged].max() < 30 * TOLERANCE[dtype]


@pytest.fixture
def nothing(dtype):
    return Atoms(np.array([1]), np.array([[0, 0, -1000]], dtype))


GOLD = Plane.of("Au", 0.059, 0.0, "O")


def force_of_gold(height):
    return 9 * GOLD.c9 / height**10 - 3 * GOLD.c3 / height**4


def test_a_tip_over_a_surface_alone_feels_the_surface(nothing, dtype):
    heights = (HEIGHTS + 0.5).astype(dtype)
    result = relax_columns(nothing, CO, random_points(dtype, 3), heights, GOLD)
    assert np.asarray(result.converged).all()
    radial = CO.stiffness[3] / 16.0217662
    for k, z in enumerate(heights.astype(float)):
        u = brentq(lambda u, z=z: force_of_gold(z - 3 + u) - radial * u, -0.3, 0.3, xtol=1e-15)
        # Slices in between are interpolated, in double precision to 2e-8 eV/Å.
        tolerance = max(TOLERANCE[dtype], 5e-8)
        np.testing.assert_allclose(result.force_z[k], force_of_gold(z - 3 + u), rtol=0, atol=tolerance)
        np.testing.assert_allclose(result.displacement[k], np.tile([0, 0, u], (3, 1)), rtol=0, atol=1e-5)


def test_a_probe_that_is_pushed_harder_than_its_spring_bears_buckles(nothing, dtype):
    # Upright, the probe bears k R = 0.047 eV/Å. Then it leans over, here along x, where the spring is softer.
    tip = Tip(rest=(0.02, 0.0, 3.0), stiffness=(0.25, 0.35, 0.0, 30.0))
    heights = (HEIGHTS - 0.3).astype(dtype)
    result = relax_columns(nothing, tip, random_points(dtype, 3), heights, GOLD)
    assert np.asarray(result.converged).all()
    force, (x, y, z) = np.asarray(result.force_z[-1], float), np.asarray(result.displacement[-1], float).T
    assert force_of_gold(heights[-1] - 3.0) > 3 * 0.047
    assert (np.abs(x) > 1).all()
    np.testing.assert_allclose(y, 0, atol=1e-3)
    np.testing.assert_allclose(force, 0.25 / 16.0217662 * x / (0.02 + x) * (3 - z), rtol=1e-4)
    np.testing.assert_allclose(force, force_of_gold(heights[-1].astype(float) - 3 + z), rtol=1e-3)


def test_a_probe_balanced_on_a_saddle_falls(reference, dtype):
    # Exactly above an atom nothing says to which side the probe should fall, once it is pushed beyond k R.
    adatom = Atoms(np.array([79]), np.zeros((1, 3), dtype))
    heights, points = (HEIGHTS - 0.3).astype(dtype), np.zeros((3, 2), dtype)
    result = relax_columns(adatom, CO, points, heights)
    aside = np.linalg.norm(np.asarray(result.displacement)[..., :2], axis=-1)
    assert np.asarray(result.converged).all()
    assert (aside[:5] < 1e-3).all()
    assert (aside[-1] > 0.3).all()
    total, _ = residual(reference, adatom, CO, points, heights, result.displacement)
    assert np.abs(total).max() < 3 * TOLERANCE[dtype]


def test_the_forces_of_sample_and_surface_add_up(reference, dtype):
    tip = Tip(stiffness=(1e6, 1e6, 1e6, 1e6))
    adatom = Atoms(np.array([79]), np.zeros((1, 3), dtype))
    points, heights = 0.3 * random_points(dtype, 3), HEIGHTS.astype(dtype)
    together = relax_columns(adatom, tip, points, heights, GOLD)
    _, alone = residual(reference, adatom, tip, points, heights, np.zeros((24, 3, 3)))
    expected = alone + force_of_gold(heights.astype(float) - 3)[:, None]
    assert np.abs(alone).max() > 0.01
    np.testing.assert_allclose(together.force_z, expected, rtol=1e-4, atol=TOLERANCE[dtype])


def test_an_image_is_its_columns_with_rows_along_y(benzene):
    atoms = benzene("float32", (0.7, -0.4, 0))
    x, y, z = (np.array(v, "float32") for v in ([-1.0, 0.5, 2.0], [-2.0, 1.0], HEIGHTS))
    image = simulate(atoms, CO, ScanGrid(x, y, z))
    assert image.force_z.shape == image.converged.shape == (24, 2, 3)
    assert image.displacement.shape == (24, 2, 3, 3)
    for iy, ix in np.ndindex(2, 3):
        column = relax_columns(atoms, CO, np.array([[x[ix], y[iy]]]), z)
        np.testing.assert_allclose(image.force_z[:, iy, ix], column.force_z[:, 0], rtol=0, atol=2e-5)
        np.testing.assert_allclose(image.displacement[:, iy, ix], column.displacement[:, 0], rtol=0, atol=1e-3)


def test_double_precision_where_jax_has_none_is_single_precision(benzene):
    result = relax_columns(benzene("float64"), CO, random_points("float64"), HEIGHTS)
    single = relax_columns(benzene("float32"), CO, random_points("float32"), HEIGHTS.astype("float32"))
    assert result.force_z.dtype == np.float32
    np.testing.assert_allclose(result.force_z, single.force_z, rtol=0, atol=1e-5)


def test_slices_are_relaxed_or_interpolated_and_say_which(reference, benzene, x64):
    points, heights = random_points("float64"), np.linspace(9.0, 8.5, 24)
    result = relax_columns(benzene("float64"), CO, points, heights)
    evaluations = np.asarray(result.evaluations)
    relaxed = evaluations[:, 0] > 0
    # Slices are interpolated for all columns together, but never the first or the last.
    np.testing.assert_array_equal(evaluations > 0, np.tile(relaxed[:, None], 60))
    assert relaxed[[0, -1]].all()
    assert relaxed.sum() < 12
    total, _ = residual(reference, benzene("float64"), CO, points, heights, result.displacement)
    left = np.abs(total).max(axis=(1, 2))
    # Measured: 3e-13 eV/Å where the probe was relaxed, 4e-12 to 4e-10 between.
    assert left[relaxed].max() < 1e-12
    assert left[~relaxed].min() > 1e-12


def test_far_away_most_slices_are_interpolated(benzene):
    heights = np.linspace(20, 12, 24, dtype="float32")
    evaluations = np.asarray(relax_columns(benzene(), CO, random_points("float32"), heights).evaluations)
    # Measured: 0.25 for each slice and column.
    assert 0 < evaluations.mean() < 0.5


def test_a_probe_snaps_where_its_spring_is_softer_than_the_pull(dtype):
    # A vertical spring above one atom; test_kernels_cycle.py follows it on the way back.
    depth, radius, k = 0.1, 4.0, 0.5 / 16.0217662
    # Eleven more atoms do nothing: shapes are those of a benzene.
    parameters = np.array([[radius / 2, depth]] + 11 * [[1.0, 0.0]])
    adatom = Atoms(np.full(12, 54), np.zeros((12, 3), dtype), np.zeros(12, dtype), lennard_jones=parameters)

    def pull(r):
        return 12 * depth / r * ((radius / r) ** 12 - (radius / r) ** 6)

    def gradient(r):
        return -12 * depth / r**2 * (13 * (radius / r) ** 12 - 7 * (radius / r) ** 6)

    steepest = minimize_scalar(lambda r: -gradient(r), bounds=(4, 6), method="bounded").x
    lost = brentq(lambda r: gradient(r) - k, steepest, 12)
    height = lost + 4 - pull(lost) / k
    np.testing.assert_allclose(height, 10.38043, atol=1e-5)

    def snapped(stiffness, heights):
        tip = Tip("Xe", (0.0, 0.0, 4.0), (20.0, 20.0, stiffness, 0.0), lennard_jones=(radius / 2, depth))
        result = relax_columns(adatom, tip, np.zeros((3, 2), dtype), heights)
        assert np.asarray(result.converged).all()
        return np.asarray(result.snapped)

    for offset in (0.001, 0.03, 0.049):
        heights = (height + 0.5 + offset - 0.05 * np.arange(24)).astype(dtype)
        expected = np.arange(24) == np.flatnonzero(heights < height)[0]
        np.testing.assert_array_equal(snapped(0.5, heights), np.tile(expected[:, None], 3))
        # This spring is stiffer than the steepest pull, 0.75 N/m.
        assert not snapped(0.85, heights).any()


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Hole:
    """No forces, and no numbers where x is larger than an edge; counts its evaluations."""

    edge: float
    evaluated: list = field(metadata={"static": True})

    def force_and_hessian(self, points):
        jax.debug.callback(lambda: self.evaluated.append(1))
        values = jnp.where(points[0] > self.edge, jnp.nan, jnp.zeros_like(points[0]))
        return (values,) * 3, (values,) * 6


class Count(list):
    """A list that is itself and no other, as what is compiled must know."""

    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other


def test_a_probe_that_runs_into_what_is_no_number_is_flagged_at_once_and_harms_no_other(benzene):
    points, heights = random_points("float32"), HEIGHTS.astype("float32")
    count = Count()

    def run(edge):
        count.clear()
        result = jax.block_until_ready(relax_columns(benzene(), CO, points, heights, Hole(edge, count)))
        jax.effects_barrier()
        return result, len(count)

    whole, expected = run(np.float32(100.0))
    result, evaluated = run(np.float32(2.8))
    x = points[:, 0] + np.asarray(whole.displacement)[..., 0]
    beyond, lost = x > 2.8, ~np.asarray(result.converged)
    # Some are there from the start, others get there when they are pushed.
    assert (beyond.any(axis=0) & ~beyond[0]).any()
    assert lost[beyond].all()
    # Those that hang there at first have nothing to begin with.
    assert not lost[:, ~beyond.any(axis=0) & (points[:, 0] < 2.8)].any()
    assert np.isfinite(result.force_z).all()
    assert np.isfinite(result.displacement).all()
    np.testing.assert_allclose(np.where(lost, 0, result.force_z - whole.force_z), 0, rtol=0, atol=2e-5)
    # Nothing is interpolated any more, and what is lost is given up at once, not after 150 steps at every height:
    # measured 30 and 91 evaluations.
    assert expected < evaluated < 10 * len(heights)


@pytest.mark.parametrize("substeps", [0, -1, 101, 1.5, "2", True, float("nan"), None])
def test_a_number_of_steps_that_is_none_is_refused(benzene, substeps):
    with pytest.raises(ValueError, match=rf"substeps is {substeps!r}: expected a whole number from 1 to 100"):
        relax_columns(benzene(), CO, random_points("float32"), HEIGHTS.astype("float32"), substeps=substeps)
