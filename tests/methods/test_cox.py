"""COX: what every method owes; eq. 9, 13 and 15 against NumPy; anchors of all examples."""

import dataclasses
from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conformance import assert_devices_agree, start
from scipy.special import log_softmax, softmax

from unirep_jax.data.resident import Pool, resident_arrays, take, wholes
from unirep_jax.methods import COMBINED, COX
from unirep_jax.methods.exploration import Known, advantage, anchor_pairs, consensus, gated
from unirep_jax.train.step import train_step

SMALL = COX(modality="sensor", dim=8, width=8, layers=1, latent=3, hidden=6, noise=0.1)
PLAIN = dataclasses.replace(SMALL, noise=0.0, hold_features=False, warmup=0.0)
STEPS = 20  # of training, as methods are told
UNPAIRED = dataclasses.replace(
    SMALL, probe=0.2, anchors=0.2, connect=0.2, refresh_every=4, share=0.25
)
INSIDE = ("camera", "caption")


def pools_of(feature_set, paired=True, count=16, reveal=False, validation=False):
    """Pools of the training examples, of which without pairs both sides are all.

    validation: the labelled examples of another pool, which here are some of the unlabelled ones.
    """
    rows = np.flatnonzero(feature_set.train)
    known, rest = (rows[:count], rows[count:]) if paired else (rows[:0], rows)
    pools = {
        "labelled": Pool(known, count, feature_set.modalities, labelled=True),
        "unlabelled": Pool(rest, count, ("sensor",), labelled=reveal, numbered=True),
        "in_modal": Pool(rest[::-1].copy(), count, INSIDE, labelled=True),
        "validation": Pool(
            rest[: count if validation else 0], count, feature_set.modalities, labelled=True
        ),
    }
    return {name: pool for name, pool in pools.items() if len(pool.rows)}


def begin(method, feature_set, paired=True, seed=0, **pooled):
    """Method, state, a batch that shows the first examples of each pool, and the method's look at
    all of them."""
    pools = pools_of(feature_set, paired, **pooled)
    method, optimizer, state = start(_Fitted(method, pools), feature_set, seed)
    resident = resident_arrays(feature_set, pools)
    batch = {n: take(resident, pool.rows[: pool.count], pool) for n, pool in pools.items()}
    whole = wholes(jax.tree.map(jnp.asarray, resident), pools)
    refresh = jax.jit(lambda params, state: method.refresh(params, state, whole))
    return method, optimizer, state, batch, refresh


class _Fitted:
    """`for_features` and then `for_pools`, as `train.fit.prepare` calls them."""

    def __init__(self, method, pools):
        self.method, self.pools = method, pools

    def for_features(self, feature_set):
        return self.method.for_features(feature_set).for_pools(self.pools, STEPS)


def evaluate(method, state, batch, key=0):
    loss = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
    (value, (after, terms)), gradient = loss(
        state.params, state.state, batch, key=jax.random.key(key)
    )
    return value, terms, gradient, after


def at_step(state, step):
    return state._replace(state=state.state | {"step": jnp.int32(step)})


def test_with_pairs_every_term_and_gradient_is_finite(paired_features):
    settings = {"warmup": 0.25, "weight_explore": 0.5}
    method, _, state, batch, _ = begin(dataclasses.replace(SMALL, **settings), paired_features)
    value, terms, gradient, _ = evaluate(method, at_step(state, 5), batch)
    expected = terms["classification"] + terms["connection"] + terms["heads"]
    np.testing.assert_allclose(value, expected + 0.5 * terms["explore"], rtol=1e-5)
    assert np.isfinite(value) and {f"mmd/{m}" for m in INSIDE} <= terms.keys()
    chex.assert_tree_all_finite(gradient)
    assert all(float(optax.global_norm(part)) > 0 for part in gradient.values())
    early, *_ = evaluate(method, at_step(state, 4), batch)
    np.testing.assert_allclose(early, expected, rtol=1e-5, err_msg="nothing is explored before")


@pytest.mark.parametrize(
    ("paired", "parallel", "step"),
    [
        (True, "shard_map", 200),
        pytest.param(False, "pmap", 12, marks=pytest.mark.slow),
    ],
)
def test_eight_devices_give_the_losses_and_gradients_of_one(
    paired, parallel, step, paired_features
):
    given = dataclasses.replace(SMALL if paired else UNPAIRED, dropout=0.1)
    method, _, state, batch, refresh = begin(given, paired_features, paired)
    state = at_step(state, step)
    if not paired:
        state = state._replace(state=refresh(state.params, state.state))
    batch = jax.tree.map(np.array, batch)
    batch["unlabelled"]["present"]["sensor"][5:7] = False
    assert_devices_agree(
        method, state, batch, parallel=parallel, counts=(8,), metrics_rtol=1e-4, state_rtol=2e-3
    )


def network(method, state, batch, name):
    """Features of a pool, from the learner itself, in float64."""
    z = method.apply(state.params, method.inputs(state.state, batch[name]))
    return np.asarray(z, np.float64)


def head(params, z):
    return z @ np.asarray(params["kernel"], np.float64) + np.asarray(params["bias"], np.float64)


def test_connection_and_exploration_are_those_of_equations_9_and_13(paired_features):
    method, _, state, batch, _ = begin(PLAIN, paired_features)
    # A bottleneck of no variance: its draw is its mean.
    for m in INSIDE:
        bias = state.params["bottleneck"][m]["encoder_2"]
        kernel = jnp.asarray(bias["kernel"]).at[:, 3:].set(0)
        state.params["bottleneck"][m]["encoder_2"] = {
            "kernel": kernel,
            "bias": jnp.asarray(bias["bias"]).at[3:].set(-100.0),
        }
    _, terms, _, _ = evaluate(method, state, batch)
    z, u = (network(method, state, batch, n) for n in ("labelled", "unlabelled"))
    label = batch["labelled"]["label"]
    maps = method.mapped(state.params, method.embeddings(state.state, batch["labelled"]))
    connection = sum(np.mean(np.sum((z - np.asarray(v)) ** 2, axis=1)) / 8 for v in maps.values())
    np.testing.assert_allclose(
        terms["connection"], connection, rtol=2e-3
    )  # of the clipped variance
    logits = head(state.params["head"], z)
    classification = -np.mean(log_softmax(logits, axis=1)[np.arange(16), label])
    np.testing.assert_allclose(terms["classification"], classification, rtol=1e-4)

    votes = [head(state.params["in_modal_head"][m], u).argmax(1) for m in INSIDE]
    apart = np.flatnonzero(votes[0] != votes[1])
    assert 0 < len(apart) < 16
    p, total = softmax(head(state.params["head"], u), axis=1), 0.0
    for d in apart:
        anchors = [a for a in range(16) if label[a] in (votes[0][d], votes[1][d])]
        q = softmax(logits[anchors], axis=1)
        total += np.mean(np.sum(p[d] * (np.log(p[d]) - np.log(q)), axis=1))
    np.testing.assert_allclose(terms["explore"], total / (16 + len(apart)), rtol=1e-4)
    np.testing.assert_allclose(terms["agreement"], 1 - len(apart) / 16, rtol=1e-6)


def test_a_pairing_compares_with_other_anchors(paired_features):
    method, _, state, batch, _ = begin(PLAIN, paired_features)
    u, z = (network(method, state, batch, n).astype(np.float32) for n in ("unlabelled", "labelled"))
    label, votes = batch["labelled"]["label"], method.votes(state.params, u)
    keys, there = jax.random.split(jax.random.key(0), 16), jnp.arange(16) > 2
    anchors = Known(jnp.asarray(z), jnp.zeros((16, 4)), label, there)
    pairs = {
        pairing: np.asarray(anchor_pairs(pairing, votes, jnp.asarray(u), anchors, keys))
        for pairing in ("class", "nearest", "random", "all")
    }
    assert not any(p[:, :3].any() for p in pairs.values()) and pairs["all"][:, 3:].all()
    assert (pairs["nearest"].sum(1) == pairs["class"].any(1)).all()
    assert not (pairs["nearest"] & ~pairs["class"]).any() and (pairs["random"].sum(1) == 1).all()
    assert len({*pairs["random"].argmax(1)}) > 3


@pytest.mark.parametrize("pairing", ["all", "marginal"])
def test_other_pairings_have_finite_losses_of_their_own(pairing, paired_features):
    method, _, state, batch, _ = begin(PLAIN, paired_features)
    other = dataclasses.replace(method, pairing=pairing)
    values = [
        jax.jit(m.loss)(state.params, state.state, batch, key=jax.random.key(0))[1][1]["explore"]
        for m in (method, other)
    ]
    assert np.isfinite(values).all() and abs(values[0] - values[1]) > 1e-4


def test_the_printed_normaliser_sums_over_pairs(paired_features):
    method, _, state, batch, _ = begin(dataclasses.replace(PLAIN, pairing="all"), paired_features)
    pairs = dataclasses.replace(method, normalization="pairs")
    one, other = (evaluate(m, state, batch)[1]["explore"] for m in (method, pairs))
    np.testing.assert_allclose(other, 16 * one, rtol=1e-5)


def test_held_features_are_not_moved_by_the_connection_and_heads_move_nothing_else(paired_features):
    given = dataclasses.replace(PLAIN, hold_features=True, weight_explore=0.0)
    method, _, state, batch, _ = begin(given, paired_features)
    only = lambda term: jax.jit(
        jax.grad(lambda p: method.loss(p, state.state, batch, key=jax.random.key(0))[1][1][term])
    )(state.params)
    norm = lambda gradient: {k: float(optax.global_norm(v)) > 0 for k, v in gradient.items()}
    assert [k for k, v in norm(only("connection")).items() if v] == ["bottleneck"]
    assert [k for k, v in norm(only("heads")).items() if v] == ["in_modal_head"]
    free = dataclasses.replace(method, hold_features=False)
    gradient = jax.jit(
        jax.grad(
            lambda p: free.loss(p, state.state, batch, key=jax.random.key(0))[1][1]["connection"]
        )
    )(state.params)
    assert norm(gradient)["learner"]


def test_one_in_modal_modality_disagrees_with_nobody(paired_features):
    features = {m: paired_features.features[m] for m in ("sensor", "camera")}
    present = {m: paired_features.present[m] for m in features}
    data = dataclasses.replace(paired_features, features=features, present=present)
    pools = {
        n: p._replace(modalities=tuple(m for m in p.modalities if m in features))
        for n, p in pools_of(data).items()
    }
    method, _, state = start(_Fitted(PLAIN, pools), data)
    resident = resident_arrays(data, pools)
    batch = {n: take(resident, p.rows[:16], p) for n, p in pools.items()}
    _, terms, _, _ = evaluate(method, state, batch)
    assert float(terms["explore"]) == 0 and float(terms["agreement"]) == 1
    shapes = {m: x.shape[1:] for m, x in data.features.items()}
    assert method.inert(shapes, 4) == ["explore (one in-modal modality agrees with itself)"]
    assert not method.inert(shapes | {"caption": (3,)}, 4)
    assert not dataclasses.replace(method, weight_explore=0.0).inert(shapes, 4)


def test_it_learns_the_classes_and_the_same_seed_gives_the_same_numbers(
    paired_features, standard_promotion
):
    def trained():
        given = dataclasses.replace(SMALL, warmup=0.9, weight_explore=0.1)
        method, optimizer, state, batch, _ = begin(given, paired_features)
        step = jax.jit(partial(train_step, method=method, optimizer=optimizer, axis_name=None))
        history = []
        for _ in range(60):
            state, metrics = step(state, batch)
            history.append(metrics)
        assert step._cache_size() == 1
        return method, state, history

    (method, state, history), (_, again, _) = trained(), trained()
    chex.assert_trees_all_equal(state.params, again.params)
    assert history[-1]["connection"] < 0.5 * history[0]["connection"]
    test = {m: x[~paired_features.train] for m, x in paired_features.features.items()}
    present = {m: np.ones(32, bool) for m in test}
    found = method.classify(state.params, state.state, test, present)["sensor"]
    right = found.logits.argmax(1) == paired_features.label[~paired_features.train]
    assert right.mean() > 0.6, "chance is a quarter"
    assert {*found.mapped} == {*INSIDE} and found.mapped["camera"].shape == (32, 8)
    assert found.votes.shape == (32, 2, 4)


# -- without pairs -----------------------------------------------------------------------------


@pytest.fixture
def unpaired(paired_features):
    method, _, state, batch, refresh = begin(UNPAIRED, paired_features, paired=False)
    return method, state, batch, refresh


def everything(method, state, data):
    """Features, logits and heads' choices of all training examples."""
    train = data.train
    features = {m: x[train] for m, x in data.features.items()}
    present = {m: p[train] for m, p in data.present.items()}
    says = method.classify(state.params, state.state, features, present)["sensor"]
    return jax.tree.map(np.asarray, says)


def test_anchors_are_the_surest_examples_on_which_heads_agree(unpaired, paired_features):
    method, state, _, refresh = unpaired
    anchors = refresh(state.params, at_step(state, 4).state)["anchors"]
    says = everything(method, state, paired_features)
    votes = says.votes
    agree = np.flatnonzero((votes.argmax(2) == votes.argmax(2)[:, :1]).all(1))
    sure = softmax(votes, axis=2).max(2).mean(1)
    expected = sorted(agree, key=lambda i: -sure[i])[:16]  # a quarter of 64
    assert anchors.where.sum() == len(expected)
    assert {*np.asarray(anchors.index)[np.asarray(anchors.where)]} == {*expected}
    for i, label in zip(anchors.index, anchors.label, strict=True):
        if i in expected:
            assert label == votes[i].argmax(1)[0]


def test_centroids_are_of_what_the_head_and_the_labels_say(unpaired, paired_features):
    method, state, _, refresh = unpaired
    centroids = refresh(state.params, at_step(state, 8).state)["centroids"]
    says = everything(method, state, paired_features)
    predicted, label = says.logits.argmax(1), paired_features.label[:64]
    mean, scale = (np.asarray(a) for a in state.state["statistics"]["caption"])
    caption = (paired_features.features["caption"][:64] - mean) / scale
    for c in range(4):
        assert bool(centroids.where[c]) == (predicted == c).any()
        if centroids.where[c]:
            expected = says.features[predicted == c].mean(0)
            np.testing.assert_allclose(centroids.features[c], expected, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(
            centroids.embeddings["caption"][c], caption[label == c].mean(0), rtol=1e-3, atol=1e-5
        )


def test_emergent_anchors_are_the_nearest_to_all_mappings_of_an_in_modal_example(
    unpaired, paired_features
):
    method, state, _, refresh = unpaired
    anchors = refresh(state.params, at_step(state, 16).state)["anchors"]
    says = everything(method, state, paired_features)
    z = says.features.astype(np.float64)
    distance = np.mean(
        [np.linalg.norm(z[:, None] - v[None], axis=2) for v in says.mapped.values()], axis=0
    )
    expected = np.argsort(distance.min(1))[:16]
    assert {*np.asarray(anchors.index)} == {*expected} and anchors.where.all()
    mean, scale = (np.asarray(a) for a in state.state["statistics"]["caption"])
    for place, j in enumerate(np.asarray(anchors.index)):
        counterpart = distance[j].argmin()
        assert anchors.label[place] == paired_features.label[counterpart]
        caption = (paired_features.features["caption"][counterpart] - mean) / scale
        np.testing.assert_allclose(
            anchors.embeddings["caption"][place], caption, rtol=1e-4, atol=1e-5
        )


def test_each_phase_has_its_terms_and_changes_what_it_should(unpaired):
    method, state, batch, refresh = unpaired
    weights, loss = {}, jax.jit(jax.grad(method.loss, has_aux=True))
    for step in (0, 4, 8, 12):
        now = at_step(state, step)
        now = now._replace(state=refresh(now.params, now.state))
        terms, *_ = method.terms(now.params, now.state, batch, jax.random.key(0), None)
        weights[step] = {name for name, (weight, _) in terms.items() if float(weight) > 0}
        chex.assert_tree_all_finite(loss(now.params, now.state, batch, key=jax.random.key(0)))
    assert weights == {
        0: {"heads"},
        4: {"heads", "anchors"},
        8: {"heads", "centroids"},
        12: {"heads", "anchors", "connection", "explore"},
    }


def test_memory_of_the_correspondence_is_linear_in_the_examples(paired_features):
    """4096 examples of each side: no square of that exists in the compiled program."""
    count = 4096
    data = dataclasses.replace(
        paired_features,
        features={
            m: np.resize(x, (count, *x.shape[1:])) for m, x in paired_features.features.items()
        },
        present=dict.fromkeys(paired_features.features, np.ones(count, bool)),
        label=np.resize(paired_features.label, count),
        train=np.ones(count, bool),
        group=np.arange(count, dtype=np.int32),
    )
    method, _, state, _, _ = begin(UNPAIRED, data, paired=False)
    pools = pools_of(data, paired=False)
    resident = resident_arrays(data, pools)

    def refresh(params, state, resident):
        return method.refresh(params, state, wholes(resident, pools))

    compiled = jax.jit(refresh).lower(state.params, state.state, resident).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * count**2 / 2


@pytest.mark.parametrize(
    "setting",
    [
        {"head_input": "raw"},
        {"pairing": "best"},
        {"normalization": "sum"},
        {"share": 0.0},
        {"warmup": 100},
        {"probe": -0.1},
        {"target": "truth"},
        {"heads_share": 1.5},
        {"consensus_sharpness": 0.0},
    ],
)
def test_impossible_settings_are_refused_by_name(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        COX(**setting)


def test_settings_that_do_not_fit_the_data_are_refused(paired_features):
    shapes = {m: x.shape[1:] for m, x in paired_features.features.items()}
    with pytest.raises(ValueError, match="head_input='embedding': camera has 40 dimensions"):
        dataclasses.replace(SMALL, head_input="embedding").for_data(shapes, 4)
    with pytest.raises(ValueError, match="no modality besides 'sensor'"):
        SMALL.for_data({"sensor": (3,)}, 4)
    pools = pools_of(paired_features, paired=False)
    with pytest.raises(ValueError, match="refresh_every=0: without pairs it must be at least 1"):
        dataclasses.replace(UNPAIRED, refresh_every=0).for_pools(pools, STEPS)


# -- what the paper's Table 4 leaves out, and what is ours -------------------------------------


def test_every_phase_has_steps_by_default_and_exploration_some_of_them(paired_features):
    """Unsupervised COX once ended where exploration was to begin, at step 300 of 300."""
    for steps in (60, 300, 940):
        fitted = COX(modality="sensor", refresh_every=10).for_pools(
            pools_of(paired_features, paired=False), steps
        )
        ends = (0, *fitted.ends(), steps)
        assert (np.diff(ends) > 0).all() and (np.array(ends[:-1]) % 10 == 0).all()
        assert fitted.explores_from() == pytest.approx(0.75 * steps, abs=10)
    paired = COX(modality="sensor").for_pools(pools_of(paired_features), 300)
    assert paired.explores_from() == 100


@pytest.mark.parametrize(
    ("paired", "steps", "changes", "phase"),
    [
        (False, 300, {"connect": 0.5}, "'explore'"),
        (False, 60, {"probe": 0.05}, "'probe'"),
        (False, 60, {"anchors": 0.05}, "'anchors'"),
        (False, 20, {}, "'probe'"),
        (True, 300, {"warmup": 1.0}, "'explore'"),
        (True, 1, {}, "'warmup'"),
    ],
)
def test_a_schedule_that_leaves_a_phase_without_a_step_is_refused(
    paired, steps, changes, phase, paired_features
):
    method = COX(modality="sensor", **changes)
    with pytest.raises(ValueError, match=f"^steps={steps}: .* leave no step to {phase}$"):
        method.for_pools(pools_of(paired_features, paired), steps)


def test_a_phase_of_share_zero_is_left_out_and_what_explores_nothing_needs_no_steps(
    paired_features,
):
    """Table 4's "w/o warm-up" has neither the anchors of eq. 14 nor the centroids."""
    method = COX(modality="sensor", anchors=0.0, connect=0.0)
    pools = pools_of(paired_features, paired=False)
    assert method.for_pools(pools, 300).ends() == (80, 80, 80)
    nothing = COX(modality="sensor", warmup=1.0, weight_explore=0.0)
    nothing.for_pools(pools_of(paired_features), 300)


def test_without_exploration_the_examples_on_which_heads_agree_are_kept(paired_features):
    """Table 4: "we only leverage the OOM data with agreement for training"."""
    given = dataclasses.replace(PLAIN, weight_explore=0.0, weight_agreed=1.0)
    method, _, state, batch, _ = begin(given, paired_features)
    _, terms, _, _ = evaluate(method, state, batch)
    assert "explore" not in terms
    u = network(method, state, batch, "unlabelled")
    votes = [head(state.params["in_modal_head"][m], u).argmax(1) for m in INSIDE]
    agreed = np.flatnonzero(votes[0] == votes[1])
    assert 0 < len(agreed) < 16
    log_p = log_softmax(head(state.params["head"], u), axis=1)
    expected = -np.mean(log_p[agreed, votes[0][agreed]])
    np.testing.assert_allclose(terms["agreed"], expected, rtol=1e-4)


def test_the_shared_head_learns_mapped_in_modal_examples_and_moves_their_maps(paired_features):
    given = dataclasses.replace(PLAIN, weight_explore=0.0, weight_shared=0.5)
    method, _, state, batch, _ = begin(given, paired_features)
    value, terms, _, _ = evaluate(method, state, batch)
    total = terms["classification"] + terms["connection"] + terms["heads"] + 0.5 * terms["shared"]
    np.testing.assert_allclose(value, total, rtol=1e-5)
    gradient = jax.jit(
        jax.grad(
            lambda p: method.loss(p, state.state, batch, key=jax.random.key(0))[1][1]["shared"]
        )
    )(state.params)
    moved = {name for name, part in gradient.items() if float(optax.global_norm(part)) > 0}
    assert moved == {"head", "bottleneck"}


def test_the_consensus_breaks_ties_by_who_is_surer_and_can_leave_the_heads_out(rng):
    logits, votes = rng.normal(size=(5, 3)), rng.normal(size=(2, 5, 3))
    found = consensus(jnp.asarray(logits), jnp.asarray(votes), heads=0.4, temperature=0.5)
    mean = 0.6 * log_softmax(logits, axis=1) + 0.4 * log_softmax(votes, axis=2).mean(0)
    np.testing.assert_allclose(found, softmax(mean / 0.5, axis=1), rtol=1e-5)
    alone = consensus(jnp.asarray(logits), jnp.asarray(votes), heads=0.0, temperature=1.0)
    np.testing.assert_allclose(alone, softmax(logits, axis=1), rtol=1e-5)
    tie = jnp.array([[[2.0, 0.0, 0.0]], [[0.0, 1.9, 0.0]]])
    assert consensus(jnp.zeros((1, 3)), tie, heads=1.0, temperature=0.1)[0].argmax() == 0


def test_the_oracle_reads_labels_of_disagreement_alone_and_only_where_they_are_revealed(
    paired_features,
):
    given = dataclasses.replace(PLAIN, target="labels")
    with pytest.raises(ValueError, match="target='labels': an oracle"):
        begin(given, paired_features)
    method, _, state, batch, _ = begin(given, paired_features, reveal=True)
    _, terms, _, _ = evaluate(method, state, batch)
    u = network(method, state, batch, "unlabelled")
    votes = [head(state.params["in_modal_head"][m], u).argmax(1) for m in INSIDE]
    apart = np.flatnonzero(votes[0] != votes[1])
    log_p = log_softmax(head(state.params["head"], u), axis=1)
    expected = -np.mean(log_p[apart, np.asarray(batch["unlabelled"]["label"])[apart]])
    np.testing.assert_allclose(terms["explore"], expected, rtol=1e-4)


def test_the_advantage_of_a_head_is_counted_where_heads_disagree_and_gates_its_votes():
    votes = jax.nn.one_hot(jnp.array([[0, 1, 2, 2], [0, 2, 1, 2]]), 3)
    logits, label = jax.nn.one_hot(jnp.array([1, 0, 2, 0]), 3), jnp.array([0, 1, 1, 0])
    everybody = jnp.ones(4, bool)
    # They disagree on the second and third example: the learner is wrong, each head right once.
    np.testing.assert_allclose(advantage(votes, logits, label, everybody), [0.5, 0.5])
    last = jnp.array([True, False, True, True])
    np.testing.assert_allclose(advantage(votes, logits, label, last), [0.0, 1.0])
    np.testing.assert_allclose(advantage(votes, logits, label, everybody & False), [0.0, 0.0])
    kept, where = gated(votes, last, jnp.array([False, True]))
    np.testing.assert_array_equal(kept, jnp.stack([votes[1], votes[1]]))
    np.testing.assert_array_equal(where, last)
    assert not gated(votes, last, jnp.array([False, False]))[1].any()


def test_a_head_behind_the_learner_on_held_out_labels_is_not_heard(paired_features):
    given = dataclasses.replace(PLAIN, gate=True, gate_momentum=0.5)
    with pytest.raises(ValueError, match="gate=True needs pairs that training does not see"):
        begin(given, paired_features)
    method, _, state, batch, _ = begin(given, paired_features, validation=True)
    ungated, *_ = begin(PLAIN, paired_features, validation=True)
    find = lambda before: evaluate(
        method,
        state._replace(state=state.state | {"advantage": jnp.asarray(before, jnp.float32)}),
        batch,
    )
    (_, shut, *_), (_, opened, _, after) = find([-9.0, -9.0]), find([9.0, 9.0])
    (_, first, *_) = find([9.0, -9.0])
    _, plain, *_ = evaluate(ungated, state, batch)
    assert shut["explore"] == 0
    np.testing.assert_allclose(opened["explore"], plain["explore"], rtol=1e-5)
    assert 0 < first["explore"] != opened["explore"], "anchors of one head's classes alone"
    z = network(method, state, batch, "validation")
    votes = [head(state.params["in_modal_head"][m], z).argmax(1) for m in INSIDE]
    own, label = head(state.params["head"], z).argmax(1), np.asarray(batch["validation"]["label"])
    apart = votes[0] != votes[1]
    expected = [np.mean((v == label)[apart] * 1.0 - (own == label)[apart]) for v in votes]
    np.testing.assert_allclose(after["advantage"], 0.5 * 9 + 0.5 * np.array(expected), rtol=1e-5)


def test_pairs_held_out_teach_nothing(paired_features):
    method, _, state, batch, _ = begin(PLAIN, paired_features, validation=True)
    value, *_ = evaluate(method, state, batch)
    without = {name: pool for name, pool in batch.items() if name != "validation"}
    assert value == evaluate(method, state, without)[0]


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("cox_moco", {"contrast", "entropy"}),
        ("cox_freematch", {"pseudo", "fairness"}),
        ("cox_mixtext", {"mixed_labelled", "mixed_unlabelled"}),
    ],
)
def test_cox_with_another_method_has_the_terms_of_both_and_learns_every_part(
    name, own, paired_features
):
    settings = {f.name: getattr(PLAIN, f.name) for f in dataclasses.fields(PLAIN)}
    method, _, state, batch, _ = begin(COMBINED[name](**settings), paired_features)
    state = at_step(state, 10)
    value, terms, gradient, after = evaluate(method, state, batch)
    assert own | {"classification", "connection", "heads", "explore"} <= terms.keys()
    assert np.isfinite(value) and after["step"] == 11
    assert all(float(optax.global_norm(part)) > 0 for part in gradient.values())
