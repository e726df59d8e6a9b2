import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twinscope.kernels import COULOMB, GridEnergy, Volume, hartree, multipole_density, tip_density
from twinscope.kernels._electrostatics import correlate

TRICLINIC = np.array([[7.0, 0.3, -0.2], [1.8, 6.1, 0.4], [-0.5, 0.7, 8.0]])
ORIGIN = np.array([-1.0, 0.5, 2.0])
SIGMA = 0.71
# Wave vector of the plane wave, in the basis of the reciprocal lattice.
WAVE = np.array([1, -2, 1])


def points_of(shape, cell, origin):
    index = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"), axis=-1)
    return origin + index @ cell


def energy(term, points):
    return np.asarray(term.energy(jnp.asarray(np.asarray(points).T)))


@pytest.fixture
def plane_wave():
    """A potential cos(k r) on a triclinic grid, and k in 1/Å."""
    k = 2 * np.pi * np.linalg.inv(TRICLINIC) @ WAVE
    return Volume(np.cos((points_of((30, 28, 32), TRICLINIC, ORIGIN) - ORIGIN) @ k), TRICLINIC, ORIGIN), k


# What a Gaussian multipole makes of exp(i k r), without the factor exp(-k² sigma² / 2); q = k sigma.
TRANSFORMS = {
    "s": lambda q: 1,
    "px": lambda q: 1j * q[0],
    "py": lambda q: 1j * q[1],
    "pz": lambda q: 1j * q[2],
    "dx2": lambda q: (q @ q - 3 * q[0] ** 2) / 4,
    "dy2": lambda q: (q @ q - 3 * q[1] ** 2) / 4,
    "dz2": lambda q: (q @ q - 3 * q[2] ** 2) / 4,
    "dxy": lambda q: -q[0] * q[1],
    "dxz": lambda q: -q[0] * q[2],
    "dyz": lambda q: -q[1] * q[2],
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_each_multipole_turns_a_plane_wave_into_one_with_the_exact_factor(name, plane_wave, x64):
    potential, k = plane_wave
    term = hartree(potential, {name: 0.3}, SIGMA)
    points = points_of((5, 4, 3), TRICLINIC, ORIGIN + 0.1).reshape(-1, 3)
    q = SIGMA * k
    expected = (0.3 * TRANSFORMS[name](q) * np.exp(1j * (points - ORIGIN) @ k) * np.exp(-q @ q / 2)).real
    # Measured: 1.1e-4, from the spline; at the points of the grid it is exact.
    np.testing.assert_allclose(energy(term, points), expected, atol=3e-4 * 0.3)
    nodes = points_of(potential.values.shape, TRICLINIC, ORIGIN)[::6, ::7, ::8].reshape(-1, 3)
    expected = (0.3 * TRANSFORMS[name](q) * np.exp(1j * (nodes - ORIGIN) @ k) * np.exp(-q @ q / 2)).real
    np.testing.assert_allclose(energy(term, nodes), expected, atol=1e-7)


def test_the_factor_of_a_plane_wave_holds_in_a_cell_smaller_than_the_tip(x64):
    cell, k = np.diag([2.0, 2.5, 3.0]), np.array([2 * np.pi / 2.0, 0, 0])
    term = hartree(Volume(np.cos(points_of((12, 12, 12), cell, 0) @ k), cell), {"dx2": 1.0}, SIGMA)
    expected = -((k[0] * SIGMA) ** 2) / 2 * np.exp(-((k[0] * SIGMA) ** 2) / 2)
    np.testing.assert_allclose(energy(term, [[0, 0, 0], [1, 1.25, 0], [2, 0.5, 1]]), expected * np.array([1, -1, 1]))


def test_the_moments_of_the_multipoles_are_those_of_the_documentation():
    like = Volume(np.zeros((40, 40, 40)), TRICLINIC)
    density = multipole_density({"s": 0.2, "pz": 0.5, "dz2": -0.1, "dxy": 0.7}, SIGMA, like)
    charge = density.values * density.point_volume
    x, y, z = np.moveaxis(points_of(density.values.shape, density.cell, density.origin), -1, 0)
    np.testing.assert_allclose(charge.sum(), 0.2, atol=1e-6)
    np.testing.assert_allclose((charge * z).sum(), 0.5 * SIGMA, atol=1e-6)
    np.testing.assert_allclose((charge * x).sum(), 0, atol=1e-6)
    np.testing.assert_allclose((charge * z * z).sum(), (0.2 - 0.1) * SIGMA**2, atol=1e-5)
    np.testing.assert_allclose((charge * x * x).sum(), (0.2 + 0.05) * SIGMA**2, atol=1e-5)
    np.testing.assert_allclose((charge * x * y).sum(), 0.7 * SIGMA**2, atol=1e-5)


def test_a_turned_dipole_points_where_the_rotation_sends_it():
    tilt = np.deg2rad(30)
    about_y = np.array([[np.cos(tilt), 0, np.sin(tilt)], [0, 1, 0], [-np.sin(tilt), 0, np.cos(tilt)]])
    like = Volume(np.zeros((40, 40, 40)), TRICLINIC)
    density = multipole_density({"pz": 1.0}, SIGMA, like, about_y)
    points = points_of(density.values.shape, density.cell, density.origin)
    dipole = np.einsum("ijk,ijkx->x", density.values * density.point_volume, points)
    np.testing.assert_allclose(dipole, about_y @ [0, 0, SIGMA], atol=1e-6)


@pytest.fixture(scope="module")
def gaussian_charge():
    """Potential of a charge of 0.4 e, 0.5 Å wide, at the origin of a box that is not periodic."""
    cell, origin = np.diag([12.0, 12.5, 13.0]), np.array([-6.0, -6.2, -6.4])
    r = np.linalg.norm(points_of((48, 50, 52), cell, origin), axis=-1)
    return Volume(0.4 * COULOMB * erf(r / (0.5 * 2**0.5)) / np.maximum(r, 1e-9), cell, origin, (False,) * 3)


erf = np.vectorize(math.erf)


def test_two_gaussian_charges_repel_as_they_should(gaussian_charge, x64):
    term = hartree(gaussian_charge, {"s": 0.3}, SIGMA)
    points = np.random.default_rng(0).uniform(-2, 2, (100, 3))
    r, width = np.linalg.norm(points, axis=1), (0.5**2 + SIGMA**2) ** 0.5
    np.testing.assert_allclose(energy(term, points), 0.3 * 0.4 * COULOMB * erf(r / (width * 2**0.5)) / r, rtol=2e-4)


def test_a_quadrupole_far_from_a_charge_has_the_energy_of_a_point_quadrupole(gaussian_charge, x64):
    # Theta = ∫ rho (z² - (x² + y²) / 2) = 1.5 c sigma²; the energy on the axis is Theta q k / z³, half of it and
    # negative beside it.
    term = hartree(gaussian_charge, {"dz2": -0.1}, 0.4)
    theta = 1.5 * -0.1 * 0.4**2
    far = 3.6
    ours = energy(term, [[0, 0, far], [0, 0, -far], [far, 0, 0], [0, -far, 0]])
    np.testing.assert_allclose(ours, theta * 0.4 * COULOMB / far**3 * np.array([1, 1, -0.5, -0.5]), rtol=2e-3)


def test_a_potential_that_is_not_periodic_ends_where_the_tip_would_stick_out(gaussian_charge):
    term = hartree(gaussian_charge, {"dz2": -0.1}, SIGMA)
    above = energy(term, [[0, 0, z] for z in (3.0, 3.5, 5.0, 6.0)])
    assert np.isfinite(above[:2]).all()
    assert np.isnan(above[2:]).all()


def by_hand(sample, tip, index):
    """Sum of the products for the probe at a point of the sample's grid, with zero outside."""
    steps = sample.steps
    total = 0.0
    for place in np.ndindex(tip.values.shape):
        at = np.round((np.array(place) @ steps + tip.origin) @ np.linalg.inv(steps)).astype(int) + index
        at = np.where(sample.periodic, at % sample.values.shape, at)
        if ((at >= 0) & (at < sample.values.shape)).all():
            total += tip.values[place] * sample.values[tuple(at)]
    return total * abs(np.linalg.det(steps))


@pytest.mark.parametrize("periodic", [(False, False, False), (True, True, False), (False, True, True), (True,) * 3])
def test_the_correlation_is_the_direct_sum(periodic, x64):
    rng = np.random.default_rng(5)
    sample = Volume(rng.normal(size=(5, 6, 7)), TRICLINIC, ORIGIN, periodic)
    steps = sample.steps
    tip_values = rng.normal(size=(7, 4, 3))
    tip = Volume(tip_values, steps * np.array([[7], [4], [3]]), -np.array([3, 1, 2]) @ steps, (False,) * 3)
    tip = Volume(
        np.pad(tip_values, ((0, 0), (0, 0), (0, 1))), steps * np.array([[7], [4], [4]]), tip.origin, (False,) * 3
    )
    result = GridEnergy.of(correlate(sample, tip, whole_tip=False))
    index = np.array([(0, 0, 0), (4, 5, 6), (2, 0, 3), (1, 4, 6)])
    expected = [by_hand(sample, tip, i) for i in index]
    np.testing.assert_allclose(energy(result, ORIGIN + index @ steps), expected, atol=1e-11)


def test_a_tip_density_that_fills_the_same_cell_is_taken_as_it_is(plane_wave, x64):
    potential, k = plane_wave
    # The probe at the corner of the cell, the other half of the tip at the end of it.
    fractions = np.stack(np.meshgrid(*(np.fft.fftfreq(n) for n in potential.values.shape), indexing="ij"), axis=-1)
    r = np.linalg.norm(fractions @ TRICLINIC, axis=-1)
    values = np.exp(-(r**2) / (2 * 0.6**2)) / (2 * np.pi * 0.6**2) ** 1.5
    tip = Volume(values, TRICLINIC, np.zeros(3))
    point = ORIGIN + np.array([1.0, 0.3, 2.0])
    expected = np.exp(-((0.6 * k) @ (0.6 * k)) / 2) * np.cos(k @ (point - ORIGIN))
    np.testing.assert_allclose(energy(hartree(potential, tip), point[None]), expected, atol=1e-4)
    for probe, volume in (((0, 0, 0), tip), ((4.0, -2.0, 1.0), tip.shifted((4.0, -2.0, 1.0)))):
        cut = tip_density(volume, probe, potential)
        assert cut.periodic == (False, False, False)
        np.testing.assert_allclose(energy(hartree(potential, cut), point[None]), expected, atol=1e-4)


def test_a_tip_density_is_brought_on_the_grid_of_the_sample_and_turned(x64):
    fine, offset = np.diag([9.0, 9.0, 9.0]), np.array([4.4, 4.6, 4.5])
    points = points_of((60, 60, 60), fine, -offset)
    values = (1 + points @ [0.5, 0.0, 1.0]) * np.exp(-np.sum(points**2, axis=-1) / (2 * 0.6**2))
    quarter = np.array([[0, 0, 1.0], [0, 1, 0], [-1, 0, 0]])
    like = Volume(np.zeros((30, 28, 32)), TRICLINIC)
    cut = tip_density(Volume(values, fine, periodic=(False,) * 3), offset, like, quarter)
    np.testing.assert_allclose(cut.steps, like.steps)
    there = points_of(cut.values.shape, cut.cell, cut.origin)
    turned = there @ quarter
    expected = (1 + turned @ [0.5, 0.0, 1.0]) * np.exp(-np.sum(there**2, axis=-1) / (2 * 0.6**2))
    np.testing.assert_allclose(cut.values, expected, atol=2e-4)


def test_the_energy_can_be_differentiated_by_tip_and_potential(plane_wave, x64):
    potential, _ = plane_wave
    point = jnp.asarray(ORIGIN + 1.0)[:, None]

    def at(c, scale):
        field = Volume(potential.values * scale, potential.cell, potential.origin)
        return hartree(field, {"dz2": c, "s": 0.1}, SIGMA).energy(point)[0]

    by_tip, by_potential = jax.jit(jax.grad(at, argnums=(0, 1)))(-0.1, 1.0)
    unit = hartree(potential, {"dz2": 1.0}, SIGMA).energy(point)[0]
    np.testing.assert_allclose(by_tip, unit, rtol=1e-6)
    np.testing.assert_allclose(by_potential, at(-0.1, 1.0), rtol=1e-6)


# It uses matrices, and leaves files open.
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_triclinic_tip_and_its_energy_are_those_of_ppafm(tmp_path, monkeypatch, x64):
    fft = pytest.importorskip("ppafm.fieldFFT")
    # It writes the density of the tip to where it is called.
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(6).normal(size=(30, 28, 32))
    multipoles = {"s": 0.1, "pz": -0.3, "dz2": -0.1, "dxz": 0.2}
    lvec = np.concatenate([np.zeros((1, 3)), TRICLINIC])
    *_, theirs = fft.potential2forces_mem(
        values.copy(), lvec, values.shape, sigma=0.5, multipole=multipoles, doForce=True, doPot=True, deleteV=False
    )
    nodes = points_of(values.shape, TRICLINIC, 0)[::5, ::4, ::3].reshape(-1, 3)
    ours = energy(hartree(Volume(values, TRICLINIC), multipoles, 0.5), nodes)
    np.testing.assert_allclose(ours, theirs[::5, ::4, ::3].reshape(-1), atol=1e-8)


COARSE = Volume(np.zeros((5, 5, 5)), 5 * np.eye(3))
FINE = Volume(np.zeros((20, 20, 20)), 5 * np.eye(3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hartree(FINE, {"dz3": 1.0}), r"tip multipoles are \['dz3'\]: expected one or more of s, px"),
        (lambda: hartree(FINE, {}), "expected one or more of"),
        (lambda: hartree(FINE, {"s": np.inf}), "tip multipole 's' is inf: expected a finite number"),
        (lambda: hartree(FINE, {"s": 1.0}, 0.0), "sigma is 0.0 Å: expected a positive"),
        (lambda: hartree(COARSE, {"s": 1.0}), "too coarse for the tip: its steps are up to 1.00 Å long, but sigma is"),
        (lambda: hartree(Volume(FINE.values, FINE.cell, periodic=(True, True, False)), {"s": 1.0}), "along vector 3"),
        (lambda: hartree(Volume(np.full((9, 9, 9), np.nan), np.eye(3)), {"s": 1.0}), r"potential.values\[0, 0, 0\] is"),
        (lambda: hartree(FINE, {"s": 1.0}, rotation=np.ones((3, 3))), "expected an orthogonal matrix"),
        (lambda: hartree(FINE, COARSE), "bring the tip on the sample's grid with tip_density"),
        (lambda: hartree(FINE, Volume(np.zeros((40, 20, 20)), np.diag([10.0, 5, 5]))), "40 points along vector 1"),
        (lambda: hartree(Volume(FINE.values, FINE.cell, periodic=(False,) * 3), FINE), "periodic along vector 1 but"),
        (lambda: hartree(FINE, FINE, rotation=np.eye(3)), "turn a density with tip_density"),
        (lambda: tip_density(FINE, (0, 0), COARSE), r"probe is \[0.0, 0.0\]: expected three"),
        (
            lambda: tip_density(Volume(FINE.values, FINE.cell, periodic=(False,) * 3), (0, 0, 9), COARSE),
            "the probe at .* is outside of the grid of the tip density",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
