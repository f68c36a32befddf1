"""Retrieval metrics: against all orders of tied items, scikit-learn and the reference file."""

from itertools import pairwise, permutations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from unirep_jax.metrics import mean_average_precision, median_rank, recall_at, retrieval_ranks


def over_all_orders(scores, relevant):
    """Rank of the first relevant item and average precision, one of each for every tied order."""
    ranks, precisions = [], []
    for order in permutations(range(len(scores))):
        if any(scores[a] < scores[b] for a, b in pairwise(order)):
            continue  # not sorted by score
        found = [position + 1 for position, item in enumerate(order) if relevant[item]]
        ranks.append(found[0])
        precisions.append(np.mean([(i + 1) / position for i, position in enumerate(found)]))
    return np.array(ranks), np.array(precisions)


rows = st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6)


@settings(deadline=None, max_examples=60)
@given(rows, st.integers(0, 5))
def test_expectations_equal_the_mean_over_all_orders_of_tied_items(row, always):
    scores, relevant = (np.array(column) for column in zip(*row, strict=True))
    relevant = relevant.astype(bool)
    relevant[always % len(relevant)] = True
    every_rank, every_precision = over_all_orders(scores, relevant)
    ranks = retrieval_ranks(scores[None] / 2, relevant[None])
    np.testing.assert_allclose(ranks.expected[0], every_rank.mean(), rtol=1e-13)
    assert ranks.worst[0] == every_rank.max()
    for k in range(1, len(scores) + 2):
        np.testing.assert_allclose(recall_at(ranks, k), np.mean(every_rank <= k), atol=1e-13)
    precision = mean_average_precision(scores[None], relevant[None])
    np.testing.assert_allclose(precision, every_precision.mean(), rtol=1e-13)


def test_ranks_reproduce_the_heavily_tied_reference_file(oracle):
    reference = oracle("retrieval")
    ranks = retrieval_ranks(reference["scores"], np.arange(80))
    np.testing.assert_allclose(ranks.expected, reference["expected_rank"], rtol=1e-15)
    np.testing.assert_array_equal(ranks.worst, reference["strict_worst_rank"])
    assert median_rank(ranks) == np.median(reference["expected_rank"])


def test_a_collapsed_embedding_scores_as_chance():
    scores = np.ones((50, 50), np.float32)
    ranks = retrieval_ranks(scores, np.arange(50))
    for k in (1, 5, 10, 50):
        assert recall_at(ranks, k) == pytest.approx(k / 50)
    assert median_rank(ranks) == 25.5
    harmonic = np.sum(1 / np.arange(1, 51)) / 50
    assert mean_average_precision(scores, np.arange(50)) == pytest.approx(harmonic, rel=1e-13)


def test_a_collapsed_embedding_scores_as_chance_at_class_level():
    labels = np.repeat(np.arange(5), 40)
    relevant = labels[:, None] == labels[None]
    collapsed = mean_average_precision(np.zeros((200, 200)), relevant)
    assert 0.2 <= collapsed < 0.22
    assert mean_average_precision(relevant.astype(float), relevant) == pytest.approx(1)
    ranks = retrieval_ranks(np.zeros((200, 200)), relevant)
    assert recall_at(ranks, 1) == pytest.approx(0.2)


def test_ranks_and_precision_without_ties_equal_sorting_and_scikit_learn(rng):
    scores, relevant = rng.normal(size=(20, 30)), rng.random((20, 30)) < 0.2
    relevant[:, 3] = True
    expected = [
        1 + min(np.flatnonzero(row[np.argsort(-score)]))
        for score, row in zip(scores, relevant, strict=True)
    ]
    ranks = retrieval_ranks(scores, relevant)
    np.testing.assert_array_equal(ranks.expected, expected)
    np.testing.assert_array_equal(ranks.worst, expected)
    for k in (1, 5, 10):
        assert recall_at(ranks, k) == pytest.approx(np.mean(np.array(expected) <= k))
    precision = np.mean(
        [average_precision_score(row, s) for row, s in zip(relevant, scores, strict=True)]
    )
    assert mean_average_precision(scores, relevant) == pytest.approx(precision, rel=1e-12)


def test_perfect_and_worst_retrieval():
    identity = np.eye(4)
    assert recall_at(retrieval_ranks(identity, np.arange(4)), 1) == 1
    assert mean_average_precision(identity, np.arange(4)) == 1
    worst = retrieval_ranks(-identity, np.arange(4))
    assert recall_at(worst, 3) == 0 and recall_at(worst, 4) == 1
    assert median_rank(worst) == 4
    assert mean_average_precision(-identity, np.arange(4)) == 0.25


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(1, 8))
def test_order_of_queries_and_items_and_increasing_maps_change_nothing(seed, k):
    rng = np.random.default_rng(seed)
    scores, targets = rng.integers(0, 4, (6, 9)) / 2, rng.integers(0, 9, 6)
    queries, items = rng.permutation(6), rng.permutation(9)
    moved = np.exp(scores)[queries][:, items]
    moved_targets = np.argsort(items)[targets[queries]]
    found, expected = retrieval_ranks(moved, moved_targets), retrieval_ranks(scores, targets)
    np.testing.assert_allclose(recall_at(found, k), recall_at(expected, k), atol=1e-14)
    np.testing.assert_allclose(median_rank(found), median_rank(expected), atol=1e-14)
    np.testing.assert_allclose(
        mean_average_precision(moved, moved_targets),
        mean_average_precision(scores, targets),
        atol=1e-14,
    )


def test_half_precision_and_integer_scores_are_ranked_as_they_are():
    scores = np.array([[1, 2, 2], [3, 0, 1]])
    for dtype in (jnp.bfloat16, jnp.float32, jnp.int32):
        ranks = retrieval_ranks(jnp.asarray(scores, dtype), jnp.array([1, 2]))
        np.testing.assert_array_equal(ranks.expected, [1.5, 2])


@pytest.mark.parametrize(
    ("scores", "targets", "culprit"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), "scores must be a non-empty matrix"),
        (np.zeros(3), np.zeros(3, int), "scores must be a non-empty matrix"),
        (np.array([[1.0, np.nan]]), np.array([0]), "scores must be finite"),
        (np.zeros((2, 3)), np.array([0, 3]), r"targets must be in \[0, 3\), got 0 … 3"),
        (np.zeros((2, 3)), np.array([0, -1]), r"targets must be in \[0, 3\)"),
        (np.zeros((2, 3)), np.array([0]), "targets must be 2 integers or booleans of shape"),
        (np.zeros((2, 3)), np.array([0.0, 1.0]), "targets must be 2 integers"),
        (np.zeros((2, 2)), np.array([[True, True], [False, False]]), "targets of query 1 hold no"),
    ],
)
def test_wrong_inputs_raise_and_name_the_culprit(scores, targets, culprit):
    with pytest.raises(ValueError, match=culprit):
        retrieval_ranks(scores, targets)
    with pytest.raises(ValueError, match=culprit):
        mean_average_precision(scores, targets)


def test_recall_at_nothing_raises():
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        recall_at(retrieval_ranks(np.eye(2), np.arange(2)), 0)
