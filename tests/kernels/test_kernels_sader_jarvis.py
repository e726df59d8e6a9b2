import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twinscope.kernels import Cantilever, force_from_frequency_shift, frequency_shift, sader_jarvis_weights

HZ_PER_FORCE_GRADIENT = 30300.0 / 1800.0 * 16.0217662
# Fine where the force acts, coarse in the tail; the near end of a large oscillation is centred at 13 Å.
HEIGHTS = np.concatenate([np.geomspace(200, 20, 80)[:-1], np.linspace(20, 3, 341)])
EVEN = np.linspace(30, 4, 261)


def morse(z):
    return 0.84 * (np.exp(-2.8 * (z - 4)) - np.exp(-1.4 * (z - 4)))


def lennard_jones(z):
    return 0.24 * (3.5**12 / z**13 - 3.5**6 / z**7)


def round_trip(force, amplitude):
    """Force, the one out of its own frequency shift, and their heights below 8 Å."""
    cantilever = Cantilever(amplitude=amplitude)
    shift, centres = frequency_shift(force(HEIGHTS), HEIGHTS, cantilever)
    found, heights = map(np.array, force_from_frequency_shift(shift, centres, cantilever))
    near = (heights < 8) & (heights > 3.3)
    return force(heights[near]), found[near]


@pytest.mark.parametrize(
    ("amplitude", "tolerance"),
    # The error of the formula itself, measured: 2.2, 4.1, 3.6 and 0.5 %.
    [(0.1, 0.03), (1.0, 0.05), (2.0, 0.045), (20.0, 0.01)],
)
@pytest.mark.parametrize("power", [2, 4, 7])
def test_a_power_law_comes_back(power, amplitude, tolerance, x64):
    expected, found = round_trip(lambda z: -(z**-power), amplitude)
    np.testing.assert_allclose(found, expected, rtol=tolerance)


@pytest.mark.parametrize(
    ("amplitude", "depth", "anywhere"),
    # Measured, the worse of the two: depth 0.2, 6.6, 0.3, 0.7 %; where it attracts 5.2, 13.4, 3.0, 0.7 % of the depth.
    [(0.1, 0.005, 0.06), (1.0, 0.07, 0.14), (2.0, 0.005, 0.035), (20.0, 0.01, 0.01)],
)
@pytest.mark.parametrize("force", [morse, lennard_jones])
def test_a_bond_comes_back(force, amplitude, depth, anywhere, x64):
    expected, found = round_trip(force, amplitude)
    deepest = expected.min()
    assert found.min() == pytest.approx(deepest, rel=depth)
    attractive = expected < -1e-9
    np.testing.assert_allclose(found[attractive], expected[attractive], atol=-anywhere * deepest)


@pytest.mark.parametrize("amplitude", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("z", [EVEN, 4 + 26 * np.linspace(1, 0, 261) ** 1.5], ids=["even", "uneven"])
def test_an_exponential_is_integrated_exactly(z, amplitude, x64):
    # With the integrals of exp(-q t) / sqrt(t) over all t > 0, sqrt(pi / q), the formula has a closed form.
    cantilever, q, a = Cantilever(amplitude=amplitude), 1.5, amplitude / 2
    force, _ = force_from_frequency_shift(-np.exp(-q * (z - 4)), z, cantilever)
    bracket = 1 / q + np.sqrt(a / q) / 8 + q * np.sqrt(a**3 * np.pi / (2 * q))
    expected = -2 / HZ_PER_FORCE_GRADIENT * np.exp(-q * (z - 4)) * bracket
    near = z < 10
    # The cubic between heights is what limits this: measured 8e-5.
    np.testing.assert_allclose(force[near], expected[near], rtol=1e-4)


def test_small_oscillations_integrate_the_slope(x64):
    cantilever = Cantilever(amplitude=1e-6)
    force, heights = force_from_frequency_shift(-3 * EVEN**-4, EVEN, cantilever)
    expected = -2 / HZ_PER_FORCE_GRADIENT * (EVEN**-3 - EVEN[0] ** -3)
    # Terms of the order of sqrt(amplitude) remain: measured 7e-5.
    np.testing.assert_allclose(force[100:], expected[100:], rtol=2e-4)
    np.testing.assert_allclose(heights, EVEN, rtol=1e-6)


def test_the_heights_are_the_lower_turning_points():
    _, heights = force_from_frequency_shift(np.zeros(261), EVEN, Cantilever(amplitude=3.0))
    np.testing.assert_allclose(heights, EVEN - 1.5, rtol=1e-6)


def test_the_farthest_force_is_zero_and_what_lies_beyond_counts_as_zero(x64):
    short, _ = force_from_frequency_shift(-(EVEN[50:] ** -3), EVEN[50:], Cantilever())
    long, _ = force_from_frequency_shift(-(EVEN**-3), EVEN, Cantilever())
    assert short[0] == 0
    assert (np.array(long)[50:-1] < np.array(short)[:-1]).all()


def test_pixels_are_independent_and_keep_their_places(x64):
    shift = np.random.default_rng(3).normal(size=(261, 2, 3))
    force, _ = force_from_frequency_shift(shift, EVEN, Cantilever())
    alone, _ = force_from_frequency_shift(shift[:, 1, 2], EVEN, Cantilever())
    assert force.shape == (261, 2, 3)
    np.testing.assert_allclose(force[:, 1, 2], alone, rtol=1e-12)


def test_the_weights_are_those_of_the_inversion(x64):
    shift = -(EVEN**-3)
    force, _ = force_from_frequency_shift(shift, EVEN, Cantilever(amplitude=2.0))
    weights = sader_jarvis_weights(EVEN, 2.0)
    np.testing.assert_allclose(force, weights @ shift / HZ_PER_FORCE_GRADIENT, rtol=1e-12, atol=1e-15)


def test_a_gap_spoils_only_what_is_nearer_and_only_its_column():
    shift = -np.repeat((EVEN**-3)[:, None], 3, axis=1)
    shift[100, 1] = np.nan
    force, _ = map(np.array, force_from_frequency_shift(shift, EVEN, Cantilever()))
    assert np.isfinite(force[:, [0, 2]]).all()
    assert np.isnan(force[100:, 1]).all()
    # The cubic through the four nearest leans on a value one interval further in.
    assert np.isfinite(force[:98, 1]).all()


def test_single_precision_loses_little():
    shift = -50 * EVEN**-3
    cantilever = Cantilever()
    force, _ = force_from_frequency_shift(shift.astype("float32"), EVEN, cantilever)
    with jax.enable_x64(True):
        exact, _ = force_from_frequency_shift(shift, EVEN, cantilever)
    assert force.dtype == np.float32
    # Measured 1e-7 of the largest force.
    np.testing.assert_allclose(force, exact, atol=1e-6 * np.abs(exact).max())


def test_it_runs_and_differentiates_under_jit(x64):
    weights = sader_jarvis_weights(EVEN, 1.0) / HZ_PER_FORCE_GRADIENT

    @jax.jit
    @jax.grad
    def slope(shift):
        return jnp.sum(force_from_frequency_shift(shift, EVEN, Cantilever())[0] ** 2)

    shift = -(EVEN**-3)
    np.testing.assert_allclose(slope(shift), 2 * weights.T @ (weights @ shift), rtol=1e-9)


@pytest.mark.parametrize(
    ("shift", "z", "text"),
    [
        (np.zeros(260), EVEN, r"frequency_shift has shape \(260,\): expected \(261, ...\)"),
        (np.zeros(()), EVEN, r"frequency_shift has shape \(\): expected \(261, ...\)"),
        (np.zeros(261), EVEN[::-1], "from far to near"),
        (np.zeros(3), [3.0, 2.0, 1.0], "3 different heights: at least 4 are needed"),
    ],
)
def test_bad_input_is_named(shift, z, text):
    with pytest.raises(ValueError, match=text):
        force_from_frequency_shift(shift, z, Cantilever())
