"""The referee of a search for molecules."""

from pathlib import Path

import numpy as np
import pytest

import twinscope
from twinscope.agents.loop import MoleculesReferee, Referee
from twinscope.errors import InvalidRequestError

NM = 1e-9
LOW, HIGH = (-15 * NM, -15 * NM), (15 * NM, 15 * NM)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[MoleculesReferee, np.ndarray]:
    """The referee, and where molecules are that count."""
    folder: Path = tmp_path_factory.mktemp("world")
    with twinscope.Microscope(world={"size": 60 * NM}, oracle=True, seed=5, directory=folder) as scope:
        referee = MoleculesReferee(scope, LOW, HIGH)
        places = np.array([one["position"][:2] for one in scope.oracle(LOW, HIGH)["molecules"]])
    assert isinstance(referee, MoleculesReferee)
    return referee, places[(np.abs(places) < 14.2 * NM).all(axis=1)]


def test_the_truth_scores_best(world: tuple[Referee, np.ndarray]) -> None:
    referee, places = world
    assert len(places) >= 4
    score = referee.score({"places": places.tolist()})
    assert (score["recall"], score["precision"], score["f1"], score["error"]) == (1, 1, 1, 0)
    # Each may be off by a little, in any order.
    moved = places[::-1] + np.array([0.3, -0.4]) * NM
    score = referee.score({"places": moved.tolist()})
    assert (score["recall"], score["precision"]) == (1, 1)
    assert score["error"] == pytest.approx(0.5 * NM, rel=0.2)


def test_what_is_missing_and_what_is_not_there_is_counted(world: tuple[Referee, np.ndarray]) -> None:
    referee, places = world
    far = places.mean(axis=0) + np.array([[0.0, 0.0], [0.01, 0.01], [0.02, 0.0]]) * NM
    free = [place for place in far if np.linalg.norm(places - place, axis=1).min() > NM]
    half = len(places) // 2
    score = referee.score({"places": [*places[:half].tolist(), *(place.tolist() for place in free)]})
    assert score["recall"] == pytest.approx(half / len(places))
    assert score["precision"] == pytest.approx(half / (half + len(free)))
    # The same molecule can be found once only.
    assert referee.score({"places": [places[0].tolist()] * 2})["precision"] == 0.5


def test_near_the_edge_nothing_is_held_against_anyone(world: tuple[Referee, np.ndarray]) -> None:
    referee, places = world
    edge = [[14.9 * NM, y] for y in np.arange(-14, 15, 2) * NM]
    assert referee.score({"places": [*places.tolist(), *edge]})["precision"] == 1


def test_no_answer_is_the_worst_one(world: tuple[Referee, np.ndarray]) -> None:
    referee, _ = world
    assert referee.score(None)["f1"] == referee.score({"places": []})["f1"] == 0
    for wrong in ({}, {"places": "everywhere"}, {"places": [[1.0]]}, {"places": [[0.0, float("nan")]]}):
        with pytest.raises(InvalidRequestError, match="places of the answer"):
            referee.score(wrong)
