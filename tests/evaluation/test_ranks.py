"""Mean ranks over shared splits against a table of the literature, ties and missing splits."""

import math

import pytest

from unirep_jax.evaluation.ranks import mean_ranks

# Demšar (2006), table 5: two-tailed critical values of the Nemenyi test at 0.05, by methods.
CRITICAL = {
    2: 1.960,
    3: 2.343,
    4: 2.569,
    5: 2.728,
    6: 2.850,
    7: 2.949,
    8: 3.031,
    9: 3.102,
    10: 3.164,
}


@pytest.mark.parametrize("k", CRITICAL)
def test_the_critical_difference_is_that_of_the_printed_table(k):
    values = {str(m): {seed: float(m) for seed in range(14)} for m in range(k)}
    found = mean_ranks(values)
    assert found.splits == 14
    assert found.critical == pytest.approx(CRITICAL[k] * math.sqrt(k * (k + 1) / 84), abs=1e-3)
    assert found.mean == {str(m): k - m for m in range(k)}, "the highest value is first"


def test_equal_values_share_their_ranks_and_only_shared_splits_count():
    values = {"a": {0: 0.9, 1: 0.5, 7: 0.0}, "b": {0: 0.9, 1: 0.7}, "c": {0: 0.1, 1: 0.6, 8: 1.0}}
    found = mean_ranks(values)
    assert found.mean == {"a": (1.5 + 3) / 2, "b": (1.5 + 1) / 2, "c": (3 + 2) / 2}
    assert found.splits == 2


@pytest.mark.parametrize("values", [{}, {"a": {0: 1.0, 1: 1.0}}, {"a": {0: 1.0}, "b": {0: 1.0}}])
def test_nothing_to_rank_has_no_ranks(values):
    assert mean_ranks(values) is None
