"""MOVER, GRAM and pairwise InfoNCE: what every method owes, and eq. 11 against NumPy."""

import dataclasses
import itertools
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance import assert_devices_agree, start
from scipy.special import logsumexp

from unirep_jax.data import gather
from unirep_jax.methods import MOVER
from unirep_jax.train.step import train_step

SMALL = {"dim": 16, "iterations": 30}
METHODS = {
    "mover": MOVER(**SMALL),
    "paper": dataclasses.replace(MOVER.paper(), **SMALL, layers=1, width=8, dropout=0.1, noise=0.1),
    "gram": dataclasses.replace(MOVER.gram(), **SMALL),
    "pairwise": dataclasses.replace(MOVER.pairwise(), **SMALL),
    "pairwise transport": MOVER(**SMALL, measure="cosine", weight_contrast=0.5),
    "pairs of three": MOVER(**SMALL, plan="pairs", plan_gradient="unroll", epsilon=0.5),
    "multimarginal": MOVER(**SMALL, plan="multimarginal"),
    "hard groups": MOVER(**SMALL, groups="top"),
    "sampled groups": MOVER(**SMALL, groups="sample", group_count=4),
    "transport positives": MOVER(**SMALL, positives="transport", negatives_only=True),
}


def with_holes(feature_set):
    """A third of the sensor and some captions absent, unevenly over the batch."""
    present = {m: p.copy() for m, p in feature_set.present.items()}
    present["sensor"][:10], present["caption"][8:14] = False, False
    return dataclasses.replace(feature_set, present=present)


def batch_of(feature_set, size=32):
    return gather(feature_set, np.flatnonzero(feature_set.train)[:size])


def evaluate(method, state, batch):
    loss = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
    (value, (_, terms)), gradient = loss(state.params, state.state, batch, key=jax.random.key(0))
    return value, terms, gradient


@pytest.mark.parametrize("name", METHODS)
def test_loss_is_finite_with_every_term_and_finite_gradients(name, paired_features):
    method, _, state = start(METHODS[name], with_holes(paired_features))
    value, terms, gradient = evaluate(method, state, batch_of(with_holes(paired_features)))
    assert value.shape == () and np.isfinite(value)
    weights = {"transport": method.weight_transport, "contrast": method.weight_contrast}
    np.testing.assert_allclose(
        value, sum(w * terms[term] for term, w in weights.items() if w), rtol=1e-6
    )
    assert {term for term, w in weights.items() if w} <= terms.keys()
    chex.assert_tree_all_finite(gradient)
    norms = jax.tree.map(optax.global_norm, gradient["towers"])
    assert all(np.asarray(n) > 0 for n in jax.tree.leaves(norms)), "every tower learns"


def info_nce(x, y, temperature):
    logits = x @ y.T / temperature
    rows = logsumexp(logits, axis=1) - np.diag(logits)
    return (rows + logsumexp(logits, axis=0) - np.diag(logits)) / 2


def unit_vectors(method, state, batch):
    """Towers without layers, in float64: standardise, flatten, project, normalise."""
    vectors = {}
    for m, x in batch["features"].items():
        mean, scale = (np.asarray(a, np.float64) for a in state.state["statistics"][m])
        x = (np.asarray(x, np.float64) - mean) / scale
        z = x.reshape(len(x), -1) @ np.asarray(
            state.params["towers"][f"projections_{m}"]["kernel"], np.float64
        )
        vectors[m] = z / np.linalg.norm(z, axis=1, keepdims=True)
    return list(vectors.values())


def test_without_transport_and_volume_it_is_the_mean_infonce_of_all_pairs(paired_features):
    method, _, state = start(METHODS["pairwise"], paired_features)
    batch = batch_of(paired_features)
    vectors = unit_vectors(method, state, batch)
    expected = [info_nce(x, y, 0.07).mean() for x, y in itertools.combinations(vectors, 2)]
    np.testing.assert_allclose(evaluate(method, state, batch)[0], np.mean(expected), rtol=2e-5)


def test_the_terms_of_equation_11_are_those_of_numpy(paired_features):
    """Eq. 8 with eq. 4-5 over all tuples of an anchor, and eq. 9 on volumes, both directions."""
    method, _, state = start(MOVER(dim=8, iterations=2000, epsilon=0.5), paired_features)
    batch = batch_of(paired_features, 8)
    vectors = unit_vectors(method, state, batch)

    def plan(x, y):
        cost, u = 2 - 2 * x @ y.T, np.zeros(len(y))
        for _ in range(3000):
            v = -logsumexp(-cost / 0.5 + u[None], axis=1)
            u = -logsumexp(-cost / 0.5 + v[:, None], axis=0)
        p = np.exp(-cost / 0.5 + v[:, None] + u[None])
        return p / p.sum()

    transport, contrast = [], []
    for a in range(3):
        x, y, z = vectors[a], *(v for i, v in enumerate(vectors) if i != a)
        gram = np.ones((8, 8, 8, 3, 3))
        gram[..., 0, 1] = gram[..., 1, 0] = (x @ y.T)[:, :, None]
        gram[..., 0, 2] = gram[..., 2, 0] = (x @ z.T)[:, None, :]
        gram[..., 1, 2] = gram[..., 2, 1] = (y @ z.T)[None]
        volume = np.sqrt(np.maximum(np.linalg.det(gram), 0))
        weight = 8 * plan(x, y)[:, :, None] * 8 * plan(x, z)[:, None, :]
        transport.append((weight * volume).sum((1, 2)).mean())
        logits = -np.einsum("ijj->ij", volume) / 0.07
        rows, columns = (logsumexp(logits, axis=i) - np.diag(logits) for i in (0, 1))
        contrast.append((rows + columns).mean() / 2)
    terms = evaluate(method, state, batch)[1]
    scale = terms["transport"] / np.mean(transport)
    np.testing.assert_allclose(scale, 1, rtol=1e-3)
    np.testing.assert_allclose(terms["contrast"], np.mean(contrast), rtol=1e-4)


def test_warm_start_is_pairwise_infonce_and_then_ends(paired_features):
    method, _, state = start(MOVER(**SMALL, warm_start=3), paired_features)
    batch = batch_of(paired_features)
    loss = jax.jit(method.loss)
    values = {}
    for step in (0, 2, 3):
        at = state.state | {"step": jnp.int32(step)}
        values[step], (after, terms) = loss(state.params, at, batch, key=jax.random.key(0))
        assert int(after["step"]) == step + 1
        assert (terms["contrast"] == 0) == (step < 3)
    pairwise = evaluate(METHODS["pairwise"], state, batch)[0]
    np.testing.assert_allclose([values[0], values[2]], pairwise, rtol=1e-6)
    np.testing.assert_allclose(values[3], evaluate(METHODS["mover"], state, batch)[0], rtol=1e-6)


@pytest.mark.parametrize("name", ["mover", "pairwise"])
def test_it_learns_and_compiles_once(name, paired_features, standard_promotion):
    method = dataclasses.replace(METHODS[name], warm_start=20)
    method, optimizer, state = start(method, paired_features)
    step = jax.jit(partial(train_step, method=method, optimizer=optimizer, axis_name=None))
    history = []
    for seed in range(60):
        rows = np.random.default_rng(seed).permutation(64)[:32]
        state, metrics = step(state, gather(paired_features, rows))
        history.append(metrics)
    assert step._cache_size() == 1
    assert history[19]["loss"] < 0.8 * history[0]["loss"]
    contrast = [m["contrast"] for m in history]
    assert np.mean(contrast[-5:]) < 0.9 * np.mean(contrast[20:25])
    if name == "mover":
        assert history[-1]["mass_on_pairs"] > 3 / 32, "three times chance"


@pytest.mark.parametrize(
    ("name", "parallel"),
    [pytest.param("mover", "pmap", marks=pytest.mark.slow), ("transport positives", "shard_map")],
)
def test_eight_devices_give_the_losses_and_gradients_of_one(parallel, name, paired_features):
    feature_set = with_holes(paired_features)
    method, _, state = start(dataclasses.replace(METHODS[name], noise=0.1), feature_set)
    assert_devices_agree(
        method, state, batch_of(feature_set), parallel=parallel, counts=(8,), metrics_rtol=1e-4,
        state_rtol=1e-3,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["mover", "pairwise transport"])
def test_absent_examples_do_not_matter_whatever_they_hold(name, paired_features):
    feature_set = with_holes(paired_features)
    method, _, state = start(METHODS[name], feature_set)
    batch = batch_of(feature_set)
    noisy = dict(batch, features=dict(batch["features"]))
    hole = ~batch["present"]["sensor"]
    noisy["features"]["sensor"] = np.where(
        hole[:, None, None], np.float32(9), batch["features"]["sensor"]
    )
    assert hole.any()
    results = [evaluate(method, state, b) for b in (batch, noisy)]
    chex.assert_trees_all_close(*results, rtol=1e-5, atol=1e-6)


def test_a_modality_that_nobody_has_leaves_the_loss_of_the_others(paired_features):
    """Withholding a modality is training without it: volumes of pairs, not of triples."""
    whole = dataclasses.replace(
        paired_features,
        present=paired_features.present | {"caption": np.zeros(96, bool)},
    )
    pair = dataclasses.replace(
        paired_features,
        features={m: paired_features.features[m] for m in ("camera", "sensor")},
        present={m: paired_features.present[m] for m in ("camera", "sensor")},
    )
    settings = {"anchor": "camera", "epsilon": 0.5}
    method, _, state = start(MOVER(**SMALL, **settings), whole)
    other, _, _ = start(MOVER(**SMALL, **settings), pair)
    towers = state.params["towers"]
    state_pair = state._replace(
        params={"towers": {k: v for k, v in towers.items() if "caption" not in k}},
        state=state.state
        | {"statistics": {m: state.state["statistics"][m] for m in ("camera", "sensor")}},
    )
    terms = evaluate(method, state, batch_of(whole))[1]
    expected = evaluate(other, state_pair, batch_of(pair))[1]
    np.testing.assert_allclose(terms["contrast"], expected["contrast"], rtol=1e-4)
    np.testing.assert_allclose(terms["transport"], expected["transport"], rtol=1e-3)


def test_embed_gives_unit_vectors_one_modality_at_a_time(paired_features):
    method, _, state = start(METHODS["paper"], paired_features)
    for modality, x in paired_features.features.items():
        z = method.embed(state.params, state.state, modality, jnp.asarray(x[:5])).vector
        assert z.shape == (5, 16)
        np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "setting",
    [{"measure": "area"}, {"plan": "triples"}, {"groups": "none"}, {"positives": "hard"},
     {"plan_gradient": "yes"}, {"groups": "top", "plan": "pairs"}],
)  # fmt: skip
def test_impossible_settings_are_refused_by_name(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        MOVER(**setting)


@pytest.mark.parametrize(
    ("method", "count", "message"),
    [(MOVER(anchor="smell"), 3, "smell"), (MOVER(), 4, "groups"), (MOVER(plan="pairs"), 2, "plan")],
)
def test_settings_that_do_not_fit_the_data_are_refused(method, count, message):
    with pytest.raises(ValueError, match=message):
        method.for_data({f"m{i}": (3,) for i in range(count)}, 5)


def test_four_modalities_train_on_groups_drawn_from_the_plans(paired_features):
    features = paired_features.features | {"echo": paired_features.features["caption"][:, :6]}
    present = paired_features.present | {"echo": paired_features.present["caption"]}
    feature_set = dataclasses.replace(paired_features, features=features, present=present)
    method, _, state = start(METHODS["hard groups"], feature_set)
    value, _, gradient = evaluate(method, state, batch_of(feature_set))
    assert np.isfinite(value)
    chex.assert_tree_all_finite(gradient)
