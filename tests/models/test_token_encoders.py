"""Token encoders: absence, order of steps, and dropout that follows the key of an example."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unirep_jax.models.text import TextEncoder
from unirep_jax.models.tokens import SequenceTokens, VectorTokens

PRESENT = np.array([True, False, True])
ENCODERS = {
    "vector": (VectorTokens(width=6, tokens=3, hidden=8), (7,), 3),
    "sequence": (SequenceTokens(width=6), (4, 7), 4),
    "maps": (SequenceTokens(width=6), (4, 2, 2, 3), 4),
}


def start(model, x):
    init = jax.jit(lambda key, x: model.init(key, x, jnp.bool_(True), train=False))
    return init(jax.random.key(0), x)


@pytest.mark.parametrize("kind", ENCODERS)
def test_absent_examples_are_masked_and_without_effect(kind, rng):
    model, shape, positions = ENCODERS[kind]
    x = rng.normal(size=(3, *shape)).astype(np.float32)
    variables = start(model, x[0])

    @jax.jit
    def run(variables, x):
        def loss(variables):
            apply = lambda x, present: model.apply(variables, x, present, train=False)
            tokens, mask = jax.vmap(apply)(x, PRESENT)
            return jnp.sum(jnp.where(mask[..., None], jnp.sin(tokens), 0)), (tokens, mask)

        return jax.grad(loss, has_aux=True)(variables)

    gradient, (tokens, mask) = run(variables, x)
    assert tokens.shape == (3, positions, 6)
    np.testing.assert_array_equal(mask, np.repeat(PRESENT[:, None], positions, axis=1))
    np.testing.assert_allclose(tokens.mean(-1), 0, atol=1e-5)  # normalised
    spoiled = x.copy()
    spoiled[1] = np.nan
    chex.assert_trees_all_equal(run(variables, spoiled)[0], gradient)
    chex.assert_tree_all_finite(gradient)
    assert any(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(gradient))


def test_sequences_know_where_a_step_is(rng):
    model = SequenceTokens(width=6, layers=1)
    x = np.tile(rng.normal(size=(1, 5)), (9, 1)).astype(np.float32)
    variables = start(model, x)
    apply = jax.jit(lambda x: model.apply(variables, x, jnp.bool_(True), train=False)[0])
    tokens = apply(x)
    assert jnp.abs(tokens[3] - tokens[4]).max() > 1e-3
    changed = x.copy()
    changed[4] += 1
    moved = jnp.abs(apply(changed) - tokens).max(-1) > 1e-6
    np.testing.assert_array_equal(np.flatnonzero(moved), [3, 4, 5])


@pytest.mark.parametrize("kind", [*ENCODERS, "text"])
def test_dropout_acts_in_training_alone_and_draws_by_the_example_key(kind, rng):
    if kind == "text":
        x = rng.integers(1, 5, size=4).astype(np.int32)
        model, positions = TextEncoder(vocabulary=5, hidden=3, embedding=4, dropout=0.5), 4
    else:
        model, shape, positions = ENCODERS[kind]
        x, model = rng.normal(size=shape).astype(np.float32), model.clone(dropout=0.5)
    variables = start(model, x)

    @jax.jit
    def training(keys):
        apply = lambda key: model.apply(
            variables, x, jnp.bool_(True), train=True, rngs={"dropout": key}
        )
        return jax.vmap(apply)(keys)[0]

    keys = jax.random.split(jax.random.key(3), 3)
    tokens = training(keys)
    assert tokens.shape[:2] == (3, positions)
    for other in (1, 2):  # the same example thrice, with a key of its own each time
        assert jnp.abs(tokens[0] - tokens[other]).max() > 1e-2
    np.testing.assert_allclose(training(keys[::-1]), tokens[::-1], rtol=1e-5, atol=1e-6)
    still = model.apply(variables, x, jnp.bool_(True), train=False)[0]
    without = model.clone(dropout=0.0).apply(variables, x, jnp.bool_(True), train=False)[0]
    np.testing.assert_array_equal(still, without)
    assert jnp.abs(tokens[0] - still).max() > 1e-2
