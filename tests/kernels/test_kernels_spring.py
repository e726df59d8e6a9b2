import jax.numpy as jnp
import numpy as np
import pytest

from twinscope.kernels import Tip
from twinscope.kernels._spring import Spring

TIPS = {
    "CO": Tip(),
    "tilted": Tip(rest=(0.4, -0.7, 3.0), stiffness=(0.25, 0.3, 0.1, 20.0)),
    "far tilted": Tip(rest=(2.5, 1.0, 4.0), stiffness=(0.5, 0.5, 0.0, 20.0)),
    "no radial spring": Tip(stiffness=(0.2, 0.4, 5.0, 0.0)),
}
every_tip = pytest.mark.parametrize("tip", TIPS.values(), ids=TIPS.keys())


def displacements(count=50):
    return np.random.default_rng(3).uniform(-1, 1, (count, 3))


def evaluate(tip, displacement, dtype="float64"):
    """Force (n, 3) and Hessian (n, 3, 3)."""
    spring = Spring.of(tip, jnp.dtype(dtype))
    force, (xx, xy, xz, yy, yz, zz) = spring.force_and_hessian(tuple(jnp.asarray(displacement.T, dtype)))
    hessian = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return np.array(force).T, np.moveaxis(hessian, -1, 0)


@every_tip
def test_nothing_pulls_at_rest(tip, dtype):
    force, _ = evaluate(tip, np.zeros((1, 3)), dtype)
    assert force.dtype == dtype
    assert not force.any()


@every_tip
def test_the_probe_rests_at_the_length_of_the_tip(tip, x64):
    rest = np.array(Spring.of(tip, jnp.dtype("float64")).rest)
    assert tuple(rest[:2]) == tip.rest[:2]
    assert rest[2] < 0
    np.testing.assert_allclose(np.linalg.norm(rest), tip.rest[2], rtol=1e-14)


@every_tip
def test_the_force_is_that_of_the_formula_and_minus_the_gradient_of_its_energy(reference, tip, x64):
    force, _ = evaluate(tip, displacements())
    np.testing.assert_allclose(force, reference.spring_force(tip, displacements()), rtol=1e-11, atol=1e-13)
    gradient = reference.gradient(lambda u: reference.spring_energy(tip, u), displacements())
    np.testing.assert_allclose(force, -gradient, rtol=1e-6, atol=1e-8)


@every_tip
def test_the_hessian_is_minus_the_slope_of_the_force(reference, tip, x64):
    _, hessian = evaluate(tip, displacements())
    for axis in range(3):
        slope = reference.gradient(lambda u, axis=axis: evaluate(tip, u)[0][:, axis], displacements())
        np.testing.assert_allclose(hessian[:, axis], -slope, rtol=1e-6, atol=1e-8)


@every_tip
def test_tiny_displacements_keep_their_digits_in_single_precision(reference, tip):
    # |d| - R in float32 knows the length to 2e-7 Å only; these displacements are not larger than ten times that.
    tiny = 2e-6 * displacements()
    force, _ = evaluate(tip, tiny, "float32")
    np.testing.assert_allclose(force, reference.spring_force(tip, tiny), rtol=1e-5, atol=2e-12)


def test_one_newton_per_metre_is_a_sixteenth_ev_per_square_angstrom(x64):
    # 1 eV/Å² = 1.602176634e-19 J / 1e-20 m².
    _, hessian = evaluate(Tip(stiffness=(1.0, 2.0, 3.0, 0.0)), np.zeros((1, 3)))
    np.testing.assert_allclose(hessian[0], np.diag([1.0, 2.0, 3.0]) / 16.02176634, rtol=1e-7)
