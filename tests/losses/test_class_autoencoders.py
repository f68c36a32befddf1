"""CSSR's kernels: worked examples, loops, finite differences, blocks, and positions removed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from unirep_jax.losses.class_autoencoders import (
    averaged_softmax,
    averaged_softmax_loss,
    class_autoencoder_logits,
    class_autoencoder_score,
)

TWO_POSITIONS = jnp.array([[[1.0, 0], [0, 3]]])


def loop_logits(features, encoders, decoders, scale):
    features, encoders, decoders = (np.asarray(x, float) for x in (features, encoders, decoders))
    result = np.zeros((*features.shape[:2], len(encoders)))
    for place in np.ndindex(*result.shape):
        x, encoder, decoder = features[place[:2]], encoders[place[2]], decoders[place[2]]
        result[place] = scale * np.abs(x - np.tanh(x @ encoder) @ decoder).sum()
    return result


def softmax(logits):
    exponential = np.exp(logits - np.max(logits))
    return exponential / exponential.sum()


def loop_average(logits, where):
    """The mean of the softmax at each position that counts, one position at a time."""
    result = np.zeros((logits.shape[0], logits.shape[2]))
    for i, positions in enumerate(where):
        for p in np.flatnonzero(positions):
            result[i] += softmax(np.asarray(logits[i, p], float)) / positions.sum()
    return result


def autoencoders(rng, classes=3, dim=4, latent=2, dtype=jnp.float32):
    shapes = ((classes, dim, latent), (classes, latent, dim))
    return tuple(jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes)


def test_the_worked_example_of_two_autoencoders():
    """x = [1, −2], reconstructed as [0.5, −1] and as nothing."""
    x = jnp.array([[[1.0, -2]]])
    encoders = jnp.zeros((2, 2, 1)).at[0, 0, 0].set(1)
    decoders = jnp.array([[0.5, -1], [3, 3]])[:, None] / jnp.tanh(1.0)
    for scale, logits, probability in (
        (1.0, [1.5, 3], None),
        (-0.1, [-0.15, -0.3], [0.537430, 0.462570]),
        (0.1, [0.15, 0.3], [0.462570, 0.537430]),
    ):
        ours = class_autoencoder_logits(x, encoders, decoders, scale=scale)
        np.testing.assert_allclose(ours[0, 0], logits, rtol=1e-6)
        if probability is not None:
            np.testing.assert_allclose(averaged_softmax(ours)[0], probability, atol=1e-6)


def test_the_worked_example_averages_probabilities_not_logits():
    expected = [0.389242, 0.610758]
    np.testing.assert_allclose(averaged_softmax(TWO_POSITIONS)[0], expected, atol=1e-6)
    twice, labels = jnp.repeat(TWO_POSITIONS, 2, axis=0), jnp.array([0, 1])
    ours = averaged_softmax_loss(twice, labels)
    np.testing.assert_allclose(ours, -np.log(expected), atol=2e-6)


@pytest.mark.parametrize("block_size", [None, 1, 2, 8])
def test_logits_and_gradients_are_those_of_the_loop_in_any_blocks(block_size, rng):
    features = jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.float32)
    weights = autoencoders(rng)

    def total(block_size):
        def value(features, weights):
            logits = class_autoencoder_logits(features, *weights, block_size=block_size)
            return jnp.sum(jnp.sin(logits)), logits

        return jax.jit(jax.grad(value, (0, 1), has_aux=True))(features, weights)

    gradient, logits = total(block_size)
    np.testing.assert_allclose(logits, loop_logits(features, *weights, -0.1), rtol=1e-5)
    for ours, dense in zip(*map(jax.tree.leaves, (gradient, total(None)[0])), strict=True):
        np.testing.assert_allclose(ours, dense, rtol=1e-4, atol=1e-6)


def test_gradients_are_those_of_finite_differences(x64, rng):
    features = jnp.asarray(rng.normal(size=(2, 3, 4)))
    weights, labels = autoencoders(rng, dtype=jnp.float64), jnp.array([2, 0])
    where = jnp.array([[True, False, True], [True, True, True]])

    def values(features, weights, scale):
        logits = class_autoencoder_logits(features, *weights, scale=scale)
        loss = averaged_softmax_loss(logits, labels, where=where)
        return loss, averaged_softmax(logits, where), class_autoencoder_score(logits, where=where)

    arguments = (features, weights, jnp.float64(-0.3))
    check_grads(values, arguments, order=1, modes=["rev"], rtol=1e-6, atol=1e-7)


def test_loss_and_score_are_the_loops_over_the_positions_that_count(rng):
    logits = jnp.asarray(2 * rng.normal(size=(4, 5, 3)), jnp.float32)
    where = rng.random((4, 5)) > 0.3
    where[2] = np.arange(5) == 1
    magnitude = jnp.asarray(rng.uniform(0.5, 2, size=(4, 5)), jnp.float32)
    labels = np.array([0, 1, 2, 1])
    average = loop_average(logits, where)
    np.testing.assert_allclose(averaged_softmax(logits, jnp.asarray(where)), average, rtol=1e-5)
    ours = averaged_softmax_loss(logits, jnp.asarray(labels), where=jnp.asarray(where))
    np.testing.assert_allclose(ours, -np.log(average[np.arange(4), labels]), rtol=1e-5)
    plain, divided = np.zeros((2, 4))
    for i in range(4):
        values = np.asarray(logits, float)[i, where[i], average[i].argmax()]
        plain[i] = values.mean()
        divided[i] = np.mean(values / np.asarray(magnitude, float)[i, where[i]] ** 2)
    score = lambda **options: class_autoencoder_score(logits, where=jnp.asarray(where), **options)
    np.testing.assert_allclose(score(), plain, rtol=1e-5)
    np.testing.assert_allclose(score(magnitude=magnitude), divided, rtol=1e-5)


@pytest.mark.parametrize("scale", [-0.1, 0.1])
def test_the_score_is_higher_for_what_a_class_knows(scale):
    """Class 0 reconstructs the first axis, class 1 the second; reciprocal ones the other's."""
    small = 1e-3  # tanh is linear there
    axes = jnp.eye(3)[:2] if scale < 0 else jnp.eye(3)[1::-1]
    encoders, decoders = axes[:, :, None], axes[:, None, :]
    features = small * jnp.array([[[1.0, 0, 0]], [[0, 1, 0]], [[0.5, 0.5, 0.7]]])
    logits = class_autoencoder_logits(features, encoders, decoders, scale=scale / small)
    assert jnp.argmax(averaged_softmax(logits)[:2], axis=-1).tolist() == [0, 1]
    if scale < 0:  # a reciprocal error says how far x is from the other classes: that grows with x
        known, _, unknown = class_autoencoder_score(logits)
        assert known > unknown + 0.1


# --- degenerate ---------------------------------------------------------------------------------


def test_an_exact_reconstruction_has_zero_logit_and_gradient():
    encoders, decoders = jnp.zeros((2, 3, 1)), jnp.ones((2, 1, 3))
    function = lambda x: class_autoencoder_logits(x, encoders, decoders)
    value, pull = jax.vjp(function, jnp.zeros((1, 2, 3)))
    np.testing.assert_array_equal(value, 0)
    np.testing.assert_array_equal(pull(value + 1)[0], 0)


def test_removed_positions_may_hold_anything(rng):
    logits, labels = jnp.asarray(rng.normal(size=(2, 4, 3)), jnp.float32), jnp.array([1, 2])
    where = jnp.array([[True, True, False, False], [False] * 4])
    holes = jnp.where(where[..., None], logits, jnp.nan)
    magnitude = jnp.where(where, 2.0, jnp.nan)

    def values(logits, magnitude):
        return {
            "average": averaged_softmax(logits, where),
            "loss": averaged_softmax_loss(logits, labels, where=where),
            "score": class_autoencoder_score(logits, where=where),
            "divided": class_autoencoder_score(logits, where=where, magnitude=magnitude),
        }

    ours, first = values(holes, magnitude), logits[:1, :2]
    alone = {
        "average": averaged_softmax(first),
        "loss": averaged_softmax_loss(first, labels[:1]),
        "score": class_autoencoder_score(first),
        "divided": class_autoencoder_score(first) / 4,
    }
    for name, value in ours.items():
        np.testing.assert_allclose(value[0], alone[name][0], rtol=1e-5, err_msg=name)
        np.testing.assert_array_equal(value[1], 0, err_msg=name)  # an example without positions
    total = lambda *x: sum(jnp.sum(v * v) for v in values(*x).values())
    for gradient in jax.grad(total, (0, 1))(holes, magnitude):
        assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradient[~where], 0)


def test_a_probability_that_underflows_keeps_its_loss_and_gradient():
    logits = jnp.array([[[0.0, 300], [0, 400]]])
    value, gradient = jax.value_and_grad(
        lambda x: averaged_softmax_loss(x, jnp.zeros(1, int)).sum()
    )(logits)
    np.testing.assert_allclose(value, 300 + np.log(2), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[[-1, 1], [0, 0]]], atol=1e-6)


def test_one_class_has_no_loss_and_a_position_of_magnitude_zero_adds_nothing():
    logits = jnp.array([[[3.0], [5.0]]])
    function = lambda x: averaged_softmax_loss(x, jnp.zeros(1, int))[0]
    value, gradient = jax.value_and_grad(function)(logits)
    np.testing.assert_allclose(value, 0, atol=1e-7)
    np.testing.assert_allclose(gradient, 0, atol=1e-7)
    score = lambda m: class_autoencoder_score(logits, magnitude=m)[0]
    value, gradient = jax.value_and_grad(score)(jnp.array([[0.0, 2]]))
    np.testing.assert_allclose(value, 0.5 * 5 / 4, rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0, -5 / 8]], rtol=1e-6)


def test_half_precision_is_read_and_a_sweep_over_scales_compiles_once(rng):
    features = jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.bfloat16)
    weights = autoencoders(rng, dtype=jnp.bfloat16)
    class_autoencoder_logits.clear_cache()
    for scale in (-0.1, 0.1, 2.0):
        half = class_autoencoder_logits(features, *weights, scale=scale)
    assert class_autoencoder_logits._cache_size() == 1
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, loop_logits(features, *weights, 2.0), rtol=3e-2)
    logits, labels = half.astype(jnp.bfloat16), jnp.array([0, 1])
    kernels = (
        averaged_softmax,
        class_autoencoder_score,
        lambda x: averaged_softmax_loss(x, labels),
    )
    for kernel in kernels:
        assert kernel(logits).dtype == jnp.float32
        np.testing.assert_allclose(kernel(logits), kernel(logits.astype(jnp.float32)), rtol=1e-6)


def test_a_batch_of_batches_is_mapped_over(rng):
    features = jnp.asarray(rng.normal(size=(2, 2, 3, 4)), jnp.float32)
    weights, labels = autoencoders(rng), jnp.array([0, 2])
    loss = lambda x: averaged_softmax_loss(class_autoencoder_logits(x, *weights), labels)
    np.testing.assert_allclose(jax.vmap(loss)(features), [loss(x) for x in features], rtol=1e-5)


def test_weights_of_other_shapes_are_refused(rng):
    encoders, decoders = autoencoders(rng)
    features = jnp.ones((1, 1, 4))
    with pytest.raises(Exception, match="decoders"):
        class_autoencoder_logits(features, encoders, decoders[:2])
    with pytest.raises(Exception, match="encoders"):
        class_autoencoder_logits(features[..., :3], encoders, decoders)
