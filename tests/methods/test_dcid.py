"""DCID: what every method owes, and each of its terms against NumPy."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
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
from unirep_jax.methods import DCID

METHOD = DCID(dim=16, codes=12, layers=1, patience=3, temporal="convolution", noise=0.1, warp=0.1)
TERMS = ("reconstruction", "commitment", "information", "prediction", "matching")


@pytest.fixture(scope="module")
def pairs(paired_features):
    return only(paired_features, "camera", "sensor")


def test_loss_is_its_weighted_terms_and_the_fit_of_the_estimator(pairs):
    assert_weighted_terms_are_the_loss(METHOD, pairs, TERMS, unweighted=("fit",))


def test_it_learns_in_one_compilation_and_a_seed_repeats(pairs, standard_promotion):
    falling = {"prediction": 0.95, "reconstruction": 0.4, "commitment": 1.0, "fit": 0.8}
    assert_learns(METHOD, pairs, falling=falling)


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


def test_the_estimator_follows_the_likelihood_alone_and_nothing_else_does(pairs):
    method, _, state = start(METHOD, pairs)
    arguments = (state.params, state.state, batch_of(pairs))
    fit_only = dataclasses.replace(method, **{f"weight_{name}": 0.0 for name in TERMS})
    _, whole = loss_and_gradient(method)(*arguments, key=jax.random.key(0))
    _, fit = loss_and_gradient(fit_only)(*arguments, key=jax.random.key(0))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        whole["estimator"],
        fit["estimator"],
    )
    assert optax.global_norm(fit["estimator"]) > 0
    assert optax.global_norm((fit["network"], fit["predictor"])) == 0


def encoded(rng, modalities=3, batch=6, time=4, dim=16):
    """What `encode` gives of random features, all present."""
    z = jnp.asarray(rng.normal(size=(modalities, batch, time, dim)), jnp.float32)
    present = jnp.ones((modalities, batch), bool)
    return SimpleNamespace(
        z=z,
        quantized=z,
        present=present,
        both=present[:, None] & present[None],
        mean=losses.masked_mean,
    )


def heads(method, modalities=3):
    return dataclasses.replace(method, time=4).init_heads(jax.random.key(0), modalities)


@pytest.mark.parametrize("cosine", [False, True])
def test_prediction_sums_the_pairs_and_a_tenth_of_a_modalitys_own_future(rng, cosine):
    batch, params = encoded(rng), heads(METHOD)
    method = dataclasses.replace(METHOD, cosine=cosine, temperature=0.5 if cosine else 1.0)
    predictor = {m: jax.tree.map(lambda p, m=m: p[m], params["predictor"]) for m in range(3)}
    predicted = np.array(
        [
            [METHOD.predictor.apply({"params": predictor[m]}, x) for x in batch.z[m]]
            for m in range(3)
        ]
    )[:, :, :, 0]
    z, expected = np.float64(batch.z), 0.0
    if cosine:
        z, predicted = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (z, predicted))
    for m, n in np.ndindex(3, 3):
        for t in range(3):
            logits = predicted[m, :, t] @ z[n, :, t + 1].T / method.temperature
            value = np.mean(np.log(np.exp(logits).sum(1)) - np.diag(logits))
            expected += (0.1 if m == n else 1.0) * value / 3
    np.testing.assert_allclose(method._prediction(params, batch, None), expected, rtol=1e-4)


def test_information_is_the_bound_of_every_modality_where_it_is_positive(rng):
    batch, params = encoded(rng), heads(METHOD)
    specific = jnp.asarray(rng.normal(size=batch.z.shape), jnp.float32)
    expected, signs = 0.0, set()
    for m in range(3):
        estimator = jax.tree.map(lambda p, m=m: p[m], params["estimator"])
        mean, log_variance = (
            np.array(a, np.float64)
            for a in jax.vmap(lambda x, e=estimator: METHOD.estimator.apply({"params": e}, x))(
                batch.z[m]
            )
        )
        likelihood = lambda j, mean=mean, log_variance=log_variance, m=m: (
            -0.5 * np.sum((np.float64(specific[m, j]) - mean) ** 2 / np.exp(log_variance), axis=-1)
        )  # [example, time] of the targets of example j
        negative = np.mean([likelihood(j) for j in range(6)], axis=0)
        bound = np.mean([likelihood(i)[i] - negative[i] for i in range(6)])
        signs.add(np.sign(bound))
        expected += max(bound, 0)
    assert signs == {-1, 1}
    value = METHOD._information(params, specific, batch, None)
    np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-5)


def test_matching_is_half_the_sum_over_pairs_of_both_directions(rng):
    batch = encoded(rng)
    codebook = jnp.asarray(rng.normal(size=(12, 16)), jnp.float32)
    state = {"codebook": losses.CodebookState(codebook, None, None, None)}
    distance = np.linalg.norm(np.float64(batch.z)[..., None, :] - np.float64(codebook), axis=-1)
    p = np.exp(-distance)
    p = (p / p.sum(-1, keepdims=True)).mean(2)
    expected = 0.0
    for m, n in ((0, 1), (0, 2), (1, 2)):
        scores = p[m] @ np.log(p[n]).T + np.log(p[m]) @ p[n].T
        for s in (scores, scores.T):
            expected += 0.25 * np.mean(np.log(np.exp(s).sum(1)) - np.diag(s))
    np.testing.assert_allclose(METHOD.matching(state, batch, None), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("shape", "steps", "message"),
    [
        ((4, 3), 4, "predicted_steps=4 of sequences of"),
        ((4, 3), 0, "predicted_steps=0 is not a whole number"),
    ],
)
def test_sequences_too_short_to_predict_are_refused_by_name(shape, steps, message):
    with pytest.raises(ValueError, match=message):
        DCID(predicted_steps=steps).for_data({"camera": shape, "text": (5,)}, classes=2)


def test_vectors_have_no_future_and_the_term_says_so(rng):
    shapes = {"camera": (7,), "text": (5,)}
    method = dataclasses.replace(METHOD, dim=16).for_data(shapes, classes=2)
    assert method.inert(shapes, 2) == ["prediction (sequences of one time step, nothing ahead)"]
    assert [*method.init_heads(jax.random.key(0), 2)] == ["estimator"]
    batch = encoded(rng)
    alone = SimpleNamespace(**{**vars(batch), "z": batch.z[:, :, :1]})
    assert float(method._prediction({}, alone, None)) == 0
    longer = dataclasses.replace(METHOD, dim=16).for_data({"camera": (4, 7)}, classes=2)
    assert longer.inert({"camera": (4, 7)}, 2) == []


def test_embedding_is_of_the_codebook(pairs):
    method, _, state = start(METHOD, pairs)
    x = jnp.asarray(pairs.features["sensor"][:3])
    sequence, _, codes = method.embed(state.params, state.state, "sensor", x)
    assert sequence.shape == (3, 4, 16)
    np.testing.assert_array_equal(sequence, state.state["codebook"].codebook[codes])
