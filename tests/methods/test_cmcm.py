"""CMCM: what every method owes, its warm start, and its contrast against NumPy."""

import dataclasses
from types import SimpleNamespace

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

from unirep_jax import losses
from unirep_jax.methods import CMCM

METHOD = CMCM(dim=16, codes=12, layers=1, patience=3, temporal="convolution", noise=0.1, warp=0.1)


@pytest.fixture(scope="module")
def pairs(paired_features):
    return only(paired_features, "camera", "sensor")


def test_loss_is_its_weighted_terms(pairs):
    assert_weighted_terms_are_the_loss(METHOD, pairs, ("contrast", "matching", "commitment"))


def test_it_learns_in_one_compilation_and_a_seed_repeats(pairs, standard_promotion):
    assert_learns(METHOD, pairs, falling={"contrast": 0.7, "matching": 0.95, "commitment": 0.9})


def test_eight_devices_give_the_losses_gradients_and_codebook_of_one(pairs):
    feature_set = without(pairs, "sensor", slice(22))
    method, _, state = start(METHOD, feature_set)
    assert_devices_agree(
        method,
        state,
        batch_of(feature_set),
        parallel="shard_map",
        counts=(8,),
        metrics_rtol=1e-5,
        state_rtol=1e-3,
    )


def test_absent_examples_do_not_matter_whatever_they_hold(pairs):
    assert_absent_examples_do_not_matter(METHOD, pairs, "camera")


def test_codes_have_no_part_in_the_loss_until_the_warm_start_is_over(pairs):
    method, _, state = start(dataclasses.replace(METHOD, warm_start=1), pairs)
    other = state.state["codebook"]._replace(codebook=state.state["codebook"].codebook + 1)
    values = []
    for step in (0, 1):
        for codebook in (state.state["codebook"], other):
            changed = state.state | {"codebook": codebook, "step": jnp.int32(step)}
            (value, (after, terms)), _ = loss_and_gradient(method)(
                state.params, changed, batch_of(pairs), key=jax.random.key(0)
            )
            assert after["step"] == step + 1
            assert (terms["matching"] > 0) == (terms["commitment"] > 0) == (step == 1)
            values.append(float(value))
    assert values[0] == values[1] and values[2] != values[3]


def test_contrast_is_symmetric_info_nce_of_sequences_and_codes_averaged_over_time(rng):
    z, codes = rng.normal(size=(2, 3, 5, 4, 6))
    present = np.ones((3, 5), bool)
    encoded = SimpleNamespace(
        z=jnp.asarray(z, jnp.float32),
        quantized=jnp.asarray(codes, jnp.float32),
        both=jnp.asarray(present[:, None] & present[None]),
        mean=losses.masked_mean,
    )
    for begun, embedding in ((1.0, (z + codes).mean(2)), (0.0, z.mean(2))):
        embedding /= np.linalg.norm(embedding, axis=-1, keepdims=True)
        expected = []
        for m, n in ((0, 1), (0, 2), (1, 2)):
            logits = embedding[m] @ embedding[n].T / 0.1
            for s in (logits, logits.T):
                expected.append(np.mean(np.log(np.exp(s).sum(1)) - np.diag(s)))
        value = METHOD._contrast(encoded, jnp.float32(begun), None)
        np.testing.assert_allclose(value, np.mean(expected), rtol=1e-4)
