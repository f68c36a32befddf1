"""Divergence from anchors against loops, known values, degenerate optimum; choice of pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from unirep_jax.losses import (
    anchor_divergence,
    candidate_pairs,
    marginal_divergence,
    nearest_pairs,
)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def kl(p, q):
    return float(np.sum(p * (np.log(p) - np.log(q))))


def test_each_example_has_the_mean_divergence_from_its_own_anchors(rng):
    x, y = 3 * rng.normal(size=(7, 4)), 3 * rng.normal(size=(5, 4))
    pairs = rng.random((7, 5)) < 0.5
    pairs[2] = False
    found = anchor_divergence(*(jnp.asarray(a, jnp.float32) for a in (x, y)), jnp.asarray(pairs))
    for i in range(7):
        each = [kl(softmax(x[i]), softmax(y[a])) for a in range(5) if pairs[i, a]]
        np.testing.assert_allclose(found[i], np.mean(each) if each else 0, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("p", "q", "value"),
    [
        ([0.5, 0.5], [0.9, 0.1], 0.510826),
        ([0.9, 0.1], [0.5, 0.5], 0.368064),
    ],
)
def test_the_direction_is_that_of_the_example_from_the_anchor(p, q, value):
    found = anchor_divergence(
        jnp.log(jnp.array([p])), jnp.log(jnp.array([q])), jnp.ones((1, 1), bool)
    )
    np.testing.assert_allclose(found, [value], atol=2e-6)
    marginal = marginal_divergence(jnp.log(jnp.array([p])), jnp.log(jnp.array([q])))
    np.testing.assert_allclose(marginal, value, atol=2e-6)


def test_anchors_of_all_classes_together_prefer_the_uniform_prediction_to_the_right_one():
    """Ten classes, anchors sure to 0.9: why pairs are chosen."""
    anchors = jnp.log(jnp.where(jnp.eye(10, dtype=bool), 0.9, 0.1 / 9))
    everything = jnp.ones((2, 10), bool)
    logits = jnp.stack([jnp.zeros(10), anchors[3]])
    np.testing.assert_allclose(
        anchor_divergence(logits, anchors, everything), [1.758, 3.516], atol=1e-3
    )
    own = jnp.arange(10)[None] == 3
    assert anchor_divergence(logits, anchors, jnp.tile(own, (2, 1)))[1] < 1e-6


def test_gradients_are_right_and_none_reaches_anchors_or_examples_without_any(x64, rng):
    x, y = jnp.asarray(rng.normal(size=(4, 3))), jnp.asarray(rng.normal(size=(5, 3)))
    pairs = jnp.asarray(rng.random((4, 5)) < 0.6).at[1].set(False)
    check_grads(lambda x: anchor_divergence(x, y, pairs), (x,), order=2, modes=["rev"])
    check_grads(lambda x: marginal_divergence(x, y), (x,), order=1, modes=["rev"])
    dx, dy = jax.grad(lambda x, y: anchor_divergence(x, y, pairs).sum(), argnums=(0, 1))(x, y)
    assert not np.any(dy) and not np.any(dx[1]) and np.all(np.any(dx[jnp.array([0, 2, 3])], axis=1))


def test_a_probability_of_zero_gives_a_finite_loss_and_gradient():
    x, y = jnp.array([[200.0, 0.0], [0.0, 0.0]]), jnp.array([[0.0, 200.0]])
    for loss in (
        lambda x: anchor_divergence(x, y, jnp.ones((2, 1), bool)).sum(),
        lambda x: marginal_divergence(x, y),
    ):
        value, gradient = jax.value_and_grad(loss)(x)
        assert np.isfinite(value) and np.isfinite(gradient).all()


def test_the_marginal_divergence_is_of_the_means_of_what_counts(rng):
    x, y = rng.normal(size=(6, 3)), rng.normal(size=(4, 3))
    where, anchors = np.arange(6) % 2 == 0, np.arange(4) > 0
    found = marginal_divergence(
        *(jnp.asarray(a, jnp.float32) for a in (x, y)),
        where=jnp.asarray(where),
        anchor_where=jnp.asarray(anchors),
    )
    expected = kl(softmax(x[where]).mean(0), softmax(y[anchors]).mean(0))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    empty = marginal_divergence(jnp.ones((2, 3)), jnp.ones((2, 3)), where=jnp.zeros(2, bool))
    assert float(empty) == 0


def test_candidates_pair_an_example_with_the_anchors_of_the_named_classes():
    pairs = candidate_pairs(
        jnp.array([[0, 1], [2, 1]]),
        jnp.array([0, 1, 2, 2, 1]),
        jnp.array([True, True, True, False, True]),
    )
    expected = [[True, False, True, False, False], [False, True, False, False, True]]
    assert pairs.tolist() == expected


def test_the_nearest_anchor_is_one_of_those_that_count(rng):
    x, y, where = rng.normal(size=(6, 3)), rng.normal(size=(9, 3)), rng.random((6, 9)) < 0.4
    where[1] = False
    pairs = np.asarray(
        nearest_pairs(*(jnp.asarray(a, jnp.float32) for a in (x, y)), jnp.asarray(where))
    )
    for i in range(6):
        distance = np.where(where[i], np.linalg.norm(x[i] - y, axis=1), np.inf)
        expected = [] if not where[i].any() else [int(distance.argmin())]
        assert np.flatnonzero(pairs[i]).tolist() == expected
    assert nearest_pairs(jnp.zeros((1, 2)), jnp.ones((3, 2))).tolist() == [[True, False, False]]


def test_an_anchor_that_rules_a_class_out_is_infinitely_far_only_from_its_own_examples():
    logits = jnp.array([[1.0, 0.0], [1.0, 0.0], [1.0, -jnp.inf]])
    anchors = jnp.array([[0.0, 0.0], [0.0, -jnp.inf]])
    pairs = jnp.array([[True, False], [True, True], [False, True]])
    first, both, same = anchor_divergence(logits, anchors, pairs)
    p = softmax(np.array([1.0, 0.0]))
    np.testing.assert_allclose(first, np.sum(p * np.log(2 * p)), rtol=1e-6)
    assert both == np.inf
    np.testing.assert_allclose(same, 0, atol=1e-6)
