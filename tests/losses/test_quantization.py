"""Quantisation kernels against loops, the reference file, and every way a codebook can be empty."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from unirep_jax import losses

HALVES = [jnp.bfloat16, jnp.float16]


def loop_nearest(z, codebook):
    z, codebook = np.asarray(z, np.float64), np.asarray(codebook, np.float64)
    distance = [[((row - code) ** 2).sum() for code in codebook] for row in z]
    return np.argmin(distance, axis=1)


def loop_ema(state, z, indices, decay=0.99, epsilon=1e-5, where=None, share=0.5):
    """The update in float64, token by token; absent tokens are skipped."""
    count, weight = np.array(state.count, np.float64), np.array(state.weight, np.float64)
    z = np.asarray(z, np.float64)
    modality, token, _ = z.shape
    where = np.ones((modality, token), bool) if where is None else np.asarray(where)
    for m in np.flatnonzero(where.any(1)):
        new_count, new_weight = np.zeros_like(count), np.zeros_like(weight)
        for t in np.flatnonzero(where[m]):
            others = [z[n, t] for n in range(modality) if n != m and where[n, t]]
            mixed = (1 - share) * z[m, t] + share * np.mean(others, 0) if others else z[m, t]
            new_count[indices[m, t]] += 1
            new_weight[indices[m, t]] += mixed
        count = decay * count + (1 - decay) * new_count
        total = count.sum()
        count = (count + epsilon) / (total + len(count) * epsilon) * total
        weight = decay * weight + (1 - decay) * new_weight
    return count, weight


def state_of(rng, code, dim, counted=True):
    codebook = jnp.asarray(rng.normal(size=(code, dim)), jnp.float32)
    count = jnp.asarray(rng.uniform(1, 5, code) if counted else np.zeros(code), jnp.float32)
    weight = codebook * count[:, None] if counted else codebook
    return losses.CodebookState(codebook, count, weight, jnp.zeros(code, jnp.int32))


def assert_finite(tree):
    assert all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in jax.tree.leaves(tree))


# --- nearest code, straight through, commitment ------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 8), st.integers(0, 2**16))
def test_nearest_code_is_the_loop_for_any_shape(token, code, dim, seed):
    rng = np.random.default_rng(seed)
    z = jnp.asarray(rng.normal(size=(token, dim)), jnp.float32)
    codebook = jnp.asarray(rng.normal(size=(code, dim)), jnp.float32)
    np.testing.assert_array_equal(losses.nearest_code(z, codebook), loop_nearest(z, codebook))


def test_nearest_code_keeps_leading_axes_and_gives_the_same_index_to_each_row(rng):
    z = jnp.asarray(rng.normal(size=(2, 3, 4, 5)), jnp.float32)
    codebook = jnp.asarray(rng.normal(size=(7, 5)), jnp.float32)
    indices = losses.nearest_code(z, codebook)
    assert indices.shape == (2, 3, 4)
    assert indices.dtype == jnp.int32
    np.testing.assert_array_equal(
        indices.reshape(-1), losses.nearest_code(z.reshape(-1, 5), codebook)
    )


def test_nearest_code_of_equal_codes_is_the_lowest_index(rng):
    codebook = jnp.asarray(rng.normal(size=(16, 8)), jnp.float32)
    z = jnp.asarray(rng.normal(size=(50, 8)), jnp.float32)
    single = losses.nearest_code(z, codebook)
    doubled = losses.nearest_code(z, jnp.concatenate([codebook, codebook]))
    np.testing.assert_array_equal(doubled, single)
    np.testing.assert_array_equal(losses.nearest_code(z, jnp.zeros((5, 8))), 0)


@pytest.mark.parametrize("offset", [0.0, 100.0, 1000.0])
def test_nearest_code_does_not_depend_on_where_the_origin_is(rng, offset):
    z, codebook = rng.normal(size=(60, 64)), rng.normal(size=(40, 64))
    z, codebook = (np.asarray(v + offset, np.float32) for v in (z, codebook))
    np.testing.assert_array_equal(losses.nearest_code(z, codebook), loop_nearest(z, codebook))


@pytest.mark.parametrize("dtype", HALVES)
def test_nearest_code_reads_half_precision_exactly(rng, dtype):
    z = jnp.asarray(rng.normal(size=(40, 16)), dtype)
    codebook = jnp.asarray(rng.normal(size=(30, 16)), jnp.float32)
    np.testing.assert_array_equal(losses.nearest_code(z, codebook), loop_nearest(z, codebook))


@pytest.mark.parametrize("dtype", [jnp.float32, *HALVES])
def test_straight_through_is_exactly_the_code_with_the_gradient_of_the_feature(rng, dtype):
    z = jnp.asarray(rng.normal(size=(3, 4)) * 1e3, dtype)
    code = jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)
    value, pull = jax.vjp(losses.straight_through, z, code)
    assert value.dtype == dtype
    np.testing.assert_array_equal(value, code.astype(dtype))
    to_z, to_code = pull(jnp.full_like(value, 3))
    np.testing.assert_array_equal(np.asarray(to_z, np.float32), 3)
    np.testing.assert_array_equal(to_code, 0)


def test_commitment_is_the_mean_squared_distance_and_pulls_only_the_feature(x64, rng):
    z, code = (jnp.asarray(rng.normal(size=(3, 4))) for _ in range(2))
    expected = [
        sum((a - b) ** 2 for a, b in zip(u, v, strict=True)) / 4
        for u, v in zip(z, code, strict=True)
    ]
    np.testing.assert_allclose(losses.commitment_loss(z, code), expected, rtol=1e-12)
    check_grads(lambda z: losses.commitment_loss(z, code), (z,), order=1, modes=["rev"])
    pulled = jax.grad(lambda code: losses.commitment_loss(z, code).sum())(code)
    np.testing.assert_array_equal(pulled, 0)


@pytest.mark.parametrize("dtype", HALVES)
def test_commitment_of_half_precision_neither_overflows_nor_loses_its_dtype(dtype):
    z, code = jnp.full((2, 1000), 300, dtype), jnp.zeros((2, 1000), jnp.float32)
    value, pull = jax.vjp(losses.commitment_loss, z, code)
    np.testing.assert_allclose(value, 90_000)
    assert value.dtype == jnp.float32
    assert_finite(pull(jnp.ones_like(value)))


# --- EMA codebook ------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_the_other_modalities_is_any_from_none_to_all(rng, share):
    state = state_of(rng, code=5, dim=3)
    z = jnp.asarray(rng.normal(size=(3, 4, 3)), jnp.float32)
    indices = jnp.asarray(rng.integers(0, 5, (3, 4)), jnp.int32)
    where = jnp.asarray(rng.random((3, 4)) > 0.3)
    new = losses.ema_codebook_update(state, z, indices, decay=0.9, share=share, where=where)
    count, weight = loop_ema(state, z, indices, decay=0.9, where=where, share=share)
    np.testing.assert_allclose(new.count, count, rtol=1e-5)
    np.testing.assert_allclose(new.weight, weight, rtol=1e-5, atol=1e-6)


def test_the_codebook_update_agrees_with_the_reference_file(oracle):
    reference = oracle("multimodal_ema")
    z = np.stack([reference[f"features_{m}"] for m in "avt"])
    indices = np.stack([reference[f"index_{m}"] for m in "avt"]).astype(np.int32)
    codebook = reference["codebook"]
    state = losses.CodebookState(
        codebook, reference["count"], reference["weight"], np.zeros(len(codebook), np.int32)
    )
    np.testing.assert_array_equal(losses.nearest_code(z, codebook), indices)
    new = losses.ema_codebook_update(
        state, z, indices, decay=float(reference["decay"]), epsilon=float(reference["epsilon"])
    )
    np.testing.assert_allclose(new.count, reference["new_count"], rtol=1e-5)
    np.testing.assert_allclose(new.weight, reference["new_weight"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(new.codebook, reference["new_codebook"], rtol=1e-4, atol=1e-5)
    commitment = losses.commitment_loss(z, codebook[indices]).mean(-1)
    np.testing.assert_allclose(commitment, reference["commitment"], rtol=1e-5)


@settings(max_examples=8, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 7), st.integers(1, 6), st.booleans(), st.integers(0, 2**16)
)
def test_the_codebook_update_is_the_loop_for_any_shape_and_presence(
    modality, token, code, counted, seed
):
    rng = np.random.default_rng(seed)
    state = state_of(rng, code, 3, counted)
    z = jnp.asarray(rng.normal(size=(modality, token, 3)), jnp.float32)
    indices = jnp.asarray(rng.integers(0, code, (modality, token)), jnp.int32)
    where = jnp.asarray(rng.random((modality, token)) > 0.4)
    new = losses.ema_codebook_update(state, z, indices, decay=0.9, where=where)
    count, weight = loop_ema(state, z, np.asarray(indices), decay=0.9, where=where)
    np.testing.assert_allclose(new.count, count, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(new.weight, weight, rtol=1e-5, atol=1e-5)
    assert_finite(new)


def test_absent_features_leave_no_trace_even_if_they_hold_nan(rng):
    state = state_of(rng, 6, 4)
    z = jnp.asarray(rng.normal(size=(3, 5, 4)), jnp.float32)
    indices = jnp.asarray(rng.integers(0, 6, (3, 5)), jnp.int32)
    keep = np.array([0, 2])
    expected = losses.ema_codebook_update(state, z[keep], indices[keep])
    where = jnp.ones((3, 5), bool).at[1].set(False)
    got = losses.ema_codebook_update(state, z.at[1].set(jnp.nan), indices, where=where)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), got, expected)


@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("epsilon", [1e-5, 0.0])
def test_an_update_by_nothing_changes_no_code(rng, counted, epsilon):
    state = state_of(rng, 6, 4, counted)
    z = jnp.full((2, 5, 4), jnp.nan)
    new = losses.ema_codebook_update(
        state, z, jnp.zeros((2, 5), jnp.int32), epsilon=epsilon, where=jnp.zeros((2, 5), bool)
    )
    np.testing.assert_allclose(new.codebook, state.codebook, rtol=1e-6)
    np.testing.assert_array_equal(new.count, state.count)
    np.testing.assert_array_equal(new.age, 1)


def test_one_code_moves_towards_the_mean_of_all_that_choose_it(rng):
    state = state_of(rng, 1, 4, counted=False)
    z = jnp.asarray(rng.normal(size=(1, 9, 4)), jnp.float32)
    new = losses.ema_codebook_update(state, z, jnp.zeros((1, 9), jnp.int32), decay=0)
    np.testing.assert_allclose(new.codebook[0], z[0].mean(0), rtol=1e-5, atol=1e-6)
    assert new.count[0] == pytest.approx(9)


@pytest.mark.parametrize("dtype", HALVES)
def test_the_codebook_update_accumulates_half_precision_in_float32(rng, dtype):
    state = state_of(rng, 2, 3)
    z = jnp.asarray(rng.normal(size=(2, 600, 3)) + 10, dtype)
    indices = jnp.zeros((2, 600), jnp.int32)
    new = losses.ema_codebook_update(state, z, indices)
    count, weight = loop_ema(state, z, np.asarray(indices))
    assert {leaf.dtype for leaf in new[:3]} == {jnp.dtype(jnp.float32)}
    np.testing.assert_allclose(new.count, count, rtol=1e-5)
    np.testing.assert_allclose(new.weight, weight, rtol=1e-5)


def test_age_counts_the_updates_since_any_modality_chose_the_code(rng):
    state = state_of(rng, 4, 3)
    z = jnp.zeros((2, 1, 3))
    state = losses.ema_codebook_update(state, z, jnp.array([[0], [1]]))
    np.testing.assert_array_equal(state.age, [0, 0, 1, 1])
    state = losses.ema_codebook_update(state, z, jnp.array([[2], [2]]))
    np.testing.assert_array_equal(state.age, [1, 1, 0, 2])


def test_no_gradient_flows_from_the_codebook_to_the_features(rng):
    state = state_of(rng, 4, 3)._replace(age=jnp.full(4, 9))
    indices = jnp.zeros((2, 6), jnp.int32)

    def codes(z):
        new = losses.ema_codebook_update(state, z, indices)
        moved = losses.restart_dead_codes(
            new, z.reshape(2, 3, 2, 3), key=jax.random.key(0), patience=1
        )
        return sum(jnp.sum(leaf) for leaf in (*new[:3], *moved[:3]))

    z = jnp.asarray(rng.normal(size=(2, 6, 3)), jnp.float32)
    np.testing.assert_array_equal(jax.grad(codes)(z), 0)


def test_the_codebook_update_compiles_once_over_a_sweep_of_decays(rng):
    state, z = state_of(rng, 4, 3), jnp.zeros((2, 6, 3))
    losses.ema_codebook_update(state, z, jnp.zeros((2, 6), jnp.int32), decay=0.9)
    before = losses.ema_codebook_update._cache_size()
    for decay in (0.5, 0.99, 0.999):
        losses.ema_codebook_update(state, z, jnp.zeros((2, 6), jnp.int32), decay=decay)
    assert losses.ema_codebook_update._cache_size() == before


# --- restart -----------------------------------------------------------------------------------


def aged(rng, ages, dim=3):
    return state_of(rng, len(ages), dim)._replace(age=jnp.asarray(ages, jnp.int32))


def test_only_codes_older_than_patience_restart_and_each_onto_a_feature(rng):
    state = aged(rng, [0, 5, 6, 99])
    z = jnp.asarray(rng.normal(size=(2, 3, 4, 3)), jnp.float32)
    new = losses.restart_dead_codes(state, z, key=jax.random.key(1), patience=5)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:2], b[:2]), new, state)
    features = {tuple(row) for row in np.asarray(z).reshape(-1, 3)}
    assert all(tuple(code) in features for code in np.asarray(new.codebook[2:]))
    np.testing.assert_array_equal(new.weight[2:], new.codebook[2:])
    np.testing.assert_array_equal(new.count[2:], 1)
    np.testing.assert_array_equal(new.age[2:], 0)


def test_a_restart_survives_the_next_update(rng):
    state = aged(rng, [0, 0, 9, 9])
    # The averages of dead codes have all but vanished, as they do in training.
    state = state._replace(count=state.count.at[2:].set(1e-5), weight=state.weight.at[2:].set(1e-9))
    z = jnp.asarray(rng.normal(size=(2, 3, 4, 3)), jnp.float32)
    restarted = losses.restart_dead_codes(state, z, key=jax.random.key(1), patience=5)
    unused = losses.ema_codebook_update(
        restarted, z.reshape(2, 12, 3), jnp.zeros((2, 12), jnp.int32)
    )
    assert np.abs(restarted.codebook[2:]).max() > 0.1
    np.testing.assert_allclose(unused.codebook[2:], restarted.codebook[2:], rtol=1e-3)


def test_a_restart_draws_only_present_features_and_reaches_all_of_them(rng):
    state = aged(rng, [9] * 300)
    where = jnp.array([[True, False], [False, True]])
    z = jnp.where(where[..., None, None], jnp.arange(8.0).reshape(2, 2, 2, 1), jnp.nan)
    z = jnp.broadcast_to(z, (2, 2, 2, 3))
    new = losses.restart_dead_codes(state, z, key=jax.random.key(2), patience=0, where=where)
    moved = np.asarray(new.age == 0)
    assert set(np.asarray(new.codebook)[moved, 0]) == {0.0, 1.0, 6.0, 7.0}
    assert 0.3 < moved.mean() < 0.7  # the others drew an absent feature, and wait
    np.testing.assert_array_equal(new.codebook[~moved], state.codebook[~moved])
    assert_finite(new)


def test_a_restart_from_nothing_changes_nothing(rng):
    state = aged(rng, [9, 9])
    z, where = jnp.full((2, 3, 1, 3), jnp.nan), jnp.zeros((2, 3), bool)
    new = losses.restart_dead_codes(state, z, key=jax.random.key(0), patience=0, where=where)
    jax.tree.map(np.testing.assert_array_equal, new, state)


@pytest.mark.parametrize("dtype", HALVES)
def test_a_restart_keeps_the_dtype_of_the_codebook_and_takes_any_patience(rng, dtype):
    state, z = aged(rng, [3, 4]), jnp.ones((1, 1, 1, 3), dtype)
    before = losses.restart_dead_codes._cache_size()
    for patience in (2, 3, 4):
        new = losses.restart_dead_codes(state, z, key=jax.random.key(0), patience=patience)
        np.testing.assert_array_equal(new.age == 0, state.age > patience)
        assert new.codebook.dtype == jnp.float32
    assert losses.restart_dead_codes._cache_size() == before + 1


# --- perplexity --------------------------------------------------------------------------------


def test_perplexity_is_the_exponential_of_the_entropy(x64, rng):
    counts = rng.integers(0, 9, size=(3, 7)).astype(np.float64)
    expected = []
    for row in counts:
        shares = [c / row.sum() for c in row if c > 0]
        expected.append(np.exp(-sum(p * np.log(p) for p in shares)))
    np.testing.assert_allclose(losses.perplexity(jnp.asarray(counts)), expected, rtol=1e-12)
    check_grads(losses.perplexity, (jnp.asarray(counts + 1),), order=1, modes=["rev"])


@pytest.mark.parametrize("dtype", [jnp.float32, *HALVES])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_perplexity_runs_from_one_to_the_number_of_codes_and_ignores_scale(scale, dtype):
    one = jnp.zeros(400, dtype).at[3].set(scale)
    np.testing.assert_allclose(losses.perplexity(one), 1, rtol=1e-5)
    np.testing.assert_allclose(losses.perplexity(jnp.full(400, scale, dtype)), 400, rtol=1e-4)


def test_perplexity_without_any_usage_is_one_with_a_finite_gradient():
    value, gradient = jax.value_and_grad(losses.perplexity)(jnp.zeros(5))
    assert value == 1
    np.testing.assert_array_equal(gradient, 0)
