"""Maximum mean discrepancy against loops, known values, bandwidth, masks, degenerate sets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from unirep_jax.losses import maximum_mean_discrepancy as mmd


def reference(x, y, bandwidth, biased=True):
    k = lambda a, b: np.exp(-np.sum((a - b) ** 2) / (2 * bandwidth**2))

    def within(s):
        pairs = [(i, j) for i in range(len(s)) for j in range(len(s)) if biased or i != j]
        return np.mean([k(s[i], s[j]) for i, j in pairs])

    return within(x) + within(y) - 2 * np.mean([k(a, b) for a in x for b in y])


@pytest.mark.parametrize("biased", [True, False])
def test_it_is_the_mean_of_the_kernel_over_pairs(rng, biased):
    x, y = rng.normal(size=(7, 3)), 1 + rng.normal(size=(5, 3))
    found = mmd(
        jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32), bandwidth=1.5, biased=biased
    )
    np.testing.assert_allclose(found, reference(x, y, 1.5, biased), rtol=1e-5)


@pytest.mark.parametrize(
    ("x", "y", "biased", "value"),
    [
        ([0], [1], True, 0.786939),
        ([0, 1], [2, 3], True, 1.162376),
        ([0, 1], [2, 3], False, 0.768906),
    ],
)
def test_known_values(x, y, biased, value):
    sample = lambda s: jnp.array(s, jnp.float32)[:, None]
    np.testing.assert_allclose(
        mmd(sample(x), sample(y), bandwidth=1.0, biased=biased), value, atol=2e-6
    )


def test_the_default_bandwidth_is_the_median_distance_of_all_pairs(rng):
    x, y = rng.normal(size=(6, 4)), rng.normal(size=(4, 4))
    both = np.concatenate([x, y])
    distances = [np.linalg.norm(a - b) for i, a in enumerate(both) for b in both[:i]]
    found = mmd(jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))
    np.testing.assert_allclose(found, reference(x, y, np.median(distances)), rtol=1e-5)


def test_rows_that_do_not_count_are_as_good_as_absent(rng):
    x, y = (jnp.asarray(rng.normal(size=(n, 3)), jnp.float32) for n in (8, 9))
    a, b = jnp.arange(8) % 3 > 0, jnp.arange(9) < 6
    for biased in (True, False):
        masked = mmd(x.at[0].set(jnp.nan), y, where_x=a, where_y=b, biased=biased)
        np.testing.assert_allclose(masked, mmd(x[a], y[b], biased=biased), rtol=1e-4, atol=1e-6)


def test_a_sample_is_not_apart_from_itself_and_the_biased_form_is_never_negative(rng):
    x = jnp.asarray(rng.normal(size=(9, 3)), jnp.float32)
    np.testing.assert_allclose(mmd(x, x), 0, atol=1e-6)
    assert all(mmd(x + s, x[::-1] + s) >= 0 for s in (0.0, 100.0))


@pytest.mark.parametrize("biased", [True, False])
def test_empty_and_collapsed_samples_give_finite_values_and_gradients(biased):
    x, nobody = jnp.ones((4, 2)), jnp.zeros(4, bool)
    for settings in ({}, {"where_x": nobody}, {"where_x": nobody, "where_y": nobody}):
        loss = lambda x, s=settings: mmd(x, jnp.ones((4, 2)), biased=biased, **s)
        value, gradient = jax.value_and_grad(loss)(x)
        np.testing.assert_allclose(value, 0, atol=1e-6)
        assert np.isfinite(gradient).all()
    assert float(mmd(x[:1], x, biased=False)) == 0, "one row has no other"


def test_gradients_are_right_at_a_given_bandwidth(x64, rng):
    x, y = jnp.asarray(rng.normal(size=(5, 2))), jnp.asarray(rng.normal(size=(4, 2)))
    for biased in (True, False):
        f = lambda x, y, b=biased: mmd(x, y, bandwidth=1.3, biased=b)
        check_grads(f, (x, y), order=1, modes=["rev"])


@pytest.mark.parametrize("biased", [True, False])
def test_blocks_change_neither_value_nor_gradient(rng, biased):
    x, y = (jnp.asarray(rng.normal(size=(n, 3)), jnp.float32) for n in (11, 8))
    where = jnp.arange(11) % 4 > 0

    def loss(x, y, block_size):
        return mmd(x, y, bandwidth=1.2, where_x=where, biased=biased, block_size=block_size)

    dense, gradient = jax.value_and_grad(loss, argnums=(0, 1))(x, y, None)
    for block_size in (3, 64):
        value, other = jax.value_and_grad(loss, argnums=(0, 1))(x, y, block_size)
        np.testing.assert_allclose(value, dense, rtol=1e-5)
        for a, b in zip(other, gradient, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


def test_in_blocks_no_matrix_of_all_pairs_is_made():
    rows = jax.ShapeDtypeStruct((4096, 4), jnp.float32)
    loss = jax.grad(lambda x, y: mmd(x, y, bandwidth=1.0, block_size=64))
    compiled = jax.jit(loss).lower(rows, rows).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4096 * 4096 * 4 / 8


def test_blocks_without_a_bandwidth_are_refused():
    with pytest.raises(ValueError, match="block_size=2 needs a bandwidth"):
        mmd(jnp.ones((3, 2)), jnp.ones((3, 2)), block_size=2)


def test_half_precision_is_close_and_bandwidths_share_a_program(rng):
    x, y = (jnp.asarray(rng.normal(size=(6, 3)), jnp.bfloat16) for _ in range(2))
    found = mmd(x, y, bandwidth=1.0)
    assert found.dtype == jnp.float32
    before = mmd._cache_size()
    mmd(x, y, bandwidth=2.0)
    assert mmd._cache_size() == before
    np.testing.assert_allclose(
        found, mmd(x.astype(jnp.float32), y.astype(jnp.float32), bandwidth=1.0), rtol=1e-5
    )
