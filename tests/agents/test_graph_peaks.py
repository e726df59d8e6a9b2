import numpy as np
import pytest

from tests.agents._graph import AXIS, DEPTHS, NAMES, element_maps, occupancy, pose, structure
from twinscope.agents.structure_discovery.graph.peak_fit import PeakShape
from twinscope.agents.structure_discovery.graph.peaks import find_atoms
from twinscope.agents.structure_discovery.structure import ELEMENTS, NUMBERS
from twinscope.errors import InvalidRequestError

UNKNOWN = np.full((len(ELEMENTS), 64, 64), 1 / len(ELEMENTS))


def found(values, elements=UNKNOWN, **options):
    return find_atoms(values, DEPTHS, AXIS, AXIS, elements, **options)


def distances(peaks, truth):
    return np.linalg.norm(peaks.positions[:, None] - truth.positions, axis=-1)


@pytest.mark.parametrize("name", NAMES)
def test_atoms_of_molecules_are_found_exactly(name):
    rng = np.random.default_rng(NAMES.index(name))
    for _ in range(10):
        truth = pose(name, rng)
        peaks = found(occupancy(truth))
        apart = distances(peaks, truth)
        # Those below the lowest layer are seen by halves, and drawn to one another.
        visible, inside = truth.positions[:, 2] > -1.3, peaks.positions[:, 2] > -1.3
        assert apart[:, visible].min(axis=0).max() < 0.002
        assert apart[inside].min(axis=1).max() < 0.002
        assert len(set(apart.argmin(axis=1))) == len(peaks)
        np.testing.assert_allclose(peaks.heights[inside], 1, atol=1e-3)


def offsets_to(truth):
    """Where the nearest atom is, from every pixel: what networks learn to tell."""
    away = (
        truth.positions[:, :2].T[:, :, None, None]
        - np.stack([AXIS + 0 * AXIS[:, None], AXIS[:, None] + 0 * AXIS])[:, None]
    )
    nearest = (away**2).sum(axis=0).argmin(axis=0)
    lateral = np.take_along_axis(away, nearest[None, None], axis=1)[:, 0]
    return np.stack([*lateral, truth.positions[nearest, 2]])


def test_offsets_say_where_an_atom_is_better_than_a_blurred_peak():
    truth = structure([6, 8], [[0.1, -0.05, -0.47], [2.2, 0.4, -0.1]])
    values = PeakShape(lateral=0.5, depth=0.4).occupancy(truth.positions + 0.1, DEPTHS, AXIS, AXIS)
    without, with_them = found(values), found(values, offsets=offsets_to(truth))
    assert distances(without, truth).min(axis=1).min() > 0.1
    np.testing.assert_allclose(distances(with_them, truth).min(axis=1), 0, atol=1e-6)
    # The depth is told of another atom, above this one: the peak is right.
    above = structure([6, 8], truth.positions + np.array([0, 0, 0.5]))
    np.testing.assert_array_equal(found(values, offsets=offsets_to(above)).positions, without.positions)
    with pytest.raises(InvalidRequestError, match=r"offsets has the shape \(2, 64, 64\): expected \(3, 64, 64\)"):
        found(values, offsets=np.zeros((2, 64, 64)))


def test_atoms_are_found_in_noise():
    rng = np.random.default_rng(0)
    errors = []
    for name in NAMES * 3:
        truth = pose(name, rng)
        values = np.clip(occupancy(truth) + rng.normal(0, 0.05, (8, 64, 64)), 0, 1)
        peaks = found(values, threshold=0.5)
        apart = distances(peaks, truth)
        assert apart[:, truth.positions[:, 2] > -1.2].min(axis=0).max() < 0.1
        assert apart[peaks.positions[:, 2] > -1.2].min(axis=1).max() < 0.1
        errors.extend(apart[peaks.positions[:, 2] > -1.2].min(axis=1))
    assert np.sqrt(np.mean(np.square(errors))) < 0.03


def test_a_wide_peak_is_not_drawn_to_the_middle_of_a_voxel():
    truth = structure([6], [[0.1, -0.05, -0.47]])
    values = PeakShape(lateral=0.45, depth=0.33).occupancy(truth.positions, DEPTHS, AXIS, AXIS)
    np.testing.assert_allclose(found(values).positions, truth.positions, atol=0.025)


def test_a_flat_top_is_one_atom_in_its_middle():
    truth = structure([6], [[0.02, 0.05, -0.61]])
    values = np.minimum(occupancy(truth), 0.55)
    values /= values.max()
    assert np.count_nonzero(values == 1) >= 8
    peaks = found(values)
    assert len(peaks) == 1
    np.testing.assert_allclose(peaks.positions, truth.positions, atol=0.07)


def test_of_two_peaks_at_one_place_the_higher_one_is_the_atom():
    shape = PeakShape(lateral=0.15, depth=0.15)
    strong = shape.occupancy([[0.0, 0, -0.4]], DEPTHS, AXIS, AXIS)
    weak = 0.6 * shape.occupancy([[0.6, 0, -0.4]], DEPTHS, AXIS, AXIS)
    values = np.maximum(strong, weak)
    both = found(values, shape=shape, smallest_distance=0.4)
    assert len(both) == 2
    one = found(values, shape=shape)
    np.testing.assert_allclose(one.positions, [[0, 0, -0.4]], atol=0.01)


def test_the_highest_peaks_come_first_and_low_ones_not_at_all():
    places = np.array([[-3.0, 0, 0], [0, 0, -0.3], [3, 0, -0.6]])
    each = [occupancy(structure([6], [place])) for place in places]
    values = np.max([0.6 * each[0], 0.9 * each[1], 0.2 * each[2]], axis=0)
    peaks = found(values)
    np.testing.assert_allclose(peaks.heights, [0.9, 0.6], atol=0.01)
    np.testing.assert_allclose(peaks.positions, places[[1, 0]], atol=0.01)
    assert len(found(values, threshold=0.1)) == 3
    assert len(found(values, threshold=0.95)) == 0
    assert found(np.zeros_like(values)).positions.shape == (0, 3)


@pytest.mark.parametrize("place", [(AXIS[0] + 0.05, 1.0), (AXIS[-1], AXIS[0]), (2.0, AXIS[-1] + 0.1)])
def test_atoms_at_the_edge_are_found(place):
    truth = structure([8], [[*place, 0.0]])
    np.testing.assert_allclose(found(occupancy(truth)).positions, truth.positions, atol=1e-3)


@pytest.mark.parametrize("position", [(0, 0, -1.6), (AXIS[0] - 0.2, 0, 0), (0, AXIS[-1] + 0.2, -0.3)])
def test_atoms_beyond_the_edge_are_none(position):
    values = occupancy(structure([8], [position]))
    assert values.max() > 0.6
    assert len(found(values)) == 0


def test_a_single_bright_voxel_is_no_atom():
    values = np.zeros((8, 64, 64))
    values[3, 20, 30] = 1.0
    assert len(found(values)) == 0


def test_elements_are_those_around_the_atom():
    formamide = [
        [0, 0.42, 0],
        [1.19, 0.24, 0],
        [-0.94, -0.56, 0],
        [-0.45, 1.43, 0],
        [-0.64, -1.52, -0.1],
        [-1.9, -0.3, 0],
    ]
    truth = structure([6, 8, 7, 1, 1, 1], formamide)
    peaks = found(occupancy(truth), element_maps(truth))
    assert len(peaks) == len(truth)
    np.testing.assert_allclose(peaks.probabilities.sum(axis=1), 1)
    numbers = np.array(NUMBERS)[peaks.probabilities.argmax(axis=1)]
    np.testing.assert_array_equal(numbers, truth.numbers[distances(peaks, truth).argmin(axis=1)])
    # Pixels nearest to other atoms have a say, too, but not a large one.
    assert 0.6 < peaks.probabilities.max(axis=1).min() < 0.9


def test_a_rectangular_grid_keeps_its_axes_apart():
    x, y, depths = np.linspace(-4, 4, 41), np.linspace(1, 5, 21), -0.25 * np.arange(5)
    truth = structure([6, 8], [[-3.3, 1.4, 0.0], [2.1, 4.2, -0.7]])
    peaks = find_atoms(occupancy(truth, depths, x, y), depths, x, y, element_maps(truth, x=x, y=y))
    order = np.argsort(peaks.positions[:, 0])
    np.testing.assert_allclose(peaks.positions[order], truth.positions, atol=1e-3)
    np.testing.assert_array_equal(peaks.probabilities[order].argmax(axis=1), [1, 3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"occupancy": np.zeros((8, 64, 63))}, r"occupancy has the shape \(8, 64, 63\): expected \(8, 64, 64\)"),
        ({"element_probabilities": np.zeros((3, 64, 64))}, r"element_probabilities has the shape \(3, 64, 64\)"),
        ({"occupancy": np.full((8, 64, 64), np.nan)}, "32768 values that are not finite"),
        ({"depths": -DEPTHS}, "depths of the occupancy goes from 0 to 1.4.*steps down"),
        ({"x": AXIS[::-1]}, "x of the occupancy.*steps up"),
        ({"y": AXIS**3}, "y of the occupancy.*equal steps"),
        ({"depths": [0.0]}, "at least two coordinates"),
    ],
)
def test_a_wrong_input_is_named(change, message):
    given = {
        "occupancy": np.zeros((8, 64, 64)),
        "depths": DEPTHS,
        "x": AXIS,
        "y": AXIS,
        "element_probabilities": UNKNOWN,
    }
    with pytest.raises(InvalidRequestError, match=message):
        find_atoms(**(given | change))
