"""CODIS: what every method owes, its assignment and its terms against NumPy, its teacher."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conformance import (
    assert_absent_examples_do_not_matter,
    assert_devices_agree,
    assert_learns,
    assert_weighted_terms_are_the_loss,
    batch_of,
    loss_and_gradient,
    only,
    start,
    without,
)

from unirep_jax.methods import CODIS

METHOD = CODIS(dim=16, codes=12, layers=1, dropout=0.0, temporal="convolution", noise=0.1, warp=0.1)


@pytest.fixture(scope="module")
def pairs(paired_features):
    return only(paired_features, "camera", "sensor")


def test_loss_is_its_weighted_terms(pairs):
    assert_weighted_terms_are_the_loss(METHOD, pairs, ("contrast", "transport", "prediction"))


def test_it_learns_in_one_compilation_and_a_seed_repeats(pairs, standard_promotion):
    assert_learns(METHOD, pairs, falling={"contrast": 0.8, "prediction": 0.8})


def test_eight_devices_give_the_losses_gradients_and_state_of_one(pairs):
    feature_set = without(pairs, "sensor", slice(22))
    method, _, state = start(METHOD, feature_set)
    assert_devices_agree(
        method,
        state,
        batch_of(feature_set),
        parallel="shard_map",
        counts=(8,),
        metrics_rtol=1e-4,
        state_rtol=1e-3,
    )


def test_absent_examples_do_not_matter_whatever_they_hold(pairs):
    assert_absent_examples_do_not_matter(METHOD, pairs, "camera")


def test_an_assignment_shares_every_step_out_and_uses_all_codes_alike(rng):
    teacher = METHOD.project(jnp.asarray(rng.normal(size=(2, 10, 3, 16)), jnp.float32))
    codebook = METHOD.project(jnp.asarray(rng.normal(size=(12, 16)), jnp.float32))
    present = jnp.asarray([[True] * 10, [True] * 7 + [False] * 3])
    share = np.asarray(METHOD._assign(teacher, codebook, present, None))
    np.testing.assert_allclose(share.sum(-1), np.repeat(present, 3, 1).reshape(2, 10, 3), atol=1e-5)
    for m, count in enumerate((30, 21)):
        np.testing.assert_allclose(share[m].sum((0, 1)), count / 12, rtol=0.02)
    # With uniform use the share is the scaled kernel: ratios of ratios are those of exp(−cost/ε).
    cost = 2 - 2 * np.asarray(teacher[0, 0] @ codebook.T)
    logs = np.log(share[0, 0]) + cost / METHOD.epsilon
    double = logs - logs[:1] - logs[:, :1] + logs[0, 0]
    np.testing.assert_allclose(double, 0, atol=2e-3)


def test_terms_are_their_equations_with_the_teachers_assignment(pairs):
    method, _, state = start(METHOD, pairs)
    batch, key = batch_of(pairs), jax.random.key(0)
    (_, (after, terms)), _ = loss_and_gradient(method)(state.params, state.state, batch, key=key)
    codes = np.float64(after["codebook"].codebook)
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1, rtol=1e-5)
    encoded = method.encode(state.params, after, batch, key, None)
    teacher = method._teach(state.state, encoded)
    share = np.float64(method._assign(teacher, after["codebook"].codebook, encoded.present, None))
    z, teacher = np.float64(encoded.z), np.float64(teacher)
    np.testing.assert_allclose(z, teacher, atol=1e-5)  # without dropout, at the start
    cosine = z @ codes.T
    np.testing.assert_allclose(
        terms["transport"], np.mean((share * (1 - cosine)).sum(-1)), rtol=1e-4
    )
    logs = cosine / 0.1 - np.log(np.exp(cosine / 0.1).sum(-1, keepdims=True))
    prediction = np.mean([-(share[m] * logs[1 - m]).sum(-1).mean() for m in range(2)])
    np.testing.assert_allclose(terms["prediction"], prediction, rtol=1e-4)
    student, teacher = (
        x.mean(2) / np.linalg.norm(x.mean(2), axis=-1, keepdims=True) for x in (z, teacher)
    )
    contrast = []
    for m, n in np.ndindex(2, 2):
        logits = student[m] @ teacher[n].T / 0.1
        contrast.append(np.mean(np.log(np.exp(logits).sum(1)) - np.diag(logits)))
    np.testing.assert_allclose(terms["contrast"], np.mean(contrast), rtol=1e-4)


def test_the_teacher_follows_the_encoders_and_embeddings_are_codes_of_the_last_loss(pairs):
    method, _, state = start(dataclasses.replace(METHOD, momentum=0.75), pairs)
    params = state.params | {"network": jax.tree.map(lambda p: p + 1, state.params["network"])}
    _, (after, _) = jax.jit(method.loss)(
        params, state.state, batch_of(pairs), key=jax.random.key(0)
    )
    jax.tree.map(
        lambda new, old: np.testing.assert_allclose(new, old + 0.25, rtol=1e-5, atol=1e-6),
        after["teacher"],
        state.state["teacher"],
    )
    x = jnp.asarray(pairs.features["sensor"][:3])
    sequence, _, codes = method.embed(state.params, after, "sensor", x)
    np.testing.assert_array_equal(sequence, after["codebook"].codebook[codes])
    np.testing.assert_allclose(jnp.linalg.norm(sequence, axis=-1), 1, rtol=1e-5)
