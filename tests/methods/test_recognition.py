"""MRN and its baselines: what every method owes, and each head's loss against NumPy."""

import dataclasses
import types
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance import assert_devices_agree, start
from scipy.special import log_softmax, softmax

from unirep_jax import experiment, losses
from unirep_jax.data import FeatureSet, Kind, gather
from unirep_jax.methods import METHODS, RECOGNIZERS, OpenSetClassifier
from unirep_jax.train.step import TrainState, train_step

SMALL = {
    "width": 16,
    "tokens": 2,
    "heads": 2,
    "kv_heads": 1,
    "hidden": 12,
    "embedding": 6,
    "latent": 3,
    "images": (1, 1),
    "layers": 1,
}


def small(name, **changes):
    method = RECOGNIZERS[name]
    if method.experts:
        changes = {"experts": 4, "count": 2} | changes
    if method.fusion == "single":
        changes = {"modality": "camera"} | changes
    return dataclasses.replace(method, **SMALL | changes)


@pytest.fixture(scope="module")
def pairs(paired_features):
    """A sequence and a vector; some examples lack one of them."""
    features = {m: paired_features.features[m] for m in ("camera", "caption")}
    present = {m: np.ones(96, bool) for m in features}
    present["camera"][:10], present["caption"][10:14] = False, False
    return dataclasses.replace(paired_features, features=features, present=present)


def batch_of(feature_set, size=32, rows=None):
    rows = np.flatnonzero(feature_set.train)[:size] if rows is None else rows
    return gather(feature_set, rows) | {"label": feature_set.label[rows]}


def evaluate(method, state, batch):
    loss = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
    (value, (after, terms)), gradient = loss(
        state.params, state.state, batch, key=jax.random.key(0)
    )
    return value, terms, gradient, after


def decide(method, state, batch):
    outputs = jax.jit(method.classify)(
        state.params, state.state, batch["features"], batch["present"]
    )
    return jax.tree.map(np.asarray, outputs)


# Every fusion and every head; in the slow suite every fusion with the plain head, too.
ROWS = [
    "gqa",
    "tmc",
    "mla",
    "alone",
    "openauc-concat",
    "arpl-mrn",
    "rpl-add",
    "gcpl-alone",
    "cssr-concat",
]
PLAIN = [n for n in RECOGNIZERS if "-" not in n and n not in ROWS] + ["rcssr-add"]


@pytest.mark.parametrize("name", ROWS + [pytest.param(n, marks=pytest.mark.slow) for n in PLAIN])
def test_loss_is_finite_and_the_readout_has_scores_and_classes(name, pairs):
    method, _, state = start(small(name, dropout=0.1, noise=0.1), pairs)
    batch = batch_of(pairs)
    value, terms, gradient, after = evaluate(method, state, batch)
    assert value.shape == () and np.isfinite(value)
    weights = {"classification": 1, "balance": method.weight_balance, "open": method.weight_open}
    np.testing.assert_allclose(value, sum(weights[t] * terms[t] for t in terms), rtol=1e-5)
    chex.assert_tree_all_finite(gradient)
    assert optax.global_norm(gradient) > 0 and int(after["step"]) == 1
    decisions = decide(method, state, batch)
    assert set(decisions) == (
        {"camera", "caption"}
        if name == "single"
        else {"camera"}
        if method.fusion == "single"
        else {"camera+caption"}
    )
    for source, decision in decisions.items():
        scores = method.known_scores(jax.tree.map(np.asarray, state.params), decision)
        assert decision.logits.shape == (32, 4) and scores.shape == (32,)
        assert scores.dtype == np.float64 and np.isfinite(scores).all()
        expected = pairs.present[source][:32] if "+" not in source else np.ones(32, bool)
        np.testing.assert_array_equal(decision.present, expected)


@pytest.mark.parametrize(
    "name", ["mrn", "rcssr-concat", pytest.param("tmc", marks=pytest.mark.slow), "mla"]
)
def test_it_learns_and_compiles_once(name, pairs, standard_promotion):
    method, optimizer, state = start(small(name, anneal=30), pairs)
    step = jax.jit(partial(train_step, method=method, optimizer=optimizer, axis_name=None))
    for seed in range(60):
        rows = np.random.default_rng(seed).permutation(64)[:32]
        state, _ = step(state, batch_of(pairs, rows=rows))
    assert step._cache_size() == 1
    test = np.flatnonzero(~pairs.train)
    decision = decide(method, state, batch_of(pairs, rows=test))
    accuracy = np.mean(next(iter(decision.values())).logits.argmax(1) == pairs.label[test])
    assert accuracy > 0.8, "chance is 0.25"


@pytest.mark.parametrize(
    ("name", "parallel"),
    [
        ("mrn", "shard_map"),
        ("mla", "shard_map"),
        pytest.param("openauc-mrn", "pmap", marks=pytest.mark.slow),
    ],
)
def test_eight_devices_give_the_losses_gradients_and_state_of_one(name, parallel, pairs):
    method, _, state = start(small(name, noise=0.1), pairs)
    assert_devices_agree(
        method,
        state,
        batch_of(pairs),
        parallel=parallel,
        counts=(8,),
        metrics_rtol=1e-4,
        state_rtol=1e-3,
    )


def test_images_train_with_batch_statistics_that_evaluation_uses():
    rng = np.random.default_rng(0)
    features = {
        "photo": rng.normal(size=(16, 1, 8, 8, 3)).astype(np.float32),
        "sound": rng.normal(size=(16, 5)).astype(np.float32),
    }
    feature_set = FeatureSet.from_arrays("pixels", features, np.arange(16) % 4, np.arange(16) < 15)
    method, _, state = start(small("mrn"), feature_set)
    batch = batch_of(feature_set, rows=np.arange(16))
    _, _, gradient, after = evaluate(method, state, batch)
    chex.assert_tree_all_finite(gradient)
    moved = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()), after["batch_stats"], state.state["batch_stats"]
    )
    assert min(jax.tree.leaves(moved)) > 0
    first = decide(method, state, batch)["photo+sound"].logits
    second = decide(method, state._replace(state=after), batch)["photo+sound"].logits
    assert not np.allclose(first, second)


def worded(rng, largest=8):
    """A text of word ids, four of which say the class and stand anywhere, and some sound."""
    label = np.arange(96) % 4
    ids = rng.integers(5, largest + 1, size=(96, 6)).astype(np.int32)
    ids[np.arange(96), rng.integers(0, 4, 96)] = label + 1
    ids[:, 5:] = 0
    sound = rng.normal(size=(96, 5)).astype(np.float32)
    return FeatureSet.from_arrays("words", {"text": ids, "sound": sound}, label, np.arange(96) < 64)


def test_word_ids_are_neither_standardised_nor_augmented(rng):
    feature_set = worded(rng)
    method, _, state = start(small("concat", noise=0.5), feature_set)
    assert dict(method.vocabulary) == {"text": 9} and dict(method.kinds)["text"] == "words"
    rows = np.arange(8)
    value, _, gradient, _ = evaluate(method, state, batch_of(feature_set, rows=rows))
    embedding = gradient["network"]["encoders_text"]["Embed_0"]["embedding"]
    used = np.isin(np.arange(9), feature_set.features["text"][rows, :5])
    norms = np.linalg.norm(embedding, axis=1)
    assert np.isfinite(value) and (norms[used] > 0).all() and (norms[~used] == 0).all()


@pytest.mark.parametrize("name", ["concat", "mrn", "tmc"])
def test_words_are_read_by_their_identity_not_by_the_size_of_their_ids(
    name, rng, standard_promotion
):
    """A class is one of four ids among others that say nothing: an average of ids knows little."""
    feature_set = worded(rng)
    method, optimizer, state = start(small(name, anneal=30), feature_set)
    assert method.encoders({"text": (6,), "sound": (5,)}) == {"text": "Bi-LSTM", "sound": "MLP"}
    step = jax.jit(partial(train_step, method=method, optimizer=optimizer, axis_name=None))
    for seed in range(80):
        rows = np.random.default_rng(seed).permutation(64)[:32]
        state, _ = step(state, batch_of(feature_set, rows=rows))
    test = np.flatnonzero(~feature_set.train)
    (decision,) = decide(method, state, batch_of(feature_set, rows=test)).values()
    assert np.mean(decision.logits.argmax(1) == feature_set.label[test]) > 0.8, "chance is 0.25"


def test_a_word_that_training_has_not_seen_is_the_unknown_one(rng):
    feature_set = worded(rng)
    method, _, state = start(small("concat"), feature_set)
    batch = batch_of(feature_set)
    found = []
    for number in (1, 9, 123456):
        ids = batch["features"]["text"].copy()
        ids[:, 2] = number
        changed = batch | {"features": batch["features"] | {"text": ids}}
        (decision,) = decide(method, state, changed).values()
        found.append(decision.logits)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize(("name", "attends"), [("concat", True), ("alone", True), ("mrn", False)])
def test_where_words_become_one_vector_attention_weighs_them(name, attends, rng):
    changes = {"modality": "text"} if name == "alone" else {}
    _, _, state = start(small(name, **changes), worded(rng))
    assert ("pools_text" in state.params["network"]) == attends


@pytest.mark.parametrize(
    ("kind", "shape", "reads"),
    [
        (None, (12, 9), "convolutions"),
        (Kind.SPECTROGRAM, (12, 9), "ResNet"),
        (None, (8, 8, 3), "ResNet"),
        (None, (2, 8, 8, 1), "ResNet"),
        (None, (4, 5, 5, 16), "convolutions"),
        (None, (7,), "MLP"),
    ],
)
def test_the_kind_of_a_modality_chooses_its_encoder(kind, shape, reads, rng):
    features = {
        "sound": rng.normal(size=(16, *shape)).astype(np.float32),
        "other": rng.normal(size=(16, 5)).astype(np.float32),
    }
    kinds = {"sound": kind} if kind else None
    feature_set = FeatureSet.from_arrays(
        "x", features, np.arange(16) % 4, np.arange(16) < 15, kinds=kinds
    )
    method, _, state = start(small("mrn"), feature_set)
    assert method.encoders({"sound": shape, "other": (5,)}) == {"sound": reads, "other": "MLP"}
    assert bool(jax.tree.leaves(state.state["batch_stats"])) == (reads == "ResNet")
    value, _, gradient, _ = evaluate(method, state, batch_of(feature_set, 15))
    chex.assert_tree_all_finite(gradient)
    assert np.isfinite(value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kinds": (("text", "image"),)}, "does not fit the data: text words, sound vector"),
        ({"kinds": (("text", "prose"),)}, "prose"),
        ({"kinds": (("smell", "words"),)}, "smell"),
        ({"vocabulary": (("sound", 9),)}, "'sound' is none of the modalities made of words"),
    ],
)
def test_a_kind_that_the_data_cannot_be_of_is_refused(settings, message, rng):
    with pytest.raises(ValueError, match=message):
        OpenSetClassifier(**settings).for_features(worded(rng))


def test_the_first_line_of_a_run_says_what_modalities_are_made_of_and_what_reads_them(rng, capsys):
    feature_set = worded(rng)
    method = small("concat").for_features(feature_set)
    fitting = types.SimpleNamespace(
        method=method,
        engine=types.SimpleNamespace(devices=1),
        initial=lambda: TrainState(jnp.int32(0), jnp.int32(0), {"w": jnp.zeros(3)}, (), {}),
    )
    experiment._announce(feature_set, fitting)
    line = capsys.readouterr().out
    assert "text words [6] by Bi-LSTM, sound vector [5] by MLP" in line


@pytest.mark.parametrize("name", ["mover", "cox", "cca", "dcid"])
def test_methods_without_an_embedding_of_words_refuse_word_ids(name, rng):
    with pytest.raises(ValueError, match=r"text holds word ids, and \w+ learns no embedding"):
        METHODS[name]().for_features(worded(rng))


@pytest.mark.parametrize("name", ["cross_attention", "tmc"])
def test_absent_examples_do_not_matter_whatever_they_hold(name, pairs):
    method, _, state = start(small(name), pairs)
    batch = batch_of(pairs)
    noisy = dict(batch, features=dict(batch["features"]))
    hole = ~batch["present"]["camera"][:, None, None]
    noisy["features"]["camera"] = np.where(hole, np.float32(9), batch["features"]["camera"])
    assert hole.any()
    first, second = (evaluate(method, state, b)[:3] for b in (batch, noisy))
    chex.assert_trees_all_close(first, second, rtol=1e-5, atol=1e-6)
    for a, b in zip(*(decide(method, state, x).values() for x in (batch, noisy)), strict=True):
        np.testing.assert_allclose(a.logits, b.logits, rtol=1e-5, atol=1e-6)


def test_single_modalities_are_trained_as_if_alone(pairs):
    """Their losses add up, and no parameter of one has a gradient from another."""
    method, _, state = start(small("single"), pairs)
    batch = batch_of(pairs)
    value = evaluate(method, state, batch)[0]
    decisions = decide(method, state, batch)
    expected = 0
    for m, decision in decisions.items():
        logs = log_softmax(decision.logits.astype(np.float64), axis=1)
        expected -= logs[np.arange(32), batch["label"]][batch["present"][m]].mean()
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    alone = dict(batch, present={m: p & (m == "camera") for m, p in batch["present"].items()})
    gradient = evaluate(method, state, alone)[2]["network"]
    for name, part in gradient.items():
        assert (optax.global_norm(part) > 0) == ("camera" in name), name


def test_the_shared_head_takes_turns_and_its_gradient_is_projected(pairs):
    method, _, state = start(small("mla"), pairs)
    batch = batch_of(pairs)
    for turn, modality in enumerate(pairs.features):
        at = state._replace(state=state.state | {"step": jnp.int32(turn)})
        _, _, gradient, after = evaluate(method, at, batch)
        for name, part in gradient["network"].items():
            learns = modality in name or name == "classifier"
            assert (optax.global_norm(part) > 0) == learns, (modality, name)
        assert not np.allclose(after["projector"], at.state["projector"])
        projector = np.diag(np.arange(16) < 3).astype(np.float32)
        projected = at._replace(state=at.state | {"projector": projector})
        kernel = evaluate(method, projected, batch)[2]["network"]["classifier"]["kernel"]
        np.testing.assert_allclose(
            kernel, projector @ gradient["network"]["classifier"]["kernel"], rtol=1e-5, atol=1e-8
        )


def test_scores_are_those_of_their_names(pairs):
    batch = batch_of(pairs)

    def scored(name, **changes):
        method, _, state = start(small(name, **changes), pairs)
        (decision,) = decide(method, state, batch).values()
        return (
            decision,
            method.known_scores(jax.tree.map(np.asarray, state.params), decision),
            state,
        )

    decision, scores, _ = scored("concat")
    logits = decision.logits.astype(np.float64)
    np.testing.assert_allclose(scores, softmax(logits, axis=1).max(1), rtol=1e-6)
    np.testing.assert_allclose(scored("concat", score="max_logit")[1], logits.max(1), rtol=1e-6)
    decision, scores, state = scored("concat", score="ash", percentile=50.0)
    last = jax.tree.map(np.asarray, state.params["network"]["classifier"])
    features = decision.features.astype(np.float64)
    np.testing.assert_allclose(
        decision.logits, features @ last["kernel"] + last["bias"], rtol=1e-4, atol=1e-5
    )
    kept = np.where(features >= np.sort(features, axis=1)[:, -6:-5], features, 0)
    pruned = kept * np.exp(features.sum(1) / kept.sum(1))[:, None]
    energy = np.log(np.exp(pruned @ last["kernel"] + last["bias"]).sum(1))
    np.testing.assert_allclose(scores, energy, rtol=1e-4)
    decision, scores, _ = scored("tmc", score="certainty")
    evidence = decision.values.astype(np.float64).sum(1)
    np.testing.assert_allclose(scores, evidence / (evidence + 4), rtol=1e-6)


@pytest.mark.parametrize(
    "setting",
    [
        {"fusion": "sum"},
        {"head": "svm"},
        {"score": "best"},
        {"head": "tmc"},
        {"fusion": "late", "head": "arpl"},
        {"fusion": "late_shared"},
        {"score": "certainty"},
        {"score": "ash"},
        {"count": 16},
    ],
)
def test_impossible_settings_are_refused_by_name(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        OpenSetClassifier(**setting)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fusion": "single", "modality": "smell"}, "smell"),
        ({"pairs": (("a", "x"),)}, "'x'"),
        ({"vocabulary": (("y", 5),)}, "'y'"),
        ({"fusion": "single"}, "''"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        OpenSetClassifier(**settings).for_data({"a": (3,), "b": (4,)}, 5)


def test_the_order_of_modalities_is_that_of_their_names_with_jit_and_without(pairs):
    method, _, state = start(small("tmc"), pairs)
    batch = batch_of(pairs)
    assert list(batch["present"]) == ["camera", "caption"]
    turned = batch | {part: dict(reversed(batch[part].items())) for part in ("features", "present")}
    values = [
        loss(state.params, state.state, turned, key=jax.random.key(0))[0]
        for loss in (jax.jit(method.loss), method.loss)
    ]
    np.testing.assert_allclose(*values, rtol=1e-5)


@pytest.mark.parametrize("name", ["cross_attention", "concat", "arpl-concat"])
def test_a_matched_control_has_the_parameters_of_the_experts(name, pairs):
    head = name.partition("-")[0] if "-" in name else "softmax"
    _, _, experts = start(small("mrn", experts=6, head=head), pairs)
    method, _, control = start(small(name, matched=6), pairs)
    counts = [sum(x.size for x in jax.tree.leaves(s.params)) for s in (experts, control)]
    one_unit = counts[1] / method.hidden
    assert abs(counts[0] - counts[1]) < one_unit and method.matched == 0
    again = method.for_features(pairs)
    assert again == method, "made for the data already"


@pytest.mark.parametrize(
    "settings", [{}, {"experts": 0, "hidden": 0}, {"experts": 0, "fusion": "late"}]
)
def test_what_has_no_hidden_layer_of_its_own_cannot_be_matched(settings):
    with pytest.raises(ValueError, match="matched needs"):
        OpenSetClassifier(matched=15, **settings)


def test_without_noise_training_uses_the_experts_that_evaluation_uses(pairs):
    """The load is that of the clean choice, so only the importance moves the gates' balance."""
    batch, values = batch_of(pairs), {}
    for noise in (True, False):
        method, _, state = start(small("mrn", gate_noise=noise), pairs)
        _, values[noise], gradient, _ = evaluate(method, state, batch)
        moves = np.abs(gradient["network"]["adapt"]["noise"]).max()
        assert (moves > 0) == noise
    gates = decide(method, state, batch)["camera+caption"].gates
    expected = losses.load_balance_loss(jnp.asarray(gates), jnp.asarray(gates > 0, jnp.float32))
    np.testing.assert_allclose(values[False]["balance"], expected, rtol=1e-4)
    assert abs(values[True]["balance"] - expected) > 1e-2


def test_an_ensemble_trains_its_members_as_if_each_were_alone_and_averages_probabilities(pairs):
    method, _, state = start(small("ensemble-mrn", members=3), pairs)
    one = dataclasses.replace(method, members=1)
    batch = batch_of(pairs)
    value, _, gradient, after = evaluate(method, state, batch)
    part = lambda tree, i: jax.tree.map(lambda x: x[i], tree)
    total, probabilities = 0.0, []
    for i in range(3):
        key = jax.random.fold_in(jax.random.key(0), i)
        loss = jax.value_and_grad(one.loss, has_aux=True)
        (alone, _), expected = loss(part(state.params, i), part(state.state, i), batch, key=key)
        chex.assert_trees_all_close(part(gradient, i), expected, rtol=1e-4, atol=1e-6)
        total += alone
        outputs = one.classify(
            part(state.params, i), part(state.state, i), batch["features"], batch["present"]
        )
        probabilities.append(softmax(np.asarray(outputs["camera+caption"].logits), axis=1))
    np.testing.assert_allclose(value, total, rtol=1e-5)
    assert after["step"].tolist() == [1, 1, 1]
    decision = decide(method, state, batch)["camera+caption"]
    np.testing.assert_allclose(np.exp(decision.logits), np.mean(probabilities, 0), rtol=1e-4)
    scores = method.known_scores(state.params, decision)
    np.testing.assert_allclose(scores, np.mean(probabilities, 0).max(1), rtol=1e-4)
    np.testing.assert_allclose(decision.gates.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("settings", [{"head": "arpl"}, {"score": "energy"}])
def test_an_ensemble_averages_probabilities_and_nothing_else(settings):
    with pytest.raises(ValueError, match="members > 1 needs"):
        OpenSetClassifier(members=2, **settings)
