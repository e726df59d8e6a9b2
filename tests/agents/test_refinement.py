from dataclasses import replace

import numpy as np
import pytest

from twinscope.agents.structure_discovery.refinement import RefinementOptions, refine
from twinscope.agents.structure_discovery.refinement.beliefs import Beliefs
from twinscope.agents.structure_discovery.refinement.chemistry import find_bonds
from twinscope.agents.structure_discovery.refinement.measurement import estimated_noise, select
from twinscope.agents.structure_discovery.refinement.model import Model
from twinscope.agents.structure_discovery.refinement.priors import Distances, priors_of
from twinscope.agents.structure_discovery.refinement.search import Candidate
from twinscope.agents.structure_discovery.refinement.solver import Problem
from twinscope.agents.structure_discovery.refinement.weighting import Weighting
from twinscope.agents.structure_discovery.stack import ImageStack
from twinscope.agents.structure_discovery.structure import Structure
from twinscope.errors import InvalidRequestError
from twinscope.kernels import Atoms, Cantilever, ScanGrid, Tip, frequency_shift_at, simulate

ANGLE = np.arange(6) * np.pi / 3
RING = np.stack([np.cos(ANGLE), np.sin(ANGLE), 0 * ANGLE], axis=1)
BENZENE = np.concatenate([1.39 * RING, 2.48 * RING])
NUMBERS = np.repeat([6, 1], 6)
HEIGHT, STIFFNESS = 3.4, 0.21
SENSOR = Cantilever(amplitude=1.0)
USUAL = Tip(rest=(0.0, 0.0, 4.0), charges=((-0.1, 0.0),))
OPTIONS = RefinementOptions(margin=2.0, rounds=6, change_atoms=False)


@pytest.fixture(scope="module")
def stack():
    """Benzene under a soft tip, with the noise on which the published network was trained."""
    axis = np.linspace(-5, 5, 32)
    centres = HEIGHT + 0.1 * np.arange(9, -1, -1)
    levels = (np.linspace(centres[0] + 0.5, centres[-1] - 0.5, 20) + 4.0).astype("float32")
    tip = replace(USUAL, stiffness=(STIFFNESS, STIFFNESS, 0.0, 30.0))
    atoms = Atoms(NUMBERS, BENZENE.astype("float32"), np.repeat([-0.06, 0.06], 6).astype("float32"))
    force = simulate(atoms, tip, ScanGrid(axis.astype("float32"), axis.astype("float32"), levels)).force_z
    df = np.asarray(frequency_shift_at(centres + 4.0, force, levels, SENSOR))
    noise = np.random.default_rng(1).uniform(-0.05, 0.05, df.shape) * np.ptp(df, axis=(1, 2), keepdims=True)
    return ImageStack(df + noise, axis, axis, centres, SENSOR)


@pytest.fixture(scope="module")
def start():
    moved = BENZENE + np.random.default_rng(2).normal(scale=0.12, size=BENZENE.shape)
    return Structure.known(NUMBERS, moved - [0, 0, moved[:, 2].max()])


@pytest.fixture(scope="module")
def refined(stack, start):
    return refine(stack, start, tip=USUAL, conditions={"height": (HEIGHT + 0.2, 0.25)}, options=OPTIONS)


def test_slices_that_were_not_measured_are_no_part_of_the_fit(stack, start, refined):
    few = stack.frequency_shift.copy()
    few[[0, 1, 3, 4, 5, 7, 9]] = np.nan
    again = refine(
        replace(stack, frequency_shift=few),
        start,
        tip=USUAL,
        conditions={"height": (HEIGHT + 0.2, 0.25)},
        options=OPTIONS,
    )
    assert again.slices.tolist() == [2, 6, 8]
    assert off(again.structure.positions) < 0.05
    # Heights are those above the lowest slice of the stack, also where that is missing.
    assert again.conditions["height"][0] == pytest.approx(refined.conditions["height"][0], abs=0.1)
    assert again.believable, again.reason


def off(positions):
    """Deviation per axis; the origin of z is the highest atom, whichever it is."""
    difference = positions - BENZENE
    difference[:, 2] -= difference[:, 2].mean()
    return np.sqrt((difference**2).mean())


def test_atoms_and_tip_are_found_again(refined, start):
    assert off(start.positions.copy()) > 0.1
    assert off(refined.structure.positions.copy()) < 0.05
    assert refined.structure.positions[:, 2].max() == 0
    height, width = refined.conditions["height"]
    assert abs(height - HEIGHT) < 0.1
    assert 0 < width < 0.25
    assert abs(refined.conditions["lateral_stiffness"][0] - STIFFNESS) < 0.02
    assert refined.believable, refined.reason


def test_what_is_left_is_the_noise(refined):
    np.testing.assert_allclose(refined.residual, refined.noise, rtol=0.3)
    assert not refined.changed
    assert refined.simulated.shape == refined.measured.shape
    assert refined.history[-1].residual < refined.history[0].residual


def test_deviations_of_atoms_are_known(refined):
    sigma = refined.structure.sigma
    assert (sigma[:, :2] > 0).all()
    assert sigma.max() < 0.2
    assert len(refined.structure.bonds) == 12


def test_elements_stay_likely(refined):
    chosen = refined.structure.probabilities[np.arange(12), np.where(NUMBERS == 1, 0, 1)]
    np.testing.assert_allclose(refined.structure.probabilities.sum(axis=1), 1)
    assert (chosen > 0.5).all()


def test_a_wrong_element_is_exchanged(stack):
    numbers = NUMBERS.copy()
    numbers[1] = 7
    given = Structure.known(numbers, BENZENE)
    doubtful = 0.6 * given.probabilities + 0.4 * Structure.known(NUMBERS, BENZENE).probabilities
    options = replace(OPTIONS, rounds=2, change_atoms=True)
    conditions = {"height": (HEIGHT, 0.1)}
    found = refine(stack, replace(given, probabilities=doubtful), tip=USUAL, conditions=conditions, options=options)
    np.testing.assert_array_equal(found.structure.numbers, NUMBERS)
    assert any("atom 1 becomes element 6" in step.action for step in found.history)
    assert found.changed
    assert found.history[-1].action == "changed atoms are kept"


@pytest.fixture(scope="module")
def candidate(stack):
    """Make the fit of benzene at the truth, as the atoms that are asked for."""
    measurement = select(stack, BENZENE, replace(OPTIONS, pixels=200))

    def made(numbers, price=0.0):
        structure = Structure.known(numbers, BENZENE, np.repeat([-0.06, 0.06], 6))
        model = Model(measurement, numbers, USUAL, np.zeros((0, 3)))
        priors = priors_of(structure, USUAL, model.layout, {"height": (HEIGHT, 0.1), "lateral_stiffness": (0.21, 0.1)})
        simulated = model.simulate(priors.mean)
        weighting = Weighting.of(measurement, simulated.values, simulated.valid, 0.3)
        problem = Problem(model, priors, weighting)
        return Candidate(problem, problem.judged(priors.mean, simulated), Beliefs.of(structure), price)

    return made


def test_a_worse_fit_does_not_replace_a_better_one(candidate):
    numbers = NUMBERS.copy()
    numbers[[1, 4]] = 7
    right, wrong = candidate(NUMBERS), candidate(numbers)
    assert right.better_than(wrong, OPTIONS)
    assert not wrong.better_than(right, OPTIONS)


def test_a_change_must_be_worth_its_price(candidate):
    same = candidate(NUMBERS)
    assert candidate(NUMBERS, -1.0).better_than(same, OPTIONS)
    assert not candidate(NUMBERS, 1.0).better_than(same, OPTIONS)


def test_an_impossible_molecule_replaces_nothing(candidate):
    numbers = NUMBERS.copy()
    numbers[0] = 9
    assert not candidate(numbers, -1e9).better_than(candidate(NUMBERS), OPTIONS)


def test_another_molecule_is_not_believed(stack):
    turned = BENZENE[:, [1, 0, 2]] * [1.0, 1.0, 0.0]
    wrong = Structure.known(np.repeat([16, 9], 6), turned)
    options = replace(OPTIONS, rounds=1, iterations=2)
    found = refine(stack, wrong, tip=USUAL, conditions={"height": (HEIGHT, 0.05)}, options=options)
    assert not found.believable
    assert "what is left" in found.reason or "unstable" in found.reason or "standard deviations" in found.reason


@pytest.mark.parametrize(
    ("change", "message"),
    [({"conditions": {"weather": (1, 1)}}, "weather"), ({"structure": Structure.known([], [])}, "no atoms")],
)
def test_what_makes_no_sense_is_refused(stack, start, change, message):
    arguments = {"structure": start, **change}
    with pytest.raises(InvalidRequestError, match=message):
        refine(stack, **arguments)


def test_atoms_outside_of_the_stack_are_refused(stack, start):
    far = replace(start, positions=start.positions + np.array([100, 0, 0]))
    with pytest.raises(InvalidRequestError, match="origin"):
        refine(stack, far)
    with pytest.raises(InvalidRequestError, match="rounds"):
        RefinementOptions(rounds=0)


def test_noise_is_estimated_beside_an_image():
    rng = np.random.default_rng(3)
    x = np.linspace(-3, 3, 64)
    image = np.exp(-(x[:, None] ** 2) - x**2) + rng.normal(scale=0.02, size=(64, 64))
    image[:5] = np.nan
    assert estimated_noise(image) == pytest.approx(0.02, rel=0.1)


def test_known_noise_is_taken_as_it_is(stack):
    taken = select(stack, BENZENE, replace(OPTIONS, noise=0.3, pixels=100, slices=4))
    np.testing.assert_allclose(taken.noise, 0.3 * 2 * 1800 / 30300)
    assert list(taken.slices) == [0, 3, 6, 9]
    assert taken.values[0].size <= 100


def test_bonds_are_those_of_benzene():
    bonds = find_bonds(NUMBERS, BENZENE)
    assert sorted(map(tuple, bonds.tolist())) == sorted(
        [(i, i + 1) for i in range(5)] + [(0, 5)] + [(i, i + 6) for i in range(6)]
    )


def test_distances_are_differentiated():
    positions = BENZENE + np.random.default_rng(4).normal(scale=0.05, size=BENZENE.shape)
    distances = Distances.of(NUMBERS, BENZENE)
    _, rows = distances.residuals(positions)
    for column in (0, 7, 20):
        step = np.zeros(36)
        step[column] = 1e-6
        ends = [distances.residuals(positions + sign * step.reshape(-1, 3))[0] for sign in (1, -1)]
        np.testing.assert_allclose(rows[:, column], (ends[0] - ends[1]) / 2e-6, atol=1e-5)
