"""Unranking against itertools and big integers; the jigsaw loss against explicit permuting."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from unirep_jax import losses


def rank_of(permutation):
    """Lexicographic rank by counting, in Python integers."""
    rank = 0
    for i, entry in enumerate(permutation):
        smaller = sum(later < entry for later in permutation[i + 1 :])
        rank += smaller * math.factorial(len(permutation) - 1 - i)
    return rank


# --- permutations ------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_unranking_lists_the_permutations_in_the_order_of_itertools(length):
    expected = list(itertools.permutations(range(length)))
    ranks = range(math.factorial(length))
    np.testing.assert_array_equal(losses.permutations_from_ranks(ranks, length), expected)
    traced = jax.jit(lambda r: losses.permutations_from_ranks(r, length))(jnp.array(ranks))
    np.testing.assert_array_equal(traced, expected)


@pytest.mark.parametrize("length", [4, 6, 8])
def test_unranking_agrees_with_the_reference_file(oracle, length):
    reference = oracle(f"permutations_{length}")
    for ranks in (reference["rank"], jnp.asarray(reference["rank"], jnp.int32)):
        table = losses.permutations_from_ranks(ranks, length)
        np.testing.assert_array_equal(table, reference["permutation"])


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_unranking_is_undone_by_ranking_up_to_twenty_four_pieces(data):
    length = data.draw(st.sampled_from([1, 7, 13, 21, 24]))  # 24! needs 80 bits
    rank = data.draw(st.integers(0, math.factorial(length) - 1))
    table = losses.permutations_from_ranks([0, rank, math.factorial(length) - 1], length)
    assert table.dtype == jnp.int32
    assert [rank_of(row) for row in table.tolist()] == [0, rank, math.factorial(length) - 1]


@pytest.mark.parametrize("ranks", [[0, 6], [-1], np.array([6]), jnp.array([6]), jnp.array([-1])])
def test_ranks_out_of_range_raise_and_are_named(ranks):
    with pytest.raises(ValueError, match=rf"rank ({'6' if max(ranks) > 0 else '-1'}) is not in"):
        losses.permutations_from_ranks(ranks, 3)


def test_a_rank_of_twenty_four_pieces_out_of_range_raises():
    with pytest.raises(ValueError, match="not in"):
        losses.permutations_from_ranks([math.factorial(24)], 24)


def test_fractional_ranks_raise_rather_than_round():
    for ranks in ([1.5], np.array([1.5])):
        with pytest.raises(TypeError):
            losses.permutations_from_ranks(ranks, 3)


def test_ranks_that_a_dtype_cannot_hold_raise_also_while_tracing():
    losses.permutations_from_ranks(jnp.array([math.factorial(12) - 1]), 12)
    with pytest.raises(ValueError, match="Python integers"):
        jax.jit(lambda r: losses.permutations_from_ranks(r, 13))(jnp.array([0]))
    with pytest.raises(ValueError, match="Python integers"):
        losses.permutations_from_ranks(jnp.array([0], jnp.int8), 6)


@pytest.mark.parametrize("length", [4, 8, 24])
def test_sampled_ranks_are_distinct_in_range_and_the_same_for_the_same_seed(length):
    ranks = losses.sample_ranks(7, 20, length)
    assert len(set(ranks)) == 20
    assert all(0 <= rank < math.factorial(length) for rank in ranks)
    assert ranks == losses.sample_ranks(7, 20, length)
    assert ranks != losses.sample_ranks(8, 20, length)
    table = losses.permutations_from_ranks(ranks, length)
    assert (jnp.sort(table, axis=1) == jnp.arange(length)[None]).all()


def test_all_ranks_can_be_sampled_but_not_one_more():
    assert sorted(losses.sample_ranks(0, 24, 4)) == list(range(24))
    with pytest.raises(ValueError, match="only 24 exist"):
        losses.sample_ranks(0, 25, 4)


def test_sampled_ranks_of_many_pieces_are_spread_over_the_whole_range():
    shares = np.array([rank / math.factorial(24) for rank in losses.sample_ranks(3, 400, 24)])
    assert np.histogram(shares, bins=4, range=(0, 1))[0].min() > 60  # 100 expected, ± 9


# --- loss --------------------------------------------------------------------------------------


def head(rng, width, hidden, classes, dtype=np.float32):
    return {
        "hidden_kernel": jnp.asarray(rng.normal(size=(width, hidden)) / width**0.5, dtype),
        "hidden_bias": jnp.asarray(rng.normal(size=hidden), dtype),
        "output_kernel": jnp.asarray(rng.normal(size=(hidden, classes)) / hidden**0.5, dtype),
        "output_bias": jnp.asarray(rng.normal(size=classes), dtype),
    }


def loop_jigsaw(pieces, permutations, **weights):
    """Every row permuted in turn, concatenated and classified, in float64."""
    weights = {name: np.asarray(value, np.float64) for name, value in weights.items()}
    result = []
    for row in np.asarray(pieces, np.float64):
        terms = []
        for label, permutation in enumerate(permutations):
            shuffled = np.concatenate([row[piece] for piece in permutation])
            hidden = shuffled @ weights["hidden_kernel"] + weights["hidden_bias"]
            logits = np.maximum(hidden, 0) @ weights["output_kernel"] + weights["output_bias"]
            shifted = logits - logits.max()
            terms.append(np.log(np.exp(shifted).sum()) - shifted[label])
        result.append(np.mean(terms))
    return np.array(result)


@functools.partial(jax.jit, static_argnames="block_size")
def loss_and_gradient(pieces, permutations, weights, block_size=None):
    def loss(pieces, weights):
        values = losses.jigsaw_loss(pieces, permutations, block_size=block_size, **weights)
        return values.mean(), values

    gradient, values = jax.grad(loss, (0, 1), has_aux=True)(pieces, weights)
    return values, gradient


@settings(max_examples=6, deadline=None)
@given(
    batch=st.integers(1, 5),
    length=st.integers(1, 4),
    width=st.integers(1, 3),
    block_size=st.one_of(st.none(), st.integers(1, 6)),
    seed=st.integers(0, 2**16),
)
def test_jigsaw_loss_is_the_loop_over_itertools(batch, length, width, block_size, seed):
    rng = np.random.default_rng(seed)
    permutations = list(itertools.permutations(range(length)))
    weights = head(rng, length * width, 5, len(permutations))
    pieces = jnp.asarray(rng.normal(size=(batch, length, width)), jnp.float32)
    table = losses.permutations_from_ranks(range(len(permutations)), length)
    ours = losses.jigsaw_loss(pieces, table, block_size=block_size, **weights)
    expected = loop_jigsaw(pieces, permutations, **weights)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_jigsaw_loss_over_the_pieces_of_all_modalities_names_one_permutation_of_them_all(rng):
    modality, chunk, width, classes = 3, 4, 2, 9
    length = modality * chunk  # 12! orders: never enumerated
    table = losses.permutations_from_ranks(losses.sample_ranks(0, classes, length), length)
    features = rng.normal(size=(modality, 5, chunk * width))
    pieces = features.reshape(modality, 5, chunk, width).swapaxes(0, 1).reshape(5, length, width)
    pieces, weights = jnp.asarray(pieces, jnp.float32), head(rng, length * width, 6, classes)
    ours = losses.jigsaw_loss(pieces, table, **weights)
    np.testing.assert_allclose(ours, loop_jigsaw(pieces, table.tolist(), **weights), rtol=1e-5)


@pytest.mark.parametrize("block_size", [None, 2])
def test_jigsaw_loss_has_the_gradient_of_its_finite_differences(x64, rng, block_size):
    weights = head(rng, 6, 5, 4, np.float64)
    table = losses.permutations_from_ranks([0, 2, 3, 5], 3)

    @jax.jit
    def loss(pieces, weights):
        return losses.jigsaw_loss(pieces, table, block_size=block_size, **weights)

    check_grads(loss, (jnp.asarray(rng.normal(size=(3, 3, 2))), weights), order=1, modes=["rev"])


@pytest.mark.parametrize("block_size", [1, 4, 7, 20])
def test_jigsaw_loss_in_blocks_has_the_value_and_gradient_of_the_dense_form(rng, block_size):
    weights = head(rng, 12, 16, 10)
    table = losses.permutations_from_ranks(losses.sample_ranks(0, 10, 4), 4)
    pieces = jnp.asarray(rng.normal(size=(7, 4, 3)), jnp.float32)
    dense = loss_and_gradient(pieces, table, weights)
    blocked = loss_and_gradient(pieces, table, weights, block_size=block_size)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), dense, blocked
    )


def test_jigsaw_loss_in_blocks_holds_one_block_of_hidden_units_at_a_time():
    batch, classes, hidden, block_size = 128, 24, 64, 4
    weights = head(np.random.default_rng(0), 32, hidden, classes)
    table = losses.permutations_from_ranks(range(classes), 4)
    pieces = jnp.zeros((batch, 4, 8))

    def temporary(block_size):
        compiled = loss_and_gradient.lower(pieces, table, weights, block_size=block_size).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    everything = batch * classes * hidden * 4
    assert temporary(None) > everything
    assert temporary(block_size) < everything / 4


def test_jigsaw_loss_does_not_depend_on_the_order_of_the_classes(rng):
    weights = head(rng, 6, 5, 6)
    pieces = jnp.asarray(rng.normal(size=(4, 3, 2)), jnp.float32)
    table, order = losses.permutations_from_ranks(range(6), 3), rng.permutation(6)
    reordered = weights | {
        "output_kernel": weights["output_kernel"][:, order],
        "output_bias": weights["output_bias"][order],
    }
    np.testing.assert_allclose(
        losses.jigsaw_loss(pieces, table[order], **reordered),
        losses.jigsaw_loss(pieces, table, **weights),
        rtol=1e-5,
    )


@pytest.mark.parametrize("block_size", [None, 2])
def test_one_permutation_alone_costs_nothing(rng, block_size):
    pieces = jnp.asarray(rng.normal(size=(3, 4, 2)) * 1e3, jnp.float32)
    table = losses.permutations_from_ranks([5], 4)
    values, gradient = loss_and_gradient(pieces, table, head(rng, 8, 5, 1), block_size=block_size)
    np.testing.assert_array_equal(values, 0)
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(gradient))


def test_identical_pieces_cannot_be_told_apart(rng):
    pieces = jnp.ones((2, 3, 2))
    weights = head(rng, 6, 5, 6) | {"output_bias": jnp.zeros(6), "hidden_kernel": jnp.zeros((6, 5))}
    weights["output_kernel"] = jnp.zeros((5, 6))
    table = losses.permutations_from_ranks(range(6), 3)
    values, gradient = loss_and_gradient(pieces, table, weights)
    np.testing.assert_allclose(values, np.log(6), rtol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("scale", [0.0, 1e4])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_jigsaw_loss_is_finite_for_zero_and_huge_pieces_of_any_precision(rng, dtype, scale):
    weights = head(rng, 6, 5, 6, dtype)
    pieces = jnp.asarray(rng.uniform(-1, 1, size=(3, 3, 2)) * scale, dtype)
    table = losses.permutations_from_ranks(range(6), 3)
    values, gradient = loss_and_gradient(pieces, table, weights)
    assert values.dtype == jnp.float32
    np.testing.assert_allclose(
        values, loop_jigsaw(pieces, table.tolist(), **weights), rtol=1e-4, atol=1e-4
    )
    assert all(
        np.isfinite(np.asarray(leaf, np.float32)).all() for leaf in jax.tree.leaves(gradient)
    )


def test_jigsaw_loss_compiles_once_for_all_permutations_of_one_shape(rng):
    pieces, weights = jnp.zeros((2, 3, 2)), head(rng, 6, 5, 2)
    losses.jigsaw_loss(pieces, losses.permutations_from_ranks([0, 1], 3), **weights)
    before = losses.jigsaw_loss._cache_size()
    for ranks in ([2, 3], [4, 5]):
        losses.jigsaw_loss(pieces, losses.permutations_from_ranks(ranks, 3), **weights)
    assert losses.jigsaw_loss._cache_size() == before
