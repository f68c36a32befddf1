"""Retrieval metrics in expectation over the order of items with equal scores.

Sorting puts ties in some order, often the favourable one: with paired queries and items a collapsed
embedding, all similarities equal, can so reach 100 %. Here it scores as well as chance.
"""

from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Int

from unirep_jax.metrics._checks import as_array


class Ranks(NamedTuple):
    """Where the first relevant item of each query stands, with what is tied with it.

    ahead: items with a higher score; tied: irrelevant items with the same score; relevant: relevant
    items with the same score, at least 1.
    """

    ahead: Int[np.ndarray, "query"]
    tied: Int[np.ndarray, "query"]
    relevant: Int[np.ndarray, "query"]

    @property
    def expected(self) -> Float[np.ndarray, "query"]:
        """Mean rank over all orders of the tied items, from 1."""
        return 1 + self.ahead + self.tied / (self.relevant + 1)

    @property
    def worst(self) -> Int[np.ndarray, "query"]:
        """Rank when every tie goes against the query."""
        return 1 + self.ahead + self.tied


def retrieval_ranks(
    scores: Float[ArrayLike, "query item"],
    targets: Int[ArrayLike, "query"] | Bool[ArrayLike, "query item"],
) -> Ranks:
    """Rank of the first relevant item of each query, with its ties.

    Args:
      scores: [query, item], higher = better match; finite. Transpose for the other direction.
      targets: [query] the index of the one relevant item, or [query, item] booleans where several
        are relevant, as the captions of one clip.

    Returns:
      `Ranks`: `.expected` and `.worst` are [query], from 1.

    Raises:
      ValueError: empty or non-finite scores, a target outside the items, a query without one.

    Example:
      >>> ranks = retrieval_ranks([[0.9, 0.1, 0.5], [0.2, 0.2, 0.2]], [0, 1])
      >>> print(ranks.expected, recall_at(ranks, 1))  # a collapsed query counts as chance
      [1. 2.] 0.6666666666666667
    """
    scores, relevant = _checked(scores, targets)
    # Counting what is ahead of the best relevant item takes linear time and keeps ties visible, as
    # sorting does not.
    top = np.max(scores, axis=1, where=relevant, initial=-np.inf)[:, None]
    equal = scores == top
    return Ranks(
        ahead=np.count_nonzero(scores > top, axis=1),
        tied=np.count_nonzero(equal & ~relevant, axis=1),
        relevant=np.count_nonzero(equal & relevant, axis=1),
    )


def recall_at(ranks: Ranks, k: int) -> float:
    """Share of queries with a relevant item among the first k, in expectation over tied orders.

    With e irrelevant and r relevant items tied behind a items ahead, j = k − a places are left and

        P(miss) = C(e, j) / C(e + r, j) = Πᵢ₌₁ʳ (e − j + i) / (e + i).

    Args:
      ranks: of `retrieval_ranks`.
      k: at least 1; from the number of items on the recall is 1.

    Raises:
      ValueError: k below 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    places = np.clip(k - ranks.ahead, 0, ranks.tied + 1)
    # As a product of ratios: the binomials themselves overflow with a few hundred ties.
    miss = np.ones(len(places))
    for i in range(1, int(ranks.relevant.max()) + 1):
        factor = (ranks.tied - places + i) / (ranks.tied + i)
        miss *= np.where(i <= ranks.relevant, factor, 1)
    return float(np.mean(1 - miss))


def median_rank(ranks: Ranks) -> float:
    """Median over queries of the expected rank, from 1; halves can occur."""
    return float(np.median(ranks.expected))


def mean_average_precision(
    scores: Float[ArrayLike, "query item"],
    targets: Int[ArrayLike, "query"] | Bool[ArrayLike, "query item"],
) -> float:
    """Mean of `average_precision` over the queries, with its arguments and errors.

    Example:
      >>> mean_average_precision([[0.9, 0.5, 0.1]], [[False, True, True]])
      0.5833333333333333
    """
    return float(np.mean(average_precision(scores, targets)))


def average_precision(
    scores: Float[ArrayLike, "query item"],
    targets: Int[ArrayLike, "query"] | Bool[ArrayLike, "query item"],
    *,
    ascending: Float[np.ndarray, "query item"] | None = None,
) -> Float[np.ndarray, "query"]:
    """Average precision of each query, in expectation over tied orders.

        AP = 1/R Σ_{p : item at p relevant} #{relevant at or before p} / p

    Of a group of n tied items, r of them relevant, behind t items with ρ relevant ones, position i
    is relevant with probability r/n, and then 1 + (i−1)·(r−1)/(n−1) of the group are found, so it
    adds r/n · (ρ + 1 + (i−1)(r−1)/(n−1)) / (t + i).

    Args:
      scores: [query, item], higher = better match; finite.
      targets: [query, item] booleans, for class-level retrieval
        `query_labels[:, None] == item_labels[None]`; or [query] the index of the one relevant item.
      ascending: the scores of each query sorted, where they are at hand: sorting takes most of the
        time.

    Raises:
      ValueError: as `retrieval_ranks`.

    Reference: McSherry and Najork, "Computing Information Retrieval Performance Measures
    Efficiently in the Presence of Tied Scores", ECIR 2008.
    """
    scores, relevant = _checked(scores, targets)
    ascending = np.sort(scores, axis=1) if ascending is None else ascending
    return np.array(
        [
            _average_precision(row, own[which])
            for row, own, which in zip(ascending, scores, relevant, strict=True)
        ]
    )


def _average_precision(ascending: Float[np.ndarray, "item"], own: Float[np.ndarray, "relevant"]):
    """Of one query: all scores, sorted, and those of its relevant items."""
    # r of each tied group that has a relevant item, best group first.
    values, found = (x[::-1] for x in np.unique(own, return_counts=True))
    start = len(ascending) - np.searchsorted(ascending, values, "right")
    size = len(ascending) - np.searchsorted(ascending, values, "left") - start
    found_before = np.cumsum(found) - found
    # Every position p of these groups, i counted from 0 within its group.
    group = np.repeat(np.arange(len(size)), size)
    i = np.arange(len(group)) - (np.cumsum(size) - size)[group]
    n, r = size[group], found[group]
    within = 1 + i * (r - 1) / np.maximum(n - 1, 1)
    return np.sum(r / n * (found_before[group] + within) / (start[group] + i + 1)) / len(own)


def _checked(scores, targets):
    """Scores as a matrix in their own floating precision, targets as booleans of its shape."""
    scores, targets = as_array("scores", scores), as_array("targets", targets)
    if scores.ndim != 2 or scores.size == 0:
        raise ValueError(f"scores must be a non-empty matrix, got shape {scores.shape}")
    if not np.issubdtype(scores.dtype, np.floating):
        scores = scores.astype(np.float64)
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite: ranks of NaN or infinite scores mean nothing")
    queries, items = scores.shape
    if targets.dtype == np.bool_ and targets.shape == scores.shape:
        if not targets.any(axis=1).all():
            raise ValueError(f"targets of query {targets.any(axis=1).argmin()} hold no item")
        return scores, targets
    if not np.issubdtype(targets.dtype, np.integer) or targets.shape != (queries,):
        raise ValueError(
            f"targets must be {queries} integers or booleans of shape {scores.shape}, "
            f"got {targets.dtype} of shape {targets.shape}"
        )
    if targets.min() < 0 or targets.max() >= items:
        raise ValueError(f"targets must be in [0, {items}), got {targets.min()} … {targets.max()}")
    return scores, targets[:, None] == np.arange(items)
