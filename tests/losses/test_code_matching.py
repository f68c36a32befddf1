"""Code distributions and their losses against loops, finite differences and limits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from unirep_jax import losses

CODE, DIM = 6, 4


def loop_distribution(features, codebook, temperature=1.0):
    """Mean over time of the softmax of minus the distances, in float64."""
    features, codebook = np.asarray(features, np.float64), np.asarray(codebook, np.float64)
    result = []
    for z in features:
        scores = np.exp(-np.array([np.linalg.norm(z - e) for e in codebook]) / temperature)
        result.append(scores / scores.sum())
    return np.mean(result, axis=0)


def loop_matching(probability, where=None):
    modality, batch, _ = probability.shape
    where = np.ones((modality, batch), bool) if where is None else where
    result = np.zeros((modality, modality, batch))
    for m, n in np.ndindex(modality, modality):
        for i in np.flatnonzero(where[m] & where[n]):
            p = probability[m, i]
            score = {
                j: p @ np.log(probability[n, j]) + np.log(p) @ probability[n, j]
                for j in np.flatnonzero(where[n])
            }
            result[m, n, i] = np.log(np.sum(np.exp(list(score.values())))) - score[i]
    return result


def features_and_codes(rng, lead=(3, 5), dtype=np.float32):
    return (
        rng.normal(size=(*lead, DIM)).astype(dtype),
        rng.normal(size=(CODE, DIM)).astype(dtype),
    )


def distributions(rng, modality=3, batch=5):
    p = rng.dirichlet(np.ones(CODE), size=(modality, batch))
    return p, jnp.asarray(np.log(p), jnp.float32)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_a_distribution_is_the_loop_over_time_and_codes(rng, temperature):
    features, codebook = features_and_codes(rng)
    logs = losses.log_code_distribution(features, codebook, temperature=temperature)
    expected = [loop_distribution(z, codebook, temperature) for z in features]
    np.testing.assert_allclose(np.exp(logs), expected, rtol=1e-4)
    np.testing.assert_allclose(np.exp(logs).sum(-1), 1, rtol=1e-5)


def test_a_distribution_far_from_the_origin_is_that_near_it(rng):
    features, codebook = features_and_codes(rng)
    near = losses.log_code_distribution(features, codebook)
    far = losses.log_code_distribution(features + 100, codebook + 100)
    np.testing.assert_allclose(far, near, atol=1e-3)


def test_distributions_have_the_gradient_of_finite_differences(x64, rng):
    arrays = features_and_codes(rng, (2, 3), np.float64)
    check_grads(losses.log_code_distribution, arrays, order=2, modes=["rev"])


def test_a_feature_on_its_code_has_a_finite_gradient_and_one_code_no_choice(rng):
    _, codebook = features_and_codes(rng)
    on_codes = jnp.asarray(np.round(codebook * 8) / 8)  # so that distances of 0 are exactly 0
    total = lambda z, e: losses.log_code_distribution(z, e)[2]
    for gradient in jax.grad(total, (0, 1))(on_codes, on_codes):
        assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(losses.log_code_distribution(codebook, codebook[:1]), 0)


def test_no_code_is_impossible_however_far():
    features = jnp.zeros((2, 1, 1))
    logs = losses.log_code_distribution(features, jnp.array([[0.0], [1e4]]))
    np.testing.assert_allclose(logs, [[0, -1e4]] * 2, rtol=1e-5)


@pytest.mark.parametrize("removed", [False, True])
def test_matching_is_the_loop_over_pairs(rng, removed):
    p, logs = distributions(rng)
    where = np.ones((3, 5), bool)
    if removed:
        where[0, 1] = where[2, 4] = False
    value = losses.code_matching_loss(logs, where=where)
    np.testing.assert_allclose(value, loop_matching(p, where), rtol=1e-4, atol=1e-5)


def test_matching_has_the_gradient_of_finite_differences(x64, rng):
    logs = np.log(distributions(rng, 2, 3)[0])
    where = np.array([[True, True, True], [True, True, False]])
    check_grads(partial(losses.code_matching_loss, where=where), (logs,), 2, modes=["rev"])


def test_matching_of_scores_that_span_a_thousand_stays_finite():
    logs = jnp.array([[[0.0, -1000.0], [-1000.0, 0.0], [-1.0, -1.0]]] * 2)
    value, gradient = jax.value_and_grad(lambda x: losses.code_matching_loss(x).sum())(logs)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_one_example_alone_gives_zero_and_equal_distributions_the_log_of_the_batch(rng):
    _, logs = distributions(rng)
    alone = np.arange(5)[None] == np.full((3, 1), 2)
    value, gradient = jax.value_and_grad(lambda x: losses.code_matching_loss(x, where=alone).sum())(
        logs
    )
    np.testing.assert_array_equal(value, 0)
    np.testing.assert_array_equal(gradient, 0)
    same = jnp.broadcast_to(logs[:1, :1], logs.shape)
    np.testing.assert_allclose(losses.code_matching_loss(same), np.log(5), rtol=1e-5)
    np.testing.assert_allclose(
        losses.code_matching_loss(jnp.zeros((2, 5, 1))), np.log(5), rtol=1e-6
    )


def test_what_absent_modalities_hold_does_not_matter_not_even_nan(rng):
    _, logs = distributions(rng)
    where = rng.random((3, 5)) > 0.4
    where[:, 0] = True
    loss = lambda x: losses.code_matching_loss(x, where=where).sum()
    expected = jax.value_and_grad(loss)(logs)
    holed = jax.value_and_grad(loss)(jnp.where(where[..., None], logs, jnp.nan))
    jax.tree.map(np.testing.assert_array_equal, holed, expected)


def test_prediction_of_codes_is_the_cross_entropy_to_their_assignment(x64, rng):
    features, codebook = features_and_codes(rng, dtype=np.float64)
    assignment = rng.dirichlet(np.ones(CODE), size=(3, 5))
    value = losses.code_prediction_loss(features, codebook, assignment, temperature=0.3)
    for index in np.ndindex(3, 5):
        logits = np.array([features[index] @ e for e in codebook]) / 0.3
        logs = logits - np.log(np.exp(logits).sum())
        np.testing.assert_allclose(value[index], -assignment[index] @ logs, rtol=1e-9)
    loss = lambda z, e: losses.code_prediction_loss(z, e, assignment, temperature=0.3)
    check_grads(loss, (features, codebook), order=1, modes=["rev"])


def test_an_assignment_is_a_constant_and_an_empty_one_costs_nothing(rng):
    features, codebook = features_and_codes(rng)
    loss = lambda z, a: losses.code_prediction_loss(z, codebook, a, temperature=0.1).sum()
    value, gradient = jax.value_and_grad(loss, (0, 1))(features, np.zeros((3, 5, CODE), np.float32))
    for leaf in (value, *gradient):
        np.testing.assert_array_equal(leaf, 0)
    _, to_assignment = jax.grad(loss, (0, 1))(features, np.full((3, 5, CODE), 1 / CODE, np.float32))
    np.testing.assert_array_equal(to_assignment, 0)


def test_half_precision_is_accumulated_in_float32(rng):
    features, codebook = (jnp.asarray(a, jnp.bfloat16) for a in features_and_codes(rng))
    logs = losses.log_code_distribution(features, codebook)
    exact = losses.log_code_distribution(features.astype(jnp.float32), codebook.astype(jnp.float32))
    assert logs.dtype == jnp.float32
    np.testing.assert_array_equal(logs, exact)
