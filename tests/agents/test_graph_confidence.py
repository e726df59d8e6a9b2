import numpy as np
import pytest

from tests.agents._graph import structure
from twinscope.agents.structure_discovery.graph import Confidence, Peaks, compare, connected
from twinscope.errors import InvalidRequestError


def seen(rng, true_share, count=400):
    """Peaks of random heights, each an atom with a probability that depends on its height; and their comparison."""
    heights = rng.uniform(0.3, 1.1, count)
    real = rng.random(count) < true_share(heights)
    places = np.arange(count)[:, None] * [3.0, 0, 0]
    truth = structure(np.full(real.sum(), 6), places[real])
    return heights, compare(structure(np.full(count, 6), places), truth)


def test_heights_become_the_share_of_peaks_that_are_atoms():
    rng = np.random.default_rng(0)
    heights, comparisons = zip(
        *(seen(rng, lambda height: np.clip(height - 0.2, 0, 0.8)) for _ in range(5)), strict=True
    )
    confidence = Confidence.fitted(heights, comparisons)
    np.testing.assert_allclose(confidence([0.4, 0.6, 0.8, 1.05]), [0.2, 0.4, 0.6, 0.8], atol=0.08)
    assert (np.diff(confidence(np.linspace(0, 1.5, 200))) >= 0).all()


def test_ignored_atoms_do_not_count():
    deep = structure([6, 6], [[0, 0, 0], [3, 0, -1.0]])
    confidence = Confidence.fitted([np.array([0.9, 0.5])], [compare(deep, deep)])
    assert confidence.heights == (0.9,)
    assert confidence([0.1, 2.0]).tolist() == [1, 1]


def test_a_structure_has_the_calibrated_confidence():
    peaks = Peaks(np.array([[0.0, 0, 0], [5, 0, 0]]), np.array([1.1, 0.6]), np.full((2, 10), 0.1))
    np.testing.assert_allclose(connected(peaks).confidence, [1.0, 0.6])
    strict = Confidence((0.5, 1.0), (0.2, 0.9))
    np.testing.assert_allclose(connected(peaks, confidence=strict).confidence, [0.9, 0.34])


def test_nothing_cannot_calibrate():
    one = structure([6], [[0, 0, 0]])
    with pytest.raises(InvalidRequestError, match="2 peaks in 1 molecules do not belong to 1 comparisons"):
        Confidence.fitted([np.ones(2)], [compare(one, one)])
    with pytest.raises(InvalidRequestError, match="no peak was judged"):
        Confidence.fitted([], [])
