"""A whole training: molecules of a folder in, weights and a model card out."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.agents._tiny_training import GRID, OPTIONS
from twinscope.agents.structure_discovery.molecules import Molecule, generate
from twinscope.agents.structure_discovery.networks.saved import load_network
from twinscope.agents.structure_discovery.training.run import Reports, Run, train
from twinscope.agents.structure_discovery.training_data import TWINSCOPE
from twinscope.agents.structure_discovery.training_data.shards import shard_numbers
from twinscope.errors import ConfigurationError

RECIPE = replace(TWINSCOPE, grid=GRID, orientations=10, flattest=3)


def write(molecule: Molecule, path: Path) -> None:
    """Write a file as the published data sets have them: the charge is the fifth column."""
    rows = zip(molecule.numbers, molecule.positions, molecule.charges, strict=True)
    lines = [f"{number} {x:.5f} {y:.5f} {z:.5f} {charge:.5f}" for number, (x, y, z), charge in rows]
    path.write_text("\n".join([str(len(lines)), "", *lines]) + "\n")


@pytest.fixture(scope="module")
def molecules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("molecules")
    for part, count in (("train", 2), ("validation", 1)):
        for number, molecule in enumerate(generate(count, seed=1, split=part)):
            write(molecule, folder / f"{part}{number}.xyz")
    return folder


@pytest.mark.slow
def test_one_command_makes_weights_and_a_model_card(molecules: Path, tmp_path: Path) -> None:
    run = Run(
        own_molecules=molecules,
        pool=2,
        recipe=RECIPE,
        training=replace(OPTIONS, steps=2, validate_every=2),
        graph_samples=8,
        graph_steps=2,
        calibration_samples=8,
    )
    samples, steps = [], []
    reports = Reports(samples=lambda done, total: samples.append((done, total)), steps=lambda p: steps.append(p.step))
    weights = train(tmp_path, run, reports)
    assert samples == [(4, 4)]
    assert steps == [2]
    network, card = load_network(weights)
    assert network.config == OPTIONS.network
    assert card.training["molecules"] == {"train": 2, "validation": 1}
    text = weights.with_suffix(".md").read_text()
    assert "2 of each molecule, made once" in text
    assert "| 2 |" in text

    # Asked for again, there is nothing left to do but the files.
    again = train(tmp_path, run, reports)
    assert again == weights
    assert steps == [2]
    assert shard_numbers(tmp_path / "samples") == {0}


def test_too_few_molecules_are_refused(molecules: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    (few / "one.xyz").write_text((molecules / "train0.xyz").read_text())
    run = Run(own_molecules=few, recipe=RECIPE, training=OPTIONS)
    with pytest.raises(ConfigurationError, match="none of the 1 molecules is of the part 'validation'"):
        train(tmp_path / "run", run)
