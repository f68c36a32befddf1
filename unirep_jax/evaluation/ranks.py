"""Mean ranks of methods over shared splits, and how far apart two of them must be."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata, studentized_range


class Ranks(NamedTuple):
    """mean: by method, 1 for the best on every split; critical: difference of two mean ranks from
    which on they differ at the level 0.05; splits: how many."""

    mean: dict[str, float]
    critical: float
    splits: int


def mean_ranks(values: Mapping[str, Mapping[int, float]]) -> Ranks | None:
    """Friedman's mean ranks with the critical difference of Nemenyi's test.

        CD = q₀.₀₅(k) √( k (k + 1) / (6 N) )

    with q the quantile of the studentized range for k methods, divided by √2, and N splits. Methods
    of equal value share the mean of their ranks. It compares all pairs at once, and is therefore
    more careful than intervals of single differences.

    Args:
      values: by method and seed, higher = better; seeds that a method lacks are left out for all.

    Returns:
      None with fewer than two methods or shared seeds.

    Reference: Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 2006.
    """
    shared = set.intersection(*map(set, values.values())) if values else set()
    k, n = len(values), len(shared)
    if k < 2 or n < 2:
        return None
    table = np.array([[by_seed[seed] for by_seed in values.values()] for seed in sorted(shared)])
    ranks = rankdata(-table, axis=1).mean(0)
    quantile = float(studentized_range.ppf(0.95, k, np.inf)) / math.sqrt(2)
    mean = {method: float(rank) for method, rank in zip(values, ranks, strict=True)}
    return Ranks(mean, quantile * math.sqrt(k * (k + 1) / (6 * n)), n)
