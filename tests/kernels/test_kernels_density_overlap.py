import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twinscope.kernels import Atoms, Volume, delta_density, hartree, pauli, tip_density

CELL = np.array([[9.0, 0.4, 0.0], [1.5, 8.5, 0.3], [0.0, -0.6, 10.0]])
SHAPE = (45, 42, 50)
MIDDLE = CELL.sum(axis=0) / 2


def points_of(shape=SHAPE, cell=CELL):
    index = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"), axis=-1)
    return index @ cell


def gaussian(width, center, charge=1.0, periodic=(False, False, False)):
    """Electrons around a centre, as a density."""
    square = np.sum((points_of() - center) ** 2, axis=-1)
    return Volume(charge * np.exp(-square / (2 * width**2)) / (2 * np.pi * width**2) ** 1.5, CELL, periodic=periodic)


def energy(term, points):
    return np.asarray(term.energy(jnp.asarray(np.asarray(points).T)))


POSITIONS = np.array([[0, 0, 0.0], [0.3, -0.2, 1.1], [1.5, 0.0, -1.0], [-1.1, 1.2, 0.4]])


@pytest.mark.parametrize("exponent", [1.0, 1.2])
@pytest.mark.parametrize("periodic", [(False, False, False), (True, True, True)])
def test_the_overlap_of_gaussians_is_a_gaussian(exponent, periodic, x64):
    a, b = 0.6, 0.5
    sample = gaussian(a, MIDDLE, 4.0, periodic)
    tip = tip_density(gaussian(b, MIDDLE + 0.1, 6.0), MIDDLE + 0.1, sample)
    ours = energy(pauli(sample, tip, 10.0, exponent), MIDDLE + POSITIONS)
    # A power of a Gaussian is a Gaussian; its width goes down by the root of the exponent.
    width2 = (a**2 + b**2) / exponent
    scale = (4.0 * 6.0 / ((2 * np.pi) ** 3 * (a * b) ** 3)) ** exponent
    overlap = scale * (2 * np.pi * a**2 * b**2 / (exponent * (a**2 + b**2))) ** 1.5
    expected = 10.0 * overlap * np.exp(-np.sum(POSITIONS**2, axis=1) / (2 * width2))
    np.testing.assert_allclose(ours, expected, rtol=1e-3)


def test_the_defaults_are_those_of_the_literature(x64):
    sample = gaussian(0.6, MIDDLE)
    tip = tip_density(sample, MIDDLE, sample)
    np.testing.assert_array_equal(
        energy(pauli(sample, tip), MIDDLE + POSITIONS), energy(pauli(sample, tip, 12.0, 1.2), MIDDLE + POSITIONS)
    )


def test_negative_densities_are_left_out_and_the_number_of_electrons_is_kept(x64):
    clean = gaussian(0.6, MIDDLE, 5.0)
    tip = tip_density(gaussian(0.5, MIDDLE), MIDDLE, clean)
    noisy = np.array(clean.values)
    noisy[:, :, :5] = -1e-4
    lost = -noisy[:, :, :5].sum() / clean.values[:, :, 5:].sum()
    ours = energy(pauli(Volume(noisy, CELL, periodic=(False,) * 3), tip), MIDDLE + POSITIONS)
    expected = (1 - lost) ** 1.2 * energy(pauli(clean, tip), MIDDLE + POSITIONS)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_a_cutoff_limits_both_densities(x64):
    sample, tip = gaussian(0.5, MIDDLE, 5.0), tip_density(gaussian(0.5, MIDDLE, 5.0), MIDDLE, gaussian(0.5, MIDDLE))
    limited = Volume(np.minimum(sample.values, 0.4), CELL, periodic=(False,) * 3)
    also = Volume(np.minimum(tip.values, 0.4), tip.cell, tip.origin, (False,) * 3)
    # The integral is not kept here: a cut-off takes away what no grid resolves.
    np.testing.assert_allclose(
        energy(pauli(sample, tip, cutoff=0.4), MIDDLE + POSITIONS),
        energy(pauli(limited, also), MIDDLE + POSITIONS),
        rtol=1e-6,
    )


def test_far_from_the_nuclei_small_energies_keep_their_digits_in_single_precision():
    # At a nucleus the overlap is 1e8 times larger than here; a Fourier transform in single precision would lose it.
    sample = gaussian(0.3, MIDDLE, 50.0)
    tip = tip_density(gaussian(0.3, MIDDLE, 50.0), MIDDLE, sample)
    far = MIDDLE + np.array([[0, 0, 2.4], [2.5, 0, 0.0]])
    with jax.enable_x64(True):
        expected = energy(pauli(sample, tip), far)
    nucleus = energy(pauli(sample, tip), MIDDLE[None].astype("float32"))[0]
    assert nucleus > 1e7 * expected.max()
    np.testing.assert_allclose(energy(pauli(sample, tip), far.astype("float32")), expected, rtol=1e-2)


def test_amplitude_and_exponent_can_be_fitted_by_gradients(x64):
    sample = gaussian(0.6, MIDDLE, 4.0)
    tip = tip_density(gaussian(0.5, MIDDLE), MIDDLE, sample)
    point = jnp.asarray(MIDDLE + 0.5)[:, None]

    def at(amplitude, exponent):
        return pauli(sample, tip, amplitude, exponent).energy(point)[0]

    slopes = jax.jit(jax.grad(at, argnums=(0, 1)))(12.0, 1.1)
    np.testing.assert_allclose(slopes[0], at(1.0, 1.1), rtol=1e-9)
    np.testing.assert_allclose(slopes[1], (at(12.0, 1.1 + 1e-5) - at(12.0, 1.1 - 1e-5)) / 2e-5, rtol=1e-6)


@pytest.fixture
def carbon_monoxide():
    """Return CO with its valence electrons in Gaussians around the nuclei, and the atoms."""
    oxygen, carbon = MIDDLE - np.array([0, 0, 0.5]), MIDDLE + np.array([0, 0, 0.63])
    electrons = gaussian(0.45, oxygen, 6.0).values + gaussian(0.45, carbon, 4.0).values
    return Volume(electrons, CELL, periodic=(True,) * 3), Atoms(np.array([8, 6]), np.array([oxygen, carbon]))


def test_a_neutral_tip_keeps_no_charge_and_no_dipole_when_its_cores_are_added(carbon_monoxide):
    electrons, atoms = carbon_monoxide
    charge = delta_density(electrons, atoms, {"C": 4, "O": 6})
    assert electrons.integral == pytest.approx(10, abs=1e-4)
    assert charge.integral == pytest.approx(0, abs=1e-4)
    dipole = np.einsum("ijk,ijkx->x", charge.values * charge.point_volume, points_of())
    np.testing.assert_allclose(dipole, 0, atol=2e-3)
    assert electrons.values.max() < 20
    assert charge.values.max() > 0


def test_cores_have_the_shape_of_the_documentation(carbon_monoxide):
    electrons, atoms = carbon_monoxide
    cores = delta_density(electrons, atoms, {"C": 4, "O": 6}, radius=0.8).values + electrons.values
    expected = 0
    for charge, position in zip((6, 4), atoms.positions, strict=True):
        u2 = np.minimum(np.sum((points_of() - position) ** 2, axis=-1) / 0.8**2, 1)
        expected += charge * 105 / (32 * np.pi * 0.8**3) * (1 - u2) ** 2
    # On the grid, the charge of the formula is only right to one or two parts in a hundred.
    np.testing.assert_allclose(cores, expected, atol=0.03 * expected.max())


def test_a_core_next_to_the_border_of_a_periodic_cell_wraps():
    flat = Volume(np.full(SHAPE, 1e-3), CELL)
    corner = delta_density(flat, Atoms(np.array([6]), np.array([[0.05, 0.0, 0.1]])), {"C": 4})
    same = delta_density(flat, Atoms(np.array([6]), np.array([[0.05, 0.0, 0.1]]) + CELL[0] - 2 * CELL[2]), {"C": 4})
    np.testing.assert_allclose(corner.values, same.values, atol=1e-9)
    assert corner.integral == pytest.approx(4 - flat.integral)
    with pytest.raises(ValueError, match="is not inside of the grid of the electron density"):
        delta_density(
            Volume(flat.values, CELL, periodic=(True, True, False)), Atoms(np.array([6]), np.zeros((1, 3))), {"C": 4}
        )


def test_electrons_are_repelled_and_cores_attracted_by_a_negative_potential(carbon_monoxide):
    electrons, atoms = carbon_monoxide
    flat = Volume(np.full(SHAPE, -2.0), CELL)
    tip = tip_density(delta_density(electrons, atoms, {"C": 5, "O": 7}), atoms.positions[0], flat)
    # Two positive charges more than electrons, in -2 V.
    np.testing.assert_allclose(energy(hartree(flat, tip), np.zeros((1, 3), "float32")), -4, atol=1e-3)


DENSITY = gaussian(0.6, MIDDLE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pauli(DENSITY, DENSITY, amplitude=-1.0), "amplitude is -1.0: expected a positive number"),
        (lambda: pauli(DENSITY, DENSITY, exponent=np.nan), "exponent is nan: expected a positive number"),
        (lambda: pauli(DENSITY, DENSITY, cutoff=0.0), "cutoff is 0.0: expected a positive number"),
        (
            lambda: pauli(Volume(-DENSITY.values, CELL), DENSITY),
            "sample density sums up to .*: expected electrons, as positive numbers",
        ),
        (lambda: pauli(DENSITY, Volume(DENSITY.values, CELL * 0.9)), "tip_density"),
        (lambda: pauli(Volume(DENSITY.values * np.inf, CELL), DENSITY), "sample density.values.* is inf, one of"),
        (lambda: delta_density(DENSITY, Atoms(np.array([8]), MIDDLE[None]), {"C": 4}), "valence has no element 8"),
        (
            lambda: delta_density(DENSITY, Atoms(np.array([6]), MIDDLE[None]), {"C": 4}, radius=0.3),
            "too coarse for the cores: its steps are up to 0.21 Å long, expected at most half of the radius of 0.3",
        ),
    ],
)
def test_what_makes_no_sense_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
