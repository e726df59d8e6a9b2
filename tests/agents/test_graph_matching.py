import numpy as np
import pytest

from tests.agents._graph import NAMES, pose, structure
from twinscope.agents.structure_discovery.graph.align import find_shift, shifted
from twinscope.agents.structure_discovery.graph.matching import EXTRA, IGNORED, RIGHT, compare
from twinscope.agents.structure_discovery.graph.summary import summarise
from twinscope.agents.structure_discovery.structure import ELEMENTS
from twinscope.errors import InvalidRequestError

HYDROGEN, CARBON, NITROGEN = (ELEMENTS.index(symbol) for symbol in ("H", "C", "N"))


@pytest.mark.parametrize("name", NAMES)
def test_a_structure_is_like_itself(name):
    truth = pose(name, np.random.default_rng(1))
    result = compare(truth, truth)
    assert len(result.missing) == len(result.extra) == 0
    assert result.hausdorff == 0
    summary = summarise([result])
    assert summary.precision == summary.recall == summary.f1 == summary.perfect == summary.balanced_accuracy == 1
    assert summary.rms == 0


def test_atoms_are_right_extra_or_missing():
    truth = structure([6, 6, 1], [[0, 0, 0], [1.4, 0, -0.1], [0, 3, 0]])
    predicted = structure([7, 6, 6], [[1.4, 0.2, -0.2], [0, -0.1, 0.05], [5, 5, 0]])
    result = compare(predicted, truth)
    np.testing.assert_array_equal(result.verdicts, [RIGHT, RIGHT, EXTRA])
    np.testing.assert_array_equal(result.pairs, [[0, 1], [1, 0]])
    np.testing.assert_array_equal(result.missing, [2])
    np.testing.assert_array_equal(result.extra, [2])
    np.testing.assert_allclose(result.displacements, [[0, 0.2, -0.1], [0, -0.1, 0.05]])
    assert result.confusion[CARBON, NITROGEN] == result.confusion[CARBON, CARBON] == 1
    assert result.confusion.sum() == 2
    assert result.hausdorff == pytest.approx(np.hypot(5, 2))


def test_the_assignment_is_the_best_of_all_and_not_greedy():
    truth = structure([6, 6], [[0, 0, 0], [0.4, 0, 0]])
    # The first is nearest to 0, but then the second has no partner within reach.
    predicted = structure([6, 6], [[0.15, 0, 0], [-0.3, 0, 0]])
    result = compare(predicted, truth)
    np.testing.assert_array_equal(result.pairs, [[0, 1], [1, 0]])


def test_deep_atoms_neither_count_nor_harm():
    truth = structure([6, 6, 6, 6], [[0, 0, 0], [2, 0, -0.9], [4, 0, -1.1], [6, 0, -1.5]])
    nothing_deep = compare(structure([6], [[0, 0, 0]]), truth)
    assert len(nothing_deep.missing) == len(nothing_deep.extra) == 0
    all_seen = compare(truth, truth)
    np.testing.assert_array_equal(all_seen.verdicts, [RIGHT, IGNORED, IGNORED, IGNORED])
    put_too_high = compare(structure([6, 6], [[0, 0, 0], [2, 0, -0.75]]), truth)
    np.testing.assert_array_equal(put_too_high.verdicts, [RIGHT, IGNORED])


def test_atoms_near_the_limit_are_judged_by_their_true_depth():
    truth = structure([6, 6], [[0, 0, 0], [2, 0, -0.75]])
    put_too_deep = compare(structure([6, 6], [[0, 0, 0], [2, 0, -0.95]]), truth)
    np.testing.assert_array_equal(put_too_deep.verdicts, [RIGHT, RIGHT])
    missed = compare(structure([6], [[0, 0, 0]]), truth)
    np.testing.assert_array_equal(missed.missing, [1])
    invented = compare(structure([6, 6, 6, 6], [[0, 0, 0], [2, 0, -0.75], [5, 0, -0.7], [5, 0, -0.9]]), truth)
    np.testing.assert_array_equal(invented.verdicts, [RIGHT, RIGHT, EXTRA, IGNORED])


def test_a_counted_atom_is_matched_before_an_ignored_one_that_is_nearer():
    truth = structure([1, 6], [[0, 0, -0.7], [0.1, 0, -1.0]])
    predicted = structure([6], [[0.1, 0, -0.9]])
    np.testing.assert_array_equal(compare(predicted, truth).pairs, [[0, 0]])


def test_lateral_distances_ignore_the_depth():
    truth = structure([6], [[0, 0, 0]])
    predicted = structure([6], [[0.2, 0.2, -0.5]])
    np.testing.assert_array_equal(compare(predicted, truth).verdicts, [EXTRA])
    lateral = compare(predicted, truth, metric="lateral")
    np.testing.assert_array_equal(lateral.verdicts, [RIGHT])
    assert lateral.hausdorff == pytest.approx(np.hypot(0.2, 0.2))
    assert len(compare(predicted, truth, metric="lateral", cutoff=0.2).pairs) == 0


def test_bonds_are_right_when_they_join_the_same_atoms():
    chain = [[0, 0, 0], [1.4, 0, 0], [2.8, 0, 0], [4.2, 0, 0]]
    truth = structure([6] * 4, chain, [[0, 1], [1, 2], [2, 3]], [1.0, 2.0, 1.0])
    backwards = structure([6] * 4, chain[::-1], [[0, 1], [1, 2], [0, 3]], [1.0, 1.5, 1.0])
    result = compare(backwards, truth)
    assert (result.right_bonds, result.extra_bonds, result.missing_bonds, result.right_orders) == (2, 1, 1, 1)
    assert result.bond_count_difference == 0


def test_bonds_of_missing_and_of_deep_atoms():
    truth = structure([6] * 4, [[0, 0, 0], [1.4, 0, 0], [2.8, 0, -0.3], [4.2, 0, -1.0]], [[0, 1], [1, 2], [2, 3]])
    predicted = structure([6] * 4, [[0, 0, 0], [2.8, 0, -0.3], [4.2, 0, -1.0], [2, 5, 0]], [[0, 3], [1, 2]])
    result = compare(predicted, truth)
    # Two true bonds join counted atoms; a predicted one ends at an extra atom, another one at an ignored atom.
    assert (result.right_bonds, result.extra_bonds, result.missing_bonds) == (0, 1, 2)
    assert result.bond_count_difference == -1


@pytest.mark.parametrize("empty", ["predicted", "true", "both"])
def test_nothing_can_be_compared(empty):
    nothing, something = structure([], np.zeros((0, 3))), structure([6], [[0, 0, 0]])
    predicted = something if empty == "true" else nothing
    result = compare(predicted, nothing if empty != "predicted" else something)
    assert len(result.pairs) == 0
    assert len(result.extra) == (empty == "true")
    assert len(result.missing) == (empty == "predicted")
    assert result.hausdorff == (0 if empty == "both" else np.inf)
    summary = summarise([result])
    assert np.isnan(summary.rms)
    assert np.isnan(summary.f1)
    assert np.isnan(summary.balanced_accuracy)


def test_a_summary_counts_every_atom_the_same():
    rng = np.random.default_rng(2)
    positions = np.arange(20)[:, None] * [2.0, 0, 0]
    numbers = np.where(np.arange(20) < 15, 6, 1)
    large = structure(numbers, positions, [[0, 1], [1, 2]])
    moved = structure(np.where(np.arange(20) == 0, 7, numbers), positions + rng.choice([-0.1, 0.1], (20, 3)), [[0, 1]])
    small = structure([6], [[0, 0, 0]])
    first, second = compare(moved, large), compare(structure([6, 6], [[3, 0, 0], [5, 0, 0]]), small)
    summary = summarise([first, second])
    assert summary.molecules == 2
    assert summary.recall == pytest.approx(20 / 21)
    assert summary.precision == pytest.approx(20 / 22)
    assert (summary.missing, summary.extra, summary.perfect) == (0.5, 1.0, 0.5)
    assert summary.rms_lateral == pytest.approx(0.1 * np.sqrt(2))
    assert summary.rms_z == pytest.approx(0.1)
    assert summary.rms == pytest.approx(0.1 * np.sqrt(3))
    assert summary.accuracy == pytest.approx(19 / 20)
    assert summary.balanced_accuracy == pytest.approx((14 / 15 + 1) / 2)
    assert summary.confusion[CARBON, NITROGEN] == 1
    assert summary.confusion[HYDROGEN, HYDROGEN] == 5
    assert (summary.bond_precision, summary.bond_recall, summary.order_accuracy) == (1, 0.5, 1)
    assert summary.bond_count_difference == -0.5


def test_wrong_questions_are_named():
    one = structure([6], [[0, 0, 0]])
    with pytest.raises(InvalidRequestError, match=r"'2d'.*expected a metric of 3d, lateral"):
        compare(one, one, metric="2d")
    with pytest.raises(InvalidRequestError, match="cutoff -1"):
        compare(one, one, cutoff=-1)
    with pytest.raises(InvalidRequestError, match="at least one molecule"):
        summarise([])


def test_a_shift_is_found_in_spite_of_wrong_atoms():
    rng = np.random.default_rng(5)
    truth = pose("C6H6", rng)
    shift = np.array([0.3, -0.2, 0.25])
    predicted = shifted(truth, -shift + rng.normal(0, 0.02, (len(truth), 3)))
    predicted = structure([*predicted.numbers[1:], 8], [*predicted.positions[1:], [5, 5, 0]])
    np.testing.assert_allclose(find_shift(predicted, truth, depth=5), shift, atol=0.03)


def test_structures_far_from_each_other_have_no_shift():
    near, far = structure([6], [[0, 0, 0]]), structure([6], [[9, 0, 0]])
    with pytest.raises(InvalidRequestError, match=r"within 1.00 Å of a true one"):
        find_shift(near, far)
