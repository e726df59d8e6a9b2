import numpy as np
import pytest

from twinscope.agents.structure_discovery.agent.spoiled import runs, spoiled_lines

AXIS = np.linspace(-8, 8, 128)


def atoms(noise: float) -> np.ndarray:
    """Dark rings of the size of atoms, symmetric about the middle line."""
    away = [np.hypot(AXIS - x, AXIS[:, None] - y) for x in (-2, 0, 2) for y in (-2, 0, 2)]
    image: np.ndarray = -3 * np.sum([np.exp(-(((one - 0.6) / 0.5) ** 2)) for one in away], axis=0)
    return image + np.random.default_rng(0).normal(0, noise, image.shape)


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.3])
def test_lines_over_a_molecule_are_not_spoiled(noise: float) -> None:
    assert not spoiled_lines(atoms(noise)).any()


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.3])
def test_a_line_that_its_neighbours_do_not_know_is_spoiled_and_they_are_not(noise: float) -> None:
    image = atoms(noise)
    image[[5, 42, 80], 20:100] += 4.0
    assert np.flatnonzero(spoiled_lines(image)).tolist() == [5, 42, 80]


def test_a_step_that_stays_is_not_spoiled() -> None:
    image = atoms(0.01)
    image[30:] += 2.0
    assert not spoiled_lines(image).any()


def test_a_value_that_is_none_spoils_its_line_wherever_it_is() -> None:
    image = atoms(0.01)
    image[0, 3] = image[31, 5] = image[127, 60] = np.nan
    assert np.flatnonzero(spoiled_lines(image)).tolist() == [0, 31, 127]
    assert spoiled_lines(np.full((2, 8), np.nan)).all()


def test_runs_of_lines() -> None:
    assert list(runs(np.array([1, 1, 0, 0, 1, 0, 1], bool))) == [(0, 2), (4, 5), (6, 7)]
    assert list(runs(np.zeros(3, bool))) == []
