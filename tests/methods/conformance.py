"""What the tests of all methods share: a state to start from, and what every method owes."""

import dataclasses
from functools import cache, partial

import chex
import jax
import numpy as np
import optax

from unirep_jax.data import gather, standardization
from unirep_jax.train.parallel import AXIS, make_engine
from unirep_jax.train.step import init_state, train_step


def start(method, feature_set, seed=0):
    """The method for these data, an optimiser, and the state before the first step."""
    shapes = {m: x.shape[1:] for m, x in feature_set.features.items()}
    method = method.for_features(feature_set)
    optimizer = optax.adam(3e-3)
    state = init_state(
        method, optimizer, seed=seed, shapes=shapes, statistics=standardization(feature_set)
    )
    return method, optimizer, state


def assert_devices_agree(method, state, batch, *, parallel, counts, metrics_rtol, state_rtol):
    """Losses, terms, gradients and new state on each number of devices are those of one."""

    def gradient_step(state, batch, axis_name=AXIS):
        (value, (new, terms)), gradient = jax.value_and_grad(method.loss, has_aux=True)(
            state["params"], state["state"], batch, key=jax.random.key(7), axis_name=axis_name
        )
        if axis_name:
            value, terms, gradient = jax.lax.pmean((value, terms, gradient), axis_name)
        return {"params": gradient, "state": new}, {"loss": value, **terms}

    before = {"params": state.params, "state": state.state}
    expected, expected_metrics = jax.jit(partial(gradient_step, axis_name=None))(before, batch)
    expected = jax.tree.map(np.asarray, expected)
    for count in counts:
        engine = make_engine(gradient_step, parallel=parallel, devices=jax.devices()[:count])
        result, metrics = jax.block_until_ready(
            engine.step(engine.place_state(before), engine.place_batch(batch))
        )
        chex.assert_trees_all_close(metrics, expected_metrics, rtol=metrics_rtol, atol=1e-5)
        result = jax.tree.map(np.asarray, engine.fetch_state(result))
        chex.assert_trees_all_close(result, expected, rtol=state_rtol, atol=1e-5)


def batch_of(feature_set, size=32):
    """The first training examples."""
    return gather(feature_set, np.flatnonzero(feature_set.train)[:size])


def only(feature_set, *modalities):
    """The feature set of these modalities: less to compile than all."""
    return dataclasses.replace(
        feature_set,
        features={m: feature_set.features[m] for m in modalities},
        present={m: feature_set.present[m] for m in modalities},
    )


def without(feature_set, modality, rows):
    """The feature set whose examples `rows` lack a modality."""
    present = {m: p.copy() for m, p in feature_set.present.items()}
    present[modality][rows] = False
    return dataclasses.replace(feature_set, present=present)


@cache  # one compilation for all tests of a method
def loss_and_gradient(method):
    """(params, state, batch, key=...) -> ((loss, (state, terms)), gradient)."""
    return jax.jit(jax.value_and_grad(method.loss, has_aux=True))


def assert_weighted_terms_are_the_loss(method, feature_set, terms, unweighted=()):
    """The loss is the sum of these terms by their weights; it and all gradients are finite."""
    method, _, state = start(method, feature_set)
    (value, (_, logged)), gradient = loss_and_gradient(method)(
        state.params, state.state, batch_of(feature_set), key=jax.random.key(0)
    )
    expected = sum(getattr(method, f"weight_{name}") * logged[name] for name in terms)
    expected += sum(logged[name] for name in unweighted)
    assert value.shape == () and np.isfinite(value)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    chex.assert_tree_all_finite((gradient, logged))


def assert_learns(method, feature_set, *, falling, steps=60):
    """These terms fall to the given share of their start, in one compilation; seeds repeat."""
    method, optimizer, state = start(method, feature_set)
    step = jax.jit(partial(train_step, method=method, optimizer=optimizer, axis_name=None))
    history = []
    for number in range(steps):
        rows = np.random.default_rng(number).permutation(64)[:32]
        state, metrics = step(state, gather(feature_set, rows))
        history.append(metrics)
    for name, share in falling.items():
        late = np.mean([m[name] for m in history[-5:]])
        assert late < share * history[0][name], f"{name}: {history[0][name]} to {late}"
    for seed, same in ((0, True), (1, False)):
        state = start(method, feature_set, seed)[2]
        rows = np.random.default_rng(0).permutation(64)[:32]
        _, again = step(state, gather(feature_set, rows))
        assert (float(again["loss"]) == float(history[0]["loss"])) == same
    assert step._cache_size() == 1


def assert_absent_examples_do_not_matter(method, feature_set, modality):
    """Whatever stands where a modality is absent, loss, gradients and state are the same."""
    feature_set = without(feature_set, modality, slice(1, None, 3))
    method, _, state = start(method, feature_set)
    batch = batch_of(feature_set)
    hole = ~batch["present"][modality]
    x = batch["features"][modality]
    filled = np.where(hole.reshape(-1, *[1] * (x.ndim - 1)), np.float32(9), x)
    noisy = batch | {"features": batch["features"] | {modality: filled}}
    results = [
        loss_and_gradient(method)(state.params, state.state, b, key=jax.random.key(0))
        for b in (batch, noisy)
    ]
    assert hole.any() and not np.array_equal(filled, x)
    chex.assert_trees_all_close(*results, rtol=1e-5, atol=1e-6)
