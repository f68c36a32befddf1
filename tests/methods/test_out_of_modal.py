"""The baselines of COX: what every method owes, and what sets each of them apart."""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance import assert_devices_agree, start
from scipy.special import log_softmax

from unirep_jax import losses
from unirep_jax.data import gather
from unirep_jax.methods import BASELINES
from unirep_jax.methods.out_of_modal import MixText, MoCo, _mixed
from unirep_jax.methods.out_of_modal_learner import learner_arrays, linear
from unirep_jax.train.step import train_step

SMALL = {"dim": 8, "width": 8, "layers": 1, "noise": 0.1, "modality": "sensor"}
CHANGES = {"moco": {"slots": 64, "projection": 6}}
TERMS = {
    "random": set(),
    "erm": {"classification"},
    "supervised": {"classification"},
    "entmin": {"classification", "entropy"},
    "ssl": {"classification", "consistency"},
    "moco": {"classification", "entropy", "contrast"},
    "freematch": {"classification", "pseudo", "fairness"},
    "mixtext": {"mixed_labelled", "mixed_unlabelled"},
    "distillation": {"classification", "distillation", "teachers"},
}
WITHOUT_LABELS = {"ssl": {"consistency"}, "moco": {"contrast"}}


def method_of(name, **changes):
    return BASELINES[name](**SMALL | CHANGES.get(name, {}) | changes)


def pools_of(feature_set, labelled=16, unlabelled=16):
    rows = np.flatnonzero(feature_set.train)
    parts = {"labelled": rows[:labelled], "unlabelled": rows[labelled : labelled + unlabelled]}
    batch = {n: gather(feature_set, part) for n, part in parts.items() if len(part)}
    if "unlabelled" in batch:
        only = lambda kind: {"sensor": batch["unlabelled"][kind]["sensor"]}
        batch["unlabelled"] = {"features": only("features"), "present": only("present")}
    if "labelled" in batch:
        del batch["labelled"]["index"]
        batch["labelled"]["label"] = feature_set.label[parts["labelled"]]
    return batch


def evaluate(method, state, batch):
    loss = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
    (value, (after, terms)), gradient = loss(
        state.params, state.state, batch, key=jax.random.key(0)
    )
    return value, terms, gradient, after


@pytest.mark.parametrize("name", BASELINES)
def test_loss_is_the_weighted_sum_of_its_terms_and_every_part_learns(name, paired_features):
    method, _, state = start(method_of(name), paired_features)
    value, terms, gradient, after = evaluate(method, state, pools_of(paired_features))
    assert TERMS[name] <= terms.keys() and np.isfinite(value) and after["step"] == 1
    chex.assert_tree_all_finite(gradient)
    learned = [float(optax.global_norm(part)) > 0 for part in gradient.values()]
    assert all(learned) if name != "random" else not any(learned)
    weight = lambda t: getattr(method, f"weight_{t}", 1.0) * (0 if t == "mixed_unlabelled" else 1)
    np.testing.assert_allclose(value, sum(weight(t) * terms[t] for t in TERMS[name]), rtol=1e-5)


@pytest.mark.parametrize("name", ["erm", "entmin", "moco", "freematch", "mixtext"])
def test_where_everything_is_labelled_the_loss_is_of_labels_alone(name, paired_features):
    method, _, state = start(method_of(name), paired_features)
    _, terms, _, _ = evaluate(method, state, pools_of(paired_features, unlabelled=0))
    assert {*terms} == ({"mixed_labelled"} if name == "mixtext" else {"classification"})


@pytest.mark.parametrize("name", WITHOUT_LABELS)
def test_without_labels_the_self_supervised_term_is_left(name, paired_features):
    method, _, state = start(method_of(name), paired_features)
    value, terms, _, _ = evaluate(method, state, pools_of(paired_features, labelled=0))
    assert {*terms} == WITHOUT_LABELS[name] and value > 0


@pytest.mark.parametrize(
    ("name", "parallel"),
    [
        ("moco", "shard_map"),
        ("freematch", "pmap"),
        ("mixtext", "shard_map"),
    ],
)
def test_eight_devices_give_the_losses_and_gradients_of_one(name, parallel, paired_features):
    method, _, state = start(method_of(name, dropout=0.1), paired_features)
    state = state._replace(state=state.state | {"step": jnp.int32(50)})  # weights have grown
    batch = pools_of(paired_features)
    batch["labelled"]["present"]["sensor"][:3] = False
    batch["unlabelled"]["present"]["sensor"][5:7] = False
    assert_devices_agree(
        method, state, batch, parallel=parallel, counts=(8,), metrics_rtol=1e-4, state_rtol=2e-3
    )


@pytest.mark.parametrize("name", ["erm", "mixtext", "freematch"])
def test_it_learns_the_classes_and_the_same_seed_gives_the_same_numbers(
    name, paired_features, standard_promotion
):
    def trained():
        method, optimizer, state = start(method_of(name), paired_features)
        step = jax.jit(partial(train_step, method=method, optimizer=optimizer, axis_name=None))
        for _ in range(60):
            state, _ = step(state, pools_of(paired_features, 32, 32))
        assert step._cache_size() == 1
        return method, state

    (method, state), (_, again) = trained(), trained()
    chex.assert_trees_all_equal(state.params, again.params)
    test = gather(paired_features, np.flatnonzero(~paired_features.train))
    found = method.classify(state.params, state.state, test["features"], test["present"])
    assert {*found} == {"sensor"} and found["sensor"].features.shape == (32, 8)
    right = found["sensor"].logits.argmax(1) == paired_features.label[test["index"]]
    assert right.mean() > 0.6, "chance is a quarter"


def test_absent_examples_do_not_matter_whatever_they_hold(paired_features):
    method, _, state = start(method_of("freematch", noise=0.0), paired_features)
    batch = pools_of(paired_features)
    results = []
    for value in (0, 9):
        for pool in batch.values():
            pool["present"]["sensor"][2:5] = False
            pool["features"]["sensor"][2:5] = value
        results.append(evaluate(method, state, batch)[:3])
    chex.assert_trees_all_close(*results, rtol=1e-5, atol=1e-6)


def test_moco_keeps_an_average_of_the_network_and_a_queue_of_its_views(paired_features):
    method, _, state = start(method_of("moco", momentum=0.75), paired_features)
    moved = jax.tree.map(lambda x: x + 1, state.params)
    _, _, _, after = evaluate(method, state._replace(params=moved), pools_of(paired_features))
    old, new = state.state["average"]["projection"], after["average"]["projection"]
    np.testing.assert_allclose(new["bias"], old["bias"] + 0.25, rtol=1e-5)
    changed = np.any(np.asarray(after["queue"]) != np.asarray(state.state["queue"]), axis=1)
    assert changed[:16].all() and not changed[16:].any()
    np.testing.assert_allclose(np.linalg.norm(after["queue"], axis=1), 1, rtol=1e-5)


def test_mixtext_at_no_mixing_is_cross_entropy(paired_features):
    """A Beta distribution of all mass at the ends mixes nothing, as does dropout at zero."""
    settings = {"concentration": 1e-3, "noise": 0.0}
    method, _, state = start(method_of("mixtext", **settings), paired_features)
    batch = pools_of(paired_features, unlabelled=0)
    value, *_ = evaluate(method, state, batch)
    erm, _, _ = start(method_of("erm", noise=0.0), paired_features)
    np.testing.assert_allclose(value, evaluate(erm, state, batch)[0], rtol=1e-3)
    assert isinstance(method, MixText) and not isinstance(method, MoCo)


def test_a_learner_starts_from_a_file_and_a_wrong_one_is_refused_by_name(paired_features, tmp_path):
    _, _, state = start(method_of("erm"), paired_features, seed=3)
    arrays = learner_arrays(state.params["learner"])
    path = tmp_path / "learner.npz"
    np.savez(path, **arrays)
    again, _, other = start(method_of("erm", learner_init=str(path)), paired_features, seed=4)
    chex.assert_trees_all_equal(other.params["learner"], state.params["learner"])
    assert np.any(other.params["head"]["kernel"] != state.params["head"]["kernel"])
    name = sorted(arrays)[0]
    np.savez(path, **{k: v for k, v in arrays.items() if k != name})
    with pytest.raises(ValueError, match=f"{name} is none"):
        start(again, paired_features)


def test_a_modality_that_is_not_there_is_refused(paired_features):
    with pytest.raises(ValueError, match="modality 'smell' is none of camera"):
        start(dataclasses.replace(method_of("erm"), modality="smell"), paired_features)


def test_a_linear_head_is_a_matrix_product_and_a_bias(rng):
    kernel, bias, x = (rng.normal(size=s).astype(np.float32) for s in ((4, 3), (3,), (2, 5, 4)))
    found = linear({"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}, jnp.asarray(x))
    np.testing.assert_allclose(found, x @ kernel + bias, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layers", "depths"), [(0, (1,)), (1, (1,)), (2, (1, 2)), (12, (7, 9, 12))]
)
def test_mixtext_mixes_behind_the_layers_that_its_paper_names(layers, depths):
    assert method_of("mixtext", layers=layers).mixing_depths() == depths


def test_mixtext_mixes_states_that_a_block_has_changed(paired_features):
    """Behind the one block, which is not linear; not behind the linear map before it."""
    settings = {"noise": 0.0, "concentration": 100.0}
    method, _, state = start(method_of("mixtext", **settings), paired_features)
    batch = pools_of(paired_features, unlabelled=0)
    found = evaluate(method, state, batch)[0]
    x = method.inputs(state.state, batch["labelled"])
    target = jax.nn.one_hot(batch["labelled"]["label"], method.classes)
    values = []
    for depth in (0, 1):
        hidden = method.apply(state.params, x, method="hidden", depth=depth)
        mixed, labels = _mixed(
            {"labelled": (hidden, target)}, jax.random.key(0), method.concentration, None
        )["labelled"]
        z = method.apply(state.params, mixed, method="readout", depth=depth)
        loss = losses.target_divergence(labels, linear(state.params["head"], z))
        values.append(float(loss.mean()))
    np.testing.assert_allclose(found, values[1], rtol=1e-5)
    assert abs(values[0] - values[1]) > 1e-4


def test_distillation_is_the_divergence_from_what_teachers_say_together(paired_features):
    """In NumPy from the parameters; the teachers are moved by labels alone."""
    method, _, state = start(method_of("distillation", noise=0.0), paired_features)
    batch = pools_of(paired_features, unlabelled=0)
    _, terms, _, _ = evaluate(method, state, batch)
    params, statistics = state.params, state.state["statistics"]
    pool = batch["labelled"]

    def logits(m, head):
        mean, scale = (np.asarray(a, np.float64) for a in statistics[m])
        x = ((pool["features"][m] - mean) / scale).reshape(16, -1)
        return x @ np.asarray(head["kernel"], np.float64) + np.asarray(head["bias"])

    says = [logits(m, params["teacher"][m]) for m in ("camera", "caption")]
    z = method.apply(params, method.inputs(state.state, pool))
    log_q = log_softmax(np.asarray(linear(params["head"], z), np.float64) / 2, axis=1)
    log_p = log_softmax(np.mean(says, axis=0) / 2, axis=1)
    expected = 4 * np.mean(np.sum(np.exp(log_p) * (log_p - log_q), axis=1))
    np.testing.assert_allclose(terms["distillation"], expected, rtol=1e-4)
    taught = -sum(np.mean(log_softmax(s, axis=1)[np.arange(16), pool["label"]]) for s in says)
    np.testing.assert_allclose(terms["teachers"], taught, rtol=1e-4)
    only = jax.jit(
        jax.grad(
            lambda p: method.loss(p, state.state, batch, key=jax.random.key(0))[1][1][
                "distillation"
            ]
        )
    )(params)
    moved = {name for name, part in only.items() if float(optax.global_norm(part)) > 0}
    assert moved == {"learner", "head"}
