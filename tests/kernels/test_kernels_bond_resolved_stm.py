import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from twinscope.kernels import (
    GridOrbitals,
    PiOrbitals,
    ScanGrid,
    Tip,
    TipOrbitals,
    Volume,
    orbital_weights,
    tunnelling_image,
)

S, P, PZ = TipOrbitals(), TipOrbitals(0.0, 1.0), TipOrbitals(0.0, 0.0, 1.0)
TIP = Tip()
# The probe hangs 3 Å below the anchor: 6 to 3 Å above the sample.
GRID = ScanGrid(np.linspace(-2, 2, 9), np.linspace(-1.5, 1.5, 7), np.linspace(9, 6, 4))
STILL = np.zeros((4, 7, 9, 3))


def probe(displacement=STILL):
    """Positions of the probe, x, y and z of shape (nz, ny, nx)."""
    z, y, x = np.meshgrid(GRID.z - 3, GRID.y, GRID.x, indexing="ij")
    return x + displacement[..., 0], y + displacement[..., 1], z + displacement[..., 2]


def volume(shape, step=0.2):
    """Values of a function on a box around all positions of the probe."""
    low, counts = np.array([-3.0, -2.5, 2.0]), np.array([31, 26, 26])
    nodes = np.meshgrid(*(a + step * np.arange(n) for a, n in zip(low, counts, strict=True)), indexing="ij")
    return Volume(shape(*nodes), np.diag(step * counts), low, (False, False, False))


def evanescent(kappa):
    """Make a state that decays into the vacuum at 1/kappa and has a node along x = 0."""
    return lambda x, y, z: np.exp(-kappa * z) * np.sin(0.8 * x) + 0 * y


def benzene(level):
    """Hückel orbitals of benzene: all of one level."""
    angles = np.arange(6) * np.pi / 3
    positions = 1.39 * np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=-1)
    bonds = np.roll(np.eye(6), 1, axis=0)
    energies, vectors = np.linalg.eigh(-2.7 * (bonds + bonds.T))
    chosen = np.isclose(energies, level, atol=0.1)
    return PiOrbitals(energies[chosen], vectors[:, chosen].T, positions)


def test_an_s_tip_sees_the_density_of_states_of_tersoff_and_hamann(x64):
    kappa = 1.1
    orbitals = GridOrbitals.of([-0.5, 0.3], [volume(evanescent(kappa)), volume(lambda x, y, z: np.exp(-z) + 0 * x * y)])
    image = tunnelling_image(orbitals, [0.25, 2.0], S, TIP, GRID, STILL)
    x, y, z = probe()
    expected = 0.25 * evanescent(kappa)(x, y, z) ** 2 + 2 * np.exp(-z) ** 2
    assert image.shape == (4, 7, 9)
    # Measured 2e-7: splines over steps of 0.2 Å, at their points in two directions.
    np.testing.assert_allclose(image, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("through", "rules"),
    [
        (S, (1, 0, 0)),
        (P, (0, 1, 0)),
        (PZ, (0, 0, 1)),
        (TipOrbitals(0.15, 0.5, 0.2, 1.0), (0.15, 0.5, 0.2)),
        (TipOrbitals(0.15, 0.5, 0.2, 1.3), (0.15, 0.5 / 1.69, 0.2 / 1.69)),
    ],
)
def test_channels_are_derivatives_at_the_relaxed_probe(through, rules, x64):
    displacement = np.random.default_rng(6).uniform(-0.4, 0.4, STILL.shape)
    x, y, z = probe(displacement)
    orbitals = GridOrbitals.of([0.0], [volume(lambda x, y, z: np.exp(-z) * np.sin(0.8 * x) * np.cos(0.6 * y))])
    psi = np.exp(-z) * np.sin(0.8 * x) * np.cos(0.6 * y)
    dx = 0.8 * np.exp(-z) * np.cos(0.8 * x) * np.cos(0.6 * y)
    dy = -0.6 * np.exp(-z) * np.sin(0.8 * x) * np.sin(0.6 * y)
    s, p, pz = rules
    expected = s * psi**2 + p * (dx**2 + dy**2) + pz * psi**2
    image = tunnelling_image(orbitals, [1.0], through, TIP, GRID, displacement)
    # Measured 1.6e-4 of the largest for slopes along z, 1e-5 without: splines over steps of 0.2 Å.
    np.testing.assert_allclose(image, expected, atol=(3e-4 if pz else 3e-5) * expected.max())


def test_an_evanescent_wave_gives_pz_the_image_of_s(x64):
    # Chen: d/dz of exp(-kappa z) is -kappa times it; with the tip's own decay equal to it, nothing distinguishes both.
    kappa = 1.1
    orbitals = GridOrbitals.of([0.0], [volume(evanescent(kappa))])
    images = [tunnelling_image(orbitals, [1.0], t, TIP, GRID, STILL) for t in (S, TipOrbitals(0.0, 0.0, 1.0, kappa))]
    np.testing.assert_allclose(images[1], images[0], rtol=1e-3, atol=1e-12)


def test_nodes_are_dark_to_s_and_bright_to_p(x64):
    orbitals = GridOrbitals.of([0.0], [volume(evanescent(1.0))])
    s, p = (np.array(tunnelling_image(orbitals, [1.0], t, TIP, GRID, STILL)) for t in (S, P))
    node = 4
    assert GRID.x[node] == 0
    np.testing.assert_allclose(s[..., node], 0, atol=1e-12)
    assert (p.argmax(axis=-1) == node).all()
    assert (s.argmin(axis=-1) == node).all()


def test_the_carbon_ring_of_benzene(x64):
    # The occupied pair has one nodal line each, at right angles: together they avoid the centre; p fills it.
    orbitals = benzene(-2.7)
    assert orbitals.energies.shape == (2,)
    ring = np.arange(24) * np.pi / 12
    images = {}
    for name, through in (("s", S), ("p", P)):
        of_ring = [
            tunnelling_image(
                orbitals, [1.0, 1.0], through, TIP, ScanGrid([1.5 * c], [1.5 * s], [6.0]), STILL[:1, :1, :1]
            )
            for c, s in zip(np.cos(ring), np.sin(ring), strict=True)
        ]
        centre = tunnelling_image(orbitals, [1.0, 1.0], through, TIP, ScanGrid([0.0], [0.0], [6.0]), STILL[:1, :1, :1])
        images[name] = np.array(of_ring).ravel(), float(centre[0, 0, 0])
    for around, _ in images.values():
        np.testing.assert_allclose(around, np.roll(around, 4), rtol=1e-9)
    assert images["s"][1] == pytest.approx(0, abs=1e-12)
    assert images["p"][1] > 1.5 * images["p"][0].max()


def test_many_points_are_cut_into_tiles(x64):
    orbitals, grid = benzene(-2.7), ScanGrid(np.linspace(-4, 4, 70), np.linspace(-4, 4, 65), [8.0, 6.5])
    displacement = np.random.default_rng(0).normal(scale=0.1, size=(2, 65, 70, 3))
    whole = tunnelling_image(orbitals, [1.0, 0.5], P, TIP, grid, displacement)
    part = tunnelling_image(
        orbitals, [1.0, 0.5], P, TIP, ScanGrid(grid.x[60:], grid.y[50:], grid.z[1:]), displacement[1:, 50:, 60:]
    )
    np.testing.assert_allclose(whole[1:, 50:, 60:], part, rtol=1e-12)


def test_single_precision_loses_little():
    orbitals = benzene(-2.7)
    image = tunnelling_image(orbitals, [1.0, 1.0], P, TIP, GRID, STILL.astype("float32"))
    with jax.enable_x64(True):
        expected = np.array(tunnelling_image(orbitals, [1.0, 1.0], P, TIP, GRID, STILL))
    assert image.dtype == np.float32
    # Measured 9e-7.
    np.testing.assert_allclose(image, expected, rtol=5e-6)


def test_it_differentiates_with_respect_to_the_mixture(x64):
    orbitals, weights = benzene(-2.7), jnp.ones(2)

    def total(s, p):
        return jnp.sum(tunnelling_image(orbitals, weights, TipOrbitals(s, p), TIP, GRID, STILL))

    s, p = jax.jit(jax.grad(total, argnums=(0, 1)))(0.2, 0.7)
    assert s == pytest.approx(float(total(1.0, 0.0)))
    assert p == pytest.approx(float(total(0.0, 1.0)))


@pytest.mark.parametrize("line", ["lorentzian", "gaussian"])
@pytest.mark.parametrize("bias", [-1.2, 0.0, 0.05, 0.8])
def test_the_current_is_the_integral_of_the_conductance(line, bias, x64):
    energies = np.array([-1.0, -0.1, 0.02, 0.5])

    def conductance(voltage):
        return np.array(orbital_weights(energies, voltage, 0.1, signal="conductance", line=line))

    expected = [quad(lambda v, i=i: conductance(v)[i], 0, bias, points=[energies[i]])[0] for i in range(4)]
    np.testing.assert_allclose(orbital_weights(energies, bias, 0.1, line=line), expected, atol=1e-8)


@pytest.mark.parametrize("line", ["lorentzian", "gaussian"])
def test_a_sharp_line_counts_the_orbitals_in_the_window(line, x64):
    energies = [-1.0, -0.2, 0.3, 0.9]
    positive, negative = (orbital_weights(energies, bias, 1e-6, line=line) for bias in (0.5, -0.5))
    np.testing.assert_allclose(positive, [0, 0, 1, 0], atol=1e-5)
    np.testing.assert_allclose(negative, [0, -1, 0, 0], atol=1e-5)


def test_the_width_is_the_half_width_or_the_standard_deviation(x64):
    at, beside = (
        [orbital_weights([0.3], v, 0.1, signal="conductance", line=line)[0] for line in ("lorentzian", "gaussian")]
        for v in (0.3, 0.4)
    )
    np.testing.assert_allclose(at, [10 / np.pi, 10 / np.sqrt(2 * np.pi)], rtol=1e-9)
    np.testing.assert_allclose(np.divide(beside, at), [0.5, np.exp(-0.5)], rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"width": 0.0}, "width is 0.0 eV: expected a positive number"),
        ({"width": float("nan")}, "width is nan eV"),
        ({"signal": "voltage"}, "signal='voltage' and line='lorentzian': expected one of"),
        ({"line": "square"}, "signal='current' and line='square': expected one of"),
    ],
)
def test_weights_that_mean_nothing_are_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        orbital_weights([0.0], 1.0, **arguments)


def test_bad_input_is_named():
    orbitals = GridOrbitals.of([0.0], [volume(evanescent(1.0))])
    with pytest.raises(ValueError, match=r"displacement has shape \(4, 7, 9\): expected \(4, 7, 9, 3\)"):
        tunnelling_image(orbitals, [1.0], S, TIP, GRID, STILL[..., 0])
    with pytest.raises(ValueError, match=r"weights have shape \(2,\) for orbitals of \(1,\): expected one each"):
        tunnelling_image(orbitals, [1.0, 1.0], S, TIP, GRID, STILL)
    with pytest.raises(ValueError, match=r"probe would leave .* grid along its vector 3"):
        tunnelling_image(orbitals, [1.0], S, TIP, ScanGrid(GRID.x, GRID.y, GRID.z - 2), STILL)
