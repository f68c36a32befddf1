"""Networks behind estimates of information and predictions of the future."""

import jax
import jax.numpy as jnp
import numpy as np

from unirep_jax.models.estimators import FuturePredictor, GaussianEstimator


def test_a_log_variance_stays_within_one_whatever_the_input(rng):
    module, x = GaussianEstimator(outputs=5, hidden=8), jnp.asarray(rng.normal(size=(3, 4)) * 1e3)
    variables = module.init(jax.random.key(0), x)
    mean, log_variance = module.apply(variables, x)
    assert mean.shape == log_variance.shape == (3, 5)
    assert np.abs(log_variance).max() <= 1 < np.abs(mean).max()


def test_a_prediction_depends_on_the_past_and_not_on_the_future(rng):
    module, z = FuturePredictor(steps=2), jnp.asarray(rng.normal(size=(5, 4)), jnp.float32)
    variables = module.init(jax.random.key(0), z)
    predictions = module.apply(variables, z)
    assert predictions.shape == (5, 2, 4)
    changed = module.apply(variables, z.at[2].add(1.0))
    np.testing.assert_array_equal(changed[:2], predictions[:2])
    assert all(np.abs(changed[t] - predictions[t]).max() > 1e-4 for t in (2, 3, 4))
