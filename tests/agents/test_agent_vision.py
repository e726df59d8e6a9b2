import numpy as np
import pytest

from twinscope.agents.structure_discovery.agent.approach import turning_height
from twinscope.agents.structure_discovery.agent.levelling import above_ground, without_tilt
from twinscope.agents.structure_discovery.agent.segmentation import DIRT, MOLECULE, NEIGHBOUR, SizeRange, find_regions

PITCH = 2.5
AXIS = (np.arange(120) - 59.5) * PITCH
SIZES = SizeRange(5.0, 20.0, 6.0)
STEP = 2.35


def bump(x: float, y: float, height: float = 1.1, radius: float = 7.0) -> np.ndarray:
    """Image of something round: flat in the middle, with a blurred edge."""
    away = np.hypot(AXIS - x, AXIS[:, None] - y)
    return height / (1 + np.exp((away - radius) / 0.8))


def noisy(image: np.ndarray, sigma: float = 0.01) -> np.ndarray:
    return image + np.random.default_rng(0).normal(0, sigma, image.shape)


def step_down(at: float) -> np.ndarray:
    """A step down to the right, blurred."""
    return np.broadcast_to(STEP / (1 + np.exp((AXIS - at) / 1.5)), (120, 120))


def test_tilt_and_drift_are_taken_off_and_molecules_are_not() -> None:
    truth = bump(0, 0) + bump(60, -30)
    rows = np.arange(120)[:, None]
    levelled = without_tilt(noisy(truth + 0.003 * AXIS - 0.002 * AXIS[:, None] + 0.2 * np.sqrt(rows)))
    assert np.abs(levelled - levelled[0, 0] - truth).max() < 0.1


def test_molecules_on_both_terraces_stand_out_by_their_height_and_the_step_does_not() -> None:
    things = bump(-80, 20) + bump(80, -20)
    relief = above_ground(noisy(step_down(0.0) + things), PITCH)
    assert np.abs(relief - things)[:, np.abs(AXIS) > 12].max() < 0.1
    regions = find_regions(relief, AXIS, AXIS, SIZES)
    assert [region.kind for region in regions] == [MOLECULE, MOLECULE]
    assert sorted(round(region.x, 0) for region in regions) == pytest.approx([-80, 80], abs=1.5)


def test_a_molecule_at_the_lower_side_of_a_step_is_seen() -> None:
    relief = above_ground(noisy(np.maximum(step_down(0.0), bump(14.0, 0.0))), PITCH)
    (region,) = find_regions(relief, AXIS, AXIS, SIZES)
    assert np.hypot(region.x - 14, region.y) < 5


@pytest.mark.parametrize(
    ("thing", "why"),
    [
        (bump(50, 50, radius=3.8), "too small"),
        (bump(50, 50, height=6.0), "too high"),
        (bump(50, 147, radius=7.0), "cut by the edge"),
    ],
)
def test_what_is_no_molecule_is_dirt(thing: np.ndarray, why: str) -> None:
    molecules = bump(-60, -60) + bump(0, 0) + bump(-60, 60)
    kinds = [region.kind for region in find_regions(noisy(molecules + thing), AXIS, AXIS, SIZES)]
    assert kinds.count(MOLECULE) == 3, why
    assert set(kinds) <= {MOLECULE, DIRT}


def test_an_island_is_parted_into_its_molecules() -> None:
    places = [(14.0 * column + 7.0 * (row % 2), 12.5 * row) for row in range(4) for column in range(4)]
    island = np.max([bump(x, y, radius=7.0) for x, y in places], axis=0)
    regions = find_regions(noisy(island + bump(-80, -80)), AXIS, AXIS, SIZES)
    assert [region.kind for region in regions].count(NEIGHBOUR) == len(places)
    found = np.array([(region.x, region.y) for region in regions if region.kind == NEIGHBOUR])
    away = np.linalg.norm(np.array(places)[:, None] - found, axis=-1)
    assert (away.min(axis=1) < 3).all()


def test_the_room_around_a_molecule_is_measured_from_edge_to_edge() -> None:
    regions = find_regions(noisy(bump(0, 0) + bump(40, 0)), AXIS, AXIS, SIZES)
    assert [region.room for region in regions] == pytest.approx([26.0, 26.0], abs=4.0)


def test_nothing_is_found_on_bare_metal() -> None:
    assert find_regions(above_ground(noisy(np.zeros((120, 120))), PITCH), AXIS, AXIS, SIZES) == []


def test_noise_does_not_turn_a_place_repulsive_and_repulsion_does() -> None:
    heights = np.arange(6.0, 3.9, -0.2)
    falling = -0.5 * (6.5 - heights)[:, None, None] * np.ones((1, 32, 32))
    random = np.random.default_rng(0).normal(0, 0.2, falling.shape)
    assert turning_height(heights, falling + random, 0.5) is None
    risen = falling + random
    risen[-1, 10:14, 10:14] += 4.0
    assert heights[-1] < (turning_height(heights, risen, 0.5) or 0.0) < heights[-2]
