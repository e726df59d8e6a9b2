import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from twinscope.kernels import (
    Atoms,
    Damping,
    Tip,
    damped_dispersion,
    mixed_parameters,
    morse,
    pair_terms,
    relax_columns,
)
from twinscope.kernels._pairs import bucket

OXYGEN = Tip("O", charges=())
MODELS = {"morse": morse, "steep morse": lambda atoms, tip: morse(atoms, tip, 2.3)} | {
    str(kind): lambda atoms, tip, kind=kind: damped_dispersion(atoms, tip, kind) for kind in Damping
}
KINDS = {Damping.NONE: -1, Damping.R2: 1, Damping.R4: 2, Damping.INVERSE_R4: 3, Damping.INVERSE_R8: 4}
STRENGTHS = {Damping.NONE: -1.0, Damping.R2: 0.5, Damping.R4: 0.5, Damping.INVERSE_R4: 0.03, Damping.INVERSE_R8: 0.01}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())


@pytest.fixture(scope="module")
def peer():
    """The reference code, which warns about itself when it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("ppafm.core")


def random_points(count, seed=0):
    """Points from 2 Å above the atoms upwards: on both sides of the pair minima."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(-6, 6, (count, 2)), rng.uniform(2, 8, (count, 1))], axis=1)


def random_atoms(dtype="float64", count=11, seed=1):
    rng = np.random.default_rng(seed)
    positions = rng.uniform((-4, -4, -1.5), (4, 4, 0), (count, 3)).astype(dtype)
    return Atoms(rng.choice([1, 6, 7, 8, 17, 35, 79], count), positions)


def one_atom(number=6):
    return Atoms(np.array([number]), np.zeros((1, 3)))


@jax.jit
def _evaluate(term, points):
    return term.energy(points), *term.force_and_hessian(points)


def evaluate(term, points):
    """Energy (n,), force (n, 3) and Hessian (n, 3, 3) of a term."""
    energy, force, (xx, xy, xz, yy, yz, zz) = _evaluate(term, jnp.asarray(np.asarray(points).T))
    hessian = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return np.array(energy), np.array(force).T, np.moveaxis(hessian, -1, 0)


def on_axis(distances):
    return np.stack([0 * distances, 0 * distances, distances], axis=-1)


@every_model
def test_forces_and_hessians_are_derivatives_of_the_energy(model, x64):
    term, points, step = model(random_atoms(), OXYGEN), random_points(100), 1e-4
    _, force, hessian = evaluate(term, points)
    around = [(evaluate(term, points + d), evaluate(term, points - d)) for d in step * np.eye(3)]
    slope = np.stack([(plus[0] - minus[0]) / (2 * step) for plus, minus in around], axis=-1)
    curvature = np.stack([(minus[1] - plus[1]) / (2 * step) for plus, minus in around], axis=-1)
    np.testing.assert_allclose(force, -slope, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(hessian, curvature, rtol=1e-5, atol=1e-7)


@every_model
def test_single_precision_is_right_to_a_few_millionths(model):
    points = random_points(100).astype("float32")
    ours = evaluate(model(random_atoms("float32"), OXYGEN), points)
    assert all(values.dtype == np.float32 for values in ours)
    with jax.enable_x64(True):
        atoms = random_atoms("float32")
        expected = evaluate(model(Atoms(atoms.numbers, atoms.positions.astype(float)), OXYGEN), points.astype(float))
    for single, exact in zip(ours, expected, strict=True):
        np.testing.assert_allclose(single, exact, rtol=1e-4, atol=5e-6)


@every_model
def test_far_away_there_is_nothing_and_no_overflow(model):
    points = np.array([[60, -80, 4], [1e3, 500, 8], [1e5, 0, 8]], "float32")
    energy, force, hessian = evaluate(model(random_atoms("float32"), OXYGEN), points)
    for values in (energy, force, hessian):
        assert np.isfinite(values).all()
        assert np.abs(values).max() < 1e-7


@every_model
def test_periodic_images_are_an_explicit_supercell(model, x64):
    part = random_atoms(count=5)
    cell = np.array([[6.0, 0.5, 0.0], [-2.0, 7.0, 0.3], [0.0, 0.0, 15.0]])
    atoms = Atoms(part.numbers, part.positions, None, cell, (2, 1, 0))
    shifts = np.array([i * cell[0] + j * cell[1] for i in range(-2, 3) for j in range(-1, 2)])
    supercell = Atoms(np.tile(part.numbers, 15), (part.positions + shifts[:, None]).reshape(-1, 3))
    for ours, explicit in zip(
        *(evaluate(model(sample, OXYGEN), random_points(50)) for sample in (atoms, supercell)), strict=True
    ):
        np.testing.assert_allclose(ours, explicit, rtol=1e-10, atol=1e-13)


@every_model
def test_sites_that_fill_the_list_up_do_not_pull(model, x64):
    full = model(random_atoms(count=1), OXYGEN)
    assert len(full.depth) == bucket(1)
    parts = {name: values[:1] if np.ndim(values) else values for name, values in vars(full).items()}
    alone = type(full)(**parts)
    for ours, expected in zip(evaluate(full, random_points(9)), evaluate(alone, random_points(9)), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-15)


@every_model
def test_own_parameters_go_before_those_of_the_elements(model, x64):
    own = Atoms(np.array([79]), np.zeros((1, 3)), lennard_jones=np.array([[1.908, 0.003729]]))
    ours = evaluate(model(own, Tip("Xe", lennard_jones=(1.6612, 0.009106))), random_points(9))
    for values, expected in zip(ours, evaluate(model(one_atom(6), OXYGEN), random_points(9)), strict=True):
        np.testing.assert_allclose(values, expected, rtol=1e-12)


@every_model
def test_the_energy_can_be_differentiated_with_respect_to_atoms(model, x64):
    atoms, points = random_atoms(), jnp.asarray(random_points(1).T)

    def energy(positions):
        return model(Atoms(atoms.numbers, positions), OXYGEN).energy(points)[0]

    # Moving all atoms is the same as moving the probe the other way.
    _, force, _ = evaluate(model(atoms, OXYGEN), points.T)
    np.testing.assert_allclose(jax.grad(energy)(jnp.asarray(atoms.positions)).sum(axis=0), force[0], rtol=1e-9)


@pytest.mark.parametrize("alpha", [1.2, 1.6, 2.5])
def test_the_minimum_of_morse_is_that_of_lennard_jones(alpha, x64):
    (radius,), (depth,) = mixed_parameters(one_atom(), Tip("Xe"))
    energy, force, hessian = evaluate(morse(one_atom(), Tip("Xe"), alpha), on_axis(radius[None]))
    np.testing.assert_allclose(energy, -depth, rtol=1e-12)
    np.testing.assert_allclose(force, 0, atol=1e-12)
    np.testing.assert_allclose(hessian[0], np.diag([0, 0, 2 * alpha**2 * depth]), atol=1e-12)


@pytest.mark.parametrize("kind", Damping)
def test_far_outside_the_attraction_is_that_of_lennard_jones(kind, x64):
    r = np.array([12.0, 20.0, 40.0])
    (radius,), (depth,) = mixed_parameters(one_atom(79), OXYGEN)
    energy, _, _ = evaluate(damped_dispersion(one_atom(79), OXYGEN, kind), on_axis(r))
    # invR4 is the slowest: it is short of it by 0.03 u**-10.
    np.testing.assert_allclose(energy, -2 * depth * radius**6 / r**6, rtol=1e-6)
    lennard_jones = pair_terms(one_atom(79), OXYGEN).energy(jnp.asarray(on_axis(r).T))
    np.testing.assert_allclose(energy, lennard_jones, rtol=(radius / r[0]) ** 6)


def test_forces_are_continuous_where_their_damping_ends_and_jump_only_for_r2(x64):
    (radius,), _ = mixed_parameters(one_atom(), OXYGEN)
    points = on_axis(radius + np.array([-1e-7, 1e-7]))
    for kind in Damping:
        energy, force, _ = evaluate(damped_dispersion(one_atom(), OXYGEN, kind), points)
        np.testing.assert_allclose(energy[0], energy[1], rtol=1e-6)
        np.testing.assert_allclose(force[0, 2] / force[1, 2], 5 / 6 if kind is Damping.R2 else 1, rtol=1e-5)


@pytest.mark.parametrize(("kind", "turn"), [("R2", 0.64), ("R4", 0.66), ("invR4", 0.68), ("invR8", 0.73)])
def test_a_damped_attraction_is_strongest_inside_of_the_pair_minimum(kind, turn):
    u = np.linspace(0.4, 1.2, 801)
    (radius,), _ = mixed_parameters(one_atom(), OXYGEN)
    energy, _, _ = evaluate(damped_dispersion(one_atom(), OXYGEN, kind), on_axis(u * radius))
    assert u[energy.argmin()] == pytest.approx(turn, abs=0.006)


@pytest.mark.parametrize("kind", Damping)
def test_dispersion_is_that_of_the_reference_code(peer, kind, x64):
    atoms, r = one_atom(17), np.linspace(1.5, 12, 50)
    (radius,), (depth,) = mixed_parameters(atoms, OXYGEN)
    # Without damping the reference code wants C6 itself.
    pair = [2 * depth * radius**6, 0] if kind is Damping.NONE else [radius, depth]
    for factor in (1.0, 2.5):
        strength = STRENGTHS[kind] * factor
        expected_energy, expected_force = peer.evalRadialFF(r, pair, kind=KINDS[kind], ADamp=strength)
        term = damped_dispersion(atoms, OXYGEN, kind, None if factor == 1 or kind is Damping.NONE else strength)
        energy, force, _ = evaluate(term, on_axis(r))
        # The reference code adds 1e-8 to u².
        np.testing.assert_allclose(energy, expected_energy, rtol=1e-6)
        np.testing.assert_allclose(force[:, 2], expected_force, rtol=1e-6, atol=1e-9)


def peer_grid(peer, fill, counts=(5, 4, 6)):
    """Points (n, 3) from the origin on, 1 Å apart, and the reference code's energies and forces there."""
    energies, forces = np.zeros(counts), np.zeros((*counts, 3))
    peer.setGridN(np.array(counts))
    peer.setGridCell(np.vstack([np.zeros(3), np.diag(np.array(counts, float))]))
    peer.setFF_Fpointer(forces)
    peer.setFF_Epointer(energies)
    fill()
    points = np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), axis=-1).reshape(-1, 3)
    return points.astype(float), energies.ravel(), forces.reshape(-1, 3)


def atoms_below_a_grid():
    part = random_atoms()
    return Atoms(part.numbers, part.positions + np.array([2.0, 1.5, -2.5]))


@pytest.mark.parametrize("alpha", [1.6, 2.2])
def test_morse_is_that_of_the_reference_code(peer, alpha, x64):
    atoms = atoms_below_a_grid()
    pairs = np.stack(mixed_parameters(atoms, OXYGEN), axis=-1)
    points, energies, forces = peer_grid(peer, lambda: peer.getMorseFF(atoms.positions, pairs, alpha=-alpha))
    energy, force, _ = evaluate(morse(atoms, OXYGEN, alpha), points)
    assert np.abs(forces).max() > 0.05
    np.testing.assert_allclose(energy, energies, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(force, forces, rtol=1e-6, atol=1e-9)


def test_damped_dispersion_of_many_atoms_is_that_of_the_reference_code(peer, x64):
    atoms = atoms_below_a_grid()
    pairs = np.stack(mixed_parameters(atoms, OXYGEN), axis=-1)
    points, energies, forces = peer_grid(peer, lambda: peer.getVdWFF_RE(atoms.positions, pairs, 2, 0.5))
    energy, force, _ = evaluate(damped_dispersion(atoms, OXYGEN), points)
    assert np.abs(forces).max() > 0.05
    np.testing.assert_allclose(energy, energies, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(force, forces, rtol=1e-6, atol=1e-9)


def test_a_probe_is_relaxed_in_another_model():
    heights = np.array([8.0, 7.5, 7.0, 6.6], np.float32)
    tip = Tip(charges=((0.3, 0.0),))
    atoms = Atoms(np.array([6]), np.zeros((1, 3), np.float32), np.array([-0.2], np.float32))
    term = morse(atoms, tip)
    columns = relax_columns(atoms, tip, np.zeros((1, 2), np.float32), heights, term, lennard_jones=False)
    probe = on_axis(heights - 3) + np.asarray(columns.displacement[:, 0])
    (_, morse_force, _), (_, charge_force, _) = (
        evaluate(part, probe) for part in (term, pair_terms(atoms, tip, lennard_jones=False))
    )
    assert np.abs(morse_force).max() > 1e-3
    np.testing.assert_allclose(columns.force_z[:, 0], (morse_force + charge_force)[:, 2], rtol=1e-3)


def test_damping_is_known_by_name():
    assert damped_dispersion(one_atom(), OXYGEN, "invR8").damping is Damping.INVERSE_R8
    assert damped_dispersion(one_atom(), OXYGEN).damping is Damping.R4
    with pytest.raises(ValueError, match="damping is 'r5': expected one of 'none', 'R2', 'R4', 'invR4', 'invR8'"):
        damped_dispersion(one_atom(), OXYGEN, "r5")
    with pytest.raises(ValueError, match="damping is 'const': expected one of"):
        damped_dispersion(one_atom(), OXYGEN, "const")


@pytest.mark.parametrize("value", [0, -1.6, float("nan"), float("inf"), [1.0, 2.0]])
def test_parameters_that_are_not_positive_numbers_are_refused(value):
    with pytest.raises(ValueError, match=r"alpha is .* 1/Å: expected one positive number"):
        morse(one_atom(), OXYGEN, value)
    with pytest.raises(ValueError, match=r"strength is .*: expected one positive number"):
        damped_dispersion(one_atom(), OXYGEN, "R2", value)


def test_no_damping_has_no_strength():
    with pytest.raises(ValueError, match=r"strength is 0\.5, but damping 'none' has no strength"):
        damped_dispersion(one_atom(), OXYGEN, "none", 0.5)


@every_model
def test_unknown_elements_are_refused(model):
    with pytest.raises(ValueError, match="unknown element 119"):
        model(one_atom(119), OXYGEN)
    with pytest.raises(ValueError, match="unknown element 'Qx'"):
        model(one_atom(), Tip("Qx"))


def test_parameters_may_be_traced(x64):
    points = jnp.asarray(on_axis(np.array([4.5])).T)
    slope = jax.grad(lambda alpha: morse(one_atom(), OXYGEN, alpha).energy(points)[0])(1.6)
    high, low = (morse(one_atom(), OXYGEN, 1.6 + d).energy(points)[0] for d in (1e-5, -1e-5))
    np.testing.assert_allclose(slope, (high - low) / 2e-5, rtol=1e-6)
    slope = jax.grad(lambda a: damped_dispersion(one_atom(), OXYGEN, "invR4", a).energy(points)[0])(0.03)
    high, low = (damped_dispersion(one_atom(), OXYGEN, "invR4", 0.03 + d).energy(points)[0] for d in (1e-6, -1e-6))
    np.testing.assert_allclose(slope, (high - low) / 2e-6, rtol=1e-6)
