from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twinscope.kernels import (
    Cantilever,
    Scaled,
    ScanGrid,
    Tip,
    capacitive_force,
    frequency_shift,
    kelvin_parabola,
    pair_terms,
    simulate,
)

RNG = np.random.default_rng(7)
CONTACT = RNG.uniform(-1, 1, (4, 5))
CURVATURE = RNG.uniform(-3, -0.5, (4, 5))
VERTEX = RNG.uniform(-20, -5, (4, 5))
EPSILON_0 = 8.8541878128e-12 / 1.602176634e-19 * 1e-10  # e / (V Å)
# A probe with a plain charge: the quadrupole of CO feels little of a field.
CHARGED = Tip(charges=((-0.1, 0.0),))
CANTILEVER = Cantilever(amplitude=1.0)
# Height of the tip's sphere above the molecule's metal is 2 Å less than that of the anchor.
GAP = 2.0


def parabola(bias):
    return VERTEX + CURVATURE * (np.reshape(bias, (-1, 1, 1)) - CONTACT) ** 2


@pytest.mark.parametrize("bias", [[-1, 0, 1], [0.9, -0.2, 0.1], [5.0, 5.5, 6.0], np.linspace(2, -2, 9)])
def test_a_parabola_is_found_again(bias, x64):
    fit = kelvin_parabola(parabola(bias), bias)
    np.testing.assert_allclose(fit.contact_potential, CONTACT, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(fit.curvature, CURVATURE, rtol=1e-9)
    np.testing.assert_allclose(fit.vertex, VERTEX, rtol=1e-9)
    np.testing.assert_allclose(fit.residual, 0, atol=1e-11)
    assert np.array(fit.valid).all()


def test_single_precision_is_good_for_a_millivolt():
    bias = np.linspace(-1, 1, 5)
    fit = kelvin_parabola(parabola(bias).astype("float32"), bias)
    assert fit.contact_potential.dtype == np.float32
    # Measured 3e-7 V: half a unit in the last place of 20 Hz is 1e-6 Hz.
    np.testing.assert_allclose(fit.contact_potential, CONTACT, atol=2e-6)


def test_more_voltages_are_fitted_by_least_squares(x64):
    bias = np.linspace(-1, 2, 11)
    shifts = parabola(bias) + RNG.normal(scale=0.1, size=(11, 4, 5))
    fit = kelvin_parabola(shifts, bias)
    a, b, c = np.polyfit(bias, shifts.reshape(11, -1), 2).reshape(3, 4, 5)
    np.testing.assert_allclose(fit.contact_potential, -b / (2 * a), rtol=1e-9)
    np.testing.assert_allclose(fit.curvature, a, rtol=1e-9)
    np.testing.assert_allclose(fit.vertex, c - b**2 / (4 * a), rtol=1e-9)
    left = shifts - np.moveaxis(np.polynomial.polynomial.polyval(bias, np.stack([c, b, a])), -1, 0)
    np.testing.assert_allclose(fit.residual, np.sqrt((left**2).mean(axis=0)), rtol=1e-9)


def test_a_voltage_may_be_given_twice(x64):
    bias = [-1.0, 0.0, 0.0, 1.0]
    fit = kelvin_parabola(parabola(bias), bias)
    np.testing.assert_allclose(fit.contact_potential, CONTACT, rtol=1e-9)


@pytest.mark.parametrize("slope", [0.0, 3.0])
def test_a_straight_line_has_no_contact_potential(dtype, slope):
    bias = np.array([-1.0, -0.3, 0.4, 1.0])
    shifts = parabola(bias)
    shifts[:, 1, 2] = -12.3 + slope * bias
    fit = kelvin_parabola(shifts.astype(dtype), bias)
    flagged = np.zeros((4, 5), bool)
    flagged[1, 2] = True
    np.testing.assert_array_equal(~np.array(fit.valid), flagged)
    np.testing.assert_array_equal(np.isnan(fit.contact_potential), flagged)
    np.testing.assert_array_equal(np.isnan(fit.vertex), flagged)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_pixel_is_flagged_and_spoils_no_other(bad):
    bias = [-1.0, 0.0, 1.0]
    shifts = parabola(bias)
    shifts[1, 0, 3] = bad
    fit = kelvin_parabola(shifts, bias)
    flagged = np.zeros((4, 5), bool)
    flagged[0, 3] = True
    np.testing.assert_array_equal(~np.array(fit.valid), flagged)
    np.testing.assert_array_equal(np.isnan(fit.contact_potential), flagged)
    np.testing.assert_array_equal(~np.isfinite(fit.curvature), flagged)


def test_it_runs_and_differentiates_under_jit(x64):
    bias = np.array([-1.0, 0.0, 1.0])
    fitted = jax.jit(lambda shifts: kelvin_parabola(shifts, bias).contact_potential)
    np.testing.assert_allclose(fitted(parabola(bias)), CONTACT, rtol=1e-9)
    # With unit steps V = (s1 - s-1) / (2 (2 s0 - s1 - s-1)): its slopes by s1 + s-1 and by s0 are known.
    slope = jax.grad(lambda shifts: kelvin_parabola(shifts, bias).contact_potential)(jnp.array([-3.0, -1.0, -2.0]))
    np.testing.assert_allclose(slope, [-0.5 / 3 + 0.5 / 9, -1 / 9, 0.5 / 3 + 0.5 / 9], rtol=1e-9)


@pytest.mark.parametrize(
    ("bias", "text"),
    [
        ([], r"bias has 0 different voltages in \[\] V: a parabola needs at least 3"),
        ([1.0, 1.0, 1.0], "bias has 1 different voltages"),
        ([1.0, 0.0], "bias has 2 different voltages"),
        ([1.0, 0.0, 1.0, 1e-9], "bias has 2 different voltages"),
        ([1.0, 0.0, np.nan], r"bias is \[1.0, 0.0, nan\]: expected a list \(nv,\) of finite voltages"),
        (np.eye(3), r"expected a list \(nv,\)"),
    ],
)
def test_voltages_that_make_no_parabola_are_refused(bias, text):
    with pytest.raises(ValueError, match=text):
        kelvin_parabola(np.zeros((len(bias), 2)), bias)


@pytest.mark.parametrize("shape", [(), (2, 3), (4,)])
def test_shifts_that_do_not_fit_the_voltages_are_named(shape):
    with pytest.raises(ValueError, match=r"frequency_shift has shape \(.*\): expected \(3, ...\)"):
        kelvin_parabola(np.zeros(shape), [-1, 0, 1])


def test_the_bias_must_be_known():
    with pytest.raises(ValueError, match="bias is traced"):
        jax.jit(lambda bias: kelvin_parabola(np.zeros(3), bias))(np.array([-1.0, 0.0, 1.0]))


def test_the_sphere_is_pulled_as_the_formula_says(x64):
    heights, bias = np.array([50.0, 10.0, 5.0]), np.array([-0.5, 2.0])
    force = capacitive_force(heights, bias, 0.3, radius=25.0)
    expected = -np.pi * EPSILON_0 * 25.0**2 / (heights * (heights + 25.0)) * (bias[:, None] - 0.3) ** 2
    np.testing.assert_allclose(force, expected, rtol=1e-7)
    np.testing.assert_allclose(capacitive_force(heights, 2.0, 0.3, radius=25.0), expected[1], rtol=1e-7)


def test_the_pull_vanishes_at_the_contact_potential_and_its_parabola_peaks_there(x64):
    heights, bias = np.linspace(20, 5, 151), np.array([-1.0, 0.2, 1.5])
    np.testing.assert_array_equal(capacitive_force(heights, 0.4, 0.4), 0)
    shifts = jnp.stack(
        [frequency_shift(force, heights, CANTILEVER)[0] for force in capacitive_force(heights, bias, 0.4)]
    )
    fit = kelvin_parabola(shifts, bias)
    np.testing.assert_allclose(fit.contact_potential, 0.4, atol=1e-9)
    assert (np.array(fit.curvature) < 0).all()


@pytest.mark.parametrize(
    ("heights", "arguments", "text"),
    [
        ([5.0, 0.0], {}, r"heights reach down to 0.0 Å: expected positive heights above the surface"),
        ([5.0, np.nan], {}, "heights reach down to nan Å"),
        ([5.0], {"radius": -1.0}, "radius is -1.0 Å: expected a positive length"),
        (5.0, {}, r"heights have shape \(\): expected \(nz,\)"),
        ([5.0], {"bias": np.zeros((2, 2))}, r"bias has shape \(2, 2\): expected a number or \(nv,\)"),
    ],
)
def test_a_tip_that_cannot_be_is_refused(heights, arguments, text):
    with pytest.raises(ValueError, match=text):
        capacitive_force(heights, **{"bias": 1.0} | arguments)


@pytest.fixture
def polar(benzene):
    """Charged benzene, and per volt what a field does to it: charges that pull electrons up and to one side."""
    atoms = benzene("float64")
    induced = 0.02 * atoms.positions[:, 0] / 2.48 + np.repeat([0.03, -0.03], 6)
    return atoms, replace(atoms, charges=induced)


def shifts_at(voltages, atoms, polarised, tip, grid):
    """Frequency shift at each voltage, (nv, nz, ny, nx): relaxed probe and pull on the tip's body."""
    per_volt = pair_terms(polarised, tip, lennard_jones=False)
    shifts = []
    for voltage in voltages:
        scan = simulate(atoms, tip, grid, Scaled(per_volt, voltage))
        assert np.array(scan.converged).all()
        body = capacitive_force(grid.z - GAP, voltage, 0.1)
        shifts.append(frequency_shift(scan.force_z + body[:, None, None], grid.z, CANTILEVER)[0])
    return np.stack(shifts)


@pytest.mark.parametrize(
    ("stiffness", "nearest", "tolerance"),
    # Measured: 0.5 µV of 0.11 V contrast; 1.1 mV of 0.08 V, for a soft probe gives way and the parabola is none.
    [((25.0, 25.0, 0.0, 300.0), 6.4, 1e-5), ((0.25, 0.25, 0.0, 30.0), 7.0, 2e-3)],
    ids=["stiff", "soft"],
)
def test_three_voltages_find_the_peak_that_many_show(polar, stiffness, nearest, tolerance, x64):
    grid = ScanGrid(np.array([-2.9, -1.3, 0.2, 1.4]), np.array([-1.9, 0.9]), np.arange(9.0, nearest - 0.05, -0.1))
    tip = replace(CHARGED, stiffness=stiffness)
    few, many = np.array([-1.0, 0.0, 1.0]), np.linspace(-0.1, 0.4, 26)
    found = np.array(kelvin_parabola(shifts_at(few, *polar, tip, grid), few).contact_potential)
    shifts = shifts_at(many, *polar, tip, grid)
    # The peak of the curve itself, by the parabola through the three highest points, 0.02 V apart.
    top = shifts.argmax(axis=0)
    assert (top > 0).all()
    assert (top < len(many) - 1).all()
    left, middle, right = (np.take_along_axis(shifts, (top + i)[None], axis=0)[0] for i in (-1, 0, 1))
    peak = many[top] + 0.02 * (left - right) / (2 * (left - 2 * middle + right))
    assert np.ptp(peak) > 0.05
    np.testing.assert_allclose(found, peak, atol=tolerance)


@pytest.mark.filterwarnings("ignore")
def test_the_contact_potential_is_that_of_the_reference_code(polar, x64):
    common, high_level = pytest.importorskip("ppafm.common"), pytest.importorskip("ppafm.HighLevel")
    atoms, polarised = polar
    unit, bias = replace(CHARGED, charges=((1.0, 0.0),)), [-0.5, 0.0, 0.5]
    step, counts, lowest = 0.1, np.array([61, 61, 60]), np.array([-3.0, -3.0, 2.4])
    nodes = np.stack(
        np.meshgrid(*(low + step * np.arange(n) for low, n in zip(lowest, counts, strict=True)), indexing="ij")
    )

    def on_grid(term):
        force = jnp.stack(term.force_and_hessian(jnp.asarray(nodes.reshape(3, -1)))[0])
        return np.array(force.T.reshape(*counts, 3))

    uncharged = replace(atoms, charges=None)
    fields = [on_grid(pair_terms(uncharged, unit))]
    fields += [on_grid(pair_terms(sample, unit, lennard_jones=False)) for sample in polar]
    parameters = common.PpafmParameters()
    parameters.PBC, parameters.charge, parameters.stiffness = False, -0.1, [0.25, 0.25, 30.0]
    parameters.r0Probe, parameters.scanStep = [0.0, 0.0, 3.0], [0.38, 0.38, 0.1]
    parameters.scanMin, parameters.scanMax = [-1.9, -1.9, 6.5], [1.9, 1.9, 8.0]
    x = np.linspace(-1.9, 1.9, 11)
    grid = ScanGrid(x, x, np.linspace(8.0, 6.5, 16))
    theirs, ours = [], []
    for voltage in bias:
        parameters.Vbias = voltage
        force, *_ = high_level.perform_relaxation(
            np.vstack([lowest, np.diag(step * counts)]),
            fields[0],
            FFel=fields[1],
            FFkpfm_t0sV=fields[2],
            FFkpfm_tVs0=np.zeros_like(fields[2]),
            parameters=parameters,
        )
        theirs.append(force[..., ::-1].transpose(2, 1, 0))
        per_volt = pair_terms(polarised, CHARGED, lennard_jones=False)
        ours.append(simulate(atoms, CHARGED, grid, Scaled(per_volt, voltage)).force_z)
    body = capacitive_force(grid.z - GAP, bias, 0.0)[:, :, None, None]
    expected, found = (
        np.array(
            kelvin_parabola([frequency_shift(f, grid.z, CANTILEVER)[0] for f in forces + body], bias).contact_potential
        )
        for forces in (np.array(theirs), np.array(ours))
    )
    # Measured 0.5 mV RMS, 2.1 mV at most, of 141 mV contrast: the reference interpolates forces on a grid of 0.1 Å.
    assert np.ptp(expected[-1]) > 0.1
    np.testing.assert_allclose(found, expected, atol=4e-3)
    assert np.sqrt(((found - expected) ** 2).mean()) < 1e-3
