import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twinscope.kernels import Atoms, PairSites, Plane, Tip, pair_terms, relax_columns
from twinscope.kernels._pairs import bucket

SEVERAL_CHARGES = ((-0.3, 0.8), (0.5, 0.0), (0.7, 0.0), (-0.2, -0.25))
TIPS = {
    "CO": Tip(),
    "Xe": Tip("Xe", charges=((0.3, 0.0),)),
    "several charges": Tip(17, charges=SEVERAL_CHARGES),
    "no charges": Tip("O", charges=()),
}


def random_points(count, seed=0):
    """Points from 2.5 Å above the atoms upwards."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(-6, 6, (count, 2)), rng.uniform(2.5, 8, (count, 1))], axis=1)


def random_atoms(dtype, count=11, seed=1, charged=True):
    rng = np.random.default_rng(seed)
    charges = rng.uniform(-0.5, 0.5, count).astype(dtype) if charged else None
    positions = rng.uniform((-4, -4, -1.5), (4, 4, 0), (count, 3)).astype(dtype)
    return Atoms(rng.choice([1, 6, 7, 8, 17, 35, 79], count), positions, charges)


@jax.jit
def _evaluate(term, points):
    return term.force_and_hessian(points)


def evaluate(term, points):
    """Force (n, 3) and Hessian (n, 3, 3) of a term."""
    force, (xx, xy, xz, yy, yz, zz) = _evaluate(term, jnp.asarray(np.asarray(points).T))
    hessian = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return np.array(force).T, np.moveaxis(hessian, -1, 0)


def assert_hessian_is_the_slope_of_the_force(term, points, step=1e-4):
    """Compare with central differences; for a step of 1e-4 Å their own error is below 1e-6 of the Hessian."""
    _, hessian = evaluate(term, points)
    forces = [(evaluate(term, points + d)[0], evaluate(term, points - d)[0]) for d in step * np.eye(3)]
    differences = np.stack([(plus - minus) / (2 * step) for plus, minus in forces], axis=-1)
    np.testing.assert_allclose(hessian, -differences, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("tip", TIPS.values(), ids=TIPS.keys())
def test_pair_forces_are_the_direct_sum(reference, tip, x64):
    atoms, points = random_atoms("float64"), random_points(200)
    force, _ = evaluate(pair_terms(atoms, tip), points)
    np.testing.assert_allclose(force, reference.sample_force(atoms, tip, points), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("tip", TIPS.values(), ids=TIPS.keys())
def test_pair_forces_in_single_precision_are_right_to_a_few_millionths(reference, tip):
    atoms, points = random_atoms("float32"), random_points(200).astype("float32")
    force, _ = evaluate(pair_terms(atoms, tip), points)
    assert force.dtype == np.float32
    # The charges of the quadrupole, 10 e, cancel almost: 3.9e-6 eV/Å remain.
    np.testing.assert_allclose(force, reference.sample_force(atoms, tip, points), rtol=1e-5, atol=6e-6)


def test_the_reference_force_is_minus_the_gradient_of_the_reference_energy(reference):
    atoms, points, tip = random_atoms("float64"), random_points(50), TIPS["several charges"]
    gradient = reference.gradient(lambda p: reference.sample_energy(atoms, tip, p), points)
    np.testing.assert_allclose(reference.sample_force(atoms, tip, points), -gradient, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("tip", TIPS.values(), ids=TIPS.keys())
def test_the_hessian_of_pairs_is_the_slope_of_their_force(tip, x64):
    assert_hessian_is_the_slope_of_the_force(pair_terms(random_atoms("float64"), tip), random_points(100))


def test_a_point_far_outside_of_the_sample_keeps_its_digits(reference):
    atoms, tip = random_atoms("float32"), Tip()
    points = np.concatenate([random_points(63), [[60.0, -80.0, 4.0]]]).astype("float32")
    force, _ = evaluate(pair_terms(atoms, tip), points)
    np.testing.assert_allclose(force, reference.sample_force(atoms, tip, points), rtol=2e-5, atol=3e-6)


def test_a_neutral_sample_gives_the_same_with_charges_of_zero_and_without(reference):
    without = random_atoms("float32", charged=False)
    zero = Atoms(without.numbers, without.positions, np.zeros(len(without.numbers), "float32"))
    points = random_points(20).astype("float32")
    expected = reference.sample_force(without, Tip(charges=()), points)
    for atoms in (without, zero):
        np.testing.assert_allclose(evaluate(pair_terms(atoms, Tip()), points)[0], expected, rtol=1e-5, atol=2e-6)
    assert len(pair_terms(without, Tip()).terms) < len(pair_terms(zero, Tip()).terms)


def test_periodic_images_are_an_explicit_supercell(reference, x64):
    cell = np.array([[6.0, 0.5, 0.0], [-2.0, 7.0, 0.3], [0.0, 0.0, 15.0]])
    part = random_atoms("float64", count=5)
    atoms = Atoms(part.numbers, part.positions, part.charges, cell, (2, 1, 0))
    shifts = np.array([i * cell[0] + j * cell[1] for i in range(-2, 3) for j in range(-1, 2)])
    supercell = Atoms(
        np.tile(part.numbers, 15), (part.positions + shifts[:, None]).reshape(-1, 3), np.tile(part.charges, 15)
    )
    tip, points = TIPS["several charges"], random_points(50)
    force, hessian = evaluate(pair_terms(atoms, tip), points)
    explicit_force, explicit_hessian = evaluate(pair_terms(supercell, tip), points)
    np.testing.assert_allclose(force, explicit_force, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(hessian, explicit_hessian, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(force, reference.sample_force(atoms, tip, points), rtol=1e-9, atol=1e-12)


def test_a_cell_without_images_is_an_isolated_sample():
    part = random_atoms("float32")
    with_cell = Atoms(part.numbers, part.positions, part.charges, 10 * np.eye(3))
    sites, isolated = pair_terms(with_cell, Tip()), pair_terms(part, Tip())
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(sites), jax.tree.leaves(isolated), strict=True))


def test_sites_that_fill_the_list_up_do_not_pull():
    atoms, points = random_atoms("float32", count=1), random_points(5).astype("float32")
    (full,) = pair_terms(atoms, Tip(charges=())).terms
    alone = PairSites(full.positions[:1], full.c6[:1], full.c12[:1], full.coulomb[:1])
    assert len(full.c6) == bucket(1)
    for ours, expected in zip(evaluate(full, points), evaluate(alone, points), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-9)


def test_buckets_are_few_and_waste_at_most_a_quarter():
    sizes = [bucket(n) for n in range(1, 2000)]
    assert sorted(set(sizes))[:9] == [16, 20, 24, 28, 32, 40, 48, 56, 64]
    assert len(set(sizes)) == 29
    assert sizes == sorted(sizes)
    assert all(size >= n for n, size in enumerate(sizes, start=1))
    assert all(size <= 1.25 * n for n, size in enumerate(sizes, start=1) if n >= 13)
    assert bucket(3, smallest=8) == 8


DENSITY, PLANE_HEIGHT = 0.059, -1.7


def half_space_energy(height):
    """Energy of a Xe probe above a half-space of gold, in eV, by integration of the pair energy.

    Both integrals run to infinity; in the inverse distance they are polynomials, for which Gauss-Legendre is exact.
    """
    radius, depth = 2.41 + 2.1815, np.sqrt(0.01 * 0.024344)
    nodes, weights = np.polynomial.legendre.leggauss(16)
    t, weights = (nodes + 1) / 2, weights / 2
    h = height - PLANE_HEIGHT
    z = h / t[:, None]
    square = z**2 / t
    pair = depth * (radius**12 / square**6 - 2 * radius**6 / square**3)
    ring = np.pi * z**2 / t**2
    return DENSITY * np.sum(weights[:, None] * h / t[:, None] ** 2 * weights * ring * pair)


@pytest.fixture
def gold():
    return Plane.of("Au", DENSITY, PLANE_HEIGHT, "Xe")


def test_a_plane_is_the_integral_over_a_half_space(gold):
    for height in (2.0, 4.0, 9.0):
        h = height - PLANE_HEIGHT
        np.testing.assert_allclose(gold.c9 / h**9 - gold.c3 / h**3, half_space_energy(height), rtol=1e-7)


def test_a_plane_is_the_sum_over_the_atoms_of_a_crystal(x64):
    # The surface of a crystal is half a layer above its topmost atoms.
    a = 1.0
    steps = a * np.arange(-35, 36)
    crystal = np.stack(np.meshgrid(steps, steps, -a * (np.arange(40) + 0.5)), axis=-1).reshape(-1, 3)
    tip, points = Tip("Xe", charges=()), np.array([[0, 0, 7.0], [0, 0, 8.0]])
    expected, _ = evaluate(pair_terms(Atoms(np.full(len(crystal), 79), crystal), tip), points)
    # The sum over layers is short of the integral by 20 a² / 24 h² of it, 1.7 %.
    np.testing.assert_allclose(evaluate(Plane.of(79, a**-3, 0.0, 54), points)[0], expected, rtol=2.5e-2, atol=1e-6)


def test_the_force_of_a_plane_is_minus_the_slope_of_its_energy(gold, x64):
    heights = np.array([1.5, 2.0, 3.0, 6.0])
    points = np.stack([0.3 * heights, -heights, heights], axis=-1)
    force, _ = evaluate(gold, points)
    slope = [(half_space_energy(h + 1e-3) - half_space_energy(h - 1e-3)) / 2e-3 for h in heights]
    np.testing.assert_allclose(force[:, 2], -np.array(slope), rtol=1e-5)
    assert not force[:, :2].any()


def test_the_hessian_of_a_plane_is_the_slope_of_its_force(gold, x64):
    assert_hessian_is_the_slope_of_the_force(gold, random_points(20))


@pytest.mark.parametrize("density", [0, -0.1, float("nan")])
def test_a_plane_needs_atoms(density):
    with pytest.raises(ValueError, match=f"surface density is {density}.*expected a positive number"):
        Plane.of("Au", density, 0.0, "O")


def test_a_plane_of_an_unknown_element_is_refused():
    with pytest.raises(ValueError, match="unknown element 'Aq'"):
        Plane.of("Aq", 0.059, 0.0, "O")
    with pytest.raises(ValueError, match="unknown element 0"):
        Plane.of("Au", 0.059, 0.0, 0)


def test_a_distant_column_does_not_spoil_the_others():
    atoms = Atoms(np.array([6, 8]), np.array([[0, 0, 0], [1.2, 0, 0]], np.float32), np.array([0.3, -0.3], np.float32))
    near = np.array([[0.3, 0.2], [1.0, -0.5]], np.float32)
    heights = np.arange(8, 5.9, -0.1, dtype=np.float32)
    alone = relax_columns(atoms, Tip(), near, heights)
    together = relax_columns(atoms, Tip(), np.vstack([near, [[1000, 500]]]).astype(np.float32), heights)
    np.testing.assert_allclose(together.force_z[:, :2], alone.force_z, rtol=0, atol=5e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rest": (0, 0)}, r"tip\.rest is \(0, 0\): expected 3"),
        ({"stiffness": (0.25, 0.25, 0)}, r"tip\.stiffness.*expected 4"),
    ],
)
def test_a_tip_with_too_few_numbers_is_refused(change, message):
    atoms = Atoms(np.array([6]), np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match=message):
        relax_columns(atoms, Tip(**change), np.zeros((1, 2)), np.array([8.0, 7.0]))


@pytest.mark.parametrize("images", [(1, 1), (1, 1, 0, 1), (1.5, 1, 0), (-1, 0, 0)])
def test_periodic_images_are_three_whole_numbers(images):
    atoms = Atoms(np.array([6]), np.zeros((1, 3), np.float32), None, np.eye(3) * 5, images)
    with pytest.raises(ValueError, match=r"periodic_images is .*three whole numbers"):
        relax_columns(atoms, Tip(), np.zeros((1, 2)), np.array([8.0, 7.0]))
