import jax.numpy as jnp
import numpy as np
import pytest

from twinscope.kernels._symmetric import is_positive_definite, shifted, smallest_eigenvalue, solve

INDEX = np.triu_indices(3)


def rotation(rng):
    return np.linalg.qr(rng.normal(size=(3, 3)))[0]


def matrices(dtype):
    """Random symmetric matrices of many scales, (n, 3, 3), and such with known, degenerate eigenvalues."""
    rng = np.random.default_rng(7)
    random = rng.normal(size=(500, 3, 3)) * 10 ** rng.uniform(-2, 2, (500, 1, 1))
    spectra = [(1, 1, 1), (1, 1, 2), (-1, -1, 3), (-2, 1, 1), (0.02, 0.02, 2), (1, 1, 1.000001), (0, 0, 1), (0, 0, 0)]
    turns = [rotation(rng) for _ in range(5)] + [np.eye(3)]
    degenerate = np.array([q @ np.diag(spectrum) @ q.T for spectrum in spectra for q in turns])
    both = np.concatenate([random, degenerate])
    return ((both + both.swapaxes(1, 2)) / 2).astype(dtype)


def packed(matrix):
    return tuple(jnp.asarray(matrix[:, i, j]) for i, j in zip(*INDEX, strict=True))


def assert_close_to_eigenvalues(values, matrix, tolerance):
    expected = np.linalg.eigvalsh(matrix.astype(float))
    scale = np.abs(expected).max(axis=1)
    assert np.isfinite(values).all()
    assert (np.abs(values - expected[:, 0]) <= tolerance * scale).all()


# arccos has an infinite slope at its ends, where two eigenvalues coincide: half of the digits are lost there.
def test_the_smallest_eigenvalue_is_that_of_numpy(x64):
    matrix = matrices("float64")
    assert_close_to_eigenvalues(np.array(smallest_eigenvalue(packed(matrix))), matrix, 1e-8)


def test_the_smallest_eigenvalue_in_single_precision():
    matrix = matrices("float32")
    assert_close_to_eigenvalues(np.array(smallest_eigenvalue(packed(matrix))), matrix, 5e-4)


@pytest.mark.parametrize("floor", [0.0, 0.01, -0.5, 0.9])
def test_positive_definite_means_that_every_eigenvalue_is_above_the_floor(floor, x64):
    matrix = matrices("float64")
    lowest = np.linalg.eigvalsh(matrix)[:, 0]
    clear = np.abs(lowest - floor) > 1e-9 * (1 + np.abs(matrix).max((1, 2)))
    told = np.array(is_positive_definite(packed(matrix), floor))
    np.testing.assert_array_equal(told[clear], lowest[clear] > floor)
    assert told[clear].any()
    assert not told[clear].all()


def test_solutions_are_those_of_numpy(x64):
    matrix = matrices("float64")
    matrix = matrix[np.linalg.cond(matrix) < 1e6]
    right = np.random.default_rng(8).normal(size=(len(matrix), 3))
    solution = np.stack(solve(packed(matrix), tuple(jnp.asarray(right.T))), axis=-1)
    expected = np.linalg.solve(matrix, right[..., None])[..., 0]
    scale = np.linalg.norm(expected, axis=1) * np.linalg.cond(matrix)
    assert (np.linalg.norm(solution - expected, axis=1) < 1e-13 * scale).all()


def test_a_soft_and_a_stiff_direction_are_solved_in_single_precision():
    # The springs of CO: 0.0156 eV/Å² across and 1.9 along the tip.
    rng = np.random.default_rng(9)
    matrix = np.array([q @ np.diag([0.0156, 0.0156, 1.9]) @ q.T for q in (rotation(rng) for _ in range(100))])
    matrix = matrix.astype("float32")
    right = rng.normal(size=(100, 3)).astype("float32")
    solution = np.stack(solve(packed(matrix), tuple(jnp.asarray(right.T))), axis=-1)
    expected = np.linalg.solve(matrix.astype(float), right[..., None].astype(float))[..., 0]
    assert (np.linalg.norm(solution - expected, axis=1) < 1e-3 * np.linalg.norm(expected, axis=1)).all()


def test_a_singular_matrix_has_no_finite_solution():
    # What the relaxation relies on: a step that cannot be computed is seen as such.
    solution = np.array(solve(packed(np.zeros((1, 3, 3), "float32")), (jnp.ones(1),) * 3))
    assert not np.isfinite(solution).any()


def test_a_shift_moves_every_eigenvalue(x64):
    matrix = matrices("float64")
    moved = np.zeros_like(matrix)
    for (i, j), values in zip(zip(*INDEX, strict=True), shifted(packed(matrix), 0.7), strict=True):
        moved[:, i, j] = moved[:, j, i] = values
    np.testing.assert_array_equal(moved, matrix + 0.7 * np.eye(3))
