import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import i1

from twinscope.kernels import (
    Cantilever,
    frequency_shift,
    frequency_shift_at,
    frequency_shift_weights,
    interpolation_weights,
)
from twinscope.kernels._frequency_shift import _tables

AMPLITUDES = (0.2, 1.0, 2.5)
EV_PER_SQUARE_ANGSTROM = 16.0217662
EVEN = np.linspace(9, 3, 121)
UNEVEN = 3 + 6 * np.linspace(1, 0, 121) ** 1.3
GRIDS = pytest.mark.parametrize("z", [EVEN, UNEVEN], ids=["even", "uneven"])
every_amplitude = pytest.mark.parametrize("amplitude", AMPLITUDES)


def scale(cantilever):
    """Hz per eV/Å² of force gradient: half of what df = -(f0 / 2k) dF/dz says twice."""
    return cantilever.frequency / cantilever.stiffness * EV_PER_SQUARE_ANGSTROM


def first_harmonic(force, centre, a):
    """Mean of F(centre + a cos t) cos t over one oscillation, by adaptive quadrature."""
    return quad(lambda t: force(centre + a * np.cos(t)) * np.cos(t), 0, np.pi, epsabs=0, epsrel=1e-11)[0] / np.pi


def exact(force, centres, cantilever):
    """df = -(f0 / (k a)) <F(z_c + a cos t) cos t>: first-order perturbation of a harmonic oscillator, a = A / 2."""
    a = cantilever.amplitude / 2
    return -scale(cantilever) / a * np.array([first_harmonic(force, centre, a) for centre in centres])


@GRIDS
@every_amplitude
@pytest.mark.parametrize("power", [2, 4, 7, 13])
def test_power_law_forces_give_the_exact_integral(power, amplitude, z, x64):
    cantilever = Cantilever(amplitude=amplitude)
    shift, heights = (np.array(values)[::9] for values in frequency_shift(-(z**-power), z, cantilever))
    # The cubic between heights that are 0.05 Å apart is what limits this, most at the steep end.
    tolerance = 1e-3 if power > 7 else 1e-4
    np.testing.assert_allclose(shift, exact(lambda h: -(h**-power), heights, cantilever), rtol=tolerance)


@every_amplitude
def test_an_inverse_square_force_gives_its_closed_form(amplitude, x64):
    # <cos t / (z + a cos t)²> = -a (z² - a²)**-1.5, by differentiation of <1 / (z + a cos t)> = (z² - a²)**-0.5.
    cantilever = Cantilever(amplitude=amplitude)
    shift, heights = frequency_shift(-(EVEN**-2), EVEN, cantilever)
    expected = -scale(cantilever) * (np.array(heights) ** 2 - amplitude**2 / 4) ** -1.5
    np.testing.assert_allclose(shift, expected, rtol=1e-5)


@GRIDS
@every_amplitude
def test_an_exponential_force_gives_its_bessel_function(amplitude, z, x64):
    # <exp(-kappa a cos t) cos t> = -I1(kappa a).
    kappa, cantilever = 1.8, Cantilever(amplitude=amplitude)
    shift, heights = frequency_shift(np.exp(-kappa * z), z, cantilever)
    a = amplitude / 2
    expected = scale(cantilever) / a * np.exp(-kappa * np.array(heights)) * i1(kappa * a)
    np.testing.assert_allclose(shift, expected, rtol=1e-4)


@GRIDS
@every_amplitude
def test_a_linear_force_gives_half_of_its_slope(amplitude, z, x64):
    cantilever = Cantilever(frequency=25000.0, stiffness=1500.0, amplitude=amplitude)
    shift, _ = frequency_shift(0.03 * z - 0.2, z, cantilever)
    np.testing.assert_allclose(shift, -scale(cantilever) / 2 * 0.03, rtol=1e-9)


def test_a_small_oscillation_feels_the_slope(x64):
    cantilever = Cantilever(amplitude=0.01)
    shift, heights = frequency_shift(EVEN**-7, EVEN, cantilever)
    np.testing.assert_allclose(shift, -scale(cantilever) / 2 * -7 * np.array(heights) ** -8, rtol=1e-3)


def test_the_scale_is_that_of_a_qplus_sensor():
    # FACTS of the reference code: f0/k of 30300 Hz and 1800 N/m are 269.70 Hz per eV/Å².
    shift, _ = frequency_shift(jnp.asarray(-EVEN), EVEN, Cantilever(30300.0, 1800.0, 1.0))
    np.testing.assert_allclose(shift, 269.70 / 2, rtol=1e-5)


def test_attraction_lowers_the_frequency():
    shift, _ = frequency_shift(-(EVEN**-7), EVEN, Cantilever())
    assert (np.array(shift) < 0).all()


def test_single_precision_loses_little():
    force = 1e3 * EVEN**-7
    cantilever = Cantilever()
    shift, heights = frequency_shift(jnp.asarray(force, "float32"), jnp.asarray(EVEN, "float32"), cantilever)
    assert (shift.dtype, heights.dtype) == (np.float32, np.float32)
    expected = exact(lambda h: 1e3 * h**-7, np.array(heights[::9], float), cantilever)
    np.testing.assert_allclose(shift[::9], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_every_height_with_room_for_the_oscillation_is_returned():
    z = np.array([10, 9.5, 9.0, 8.2, 8.0, 7.5, 7.1, 7.0])
    shift, heights = frequency_shift(np.zeros((8, 2, 3)), z, Cantilever(amplitude=1.0))
    np.testing.assert_allclose(heights, [9.5, 9.0, 8.2, 8.0, 7.5], rtol=1e-6)
    assert shift.shape == (5, 2, 3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rounding_does_not_cost_a_height(dtype):
    z = (17.3 - 0.1 * np.arange(31)).astype(dtype)
    for steps in (2, 6, 10, 30):
        _, heights = frequency_shift(np.zeros(31), z, Cantilever(amplitude=0.1 * steps))
        assert len(heights) == 31 - steps


def test_pixels_are_independent_and_keep_their_places(x64):
    force = np.random.default_rng(5).normal(size=(121, 3, 4))
    shift, _ = frequency_shift(force, EVEN, Cantilever())
    alone, _ = frequency_shift(force[:, 2, 1], EVEN, Cantilever())
    np.testing.assert_allclose(shift[:, 2, 1], alone, rtol=1e-12)


def test_any_centre_can_be_asked_for(x64):
    cantilever = Cantilever(amplitude=1.0)
    centres = np.array([4.123, 7.0001, 3.5, 8.5])
    shift = frequency_shift_at(centres, EVEN**-4, EVEN, cantilever)
    np.testing.assert_allclose(shift, exact(lambda h: h**-4, centres, cantilever), rtol=1e-4)


def test_the_weights_of_a_constant_force_cancel():
    weights = frequency_shift_weights(UNEVEN[30:60], UNEVEN, 1.0)
    assert weights.shape == (30, 121)
    np.testing.assert_allclose(weights.sum(axis=1), 0, atol=1e-12)


@pytest.mark.parametrize("amplitude", [6.5, 100.0])
def test_an_amplitude_that_does_not_fit_is_named(amplitude):
    with pytest.raises(ValueError, match=rf"amplitude of {amplitude} Å \(peak to peak\) does not fit .* range of 6 Å"):
        frequency_shift(np.zeros(121), EVEN, Cantilever(amplitude=amplitude))


@pytest.mark.parametrize("centre", [3.4, 8.6])
def test_an_oscillation_that_leaves_the_range_is_named(centre):
    with pytest.raises(ValueError, match=r"oscillation reaches from .* known from 3 to 9 Å.*amplitude of 1.0 Å"):
        frequency_shift_at([5.0, centre], np.zeros(121), EVEN, Cantilever(amplitude=1.0))


@pytest.mark.parametrize(
    ("z", "text"),
    [
        (EVEN[::-1], "from far to near"),
        (np.array([5.0, 4.9, 4.8]), "3 different heights: at least 4 are needed"),
        (np.array([5.0, 4.9, 4.9, 4.8]), "3 different heights"),
        (np.array([5.0, np.nan, 4.8, 4.7]), r"z\[1\] is nan: expected finite"),
        (np.zeros((4, 1)), r"z has shape \(4, 1\): expected \(nz,\)"),
    ],
)
def test_heights_that_are_no_approach_are_refused(z, text):
    with pytest.raises(ValueError, match=text):
        frequency_shift(np.zeros(len(z)), z, Cantilever(amplitude=0.1))


@pytest.mark.parametrize("centres", [[], [[5.0, 6.0]], [5.0, np.nan]])
def test_centres_that_are_no_list_of_heights_are_refused(centres):
    with pytest.raises(
        ValueError, match=r"centres of the oscillation are .*: expected a list \(m,\) of finite heights"
    ):
        frequency_shift_at(centres, np.zeros(121), EVEN, Cantilever())


@pytest.mark.parametrize("shape", [(), (120,), (4, 121), (1, 121)])
def test_a_stack_that_does_not_fit_the_heights_is_named(shape):
    text = re.escape(f"force_z has shape {shape}: expected (121, ...), one value for every height z")
    with pytest.raises(ValueError, match=text):
        frequency_shift(np.zeros(shape), EVEN, Cantilever())
    with pytest.raises(ValueError, match=text):
        frequency_shift_at([5.0], np.zeros(shape), EVEN, Cantilever())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gap_spoils_only_the_oscillations_through_it(bad, x64):
    force = np.random.default_rng(1).normal(size=(121, 2, 3))
    whole, heights = map(np.array, frequency_shift(force, EVEN, Cantilever(amplitude=1.0)))
    force[40, 1, 2] = bad
    shift, _ = frequency_shift(force, EVEN, Cantilever(amplitude=1.0))
    # The cubic between heights leans on one more height at either side; the grid has steps of 0.05 Å.
    touched = np.abs(heights - EVEN[40]) < 0.5 + 0.1 - 1e-9
    expected = whole.copy()
    expected[touched, 1, 2] = np.nan
    assert 20 < touched.sum() < 25
    np.testing.assert_allclose(shift, expected, rtol=1e-12)


def test_whole_numbers_are_forces_too(x64):
    shift, heights = frequency_shift([7, 5, 3, 1, -1], [9, 8, 7, 6, 5], Cantilever(amplitude=2.0))
    np.testing.assert_allclose(shift, -scale(Cantilever()) / 2 * 2, rtol=1e-6)
    np.testing.assert_array_equal(heights, [8, 7, 6])


def test_it_runs_and_differentiates_under_jit(x64):
    centres, cantilever = np.array([5.0, 6.5]), Cantilever()
    weights = frequency_shift_weights(centres, EVEN, 1.0)

    @jax.jit
    @jax.grad
    def slope(force):
        return jnp.sum(frequency_shift_at(centres, force, EVEN, cantilever) ** 2)

    force = EVEN**-4
    np.testing.assert_allclose(slope(force), 2 * scale(cantilever) ** 2 * weights.T @ (weights @ force), rtol=1e-9)


def test_stiffness_and_frequency_may_be_traced(x64):
    def shift(frequency, stiffness):
        return frequency_shift(EVEN**-4, EVEN, Cantilever(frequency, stiffness, 1.0))[0]

    expected = frequency_shift(EVEN**-4, EVEN, Cantilever(25000.0, 1500.0, 1.0))[0]
    np.testing.assert_allclose(jax.jit(shift)(25000.0, 1500.0), expected, rtol=1e-12)


def test_what_decides_the_shapes_must_be_known():
    with pytest.raises(ValueError, match=r"cantilever.amplitude is traced: .* as a constant"):
        jax.jit(lambda amplitude: frequency_shift(np.zeros(121), EVEN, Cantilever(amplitude=amplitude)))(1.0)
    with pytest.raises(ValueError, match=r"z is traced: .* as a constant"):
        jax.jit(lambda z: frequency_shift(np.zeros(121), z, Cantilever()))(EVEN)


def test_the_weights_are_computed_once_and_nobody_can_spoil_them(x64):
    before = frequency_shift_weights([5.0], EVEN, 0.7)
    known = _tables.cache_info()
    kept = before.copy()
    before[:] = 0
    np.testing.assert_array_equal(frequency_shift_weights([5.0], EVEN, 0.7), kept)
    frequency_shift_at([5.0], np.zeros(121), EVEN, Cantilever(amplitude=0.7))
    now = _tables.cache_info()
    assert (now.misses, now.hits) == (known.misses, known.hits + 2)


def test_the_slope_of_the_interpolation_is_exact_for_cubics(x64):
    z, values = UNEVEN[40:60], UNEVEN[40:60] ** 3
    inside = np.linspace(z[-1], z[0], 17)
    np.testing.assert_allclose(interpolation_weights(inside, z) @ values, inside**3, rtol=1e-10)
    np.testing.assert_allclose(interpolation_weights(inside, z, slope=True) @ values, 3 * inside**2, rtol=1e-9)


@pytest.mark.parametrize("name", ["frequency", "stiffness", "amplitude"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_cantilever_that_cannot_oscillate_is_refused(name, value):
    with pytest.raises(ValueError, match=f"cantilever.{name} is {value}: expected a positive number"):
        frequency_shift(np.zeros(121), EVEN, Cantilever(**{name: value}))


@GRIDS
def test_interpolation_is_exact_for_cubics_and_at_the_heights(z):
    def cubic(h):
        return 0.3 * h**3 - 2 * h**2 + h - 5

    positions = np.random.default_rng(6).uniform(z[-1], z[0], (4, 50))
    np.testing.assert_allclose(interpolation_weights(positions, z) @ cubic(z), cubic(positions), rtol=1e-11)
    np.testing.assert_allclose(interpolation_weights(z, z), np.eye(len(z)), atol=1e-12)


@GRIDS
def test_interpolation_uses_the_four_nearest_heights(z):
    between = (z[40] + z[41]) / 2
    assert np.nonzero(interpolation_weights(between, z))[0].tolist() == [39, 40, 41, 42]
    assert np.nonzero(interpolation_weights((z[0] + z[1]) / 2, z))[0].tolist() == [0, 1, 2, 3]
    assert np.nonzero(interpolation_weights((z[-1] + z[-2]) / 2, z))[0].tolist() == [117, 118, 119, 120]


def test_repeated_heights_do_not_change_an_interpolation():
    z = np.array([6.0, 5.0, 5.0, 4.0, 3.0, 3.0, 3.0, 2.0])
    once = np.array([6.0, 5.0, 4.0, 3.0, 2.0])
    positions = np.linspace(2, 6, 17)
    repeated = interpolation_weights(positions, z) @ np.sin(z)
    np.testing.assert_allclose(repeated, interpolation_weights(positions, once) @ np.sin(once), rtol=1e-12)
