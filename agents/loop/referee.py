"""Whoever knows the truth: it scores answers, and no agent ever sees it."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment

from twinscope.errors import InvalidRequestError
from twinscope.microscope import Microscope

# How near (m) to the middle of a molecule a place must be to have found it: half of a small one.
_FOUND = 8e-10


class Referee(Protocol):
    """Scores the answers to one task."""

    def score(self, answer: Mapping[str, Any] | None) -> Mapping[str, float]:
        """Return figures by name; an agent without an answer gets the worst ones."""
        ...


class MoleculesReferee:
    """Scores where an agent has found molecules, by what the oracle of a simulator tells.

    It asks when it is made, with a connection of its own: that of an agent has no oracle, since a
    :class:`~.command.Command` cannot ask for it.

    Parameters
    ----------
    scope
        A simulator with ``oracle=True``; over a network, the connection of an administrator.
    low, high
        Corners (x, y) of the area, in m.
    reach
        How near to the middle of a molecule a place must be, in m. What lies nearer to the edge of the area than this
        does not count: whether it belongs to it is as uncertain as the places.

    Raises
    ------
    ForbiddenError, InvalidRequestError
        When the oracle does not answer.
    """

    def __init__(
        self, scope: Microscope, low: tuple[float, float], high: tuple[float, float], *, reach: float = _FOUND
    ) -> None:
        truth = scope.oracle(low, high)
        places = np.array([one["position"][:2] for one in truth["molecules"]], float).reshape(-1, 2)
        self._low, self._high, self._reach = np.array(low), np.array(high), reach
        self._places = places

    def score(self, answer: Mapping[str, Any] | None) -> Mapping[str, float]:
        """Score ``{"places": [[x, y], ...]}``, in m.

        Returns
        -------
        dict
            "recall" and "precision", "f1" of both, and "error", the root mean square of the distances from the
            molecules that were found, in m. Recall is 1 where there is nothing to be found, and precision where nothing
            was said; the error is NaN where nothing was found.

        Raises
        ------
        InvalidRequestError
            When the answer has no such list.
        """
        if answer is None:
            return {"recall": 0.0, "precision": 0.0, "f1": 0.0, "error": np.nan}
        said = _places(answer)
        away = np.linalg.norm(self._places[:, None] - said, axis=-1)
        # More pairs are worth more than all distances.
        gains = np.where(away <= self._reach, 1 + self._reach * (1 + min(away.shape)) - away, 0.0)
        rows, columns = linear_sum_assignment(gains, maximize=True)
        matched = gains[rows, columns] > 0
        rows, columns = rows[matched], columns[matched]
        found = np.isin(np.arange(len(self._places)), rows)
        right = np.isin(np.arange(len(said)), columns)
        asked = self._inside(self._places)
        recall = float(found[asked].mean()) if asked.any() else 1.0
        # A place near the edge that is right counts, one that is wrong does not.
        judged = right | self._inside(said)
        precision = float(right[judged].mean()) if judged.any() else 1.0
        both = recall + precision
        error = float(np.sqrt(np.mean(away[rows, columns] ** 2))) if len(rows) else np.nan
        return {
            "recall": recall,
            "precision": precision,
            "f1": 2 * recall * precision / both if both else 0.0,
            "error": error,
        }

    def _inside(self, places: np.ndarray) -> np.ndarray:
        low, high = self._low + self._reach, self._high - self._reach
        return np.asarray(((places > low) & (places < high)).all(axis=1))


def _places(answer: Mapping[str, Any]) -> np.ndarray:
    given = answer.get("places")
    try:
        places = np.array(given, float).reshape(-1, 2)
    except (TypeError, ValueError) as exc:
        raise InvalidRequestError(f"places of the answer is {given!r}: expected a list of (x, y), in m") from exc
    if not np.isfinite(places).all():
        raise InvalidRequestError(f"places of the answer has {np.sum(~np.isfinite(places))} values that are no numbers")
    return places
