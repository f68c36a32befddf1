"""Distances of pairs against float64, at every scale, and their gradient where pairs coincide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from unirep_jax.losses import pair_distance

gradient = jax.jit(jax.grad(lambda x, y: pair_distance(x, y).sum(), (0, 1)))


def exact(x, y):
    return np.linalg.norm(np.asarray(x, np.float64) - np.asarray(y, np.float64), axis=1)


def test_a_hand_computed_pair():
    x, y = np.array([[1.0, 2.0]], np.float32), np.array([[4.0, 6.0]], np.float32)
    np.testing.assert_array_equal(pair_distance(x, y), [5])
    np.testing.assert_allclose(gradient(x, y)[0], [[-0.6, -0.8]], rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(-30, 30), st.floats(1e-6, 1))
def test_it_is_the_float64_distance_at_every_scale_and_closeness(seed, exponent, closeness):
    rng = np.random.default_rng(seed)
    x = (10.0**exponent * rng.normal(size=(4, 6))).astype(np.float32)
    y = (x * (1 + closeness * rng.normal(size=(4, 6)))).astype(np.float32)
    np.testing.assert_allclose(pair_distance(x, y), exact(x, y), rtol=1e-6)
    for g in gradient(x, y):
        np.testing.assert_allclose(np.linalg.norm(g, axis=1), exact(x, y) > 0, rtol=1e-5)


def test_pairs_that_coincide_have_no_distance_and_no_gradient(rng):
    x = rng.normal(size=(3, 5)).astype(np.float32)
    y = x.copy()
    y[1, 0] += 1
    np.testing.assert_array_equal(pair_distance(x, y) > 0, [False, True, False])
    for g in gradient(x, y):
        np.testing.assert_array_equal((g != 0).any(1), [False, True, False])
    assert pair_distance(x[:, :0], y[:, :0]).tolist() == [0, 0, 0]


def test_first_and_second_derivatives_are_those_of_finite_differences(x64, rng):
    x, y = rng.normal(size=(2, 3, 4))
    check_grads(pair_distance, (x, y), order=2, modes=["rev"])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_read_exactly(rng, dtype):
    x, y = jnp.asarray(rng.normal(size=(2, 5, 8)), dtype)
    distance = pair_distance(x, y)
    assert distance.dtype == jnp.float32
    np.testing.assert_allclose(distance, exact(x, y), rtol=1e-6)
    assert gradient(x, y)[0].dtype == dtype
    np.testing.assert_allclose(pair_distance(x, y.astype(jnp.float32)), distance, rtol=1e-6)


def test_nan_stays_nan_and_shapes_that_do_not_match_are_refused():
    x = np.array([[1.0, np.nan], [1, 1]], np.float32)
    np.testing.assert_array_equal(np.isnan(pair_distance(x, np.ones_like(x))), [True, False])
    with pytest.raises(Exception, match="batch"):
        pair_distance(x, x[:1])


def test_the_square_is_the_float64_square_with_its_gradient(rng, x64):
    x, y = rng.normal(size=(2, 5, 7))
    y[2] = x[2]
    squared = lambda x, y: pair_distance(x, y, squared=True)
    np.testing.assert_allclose(squared(x, y), exact(x, y) ** 2, rtol=1e-12)
    slopes = jax.grad(lambda x, y: squared(x, y).sum(), (0, 1))(x, y)
    np.testing.assert_allclose(slopes[0], 2 * (x - y), rtol=1e-12)
    assert not np.any(slopes[0][2]) and not np.any(slopes[1][2])
    check_grads(squared, (x, y), order=2, modes=["rev"])
    small = squared(x.astype(np.float16), y.astype(np.float16))
    assert small.dtype == np.float32
