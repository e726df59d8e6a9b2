from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from twinscope.agents.structure_discovery.descriptors import descriptor_maps
from twinscope.agents.structure_discovery.prediction import DESCRIPTORS
from twinscope.agents.structure_discovery.refinement import maps_of
from twinscope.agents.structure_discovery.refinement.beliefs import Beliefs
from twinscope.agents.structure_discovery.refinement.changes import Change, new_order
from twinscope.agents.structure_discovery.refinement.chemistry import crowding
from twinscope.agents.structure_discovery.refinement.choice import best_together, element_probabilities, prices
from twinscope.agents.structure_discovery.refinement.effects import Effects
from twinscope.agents.structure_discovery.refinement.places import free_places
from twinscope.agents.structure_discovery.structure import NUMBERS, Structure
from twinscope.errors import InvalidRequestError

ANGLE = np.arange(6) * np.pi / 3
RING = np.stack([np.cos(ANGLE), np.sin(ANGLE), 0 * ANGLE], axis=1)
BENZENE = np.concatenate([1.39 * RING, 2.48 * RING])
ELEMENTS = np.repeat([6, 1], 6)
AXIS = np.linspace(-5, 5, 21)
HERE = np.zeros(3)
FAR = np.array([[0.0, 0.0, 0.0], [20.0, 0.0, 0.0]])


def effects(changes, images, target):
    """Effects of changes that add images (changes, n) to one that should become the target (n,)."""
    images, nothing = np.array(images, dtype=float), np.zeros((1, len(changes)))
    return Effects(changes, images @ target, (images**2).sum(axis=1), images, nothing, nothing)


def to(atom, number):
    return Change("replace", atom, number, HERE)


def believing(numbers, other=0.1):
    """Beliefs in these elements, the rest of the probability with the other ones."""
    sure = Structure.known(numbers, np.zeros((len(numbers), 3)))
    probabilities = np.where(sure.probabilities > 0, 1 - other, other / (len(NUMBERS) - 1))
    return Beliefs.of(replace(sure, probabilities=probabilities))


def test_a_pair_is_found_that_gains_only_together():
    two = effects([to(0, 7), to(1, 7)], [[3, -2, 0], [0, 3, 1]], np.array([3.0, 1.0, 1.0]))
    alone = effects([to(0, 7)], [[3, -2, 0]], np.array([3.0, 1.0, 1.0]))
    assert (two.gains < 3).all()
    assert best_together(alone, np.array([3.0]), 4) == []
    assert sorted(best_together(two, np.full(2, 3.0), 4)) == [0, 1]


def test_changes_that_explain_the_same_are_made_once():
    same = [Change("add", -1, 6, np.array([x, 0.0, 0.0])) for x in (0.0, 0.5, 3.0)]
    found = effects(same, [[2, 0], [2, 0.1], [0, 3]], np.array([2.0, 3.0]))
    assert sorted(best_together(found, np.full(3, 0.5), 4)) == [0, 2]
    assert best_together(found, np.full(3, 0.5), 1) == [2]
    assert best_together(found, np.full(3, 50.0), 4) == []


def test_one_atom_becomes_one_element():
    rivals = effects([to(0, 7), to(0, 8)], [[1, 0], [0, 1]], np.array([1.0, 2.0]))
    assert best_together(rivals, np.zeros(2), 4) == [1]


def test_atoms_are_left_out_one_at_a_time():
    both = effects([Change("remove", atom, 0, HERE) for atom in range(2)], [[1, 0], [0, 2]], np.array([1.0, 2.0]))
    assert best_together(both, np.zeros(2), 4) == [1]


def test_probabilities_are_those_of_the_likelihoods():
    numbers = np.array([6, 6])
    beliefs = believing(numbers)
    found = effects([to(0, 7), to(1, 7)], [[0.5, 0], [-0.5, 0.0]], np.zeros(2))
    probabilities = element_probabilities(found, numbers, FAR[:2], beliefs)
    prior = beliefs.elements[0, 2] / beliefs.elements[0, 1]
    # Alone each is worse by 1/4 and together neither: all four assignments add up.
    weights = np.array([1, *[prior * np.exp(-0.25 / 2)] * 2, prior**2])
    np.testing.assert_allclose(probabilities[:, 2], (weights[1] + weights[3]) / weights.sum())
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def test_an_element_that_explains_more_is_likelier():
    numbers = np.array([6])
    better = effects([to(0, 8)], [[5.0]], np.array([5.0]))
    worse = effects([to(0, 8)], [[5.0]], np.array([0.0]))
    oxygen = NUMBERS.index(8)
    assert element_probabilities(better, numbers, FAR[:1], believing(numbers))[0, oxygen] > 0.99
    assert element_probabilities(worse, numbers, FAR[:1], believing(numbers))[0, oxygen] < 1e-5


def test_what_was_likely_is_cheap():
    numbers = np.array([6, 6])
    probabilities = np.zeros((2, len(NUMBERS)))
    probabilities[0, 1], probabilities[0, 2], probabilities[1, 1] = 0.4, 0.6, 1.0
    start = Structure.known(numbers, np.zeros((2, 3)))
    beliefs = Beliefs.of(replace(start, probabilities=probabilities, confidence=np.array([0.3, 0.99])))
    away = [Change("remove", atom, 0, HERE) for atom in range(2)]
    costs = prices([to(0, 7), to(1, 7), *away, Change("add", -1, 6, HERE)], numbers, FAR[:2], beliefs, 1000.0)
    assert costs[0] < costs[1]
    assert costs[2] < costs[3] < costs[4]


def test_beliefs_follow_the_atoms():
    beliefs = believing(np.array([1, 6, 8]))
    changes = [Change("remove", 1, 0, HERE), Change("add", -1, 6, HERE)]
    assert list(new_order(changes, 3)) == [0, 2, -1]
    after = beliefs.changed(changes)
    np.testing.assert_array_equal(after.elements[:2], beliefs.elements[[0, 2]])
    np.testing.assert_allclose(after.elements[2].sum(), 1)
    assert after.confidence[2] == 0.5


@pytest.mark.parametrize(("atom", "number"), [(8, 1), (2, 6)])
def test_a_missing_atom_of_a_molecule_has_a_place(atom, number):
    rest = np.arange(12) != atom
    places = free_places(ELEMENTS[rest], BENZENE[rest], AXIS, AXIS, number, everywhere=False)
    assert np.linalg.norm(places - BENZENE[atom], axis=1).min() < 0.15


def test_places_are_within_reach_and_not_inside_of_atoms():
    some = free_places(ELEMENTS, BENZENE, AXIS, AXIS, 6, everywhere=False)
    many = free_places(ELEMENTS, BENZENE, AXIS, AXIS, 6, everywhere=True)
    assert len(many) > len(some)
    assert np.linalg.norm(many[:, None] - BENZENE, axis=-1).min() > 0.8
    assert np.abs(many[:, :2]).max() <= 5


def test_maps_are_those_of_the_atoms():
    structure = Structure.known(ELEMENTS, BENZENE, np.repeat([-0.06, 0.06], 6))
    drawn = maps_of(structure, AXIS, AXIS[:17])
    assert list(drawn) == list(DESCRIPTORS)
    expected = descriptor_maps(
        *(
            jnp.asarray(values, dtype)
            for values, dtype in zip(
                (ELEMENTS, BENZENE, structure.charges, AXIS, AXIS[:17]), ("int32", *["float32"] * 4), strict=True
            )
        )
    )
    for one, values in zip(drawn.values(), expected, strict=True):
        assert one.values.shape == (17, 21)
        assert np.isnan(one.sigma).all()
        np.testing.assert_allclose(one.values, values, atol=1e-4)


@pytest.mark.parametrize("structure", [Structure.known([], []), Structure.known([6], [[0, 0, 0]])])
def test_maps_need_atoms_with_charges(structure):
    with pytest.raises(InvalidRequestError, match="charges"):
        maps_of(structure, AXIS, AXIS)


def test_an_atom_with_too_many_neighbours_is_crowded():
    others = np.arange(12) != 0
    counts = [crowding(number, BENZENE[0], ELEMENTS[others], BENZENE[others]) for number in (6, 7, 8, 9)]
    assert counts == [0, 0, 1, 2]
    assert crowding(6, np.array([20.0, 0, 0]), ELEMENTS, BENZENE) == -1
