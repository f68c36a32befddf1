"""InfoNCE and fine-coarse InfoNCE against loops, reference files, finite differences and limits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from unirep_jax import losses

HALVES = [jnp.bfloat16, jnp.float16]


def loop_info_nce(queries, keys, temperature, where=None):
    """The equation in float64, one query at a time."""
    queries, keys = np.asarray(queries, np.float64), np.asarray(keys, np.float64)
    where = np.ones(len(queries), bool) if where is None else np.asarray(where)
    result = np.zeros(len(queries))
    for i in np.flatnonzero(where):
        logits = np.array([queries[i] @ keys[j] / temperature for j in np.flatnonzero(where)])
        own = queries[i] @ keys[i] / temperature
        result[i] = np.log(np.exp(logits - logits.max()).sum()) + logits.max() - own
    return result


def directions(vectors):
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norm > 0, norm, 1)


def loop_fine_coarse(features, temperature, mask=None, where=None, cosine=False):
    """Equations 4 and 5 in float64: every pair, sample and step in turn."""
    features = np.asarray(features, np.float64)
    modality, batch = features.shape[:2]
    mask = np.ones(features.shape) if mask is None else np.broadcast_to(mask, features.shape)
    where = np.ones((modality, batch), bool) if where is None else np.asarray(where)
    queries = features * mask
    compared = directions if cosine else (lambda vectors: vectors)
    fine, coarse = np.zeros((2, modality, modality, batch))
    for m in range(modality):
        for n in range(modality):
            both = where[m] & where[n]
            for i in np.flatnonzero(both):
                query, key = compared(queries[m, i]), compared(features[n, i])
                fine[m, n, i] = loop_info_nce(query, key, temperature).mean()
            query, key = compared(queries[m].mean(1)), compared(features[n].mean(1))
            for i in np.flatnonzero(both):
                logits = np.array([query[i] @ key[j] for j in np.flatnonzero(where[n])])
                logits /= temperature
                shifted = np.log(np.exp(logits - logits.max()).sum()) + logits.max()
                coarse[m, n, i] = shifted - query[i] @ key[i] / temperature
    return losses.FineCoarse(fine, coarse)


def pair(rng, batch, dim):
    return (jnp.asarray(rng.normal(size=(batch, dim)), jnp.float32) for _ in range(2))


@functools.partial(jax.jit, static_argnames="block_size")
def info_nce_and_gradient(queries, keys, temperature, where=None, block_size=None):
    def loss(queries, keys, temperature):
        values = losses.info_nce(
            queries, keys, temperature=temperature, where=where, block_size=block_size
        )
        return losses.masked_mean(values, where), values

    gradient, values = jax.grad(loss, (0, 1, 2), has_aux=True)(queries, keys, temperature)
    return values, gradient


def fine_coarse_sum(features, **settings):
    return sum(jnp.sum(values) for values in losses.fine_coarse_info_nce(features, **settings))


fine_coarse_and_gradient = jax.jit(jax.value_and_grad(fine_coarse_sum), static_argnames="cosine")


def assert_finite(tree):
    assert all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in jax.tree.leaves(tree))


def test_unit_has_length_one_for_tiny_and_huge_vectors_and_a_zero_vector_stays_zero():
    vectors = jnp.array([[3.0, 4.0], [3e-30, 4e-30], [3e30, 4e30], [0.0, 0.0]])
    expected = [[0.6, 0.8]] * 3 + [[0.0, 0.0]]
    np.testing.assert_allclose(losses.unit(vectors), expected, rtol=1e-6)
    np.testing.assert_array_equal(jax.grad(lambda v: losses.unit(v).sum())(vectors)[3], [0, 0])


def test_unit_does_not_pass_a_nan_for_a_zero():
    assert np.isnan(losses.unit(jnp.array([[jnp.nan, 1.0]]))).all()


def test_unit_has_the_gradient_of_its_finite_differences(x64, rng):
    check_grads(losses.unit, (jnp.asarray(rng.normal(size=(3, 4))),), order=1, modes=["rev"])


# --- InfoNCE -----------------------------------------------------------------------------------


@pytest.mark.parametrize("block_size", [None, 8, 33])
def test_info_nce_agrees_with_the_reference_file(oracle, block_size):
    reference = oracle("info_nce")
    settings = {"temperature": float(reference["temperature"]), "block_size": block_size}
    inputs = reference["queries"], reference["keys"]
    np.testing.assert_allclose(losses.info_nce(*inputs, **settings), reference["loss"], rtol=2e-5)
    masked = losses.info_nce(*inputs, where=reference["where"], **settings)
    np.testing.assert_allclose(
        np.asarray(masked)[reference["where"]],
        reference["loss_where"][reference["where"]],
        rtol=2e-5,
    )
    assert not np.asarray(masked)[~reference["where"]].any()


@settings(max_examples=8, deadline=None)
@given(
    batch=st.integers(1, 9),
    dim=st.integers(1, 5),
    block_size=st.one_of(st.none(), st.integers(1, 12)),
    temperature=st.sampled_from([0.05, 1.0, 7.0]),
    seed=st.integers(0, 2**16),
)
def test_info_nce_is_the_loop_for_any_shape_mask_and_block(
    batch, dim, block_size, temperature, seed
):
    rng = np.random.default_rng(seed)
    queries, keys = pair(rng, batch, dim)
    where = jnp.asarray(rng.random(batch) > 0.3)
    ours = losses.info_nce(
        queries, keys, temperature=temperature, where=where, block_size=block_size
    )
    expected = loop_info_nce(queries, keys, temperature, where)
    np.testing.assert_allclose(ours, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("block_size", [None, 3])
def test_info_nce_has_the_gradient_of_its_finite_differences(x64, rng, block_size):
    queries, keys = (jnp.asarray(rng.normal(size=(5, 4))) for _ in range(2))
    where = jnp.array([True, True, False, True, True])

    @jax.jit
    def loss(queries, keys, temperature):
        return losses.info_nce(
            queries, keys, temperature=temperature, where=where, block_size=block_size
        )

    check_grads(loss, (queries, keys, jnp.asarray(0.7)), order=1, modes=["rev"])


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_info_nce_in_blocks_has_the_value_and_gradient_of_the_dense_form(rng, temperature):
    queries, keys = (losses.unit(v) for v in pair(rng, 37, 16))
    where = jnp.asarray(rng.random(37) > 0.2)
    dense = info_nce_and_gradient(queries, keys, temperature, where)
    blocked = info_nce_and_gradient(queries, keys, temperature, where, block_size=8)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), dense, blocked
    )


def test_info_nce_in_blocks_never_holds_the_square_matrix():
    batch, dim, block_size = 2048, 8, 64
    shape = jax.ShapeDtypeStruct((batch, dim), jnp.float32)

    def compiled(block_size):
        def loss(queries, keys):
            return losses.info_nce(queries, keys, temperature=0.1, block_size=block_size).sum()

        return jax.jit(jax.value_and_grad(loss, (0, 1))).lower(shape, shape).compile()

    square = f"[{batch},{batch}]"
    dense, blocked = compiled(None), compiled(block_size)
    assert square in dense.as_text()  # else the next line would hold of anything
    assert square not in blocked.as_text()
    assert f"[{batch},{block_size}]" in blocked.as_text()
    assert dense.memory_analysis().temp_size_in_bytes > batch * batch * 4
    assert blocked.memory_analysis().temp_size_in_bytes < batch * batch * 4 / 4


@pytest.mark.parametrize("block_size", [None, 3])
def test_info_nce_of_removed_rows_is_that_of_the_rest_even_if_they_hold_nan(rng, block_size):
    inputs = list(pair(rng, 7, 4))
    where = np.array([1, 0, 1, 1, 0, 1, 1], bool)
    rest, holes = [v[where] for v in inputs], [v.at[~where].set(jnp.nan) for v in inputs]
    values, expected = info_nce_and_gradient(*rest, 0.5, block_size=block_size)
    got_values, got = info_nce_and_gradient(*holes, 0.5, jnp.asarray(where), block_size=block_size)
    np.testing.assert_allclose(got_values[where], values, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(got_values[~where], 0)
    for ours, theirs in zip(got[:2], expected[:2], strict=True):
        np.testing.assert_allclose(ours[where], theirs, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(ours[~where], 0)


def test_info_nce_follows_a_permutation_of_the_batch_and_ignores_a_rotation(rng):
    queries, keys = pair(rng, 9, 6)
    order = rng.permutation(9)
    rotation = jnp.asarray(np.linalg.qr(rng.normal(size=(6, 6)))[0], jnp.float32)
    loss = losses.info_nce(queries, keys, temperature=0.3)
    permuted = losses.info_nce(queries[order], keys[order], temperature=0.3)
    rotated = losses.info_nce(queries @ rotation, keys @ rotation, temperature=0.3)
    np.testing.assert_allclose(permuted, loss[order], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(rotated, loss, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block_size", [None, 4])
@pytest.mark.parametrize("where", [None, [False] * 6, [False, False, True, False, False, False]])
def test_info_nce_is_finite_and_zero_where_there_is_nothing_to_compare(rng, where, block_size):
    queries, keys = pair(rng, 1 if where is None else 6, 512)
    where = None if where is None else jnp.array(where)
    values, gradient = info_nce_and_gradient(queries, keys, 1e-3, where, block_size=block_size)
    np.testing.assert_allclose(values, 0, atol=0 if block_size is None else 0.05)
    assert_finite(gradient)


@pytest.mark.parametrize("dtype", [jnp.float32, *HALVES])
@pytest.mark.parametrize("block_size", [None, 16])
def test_info_nce_of_huge_logits_is_finite_and_not_negative(rng, dtype, block_size):
    queries = next(pair(rng, 64, 128)).astype(dtype)
    values, gradient = info_nce_and_gradient(queries, queries, 1e-3, block_size=block_size)
    assert values.dtype == jnp.float32
    assert values.min() >= (0 if block_size is None else -0.05)  # rounding of logits near 1e5
    assert values.max() < 0.05  # each query is its own key, and by far the nearest
    assert_finite(gradient)


@pytest.mark.parametrize("dtype", HALVES)
def test_info_nce_reads_half_precision_and_accumulates_in_float32(rng, dtype):
    queries, keys = (v.astype(dtype) for v in pair(rng, 12, 64))
    ours = losses.info_nce(queries, keys, temperature=0.5)
    np.testing.assert_allclose(ours, loop_info_nce(queries, keys, 0.5), rtol=1e-4, atol=1e-4)


def test_info_nce_keeps_losses_far_below_the_rounding_of_its_logits():
    queries = jnp.array([[1000.0, 0.0], [0.0, 1000.0]])
    keys = jnp.array([[1.0, 0.99], [0.99, 1.0]])
    np.testing.assert_allclose(losses.info_nce(queries, keys, temperature=1), 4.54e-5, rtol=1e-2)


def test_info_nce_takes_integer_temperatures_and_compiles_once_over_a_sweep(rng):
    queries, keys = pair(rng, 13, 3)
    np.testing.assert_allclose(
        losses.info_nce(queries, keys, temperature=2),
        losses.info_nce(queries, keys, temperature=2.0),
    )
    before = losses.info_nce._cache_size()
    for temperature in (0.03, 0.5, 4.0):
        losses.info_nce(queries, keys, temperature=temperature)
    assert losses.info_nce._cache_size() == before


def test_info_nce_refuses_unpaired_rows_and_other_widths(rng):
    queries, _ = pair(rng, 6, 4)
    for keys in (queries[:5], queries[:, :3]):
        with pytest.raises(Exception, match="keys"):
            losses.info_nce(queries, keys, temperature=1.0)


# --- fine and coarse ---------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["dot", "cosine"])
def test_fine_coarse_agrees_with_the_reference_file(oracle, form):
    reference = oracle(f"fine_coarse_{form}")
    result = losses.fine_coarse_info_nce(
        reference["features"],
        temperature=float(reference["temperature"]),
        mask=reference["keep"][None, :, :, None],
        cosine=form == "cosine",
    )
    np.testing.assert_allclose(result.fine.mean(-1), reference["fine"], rtol=2e-5)
    np.testing.assert_allclose(result.coarse.mean(-1), reference["coarse"], rtol=2e-5)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("shape", [(1, 4, 3, 1), (1, 4, 1, 5), (3, 4, 3, 5)])
def test_fine_coarse_is_the_loop_for_every_kind_of_mask(rng, shape, cosine):
    features = jnp.asarray(rng.normal(size=(3, 4, 3, 5)), jnp.float32)
    mask = jnp.asarray(rng.random(shape) > 0.4)
    where = jnp.asarray([[1, 1, 0, 1], [1, 1, 1, 1], [0, 1, 0, 0]], bool)
    settings = {"temperature": 0.5, "mask": mask, "where": where, "cosine": cosine}
    ours = losses.fine_coarse_info_nce(features, **settings)
    expected = loop_fine_coarse(features, **settings)
    np.testing.assert_allclose(ours.fine, expected.fine, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.coarse, expected.coarse, rtol=1e-4, atol=1e-5)


@settings(max_examples=5, deadline=None)
@given(
    shape=st.tuples(*(st.integers(1, 4) for _ in range(4))),
    cosine=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_fine_coarse_is_the_loop_for_any_shape(shape, cosine, seed):
    rng = np.random.default_rng(seed)
    features = jnp.asarray(rng.normal(size=shape), jnp.float32)
    where = jnp.asarray(rng.random(shape[:2]) > 0.3)
    settings = {"temperature": 0.4, "where": where, "cosine": cosine}
    ours = losses.fine_coarse_info_nce(features, **settings)
    expected = loop_fine_coarse(features, **settings)
    np.testing.assert_allclose(ours.fine, expected.fine, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(ours.coarse, expected.coarse, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("cosine", [False, True])
def test_fine_coarse_has_the_gradient_of_its_finite_differences(x64, rng, cosine):
    features = jnp.asarray(rng.normal(size=(2, 3, 2, 3)))
    mask = jnp.asarray(rng.random((1, 3, 1, 3)) > 0.3)
    where = jnp.array([[True, True, False], [True, True, True]])

    @jax.jit
    def loss(features, temperature):
        return fine_coarse_sum(
            features, temperature=temperature, mask=mask, where=where, cosine=cosine
        )

    check_grads(loss, (features, jnp.asarray(0.6)), order=1, modes=["rev"])


def test_fine_coarse_without_an_absent_modality_is_that_of_the_others_even_if_it_holds_nan(rng):
    features = jnp.asarray(rng.normal(size=(3, 4, 3, 5)), jnp.float32)
    where = jnp.array([[True] * 4, [False] * 4, [True] * 4])
    keep = np.array([0, 2])
    settings = {"temperature": 0.5, "cosine": True}
    expected, expected_gradient = fine_coarse_and_gradient(features[keep], **settings)
    holes = features.at[1].set(jnp.nan)
    got, gradient = fine_coarse_and_gradient(holes, where=where, **settings)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient[keep], expected_gradient, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(gradient[1], 0)


def test_fine_coarse_of_a_query_masked_to_zero_is_log_of_the_keys_without_gradient(rng):
    features = jnp.asarray(rng.normal(size=(1, 4, 3, 5)), jnp.float32)
    mask = jnp.ones((1, 4, 1, 1), bool).at[0, 2].set(False)
    settings = {"temperature": 0.5, "mask": mask, "cosine": True}
    result = losses.fine_coarse_info_nce(features, **settings)
    np.testing.assert_allclose(result.fine[0, 0, 2], np.log(3), rtol=1e-6)
    np.testing.assert_allclose(result.coarse[0, 0, 2], np.log(4), rtol=1e-6)
    gradient = jax.grad(lambda f: losses.fine_coarse_info_nce(f, **settings).fine[0, 0, 2])(
        features
    )
    np.testing.assert_array_equal(gradient, 0)


DEGENERATE = {
    "every modality absent": lambda f: (f, jnp.zeros((2, 3), bool)),
    "all vectors zero": lambda f: (jnp.zeros_like(f), None),
    "one row, one step": lambda f: (f[:, :1, :1], None),
    "identical vectors": lambda f: (jnp.ones_like(f), None),
    "huge": lambda f: (f * 1e4, None),
    "bfloat16": lambda f: (f.astype(jnp.bfloat16), None),
    "float16": lambda f: (f.astype(jnp.float16), None),
}


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("case", DEGENERATE.values(), ids=DEGENERATE.keys())
def test_fine_coarse_is_finite_in_value_and_gradient_at_every_degenerate_point(rng, case, cosine):
    features, where = case(jnp.asarray(rng.normal(size=(2, 3, 2, 4)), jnp.float32))
    value, gradient = fine_coarse_and_gradient(
        features, temperature=1e-3, where=where, cosine=cosine
    )
    assert value.dtype == jnp.float32
    assert value >= 0
    assert_finite((value, gradient))


@pytest.mark.parametrize("dtype", HALVES)
def test_fine_coarse_of_half_precision_is_that_of_the_same_numbers_in_float32(rng, dtype):
    features = jnp.asarray(rng.normal(size=(2, 3, 4, 8)), dtype)
    half = losses.fine_coarse_info_nce(features, temperature=0.5)
    full = losses.fine_coarse_info_nce(features.astype(jnp.float32), temperature=0.5)
    np.testing.assert_allclose(jnp.stack(half), jnp.stack(full), rtol=1e-5, atol=1e-6)


def test_fine_coarse_ignores_the_length_of_vectors_only_when_asked_for_cosines(rng):
    features = jnp.asarray(rng.normal(size=(2, 4, 1, 5)), jnp.float32)
    scaled = features * jnp.asarray(rng.uniform(0.1, 10, size=(2, 4, 1, 1)), jnp.float32)
    for cosine in (True, False):
        before, after = (
            losses.fine_coarse_info_nce(f, temperature=0.5, cosine=cosine).coarse
            for f in (features, scaled)
        )
        assert np.allclose(before, after, rtol=1e-4, atol=1e-5) == cosine


def test_fine_coarse_compiles_once_over_a_sweep_of_temperatures(rng):
    features = jnp.asarray(rng.normal(size=(2, 5, 2, 3)), jnp.float32)
    losses.fine_coarse_info_nce(features, temperature=0.3)
    before = losses.fine_coarse_info_nce._cache_size()
    for t in (0.1, 0.7, 2.0):
        losses.fine_coarse_info_nce(features, temperature=t)
    assert losses.fine_coarse_info_nce._cache_size() == before
