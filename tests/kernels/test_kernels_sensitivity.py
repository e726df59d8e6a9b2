from dataclasses import replace

import jax
import numpy as np
import pytest

from twinscope.kernels import (
    ELEMENTS,
    Atoms,
    Cantilever,
    PairSites,
    Plane,
    Tip,
    frequency_shift,
    frequency_shift_weights,
    relax_columns,
    sensitivity,
)

# Its time is that of compiling.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

POINTS = np.random.default_rng(1).uniform(-3, 3, (7, 2))
HEIGHTS = np.arange(7.6, 6.35, -0.1)
NUMBERS = np.repeat([6, 1], 3)
SURFACE = Plane(-3.0, 8.0, 90.0)


@pytest.fixture(scope="module")
def start():
    """Everything that the force depends on; no symmetry hides a derivative."""
    rng = np.random.default_rng(5)
    positions = np.array([[0, 0, 0], [1.4, 0, 0], [-0.7, 1.2, 0], [-0.7, -2.1, 0], [2.5, 1, 0], [-2, 1.5, 0]])
    return {
        "positions": positions + 0.1 * rng.normal(size=positions.shape),
        "charges": 0.1 * rng.normal(size=6),
        "lennard_jones": np.array([(ELEMENTS[n - 1].radius, ELEMENTS[n - 1].depth) for n in NUMBERS]),
        "anchor": np.zeros(3),
        "rest": np.array([0.1, -0.05, 3.0]),
        "stiffness": np.array([0.25, 0.3, 0.02, 30.0]),
        "tip_charges": np.array([-0.08, 0.03]),
    }


def described(given):
    atoms = Atoms(NUMBERS, given["positions"], given["charges"], lennard_jones=given["lennard_jones"])
    charges = tuple(zip(given["tip_charges"], (0.0, 0.1), strict=True))
    tip = Tip("O", rest=tuple(given["rest"]), stiffness=tuple(given["stiffness"]), charges=charges)
    return atoms, tip, POINTS + given["anchor"][:2], HEIGHTS + given["anchor"][2]


def more(amount):
    """So much of one more site."""
    return PairSites(np.array([[0.3, -0.2, -1.0]]), *(amount * np.array([[20.0], [20000.0], [0.1]])))


def force(given, amount=0.0):
    return relax_columns(*described(given), SURFACE, more(amount)).force_z


@pytest.fixture(scope="module")
def both(start):
    """The derivatives of the kernel, and those through the relaxation."""
    with jax.enable_x64(True):
        relaxed = relax_columns(*described(start), SURFACE, more(0.0))
        assert relaxed.converged.all()
        found = sensitivity(*described(start), relaxed.displacement, SURFACE, more(0.0))
        through = jax.jit(jax.jacfwd(force))(start)
    return found, {name: np.moveaxis(np.asarray(value), (0, 1), (-2, -1)) for name, value in through.items()}


def test_derivatives_are_those_through_the_relaxation(both, start):
    found, through = both
    for name in start:
        expected = through[name]
        np.testing.assert_allclose(getattr(found, name), expected, atol=1e-9 * np.abs(expected).max(), err_msg=name)


def test_derivatives_are_finite_differences(both, start, x64):
    found, _ = both
    for name, index in (("positions", (1, 2)), ("charges", (3,)), ("stiffness", (0,)), ("rest", (1,))):
        moved = []
        for step in (1e-4, -1e-4):
            given = {key: value.copy() for key, value in start.items()}
            given[name][index] += step
            moved.append(np.asarray(force(given)))
        expected = (moved[0] - moved[1]) / 2e-4
        np.testing.assert_allclose(getattr(found, name)[index], expected, atol=1e-6, err_msg=name)


def test_lever_gives_the_derivative_for_the_strength_of_a_term(both, start, x64):
    found, _ = both
    pull, _ = more(1.0).force_and_hessian(found.probe.reshape(3, -1))
    expected = (np.asarray(force(start, 1e-4)) - np.asarray(force(start, -1e-4))) / 2e-4
    along = np.sum(np.stack(pull).reshape(found.lever.shape) * found.lever, axis=0)
    np.testing.assert_allclose(along, expected, atol=1e-6)


def test_single_precision_and_weights_of_a_frequency_shift(start):
    single = {name: value.astype("float32") for name, value in start.items()}
    atoms, tip, points, _ = described(single)
    tip = replace(tip, rest=tuple(map(float, tip.rest)), stiffness=tuple(map(float, tip.stiffness)))
    columns = relax_columns(atoms, tip, points, HEIGHTS)
    sensor = Cantilever(amplitude=0.6)
    _, centres = frequency_shift(columns.force_z, HEIGHTS, sensor)
    weights = frequency_shift_weights(centres, HEIGHTS, 0.6)
    plain = sensitivity(atoms, tip, points, HEIGHTS, columns.displacement)
    found = sensitivity(atoms, tip, points, HEIGHTS, columns.displacement, weights=weights)
    assert found.positions.shape == (6, 3, len(centres), len(POINTS))
    assert found.positions.dtype == np.float32
    np.testing.assert_allclose(found.positions, np.einsum("ml,ajln->ajmn", weights, plain.positions), atol=2e-4)
    np.testing.assert_array_equal(found.lever, plain.lever)


def test_what_cannot_be_differentiated_is_refused(start):
    atoms, tip, points, heights = described(start)
    still = np.zeros((len(heights), len(points), 3))
    with pytest.raises(ValueError, match="isolated"):
        sensitivity(replace(atoms, cell=20 * np.eye(3), periodic_images=(1, 1, 0)), tip, points, heights, still)
    with pytest.raises(ValueError, match="rigid"):
        sensitivity(atoms, Tip("Cu", rigid=True, charges=()), points, heights, still)
    with pytest.raises(ValueError, match="weights"):
        sensitivity(atoms, tip, points, heights, still, weights=np.ones((2, 3)))
    with pytest.raises(ValueError, match="displacement"):
        sensitivity(atoms, tip, points, heights, still[:-1])
