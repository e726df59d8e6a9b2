"""Training: it learns, goes on where it was, and says what went wrong."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.agents._tiny_training import GRID, OPTIONS, Blobs
from twinscope.agents.structure_discovery.networks.discovery import DEPTHS
from twinscope.agents.structure_discovery.networks.saved import Card, load_network, save_network
from twinscope.agents.structure_discovery.prediction import DESCRIPTORS
from twinscope.agents.structure_discovery.structure import ELEMENTS
from twinscope.agents.structure_discovery.training.augmenting import Example, as_measured, augmented, turn
from twinscope.agents.structure_discovery.training.calibration import sigma_factors
from twinscope.agents.structure_discovery.training.model_card import write_model_card
from twinscope.agents.structure_discovery.training.options import TrainingOptions
from twinscope.agents.structure_discovery.training.prefetch import prefetched
from twinscope.agents.structure_discovery.training.targets import atom_targets
from twinscope.agents.structure_discovery.training.trainer import METRICS, Progress, Trainer
from twinscope.agents.structure_discovery.training.validation import score_of
from twinscope.errors import ConfigurationError

SOURCE = Blobs()


def trained(folder: Path, options: TrainingOptions = OPTIONS) -> tuple[Trainer, list[Progress]]:
    folder.mkdir(exist_ok=True)
    reports: list[Progress] = []
    trainer = Trainer(options, GRID.axis(), folder)
    trainer.train(SOURCE, SOURCE, reports.append)
    return trainer, reports


def test_a_training_learns_and_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    whole, reports = trained(tmp_path / "whole")
    assert [report.step for report in reports] == [6, 12]
    examples = [Example.of(SOURCE.batch(0, 2))]
    first, last = (
        score_of(trainer.network(), examples).noisy["vdw_spheres"]
        for trainer in (Trainer(OPTIONS, GRID.axis(), tmp_path / "untrained"), whole)
    )
    assert last < 0.8 * first

    # Stopped after the checkpoint of step 6, which is all that another process would find.
    class Stopped(Exception):  # noqa: N818
        pass

    def stop(progress: Progress) -> None:
        if progress.step == 6:
            raise Stopped

    (tmp_path / "parts").mkdir()
    begun = Trainer(OPTIONS, GRID.axis(), tmp_path / "parts")
    with pytest.raises(Stopped):
        begun.train(SOURCE, SOURCE, stop)
    resumed = Trainer(OPTIONS, GRID.axis(), tmp_path / "parts")
    assert int(resumed.state.step) == 6
    resumed.train(SOURCE, SOURCE, lambda _: None)
    for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(resumed.state), strict=True):
        np.testing.assert_array_equal(a, b)

    lines = [json.loads(line) for line in (tmp_path / "parts" / METRICS).read_text().splitlines()]
    assert [line["step"] for line in lines] == [6, 12]

    other = replace(OPTIONS, learning_rate=1e-3)
    with pytest.raises(ConfigurationError, match=r"other options: learning_rate 0\.005 \(now 0\.001\)"):
        Trainer(other, GRID.axis(), tmp_path / "parts")


def test_weights_are_saved_with_what_is_known_about_them(tmp_path: Path) -> None:
    trainer = Trainer(OPTIONS, GRID.axis(), tmp_path)
    example = Example.of(SOURCE.batch(99, 4))
    factors = sigma_factors(trainer.network(), [example])
    assert [len(row) for row in factors] == [len(DESCRIPTORS)] * len(OPTIONS.network.tips)
    assert np.min(factors) > 0
    path = save_network(tmp_path / "weights.npz", trainer.network(), Card("tiny", OPTIONS.network, factors))
    network, card = load_network(path)
    assert card == Card("tiny", OPTIONS.network, factors)
    # Half precision costs little.
    here, there = (score_of(one, [example]).clean for one in (trainer.network(), network))
    for name in DESCRIPTORS:
        assert there[name] == pytest.approx(here[name], rel=0.02)

    (tmp_path / "bad.npz").write_bytes(b"PK something else")
    with pytest.raises(ConfigurationError, match=r"bad\.npz holds no weights"):
        load_network(tmp_path / "bad.npz")
    with pytest.raises(ConfigurationError, match="missing"):
        load_network(tmp_path / "missing.npz")


def test_a_model_card_tells_the_recipe_and_the_errors(tmp_path: Path) -> None:
    line = {
        "step": 5,
        "loss": {},
        "validation": {kind: dict.fromkeys(DESCRIPTORS, 0.25) for kind in ("noisy", "clean")},
    }
    line["validation"]["explained"] = dict.fromkeys(DESCRIPTORS, 0.5)
    line["validation"]["explained_by_all"] = dict.fromkeys(DESCRIPTORS, 0.75)
    (tmp_path / METRICS).write_text(json.dumps(line) + "\n")
    told = {
        "created": "2026-01-01",
        "twinscope": "1",
        "device": "cpu",
        "devices": 1,
        "molecules": {"train": 10, "validation": 2},
        "run": {
            "elements": "light",
            "start": None,
            "pool": 2,
            "recipe": {"tilt": 0.5},
            "training": {"steps": 5, "batch": 2, "learning_rate": 0.1, "warmup": 1, "noise": 0.15, "seed": 7},
            "graph_samples": 80,
            "graph_steps": 40,
        },
        "molecules_scored": 2,
        "atoms": dict.fromkeys(("precision", "recall", "rms", "bond_precision", "bond_recall"), 0.5)
        | {"balanced_accuracy": 0.875},
        "hours_of_the_last_session": 0.5,
        "steps_of_the_last_session": 5,
    }
    text = write_model_card(tmp_path, Card("tiny", OPTIONS.network, ((1.0, 2.0, 3.0, 4.0),), told)).read_text()
    assert "| 5 | 0.25 / 0.25 (0.500, 0.750)" in text
    assert '"tilt": 0.5' in text
    assert "2.00 (vdw_spheres)" in text
    assert "found in 80 samples, for 40 steps" in text
    assert "| 0.500 | 0.500 | 0.500 | 0.875 | 0.500 | 0.500 |" in text


def test_targets_have_a_peak_at_each_atom_and_name_it() -> None:
    axis = jnp.asarray(np.arange(-3, 3.1, 0.25))
    numbers = jnp.array([[8, 1, 6, 0]])
    positions = jnp.array([[[1.0, -0.5, 0.0], [-1.0, 0.5, -0.4], [0.0, 0.0, -2.0], [0.0, 0.0, 0.0]]])
    targets = atom_targets(numbers, positions, axis)
    column, row = int((1.0 + 3) / 0.25), int((-0.5 + 3) / 0.25)
    assert targets.occupancy[0, row, column, DEPTHS.index(0.0)] == pytest.approx(1)
    assert targets.elements[0, row, column] == ELEMENTS.index("O")
    column, row = int((-1.0 + 3) / 0.25), int((0.5 + 3) / 0.25)
    assert targets.occupancy[0, row, column, DEPTHS.index(-0.4)] == pytest.approx(1)
    assert targets.elements[0, row, column] == ELEMENTS.index("H")
    # Pixels around it know where it is.
    assert targets.asked[0, row, column - 1]
    np.testing.assert_allclose(targets.offsets[0, row, column - 1], [0.25, 0.0, -0.4], atol=1e-6)
    # The deep atom is not asked for, and what fills the list up is nowhere.
    assert not targets.asked[0, 12, 12]
    assert targets.occupancy[0, 12, 12].max() < 0.2


@pytest.mark.parametrize("symmetry", range(8))
def test_turned_examples_show_their_atoms_where_they_are(symmetry: int) -> None:
    example = Example.of(SOURCE.batch(3, 2))
    turned = turn(example, jnp.int32(symmetry))
    axis = GRID.axis()
    for image, position in zip(turned.force_gradient[:, 0, -1], turned.positions[:, 0], strict=True):
        row, column = np.unravel_index(np.argmax(image), image.shape)
        assert np.hypot(axis[column] - position[0], axis[row] - position[1]) < 0.4
    # In the last slice, and in units of 0.6 Å, the blob is the same.
    np.testing.assert_allclose(turned.maps[:, 1] / 0.6, turned.force_gradient[:, 0, -1] / 0.05, rtol=1e-5)
    tilt = sorted(np.abs(np.asarray(turned.conditions)[0, 3:]))
    np.testing.assert_allclose(tilt, [0.1, 0.2], rtol=1e-6)


def test_augmentation_leaves_something_to_see() -> None:
    example = Example.of(SOURCE.batch(0, 64))
    seen = augmented(jax.random.key(0), example, 0.15, 0.5)
    measured = np.asarray(seen.measured)[:, 0]
    slices = measured.all(-1).sum(-1)
    assert (slices >= 1).all()
    whole = (slices == 10).mean()
    assert 0.3 < whole < 0.7
    assert (measured.any(-1) & ~measured.all(-1)).any()
    # Bands have lines that are missing on either side.
    assert (measured.any(-1) & ~measured[..., 0] & ~measured[..., -1]).any()
    noise = np.abs(np.asarray(seen.force_gradient - seen.example.force_gradient)).max((1, 2, 3, 4))
    assert (noise == 0).any()
    assert noise.max() <= 0.15 / 2 * example.force_gradient.max() * 1.001


def test_some_samples_get_imperfections_and_blanks_and_truth_stays() -> None:
    example = Example.of(SOURCE.batch(0, 64))
    spoil = jax.jit(lambda key: augmented(key, example, 0.0, 1.0, realism=0.5, cut_outs=0.0))
    seen = spoil(jax.random.key(1))
    changed = np.abs(np.asarray(seen.force_gradient - seen.example.force_gradient)).max((1, 2, 3, 4)) > 1e-6
    assert 0.2 < changed.mean() < 0.7
    blank = augmented(jax.random.key(1), example, 0.0, 1.0, cut_outs=0.5)
    np.testing.assert_array_equal(blank.example.maps, seen.example.maps)
    differs = np.asarray(blank.force_gradient != blank.example.force_gradient)
    # Small rectangles with the mean of their slice.
    assert 0 < differs.mean() < 0.02
    mean = np.asarray(blank.example.force_gradient).mean((3, 4), keepdims=True)
    values = np.asarray(blank.force_gradient)[differs]
    np.testing.assert_allclose(values, np.broadcast_to(mean, differs.shape)[differs], atol=1e-6)


def with_second_tip(example: Example) -> Example:
    return example._replace(force_gradient=np.concatenate([example.force_gradient, 2 * example.force_gradient], axis=1))


def test_some_samples_are_measured_with_the_first_tip_only() -> None:
    example = with_second_tip(Example.of(SOURCE.batch(0, 64)))
    seen = augmented(jax.random.key(0), example, 0.0, 1.0, one_tip=0.5)
    measured = np.asarray(seen.measured).all((2, 3))
    assert measured[:, 0].all()
    assert 0.3 < measured[:, 1].mean() < 0.7
    np.testing.assert_array_equal(as_measured(jax.random.key(0), example, 0.1, tips=1).measured[:, 1], False)


def test_a_network_for_further_tips_says_the_same_of_the_first(tmp_path: Path) -> None:
    network = Trainer(OPTIONS, GRID.axis(), tmp_path).network()
    both = network.with_tips(("CO", "Xe"))
    example = Example.of(SOURCE.batch(0, 2))
    more = with_second_tip(example)
    whole = np.ones(more.force_gradient.shape[:-1], bool)
    one, two = network(example.force_gradient, whole[:, :1]), both(more.force_gradient, whole)
    np.testing.assert_allclose(two.maps, one.maps, atol=1e-5)
    with pytest.raises(ConfigurationError, match=r"tips \('CO', 'Xe'\): expected them first, not \('Xe', 'CO'\)"):
        both.with_tips(("Xe", "CO"))


def test_data_are_made_ahead_and_in_order_and_errors_come_through() -> None:
    assert list(prefetched(lambda n: n * n, range(7))) == [n * n for n in range(7)]

    def fail(number: int) -> int:
        if number == 2:
            raise ValueError("no such sample")
        return number

    with pytest.raises(ValueError, match="no such sample"):
        list(prefetched(fail, range(5)))


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("batch", -1), ("whole", 1.5), ("realism", 1.1)])
def test_options_that_make_no_sense_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=f"option {name} of the training is {value}"):
        replace(OPTIONS, **{name: value})
