"""Aggregation of a memory against loops, the reference file, finite differences and its limits."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from unirep_jax.losses import argmax_aggregate, mix_items, random_aggregate, soft_aggregate

QUERY, ITEM, DIM = 5, 11, 6


def loop(queries, memory, temperature, where=None):
    """In float64, one query at a time."""
    queries, memory = np.asarray(queries, np.float64), np.asarray(memory, np.float64)
    kept = memory if where is None else memory[where]
    result = np.zeros(queries.shape)
    for i, query in enumerate(queries):
        if len(kept):
            weights = np.exp((kept @ query - max(kept @ query)) / temperature)
            result[i] = weights @ kept / weights.sum()
    return result


def vectors(rng, query=QUERY, item=ITEM, dim=DIM, dtype=np.float32):
    both = rng.normal(size=(query + item, dim))
    both = (both / np.linalg.norm(both, axis=-1, keepdims=True)).astype(dtype)
    return both[:query], both[query:]


@partial(jax.jit, static_argnames="block_size")
def value_and_gradient(queries, memory, temperature, where=None, block_size=None):
    def total(queries, memory, temperature):
        values = soft_aggregate(
            queries, memory, temperature=temperature, where=where, block_size=block_size
        )
        weights = 1 + jnp.arange(values.size, dtype=values.dtype).reshape(values.shape)
        return (values * weights).sum(), values

    gradient, values = jax.grad(total, (0, 1, 2), has_aux=True)(queries, memory, temperature)
    return values, gradient


@pytest.mark.parametrize("block_size", [None, 2048, 96])
def test_it_is_the_reference_at_a_temperature_of_a_hundredth(oracle, block_size):
    reference = oracle("soft_aggregate")
    ours = soft_aggregate(
        reference["queries"],
        reference["memory"],
        temperature=float(reference["temperature"]),
        block_size=block_size,
    )
    np.testing.assert_allclose(ours, reference["output"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("block_size", [None, 4])
@pytest.mark.parametrize("removed", [(), (0, 4, 10)])
def test_it_is_the_loop_over_queries(rng, block_size, removed):
    queries, memory = vectors(rng)
    where = ~np.isin(np.arange(ITEM), removed)
    values, _ = value_and_gradient(queries, memory, 0.1, where, block_size)
    np.testing.assert_allclose(values, loop(queries, memory, 0.1, where), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block_size", [1, 4, 5, 64])
def test_any_block_size_gives_the_value_and_gradient_of_the_dense_form(rng, block_size):
    queries, memory = vectors(rng)
    where = np.arange(ITEM) != 5
    dense, blocked = (
        value_and_gradient(queries, memory, 0.1, where, size) for size in (None, block_size)
    )
    for ours, theirs in zip(jax.tree.leaves(blocked), jax.tree.leaves(dense), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * abs(theirs).max())


def test_its_gradient_is_that_of_the_softmax_written_out(rng):
    queries, memory = vectors(rng)

    def total(queries, memory, temperature):
        values = jax.nn.softmax(queries @ memory.T / temperature, axis=1) @ memory
        return (
            values * (1 + jnp.arange(values.size, dtype=jnp.float32)).reshape(values.shape)
        ).sum()

    _, gradient = value_and_gradient(queries, memory, 0.2, block_size=4)
    written_out = jax.jit(jax.grad(total, (0, 1, 2)))(queries, memory, 0.2)
    for ours, theirs in zip(gradient, written_out, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * abs(theirs).max())


@pytest.mark.parametrize(("block_size", "order"), [(None, 1), (2, 2)])
def test_first_and_second_derivatives_are_those_of_finite_differences(x64, rng, block_size, order):
    queries, memory = vectors(rng, query=2, item=5, dim=3, dtype=np.float64)

    @jax.jit
    def values(queries, memory, temperature):
        where = jnp.arange(5) != 3
        return soft_aggregate(
            queries, memory, temperature=temperature, where=where, block_size=block_size
        )

    check_grads(values, (queries, memory, np.float64(0.4)), order=order, modes=["rev"])


@pytest.mark.parametrize("block_size", [None, 4])
def test_removed_items_are_as_if_they_were_not_there_whatever_they_hold(rng, block_size):
    queries, memory = vectors(rng)
    where = np.arange(ITEM) % 3 > 0
    hole = np.where(where[:, None], memory, np.nan).astype(np.float32)
    values, gradient = value_and_gradient(queries, hole, 0.1, where, block_size)
    expected, without = value_and_gradient(queries, memory[where], 0.1, None, block_size)
    np.testing.assert_allclose(values, expected, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(gradient[0], without[0], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(gradient[1][where], without[1], rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(gradient[1][~where], 0)


@pytest.mark.parametrize("block_size", [None, 4])
def test_a_memory_of_which_nothing_counts_gives_zero_and_no_gradient(rng, block_size):
    queries, memory = vectors(rng)
    for bank, where in ((memory, np.zeros(ITEM, bool)), (memory[:0], None)):
        values, gradient = value_and_gradient(queries, bank, 0.1, where, block_size)
        assert values.shape == queries.shape
        for leaf in (values, *gradient):
            np.testing.assert_array_equal(leaf, 0)


@pytest.mark.parametrize("block_size", [None, 4])
def test_one_item_is_the_result_and_gets_the_whole_gradient(rng, block_size):
    queries, memory = vectors(rng)
    where = np.arange(ITEM) == 7
    values, gradient = value_and_gradient(queries, memory, 0.1, where, block_size)
    np.testing.assert_allclose(values, np.tile(memory[7], (QUERY, 1)), rtol=1e-6)
    np.testing.assert_allclose(gradient[0], 0, atol=1e-3)
    whole = 1 + np.arange(QUERY * DIM).reshape(QUERY, DIM)
    np.testing.assert_allclose(gradient[1][7], whole.sum(0), rtol=1e-5)


def test_a_zero_query_gives_the_plain_mean(rng):
    queries, memory = vectors(rng)
    values, gradient = value_and_gradient(0 * queries, memory, 0.01, block_size=4)
    np.testing.assert_allclose(values, np.tile(memory.mean(0), (QUERY, 1)), rtol=1e-5, atol=1e-7)
    assert all(np.isfinite(leaf).all() for leaf in gradient)


def test_copies_of_items_change_nothing_if_all_have_as_many(rng):
    queries, memory = vectors(rng)
    twice = np.concatenate([memory, memory])
    once, both = (value_and_gradient(queries, m, 0.1, block_size=4) for m in (memory, twice))
    np.testing.assert_allclose(both[0], once[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(both[1][1][:ITEM] * 2, once[1][1], rtol=1e-4, atol=1e-4)


def test_a_temperature_of_a_ten_thousandth_is_the_nearest_item_and_overflows_nothing(rng):
    queries, memory = vectors(rng)
    values, gradient = value_and_gradient(queries, memory, 1e-4, block_size=4)
    np.testing.assert_allclose(values, argmax_aggregate(queries, memory), atol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in gradient)


@pytest.mark.parametrize(("dtype", "rounding"), [(jnp.bfloat16, 2e-3), (jnp.float16, 2e-4)])
@pytest.mark.parametrize("mixed", [False, True])
def test_half_precision_only_rounds_the_weights(rng, dtype, rounding, mixed):
    queries, memory = vectors(rng, dim=32)
    queries, memory = queries if mixed else jnp.asarray(queries, dtype), jnp.asarray(memory, dtype)
    values, gradient = value_and_gradient(queries, memory, 0.1, block_size=4)
    assert values.dtype == jnp.float32
    assert gradient[1].dtype == dtype and gradient[0].dtype == queries.dtype
    np.testing.assert_allclose(values, loop(queries, memory, 0.1), atol=rounding)
    exact = value_and_gradient(
        jnp.asarray(queries, jnp.float32), jnp.asarray(memory, jnp.float32), 0.1
    )[1]
    for ours, theirs in zip(gradient[:2], exact[:2], strict=True):
        np.testing.assert_allclose(
            np.asarray(ours, np.float32), theirs, atol=0.02 * abs(theirs).max()
        )


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    temperature=st.floats(0.01, 10),
    where=st.lists(st.booleans(), min_size=ITEM, max_size=ITEM),
    copies=st.integers(1, ITEM),
)
def test_it_stays_in_the_hull_of_what_counts_and_agrees_with_the_loop(
    seed, temperature, where, copies
):
    queries, memory = vectors(np.random.default_rng(seed))
    memory[:copies] = memory[0]
    where = np.array(where)
    values, gradient = value_and_gradient(queries, memory, temperature, where, 4)
    np.testing.assert_allclose(values, loop(queries, memory, temperature, where), atol=1e-5)
    if where.any():
        assert (np.asarray(values) <= memory[where].max(0) + 1e-6).all()
        assert (np.asarray(values) >= memory[where].min(0) - 1e-6).all()
    assert all(np.isfinite(leaf).all() for leaf in gradient)


@settings(max_examples=15, deadline=None)
@given(
    cuts=st.lists(st.integers(0, ITEM), max_size=3),
    temperature=st.floats(0.001, 10),
    where=st.lists(st.booleans(), min_size=ITEM, max_size=ITEM),
)
def test_a_memory_in_pieces_is_the_memory_in_one(cuts, temperature, where):
    queries, memory = vectors(np.random.default_rng(0))
    mixture, places = None, [0, *sorted(cuts), ITEM]
    for first, last in itertools.pairwise(places):
        mixture = mix_items(
            queries,
            memory[first:last],
            temperature=temperature,
            so_far=mixture,
            block_size=4,
            where=np.array(where[first:last], bool),
        )
    whole = soft_aggregate(queries, memory, temperature=temperature, where=np.array(where))
    assert mixture.peak.dtype == mixture.mean().dtype == jnp.float32
    np.testing.assert_allclose(mixture.mean(), whole, rtol=1e-5, atol=1e-6)


def test_a_piece_of_which_nothing_counts_leaves_the_mixture_as_it_was(rng):
    queries, memory = vectors(rng)
    before = mix_items(queries, memory, temperature=0.1)
    for piece, where in ((memory, np.zeros(ITEM, bool)), (memory[:0], None)):
        after = mix_items(queries, piece, temperature=0.1, so_far=before, where=where)
        for ours, theirs in zip(after, before, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    nothing = mix_items(queries, memory[:0], temperature=0.1)
    np.testing.assert_array_equal(nothing.mean(), 0)


def test_no_matrix_of_all_similarities_is_ever_in_memory_nor_a_copy_of_the_memory():
    query, item, block_size = 1024, 16_001, 128
    shapes = [jax.ShapeDtypeStruct((n, 16), jnp.float32) for n in (query, item)]

    def temporary_bytes(function):
        compiled = jax.jit(function).lower(*shapes).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    def aggregate(queries, memory, block_size=block_size):
        return soft_aggregate(queries, memory, temperature=0.1, block_size=block_size)

    gradient = jax.grad(lambda *both: aggregate(*both).sum(), (0, 1))
    assert temporary_bytes(aggregate) < 4 * 4 * query * block_size < 4 * query * item / 20
    assert temporary_bytes(gradient) < 6 * 4 * query * block_size + 2 * 4 * 16 * item
    assert temporary_bytes(partial(aggregate, block_size=None)) > 4 * query * item


def test_forward_is_two_matrix_products_of_each_block_and_backward_five_at_full_precision():
    shapes = [jax.ShapeDtypeStruct((n, 4), jnp.float32) for n in (8, 16)]

    def total(queries, memory):
        return soft_aggregate(queries, memory, temperature=0.1, block_size=2).sum()

    for function, products in ((total, 2), (jax.grad(total, (0, 1)), 7)):
        program = str(jax.make_jaxpr(function)(*shapes))
        assert program.count("dot_general") == products
        assert program.count("Precision.HIGHEST") == 2 * products, "of both operands"


def test_a_sweep_of_temperatures_compiles_once(rng):
    queries, memory = vectors(rng, query=7)
    before = soft_aggregate._cache_size()
    for temperature in (0.1, 0.2, 0.5):
        soft_aggregate(queries, memory, temperature=temperature)
    assert soft_aggregate._cache_size() == before + 1


@pytest.mark.parametrize("aggregate", [partial(soft_aggregate, temperature=0.1), argmax_aggregate])
def test_shapes_that_do_not_match_are_refused(rng, aggregate):
    queries, memory = vectors(rng)
    with pytest.raises(Exception, match="dim"):
        aggregate(queries[:, 1:], memory)
    with pytest.raises(Exception, match="item"):
        aggregate(queries, memory, where=np.ones(ITEM - 1, bool))


# --- the nearest item, and any -----------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    where=st.lists(st.booleans(), min_size=ITEM, max_size=ITEM),
    block_size=st.sampled_from([None, 4, 64]),
)
def test_the_nearest_item_is_that_of_the_largest_similarity(seed, where, block_size):
    queries, memory = vectors(np.random.default_rng(seed))
    where = np.array(where)
    ours = argmax_aggregate(queries, memory, block_size=block_size, where=where)
    if not where.any():
        np.testing.assert_array_equal(ours, 0)
        return
    scores = np.where(where, queries.astype(np.float64) @ memory.T.astype(np.float64), -np.inf)
    np.testing.assert_array_equal(ours, memory[scores.argmax(1)])


@pytest.mark.parametrize("block_size", [None, 4])
def test_the_nearest_of_equal_items_is_the_first_and_it_alone_gets_the_gradient(rng, block_size):
    queries, memory = vectors(rng)
    same = np.tile(memory[:1], (ITEM, 1))
    where = np.arange(ITEM) > 2

    def total(queries, memory):
        return argmax_aggregate(queries, memory, block_size=block_size, where=where).sum()

    to_queries, to_memory = jax.grad(total, (0, 1))(queries, same)
    np.testing.assert_array_equal(to_queries, 0)
    np.testing.assert_array_equal(to_memory, QUERY * (np.arange(ITEM) == 3)[:, None] * np.ones(DIM))


def test_any_item_that_counts_is_equally_likely(rng):
    memory = np.arange(4, dtype=np.float32)[:, None]
    where = np.array([True, False, True, True])
    drawn = random_aggregate(
        np.zeros((6000, 1), np.float32), memory, key=jax.random.key(0), where=where
    )
    counts = np.bincount(np.asarray(drawn)[:, 0].astype(int), minlength=4)
    assert counts[1] == 0
    assert (abs(counts[where] - 2000) < 4 * np.sqrt(6000 * 2 / 9)).all()


def test_a_draw_depends_on_the_key_and_the_place_alone(rng):
    queries, memory = vectors(rng, query=64, item=50)
    drawn = random_aggregate(queries, memory, key=jax.random.key(1))
    fewer = random_aggregate(-queries[:7], memory, key=jax.random.key(1))
    np.testing.assert_array_equal(fewer, drawn[:7])
    assert (random_aggregate(queries, memory, key=jax.random.key(2)) != drawn).any()


def test_hard_choices_of_an_empty_memory_are_zero_and_halves_become_float32(rng):
    queries, memory = vectors(rng)
    for choose in (argmax_aggregate, partial(random_aggregate, key=jax.random.key(0))):
        np.testing.assert_array_equal(choose(queries, memory[:0]), np.zeros_like(queries))
        nothing = choose(queries, memory, where=np.zeros(ITEM, bool))
        np.testing.assert_array_equal(nothing, np.zeros_like(queries))
        half = choose(queries, memory.astype(np.float16))
        assert half.dtype == jnp.float32
        for row in np.asarray(half):
            assert (row == memory.astype(np.float16)).all(1).any()
