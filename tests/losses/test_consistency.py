"""Entropy, soft targets, FreeMatch's statistics and its known values, the queue of keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.special import logsumexp, softmax

from unirep_jax.losses import (
    AdaptiveThresholds,
    PseudoLabels,
    enqueue,
    entropy,
    fairness,
    momentum_contrast,
    pseudo_label_loss,
    pseudo_labels,
    sharpen,
    target_divergence,
    update_thresholds,
)

WEAK = jnp.log(jnp.array([[0.9, 0.1], [0.6, 0.4]]))
STRONG = jnp.log(jnp.array([[0.8, 0.2], [0.3, 0.7]]))


def test_entropy_lies_between_that_of_a_sure_and_of_a_uniform_prediction(rng):
    logits = rng.normal(size=(6, 4))
    p = softmax(logits, axis=1)
    expected = -np.sum(p * np.log(p), axis=1)
    np.testing.assert_allclose(entropy(jnp.asarray(logits, jnp.float32)), expected, rtol=1e-5)
    ends = jnp.array([[500.0, 0, 0, 0], [1.0, 1, 1, 1]])
    np.testing.assert_allclose(entropy(ends), [0, np.log(4)], atol=1e-6)
    np.testing.assert_array_equal(jax.grad(lambda x: entropy(x).sum())(ends), 0)


def test_divergence_from_a_target_has_the_gradient_of_soft_labels(x64, rng):
    logits, t = rng.normal(size=(5, 3)), softmax(rng.normal(size=(5, 3)), axis=1)
    t[0] = [0, 1, 0]
    found = target_divergence(jnp.asarray(t), jnp.asarray(logits))
    log_p = logits - logsumexp(logits, axis=1, keepdims=True)
    expected = np.sum(np.where(t > 0, t * (np.log(np.where(t > 0, t, 1)) - log_p), 0), axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    check_grads(
        lambda x: target_divergence(jnp.asarray(t), x),
        (jnp.asarray(logits),),
        order=1,
        modes=["rev"],
    )
    assert not np.any(
        jax.grad(lambda t: target_divergence(t, jnp.asarray(logits)).sum())(jnp.asarray(t))
    )


def test_sharpening_is_a_power_normalised(rng):
    p = softmax(rng.normal(size=(4, 3)), axis=1)
    found = sharpen(jnp.asarray(p, jnp.float32), temperature=0.5)
    np.testing.assert_allclose(found, p**2 / (p**2).sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(
        sharpen(jnp.array([[1.0, 0.0], [0.0, 0.0]]), temperature=0.5),
        [[1, 0], [0.5, 0.5]],
        atol=1e-6,
    )


def test_statistics_thresholds_and_fairness_have_the_known_values():
    after = update_thresholds(AdaptiveThresholds.initial(2), WEAK, momentum=0.9)
    np.testing.assert_allclose(after.confidence, 0.525, rtol=1e-6)
    np.testing.assert_allclose(after.class_mean, [0.525, 0.475], rtol=1e-6)
    np.testing.assert_allclose(after.histogram, [0.55, 0.45], rtol=1e-6)
    labels = pseudo_labels(after, WEAK)
    assert labels.label.tolist() == [0, 0] and labels.where.all()
    np.testing.assert_allclose(fairness(after, STRONG, where=labels.where), -0.703214, atol=2e-6)


def test_a_threshold_is_lower_for_a_class_that_is_predicted_less():
    state = AdaptiveThresholds(jnp.float32(0.8), jnp.array([0.8, 0.2]), jnp.array([0.5, 0.5]))
    logits = jnp.log(jnp.array([[0.79, 0.21], [0.81, 0.19], [0.45, 0.55]]))
    labels = pseudo_labels(state, logits)
    assert labels.where.tolist() == [False, True, True]
    loss = pseudo_label_loss(labels, logits)
    np.testing.assert_allclose(loss, [0, -np.log(0.81), -np.log(0.55)], rtol=1e-5)
    gradient = jax.grad(lambda x: pseudo_label_loss(labels, x).sum())(logits)
    assert not np.any(gradient[0]) and np.all(np.any(gradient[1:], axis=1))


def test_without_examples_that_count_statistics_stay_and_fairness_is_zero():
    state, nobody = AdaptiveThresholds.initial(2), jnp.zeros(2, bool)
    after = update_thresholds(state, WEAK, momentum=0.5, where=nobody)
    jax.tree.map(np.testing.assert_array_equal, after, state)
    value, gradient = jax.value_and_grad(lambda x: fairness(state, x, where=nobody))(STRONG)
    assert float(value) == 0 and not np.any(gradient)


def test_fairness_has_a_finite_gradient_where_a_class_is_never_predicted():
    state = AdaptiveThresholds.initial(3)
    logits = jnp.array([[5.0, 0.0, -300.0], [4.0, 1.0, -300.0]])
    value, gradient = jax.value_and_grad(lambda x: fairness(state, x, where=jnp.ones(2, bool)))(
        logits
    )
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_fairness_gradients_are_right(x64, rng):
    logits = jnp.asarray(rng.normal(size=(6, 3)))
    state = AdaptiveThresholds(
        jnp.float64(0.5), jnp.array([0.5, 0.3, 0.2]), jnp.array([0.4, 0.4, 0.2])
    )
    check_grads(
        lambda x: fairness(state, x, where=jnp.arange(6) > 0), (logits,), order=1, modes=["rev"]
    )


def test_contrast_with_a_queue_is_the_cross_entropy_with_the_own_key(x64, rng):
    q, k, queue = (jnp.asarray(rng.normal(size=(n, 4))) for n in (3, 3, 7))
    found = momentum_contrast(q, k, queue, temperature=0.5)
    for i in range(3):
        logits = np.concatenate([[q[i] @ k[i]], queue @ q[i]]) / 0.5
        np.testing.assert_allclose(found[i], logsumexp(logits) - logits[0], rtol=1e-6)
    check_grads(
        lambda q: momentum_contrast(q, k, queue, temperature=0.5), (q,), order=1, modes=["rev"]
    )
    loss = lambda k, queue: momentum_contrast(q, k, queue, temperature=0.5).sum()
    assert not any(np.any(g) for g in jax.grad(loss, argnums=(0, 1))(k, queue))


def test_the_queue_is_a_ring_of_the_latest_keys():
    queue = jnp.zeros((5, 1))
    for step in range(4):
        queue = enqueue(queue, jnp.array([[2.0 * step], [2.0 * step + 1]]), jnp.int32(step))
    assert sorted(queue[:, 0].tolist()) == [3, 4, 5, 6, 7]
    assert isinstance(pseudo_labels(AdaptiveThresholds.initial(2), WEAK), PseudoLabels)


def test_a_queue_too_small_for_a_batch_is_refused():
    with pytest.raises(ValueError, match="2 slots cannot take 3 keys"):
        enqueue(jnp.zeros((2, 4)), jnp.zeros((3, 4)), jnp.int32(0))


def test_rows_and_slots_that_do_not_count_may_hold_anything(rng):
    q, k, queue = (jnp.asarray(rng.normal(size=(n, 4)), jnp.float32) for n in (5, 5, 7))
    where, filled = jnp.arange(5) % 2 == 0, jnp.arange(7) < 4
    spoil = lambda v, keep: jnp.where(keep[:, None], v, jnp.nan)

    def loss(q):
        return momentum_contrast(
            spoil(q, where),
            spoil(k, where),
            spoil(queue, filled),
            temperature=0.5,
            where=where,
            slot_where=filled,
        )

    expected = momentum_contrast(q[where], k[where], queue[filled], temperature=0.5)
    np.testing.assert_allclose(loss(q)[where], expected, rtol=1e-5)
    assert not np.any(loss(q)[~where])
    gradient = jax.grad(lambda q: loss(q).sum())(q)
    assert np.isfinite(gradient).all() and np.all(np.any(gradient[where], axis=1))
    empty = momentum_contrast(q, k, queue, temperature=0.5, slot_where=jnp.zeros(7, bool))
    np.testing.assert_array_equal(empty, 0)


def test_half_precision_is_read_and_losses_are_single(rng):
    half = jnp.asarray(rng.normal(size=(6, 3)), jnp.bfloat16)
    single, state = half.astype(jnp.float32), AdaptiveThresholds.initial(3)
    everyone, label = jnp.ones(6, bool), jnp.zeros(6, jnp.int32)
    kernels = {
        "entropy": entropy,
        "divergence": lambda x: target_divergence(jax.nn.softmax(single), x),
        "pseudo-label": lambda x: pseudo_label_loss(PseudoLabels(label, everyone), x),
        "fairness": lambda x: fairness(state, x, where=everyone),
        "contrast": lambda x: momentum_contrast(x, x, x, temperature=0.5),
        "statistics": lambda x: update_thresholds(state, x, momentum=0.9).class_mean,
    }
    for name, kernel in kernels.items():
        found = kernel(half)
        assert found.dtype == jnp.float32, name
        np.testing.assert_allclose(found, kernel(single), rtol=1e-5, err_msg=name)


def test_other_hyper_parameters_reuse_the_compiled_programs(rng):
    x, state = jnp.asarray(rng.normal(size=(6, 3)), jnp.float32), AdaptiveThresholds.initial(3)
    calls = {
        sharpen: lambda v: sharpen(jax.nn.softmax(x), temperature=v),
        update_thresholds: lambda v: update_thresholds(state, x, momentum=v),
        momentum_contrast: lambda v: momentum_contrast(x, x, x, temperature=v),
    }
    for kernel, call in calls.items():
        call(0.5)
        before = kernel._cache_size()
        call(0.7)
        assert kernel._cache_size() == before


@pytest.mark.parametrize(
    ("step", "batch", "slots"),
    [(2**30, 4, 12), (2**29 + 1, 4, 12), (524_288, 4096, 10_000), (2**31 - 1, 7, 11), (3, 4, 4)],
)
def test_the_place_in_the_queue_does_not_overflow(step, batch, slots):
    """step · batch passes 2³¹ long before training ends."""
    keys = jnp.arange(1.0, batch + 1)[:, None]
    queue = np.asarray(enqueue(jnp.zeros((slots, 1)), keys, jnp.int32(step))).ravel()
    expected = np.zeros(slots)
    expected[(step * batch + np.arange(batch)) % slots] = np.arange(1.0, batch + 1)
    np.testing.assert_array_equal(queue, expected)


def test_a_class_with_a_logit_of_minus_infinity_adds_nothing_to_the_entropy():
    logits = jnp.array([[0.0, 0.0, -jnp.inf], [3e38, -3e38, 0.0]])
    np.testing.assert_allclose(entropy(logits), [np.log(2), 0], atol=1e-6)
    np.testing.assert_allclose(jax.grad(lambda x: entropy(x).sum())(logits), 0, atol=1e-6)
    target = jnp.array([[0.25, 0.75, 0.0]])
    expected = target_divergence(target[:, :2], logits[:1, :2])
    np.testing.assert_allclose(target_divergence(target, logits[:1]), expected, rtol=1e-6)
