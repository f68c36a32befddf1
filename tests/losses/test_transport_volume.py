"""MOVER's transport-weighted volume and its groups against brute force over every tuple."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from scipy.special import logsumexp

from unirep_jax.losses import transport_volume
from unirep_jax.losses.multimarginal import multimarginal_plan
from unirep_jax.losses.transport import sinkhorn_plan
from unirep_jax.losses.transport_volume import (
    TransportGroups,
    sample_groups,
    top_groups,
    transport_volume_loss,
)
from unirep_jax.losses.volume import gram_volume

BATCH, DIM = 6, 5


def unit_vectors(rng, *shape):
    vectors = rng.normal(size=shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def random_plans(rng, pair, batch=BATCH):
    plans = rng.random((pair, batch, batch)) ** 3
    return (plans / plans.sum((1, 2), keepdims=True)).astype(np.float32)


def determinant_volume(group):
    group = np.asarray(group, np.float64)
    group = group / np.linalg.norm(group, axis=-1, keepdims=True)
    return np.sqrt(max(np.linalg.det(group @ group.T), 0))


def tuple_plan(plans):
    """The normalised product of 12, 13 and, if given, 23, over all tuples in float64."""
    plans = np.asarray(plans, np.float64)
    if len(plans) == 1:
        return plans[0] / plans[0].sum()
    full = plans[0][:, :, None] * plans[1][:, None, :]
    if len(plans) == 3:
        full = full * plans[2][None]
    return full / full.sum()


def brute_force(vectors, full):
    """Equation 8 with its terms gathered by anchor, times the number of anchors with mass."""
    result = np.zeros(full.shape[0])
    for index in itertools.product(*(range(n) for n in full.shape)):
        group = [vectors[m][i] for m, i in enumerate(index)]
        result[index[0]] += full[index] * determinant_volume(group)
    return result * (full.reshape(len(full), -1).sum(1) > 0).sum()


@jax.jit
def loss_and_gradient(vectors, matching):
    def total(vectors, matching):
        values = transport_volume_loss(vectors, matching)
        return values.sum(), values

    gradient, values = jax.grad(total, (0, 1), has_aux=True, allow_int=True)(vectors, matching)
    return values, gradient


# --- all tuples ----------------------------------------------------------------------------------


def test_loss_over_all_triples_agrees_with_the_reference_file(oracle):
    reference = oracle("transport_volume_k3")
    vectors = np.stack([reference[f"v{m}"] for m in (1, 2, 3)])
    anchors = np.stack([vectors[0], vectors[0]])
    plans = sinkhorn_plan(anchors, vectors[1:], epsilon=float(reference["epsilon"]), threshold=1e-5)
    np.testing.assert_allclose(plans.plan[0], reference["plan_12"], atol=1e-5)
    loss = transport_volume_loss(vectors, plans.plan).mean()
    np.testing.assert_allclose(loss, reference["loss"], rtol=1e-5)


@pytest.mark.parametrize(("modality", "pair"), [(2, 1), (3, 2), (3, 3)])
def test_loss_is_the_sum_over_every_tuple_and_lengths_do_not_matter(rng, modality, pair):
    vectors, plans = unit_vectors(rng, modality, BATCH, DIM), random_plans(rng, pair)
    values, _ = loss_and_gradient(vectors * 3, plans)
    np.testing.assert_allclose(values, brute_force(vectors, tuple_plan(plans)), rtol=1e-5)


@pytest.mark.parametrize(("modality", "pair"), [(2, 1), (3, 2), (3, 3)])
def test_gradients_of_vectors_and_plans_are_those_of_finite_differences(x64, rng, modality, pair):
    vectors = rng.normal(size=(modality, 4, 5))
    plans = random_plans(rng, pair, 4).astype(np.float64)
    check_grads(jax.jit(transport_volume_loss), (vectors, plans), order=1, modes=["rev"])


def test_removed_examples_have_no_loss_no_gradient_and_no_part_in_the_mean(rng):
    vectors, where = unit_vectors(rng, 3, BATCH, DIM), np.arange(BATCH) > 1
    anchors = np.stack([vectors[0]] * 2)
    marginals = (where[None], where[None])
    plans = sinkhorn_plan(anchors, vectors[1:], epsilon=0.2, marginals=marginals).plan
    values, gradient = loss_and_gradient(vectors, plans)
    kept = vectors[:, where]
    kept_plans = sinkhorn_plan(np.stack([kept[0]] * 2), kept[1:], epsilon=0.2).plan
    np.testing.assert_allclose(
        values[where], loss_and_gradient(kept, kept_plans)[0], rtol=1e-3, atol=1e-4
    )
    np.testing.assert_array_equal(values[~where], 0)
    np.testing.assert_array_equal(np.asarray(gradient[0])[:, ~where], 0)


@pytest.mark.parametrize("modality", [2, 3])
def test_collapse_gives_zero_loss_and_a_finite_gradient(rng, modality):
    vectors = np.broadcast_to(unit_vectors(rng, 1, BATCH, DIM), (modality, BATCH, DIM))
    everything_alike = np.broadcast_to(vectors[:, :1], vectors.shape)
    matched = np.stack([np.eye(BATCH, dtype=np.float32) / BATCH] * (modality - 1))
    nothing = np.zeros_like(matched)
    for group, plans in (
        (vectors, matched),
        (everything_alike, np.full_like(matched, BATCH**-2)),
        (unit_vectors(rng, modality, BATCH, DIM), nothing),
        (np.zeros_like(vectors), matched),
    ):
        values, gradient = loss_and_gradient(group, plans)
        np.testing.assert_array_equal(values, 0)
        assert all(np.isfinite(leaf).all() for leaf in gradient)


def test_positives_keep_their_digits_at_a_distance_of_a_millionth(rng):
    anchor = unit_vectors(rng, BATCH, DIM)
    noise = 1e-6 * unit_vectors(rng, 2, BATCH, DIM)
    vectors = np.stack([anchor, anchor + noise[0], anchor + noise[1]])
    plans = np.stack([np.eye(BATCH, dtype=np.float32) / BATCH] * 2)
    values, _ = loss_and_gradient(vectors, plans)
    np.testing.assert_allclose(values, gram_volume(np.moveaxis(vectors, 0, 1)), rtol=0.2)
    assert (values > 0).all()


def test_plans_that_do_not_fit_the_modalities_are_refused(rng):
    for modality, pair in ((3, 1), (2, 2), (4, 3)):
        with pytest.raises(ValueError, match="plans given for all tuples"):
            transport_volume_loss(unit_vectors(rng, modality, 4, DIM), random_plans(rng, pair, 4))


def test_the_triples_are_never_stored_in_the_backward_pass_either():
    batch = 128
    vectors = jax.ShapeDtypeStruct((3, batch, 8), jnp.float32)
    plans = jax.ShapeDtypeStruct((2, batch, batch), jnp.float32)

    def total(vectors, plans):
        return transport_volume_loss(vectors, plans).sum()

    compiled = jax.jit(jax.grad(total, (0, 1))).lower(vectors, plans).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * batch**3 / 4


def test_half_precision_vectors_give_a_float32_loss(rng):
    vectors, plans = unit_vectors(rng, 3, BATCH, DIM), random_plans(rng, 2)
    half = jnp.asarray(vectors, jnp.bfloat16)
    values, gradient = loss_and_gradient(half, plans)
    assert values.dtype == jnp.float32 and gradient[0].dtype == jnp.bfloat16
    np.testing.assert_allclose(values, brute_force(half, tuple_plan(plans)), rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    noise=st.sampled_from([0, 1e-6, 1e-3, 1]),
    sparse=st.booleans(),
    copies=st.integers(1, BATCH),
)
def test_any_input_is_close_to_the_sum_with_a_bounded_gradient(seed, noise, sparse, copies):
    rng = np.random.default_rng(seed)
    base = unit_vectors(rng, BATCH, DIM)
    base[:copies] = base[0]
    vectors = (base + noise * rng.normal(size=(3, BATCH, DIM))).astype(np.float32)
    plans = random_plans(rng, 2)
    plans *= (rng.random(plans.shape) < 0.5) if sparse else 1
    full = tuple_plan(plans + 0.0) if (plans[0].sum(1) @ plans[1].sum(1)) > 0 else None
    values, gradient = loss_and_gradient(vectors, plans)
    if full is not None:
        np.testing.assert_allclose(values, brute_force(vectors, full), atol=5e-3)
    assert np.isfinite(gradient[1]).all()
    shortest = np.linalg.norm(vectors, axis=-1).min()
    assert np.abs(gradient[0]).max() * shortest < 10 * BATCH


# --- the plan over triples -----------------------------------------------------------------------


def loop_multimarginal(vectors, epsilon, iterations=2000):
    """The multi-marginal Sinkhorn algorithm on the whole array of triples, in float64."""
    v = np.asarray(vectors, np.float64)
    cost = [((v[p][:, None] - v[q][None]) ** 2).sum(-1) for p, q in ((0, 1), (0, 2), (1, 2))]
    log_plan = -(cost[0][:, :, None] + cost[1][:, None, :] + cost[2][None]) / epsilon
    for _ in range(iterations):
        for axis in range(3):
            others = tuple(a for a in range(3) if a != axis)
            log_plan = log_plan - np.log(np.exp(log_plan).sum(others, keepdims=True) * len(v[0]))
    return np.exp(log_plan)


def tuples_of(result):
    """The plan over all triples, in float64."""
    first, second, third = np.asarray(result.log_factors, np.float64)
    return np.exp(first[:, :, None] + second[:, None, :] + third[None])


@pytest.mark.parametrize("epsilon", [0.3, 1.0])
def test_multimarginal_factors_multiply_to_the_plan_of_the_loop(rng, epsilon):
    vectors = unit_vectors(rng, 3, BATCH, DIM)
    result = multimarginal_plan(vectors, epsilon=epsilon, threshold=1e-5, iterations=2000)
    plan = tuples_of(result)
    assert result.converged
    np.testing.assert_allclose(plan, loop_multimarginal(vectors, epsilon), atol=1e-6)
    pairs = [plan.sum(2), plan.sum(1), plan.sum(0)]
    np.testing.assert_allclose(result.pairs, pairs, rtol=1e-4, atol=1e-9)
    values, _ = loss_and_gradient(vectors, result)
    np.testing.assert_allclose(values, brute_force(vectors, plan), rtol=1e-4)


def log_domain_multimarginal(vectors, epsilon, iterations):
    """The same iterations as the kernel's, in float64, with nothing that can underflow."""
    v = np.asarray(vectors, np.float64)
    cost = [((v[p][:, None] - v[q][None]) ** 2).sum(-1) for p, q in ((0, 1), (0, 2), (1, 2))]
    log_plan = -(cost[0][:, :, None] + cost[1][:, None, :] + cost[2][None]) / epsilon
    for _ in range(iterations):
        for axis in range(3):
            others = tuple(a for a in range(3) if a != axis)
            log_plan = log_plan - logsumexp(log_plan, others, keepdims=True) - np.log(len(v[0]))
    return np.exp(log_plan)


@pytest.mark.parametrize("epsilon", [0.02, 0.005, 0.001])
def test_multimarginal_plan_keeps_its_mass_at_every_epsilon_and_its_error_is_told(rng, epsilon):
    """Costs of unit vectors range over 4,000 epsilon, and exponentials over 80."""
    vectors = unit_vectors(rng, 3, 16, DIM)
    result = multimarginal_plan(vectors, epsilon=epsilon, threshold=0.0, iterations=100)
    plan = tuples_of(result)
    expected = log_domain_multimarginal(vectors, epsilon, 100)
    np.testing.assert_allclose(plan.sum(), 1, rtol=2e-3)  # rounding of logarithms in the thousands
    assert np.abs(plan - expected).sum() < {0.02: 1e-4, 0.005: 2e-3, 0.001: 0.02}[epsilon]
    error = sum(abs(plan.sum((a, b)) - 1 / 16).sum() for a, b in ((1, 2), (0, 2), (0, 1)))
    np.testing.assert_allclose(result.marginal_error, error, atol=3e-3)
    values, gradient = loss_and_gradient(vectors, result)
    assert np.isfinite(values).all() and np.isfinite(gradient[0]).all()
    np.testing.assert_allclose(np.mean(values), np.mean(brute_force(vectors, plan)), rtol=3e-3)


def test_the_loss_of_a_multimarginal_plan_has_the_gradient_of_its_products(rng):
    """Where factors are numbers, those of their exponentials as plans; also through the plan."""
    vectors = unit_vectors(rng, 3, BATCH, DIM)
    result = multimarginal_plan(vectors, epsilon=0.5, threshold=1e-6, iterations=2000)
    values, gradient = loss_and_gradient(vectors, result)
    plans = np.exp(result.log_factors)
    same, expected = loss_and_gradient(vectors, plans)
    np.testing.assert_allclose(values, same, rtol=1e-4)
    np.testing.assert_allclose(gradient[0], expected[0], rtol=1e-3, atol=1e-5)
    volumes = np.zeros((BATCH,) * 3)
    for index in itertools.product(range(BATCH), repeat=3):
        volumes[index] = determinant_volume([vectors[m, i] for m, i in enumerate(index)])
    by_tuple = BATCH * tuples_of(result) * volumes
    pairs = [by_tuple.sum(2), by_tuple.sum(1), by_tuple.sum(0)]
    np.testing.assert_allclose(gradient[1].log_factors, pairs, rtol=1e-3, atol=1e-5)


def test_multimarginal_plan_of_a_part_is_that_of_the_part_alone(rng):
    vectors, where = unit_vectors(rng, 3, BATCH, DIM), np.arange(BATCH) != 2
    hole = np.where(where[:, None], vectors, np.nan).astype(np.float32)
    whole = multimarginal_plan(hole, epsilon=0.3, where=where, threshold=1e-5)
    alone = multimarginal_plan(vectors[:, where], epsilon=0.3, threshold=1e-5)
    assert whole.converged and alone.converged
    values = transport_volume_loss(np.where(where[:, None], vectors, 0), whole)
    np.testing.assert_allclose(
        values[where], transport_volume_loss(vectors[:, where], alone), rtol=1e-3
    )
    assert values[2] == 0


def test_multimarginal_plan_of_triples_that_agree_is_the_identity_at_a_small_epsilon(rng):
    vectors = np.broadcast_to(unit_vectors(rng, 1, BATCH, 64), (3, BATCH, 64))
    result = multimarginal_plan(vectors, epsilon=0.02)
    assert result.converged
    np.testing.assert_allclose(np.diagonal(result.pairs[0]), 1 / BATCH, rtol=1e-3)
    nothing = multimarginal_plan(vectors, epsilon=0.1, where=np.zeros(BATCH, bool))
    np.testing.assert_array_equal(nothing.pairs, 0)
    np.testing.assert_array_equal(transport_volume_loss(vectors, nothing), 0)


# --- groups --------------------------------------------------------------------------------------


def test_hard_matching_takes_the_most_probable_partner_of_each_anchor(rng):
    plans = random_plans(rng, 3)
    groups = top_groups(plans)
    np.testing.assert_array_equal(groups.index[:, 0, 0], np.arange(BATCH))
    np.testing.assert_array_equal(groups.index[:, 0, 1:], plans.argmax(-1).T)
    np.testing.assert_allclose(groups.weight, 1, rtol=1e-6)
    vectors = unit_vectors(rng, 4, BATCH, DIM)
    expected = [
        determinant_volume([vectors[m, i] for m, i in enumerate(row)])
        for row in np.asarray(groups.index[:, 0])
    ]
    np.testing.assert_allclose(loss_and_gradient(vectors, groups)[0], expected, rtol=1e-5)


def test_top_matching_with_all_partners_is_the_sum_over_all_tuples_with_its_gradient(rng):
    vectors, plans = unit_vectors(rng, 3, BATCH, DIM), random_plans(rng, 2)
    plans /= BATCH * plans.sum(2, keepdims=True)  # rows of equal mass, as the groups weigh them
    exact = brute_force(vectors, tuple_plan(plans))
    groups = top_groups(plans, count=BATCH)
    assert groups.index.shape == (BATCH, BATCH**2, 3)
    values, gradient = loss_and_gradient(vectors, groups)
    np.testing.assert_allclose(values, exact, rtol=1e-5)
    np.testing.assert_allclose(
        gradient[0], loss_and_gradient(vectors, plans)[1][0], rtol=1e-4, atol=1e-5
    )


def test_top_matching_keeps_the_best_products_and_their_shares(rng):
    plans = random_plans(rng, 2)
    groups = top_groups(plans, count=2)
    assert isinstance(groups, TransportGroups) and groups.weight.shape == (BATCH, 4)
    for i in range(BATCH):
        best = [np.argsort(-plan[i])[:2] for plan in plans]
        share = np.array([[plans[0][i, j] * plans[1][i, m] for m in best[1]] for j in best[0]])
        np.testing.assert_allclose(groups.weight[i], (share / share.sum()).ravel(), rtol=1e-5)
        np.testing.assert_array_equal(
            groups.index[i, :, 1:], list(itertools.product(best[0], best[1]))
        )


def test_sampled_groups_estimate_the_sum_and_never_draw_what_has_no_mass(rng):
    vectors, plans = unit_vectors(rng, 3, BATCH, DIM), random_plans(rng, 2)
    plans[:, :, -1] = plans[:, :, 2] = 0
    plans /= BATCH * plans.sum(2, keepdims=True)
    groups = sample_groups(plans, key=jax.random.key(0), count=4000)
    assert not np.isin(groups.index[..., 1:], [2, BATCH - 1]).any()
    share = (np.asarray(groups.index[:, :, 1])[:, :, None] == np.arange(BATCH)).mean(1)
    np.testing.assert_allclose(share, BATCH * plans[0], atol=0.04)
    values, _ = loss_and_gradient(vectors, groups)
    np.testing.assert_allclose(values, brute_force(vectors, tuple_plan(plans)), atol=0.02)


def test_groups_of_an_anchor_without_mass_weigh_nothing(rng):
    plans = random_plans(rng, 2)
    plans[:, 3] = 0
    for groups in (
        top_groups(plans, count=2),
        sample_groups(plans, key=jax.random.key(1), count=5),
    ):
        np.testing.assert_allclose(groups.weight.sum(1), np.arange(BATCH) != 3, rtol=1e-6)
        assert ((groups.index >= 0) & (groups.index < BATCH)).all()


def test_the_gradient_through_soft_weights_is_that_of_finite_differences(x64, rng):
    vectors, plans = rng.normal(size=(3, 4, 5)), random_plans(rng, 2, 4).astype(np.float64)

    @jax.jit
    def loss(vectors, plans):
        return transport_volume_loss(vectors, top_groups(plans, count=2))

    check_grads(loss, (vectors, plans), order=1, modes=["rev"])


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_partners_are_drawn_alike_from_plans_in_half_precision(dtype):
    """`uniform` has 128 values in bfloat16, and a running sum in it stalls."""
    plan = jnp.full((1, 600, 600), 1 / 600, dtype)
    drawn = sample_groups(plan, key=jax.random.key(0), count=50)
    counts = np.bincount(np.ravel(drawn.index[..., 1]), minlength=600)  # 50 expected of each
    assert counts.min() > 15 and counts.max() < 100


def test_an_anchor_without_mass_in_any_plan_has_no_groups():
    plans = jnp.stack([jnp.full((2, 2), 0.25), jnp.array([[0.0, 0.0], [0.25, 0.25]])])
    drawn = sample_groups(plans, key=jax.random.key(0), count=5)
    np.testing.assert_allclose(drawn.weight.sum(1), [0, 1])
    np.testing.assert_allclose(top_groups(plans, count=2).weight.sum(1), [0, 1])


@pytest.mark.parametrize("form", ["plans", "groups"])
def test_vectors_of_examples_without_mass_may_hold_anything(rng, form):
    vectors = unit_vectors(rng, 3, BATCH, DIM)
    plans = random_plans(rng, 2)
    plans[:, 1], plans[:, :, 1] = 0, 0
    matching = jnp.asarray(plans)
    if form == "groups":
        matching = sample_groups(matching, key=jax.random.key(0), count=3)
    broken = vectors.copy()
    broken[:, 1] = np.nan
    loss = jax.value_and_grad(lambda v: transport_volume_loss(v, matching).sum())
    for found, wanted in zip(loss(jnp.asarray(broken)), loss(jnp.asarray(vectors)), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


@pytest.mark.parametrize("pair", [2, 3])
def test_how_many_anchors_are_handled_at_a_time_changes_nothing(rng, monkeypatch, pair):
    """Four at a time, of six: the last ones are padded."""
    vectors, plans = unit_vectors(rng, 3, BATCH, DIM), random_plans(rng, pair)
    found = []
    for together in (1, 4 * BATCH**2, 2**17):
        monkeypatch.setattr(transport_volume, "TOGETHER", together)
        jax.clear_caches()
        found.append(loss_and_gradient(vectors, plans))
    jax.clear_caches()
    np.testing.assert_allclose(found[0][0], brute_force(vectors, tuple_plan(plans)), rtol=1e-4)
    for other in found[1:]:
        chex.assert_trees_all_close(other, found[0], rtol=1e-4, atol=1e-6)
