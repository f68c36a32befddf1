"""Intervals: of means over seeds, of paired differences, of shares of examples."""

import numpy as np
import pytest
import scipy.stats

from unirep_jax.evaluation.intervals import (
    Difference,
    difference_of_shares,
    estimate,
    paired_difference,
)


def test_a_paired_difference_is_that_of_scipy_over_the_shared_seeds(rng):
    easy = rng.normal(size=6)  # what makes a seed easy for both cancels
    ours = {s: 10 * easy[s] + 1 + 0.1 * rng.normal() for s in range(6)}
    theirs = {s: 10 * easy[s] for s in (1, 2, 3, 5)} | {9: 100.0}
    found = paired_difference(ours, theirs)
    differences = np.array([ours[s] - theirs[s] for s in (1, 2, 3, 5)])
    low, high = scipy.stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    np.testing.assert_allclose(
        [found.mean - found.half_width, found.mean + found.half_width], [low, high], rtol=1e-9
    )
    assert found.seeds == 4 and found.distinguishable
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_what_one_seed_says_has_no_interval_and_distinguishes_nothing():
    found = paired_difference({0: 3.0}, {0: 1.0})
    assert (found.mean, found.half_width, found.distinguishable) == (2.0, None, False)
    assert str(found) == "+2.0"


@pytest.mark.parametrize(
    ("mean", "half_width", "text"),
    [
        (2.04, 1.0, "+2.0 ± 1.0"),
        (-2.04, 1.0, "−2.0 ± 1.0"),
        (-0.4, 1.0, "−0.4 ± 1.0, not distinguishable"),
        (0.0, 0.0, "+0.0 ± 0.0, not distinguishable"),
    ],
)
def test_an_interval_that_holds_0_is_said_not_to_distinguish(mean, half_width, text):
    assert str(Difference(mean, half_width, 5)) == text


def test_the_interval_over_examples_is_that_of_two_independent_shares():
    found = difference_of_shares([0.8], [0.7], [100])
    half_width = scipy.stats.norm.ppf(0.975) * np.sqrt((0.8 * 0.2 + 0.7 * 0.3) / 100)
    assert found.mean == pytest.approx(0.1) and found.half_width == pytest.approx(half_width)
    places = difference_of_shares([0.8, 0.8], [0.7, 0.7], [100, 100])
    assert places.half_width == pytest.approx(half_width), "places share their examples"


@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_the_interval_over_examples_covers_the_truth_of_correlated_examples(rng, shared):
    """Two classifiers of one test part in two directions: 95 % or more of the intervals hold it."""
    held, count, trials = 0, 200, 400
    for _ in range(trials):
        hard = rng.random((1, count)) < shared
        right = np.where(hard, rng.random((1, count)), rng.random((4, count)))
        ours, theirs = (right[:2] < 0.7).mean(1), (right[2:] < 0.6).mean(1)
        found = difference_of_shares(ours, theirs, [count, count])
        held += abs(found.mean - 0.1) <= found.half_width
    assert held / trials > 0.93


def test_intervals_need_a_value():
    assert estimate([]) is None
