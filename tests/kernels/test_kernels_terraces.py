import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twinscope.kernels import Plane, StepEdges, Terraces

# One layer of Au(111), and a probe 6.6 Å above the upper terrace: that of a CO tip over a flat molecule.
STEP, IMAGING = 2.355, 6.6
STRAIGHT = np.zeros((1, 0))
NODES = np.polynomial.legendre.leggauss(100)


def gold(height=0.0):
    return Plane.of("Au", 0.059, height, "O")


def straight_step(rise=STEP, angle=0.0, offset=0.0):
    edges = StepEdges(np.array([angle]), np.array([offset]), np.array([rise]), STRAIGHT, STRAIGHT, STRAIGHT)
    return Terraces(gold(), edges)


def meandering_steps():
    """Two steps down, and one that only fills the list up."""
    return Terraces(
        gold(2.0),
        StepEdges(
            np.array([0.4, 0.4, 0.0]),
            np.array([-6.0, 9.0, 0.0]),
            np.array([-STEP, -STEP, 0.0]),
            np.array([[3.0, 1.0], [2.0, 0.5], [0.0, 0.0]]),
            np.array([[0.1, 0.3], [0.07, 0.4], [0.0, 0.0]]),
            np.array([[0.3, 1.0], [2.0, -1.0], [0.0, 0.0]]),
        ),
    )


def points_above(terraces, count=40, lowest=3.0):
    rng = np.random.default_rng(3)
    x, y = rng.uniform(-25, 25, (2, count))
    z = np.asarray(terraces.height(x, y)) + rng.uniform(lowest, 9, count)
    return jnp.asarray(np.stack([x, y, z]))


def exact_energy(x, z, step=STEP):
    """Energy over a straight step of solid gold that begins at x = 0, by numerical integration, in eV.

    Along y the integrals of ``r**-6`` and ``r**-12`` are ``3 pi / 8 rho**-5`` and ``63 pi / 256 rho**-11``.
    """
    plane = gold()
    c6, c12 = plane.c3 * 6 / np.pi, plane.c9 * 45 / np.pi
    t, along = NODES
    far = 8 * (1 + t) / (1 - t)
    s, up = np.polynomial.legendre.leggauss(12)
    square = (far[:, None] - x) ** 2 + (z - step * (s + 1) / 2) ** 2
    pairs = c12 * 63 * np.pi / 256 * square**-5.5 - c6 * 3 * np.pi / 8 * square**-2.5
    layer = np.sum((along * 16 / (1 - t) ** 2)[:, None] * up * step / 2 * pairs)
    return plane.c9 / z**9 - plane.c3 / z**3 + layer


def test_far_from_a_step_each_side_is_a_plane(x64):
    terraces = straight_step()
    for side, height in ((-1, 0.0), (1, STEP)):
        points = jnp.array([[side * 19.25], [3.0], [height + IMAGING]])
        (force, hessian), (expected_force, expected_hessian) = (
            one.force_and_hessian(points) for one in (terraces, gold(height))
        )
        np.testing.assert_allclose(terraces.energy(points), gold(height).energy(points), rtol=1e-6)
        np.testing.assert_allclose(force, expected_force, rtol=1e-6, atol=1e-6 * abs(float(expected_force[2][0])))
        np.testing.assert_allclose(hessian, expected_hessian, rtol=1e-6, atol=1e-6 * abs(float(expected_hessian[5][0])))


def test_force_and_hessian_are_the_derivatives_of_the_energy(x64):
    terraces = meandering_steps()
    points = points_above(terraces)

    force, (xx, xy, xz, yy, yz, zz) = jax.jit(terraces.force_and_hessian)(points)
    gradient = jax.jit(jax.grad(lambda p: terraces.energy(p).sum()))(points)
    np.testing.assert_allclose(force, -gradient, rtol=1e-9, atol=1e-14)

    # Points do not feel each other, so the slopes along an axis can be taken of all at once.
    def slopes(axis):
        along = jnp.zeros_like(points).at[axis].set(1.0)
        return jax.jvp(lambda p: jnp.stack(terraces.force_and_hessian(p)[0]), (points,), (along,))[1]

    hessian = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    expected = -np.array([jax.jit(slopes, static_argnums=0)(axis) for axis in range(3)])
    np.testing.assert_allclose(hessian, expected, rtol=1e-8, atol=1e-12)
    assert abs(np.asarray(force[0])).max() > 1e-4


def test_the_energy_over_a_step_is_near_the_sum_over_the_solid(x64):
    """As near as the docstring says; what is summed reaches both planes far from the step."""
    across, terraces = np.linspace(-30, 30, 61), straight_step()
    for above, bound in ((5.0, 0.2), (IMAGING, 0.15), (9.0, 0.17)):
        z = STEP + above
        exact = np.array([exact_energy(x, z) for x in across])
        ours = np.asarray(terraces.energy(jnp.asarray(np.stack([across, 0 * across, np.full(61, z)]))))
        change = abs(exact[-1] - exact[0])
        np.testing.assert_allclose(ours[[0, -1]], exact[[0, -1]], rtol=3e-3)
        assert abs(ours - exact).max() < bound * change
        # A sharp step would be off by half of it.
        sharp = np.where(across > 0, exact[-1], exact[0])
        assert abs(sharp - exact).max() > 2.4 * bound * change


def test_an_edge_is_where_its_formula_says():
    terraces = meandering_steps()
    along = np.linspace(-40, 40, 9)
    wave = 3 * np.cos(0.1 * along + 0.3) + np.cos(0.3 * along + 1)
    normal, tangent = np.array([np.cos(0.4), np.sin(0.4)]), np.array([-np.sin(0.4), np.cos(0.4)])
    x, y = ((-6 + wave)[:, None] * normal + along[:, None] * tangent).T
    beyond, slope, _ = terraces.edges.beyond(x, y)
    np.testing.assert_allclose(beyond[0], 0, atol=1e-12)
    expected = 0.3 * np.sin(0.1 * along + 0.3) + 0.3 * np.sin(0.3 * along + 1)
    np.testing.assert_allclose(slope[0], expected, atol=1e-12)
    far = 60 * normal
    np.testing.assert_allclose(terraces.height(*(far[:, None])), 2.0 - 2 * STEP, rtol=1e-6)
    np.testing.assert_allclose(terraces.height(*(-far[:, None])), 2.0, rtol=1e-6)


def test_inside_the_metal_there_is_no_number():
    terraces = straight_step()
    points = jnp.array([[-20.0, 20.0], [0.0, 0.0], [1.0, 1.0]])
    force, hessian = terraces.force_and_hessian(points)
    for values in (terraces.energy(points), force[2], hessian[5]):
        np.testing.assert_array_equal(np.isnan(values), [False, True])


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan")])
def test_a_step_needs_a_width(width):
    with pytest.raises(ValueError, match=f"width is {width} Å: expected a positive number"):
        Terraces(gold(), straight_step().edges, width)
