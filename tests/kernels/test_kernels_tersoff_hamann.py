import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import constants

from twinscope.kernels import (
    CONDUCTANCE_QUANTUM,
    Atoms,
    Plane,
    StepEdges,
    Terraces,
    TunnelSites,
    decay_constant,
    log_transmission,
    tersoff_hamann,
)

GOLD = Plane(-3.0, 1.0, 1.0)
COPPER, CARBON = 4.94, 1e-4


def flake(count=30, seed=2):
    rng = np.random.default_rng(seed)
    return Atoms(np.full(count, 6), rng.uniform((-6, -6, -0.5), (6, 6, 0.0), (count, 3)))


def points_above(count=50):
    rng = np.random.default_rng(4)
    return rng.uniform((-8, -8, 3), (8, 8, 7), (count, 3))


def test_constants_are_those_of_physics():
    kappa = np.sqrt(2 * constants.m_e * COPPER * constants.e) / constants.hbar * constants.angstrom
    assert decay_constant(COPPER) == pytest.approx(kappa, rel=1e-8)
    quantum = constants.physical_constants["conductance quantum"][0]
    assert pytest.approx(quantum, rel=1e-9) == CONDUCTANCE_QUANTUM


def test_a_metal_in_contact_carries_one_channel(x64):
    sites = TunnelSites.of(flake(), np.zeros(30), GOLD)
    current = tersoff_hamann([[0.0, 0.0, -3.0 + 1.2]], 0.1, sites)
    np.testing.assert_allclose(current, 0.1 * CONDUCTANCE_QUANTUM, rtol=1e-12)


def test_the_current_falls_by_an_order_of_magnitude_per_angstrom(x64):
    sites = TunnelSites.of(flake(), np.zeros(30), GOLD)
    near, far = tersoff_hamann([[0.0, 0.0, 4.0], [9.0, -2.0, 5.0]], 0.1, sites, COPPER)
    assert float(near / far) == pytest.approx(np.exp(2 * decay_constant(COPPER)), rel=1e-12)
    assert 8 < float(near / far) < 12


def test_the_current_is_the_sum_over_atoms_and_metal(x64):
    atoms, points = flake(), points_above()
    kappa = decay_constant(COPPER)
    distances = np.linalg.norm(points[:, None] - np.asarray(atoms.positions), axis=-1)
    expected = CARBON * np.exp(-2 * kappa * (distances - 2.5)).sum(axis=1) + np.exp(-2 * kappa * (points[:, 2] + 1.8))
    current = tersoff_hamann(points, -0.3, TunnelSites.of(atoms, np.full(30, CARBON), GOLD), COPPER)
    np.testing.assert_allclose(current, -0.3 * CONDUCTANCE_QUANTUM * expected, rtol=1e-10)


def test_many_points_are_the_same_as_one_by_one():
    sites = TunnelSites.of(flake(), np.full(30, CARBON), GOLD)
    points = points_above(5000)
    every = tersoff_hamann(points, 0.1, sites)
    np.testing.assert_allclose(every[-3:], tersoff_hamann(points[-3:], 0.1, sites), rtol=1e-5)


def test_periodic_images_carry_current_too(x64):
    cell, row = np.diag([5.0, 5.0, 20.0]), np.arange(-1, 2) * 5.0
    one = Atoms(np.array([6]), np.zeros((1, 3)), None, cell, (1, 0, 0))
    three = Atoms(np.full(3, 6), np.stack([row, 0 * row, 0 * row], axis=-1))
    found = (tersoff_hamann([[2.0, 1.0, 3.0]], 0.1, TunnelSites.of(atoms, np.full(n, 1.0))) for atoms, n in
             ((one, 1), (three, 3)))  # fmt: skip
    np.testing.assert_allclose(next(found), next(found), rtol=1e-12)


def test_a_step_changes_the_current_by_its_height(x64):
    nothing = np.zeros((1, 0))
    edges = StepEdges(np.zeros(1), np.zeros(1), np.array([2.0]), nothing, nothing, nothing)
    sites = TunnelSites.of(flake(), np.zeros(30), Terraces(GOLD, edges))
    below, above = log_transmission([[-40.0, 0.0, 4.0], [40.0, 0.0, 4.0]], sites, COPPER)
    assert float(above - below) == pytest.approx(4 * decay_constant(COPPER), rel=1e-9)


def test_far_away_the_logarithm_is_still_exact():
    """In single precision the current itself is zero there."""
    sites = TunnelSites.of(flake(), np.zeros(30), GOLD)
    points = np.array([[0.0, 0.0, 60.0]], np.float32)
    assert float(tersoff_hamann(points, 0.1, sites)[0]) == 0
    np.testing.assert_allclose(log_transmission(points, sites), -2 * decay_constant(4.7) * 61.8, rtol=1e-6)


def test_the_slope_of_the_current_is_that_of_its_decay(x64):
    sites = TunnelSites.of(flake(), np.zeros(30), GOLD)

    def logarithm(z):
        return jnp.log(tersoff_hamann(jnp.array([[0.0, 0.0, z]]), 0.1, sites)[0])

    assert float(jax.grad(logarithm)(5.0)) == pytest.approx(-2 * decay_constant(4.7), rel=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: decay_constant(0.0), r"work_function is 0.0 eV: expected a positive number"),
        (lambda: TunnelSites.of(flake(), np.zeros(3)), r"weights have shape \(3,\): expected \(30,\)"),
        (lambda: TunnelSites.of(flake(), np.full(30, -1.0)), r"weights have the values \[-1.\]: expected finite"),
        (lambda: tersoff_hamann(np.zeros((4, 2)), 0.1, TunnelSites.of(flake(), np.ones(30))), r"\(4, 2\).*\(n, 3\)"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
