import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twinscope.kernels import Scaled, TermSum, Tip, pair_terms

POINTS = np.random.default_rng(2).uniform([-3, -3, 2.5], [3, 3, 6], (20, 3)).T


@pytest.fixture
def term(benzene, dtype):
    return pair_terms(benzene(dtype), Tip())


def test_energy_force_and_hessian_are_scaled(term, dtype):
    points = jnp.asarray(POINTS, dtype)
    plain, scaled = (term.energy(points), term.force_and_hessian(points)), Scaled(term, -2.5)
    found = (scaled.energy(points), scaled.force_and_hessian(points))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(plain), strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, -2.5 * np.array(b), rtol=1e-6)


@pytest.mark.parametrize("factor", [np.float64(2), np.int64(2), 2, jnp.float32(2)])
def test_the_factor_does_not_change_the_precision(term, dtype, factor):
    points = jnp.asarray(POINTS, dtype)
    for leaf in jax.tree.leaves((Scaled(term, factor).energy(points), Scaled(term, factor).force_and_hessian(points))):
        assert leaf.dtype == dtype


def test_two_halves_of_a_term_are_the_term(term, dtype):
    points = jnp.asarray(POINTS, dtype)
    halves = TermSum((Scaled(term, 0.25), Scaled(TermSum((term,)), 0.75)))
    for a, b in zip(
        jax.tree.leaves(halves.force_and_hessian(points)), jax.tree.leaves(term.force_and_hessian(points)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_another_factor_does_not_compile_again(benzene):
    compiled = []

    @jax.jit
    def energy(term, points):
        compiled.append(True)
        return term.energy(points)

    term = pair_terms(benzene(), Tip())
    for factor in (0.1, 0.2, -3.0):
        energy(Scaled(term, factor), jnp.asarray(POINTS, "float32"))
    assert len(compiled) == 1


def test_forces_differentiate_with_respect_to_the_factor(benzene, x64):
    term, points = pair_terms(benzene("float64"), Tip()), jnp.asarray(POINTS)
    slope = jax.grad(lambda factor: jnp.sum(Scaled(term, factor).energy(points)))(0.3)
    assert slope == pytest.approx(float(jnp.sum(term.energy(points))), rel=1e-12)
