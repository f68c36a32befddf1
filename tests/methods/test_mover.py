"""MOVER, GRAM and pairwise InfoNCE: what every method owes, and eq. 11 against NumPy."""

import dataclasses
import itertools
import runpy
from functools import partial
from pathlib import Path

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
from unirep_jax.train.fit import prepare
from unirep_jax.train.step import train_step

ROOT = Path(__file__).parents[2]
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
    "given pairs": MOVER(**SMALL, plan="given"),
    "queue": MOVER(**SMALL, measure="cosine", queue=48),
    "queue of groups": MOVER(**SMALL, groups="top", group_count=2, queue=48),
    "gram as its code": dataclasses.replace(MOVER.gram_official("caption"), **SMALL),
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
    assert method.weight_transport == 0 or 0 <= terms["plans_unconverged"] <= 1


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
        method,
        state,
        batch_of(feature_set),
        parallel=parallel,
        counts=(8,),
        metrics_rtol=1e-4,
        state_rtol=1e-3,
    )


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
    [
        {"measure": "area"},
        {"plan": "triples"},
        {"groups": "none"},
        {"positives": "hard"},
        {"plan_gradient": "yes"},
        {"groups": "top", "plan": "pairs"},
        {"queue": 9, "plan": "pairs"},
        {"queue": 9, "positives": "transport"},
        {"queue": -1},
        {"epsilon": -0.05},
        {"temperature": 0.0},
        {"group_count": 0},
        {"weight_transport": -1.0},
    ],
)
def test_impossible_settings_are_refused_by_name(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        MOVER(**setting)


@pytest.mark.parametrize(
    ("method", "count", "message"),
    [
        (MOVER(queue=64), 3, "queue=64 needs groups"),
        (MOVER(anchor="smell"), 3, "smell"),
        (MOVER(), 4, "groups"),
        (MOVER(plan="pairs"), 2, "plan"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused(method, count, message):
    with pytest.raises(ValueError, match=message):
        method.for_data({f"m{i}": (3,) for i in range(count)}, 5)


@pytest.mark.parametrize(
    ("method", "size", "message"),
    [
        (MOVER(groups="top", group_count=9), 8, "group_count=9: an anchor has 8 possible partners"),
        (MOVER(groups="top", group_count=25, queue=16), 8, "group_count=25.* has 24 .*queue"),
        (MOVER(queue=16, measure="cosine"), 17, "queue=16 cannot take a batch of 17"),
    ],
)
def test_batches_that_a_setting_does_not_fit_are_refused(method, size, message):
    with pytest.raises(ValueError, match=message):
        method.check_batch(size)


@pytest.mark.parametrize(
    "method",
    [
        MOVER(groups="top", group_count=8),
        MOVER(groups="top", group_count=24, queue=16),
        MOVER(groups="sample", group_count=9),  # drawn with replacement
        MOVER(group_count=9),
        MOVER(measure="cosine", groups="top", group_count=9),
        MOVER.gram(),
    ],
)
def test_batches_that_a_setting_fits_are_not_refused(method):
    method.check_batch(8)


def test_training_asks_about_its_batches_before_the_first_step(paired_features):
    config = runpy.run_path(str(ROOT / "configs" / "retrieval.py"))["get_config"]()
    config.update(batch_size=8)
    method = MOVER(groups="top", group_count=9)
    with pytest.raises(ValueError, match="group_count=9"):
        prepare(method, paired_features, config, seed=0)


def test_four_modalities_train_on_groups_drawn_from_the_plans(paired_features):
    features = paired_features.features | {"echo": paired_features.features["caption"][:, :6]}
    present = paired_features.present | {"echo": paired_features.present["caption"]}
    feature_set = dataclasses.replace(paired_features, features=features, present=present)
    method, _, state = start(METHODS["hard groups"], feature_set)
    value, _, gradient = evaluate(method, state, batch_of(feature_set))
    assert np.isfinite(value)
    chex.assert_tree_all_finite(gradient)


# -- given pairs, plans that do not converge, a queue ----------------------------------------------


def test_given_pairs_in_place_of_the_plan_weigh_the_volume_of_each_example(paired_features):
    method, _, state = start(METHODS["given pairs"], paired_features)
    batch = batch_of(paired_features)
    groups = np.stack(unit_vectors(method, state, batch), axis=1)
    volume = [np.sqrt(np.linalg.det(g @ g.T)) for g in groups]
    terms = evaluate(method, state, batch)[1]
    np.testing.assert_allclose(terms["transport"], np.mean(volume), rtol=1e-4)
    np.testing.assert_allclose(terms["mass_on_pairs"], 1, rtol=1e-5)


def test_given_pairs_on_cosines_are_the_mean_distance_of_pairs(paired_features):
    method = dataclasses.replace(METHODS["given pairs"], measure="cosine")
    feature_set = with_holes(paired_features)
    method, _, state = start(method, feature_set)
    batch = batch_of(feature_set)
    vectors = dict(zip(batch["features"], unit_vectors(method, state, batch), strict=True))
    distances = []
    for a, b in itertools.combinations(sorted(vectors), 2):
        both = batch["present"][a] & batch["present"][b]
        cost = (2 - 2 * (vectors[a] * vectors[b]).sum(1))[both]
        distances.append(cost.sum() / batch["present"][a].sum())  # a row without partner adds 0
    terms = evaluate(method, state, batch)[1]
    np.testing.assert_allclose(terms["transport"], np.mean(distances), rtol=1e-4)
    assert terms["plans_unconverged"] == 0


@pytest.mark.parametrize(("iterations", "share"), [(1, 1.0), (2000, 0.0)])
@pytest.mark.parametrize("plan", ["anchor", "multimarginal"])
def test_plans_that_do_not_converge_are_logged(paired_features, iterations, share, plan):
    method, _, state = start(
        MOVER(dim=8, iterations=iterations, epsilon=0.2, plan=plan), paired_features
    )
    terms = evaluate(method, state, batch_of(paired_features))[1]
    assert terms["plans_unconverged"] == share


def test_a_queue_gives_the_plan_partners_of_earlier_batches(paired_features):
    """The audio of a batch comes in the next one: without a queue there is nothing to match."""
    method, _, state = start(MOVER(dim=8, measure="cosine", queue=32, epsilon=0.2), paired_features)
    rows = np.flatnonzero(paired_features.train)[:32]
    loss = jax.jit(method.loss)
    _, (after, empty) = loss(
        state.params, state.state, gather(paired_features, rows[:16]), key=jax.random.key(0)
    )
    queue = np.asarray(after["queue"])
    camera, sensor, caption = unit_vectors(method, state, gather(paired_features, rows[:16]))
    vectors = [camera, caption, sensor]  # alphabetical
    np.testing.assert_allclose(queue[:, :16, :-1], vectors, atol=1e-5)
    assert (queue[:, :16, -1] == 1).all() and not queue[:, 16:].any()
    _, (later, terms) = loss(
        state.params, after, gather(paired_features, rows[16:]), key=jax.random.key(0)
    )
    assert later["queue"][:, :, -1].all(), "the other half is filled"
    assert terms["transport"] < empty["transport"], "more to choose from costs less"


def test_a_queue_of_nothing_changes_nothing(paired_features):
    """Eq. 8 of a batch beside empty slots is that of the batch."""
    settings = {"dim": 8, "measure": "cosine", "epsilon": 0.2, "iterations": 500}
    plain, _, state = start(MOVER(**settings), paired_features)
    queued, _, with_slots = start(MOVER(**settings, queue=40), paired_features)
    batch = batch_of(paired_features)
    _, expected, slopes = evaluate(plain, state, batch)
    _, found, queued_slopes = evaluate(queued, with_slots, batch)
    np.testing.assert_allclose(found["transport"], expected["transport"], rtol=1e-3)
    chex.assert_trees_all_close(queued_slopes, slopes, rtol=2e-2, atol=1e-4)


def test_eight_devices_share_one_queue(paired_features):
    method, _, state = start(METHODS["queue"], paired_features)
    assert_devices_agree(
        method,
        state,
        batch_of(paired_features),
        parallel="shard_map",
        counts=(8,),
        metrics_rtol=1e-4,
        state_rtol=1e-3,
    )


# -- GRAM as its code, groups with missing members -------------------------------------------------


def test_as_in_grams_code_each_direction_moves_the_side_that_searches(paired_features):
    settings = {"dim": 8, "weight_transport": 0.0, "anchor": "caption"}
    batch = batch_of(paired_features)

    def slopes(**more):
        method, _, state = start(MOVER(**settings, **more), paired_features)
        return evaluate(method, state, batch)[2]["towers"]

    one = slopes(gathered_gradient=False, both_directions=False)
    norms = {m: float(optax.global_norm(one[f"projections_{m}"])) for m in batch["features"]}
    assert norms["caption"] > 0 and norms["camera"] == norms["sensor"] == 0
    whole, halves = slopes(), slopes(gathered_gradient=False)
    assert all(float(optax.global_norm(halves[f"projections_{m}"])) > 0 for m in norms)
    assert optax.global_norm(jax.tree.map(jnp.subtract, whole, halves)) > 0


def test_groups_with_a_missing_member_are_compared_among_themselves(paired_features):
    """The contrast of a mixed batch is that of its parts, each of one composition."""
    feature_set = with_holes(paired_features)
    settings = {"dim": 8, "weight_transport": 0.0, "anchor": "camera", "temperature": 0.2}
    method, _, state = start(MOVER(**settings), feature_set)
    rows = np.flatnonzero(feature_set.train)[:32]
    kinds = {}
    for row in rows:
        members = tuple(bool(feature_set.present[m][row]) for m in ("sensor", "caption"))
        kinds.setdefault(members, []).append(row)
    kinds.pop((False, False), None)
    assert len(kinds) == 3, "complete, without sensor, without caption"
    parts = [
        (len(part), float(evaluate(method, state, gather(feature_set, np.array(part)))[0]))
        for part in kinds.values()
    ]
    expected = sum(n * value for n, value in parts) / sum(n for n, _ in parts)
    np.testing.assert_allclose(
        evaluate(method, state, gather(feature_set, rows))[0], expected, rtol=1e-5
    )
