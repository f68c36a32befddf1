"""Draws have the moments and the gradients of their distribution, and stay finite."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from unirep_jax.losses import reparameterize

KEY = jax.random.key(3)


def test_draws_have_the_given_mean_and_variance():
    mean, log_variance = jnp.array([-1.0, 0.0, 3.0]), jnp.log(jnp.array([0.25, 1.0, 4.0]))
    many = lambda v: jnp.broadcast_to(v, (20_000, 3))
    draws = np.asarray(reparameterize(many(mean), many(log_variance), key=KEY))
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.05)
    np.testing.assert_allclose(draws.var(0), [0.25, 1.0, 4.0], rtol=0.05)


def test_it_is_the_mean_plus_the_scaled_noise_of_the_key(rng):
    mean, log_variance = rng.normal(size=(2, 5, 3)).astype(np.float32)
    noise = np.asarray(jax.random.normal(KEY, (5, 3)))
    found = reparameterize(jnp.asarray(mean), jnp.asarray(log_variance), key=KEY)
    np.testing.assert_allclose(found, mean + np.exp(log_variance / 2) * noise, rtol=1e-5, atol=1e-6)
    assert not np.allclose(
        found, reparameterize(jnp.asarray(mean), jnp.asarray(log_variance), key=jax.random.key(4))
    )


def test_gradients_flow_to_mean_and_variance(x64, rng):
    arguments = tuple(jnp.asarray(rng.normal(size=(4, 2))) for _ in range(2))
    check_grads(lambda m, v: reparameterize(m, v, key=KEY), arguments, order=2, modes=["rev"])


def test_an_extreme_variance_stays_finite_without_a_gradient():
    log_variance = jnp.array([[1e4, -1e4, 0.0]])
    draw = lambda v: reparameterize(jnp.ones((1, 3)), v, key=KEY)
    assert np.isfinite(draw(log_variance)).all()
    np.testing.assert_allclose(draw(log_variance)[0, 1], 1, atol=1e-3)
    gradient = jax.grad(lambda v: draw(v).sum())(log_variance)
    np.testing.assert_array_equal(gradient[0, :2], 0)
    assert gradient[0, 2] != 0


def test_half_precision_is_read_and_the_draw_is_single():
    half = jnp.zeros(3, jnp.bfloat16)
    found = reparameterize(half, half, key=KEY)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, jax.random.normal(KEY, (3,)))
