"""The referee of a search for molecules."""

from typing import Any

import numpy as np
import pytest

from twinscope.agents.loop import MoleculesReferee, Referee
from twinscope.errors import InvalidRequestError

NM = 1e-9
LOW, HIGH = (-15 * NM, -15 * NM), (15 * NM, 15 * NM)
# Far from the edges, and one that is too near to count.
PLACES = np.array([[-10, -3], [-9, 4], [0, 0], [2.5, 0], [6, 9], [12, -14]]) * NM
ON_THE_EDGE = np.array([14.8, 3]) * NM


class Knowing:
    """A microscope whose oracle knows the molecules."""

    def oracle(self, low: tuple[float, float], high: tuple[float, float]) -> dict[str, Any]:
        assert (low, high) == (LOW, HIGH)
        return {"molecules": [{"position": [x, y, 0.0]} for x, y in [*PLACES.tolist(), ON_THE_EDGE.tolist()]]}


@pytest.fixture
def referee() -> MoleculesReferee:
    return MoleculesReferee(Knowing(), LOW, HIGH)  # type: ignore[arg-type]


def test_the_truth_scores_best(referee: Referee) -> None:
    score = referee.score({"places": PLACES.tolist()})
    assert (score["recall"], score["precision"], score["f1"], score["error"]) == (1, 1, 1, 0)
    # Each may be off by a little, in any order.
    moved = PLACES[::-1] + np.array([0.3, -0.4]) * NM
    score = referee.score({"places": moved.tolist()})
    assert (score["recall"], score["precision"]) == (1, 1)
    assert score["error"] == pytest.approx(0.5 * NM, rel=0.2)


def test_what_is_missing_and_what_is_not_there_is_counted(referee: Referee) -> None:
    free = np.array([[-5, -5], [8, 2]]) * NM
    half = len(PLACES) // 2
    score = referee.score({"places": [*PLACES[:half].tolist(), *free.tolist()]})
    assert score["recall"] == pytest.approx(half / len(PLACES))
    assert score["precision"] == pytest.approx(half / (half + len(free)))
    # The same molecule can be found once only.
    assert referee.score({"places": [PLACES[0].tolist()] * 2})["precision"] == 0.5


def test_near_the_edge_nothing_is_held_against_anyone(referee: Referee) -> None:
    edge = [[14.9 * NM, y] for y in np.arange(-14, 15, 2) * NM]
    assert referee.score({"places": [*PLACES.tolist(), *edge]})["precision"] == 1


def test_no_answer_is_the_worst_one(referee: Referee) -> None:
    assert referee.score(None)["f1"] == referee.score({"places": []})["f1"] == 0
    for wrong in ({}, {"places": "everywhere"}, {"places": [[1.0]]}, {"places": [[0.0, float("nan")]]}):
        with pytest.raises(InvalidRequestError, match="places of the answer"):
            referee.score(wrong)
