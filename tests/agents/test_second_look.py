"""Molecules that are measured again with something else at the end of the tip."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.agents._surface_driver import SurfaceDriver
from tests.agents._thresholding import Thresholding
from twinscope import Microscope
from twinscope.agents.structure_discovery.agent import DiscoveryOptions, DiscoveryRecord, StructureDiscoveryAgent
from twinscope.agents.structure_discovery.agent.registration import displacement
from twinscope.agents.structure_discovery.molecules import generate
from twinscope.agents.structure_discovery.prediction import DescriptorMap, Prediction
from twinscope.agents.structure_discovery.stack import PUBLISHED_GRID, ImageStack, StackGrid
from twinscope.agents.structure_discovery.structure import Structure
from twinscope.agents.structure_discovery.training_data import PUBLISHED, simulate_samples
from twinscope.errors import InvalidRequestError
from twinscope.kernels import Cantilever
from twinscope.local import LocalTransport

GRID = StackGrid(pixels=24, pitch=14 / 24, slices=10, spacing=0.1)
OPTIONS = DiscoveryOptions(
    size=(3e-9, 3e-9),
    margin=0.0,
    overview_pitch=1.5e-10,
    shortest=3e-10,
    second_tip="Xe",
    second_slices=(6, 9, 3),
)
PLACE = (2.0, -3.0)
LEANING = np.array([0.9, -0.7, 0.0])

Start = Callable[..., Microscope]


class LeaningDriver(SurfaceDriver):
    """Another tip leans another way: it shows the surface elsewhere."""

    def exchange_tip(self, probe: str) -> None:
        super().exchange_tip(probe)
        self.atoms = self.atoms + LEANING


class FieldToo(Thresholding):
    """Is as sure about the field as there are tips."""

    def predict(self, stack: ImageStack, *others: ImageStack) -> Prediction:
        told = super().predict(stack)
        unsure = np.full(told.maps["vdw_spheres"].values.shape, 0.02 if others else 0.04)
        field = DescriptorMap("electrostatic_map", "V/Å", np.zeros_like(unsure), unsure)
        return replace(told, maps={**told.maps, "electrostatic_map": field})


@pytest.fixture
def over(instrument: Callable[..., Any]) -> Start:
    """Start a microscope with a driver."""
    return lambda driver, **rules: Microscope(transport=LocalTransport(instrument(driver, **rules)))


def discover(scope: Microscope, predictor: Thresholding, **changes: Any) -> DiscoveryRecord:
    options = DiscoveryOptions(**{name: getattr(OPTIONS, name) for name in OPTIONS.__slots__} | changes)
    with scope.control():
        return StructureDiscoveryAgent(scope, predictor, options, grid=GRID).run()


def test_the_frame_follows_the_molecule_to_where_the_second_tip_shows_it(over: Start) -> None:
    scope = over(LeaningDriver(PLACE), allow=("tip_exchange",))
    record = discover(scope, FieldToo())
    (molecule,) = record.molecules
    assert (record.ended, molecule.note) == ("done", "")
    assert molecule.stack is not None
    (second,) = molecule.others
    assert (molecule.stack.tip, second.tip, scope.state().probe) == ("CO", "Xe", "Xe")
    assert [(one.tip, one.layer) for one in molecule.actions][-3:] == [("Xe", 6), ("Xe", 9), ("Xe", 3)]
    # Atoms are where the first tip has shown them.
    before, after = (
        np.unravel_index(np.nanargmin(stack.frequency_shift[6]), (24, 24)) for stack in (molecule.stack, second)
    )
    assert np.hypot(*np.subtract(before, after)) * GRID.pitch <= GRID.pitch
    assert record.to_dict()["molecules"][0]["actions"][-1]["field_doubt"] == pytest.approx(2e8)


def test_slices_end_when_the_field_is_known(over: Start) -> None:
    record = discover(over(LeaningDriver(PLACE), allow=("tip_exchange",)), FieldToo(), target_field_sigma=3e8)
    assert [one.layer for one in record.molecules[0].actions if one.tip == "Xe"] == [6]


def test_the_tip_is_not_changed_when_the_field_is_known(over: Start) -> None:
    scope = over(LeaningDriver(PLACE), allow=("tip_exchange",))
    record = discover(scope, FieldToo(), target_field_sigma=5e8)
    assert (scope.state().probe, record.molecules[0].others) == ("CO", ())


def test_a_budget_without_an_exchange_leaves_what_was_found(over: Start) -> None:
    scope = over(LeaningDriver(PLACE), allow=("tip_exchange",))
    (molecule,) = discover(scope, FieldToo(), exchange_time=7000.0).molecules
    assert scope.state().probe == "CO"
    assert molecule.structure is not None
    assert molecule.note == "no time was left for Xe at the tip"


def test_a_molecule_that_is_gone_keeps_what_the_first_tip_has_shown(over: Start) -> None:
    class Sweeping(LeaningDriver):
        def exchange_tip(self, probe: str) -> None:
            super().exchange_tip(probe)
            self.atoms = self.atoms - np.array([0.0, 0.0, 30.0])

    (molecule,) = discover(over(Sweeping(PLACE), allow=("tip_exchange",)), FieldToo()).molecules
    assert molecule.note.startswith("not measured with Xe: ")
    assert molecule.structure is not None
    assert molecule.others == ()


@pytest.mark.parametrize(
    ("rules", "probe", "code"), [({}, "Xe", "interlock"), ({"allow": ("tip_exchange",)}, "He", "")]
)
def test_a_tip_that_cannot_be_had_ends_the_run_before_it_begins(
    over: Start, rules: dict[str, Any], probe: str, code: str
) -> None:
    record = discover(over(LeaningDriver(PLACE), **rules), FieldToo(), second_tip=probe)
    assert record.overview is None
    assert record.ended != "done"
    assert code in record.ended
    assert probe in record.note or "tip_exchange" in record.note


def test_the_simulation_finds_a_molecule_in_images_of_xenon() -> None:
    recipe = replace(PUBLISHED, tips=("CO", "Xe"), follows_tilt=True, clearance=(-0.35, -0.35), atoms=40)
    (molecule,) = generate(1, seed=5, split="test")
    batch = simulate_samples([molecule], recipe, 2, [0])
    there = np.asarray(batch.numbers[0]) > 0
    structure = Structure.known(batch.numbers[0][there], batch.positions[0][there])
    sensor, axis = Cantilever(amplitude=1.0), PUBLISHED_GRID.axis()
    hertz = -sensor.frequency / (2 * sensor.stiffness)
    moved = np.roll(hertz * np.asarray(batch.force_gradient)[0, 1], (6, -9), axis=(1, 2))
    moved[[0, 1, 3]] = np.nan
    stack = ImageStack(moved, axis, axis, 0.1 * np.arange(10)[::-1], sensor, "Xe")
    assert np.allclose(displacement(structure, stack), (-9 * PUBLISHED_GRID.pitch, 6 * PUBLISHED_GRID.pitch), atol=0.5)
    with pytest.raises(InvalidRequestError, match="'Kr'"):
        displacement(structure, replace(stack, tip="Kr"))
    with pytest.raises(InvalidRequestError, match="0 atoms"):
        displacement(Structure.known([], []), stack)
