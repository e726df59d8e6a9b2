import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twinscope.kernels import (
    ELEMENTS,
    Atoms,
    Cantilever,
    Plane,
    ScanGrid,
    Tip,
    frequency_shift,
    relax_columns,
    simulate,
)

# Its time is that of compiling.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

AXIS = np.linspace(-3.5, 3.5, 6)
HEIGHTS = np.arange(8.2, 6.35, -0.1)
PARAMETERS = {
    "positions": (7, 1),
    "charges": (3,),
    "lennard_jones": (2, 0),
    "rest": (0,),
    "length": (),
    "lateral stiffness": (),
    "radial stiffness": (),
    "tip charge": (),
    "tip parameters": (1,),
    "heights": (11,),
    "surface": (),
}
STEPS = {"positions": 1e-4, "heights": 1e-4}


@pytest.fixture(scope="module")
def start():
    """Everything that an image depends on, as numbers of our own."""
    angle = np.arange(6) * np.pi / 3
    ring = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    # Tilted and bent a little: no symmetry hides a derivative.
    positions = np.concatenate([1.40 * ring, 2.48 * ring]) + 0.1 * np.random.default_rng(5).normal(size=(12, 3))
    numbers = np.repeat([6, 1], 6)
    return {
        "positions": positions,
        "charges": np.repeat([-0.12, 0.12], 6) + np.linspace(-0.01, 0.01, 12),
        "lennard_jones": np.array([(ELEMENTS[n - 1].radius, ELEMENTS[n - 1].depth) for n in numbers]),
        "rest": np.array([0.1, -0.05]),
        "length": np.array(3.0),
        "lateral stiffness": np.array(0.25),
        "radial stiffness": np.array(30.0),
        "tip charge": np.array(-0.08),
        "tip parameters": np.array([1.6612, 0.009106]),
        "heights": HEIGHTS.copy(),
        "surface": np.array(-3.0),
    }


def loss(given):
    """Weigh every number of the result once."""
    atoms = Atoms(np.repeat([6, 1], 6), given["positions"], given["charges"], lennard_jones=given["lennard_jones"])
    soft = given["lateral stiffness"]
    tip = Tip(
        "O",
        rest=(given["rest"][0], given["rest"][1], given["length"]),
        stiffness=(soft, 1.2 * soft, 0.0, given["radial stiffness"]),
        charges=((given["tip charge"], 0.0), (0.03, given["tip charge"])),
        lennard_jones=tuple(given["tip parameters"]),
    )
    result = simulate(atoms, tip, ScanGrid(AXIS, AXIS, given["heights"]), Plane(given["surface"], 8.0, 90.0))
    df, _ = frequency_shift(result.force_z, HEIGHTS, Cantilever())
    rng = np.random.default_rng(6)
    return (
        jnp.mean(rng.normal(size=df.shape) * df)
        + jnp.mean(rng.normal(size=result.displacement.shape) * result.displacement)
        + jnp.mean(result.force_z)
    )


@pytest.fixture(scope="module")
def functions(start):
    """The loss and its gradient, compiled in double precision."""
    with jax.enable_x64(True):
        value, gradient = jax.jit(loss), jax.jit(jax.grad(loss))
        return value, gradient, jax.tree.map(np.asarray, gradient(start))


@pytest.mark.parametrize(("name", "index"), PARAMETERS.items(), ids=PARAMETERS.keys())
def test_a_derivative_is_the_slope_of_the_relaxed_result(start, functions, name, index, x64):
    value, _, gradient = functions
    step = STEPS.get(name, 1e-4 * max(abs(float(start[name][index])), 0.01))

    def moved(by):
        changed = {key: np.array(values) for key, values in start.items()}
        changed[name][index] += by
        return float(value(changed))

    # Central differences of fourth order.
    slope = (8 * (moved(step) - moved(-step)) - (moved(2 * step) - moved(-2 * step))) / (12 * step)
    # Measured: 1e-9 to 4e-6.
    np.testing.assert_allclose(gradient[name][index], slope, rtol=1e-4)
    assert abs(slope) > 1e-7


def test_the_probe_was_free_while_it_was_tested(start, x64):
    given = start
    atoms = Atoms(np.repeat([6, 1], 6), given["positions"], given["charges"])
    result = simulate(atoms, Tip(charges=((-0.08, 0.0),)), ScanGrid(AXIS, AXIS, HEIGHTS))
    assert np.asarray(result.converged).all()
    assert not np.asarray(result.snapped).any()
    assert np.abs(result.displacement).max() > 0.2
    assert np.asarray(result.force_z).max() > 0.005


def test_forward_and_reverse_mode_agree(start, functions, x64):
    _, _, gradient = functions
    forward = jax.jacfwd(lambda soft: loss({**start, "lateral stiffness": soft}))(0.25)
    np.testing.assert_allclose(forward, gradient["lateral stiffness"], rtol=1e-10)


def test_single_precision_gives_the_gradient_to_a_thousandth(start, functions):
    _, _, gradient = functions
    single = jax.jit(jax.grad(loss))(jax.tree.map(np.float32, start))
    for name in ("positions", "charges", "lateral stiffness", "tip charge"):
        assert single[name].dtype == np.float32
        difference = np.linalg.norm(np.asarray(single[name], float) - gradient[name])
        # Measured: 4e-5 to 3e-4; a slice that is interpolated here may be relaxed there.
        assert difference < 2e-3 * np.linalg.norm(gradient[name])


def test_where_the_probe_finds_no_rest_nothing_is_differentiated():
    # The tip starts on a nucleus in the first column: all is infinite there.
    heights = HEIGHTS.astype(np.float32)
    points = np.array([[0, 0], [2.0, 1.0]], np.float32)

    def force(positions, column):
        atoms = Atoms(np.array([6, 8]), positions)
        columns = relax_columns(atoms, Tip(charges=()), points, heights)
        return columns.force_z[0, column], columns.converged[0, column]

    positions = jnp.array([[0.0, 0.0, 5.0], [2.0, 1.5, 0.0]])
    gradient, converged = jax.grad(force, has_aux=True)(positions, 0)
    assert not converged
    assert not np.asarray(gradient).any()
    gradient, converged = jax.grad(force, has_aux=True)(positions, 1)
    assert converged
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[1]).max() > 1e-5


def test_derivatives_need_no_memory_for_iterations(start):
    def temporary(heights):
        given = jax.tree.map(np.float32, start)
        compiled = jax.jit(jax.grad(loss_of_positions(given, heights))).lower(given["positions"]).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    # Four times as many slices: memory grows with what is returned, far less than with pairs times slices.
    few, many = (temporary(np.linspace(8.0, 6.2, count).astype(np.float32)) for count in (16, 64))
    pairs = 12 * 64 * 4
    assert many - few < 48 * pairs * 4


def loss_of_positions(given, heights):
    def function(positions):
        atoms = Atoms(np.repeat([6, 1], 6), positions, given["charges"])
        return jnp.sum(simulate(atoms, Tip(charges=((-0.1, 0.0),)), ScanGrid(AXIS, AXIS, heights)).force_z)

    return function
