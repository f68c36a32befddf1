"""TURN: what every method owes, and reconstruction across modalities one pair at a time."""

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
    only,
    start,
    without,
)

from unirep_jax.methods import TURN
from unirep_jax.models.encoders import Decoder, reconstruction_target

METHOD = TURN(dim=16, codes=12, layers=1, patience=3, temporal="convolution", noise=0.1, warp=0.1)


@pytest.fixture(scope="module")
def pairs(paired_features):
    return only(paired_features, "camera", "sensor")


def test_loss_is_its_weighted_terms(pairs):
    assert_weighted_terms_are_the_loss(METHOD, pairs, ("reconstruction", "cross", "commitment"))


def test_it_learns_in_one_compilation_and_a_seed_repeats(pairs, standard_promotion):
    assert_learns(METHOD, pairs, falling={"reconstruction": 0.7, "cross": 0.8})


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


def test_cross_reconstruction_decodes_every_modality_from_the_codes_of_every_other(paired_features):
    feature_set = without(without(paired_features, "camera", slice(9)), "sensor", slice(5, 12))
    method, _, state = start(METHOD, feature_set)
    encoded = method.encode(
        state.params, state.state, batch_of(feature_set), jax.random.key(0), None
    )
    expected = 0.0
    for m, (name, x) in enumerate(encoded.inputs.items()):
        target = np.stack([reconstruction_target(x_i, method.time) for x_i in x])
        decoder = Decoder(target.shape[1:])
        variables = {"params": state.params["network"][f"decoders_{name}"]}
        for n in {0, 1, 2} - {m}:
            decoded = jax.vmap(lambda c, d=decoder, v=variables: d.apply(v, c))(encoded.codes[n])
            error = np.mean((np.float64(decoded) - target) ** 2, axis=(1, 2))
            both = np.asarray(encoded.present[m] & encoded.present[n])
            assert 0 < both.sum() < 32 or n + m == 1 or both.all()
            expected += error[both].mean()
    np.testing.assert_allclose(method._cross(state.params, encoded), expected, rtol=1e-4)


def test_codes_move_to_the_features_of_the_modality_that_chose_them(pairs):
    method, _, state = start(METHOD, pairs)
    batch, key = batch_of(pairs), jax.random.key(0)
    encoded = method.encode(state.params, state.state, batch, key, None)
    after, _ = method.next_state(state.state, encoded, key, None, share=0.0)
    _, (state_after, _) = jax.jit(method.loss)(state.params, state.state, batch, key=key)
    for ours, expected in zip(state_after["codebook"], after["codebook"], strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
    mixed, _ = method.next_state(state.state, encoded, key, None, share=0.5)
    assert jnp.abs(mixed["codebook"].weight - after["codebook"].weight).max() > 1e-3
