"""Noise and drift, against the spectra and the variances that they stand for."""

import jax
import numpy as np
import pytest
from scipy.signal import welch

from twinscope.kernels import Cantilever, Drift, Modes, coloured_noise, frequency_noise, mains_hum, random_walk

BOLTZMANN = 1.380649e-23
CANTILEVER = Cantilever(frequency=30300.0, stiffness=1800.0, amplitude=1.0)
KEY = jax.random.key(5)
# 160 modes in every test: another number would be another compilation.
DECADES = {"low": 1e-3, "high": 1e2}


def keys(count):
    return jax.random.split(KEY, count)


def test_the_thermal_noise_is_that_of_albrecht_in_si_units():
    amplitude, quality, temperature, bandwidth = 0.5e-10, 50000.0, 4.8, 100.0
    mean_square = amplitude**2 / 2
    expected = np.sqrt(30300 * BOLTZMANN * temperature * bandwidth / (2 * np.pi * 1800 * quality * mean_square))
    noise = frequency_noise(CANTILEVER, quality, temperature)
    assert noise.deviation(bandwidth) == pytest.approx(expected, rel=1e-5)
    assert noise.density(0.0) == noise.density(70.0)


def test_detector_noise_is_what_a_demodulation_of_a_noisy_oscillation_finds():
    # An oscillation with the frequency of a quarter of the sampling rate, noise added, and the phase that comes out.
    rate, count, frequency, amplitude, detector = 40000.0, 2**18, 10000.0, 0.5, 5e-4
    noise = np.random.default_rng(1).normal(scale=detector * np.sqrt(rate / 2), size=count)
    carrier = 2 * np.pi * frequency * np.arange(count) / rate
    spectrum = np.fft.fft((amplitude * np.cos(carrier) + noise) * np.exp(-1j * carrier))
    frequencies = np.fft.fftfreq(count, 1 / rate)
    phase = np.unwrap(np.angle(np.fft.ifft(np.where(abs(frequencies) < 2000, spectrum, 0))))
    measured_at, measured = welch(np.gradient(phase, 1 / rate) / (2 * np.pi), rate, nperseg=4096)
    band = (measured_at > 100) & (measured_at < 1500)
    model = frequency_noise(Cantilever(frequency, 1800.0, 2 * amplitude), 1e9, 0.0, detector)
    # 145 frequencies from 127 windows: 1 % of statistical error.
    assert np.mean(measured[band] / model.density(measured_at[band])) == pytest.approx(1, abs=0.03)


def test_the_detector_part_grows_with_the_bandwidth_as_the_power_of_three_halves():
    noise = frequency_noise(CANTILEVER, 1e9, 0.0, 5e-4)
    assert noise.deviation(100.0) == pytest.approx(np.sqrt(2 / 3) * 5e-4 * 100**1.5 / 0.5, rel=1e-3)


def test_a_series_has_the_spectrum_and_the_variance_of_its_model():
    noise, interval = frequency_noise(CANTILEVER, 2000.0, 300.0, 5e-4), 1e-3
    series = np.array(noise.series(KEY, 2**16, interval))
    at, measured = welch(series, 1 / interval, nperseg=1024)
    ratio = measured[5:-5] / noise.density(at[5:-5])
    # 127 windows, half of them independent, and 250 frequencies.
    assert ratio[:250].mean() == pytest.approx(1, abs=0.02)
    assert ratio[250:].mean() == pytest.approx(1, abs=0.02)
    assert series.std() == pytest.approx(float(noise.deviation(500.0)), rel=0.02)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.6])
def test_coloured_noise_has_the_density_it_was_asked_for(exponent):
    interval, ratios = 1 / 128, []
    for key in keys(12):
        modes = coloured_noise(key, 0.04, exponent, low=5e-4, high=50.0)
        at, measured = welch(modes.at(interval * np.arange(2**13)), 1 / interval, nperseg=1024)
        band = (at > 2) & (at < 40)
        # Every mode counts the same when low frequencies, with more modes, count more.
        ratios.append(np.average(measured[band] * at[band] ** exponent / 0.04, weights=1 / at[band]))
    # 42 modes of two normal numbers each, twelve times: 4 % of statistical error.
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)


def test_the_variance_of_coloured_noise_is_the_integral_of_its_density():
    modes = coloured_noise(KEY, 0.5, 1.0, **DECADES, shape=(400,))
    power = np.sum(np.array(modes.cosine) ** 2 + np.array(modes.sine) ** 2, axis=0) / 2
    assert power.mean() == pytest.approx(0.5 * np.log(1e5), rel=0.02)


def test_a_line_does_not_depend_on_what_was_computed_before():
    modes = coloured_noise(KEY, 1.0, **DECADES)
    times = np.linspace(0, 2, 500, dtype="float32")
    whole = np.array(modes.at(times, 7.0))
    halves = [np.array(modes.at(part - part[0], 7.0 + float(part[0]))) for part in np.split(times, 2)]
    np.testing.assert_allclose(np.concatenate(halves), whole, atol=5e-4)


def test_a_week_later_the_phases_are_still_exact():
    modes, week = coloured_noise(KEY, 1.0, **DECADES), 604800.25
    phases = 2 * np.pi * np.asarray(modes.frequencies, float) * week
    expected = np.cos(phases) @ np.asarray(modes.cosine, float) + np.sin(phases) @ np.asarray(modes.sine, float)
    assert modes.at(np.zeros(1), week)[0] == pytest.approx(expected, abs=1e-4)
    # Single precision knows this time to 1/16 s only.
    assert abs(modes.at(np.full(1, week))[0] - expected) > 0.1


def test_modes_add_up():
    one, other = coloured_noise(KEY, 1.0), mains_hum(KEY, [0.2, 0.0, 0.1])
    both = Modes(*(np.concatenate([getattr(m, n) for m in (one, other)]) for n in ("frequencies", "cosine", "sine")))
    times = np.linspace(0, 1, 50)
    np.testing.assert_allclose(both.at(times), one.at(times) + other.at(times), atol=1e-4)


def test_the_hum_has_its_harmonics_and_nothing_else():
    interval, amplitudes = 1 / 1024, [0.3, 0.0, 0.1]
    series = np.array(mains_hum(KEY, amplitudes, 60.0).at(interval * np.arange(1024), 1234.0))
    spectrum = 2 * np.abs(np.fft.rfft(series)) / 1024
    np.testing.assert_allclose(spectrum[[60, 120, 180]], amplitudes, atol=1e-4)
    spectrum[[60, 120, 180]] = 0
    assert spectrum.max() < 1e-4


def test_other_keys_make_other_noise_and_the_same_key_the_same():
    first, second = keys(2)
    times = np.arange(5.0)
    noise, again, other = (np.array(coloured_noise(key, 1.0, **DECADES).at(times)) for key in (first, first, second))
    np.testing.assert_array_equal(again, noise)
    assert np.abs(other - noise).min() > 0


def test_no_noise_is_zero():
    times = np.arange(5.0)
    assert not np.any(coloured_noise(KEY, 0.0, **DECADES).at(times))
    assert not np.any(mains_hum(KEY, [0.0]).at(times))
    assert not np.any(frequency_noise(CANTILEVER, 1e4, 0.0).series(KEY, 64, 1e-3))
    assert not np.any(Drift(walk=random_walk(KEY, 0.0, high=0.1)).at(times))


def test_drift_goes_on_and_the_part_after_an_approach_relaxes():
    drift = Drift((0.1, 0.0, -0.02), (5.0, -3.0, 0.0), 600.0)
    times = np.array([0.0, 600.0, 6000.0])
    relaxed = 1 - np.exp(-np.array([0.0, 0.0, 9.0]))
    expected = times[:, None] * [0.1, 0.0, -0.02] + relaxed[:, None] * [5.0, -3.0, 0.0]
    np.testing.assert_allclose(drift.at(times, disturbed=600.0), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(drift.at(times - 600.0, 600.0, 600.0), expected, rtol=1e-5, atol=1e-4)


def test_the_walk_spreads_with_the_root_of_time():
    diffusion, times = 1 / 7200, np.array([60.0, 600.0, 3600.0])
    wander = jax.jit(lambda key: Drift(walk=random_walk(key, diffusion, low=1e-6, high=0.1)).at(times))
    moved = np.array([wander(key) for key in keys(300)])
    # 900 walks: 5 % of statistical error in the square.
    np.testing.assert_allclose((moved**2).mean(axis=(0, 2)), 2 * diffusion * times, rtol=0.15)
    np.testing.assert_allclose(Drift(walk=random_walk(KEY, diffusion, high=0.1)).at(np.zeros(5)), 0, atol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: frequency_noise(CANTILEVER, 0.0, 300.0), "quality is 0.0"),
        (lambda: frequency_noise(CANTILEVER, 1e4, -1.0), "temperature is -1.0 K"),
        (lambda: frequency_noise(CANTILEVER, 1e4, 4.0).series(KEY, 0, 1e-3), "count is 0"),
        (lambda: coloured_noise(KEY, -1.0), "density is -1.0"),
        (lambda: coloured_noise(KEY, 1.0, low=10.0, high=1.0), "high is 1.0 Hz and low 10.0 Hz"),
        (lambda: mains_hum(KEY, [-0.1]), "amplitudes are"),
        (lambda: mains_hum(KEY, 0.1), "expected .m,."),
        (lambda: Drift((0.0, 0.0)).at(np.zeros(1)), "drift.velocity has shape"),
        (lambda: Drift(relaxation_time=0.0).at(np.zeros(1)), "relaxation_time is 0.0 s"),
        (lambda: random_walk(KEY, -1.0), "diffusion is -1.0"),
    ],
)
def test_what_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
