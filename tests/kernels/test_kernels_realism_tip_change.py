"""Tips that change by chance, against the statistics of the chance."""

from dataclasses import replace
from itertools import pairwise

import jax
import numpy as np
import pytest
from scipy.stats import kstest

from twinscope.kernels import Tip, TipChange, changed_tip, recovery_probability, tip_changes

KEY = jax.random.key(12)
BARE = Tip("Cu", rigid=True, charges=((0.1, 0.0),))


def test_changes_come_as_a_poisson_process():
    times = tip_changes(KEY, 0.5, 0.0, 2000.0)
    assert len(times) == pytest.approx(1000, abs=4 * np.sqrt(1000))
    assert kstest(np.diff(times), "expon", args=(0, 2.0)).pvalue > 0.01
    counts = np.histogram(times, 200, (0, 2000))[0]
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.4)


def test_changes_do_not_depend_on_how_a_session_is_cut():
    whole = tip_changes(KEY, 0.1, 100.0, 1000.0)
    cuts = np.array([100.0, 103.7, 500.0, 500.0, 999.9, 1000.0])
    parts = [tip_changes(KEY, 0.1, a, b) for a, b in pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(whole) > 50


def test_without_a_rate_nothing_happens():
    assert tip_changes(KEY, 0.0, 0.0, 1e9).size == 0


def many(change, tip=None, count=400):
    return [changed_tip(tip or Tip(), key, change, BARE) for key in jax.random.split(KEY, count)]


def test_the_probe_tilts_evenly_over_a_disk():
    tilts = np.array([new.tip.rest[:2] for new in many(TipChange(tilt=0.6, loss=0.0), Tip(rest=(0.1, 0.0, 3.0)))])
    squares = np.sum((tilts - [0.1, 0.0]) ** 2, axis=1) / 0.36
    assert kstest(squares, "uniform").pvalue > 0.01
    assert kstest(np.arctan2(*(tilts - [0.1, 0.0]).T) / (2 * np.pi) + 0.5, "uniform").pvalue > 0.01


def test_charges_are_scaled_together_and_the_length_jumps():
    changes = many(TipChange(tilt=0.0, charge=0.2, jump=0.5, loss=0.0))
    factors = np.array(
        [[q / old for (q, _), (old, _) in zip(n.tip.charges, Tip().charges, strict=True)] for n in changes]
    )
    np.testing.assert_allclose(factors, factors[:, :1] * np.ones(3))
    assert kstest(np.log(factors[:, 0]), "norm", args=(0, 0.2)).pvalue > 0.01
    assert kstest([new.jump for new in changes], "norm", args=(0, 0.5)).pvalue > 0.01
    assert {new.tip.rest for new in changes} == {Tip().rest}


def test_sometimes_the_probe_is_lost():
    changes = many(TipChange(loss=0.25))
    assert sum(new.lost for new in changes) == pytest.approx(100, abs=4 * np.sqrt(75))
    assert all((new.tip == BARE) is new.lost for new in changes)


def test_a_change_of_nothing_changes_nothing():
    new = changed_tip(Tip(), KEY, TipChange(0.0, 0.0, 0.0, 0.0), BARE)
    assert (new.tip, new.jump, new.lost) == (Tip(), 0.0, False)


def test_shaping_helps_most_at_its_depth_and_above_its_voltage():
    assert recovery_probability(0.0, 0.0) == 0
    assert recovery_probability(8.0, 0.0) == pytest.approx(0.5)
    assert max(range(30), key=lambda depth: recovery_probability(depth, 0.0)) == 8
    assert recovery_probability(0.0, -10.0) == recovery_probability(0.0, 10.0) == pytest.approx(0.5, abs=1e-6)
    assert recovery_probability(0.0, 1.0) < 0.001
    assert recovery_probability(8.0, 10.0) == pytest.approx(0.75, abs=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: tip_changes(KEY, -1.0, 0.0, 1.0), "rate is -1.0"),
        (lambda: tip_changes(KEY, 1.0, 2.0, 1.0), "end is 1.0 and start 2.0"),
        (lambda: changed_tip(Tip(), KEY, TipChange(loss=2.0), BARE), "change.loss is 2.0"),
        (lambda: changed_tip(replace(Tip(), rest=(0, 0, 0.1)), KEY, TipChange(tilt=9.0, loss=0.0), BARE), "tip.rest"),
        (lambda: recovery_probability(-1.0, 0.0), "depth is -1.0 Å"),
        (lambda: recovery_probability(1.0, 0.0, best=2.0), "best is 2.0"),
    ],
)
def test_what_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
