"""Symmetric InfoNCE against loops, the one-directional kernel, finite differences and limits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from unirep_jax.losses import info_nce
from unirep_jax.losses.symmetric import symmetric_info_nce

BATCH, DIM = 11, 6


def loop(x, y, temperature, where=None):
    """Both directions in float64, one pair at a time."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    kept = np.arange(len(x)) if where is None else np.flatnonzero(where)
    result = np.zeros(len(x))
    for i in kept:
        for logits in ([x[i] @ y[j] for j in kept], [x[j] @ y[i] for j in kept]):
            logits = np.array(logits) / temperature
            result[i] += np.log(np.exp(logits - logits.max()).sum()) + logits.max()
            result[i] -= x[i] @ y[i] / temperature
    return result / 2


def pairs(rng, batch=BATCH, dim=DIM, dtype=np.float32):
    vectors = rng.normal(size=(2, batch, dim))
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(dtype)


@partial(jax.jit, static_argnames="block_size")
def value_and_gradient(x, y, temperature, where=None, block_size=None):
    def total(x, y, temperature):
        values = symmetric_info_nce(
            x, y, temperature=temperature, where=where, block_size=block_size
        )
        return values.sum(), values

    gradient, values = jax.grad(total, (0, 1, 2), has_aux=True)(x, y, temperature)
    return values, gradient


@pytest.mark.parametrize("block_size", [None, 4])
@pytest.mark.parametrize("removed", [(), (0, 4, 10)])
def test_it_is_the_loop_over_pairs(rng, block_size, removed):
    x, y = pairs(rng)
    where = ~np.isin(np.arange(BATCH), removed)
    values, _ = value_and_gradient(x, y, 0.1, where, block_size)
    np.testing.assert_allclose(values, loop(x, y, 0.1, where), rtol=1e-5, atol=1e-6)


def test_it_is_the_mean_of_the_two_directions_with_their_gradient(rng):
    x, y = pairs(rng)

    def two(x, y, temperature):
        one_way = info_nce(x, y, temperature=temperature)
        return ((one_way + info_nce(y, x, temperature=temperature)) / 2).sum()

    _, gradient = value_and_gradient(x, y, 0.2, block_size=4)
    for ours, theirs in zip(gradient, jax.jit(jax.grad(two, (0, 1, 2)))(x, y, 0.2), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("block_size", [4, 64])
def test_any_block_size_gives_the_value_and_gradient_of_the_dense_form(rng, block_size):
    x, y = pairs(rng)
    where = np.arange(BATCH) != 5
    dense, blocked = (value_and_gradient(x, y, 0.1, where, size) for size in (None, block_size))
    for ours, theirs in zip(jax.tree.leaves(blocked), jax.tree.leaves(dense), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6 * abs(theirs).max())


@pytest.mark.parametrize(("block_size", "order"), [(None, 1), (2, 2)])
def test_first_and_second_derivatives_are_those_of_finite_differences(x64, rng, block_size, order):
    x, y = pairs(rng, batch=5, dtype=np.float64)

    @jax.jit
    def loss(x, y, temperature):
        where = jnp.arange(5) != 3
        return symmetric_info_nce(x, y, temperature=temperature, where=where, block_size=block_size)

    check_grads(loss, (x, y, np.float64(0.4)), order=order, modes=["rev"])


def test_blocks_keep_the_square_matrix_out_of_memory_in_the_backward_pass_too():
    batch, block_size = 4096, 128
    shape = jax.ShapeDtypeStruct((batch, 8), jnp.float32)

    def temporary_bytes(block_size):
        def total(x, y):
            return symmetric_info_nce(x, y, temperature=0.1, block_size=block_size).sum()

        compiled = jax.jit(jax.grad(total, (0, 1))).lower(shape, shape).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary_bytes(block_size) < 8 * 4 * batch * block_size < 4 * batch**2 / 2
    assert temporary_bytes(None) > 4 * batch**2


def test_forward_is_one_matrix_product_and_backward_three():
    shape = jax.ShapeDtypeStruct((8, 4), jnp.float32)

    def total(x, y):
        return symmetric_info_nce(x, y, temperature=0.1, block_size=2).sum()

    assert str(jax.make_jaxpr(total)(shape, shape)).count("dot_general") == 1
    assert str(jax.make_jaxpr(jax.grad(total, (0, 1)))(shape, shape)).count("dot_general") == 4


@pytest.mark.parametrize("block_size", [None, 4])
def test_one_pair_alone_and_no_pair_at_all_give_zero_and_no_gradient(rng, block_size):
    x, y = pairs(rng)
    for kept in ([3], []):
        where = np.isin(np.arange(BATCH), kept)
        values, gradient = value_and_gradient(x, y, 0.1, where, block_size)
        for leaf in (values, *gradient):
            np.testing.assert_array_equal(leaf, 0)


def test_identical_vectors_give_the_logarithm_of_the_batch():
    x = np.ones((BATCH, DIM), np.float32)
    np.testing.assert_allclose(value_and_gradient(x, x, 0.1)[0], np.log(BATCH), rtol=1e-6)


@pytest.mark.parametrize("block_size", [None, 4])
def test_what_removed_pairs_hold_does_not_matter_not_even_nan(rng, block_size):
    x, y = pairs(rng)
    where = np.arange(BATCH) % 3 > 0
    expected = value_and_gradient(x, y, 0.1, where, block_size)
    hole = np.where(where[:, None], 0, np.nan).astype(np.float32)
    got = value_and_gradient(x + hole, y + hole, 0.1, where, block_size)
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_a_loss_of_a_billionth_keeps_its_digits(rng):
    x, _ = pairs(rng, dim=64)
    temperature = 0.03
    values, _ = value_and_gradient(x, x, temperature)
    expected = loop_of_margins(x, temperature)
    assert expected.max() < 1e-6
    np.testing.assert_allclose(values, expected, rtol=1e-4)


def loop_of_margins(x, temperature):
    """log1p of the negatives' share, for x against itself, in float64."""
    x = np.asarray(x, np.float64)
    margins = (x @ x.T - np.sum(x * x, axis=1, keepdims=True)) / temperature
    np.fill_diagonal(margins, -np.inf)
    return np.log1p(np.exp(margins).sum(1))


def test_a_temperature_of_a_thousandth_overflows_nothing(rng):
    x, y = pairs(rng)
    values, gradient = value_and_gradient(x, y, 1e-3, block_size=4)
    np.testing.assert_allclose(values, loop(x, y, 1e-3), rtol=1e-5, atol=1e-3)
    assert all(np.isfinite(leaf).all() for leaf in gradient)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_read_exactly_and_accumulated_in_float32(rng, dtype):
    x, y = (jnp.asarray(v, dtype) for v in pairs(rng))
    values, gradient = value_and_gradient(x, y, 0.1, block_size=4)
    assert values.dtype == jnp.float32 and gradient[0].dtype == dtype
    np.testing.assert_allclose(values, loop(x, y, 0.1), rtol=1e-5, atol=1e-6)
    exact = value_and_gradient(x.astype(jnp.float32), y.astype(jnp.float32), 0.1)[1]
    for ours, theirs in zip(gradient[:2], exact[:2], strict=True):
        np.testing.assert_allclose(
            np.asarray(ours, np.float32), theirs, atol=0.02 * abs(theirs).max()
        )


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    temperature=st.floats(0.02, 10),
    where=st.lists(st.booleans(), min_size=BATCH, max_size=BATCH),
    copies=st.integers(1, BATCH),
)
def test_masks_duplicates_and_temperatures_agree_with_the_loop(seed, temperature, where, copies):
    x, y = pairs(np.random.default_rng(seed))
    y[:copies] = y[0]
    values, gradient = value_and_gradient(x, y, temperature, np.array(where), 4)
    np.testing.assert_allclose(values, loop(x, y, temperature, where), rtol=1e-4, atol=1e-4)
    assert (values >= 0).all()
    assert all(np.isfinite(leaf).all() for leaf in gradient)


def test_a_sweep_of_temperatures_compiles_once(rng):
    x, y = pairs(rng, batch=7)
    before = symmetric_info_nce._cache_size()
    for temperature in (0.1, 0.2, 0.5):
        symmetric_info_nce(x, y, temperature=temperature)
    assert symmetric_info_nce._cache_size() == before + 1


def test_shapes_that_do_not_match_are_refused(rng):
    x, y = pairs(rng)
    with pytest.raises(Exception, match="batch"):
        symmetric_info_nce(x, y[:-1], temperature=0.1)
