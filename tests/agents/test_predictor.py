"""The shipped network, on images of a simulator that is not ours."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from twinscope.agents.structure_discovery import ImageStack, Predictor
from twinscope.agents.structure_discovery.graph import compare, find_atoms
from twinscope.agents.structure_discovery.molecules import library
from twinscope.agents.structure_discovery.prediction import CONDITIONS, DESCRIPTORS
from twinscope.agents.structure_discovery.stack import PUBLISHED_GRID
from twinscope.agents.structure_discovery.structure import ELEMENTS, Structure
from twinscope.agents.structure_discovery.training_data import TWO_TIPS, Batch, simulate_samples
from twinscope.errors import ConfigurationError, InvalidRequestError
from twinscope.kernels import Cantilever

AXIS = np.linspace(0, 16, 128)
HEIGHTS = 0.1 * np.arange(9, -1, -1)
NAMES = ("02_adenine_0", "09_phenanthrene_0", "19_nicotine_0")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.shipped()


def a_stack(seed: int = 0) -> ImageStack:
    values = np.random.default_rng(seed).normal(size=(10, 128, 128))
    return ImageStack(values, AXIS, AXIS, HEIGHTS, Cantilever())


def test_molecules_of_another_simulator_are_seen(predictor: Predictor, shared: Path) -> None:
    explained, found = [], []
    with h5py.File(shared / "asd" / "reference.h5") as file:
        for name in NAMES:
            sample = file[name]
            # The file has x before y, and the height last.
            stack = ImageStack(sample["df"][:].T, AXIS, AXIS, HEIGHTS, Cantilever())
            prediction = predictor.predict(stack)
            truth = sample["reference"][:].swapaxes(1, 2)
            for channel, descriptor in ((1, "vdw_spheres"), (2, "height_map")):
                error = prediction.maps[descriptor].values - truth[channel]
                explained.append(1 - (error**2).mean() / truth[channel].var())
            positions = sample["xyz"][:] - [0, 0, sample["xyz"][:, 2].max()]
            found.append(compare(prediction.structure, Structure.known(sample["Z"][:], positions), metric="lateral"))
    assert min(explained) > 0.7
    right = sum(len(one.pairs) for one in found)
    # An untrained network finds none of them.
    assert right >= 8


def test_a_prediction_has_all_its_parts(predictor: Predictor) -> None:
    prediction = predictor.predict(a_stack())
    assert list(prediction.maps) == list(DESCRIPTORS)
    for one in prediction.maps.values():
        assert one.values.shape == one.sigma.shape == (128, 128)
        assert (one.sigma > 0).all()
    assert list(prediction.conditions) == list(CONDITIONS)
    assert prediction.occupancy.shape == (8, 64, 64)
    assert 0 <= prediction.occupancy.min() <= prediction.occupancy.max() <= 1
    np.testing.assert_allclose(prediction.occupancy_x[0], AXIS[:2].mean())


def test_what_was_not_measured_does_not_matter(predictor: Predictor) -> None:
    missing = a_stack().frequency_shift.copy()
    missing[3] = np.nan
    missing[9, 50:] = np.nan
    one = predictor.predict(replace(a_stack(), frequency_shift=missing))
    other = missing.copy()
    other[9, 50:, 7] = 1e6  # A line with a single value that is known is not a line.
    two = predictor.predict(replace(a_stack(), frequency_shift=other))
    np.testing.assert_array_equal(one.maps["height_map"].values, two.maps["height_map"].values)
    assert "1 of 10 heights of the network are missing" in one.notes


def test_the_sensor_does_not_matter(predictor: Predictor) -> None:
    soft = predictor.predict(a_stack())
    stiff = predictor.predict(
        replace(a_stack(), frequency_shift=a_stack().frequency_shift * 10, cantilever=Cantilever(303000, 1800, 1))
    )
    difference = soft.maps["vdw_spheres"].values - stiff.maps["vdw_spheres"].values
    assert np.abs(difference).max() < 1e-3


def test_many_stacks_at_once_are_as_one_by_one(predictor: Predictor) -> None:
    stacks = [a_stack(1), a_stack(2)]
    together = predictor.predict_many(stacks)
    for one, stack in zip(together, stacks, strict=True):
        alone = predictor.predict(stack).maps["atomic_disks"].values
        np.testing.assert_allclose(one.maps["atomic_disks"].values, alone, atol=1e-4)


@pytest.fixture(scope="module")
def samples() -> Batch:
    """Of molecules that were not trained with."""
    molecules = library(20, cache=None, split="validation")[:4]
    return simulate_samples(molecules, TWO_TIPS, 3, range(4))


def stacks_of(samples: Batch) -> list[list[ImageStack]]:
    """What a microscope measures: for each sample a stack of each tip."""
    scale = -Cantilever().frequency / (2 * Cantilever().stiffness)
    axis = PUBLISHED_GRID.axis()
    return [
        [
            ImageStack(scale * gradient, axis, axis, HEIGHTS, Cantilever(), tip)
            for tip, gradient in zip(TWO_TIPS.tips, both, strict=True)
        ]
        for both in samples.force_gradient
    ]


def test_the_graph_network_puts_atoms_nearer_to_where_they_are(predictor: Predictor, samples: Batch) -> None:
    before, after = [], []
    predictions = predictor.predict_many([first for first, _ in stacks_of(samples)])
    for one, numbers, positions in zip(predictions, samples.numbers, samples.positions, strict=True):
        truth = Structure.known(numbers[numbers > 0], positions[numbers > 0])
        nothing = np.full((len(ELEMENTS), *one.occupancy.shape[1:]), 0.1)
        peaks = find_atoms(one.occupancy, one.depths, one.occupancy_x, one.occupancy_y, nothing)
        before.append(compare(Structure.known(np.full(len(peaks), 6), peaks.positions), truth))
        after.append(compare(one.structure, truth))
    # Not by leaving out the atoms that are far off.
    assert sum(len(one.pairs) for one in after) >= sum(len(one.pairs) for one in before)
    rms = [np.sqrt(np.mean(np.concatenate([one.displacements for one in some]) ** 2)) for some in (before, after)]
    assert rms[1] < 0.9 * rms[0]


def test_a_second_tip_tells_more_of_the_charges(predictor: Predictor, samples: Batch) -> None:
    pairs = stacks_of(samples)
    truth = samples.maps[:, list(DESCRIPTORS).index("electrostatic_map")]

    def error(stacks: list) -> float:
        maps = [one.maps["electrostatic_map"].values for one in predictor.predict_many(stacks)]
        return float(((maps - truth) ** 2).mean())

    with_one, with_both = error([first for first, _ in pairs]), error(pairs)
    assert with_both < 0.7 * with_one


def test_stacks_that_do_not_belong_together_are_refused(predictor: Predictor) -> None:
    first, other = a_stack(), replace(a_stack(1), tip="Xe")
    predictor.predict(first, other)
    for stacks, names in (((other,), "Xe"), ((first, first), "CO, CO"), ((first, replace(other, tip="Cl")), "CO, Cl")):
        with pytest.raises(InvalidRequestError, match=f"taken with the tips {names}: expected one with CO and at most"):
            predictor.predict(*stacks)
    with pytest.raises(InvalidRequestError, match="CO and Xe at the tip are not over the same frame"):
        predictor.predict(first, replace(other, x=AXIS + 0.5))


def test_what_cannot_be_used_is_refused(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="constant"):
        predictor.predict(replace(a_stack(), frequency_shift=np.ones((10, 128, 128))))
    with pytest.raises(ConfigurationError, match="holds no weights"):
        Predictor.from_file(tmp_path / "nothing.npz")
