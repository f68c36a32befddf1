"""MICU: what every method owes (finite, learns, reproduces, any devices), and its own."""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance import assert_devices_agree, start

from unirep_jax.data import gather
from unirep_jax.methods import MICU
from unirep_jax.train.step import train_step

SMALL = {
    "dim": 16,
    "codes": 12,
    "layers": 1,
    "heads": 2,
    "pieces": 4,
    "permutations": 6,
    "patience": 3,
}
PRESETS = {
    "paper": dataclasses.replace(MICU.paper(), **SMALL),
    "official": dataclasses.replace(MICU.official(), **SMALL | {"pieces": 2, "permutations": 2}),
    "small_data": MICU(
        **SMALL,
        temporal="convolution",
        cosine=True,
        temperature=0.1,
        mask="steps",
        noise=0.1,
        gain=0.1,
        warp=0.2,
        commitment_other=0.1,
    ),
    "mmjp": MICU(**SMALL | {"pieces": 2}, jigsaw="mmjp"),
}


def batch_of(feature_set, size=32):
    return gather(feature_set, np.flatnonzero(feature_set.train)[:size])


@pytest.mark.parametrize("preset", PRESETS)
def test_loss_is_finite_with_every_term_and_finite_gradients(preset, paired_features):
    method, _, state = start(PRESETS[preset], paired_features)
    loss = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
    (value, (_, terms)), gradient = loss(
        state.params, state.state, batch_of(paired_features), key=jax.random.key(0)
    )
    assert value.shape == () and np.isfinite(value)
    weighted = sum(
        getattr(method, f"weight_{name}") * terms[name]
        for name in ("fine", "coarse", "jigsaw", "reconstruction", "commitment")
    )
    np.testing.assert_allclose(value, weighted, rtol=1e-6)
    chex.assert_tree_all_finite(gradient)
    assert optax.global_norm(gradient["jigsaw"]) > 0


def test_it_learns_shared_codes_and_compiles_once(paired_features, standard_promotion):
    method, optimizer, state = start(PRESETS["small_data"], paired_features)
    step = jax.jit(partial(train_step, method=method, optimizer=optimizer, axis_name=None))
    history = []
    for seed in range(60):
        rows = np.random.default_rng(seed).permutation(64)[:32]
        state, metrics = step(state, gather(paired_features, rows))
        history.append(metrics)
    assert step._cache_size() == 1
    assert np.mean([m["coarse"] for m in history[-5:]]) < 0.7 * history[0]["coarse"]
    assert np.mean([m["reconstruction"] for m in history[-5:]]) < history[0]["reconstruction"]
    assert history[-1]["agreement"] > history[0]["agreement"]


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(
    paired_features, standard_promotion
):
    method, optimizer, _ = start(PRESETS["paper"], paired_features)
    step = jax.jit(partial(train_step, method=method, optimizer=optimizer, axis_name=None))

    def first_loss(seed):
        _, _, state = start(PRESETS["paper"], paired_features, seed)
        return float(step(state, batch_of(paired_features))[1]["loss"])

    assert first_loss(0) == first_loss(0)
    assert first_loss(0) != first_loss(1)


@pytest.mark.parametrize("parallel", ["shard_map", pytest.param("pmap", marks=pytest.mark.slow)])
def test_eight_devices_give_the_losses_gradients_and_codebook_of_one(parallel, paired_features):
    # A third of one modality is absent, unevenly over the devices: counts must be global.
    present = {m: p.copy() for m, p in paired_features.present.items()}
    present["sensor"][:22] = False
    feature_set = dataclasses.replace(paired_features, present=present)
    method, _, state = start(PRESETS["small_data"], feature_set)
    assert_devices_agree(
        method,
        state,
        batch_of(feature_set),
        parallel=parallel,
        counts=(8,),
        metrics_rtol=1e-5,
        state_rtol=1e-4,
    )


def test_absent_examples_do_not_matter_whatever_they_hold(paired_features):
    present = {m: p.copy() for m, p in paired_features.present.items()}
    present["camera"][1::3] = False
    feature_set = dataclasses.replace(paired_features, present=present)
    method, _, state = start(PRESETS["small_data"], feature_set)
    batch = batch_of(feature_set)
    noisy = dict(batch, features=dict(batch["features"]))
    hole = ~batch["present"]["camera"]
    noisy["features"]["camera"] = np.where(hole[:, None, None], 9.0, batch["features"]["camera"])
    noisy["features"]["camera"] = noisy["features"]["camera"].astype(np.float32)
    loss = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
    results = [loss(state.params, state.state, b, key=jax.random.key(0)) for b in (batch, noisy)]
    assert hole.any()
    chex.assert_trees_all_close(*results, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("modalities", [("camera", "sensor"), ("caption", "camera")])
def test_any_two_modalities_work(modalities, paired_features):
    feature_set = dataclasses.replace(
        paired_features,
        features={m: paired_features.features[m] for m in modalities},
        present={m: paired_features.present[m] for m in modalities},
    )
    method, _, state = start(PRESETS["paper"], feature_set)
    value, _ = jax.jit(method.loss)(
        state.params, state.state, batch_of(feature_set), key=jax.random.key(0)
    )
    assert np.isfinite(value)


def test_maps_and_four_modalities_embed_to_the_codes_of_the_shared_codebook(paired_features):
    rng = np.random.default_rng(0)
    count = len(paired_features.label)
    maps = rng.normal(size=(count, 4, 3, 3, 8)).astype(np.float32)
    features = paired_features.features | {"video": maps}
    present = paired_features.present | {"video": np.ones(count, bool)}
    feature_set = dataclasses.replace(paired_features, features=features, present=present)
    method, _, state = start(PRESETS["paper"], feature_set)
    value, _ = jax.jit(method.loss)(
        state.params, state.state, batch_of(feature_set), key=jax.random.key(0)
    )
    assert np.isfinite(value)
    for modality, x in features.items():
        sequence, _, codes = method.embed(state.params, state.state, modality, jnp.asarray(x[:5]))
        assert sequence.shape == (5, 4, 16) and codes.shape == (5, 4)
        np.testing.assert_array_equal(sequence, state.state["codebook"].codebook[codes])


def test_switching_a_loss_off_removes_its_gradient(paired_features):
    method, _, state = start(PRESETS["paper"], paired_features)
    off = dataclasses.replace(method, weight_jigsaw=0.0)
    gradient, _ = jax.jit(jax.grad(off.loss, has_aux=True))(
        state.params, state.state, batch_of(paired_features), key=jax.random.key(0)
    )
    assert optax.global_norm(gradient["jigsaw"]) == 0


@pytest.mark.parametrize(
    "setting", [{"pieces": 3}, {"mask": "half"}, {"jigsaw": "none"}, {"temporal": "lstm"}]
)
def test_impossible_settings_are_refused_by_name(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        MICU(**setting)


def test_mask_drops_a_share_of_steps_or_dimensions_shared_by_modalities_or_not():
    z = jnp.zeros((3, 50, 10, 16))
    keys = jax.random.split(jax.random.key(0), 50)
    steps = MICU(mask="steps")._mask(keys, z)
    assert steps.shape == (1, 50, 10, 1) and abs(steps.mean() - 0.7) < 0.06
    dimensions = MICU(mask="dimensions")._mask(keys, z)
    assert dimensions.shape == (1, 50, 1, 16) and abs(dimensions.mean() - 0.7) < 0.05
    independent = MICU(mask="steps", mask_shared=False)._mask(keys, z)
    assert independent.shape == (3, 50, 10, 1)
    assert not np.array_equal(independent[0], independent[1])
