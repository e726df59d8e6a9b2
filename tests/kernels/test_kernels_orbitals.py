from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twinscope.kernels import GridOrbitals, PiOrbitals, Volume

ORIGIN, STEP, COUNTS = np.array([-4.0, -4.0, 1.0]), 0.2, (41, 41, 31)
SHAPES = (
    lambda x, y, z: np.exp(-0.3 * (x * x + y * y + z * z)),
    lambda x, y, z: x * np.exp(-1.1 * z) * np.cos(0.5 * y),
)
POINTS = np.random.default_rng(1).uniform([-3, -3, 2], [3, 3, 6], (50, 3)).T


def on_grid(shape):
    axes = (low + STEP * np.arange(n) for low, n in zip(ORIGIN, COUNTS, strict=True))
    values = shape(*np.meshgrid(*axes, indexing="ij"))
    return Volume(values, np.diag(STEP * np.array(COUNTS)), ORIGIN, (False, False, False))


def pi_orbitals():
    rng = np.random.default_rng(5)
    return PiOrbitals(np.array([-1.0, 0.5]), rng.normal(size=(2, 6)), rng.uniform(-2, 2, (6, 3)) * [1, 1, 0], 1.05)


def test_orbitals_and_gradients_on_a_grid_are_the_analytic_ones(x64):
    orbitals = GridOrbitals.of([-1.0, 0.5], [on_grid(shape) for shape in SHAPES])
    found = jax.jit(orbitals.amplitudes)(jnp.asarray(POINTS))
    assert found.shape == (4, 2, 50)
    x, y, z = POINTS
    gauss, wave = (shape(x, y, z) for shape in SHAPES)
    along_y = -0.5 * x * np.exp(-1.1 * z) * np.sin(0.5 * y)
    expected = np.array(
        [
            [gauss, wave],
            [-0.6 * x * gauss, np.exp(-1.1 * z) * np.cos(0.5 * y)],
            [-0.6 * y * gauss, along_y],
            [-0.6 * z * gauss, -1.1 * wave],
        ]
    )
    # Measured 6e-6, the orbitals have up to 0.2: the splines over steps of 0.2 Å.
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_pi_orbitals_are_sums_of_their_atoms(x64):
    orbitals = pi_orbitals()
    found = orbitals.amplitudes(jnp.asarray(POINTS))
    expected = np.zeros((2, 50))
    for i in range(2):
        for c, position in zip(orbitals.coefficients[i], orbitals.positions, strict=True):
            d = POINTS.T - position
            r = np.linalg.norm(d, axis=1)
            expected[i] += c * d[:, 2] / r * np.exp(-1.05 * r)
    np.testing.assert_allclose(found[0], expected, rtol=1e-10, atol=1e-14)


def test_gradients_of_pi_orbitals_are_derivatives(x64, reference):
    orbitals = pi_orbitals()
    found = orbitals.amplitudes(jnp.asarray(POINTS))
    for i in range(2):
        numerical = reference.gradient(lambda p, i=i: np.array(orbitals.amplitudes(jnp.asarray(p.T))[0, i]), POINTS.T)
        np.testing.assert_allclose(np.array(found[1:, i]).T, numerical, atol=1e-8)


def test_both_kinds_of_orbitals_agree(x64):
    orbitals = pi_orbitals()
    axes = (low + STEP * np.arange(n) for low, n in zip(ORIGIN, COUNTS, strict=True))
    nodes = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    values = np.array(orbitals.amplitudes(jnp.asarray(nodes)))[0]
    volumes = [replace(on_grid(SHAPES[0]), values=part.reshape(COUNTS)) for part in values]
    gridded = GridOrbitals.of(orbitals.energies, volumes)
    expected = np.array(orbitals.amplitudes(jnp.asarray(POINTS)))
    # Measured 8e-5 of the largest: at 2 Å above an atom its function bends much over 0.2 Å.
    np.testing.assert_allclose(gridded.amplitudes(jnp.asarray(POINTS)), expected, atol=2e-4 * np.abs(expected).max())


def test_precision_is_that_of_the_points(dtype):
    assert pi_orbitals().amplitudes(jnp.asarray(POINTS, dtype)).dtype == dtype


def test_outside_of_the_grid_nothing_is_known():
    orbitals = GridOrbitals.of([0.0], [on_grid(SHAPES[0])])
    found = orbitals.amplitudes(jnp.array([[0.0, 4.3], [0.0, 0.0], [2.0, 2.0]]))
    np.testing.assert_array_equal(np.isnan(found).all(axis=(0, 1)), [False, True])


@pytest.mark.parametrize(
    ("energies", "changes", "text"),
    [
        ([0.0], [{}, {}], r"energies have shape \(1,\) for 2 orbitals: expected one for each"),
        ([], [], r"energies have shape \(0,\) for 0 orbitals"),
        ([0.0, 1.0], [{}, {"origin": ORIGIN + 0.1}], r"orbitals\[1\] is on another grid than orbitals\[0\]"),
        ([0.0, 1.0], [{}, {"cell": 2 * np.eye(3)}], r"orbitals\[1\] is on another grid"),
        ([0.0, 1.0], [{}, {"periodic": (True, True, False)}], r"orbitals\[1\] is on another grid"),
        ([0.0, 1.0], [{}, {"values": np.zeros((5, 5, 5))}], r"orbitals\[1\] is on another grid"),
        ([0.0, 1.0], [{}, {"values": np.zeros((3, 5, 5))}], r"orbitals\[1\].values has shape \(3, 5, 5\)"),
    ],
)
def test_orbitals_that_do_not_go_together_are_refused(energies, changes, text):
    with pytest.raises(ValueError, match=text):
        GridOrbitals.of(energies, [replace(on_grid(SHAPES[0]), **change) for change in changes])
