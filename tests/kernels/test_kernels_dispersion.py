import importlib
import sys
import warnings
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twinscope.kernels import Atoms, DispersionSites, Tip, dispersion_coefficients, dispersion_d3
from twinscope.kernels._pairs import bucket

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
BOHR, HARTREE = 0.529177210903, 27.211386245988
OXYGEN = Tip("O", charges=())
# So far (bohr) the library counts bonds in some tests: a probe farther away than 5.3 Å changes nothing in the sample.
REACH = 10.0


@pytest.fixture(autouse=True)
def library():
    """The package with the coefficients."""
    return pytest.importorskip("dftd3.interface")


@pytest.fixture(scope="module")
def peer():
    """The reference code, which warns about itself when it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("ppafm.core")


@pytest.fixture
def ptcda(golden):
    """The molecule of the golden data."""
    return golden("PTCDA__CO_fdbm", "float64").atoms


def methanol(dtype="float64"):
    positions = [[-0.05, 0.66, 0], [-0.05, -0.76, 0], [-1.09, 0.98, 0], [0.44, 1.07, 0.89], [0.44, 1.07, -0.89]]
    return Atoms(np.array([6, 8, 1, 1, 1, 1]), np.array([*positions, [0.86, -1.06, 0]], dtype))


def graphene(images):
    """A 3 x 3 cell, and how often it stands beside itself."""
    a, b = 2.46 * np.array([1.0, 0.0, 0.0]), 2.46 * np.array([-0.5, 0.75**0.5, 0.0])
    cells = np.array([i * a + j * b for i in range(3) for j in range(3)])
    positions = (cells + np.array([[[0.0, 0.0, 0.0]], [(a + 2 * b) / 3]])).reshape(-1, 3)
    return Atoms(np.full(18, 6), positions, None, np.array([3 * a, 3 * b, [0, 0, 20.0]]), images)


def random_points(count, low=2.0, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(-4, 4, (count, 2)), rng.uniform(low, 8, (count, 1))], axis=1)


@jax.jit
def _evaluate(term, points):
    return term.energy(points), *term.force_and_hessian(points)


def evaluate(term, points):
    """Energy (n,), force (n, 3) and Hessian (n, 3, 3) of a term."""
    energy, force, (xx, xy, xz, yy, yz, zz) = _evaluate(term, jnp.asarray(np.asarray(points).T))
    hessian = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return np.array(energy), np.array(force).T, np.moveaxis(hessian, -1, 0)


def test_coefficients_of_a_molecule_are_those_known_for_it(ptcda):
    # Computed with ppafm 0.4.1; the oxygens are the two of the rings and, after them, the four at the ends.
    coefficients = dispersion_coefficients(ptcda, OXYGEN)
    for number, c6, radius in ((1, 4.05, 3.25), (6, 11.50, 3.47), (8, 7.54, 3.37)):
        of_element = ptcda.numbers == number
        np.testing.assert_allclose(coefficients.c6[of_element].min(), c6, atol=0.006)
        np.testing.assert_allclose(coefficients.radius[of_element], radius, atol=0.006)


@pytest.mark.parametrize(
    ("functional", "parameters"),
    [
        ("pbe", {"s6": 1.0, "s8": 0.7875, "a1": 0.4289, "a2": 4.4407}),
        ("revPBE", {"s6": 1.0, "s8": 2.3550, "a1": 0.5238, "a2": 3.5016}),
        ("B2PLYP", {"s6": 0.64, "s8": 0.9147, "a1": 0.3065, "a2": 5.0570}),
    ],
)
@pytest.mark.parametrize("probe", [8, 54])
def test_coefficients_are_those_of_the_reference_code(peer, ptcda, functional, parameters, probe):
    ours = dispersion_coefficients(ptcda, Tip(probe), functional)
    c6, c8, sixth, eighth = peer.computeD3Coeffs(ptcda.positions, ptcda.numbers, probe, parameters).T
    # The reference code computes in single precision here.
    np.testing.assert_allclose(ours.c6, c6, rtol=2e-6)
    np.testing.assert_allclose(ours.c8, c8, rtol=2e-6)
    np.testing.assert_allclose(ours.radius**6, sixth, rtol=2e-6)
    np.testing.assert_allclose(ours.radius**8, eighth, rtol=2e-6)


def test_forces_are_those_of_the_reference_code(peer, x64):
    part = methanol()
    atoms = Atoms(part.numbers, part.positions + np.array([2.0, 1.0, -1.5]))
    parameters = {"s6": 1.0, "s8": 0.7875, "a1": 0.4289, "a2": 4.4407}
    counts = (5, 4, 25)
    energies, forces = np.zeros(counts), np.zeros((*counts, 3))
    peer.setGridN(np.array(counts))
    peer.setGridCell(np.vstack([np.zeros(3), np.diag(np.array(counts, float))]))
    peer.setFF_Fpointer(forces)
    peer.setFF_Epointer(energies)
    peer.getDFTD3FF(atoms.positions, peer.computeD3Coeffs(atoms.positions, atoms.numbers, 8, parameters))
    points = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 3)
    energy, force, _ = evaluate(dispersion_d3(atoms, OXYGEN, cutoff=20), points.astype(float))
    assert energies.min() < -0.03
    assert (energies == 0).any()
    np.testing.assert_allclose(energy, energies.ravel(), rtol=3e-6, atol=1e-15)
    np.testing.assert_allclose(force, forces.reshape(-1, 3), rtol=3e-6, atol=1e-7)


@pytest.mark.parametrize("functional", ["pbe", "b3lyp", "r2scan", "scan", "hf", "b97d"])
def test_energies_are_what_the_library_says_a_probe_adds(library, functional, x64):
    atoms = methanol()
    parameters = importlib.import_module("dftd3.parameters").get_damping_param(functional, defaults=["bj"])
    damping = library.RationalDampingParam(**{**parameters, "s9": 0.0})

    def energy_of(numbers, positions):
        model = library.DispersionModel(np.array(numbers), np.array(positions) / BOHR)
        model.set_realspace_cutoff(60.0, 1e-3, REACH)
        return float(model.get_dispersion(damping, grad=False)["energy"]) * HARTREE

    points = random_points(6, low=6.5)
    alone = energy_of(atoms.numbers, atoms.positions) + energy_of([8], [[0, 0, 0]])
    both = [energy_of([*atoms.numbers, 8], [*atoms.positions, point]) for point in points]
    energy, _, _ = evaluate(dispersion_d3(atoms, OXYGEN, functional), points)
    np.testing.assert_allclose(energy, np.array(both) - alone, rtol=1e-7)


def test_neighbours_in_periodic_images_count_and_pull(library, x64):
    sheet, cutoff = graphene((4, 4, 0)), 40.0 * BOHR
    damping = library.RationalDampingParam(s8=0.7875, s9=0.0, a1=0.4289, a2=4.4407)

    def energy_of(numbers, positions):
        model = library.DispersionModel(
            np.array(numbers), np.array(positions) / BOHR, sheet.cell / BOHR, np.array([True, True, False])
        )
        model.set_realspace_cutoff(cutoff / BOHR, 1e-3, REACH)
        return float(model.get_dispersion(damping, grad=False)["energy"]) * HARTREE

    points = np.array([[0.3, 0.2, 5.5], [2.0, 3.0, 6.0], [1.0, 5.0, 7.0]])
    alone = energy_of(sheet.numbers, sheet.positions) + energy_of([8], [[0, 0, 0]])
    both = [energy_of([*sheet.numbers, 8], [*sheet.positions, point]) for point in points]
    energy, _, _ = evaluate(dispersion_d3(sheet, OXYGEN, cutoff=cutoff), points)
    np.testing.assert_allclose(energy, np.array(both) - alone, rtol=1e-3)


def test_atoms_at_the_edge_of_a_cell_are_like_those_inside():
    repeated, isolated = (dispersion_coefficients(graphene(images), OXYGEN) for images in ((1, 1, 0), (0, 0, 0)))
    np.testing.assert_allclose(repeated.c6, repeated.c6[0], rtol=1e-4)
    assert np.ptp(isolated.c6) > 1
    # One ring of neighbouring cells is enough.
    np.testing.assert_allclose(repeated.c6, dispersion_coefficients(graphene((3, 3, 0)), OXYGEN).c6, rtol=1e-4)


def test_periodic_images_are_an_explicit_supercell(x64):
    sheet = graphene((2, 1, 0))
    coefficients = dispersion_coefficients(sheet, OXYGEN)
    shifts = np.array([i * sheet.cell[0] + j * sheet.cell[1] for i in range(-2, 3) for j in range(-1, 2)])
    positions = (sheet.positions + shifts[:, None]).reshape(-1, 3)
    tiled = type(coefficients)(*(np.tile(values, 15) for values in vars(coefficients).values()))
    supercell = dispersion_d3(Atoms(np.full(len(positions), 6), positions), OXYGEN, coefficients=tiled)
    points = random_points(20)
    for ours, explicit in zip(evaluate(dispersion_d3(sheet, OXYGEN), points), evaluate(supercell, points), strict=True):
        np.testing.assert_allclose(ours, explicit, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("cutoff", [None, 7.0])
def test_forces_and_hessians_are_derivatives_of_the_energy(cutoff, x64):
    term, points, step = dispersion_d3(methanol(), OXYGEN, cutoff=cutoff), random_points(60, low=1.0), 1e-4
    _, force, hessian = evaluate(term, points)
    around = [(evaluate(term, points + d), evaluate(term, points - d)) for d in step * np.eye(3)]
    slope = np.stack([(plus[0] - minus[0]) / (2 * step) for plus, minus in around], axis=-1)
    curvature = np.stack([(minus[1] - plus[1]) / (2 * step) for plus, minus in around], axis=-1)
    np.testing.assert_allclose(force, -slope, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(hessian, curvature, rtol=1e-5, atol=1e-8)


def test_far_away_the_energy_falls_with_the_sixth_power(x64):
    atoms, r = Atoms(np.array([79]), np.zeros((1, 3))), np.array([30.0, 60.0])
    coefficients = dispersion_coefficients(atoms, OXYGEN)
    energy, _, _ = evaluate(dispersion_d3(atoms, OXYGEN), np.stack([0 * r, r, 0 * r], axis=-1))
    np.testing.assert_allclose(energy, -coefficients.c6 / r**6 - coefficients.c8 / r**8, rtol=1e-5)


def test_single_precision_is_right_to_a_few_millionths_and_does_not_overflow():
    points = np.concatenate([random_points(60), [[60, -80, 4], [1e3, 500, 8], [1e5, 0, 8]]]).astype("float32")
    ours = evaluate(dispersion_d3(methanol("float32"), OXYGEN), points)
    assert all(values.dtype == np.float32 for values in ours)
    with jax.enable_x64(True):
        expected = evaluate(dispersion_d3(methanol(), OXYGEN), points.astype(float))
    for single, double in zip(ours, expected, strict=True):
        np.testing.assert_allclose(single, double, rtol=1e-4, atol=2e-6)


def test_sites_that_fill_the_list_up_do_not_pull(x64):
    full = dispersion_d3(methanol(), OXYGEN)
    assert len(full.c6) == bucket(6)
    alone = DispersionSites(full.positions[:6], full.c6[:6], full.c8[:6], full.radius[:6])
    for ours, expected in zip(evaluate(full, random_points(9)), evaluate(alone, random_points(9)), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-15)


def test_known_coefficients_let_the_atoms_move(x64):
    atoms, points = methanol(), jnp.asarray(random_points(1).T)
    coefficients = dispersion_coefficients(atoms, OXYGEN)

    def energy(positions):
        return dispersion_d3(Atoms(atoms.numbers, positions), OXYGEN, coefficients=coefficients).energy(points)[0]

    _, force, _ = evaluate(dispersion_d3(atoms, OXYGEN), points.T)
    np.testing.assert_allclose(jax.grad(energy)(jnp.asarray(atoms.positions)).sum(axis=0), force[0], rtol=1e-9)
    with pytest.raises(ValueError, match=r"not known inside of a JAX transformation: .*coefficients="):
        jax.grad(lambda positions: dispersion_d3(Atoms(atoms.numbers, positions), OXYGEN).energy(points)[0])(
            jnp.asarray(atoms.positions)
        )


def test_the_golden_field_far_away_is_dispersion_and_electrostatics(golden, x64):
    case = golden("PTCDA__CO_fdbm", "float64")
    nodes, energies = case.arrays["xyz"].astype(float), case.arrays["FE"][:, 3]
    nearest = np.linalg.norm(nodes[:, None] - case.atoms.positions, axis=2).min(axis=1)
    # Farther out than this the densities no longer touch, and only the potential acts on the charge of the tip.
    outside = np.flatnonzero((nearest > 5.4) & (nodes[:, 2] > 0))
    far = outside[np.argsort(nearest[outside])][:24]
    with h5py.File(GOLDEN / "PTCDA__CO_fdbm.h5") as file:
        potential, charge = file["fdbm/V"][:], file["fdbm/rho_tip_delta"][:]
    step = 0.2
    along = [np.where(np.arange(n) < n // 2, np.arange(n), np.arange(n) - n) * step for n in charge.shape]
    places = np.stack(np.meshgrid(*along, indexing="ij"), axis=-1)[np.abs(charge) > 1e-6]
    charge = charge[np.abs(charge) > 1e-6] * step**3
    corner = np.array([-10.0, -10.0, -6.0])
    electrostatic = [-charge @ trilinear(potential, (places + node - corner) / step) for node in nodes[far]]
    energy, _, _ = evaluate(dispersion_d3(case.atoms, case.tip, "pbe", cutoff=20), nodes[far])
    assert energy.min() < -3e-3
    np.testing.assert_allclose(energy, energies[far] - electrostatic, rtol=0, atol=1e-5)


def trilinear(values, places):
    """Values, periodic, at fractional indices (n, 3)."""
    low = np.floor(places).astype(int)
    high = places - low
    total = np.zeros(len(places))
    for corner in np.ndindex(2, 2, 2):
        share = np.prod(np.where(corner, high, 1 - high), axis=1)
        total += share * values[tuple(((low + corner) % values.shape).T)]
    return total


@pytest.mark.parametrize(
    ("functional", "text"),
    [
        ("pbee", "unknown functional 'pbee': expected one of the .* that the package dftd3 knows, such as .*pbe"),
        ("", "unknown functional '': expected one of"),
        (None, "unknown functional None: expected one of"),
    ],
)
def test_an_unknown_functional_is_refused_with_names_that_are_known(functional, text):
    with pytest.raises(ValueError, match=text):
        dispersion_d3(methanol(), OXYGEN, functional)


@pytest.mark.parametrize("cutoff", [0, -3.0, float("nan")])
def test_a_cutoff_is_positive(cutoff):
    with pytest.raises(ValueError, match=r"cutoff is .* Å: expected a positive number, or None"):
        dispersion_d3(methanol(), OXYGEN, cutoff=cutoff)


def test_atoms_that_the_method_does_not_know_are_refused():
    # The library itself crashes on some of them.
    with pytest.raises(ValueError, match=r"DFT-D3 has no coefficients for element 104: expected 1 \(H\) to 94 \(Pu\)"):
        dispersion_d3(Atoms(np.array([104]), np.zeros((1, 3))), OXYGEN)
    with pytest.raises(ValueError, match="DFT-D3 has no coefficients for element 118"):
        dispersion_d3(methanol(), Tip("Og"))
    with pytest.raises(ValueError, match="unknown element 'Qx'"):
        dispersion_d3(methanol(), Tip("Qx"))


def test_atoms_on_top_of_each_other_are_refused():
    with pytest.raises(ValueError, match=r"not those of a sample: .*[Tt]oo close"):
        dispersion_d3(Atoms(np.array([6, 6]), np.zeros((2, 3))), OXYGEN)


def test_coefficients_of_another_sample_are_refused():
    with pytest.raises(ValueError, match="the coefficients are those of 18 atoms, but the sample has 6"):
        dispersion_d3(methanol(), OXYGEN, coefficients=dispersion_coefficients(graphene((0, 0, 0)), OXYGEN))


@pytest.mark.parametrize("missing", ["dftd3.interface", "dftd3.parameters"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ModuleNotFoundError, match=r"DFT-D3 needs the package 'dftd3' .*pip install 'twinscope\[disp"):
        dispersion_d3(methanol(), OXYGEN)
