"""Non-negative matrix factorisation by coordinate descent, compiled: X ≈ W H with nothing below zero.

The steps are those of scikit-learn's solver "cd" from its start "nndsvda", so that both find the same factors; here
they are matrix products in single precision.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import eigh

from twinscope.errors import InvalidRequestError

# Below this an entry of the start is zero; scikit-learn's number.
_NOTHING = 1e-6
# Divisors are not smaller than this.
_TINY = 1e-30
# How often a projection goes round its columns.
_ROUNDS = 60
_PRECISION = jax.lax.Precision.HIGHEST


class Factorisation(NamedTuple):
    """What :func:`factorise` finds.

    Attributes
    ----------
    weights
        W, shape (n, k).
    factors
        H, shape (k, d).
    iterations
        How many were made.
    """

    weights: np.ndarray
    factors: np.ndarray
    iterations: int


class SingularSpectrum(NamedTuple):
    """The largest singular values of a matrix.

    Attributes
    ----------
    values
        Falling, shape (m,).
    vectors
        The left singular vectors, shape (n, m).
    total
        Sum of the squares of all.
    """

    values: np.ndarray
    vectors: np.ndarray
    total: float


def singular_spectrum(
    data: np.ndarray, counts: np.ndarray | None = None, number: int | None = None
) -> SingularSpectrum:
    """Find the largest singular values of a matrix (n, d), by the eigenvectors of the products of its shorter side.

    Small singular values, below some thousandths of the first, are inaccurate: the products square them.

    Parameters
    ----------
    data
        The matrix.
    counts
        How often each of its columns counts, shape (d,); once unless given.
    number
        How many are wanted; all unless given.
    """
    matrix = _weighted(data, counts)
    tall = len(matrix) > matrix.shape[1]
    short = matrix.T if tall else matrix
    products = np.asarray(_times(short, short.T), float)
    size = len(products)
    lowest = 0 if number is None else max(size - number, 0)
    squares, vectors = eigh(products, subset_by_index=(lowest, size - 1))
    values, vectors = np.sqrt(np.maximum(squares[::-1], 0.0)), vectors[:, ::-1]
    if tall:
        vectors = np.asarray(_times(matrix, jnp.asarray(vectors, jnp.float32)), float) / np.maximum(values, _TINY)
    return SingularSpectrum(values, vectors, float(np.trace(products)))


def factorise(
    data: np.ndarray,
    components: int,
    *,
    counts: np.ndarray | None = None,
    spectrum: SingularSpectrum | None = None,
    iterations: int = 200,
    tolerance: float = 1e-4,
) -> Factorisation:
    """Factorise a matrix (n, d) without negative entries.

    Parameters
    ----------
    data
        X; its squared error is what becomes small.
    components
        k.
    counts
        How often each column counts, shape (d,); once unless given.
    spectrum
        Of the data, if it is known already.
    iterations
        The most that are made.
    tolerance
        It ends when the projected gradient has fallen to this part of that of the first iteration.

    Raises
    ------
    InvalidRequestError
        When an entry is negative or no number, or there are too many components.
    """
    if data.ndim != 2 or not 1 <= components <= min(data.shape):
        raise InvalidRequestError(
            f"{components} components of data of the shape {data.shape}: expected a matrix, and at least 1 and at most"
            " as many components as it has rows and columns",
            name="components",
        )
    if not data.min() >= 0:
        raise InvalidRequestError(f"the lowest entry of the data is {data.min()}: expected numbers of zero or above")
    often = np.ones(data.shape[1]) if counts is None else counts
    matrix = _weighted(data, often)
    weights, factors = _start(matrix, spectrum or singular_spectrum(data, often, components), components)
    mean = float(data.mean(axis=0) @ often / often.sum())
    # Where the start is zero it would stay so.
    weights[weights < _NOTHING] = mean
    factors = np.where(factors < _NOTHING, mean * np.sqrt(often), factors)
    begin = (jnp.asarray(part, jnp.float32) for part in (weights, factors))
    end = _descend(matrix, *begin, jnp.int32(iterations), jnp.float32(tolerance))
    return Factorisation(np.asarray(end.weights), np.asarray(end.factors / np.sqrt(often)), int(end.done))


def project(data: np.ndarray, factors: np.ndarray, counts: np.ndarray | None = None) -> np.ndarray:
    """Return the weights (n, k) without negative entries with which known factors (k, d) explain data (n, d) best."""
    return np.asarray(_project(_weighted(data, counts), _weighted(factors, counts)))


def _weighted(data: np.ndarray, counts: np.ndarray | None) -> jax.Array:
    single = jnp.asarray(data, jnp.float32)
    return single if counts is None else single * jnp.asarray(np.sqrt(counts), jnp.float32)


@jax.jit
def _project(data: jax.Array, factors: jax.Array) -> jax.Array:
    """Descend along the columns of the weights, from the solution that may be negative."""
    products = _times(factors, factors.T)
    seen = _times(data, factors.T)
    ridge = 1e-6 * jnp.trace(products) / len(products) * jnp.eye(len(products))
    first = jnp.maximum(jnp.linalg.solve(products + ridge, seen.T).T, 0.0)
    return jax.lax.fori_loop(0, _ROUNDS, lambda _, weights: _improved(weights, products, seen)[0], first)


def _start(matrix: jax.Array, spectrum: SingularSpectrum, components: int) -> tuple[np.ndarray, np.ndarray]:
    """Begin with the stronger sign of each pair of singular vectors.

    Boutsidis and Gallopoulos, Pattern Recognit. 41, 1350 (2008).
    """
    values, left = spectrum.values[:components], spectrum.vectors[:, :components]
    projected = _times(jnp.asarray(left.T, jnp.float32), matrix)
    right = np.asarray(projected, float) / np.maximum(values, _TINY)[:, None]
    weights, factors = np.zeros_like(left), np.zeros_like(right)
    # The first pair has one sign.
    weights[:, 0], factors[0] = np.sqrt(values[0]) * abs(left[:, 0]), np.sqrt(values[0]) * abs(right[0])
    for k in range(1, components):
        signs = [(np.maximum(sign * left[:, k], 0), np.maximum(sign * right[k], 0)) for sign in (1, -1)]
        lengths = [(float(np.linalg.norm(a)), float(np.linalg.norm(b))) for a, b in signs]
        (a, b), (one, other) = max(zip(signs, lengths, strict=True), key=lambda pair: pair[1][0] * pair[1][1])
        scale = np.sqrt(values[k] * one * other)
        weights[:, k], factors[k] = scale * a / max(one, _TINY), scale * b / max(other, _TINY)
    return weights, factors


class _Descent(NamedTuple):
    weights: jax.Array
    factors: jax.Array
    done: jax.Array
    first: jax.Array
    violation: jax.Array


@jax.jit
def _times(matrix: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.matmul(matrix, other, precision=_PRECISION)


@jax.jit
def _descend(
    matrix: jax.Array, weights: jax.Array, factors: jax.Array, most: jax.Array, tolerance: jax.Array
) -> _Descent:
    def step(now: _Descent) -> _Descent:
        inner = _times(now.factors, now.factors.T)
        seen = _times(matrix, now.factors.T)
        weights, one = _improved(now.weights, inner, seen)
        inner = _times(weights.T, weights)
        seen = _times(matrix.T, weights)
        factors, other = _improved(now.factors.T, inner, seen)
        violation = one + other
        first = jnp.where(now.done == 0, violation, now.first)
        return _Descent(weights, factors.T, now.done + 1, first, violation)

    def unfinished(now: _Descent) -> jax.Array:
        begun = (now.done == 0) | (now.violation > tolerance * now.first)
        return begun & (now.done < most)

    start = _Descent(weights, factors, jnp.int32(0), jnp.float32(0), jnp.float32(0))
    return jax.lax.while_loop(unfinished, step, start)


def _improved(weights: jax.Array, products: jax.Array, seen: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Move one column after the other to its best value; return them, and the sum of projected gradients."""

    def column(k: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        now, violation = state
        gradient = _times(now, products[:, k]) - seen[:, k]
        held = jnp.where(now[:, k] == 0, jnp.minimum(gradient, 0.0), gradient)
        curvature = products[k, k]
        better = jnp.maximum(now[:, k] - gradient / jnp.maximum(curvature, _TINY), 0.0)
        better = jnp.where(curvature > 0, better, now[:, k])
        return now.at[:, k].set(better), violation + jnp.abs(held).sum()

    moved: tuple[jax.Array, jax.Array] = jax.lax.fori_loop(
        0, products.shape[0], column, (weights, jnp.zeros((), weights.dtype))
    )
    return moved
