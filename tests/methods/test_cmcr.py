"""C-MCR: what every method owes, and eq. 3-10 against NumPy in float64."""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance import assert_devices_agree, start
from scipy.special import logsumexp

from unirep_jax.data import FeatureSet, gather
from unirep_jax.methods import CMCR
from unirep_jax.train.step import train_step

STREAMS = {"first": ("text_1", "image_1"), "second": ("text_2", "audio_2")}
METHODS = {
    "paper": CMCR(dim=8, hidden=12, temperature_shared=0.1, temperature_other=0.1),
    "released": CMCR(dim=8, hidden=12, final_relu=False, temperature_shared=0.1),
    "one map": CMCR(dim=8, hidden=0, temperature_shared=0.1, block_size=4),
    "separate": CMCR(dim=8, hidden=12, batch_statistics="separate", temperature_other=0.2),
    "no noise": CMCR(dim=8, hidden=12, noise_variance=0.0, renormalize=False),
    "intra alone": CMCR(dim=8, weight_shared=0.0, weight_other=0.0, intra=("second",)),
}


@pytest.fixture(scope="module")
def streams():
    """Two spaces of 6 and 10 dimensions that see the same 3 hidden numbers of each example."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(64, 3))
    features = {}
    for space, dim in (("first", 6), ("second", 10)):
        mix = rng.normal(size=(3, dim))
        for m in STREAMS[space]:
            x = hidden @ mix + 0.3 * rng.normal(size=(64, dim)) + rng.normal(size=dim)
            features[m] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return FeatureSet.from_arrays("streams", features, np.full(64, -1), np.arange(64) < 48)


def batch_of(streams, size=16):
    return gather(streams, np.arange(size))


def evaluate(method, state, batch, key=0):
    loss = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
    return loss(state.params, state.state, batch, key=jax.random.key(key))


@pytest.mark.parametrize("name", METHODS)
def test_loss_is_finite_and_every_projector_that_it_weighs_learns(name, streams):
    method, _, state = start(METHODS[name], streams)
    (value, (new, terms)), gradient = evaluate(method, state, batch_of(streams))
    assert np.isfinite(value) and all(np.isfinite(v) for v in terms.values())
    chex.assert_tree_all_finite(gradient)
    learns = {space: optax.global_norm(gradient[space]) > 0 for space in STREAMS}
    assert learns == {"first": name != "intra alone", "second": True}
    changed = jax.tree.map(lambda a, b: np.abs(a - b).max(), new, state.state)
    assert all(c > 0 for c in jax.tree.leaves(changed)), "running statistics move"


def projected(params, x, final_relu):
    """Linear, batch normalisation, ReLU, linear, batch normalisation in float64."""
    for place in range(2):
        dense, norm = (
            {k: np.asarray(v, np.float64) for k, v in params[f"{kind}_{place}"].items()}
            for kind in ("Dense", "BatchNorm")
        )
        x = x @ dense["kernel"] + dense["bias"]
        x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * norm["scale"] + norm["bias"]
        x = np.maximum(x, 0) if place == 0 or final_relu else x
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)


def info_nce(x, y, temperature):
    logits = x @ y.T / temperature
    own = np.diag(logits)
    return np.mean(logsumexp(logits, axis=1) + logsumexp(logits, axis=0) - 2 * own) / 2


@pytest.mark.parametrize("statistics", ["joint", "separate"])
@pytest.mark.parametrize("final_relu", [True, False])
def test_the_loss_without_noise_is_equation_10(streams, statistics, final_relu):
    method = CMCR(
        dim=8,
        hidden=12,
        noise_variance=0.0,
        temperature_shared=0.2,
        temperature_other=0.3,
        weight_shared=0.7,
        weight_other=1.3,
        weight_intra=0.4,
        final_relu=final_relu,
        batch_statistics=statistics,
    )
    method, _, state = start(method, streams)
    batch = batch_of(streams)
    found = {}
    for space, names in STREAMS.items():
        pair = [np.asarray(batch["features"][m], np.float64) for m in names]
        apply = partial(projected, state.params[space], final_relu=final_relu)
        if statistics == "joint":
            found[space] = np.split(apply(np.concatenate(pair)), 2)
        else:
            found[space] = [apply(x) for x in pair]
    (t1, v1), (t2, a2) = found["first"], found["second"]
    gap = np.linalg.norm(t1 - v1, axis=1).mean() + np.linalg.norm(t2 - a2, axis=1).mean()
    expected = 0.7 * info_nce(t1, t2, 0.2) + 1.3 * info_nce(v1, a2, 0.3) + 0.4 * gap / 2
    np.testing.assert_allclose(evaluate(method, state, batch)[0][0], expected, rtol=2e-5)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("normalized", [False, True])
def test_equation_9_is_read_as_it_was_asked(streams, squared, normalized):
    method = CMCR(
        dim=8,
        hidden=12,
        noise_variance=0.0,
        weight_shared=0.0,
        weight_other=0.0,
        weight_intra=0.6,
        intra_squared=squared,
        intra_normalized=normalized,
        final_relu=False,
    )
    method, _, state = start(method, streams)
    batch = batch_of(streams)
    total, logged = 0.0, {}
    for space, names in STREAMS.items():
        x = np.concatenate([np.asarray(batch["features"][m], np.float64) for m in names])
        params = state.params[space]
        x = np.maximum(normalized_map(x, params, 0), 0)
        first, second = np.split(normalized_map(x, params, 1), 2)
        unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (first, second)]
        logged[space] = np.linalg.norm(unit[0] - unit[1], axis=1).mean()
        pair = unit if normalized else (first, second)
        distance = np.linalg.norm(pair[0] - pair[1], axis=1)
        total += (distance**2 if squared else distance).mean()
    (value, (_, terms)), _ = evaluate(method, state, batch)
    np.testing.assert_allclose(value, 0.3 * total, rtol=2e-5)
    for space, gap in logged.items():
        np.testing.assert_allclose(terms[f"gap_{space}"], gap, rtol=1e-4)


def normalized_map(x, params, place):
    """Linear and batch normalisation, in float64."""
    dense, norm = (
        {k: np.asarray(v, np.float64) for k, v in params[f"{kind}_{place}"].items()}
        for kind in ("Dense", "BatchNorm")
    )
    x = x @ dense["kernel"] + dense["bias"]
    return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * norm["scale"] + norm["bias"]


def test_roles_are_read_from_the_names_of_streams(streams):
    method = CMCR(first=(), second=())
    found = method.for_data({m: x.shape[1:] for m, x in streams.features.items()}, 0)
    assert (found.first, found.second) == (STREAMS["first"], STREAMS["second"])
    assert found.of_streams(["x_1"]) is found, "roles that are given stay"
    names = ("points_1", "image_2", "image_1", "text_2")
    ulip = method.of_streams(names)
    assert (ulip.first, ulip.second) == (("image_1", "points_1"), ("image_2", "text_2"))
    assert (ulip.first, ulip.second) == (CMCR.ulip().first, CMCR.ulip().second)
    for wrong in (names[:3], ("a_1", "b_1", "c_2", "d_2"), ("a_1", "b_1", "a_2", "b_2")):
        with pytest.raises(ValueError, match="are not SHARED_1, OTHER_1, SHARED_2, OTHER_2"):
            method.of_streams(wrong)


def test_the_presets_have_the_constants_of_sections_4_1_and_4_2():
    assert (CMCR().noise_variance, CMCR().weight_intra) == (0.004, 0.1)
    assert (CMCR.ulip().noise_variance, CMCR.ulip().weight_intra) == (0.002, 0.4)


def test_noise_has_the_variance_of_equation_3_in_every_entry_and_differs_between_streams():
    method = CMCR(noise_variance=0.004, renormalize=False)
    names = [m for pair in STREAMS.values() for m in pair]
    zeros = {m: jnp.zeros((256, 512)) for m in names}
    noise = method._complete(zeros, jax.random.key(0), None)
    for m in names:
        np.testing.assert_allclose(np.var(noise[m]), 0.004, rtol=0.02)
        assert abs(np.mean(noise[m])) < 1e-3
    # In 512 dimensions it is longer than the unit vector that it is added to.
    assert 1.3 < np.linalg.norm(noise["text_1"], axis=1).mean() < 1.6
    flat = np.stack([np.ravel(noise[m]) for m in names])
    assert np.abs(np.corrcoef(flat) - np.eye(4)).max() < 0.02


def test_normalisation_after_noise_returns_to_the_sphere_and_is_an_option(streams):
    batch = {m: jnp.asarray(x[:8]) for m, x in streams.features.items()}
    on = CMCR()._complete(batch, jax.random.key(1), None)
    off = CMCR(renormalize=False)._complete(batch, jax.random.key(1), None)
    for m in batch:
        np.testing.assert_allclose(np.linalg.norm(on[m], axis=1), 1, rtol=1e-5)
        assert np.abs(np.linalg.norm(off[m], axis=1) - 1).max() > 0.01


@pytest.mark.parametrize("parallel", ["shard_map", pytest.param("pmap", marks=pytest.mark.slow)])
def test_several_devices_give_the_loss_gradient_and_statistics_of_one(parallel, streams):
    method, _, state = start(METHODS["paper"], streams)
    assert_devices_agree(
        method,
        state,
        batch_of(streams),
        parallel=parallel,
        counts=(8,),
        metrics_rtol=1e-5,
        state_rtol=1e-4,
    )


def test_training_brings_the_pair_that_never_met_together(streams, standard_promotion):
    method, optimizer, state = start(dataclasses.replace(METHODS["released"], dim=16), streams)
    step = jax.jit(partial(train_step, method=method, optimizer=optimizer, axis_name=None))
    batch = batch_of(streams, 48)
    for _ in range(60):
        state, _ = step(state, batch)
    test = ~streams.train
    image, audio = (
        method.embed(state.params, state.state, m, jnp.asarray(streams.features[m][test])).vector
        for m in ("image_1", "audio_2")
    )
    rank = (np.asarray(image @ audio.T) > np.diag(image @ audio.T)[:, None]).sum(1)
    assert np.mean(rank) < 0.5 * (test.sum() - 1) / 2, "half of what chance gives, or better"


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(streams):
    method, _, _ = start(METHODS["paper"], streams)
    loss = jax.jit(method.loss)

    def value(seed, key):
        _, _, state = start(METHODS["paper"], streams, seed)
        return float(loss(state.params, state.state, batch_of(streams), key=jax.random.key(key))[0])

    assert value(0, 0) == value(0, 0)
    assert len({value(0, 0), value(1, 0), value(0, 1)}) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_statistics": "both"}, "batch_statistics='both'"),
        ({"intra": ("third",)}, "intra=.*third"),
        ({"first": ("text_1",)}, "first=.*two streams of a space"),
        ({"noise_variance": -1.0}, "noise_variance=-1.0"),
    ],
)
def test_impossible_settings_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        CMCR(**changes)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"text_1": (6,)}, "first: stream 'image_1' is none of text_1"),
        ({"text_1": (6,), "image_1": (7,)}, "first: text_1 has 6 dimensions, image_1 7"),
        ({"text_1": (6,), "image_1": (2, 3)}, r"first: image_1 has examples of \(2, 3\)"),
    ],
)
def test_streams_that_do_not_fit_are_refused_by_name(shapes, message):
    with pytest.raises(ValueError, match=message):
        CMCR().for_data(shapes, 0)
