import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twinscope.kernels import Cantilever, dissipated_energy, frequency_shift, hysteretic_frequency_shift

STEP = 0.05
Z = np.linspace(10, 2, 161)
# The probe snaps in between 4.00 and 4.05 Å and out between 6.00 and 6.05 Å, from no force to 1 eV/Å of attraction.
IN, OUT = 4.025, 6.025
APPROACH = np.where(Z > IN, 0.0, -1.0)
RETRACT = np.where(Z > OUT, 0.0, -1.0)
HZ_PER_FORCE_GRADIENT = 30300.0 / 1800.0 * 16.0217662


def stepped(centre, amplitude, branches, snaps, steps=40000):
    """Energy loss and frequency shift of one oscillation after a slow approach, by following the probe in time.

    `branches` are the force above and below of the snap, as functions of z.
    """
    phase = np.linspace(0, 4 * np.pi, 2 * steps + 1)
    heights = centre + amplitude / 2 * np.cos(phase)
    # In the first of two cycles the probe finds its branch.
    snapped, state = np.zeros(len(heights), bool), False
    for i, z in enumerate(heights.tolist()):
        state = (state and z < snaps[1]) or z < snaps[0]
        snapped[i] = state
    force = np.where(snapped, branches[1](heights), branches[0](heights))
    z, f, t = heights[steps:], force[steps:], phase[steps:]
    work = np.sum((f[1:] + f[:-1]) / 2 * np.diff(z))
    harmonic = np.sum(f[:-1] * np.cos(t[:-1])) / steps
    return -work, -HZ_PER_FORCE_GRADIENT * 2 / amplitude * harmonic


@pytest.mark.parametrize("amplitude", [2.1, 2.5, 4.0, 5.5])
def test_an_oscillation_around_a_rectangle_loses_its_area(amplitude, x64):
    energy, heights = map(np.array, dissipated_energy(APPROACH, RETRACT, Z, Cantilever(amplitude=amplitude)))
    low, high = heights - amplitude / 2, heights + amplitude / 2
    around = (low < IN - STEP / 2 + 1e-6) & (high > OUT + STEP / 2 - 1e-6)
    assert around.any()
    assert not around.all()
    np.testing.assert_allclose(energy, np.where(around, 1.0 * (OUT - IN), 0), atol=1e-12)


def test_an_oscillation_that_stays_inside_of_a_loop_loses_nothing(x64):
    energy, _ = dissipated_energy(APPROACH, RETRACT, Z, Cantilever(amplitude=1.9))
    np.testing.assert_array_equal(energy, 0)


def test_with_noise_all_between_the_turning_points_counts(x64):
    noise = np.random.default_rng(8).normal(scale=1e-3, size=(2, 161))
    energy, heights = dissipated_energy(
        APPROACH + noise[0], RETRACT + noise[1], Z, Cantilever(amplitude=1.0), same_branch=np.inf
    )
    overlap = np.minimum(heights + 0.5, OUT) - np.maximum(heights - 0.5, IN)
    # Noise averages to some 3e-4 eV; a jump at a turning point is spread over a step.
    np.testing.assert_allclose(energy, np.clip(overlap, 0, None), atol=2e-2)


def test_loops_add_up(x64):
    # A second loop of half the height between 7.025 and 8.025 Å.
    retract = RETRACT - 0.5 * ((Z > 7.025) & (Z < 8.025))
    energy, heights = map(np.array, dissipated_energy(APPROACH, retract, Z, Cantilever(amplitude=5.0)))
    expected = np.where(heights - 2.5 < 4.001, 2.0, 0) + np.where(heights + 2.5 > 8.049, 0.5, 0)
    assert {0.5, 2.0, 2.5} == set(expected)
    np.testing.assert_allclose(energy, expected, atol=1e-12)


def test_uneven_heights_give_the_same_area(x64):
    z = np.unique(np.concatenate([Z, np.random.default_rng(1).uniform(4.2, 5.8, 40), [2.013, 9.1234]]))[::-1]
    energy, heights = map(
        np.array, dissipated_energy(np.where(z > IN, 0, -1.0), np.where(z > OUT, 0, -1.0), z, Cantilever(amplitude=5.0))
    )
    around = (heights < 6.501) & (heights > 3.549)
    assert around.sum() > 30
    np.testing.assert_allclose(energy[around], 2.0, atol=1e-12)


@pytest.mark.parametrize("amplitude", [1.0, 3.0])
@pytest.mark.parametrize("centre", [3.6, 4.3, 5.0, 5.5, 6.6, 8.0])
def test_it_is_what_following_the_probe_in_time_gives(centre, amplitude, x64):
    branches = (lambda z: -0.4 * np.exp(4 - z), lambda z: -0.4 * np.exp(4 - z) - 0.3 * (7 - z) / 3)
    z = np.linspace(10, 2, 801)
    approach = np.where(z > 4.005, branches[0](z), branches[1](z))
    retract = np.where(z > 6.005, branches[0](z), branches[1](z))
    cantilever = Cantilever(amplitude=amplitude)
    energy, heights = map(np.array, dissipated_energy(approach, retract, z, cantilever))
    shift, _ = map(np.array, hysteretic_frequency_shift(approach, retract, z, cantilever))
    at = np.argmin(np.abs(heights - centre))
    loss, expected = stepped(heights[at], amplitude, branches, (4.005, 6.005))
    # Measured 2e-5 of 0.4 eV, 0.06 of 41 Hz, and 2e-8 Hz without a loop: the jumps lie between heights 0.01 Å apart.
    np.testing.assert_allclose(energy[at], loss, atol=1e-4)
    np.testing.assert_allclose(shift[at], expected, rtol=2e-3)


def test_without_hysteresis_nothing_is_lost_and_the_shift_is_the_plain_one(x64):
    force = np.random.default_rng(3).normal(size=(161, 2, 3))
    energy, heights = dissipated_energy(force, force, Z, Cantilever())
    shift, _ = hysteretic_frequency_shift(force, force, Z, Cantilever())
    plain, expected = frequency_shift(force, Z, Cantilever())
    np.testing.assert_array_equal(energy, 0)
    np.testing.assert_allclose(shift, plain, rtol=1e-9)
    np.testing.assert_array_equal(heights, expected)


def test_the_mean_of_both_branches_shifts_the_frequency(x64):
    shift, heights = hysteretic_frequency_shift(APPROACH, RETRACT, Z, Cantilever(amplitude=4.0))
    mean, _ = frequency_shift((APPROACH + RETRACT) / 2, Z, Cantilever(amplitude=4.0))
    around = (np.array(heights) < 6.001) & (np.array(heights) > 4.049)
    np.testing.assert_allclose(np.array(shift)[around], np.array(mean)[around], rtol=1e-12)


def test_a_loop_the_other_way_around_is_a_gain(x64):
    energy, _ = dissipated_energy(RETRACT, APPROACH, Z, Cantilever(amplitude=8.0))
    np.testing.assert_allclose(energy, -2.0, atol=1e-12)


def test_pixels_are_independent_and_keep_their_places(x64):
    scale = np.arange(6.0).reshape(2, 3)
    cantilever = Cantilever(amplitude=8.0)
    energy, _ = dissipated_energy(APPROACH[:, None, None] * scale, RETRACT[:, None, None] * scale, Z, cantilever)
    np.testing.assert_allclose(energy, 2 * scale[None], atol=1e-12)


def test_a_gap_spoils_only_the_oscillations_through_it():
    approach = np.repeat(APPROACH[:, None], 3, axis=1)
    approach[100, 1] = np.nan
    cantilever = Cantilever(amplitude=2.5)
    clean, heights = map(np.array, dissipated_energy(APPROACH, RETRACT, Z, cantilever))
    energy = np.array(dissipated_energy(approach, approach * 0 + RETRACT[:, None], Z, cantilever)[0])
    shift = np.array(hysteretic_frequency_shift(approach, approach * 0 + RETRACT[:, None], Z, cantilever)[0])
    touched = np.abs(heights - Z[100]) < 1.25 + 1e-6
    np.testing.assert_array_equal(np.isnan(energy[:, 1]), touched)
    np.testing.assert_allclose(energy[~touched, 1], clean[~touched], atol=1e-6)
    np.testing.assert_allclose(energy[:, [0, 2]], np.stack([clean, clean], axis=1), atol=1e-6)
    assert np.isnan(shift[touched, 1]).all()
    assert np.isfinite(shift[:, [0, 2]]).all()


def test_it_differentiates_under_jit(x64):
    def loss(scale):
        return jnp.sum(dissipated_energy(APPROACH * scale, RETRACT * scale, Z, Cantilever(amplitude=8.0))[0])

    assert jax.jit(jax.grad(loss))(1.0) == pytest.approx(2.0)


def test_single_precision_stays_single():
    energy, heights = dissipated_energy(
        APPROACH.astype("float32"), RETRACT.astype("float32"), Z.astype("float32"), Cantilever(amplitude=4.0)
    )
    assert (energy.dtype, heights.dtype) == (np.float32, np.float32)
    around = (np.array(heights) < 6.001) & (np.array(heights) > 4.049)
    np.testing.assert_allclose(np.array(energy)[around], 2.0, rtol=1e-5)


@pytest.mark.parametrize("function", [dissipated_energy, hysteretic_frequency_shift])
@pytest.mark.parametrize(
    ("approach", "retract", "arguments", "text"),
    [
        (np.zeros(160), np.zeros(161), {}, r"approach_force_z has shape \(160,\): expected \(161, ...\)"),
        (np.zeros(161), np.zeros((160, 2)), {}, r"retract_force_z has shape \(160, 2\): expected \(161, ...\)"),
        (np.zeros((161, 3)), np.zeros((161, 2)), {}, r"approach_force_z has shape \(161, 3\) and .* \(161, 2\)"),
        (np.zeros(161), np.zeros(161), {"same_branch": -1.0}, r"same_branch is -1.0 eV/Å: expected a number >= 0"),
    ],
)
def test_bad_input_is_named(function, approach, retract, arguments, text):
    with pytest.raises(ValueError, match=text):
        function(approach, retract, Z, Cantilever(), **arguments)


def test_an_amplitude_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match="does not fit into the z range of 8 Å"):
        dissipated_energy(APPROACH, RETRACT, Z, Cantilever(amplitude=9.0))
