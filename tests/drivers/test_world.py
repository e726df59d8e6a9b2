import json
from collections import Counter
from typing import Any

import jax
import numpy as np
import pytest
from scipy.spatial import cKDTree

from twinscope.drivers.simulator import Simulator
from twinscope.drivers.simulator.imaging import Imaging
from twinscope.drivers.simulator.placements import Placement, Pose
from twinscope.drivers.simulator.sample import load_sample
from twinscope.drivers.simulator.species import molecule
from twinscope.drivers.simulator.truth import truth
from twinscope.drivers.simulator.world import World
from twinscope.drivers.simulator.world_options import WorldOptions
from twinscope.errors import ConfigurationError, InvalidRequestError, OutOfRangeError
from twinscope.kernels import Cantilever, Terraces, Tip, decay_constant

# Its time is that of compiling.
pytestmark = pytest.mark.usefixtures("quickly_compiled")

CO, RIGID = Tip(), Tip("Cu", charges=(), rigid=True)
# The area (Å) of most tests: some 60 nm, with everything in it.
AREA = (-300.0, -300.0, 300.0, 300.0)
EMPTY = {"density": 0.0, "islands": 0.0, "contamination": 0.0, "step_density": 0.0, "decorated": 0.0}


def world(tip: Tip = CO, **options: Any) -> World:
    return World(WorldOptions(**options), tip, seed=3)


@pytest.fixture(scope="module")
def usual() -> World:
    return world()


@pytest.fixture(scope="module")
def everything(usual: World) -> list[Placement]:
    return usual.molecules(*AREA)


def described(things: list[Placement]) -> set[tuple[Any, ...]]:
    return {(one.id, one.kind, one.x, one.y, one.z, one.pose) for one in things}


def square(center: tuple[float, float], size: float, pixels: int) -> np.ndarray:
    """Positions of a frame, in m."""
    axis = ((np.arange(pixels) + 0.5) / pixels - 0.5) * size
    x, y = np.meshgrid(axis + center[0], axis + center[1])
    return np.stack([x.ravel(), y.ravel()], axis=-1)


# ---------------------------------------------------------------------- what there is


def test_a_place_is_the_same_whatever_was_looked_at_before(everything: list[Placement]) -> None:
    other = world()
    other.molecules(2000, -4000, 2300, -3700)
    in_strips = [one for x in range(300, -301, -75) for one in other.molecules(x - 75, -300, x, 300)]
    inside = [one for one in in_strips if -300 <= one.x < 300]
    assert described(inside) == described(everything)
    assert len(inside) == len(everything) > 100


def test_another_seed_is_another_world(everything: list[Placement]) -> None:
    other = World(WorldOptions(), CO, seed=4).molecules(*AREA)
    assert not {(one.x, one.y) for one in other} & {(one.x, one.y) for one in everything}
    own = World(WorldOptions(seed=3), CO, seed=4).molecules(*AREA)
    assert described(own) == described(everything)


def test_there_are_things_of_all_sorts(everything: list[Placement]) -> None:
    sorts = Counter(one.id.partition(":")[0] for one in everything)
    assert set(sorts) == {"edge", "island", "molecule", "dirt"}
    assert {"ptcda", "pentacene", "coronene", "adatom", "CO"} <= {one.kind for one in everything}
    singles = [one for one in everything if one.id.startswith("molecule")]
    assert 0.3 < np.mean([one.pose.flipped for one in singles]) < 0.7
    assert 0 < np.mean([one.pose.tilt > 0 for one in singles]) < 0.3


def test_no_two_things_touch(everything: list[Placement]) -> None:
    """No atom is nearer to one of another molecule than two hydrogen atoms in contact."""
    positions = np.concatenate([one.positions for one in everything])
    owner = np.repeat(np.arange(len(everything)), [len(one.species.numbers) for one in everything])
    pairs = cKDTree(positions).query_pairs(2.4, output_type="ndarray")
    assert (owner[pairs[:, 0]] == owner[pairs[:, 1]]).all()
    assert len(pairs) > len(everything)


def test_there_are_as_many_molecules_as_asked_for() -> None:
    shares = {"benzene": 3.0, "phthalocyanine": 1.0}
    found = world(**EMPTY | {"density": 5e16, "molecules": shares}).molecules(-1000, -1000, 1000, 1000)
    counts = Counter(one.kind for one in found)
    for kind, share in (("benzene", 0.75), ("phthalocyanine", 0.25)):
        expected = 5e16 * share * (200e-9) ** 2
        # Hard cores make the number fluctuate less than that of free points.
        assert abs(counts[kind] - expected) < 3 * np.sqrt(expected)


def test_an_island_is_a_lattice() -> None:
    islands = world(**EMPTY | {"islands": 0.08, "molecules": {"pentacene": 1}})
    members = islands.molecules(*AREA)
    found = 0
    for disc in islands.islands(*AREA):
        outline, middle = disc.mark, np.array([disc.x, disc.y])
        name = {one.id.rpartition(":")[0] for one in members if np.hypot(one.x - disc.x, one.y - disc.y) < 1e-6}
        own = [one for one in members if one.id.rpartition(":")[0] in name]
        steps = (np.array([(one.x, one.y) for one in own]) - middle) @ np.linalg.inv(outline.lattice)
        np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)
        assert len({tuple(step) for step in np.round(steps).tolist()}) == len(own) > 5
        assert {one.pose.angle for one in own} == {outline.angle}
        assert (outline.angle / (np.pi / 3)) % 1 == pytest.approx(0)
        found += len(own)
    # At the border the middle of an island may be outside.
    assert found > len(members) / 2 > 50


def test_everything_stands_on_one_terrace(usual: World, everything: list[Placement]) -> None:
    height = usual.layers.steps.height
    assert len({one.ground for one in everything}) > 2
    for one in everything:
        grounds = usual.ground(one.positions[:, :2])
        np.testing.assert_allclose(grounds, one.ground, err_msg=one.id)
        assert (one.ground / height) % 1 == pytest.approx(0)
        assert one.positions[:, 2].min() == pytest.approx(one.ground + one.species.altitude)


def test_a_molecule_is_as_far_from_the_metal_as_asked_for(usual: World, everything: list[Placement]) -> None:
    """The metal that pulls is where the terraces are said to be."""
    for one in everything[::20]:
        if one.is_dirt or usual.layers.steps.distance(np.array([[one.x, one.y]]))[0] < 30:
            continue
        here = np.array([[one.x, one.y]])
        metal = usual.terms(here, here[0])
        assert isinstance(metal, Terraces)
        assert one.z - float(metal.height(np.zeros(1), np.zeros(1))[0]) == pytest.approx(3.0, abs=1e-4)


def test_steps_go_down_one_way_and_are_as_many_as_asked_for(usual: World) -> None:
    direction = np.radians(usual.options.step_direction)
    down = np.linspace(-5000, 5000, 2001)[:, None] * np.array([np.cos(direction), np.sin(direction)])
    for aside in (-3000.0, 0.0, 3000.0):
        ground = usual.ground(down + aside * np.array([-np.sin(direction), np.cos(direction)]))
        assert (np.diff(ground) <= 0).all()
        steps = (ground[0] - ground[-1]) / usual.layers.steps.height
        assert abs(steps - 20) <= 1
    assert usual.ground(np.zeros((1, 2)))[0] == 0
    assert usual.layers.steps.height == pytest.approx(2.355, abs=0.001)


def test_a_tilted_molecule_keeps_its_shape_and_its_lowest_atom() -> None:
    ptcda = molecule("ptcda")
    pose = Pose(0.7, tilt=0.1, tilt_axis=0.4, flipped=True)
    turned = Placement("one", ptcda, 10.0, -20.0, 2.0, pose).positions
    np.testing.assert_allclose(
        np.linalg.norm(turned - turned[0], axis=1), np.linalg.norm(ptcda.positions - ptcda.positions[0], axis=1)
    )
    assert turned[:, 2].min() == pytest.approx(2.0)
    assert 0.3 < np.ptp(turned[:, 2]) < 1.5
    assert np.linalg.det(pose.rotation) == pytest.approx(1)


# ---------------------------------------------------------------------- images


def test_a_frame_far_away_in_a_large_world_makes_no_more_than_one_in_a_small_world() -> None:
    made = []
    for size, middle in ((20e-9, 0.0), (1e-6, -495e-9), (1e-4, 40e-6)):
        one = world(size=size, step_density=0.0)
        atoms = [
            np.count_nonzero(block.atoms.charges) for block in one.blocks(square((middle, middle), 1e-8, 32) * 1e10)
        ]
        made.append((one.layers.cell.cache_info().currsize, max(atoms)))
    cells, atoms = zip(*made, strict=True)
    assert max(cells) <= 16
    assert max(atoms) < 1000


def test_blocks_hold_every_position_once_and_all_atoms_near_it(usual: World) -> None:
    points = square((3e-9, -400e-9), 120e-9, 70) * 1e10
    blocks = list(usual.blocks(points))
    np.testing.assert_array_equal(np.sort(np.concatenate([block.chosen for block in blocks])), np.arange(4900))
    every = np.asarray(usual.atoms(*points.min(axis=0), *points.max(axis=0)).positions)
    tree = cKDTree(every[:, :2])
    for block in blocks[::10]:
        origin = points[block.chosen[0]] - block.points[0]
        near = np.unique(np.concatenate(tree.query_ball_point(points[block.chosen], 15.9)).astype(int))
        # Single precision leaves 1e-6 Å of a position that is near the origin of its block.
        kept = cKDTree(np.asarray(block.atoms.positions, float) + np.append(origin, 0.0))
        assert (kept.query(every[near])[0] < 1e-5).all()


def test_a_molecule_of_a_world_looks_as_it_does_alone() -> None:
    """No padding, no block and no origin of its own shows in the image, 400 nm away from the middle."""
    sparse = world(**EMPTY | {"density": 1e15, "tilted": 0.0})
    one = next(iter(sparse.molecules(4000, 2000, 4900, 4900)))
    positions = square((one.x * 1e-10, one.y * 1e-10), 1.5e-9, 20)
    heights, channels = np.array([3.6e-10, 4.2e-10]), ("frequency_shift", "force_z", "current", "converged")
    image = Imaging(sparse, CO, Cantilever()).measure(positions, heights, channels)
    # The same molecule out of the library, in a frame that is turned as it lies in the world.
    sample = load_sample(one.kind, CO, "flat", "Au")
    turned = (positions - np.array([one.x, one.y]) * 1e-10) @ one.pose.rotation[:2, :2]
    alone = Imaging(sample, CO, Cantilever()).measure(turned, heights, channels)
    # What is left is rounding in another order, 1e-3 Hz of 10 Hz.
    for name, ours, expected in zip(channels, image, alone, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=3e-4 * np.ptp(expected), err_msg=name)
    assert np.ptp(image[0, 0]) > 2


def test_panning_compiles_nothing_anew() -> None:
    compiled: list[str] = []

    def count(event: str, *_: Any, **__: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    imaging = Imaging(world(RIGID, density=1e16, islands=0.0), RIGID, Cantilever())
    jax.monitoring.register_event_duration_secs_listener(count)
    before = []
    for x in (0.0, 30e-9, -160e-9, 470e-9, -333e-9):
        height = imaging.surface.ground(np.array([[x * 1e10, 0.0]]))[0] * 1e-10
        imaging.measure(square((x, 0.0), 8e-9, 16), np.array([8e-10 + height]), ("frequency_shift", "current"))
        before.append(len(compiled))
    assert before[0] > 0
    assert before[-1] == before[0]


def test_the_current_over_a_step_changes_by_the_decay_over_its_height() -> None:
    terraces = world(RIGID, **EMPTY | {"step_density": 2e7})
    direction = np.radians(terraces.options.step_direction)
    positions = np.array([[0.0, 0.0], 50e-9 * np.array([np.cos(direction), np.sin(direction)])])
    height = terraces.layers.steps.height
    np.testing.assert_allclose(terraces.ground(positions * 1e10), [0, -height])
    ((current,),) = Imaging(terraces, RIGID, Cantilever()).measure(positions, np.array([5e-10]), ("current",))
    assert np.log(current[0] / current[1]) == pytest.approx(2 * decay_constant(5.31) * height, rel=1e-4)


def test_a_molecule_stands_out_by_an_angstrom_at_constant_current() -> None:
    sample = load_sample("ptcda", RIGID, surface="Au")
    heights, tables = Imaging(sample, RIGID, Cantilever()).table(np.array([[0.0, 0.0], [4e-9, 0.0]]), 3e-10, 8e-10)
    on, off = np.log(tables["current"].astype(float)).T
    setpoint = np.log(2e-11)
    apparent = np.interp(setpoint, on, heights) - np.interp(setpoint, off, heights)
    assert 0.8e-10 < apparent < 1.5e-10


def test_a_table_covers_its_heights_and_holds_what_is_measured_there() -> None:
    imaging = Imaging(load_sample("benzene", RIGID, surface="Au"), RIGID, Cantilever())
    positions = square((0, 0), 1e-9, 3)
    heights, tables = imaging.table(positions, 2.52e-10, 11e-10)
    assert (np.diff(heights) < 0).all()
    assert heights[0] >= 11e-10
    assert 2.4e-10 < heights[-1] <= 2.52e-10
    for name in ("frequency_shift", "force_z", "current"):
        (alone,) = imaging.measure(positions, heights[5:6], (name,))[0]
        # The way down has other steps above.
        np.testing.assert_allclose(tables[name][5], alone, rtol=1e-3)
    assert tables["converged"].all()


def test_a_table_goes_on_where_the_tip_would_be_in_the_metal() -> None:
    terraces = world(RIGID, **EMPTY | {"step_density": 2e7})
    upper = -50e-9 * np.array([[np.cos(np.radians(20)), np.sin(np.radians(20))]])
    positions = np.concatenate([upper, [[0.0, 0.0]]])
    heights, tables = Imaging(terraces, RIGID, Cantilever()).table(positions, -1.5e-10, 9e-10)
    assert all(np.isfinite(values).all() for values in tables.values())
    assert not tables["converged"][-1, 0]
    assert tables["converged"][heights > 5e-10].all()


# ---------------------------------------------------------------------- options and truth


def test_the_simulator_goes_to_the_end_of_its_world_and_no_farther() -> None:
    capabilities = Simulator(world={"size": 3e-7}, seed=5).capabilities()
    assert (capabilities.limits["x"].low, capabilities.limits["y"].high) == (-1.5e-7, 1.5e-7)
    with pytest.raises(OutOfRangeError, match="x"):
        capabilities.check_position(x=1.6e-7)
    source = capabilities.settings["sample_source"]
    assert source["world"]["seed"] == 5
    assert len(source["molecules"]["ptcda"]["sha256"]) == 64
    json.dumps(source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": 1e-6}, "unknown option of a world 'sizes'.*size, seed"),
        ({"size": 0}, "world's size is 0: expected a number from 1e-09 to 0.0001"),
        ({"density": "many"}, "density is 'many'"),
        ({"density": 1e18}, "1e.18 per m².*do not find room"),
        ({"islands": float("nan")}, "islands is nan"),
        ({"substrate": "Fe"}, "substrate is 'Fe': expected the symbol of an fcc metal"),
        ({"substrate": "Xx"}, "substrate is 'Xx'"),
        ({"seed": -1}, "seed is -1: expected a whole number"),
        ({"molecules": {}}, "molecules are {}"),
        ({"molecules": {"ptcda": -1}}, r"molecules\['ptcda'\] is -1"),
        ({"molecules": {"unobtainium": 1}}, "'unobtainium'.*benzene, c60"),
    ],
)
def test_a_wrong_option_of_a_world_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        World(WorldOptions.from_mapping(options), CO)


def test_a_world_has_no_other_sample_and_no_other_surface() -> None:
    for extra in ({"sample": "benzene"}, {"surface": "Au"}):
        with pytest.raises(ConfigurationError, match="there is a world, which has its own"):
            Simulator(world={}, **extra)
    with pytest.raises(ConfigurationError, match="world is 3: expected a table or nothing"):
        Simulator(world=3)


def test_the_truth_is_what_is_imaged(usual: World, everything: list[Placement]) -> None:
    told = truth(usual, *(corner * 1e-10 for corner in AREA))
    assert json.loads(json.dumps(told)).keys() == {"molecules", "contamination", "islands", "steps"}
    assert {one["id"] for one in told["molecules"] + told["contamination"]} == {one.id for one in everything}
    atoms = [atom for one in told["molecules"] + told["contamination"] for atom in one["atoms"]]
    positions = np.array([atom[1:] for atom in atoms]) * 1e10
    imaged = np.asarray(usual.atoms(*AREA).positions)
    assert cKDTree(imaged).query(positions)[0].max() < 1e-6
    assert Counter(atom[0] for atom in atoms)["Au"] > 0
    for step in told["steps"]:
        points = np.array(step["points"]) * 1e10
        assert usual.layers.steps.distance(points).max() < 1e-6
    assert len(told["steps"]) >= 1
    assert len(told["islands"]) == len(usual.islands(*AREA)) > 0


def test_the_truth_about_a_sample_is_its_atoms() -> None:
    told = truth(load_sample("benzene", CO), -1e-9, -1e-9, 1e-9, 1e-9)
    assert len(told["molecules"][0]["atoms"]) == 12
    assert truth(load_sample("benzene", CO), 1e-9, 1e-9, 2e-9, 2e-9)["molecules"] == []
    with pytest.raises(InvalidRequestError, match="x0 < x1"):
        truth(load_sample("benzene", CO), 1, 0, 0, 1)
