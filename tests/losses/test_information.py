"""CLUB and cross-modal predictive coding against loops, SciPy, finite differences and limits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.test_util import check_grads

from unirep_jax import losses

BATCH, TIME, DIM = 7, 3, 4


def gaussians(rng, shape=(BATCH, TIME, DIM), dtype=np.float32):
    """Targets, means and log-variances."""
    return [np.asarray(scale * rng.normal(size=shape), dtype) for scale in (1, 1, 0.5)]


def loop_club(target, mean, log_variance, where=None):
    """Positive minus mean of all negatives, pair by pair, from SciPy's density."""
    where = np.ones(len(target), bool) if where is None else where
    result = np.zeros(target.shape[:-1])
    density = lambda y, i: scipy.stats.norm.logpdf(y, mean[i], np.exp(log_variance[i] / 2)).sum(-1)
    for i in np.flatnonzero(where):
        negatives = [density(target[j], i) for j in np.flatnonzero(where)]
        result[i] = density(target[i], i) - np.mean(negatives, axis=0)
    return result


def test_the_likelihood_is_the_density_of_a_diagonal_gaussian(rng):
    target, mean, log_variance = gaussians(rng)
    expected = scipy.stats.norm.logpdf(target, mean, np.exp(log_variance / 2)).sum(-1)
    value = losses.gaussian_log_likelihood(target, mean, log_variance)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_the_likelihood_is_highest_at_the_targets_mean_and_variance(x64, rng):
    target = jnp.asarray(rng.normal(size=(500, 2)))

    def total(mean, log_variance):
        shape = target.shape
        mean, log_variance = (jnp.broadcast_to(a[None], shape) for a in (mean, log_variance))
        return losses.gaussian_log_likelihood(target, mean, log_variance).sum()

    for gradient in jax.grad(total, (0, 1))(target.mean(0), jnp.log(target.var(0))):
        np.testing.assert_allclose(gradient, 0, atol=1e-9)


@pytest.mark.parametrize("removed", [(), (0, 4)])
def test_club_is_the_loop_over_all_pairs(rng, removed):
    arrays, where = gaussians(rng), ~np.isin(np.arange(BATCH), removed)
    value = losses.club_upper_bound(*arrays, where=where)
    assert value.shape == (BATCH, TIME)
    np.testing.assert_allclose(value, loop_club(*arrays, where), rtol=1e-4, atol=1e-4)


def test_club_is_the_expectation_of_its_sampled_form(rng):
    target, mean, log_variance = gaussians(rng, (BATCH, DIM))
    exact = losses.club_upper_bound(target, mean, log_variance)
    likelihood = losses.gaussian_log_likelihood
    shifted = [  # every example is drawn once for each other
        likelihood(target, mean, log_variance)
        - likelihood(np.roll(target, shift, axis=0), mean, log_variance)
        for shift in range(BATCH)
    ]
    np.testing.assert_allclose(np.mean(shifted, axis=0), exact, rtol=1e-4, atol=1e-5)


def test_club_bounds_the_information_of_correlated_gaussians_from_above(x64, rng):
    correlation = 0.8
    x, noise = rng.normal(size=(2, 20_000, 1))
    y = correlation * x + np.sqrt(1 - correlation**2) * noise
    log_variance = np.full_like(y, np.log(1 - correlation**2))
    bound = losses.club_upper_bound(y, correlation * x, log_variance).mean()
    information = -0.5 * np.log(1 - correlation**2)
    exact = correlation**2 / (1 - correlation**2)  # of the bound, for the true density
    assert bound > information
    np.testing.assert_allclose(bound, exact, rtol=0.05)


def test_club_and_the_likelihood_have_the_gradients_of_finite_differences(x64, rng):
    arrays = gaussians(rng, (4, 2, 3), np.float64)
    where = np.arange(4) != 2
    check_grads(partial(losses.club_upper_bound, where=where), arrays, order=2, modes=["rev"])
    check_grads(losses.gaussian_log_likelihood, arrays, order=1, modes=["rev"])


@pytest.mark.parametrize("kept", [[], [3]])
def test_club_of_one_example_or_none_is_zero_with_zero_gradient(rng, kept):
    where = np.isin(np.arange(BATCH), kept)
    total = lambda *arrays: losses.club_upper_bound(*arrays, where=where).sum()
    value, gradient = jax.value_and_grad(total, (0, 1, 2))(*gaussians(rng))
    for leaf in (value, *gradient):
        np.testing.assert_array_equal(leaf, 0)


def test_club_of_equal_targets_is_zero_and_removed_rows_may_be_nan(rng):
    target, mean, log_variance = gaussians(rng)
    same = np.broadcast_to(target[:1], target.shape)
    np.testing.assert_allclose(losses.club_upper_bound(same, mean, log_variance), 0, atol=1e-6)
    where = np.arange(BATCH) > 1
    hole = np.where(where[:, None, None], 0, np.nan).astype(np.float32)
    holed = losses.club_upper_bound(*(a + hole for a in (target, mean, log_variance)), where=where)
    expected = losses.club_upper_bound(target, mean, log_variance, where=where)
    np.testing.assert_array_equal(holed, expected)


def test_club_far_from_the_origin_keeps_its_digits(rng):
    target, mean, log_variance = gaussians(rng)
    expected = losses.club_upper_bound(target, mean, log_variance)
    # Powers of two add exactly where the last digits are cut before.
    target, mean = (np.round(a * 64) / 64 for a in (target, mean))
    near = losses.club_upper_bound(target, mean, log_variance)
    far = losses.club_upper_bound(target + 1024, mean + 1024, log_variance)
    np.testing.assert_allclose(far, near, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(near, expected, atol=0.5)


def test_club_holds_no_array_larger_than_its_inputs():
    shape = jax.ShapeDtypeStruct((512, 64), jnp.float32)
    total = lambda *arrays: losses.club_upper_bound(*arrays).sum()
    compiled = jax.jit(jax.grad(total, (0, 1, 2))).lower(shape, shape, shape).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 8 * 4 * 512 * 64 < 4 * 512**2 * 64


# --- cross-modal predictive coding -------------------------------------------------------------


def loop_prediction(predictions, features, temperature, where=None):
    modality, batch, time, step, _ = predictions.shape
    where = np.ones((modality, batch), bool) if where is None else where
    result = np.zeros((modality, modality, batch))
    for m, n in np.ndindex(modality, modality):
        both = np.flatnonzero(where[m] & where[n])
        for i in both:
            values = []
            for t in range(time):
                for k in range(1, step + 1):
                    if t + k < time:
                        logits = [predictions[m, i, t, k - 1] @ features[n, j, t + k] for j in both]
                        logits = np.array(logits) / temperature
                        own = logits[list(both).index(i)]
                        values.append(np.log(np.exp(logits).sum()) - own)
            result[m, n, i] = np.mean(values)
    return result


def sequences(rng, modality=2, batch=5, time=4, step=2, dim=3, dtype=np.float32):
    predictions = rng.normal(size=(modality, batch, time, step, dim)).astype(dtype)
    return predictions, rng.normal(size=(modality, batch, time, dim)).astype(dtype)


@pytest.mark.parametrize("step", [1, 2, 6])
def test_prediction_is_the_loop_over_pairs_times_and_steps(rng, step):
    predictions, features = sequences(rng, step=step)
    where = rng.random((2, 5)) > 0.2
    where[:, :2] = True
    value = losses.cross_predictive_coding(predictions, features, temperature=0.7, where=where)
    expected = loop_prediction(predictions, features, 0.7, where)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


def test_prediction_has_the_gradient_of_finite_differences_in_blocks_too(x64, rng):
    arrays = sequences(rng, batch=3, time=3, dtype=np.float64)
    for block_size in (None, 2):
        check_grads(
            partial(losses.cross_predictive_coding, block_size=block_size), arrays, 1, modes=["rev"]
        )


def test_what_predictions_say_of_steps_after_the_last_is_not_read(rng):
    predictions, features = sequences(rng)
    expected = losses.cross_predictive_coding(predictions, features)
    predictions[:, :, 3, 0] = predictions[:, :, 2:, 1] = np.nan
    np.testing.assert_array_equal(losses.cross_predictive_coding(predictions, features), expected)


def test_sequences_of_one_step_and_one_example_alone_give_zero(rng):
    predictions, features = sequences(rng)
    single = losses.cross_predictive_coding(predictions[:, :, :1], features[:, :, :1])
    np.testing.assert_array_equal(single, np.zeros((2, 2, 5)))
    alone = np.arange(5)[None] == np.array([2, 2])[:, None]
    np.testing.assert_array_equal(
        losses.cross_predictive_coding(predictions, features, where=alone), 0
    )


def test_half_precision_is_accumulated_in_float32(rng):
    arrays = [jnp.asarray(a, jnp.bfloat16) for a in gaussians(rng)]
    value = losses.club_upper_bound(*arrays)
    exact = losses.club_upper_bound(*(a.astype(jnp.float32) for a in arrays))
    np.testing.assert_array_equal(value, exact)
    assert value.dtype == losses.gaussian_log_likelihood(*arrays).dtype == jnp.float32


def test_shapes_that_do_not_match_are_refused(rng):
    target, mean, log_variance = gaussians(rng)
    with pytest.raises(Exception, match="batch"):
        losses.club_upper_bound(target, mean[1:], log_variance)


@pytest.mark.parametrize("log_variance", [-90.0, -300.0, 90.0, 300.0])
def test_an_extreme_variance_overflows_only_where_the_value_does(log_variance):
    zeros, spread = jnp.zeros((2, 1)), jnp.full((2, 1), log_variance)
    own = -0.5 * (log_variance + np.log(2 * np.pi))
    likelihood = losses.gaussian_log_likelihood
    np.testing.assert_allclose(likelihood(zeros, zeros, spread), own, rtol=1e-6)
    by_mean, by_spread = jax.grad(lambda m, v: likelihood(zeros, m, v).sum(), (0, 1))(zeros, spread)
    np.testing.assert_array_equal(by_mean, 0)
    np.testing.assert_allclose(by_spread, -0.5)
    np.testing.assert_array_equal(losses.club_upper_bound(zeros, zeros, spread), 0)


def test_a_tiny_distance_over_a_tiny_variance_is_neither_0_nor_infinite():
    small, zeros, spread = jnp.full((2, 1), 1e-20), jnp.zeros((2, 1)), jnp.full((2, 1), -90.0)
    expected = -0.5 * (1e-40 * np.exp(90.0) - 90 + np.log(2 * np.pi))
    actual = losses.gaussian_log_likelihood(small, zeros, spread)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)
