"""The mixture against the chosen experts one by one, its limits, and the small open-set heads."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from unirep_jax.losses.experts import load_balance_loss
from unirep_jax.models.experts import Experts
from unirep_jax.models.heads import ClassAutoencoders, ClassPoints

SMALL = {"outputs": 3, "experts": 5, "count": 2, "hidden": 4}


def over_batch(model):
    """Of every example [batch, ...]; keys [batch] or None."""
    return jax.jit(
        lambda variables, z, key=None: jax.vmap(lambda z, key: model.apply(variables, z, key=key))(
            z, key
        )
    )


def start(rng, **fields):
    model = Experts(**SMALL | fields)
    z = jnp.asarray(rng.normal(size=(7, 6)))
    shapes = jax.eval_shape(model.init, jax.random.key(0), z[0])["params"]
    # Biases that are not zero, gates that differ clearly.
    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), shapes)
    return over_batch(model), {"params": params}, z


def keys(batch):
    return jax.random.split(jax.random.key(1), batch)


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_only_the_chosen_experts_contribute(noisy, count, rng):
    model, variables, z = start(rng, count=count)
    value, gates = model(variables, z, keys(7) if noisy else None)
    w = {k: np.asarray(v, np.float64) for k, v in variables["params"].items()}
    for z_b, gates_b, value_b in zip(np.asarray(z), gates.gates, value, strict=True):
        chosen = np.flatnonzero(gates_b)
        assert len(chosen) == count
        if not noisy:
            assert set(chosen) == set(np.argsort(-(z_b @ w["gate"]))[:count])
        expected = 0
        for e in chosen:  # the weights of the chosen ones are all that is read
            hidden = np.maximum(z_b @ w["hidden_kernel"][e] + w["hidden_bias"][e], 0)
            output = hidden @ w["output_kernel"][e] + w["output_bias"][e]
            expected = expected + float(gates_b[e]) * output
        np.testing.assert_allclose(value_b, expected, rtol=1e-4, atol=1e-5)


def test_one_expert_is_a_plain_network(rng):
    model, variables, z = start(rng, experts=1, count=1)
    value, gates = model(variables, z, keys(7))
    w = {k: np.asarray(v) for k, v in variables["params"].items()}
    hidden = np.maximum(np.asarray(z) @ w["hidden_kernel"][0] + w["hidden_bias"], 0)
    np.testing.assert_allclose(value, hidden @ w["output_kernel"][0] + w["output_bias"], rtol=1e-5)
    np.testing.assert_array_equal(gates.gates, np.ones((7, 1)))


def test_more_experts_than_there_are_cannot_be_chosen(rng):
    with pytest.raises(ValueError, match="5 experts"):
        start(rng, count=6)


def test_fresh_gates_differ_between_examples(rng):
    z = jnp.asarray(rng.normal(size=(200, 16)), jnp.float32)
    model = Experts(outputs=3)
    variables = jax.jit(model.init)(jax.random.key(0), z[0])
    value, gates = over_batch(model)(variables, z)
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes["hidden_kernel"] == (15, 16, 512) and shapes["output_kernel"] == (15, 512, 3)
    assert ((gates.gates > 0).sum(1) == 4).all()
    assert ((gates.gates > 0).any(0)).all()  # every expert has examples from the start
    assert 0.1 < float(jnp.std(value)) < 2


def test_the_noise_of_an_example_is_that_of_its_key(rng):
    model, variables, z = start(rng)
    value, gates = model(variables, z, keys(7))
    part, gates_part = model(variables, z[3:], keys(7)[3:])
    np.testing.assert_allclose(part, value[3:], rtol=1e-5)
    np.testing.assert_array_equal(gates_part.gates > 0, gates.gates[3:] > 0)


def test_every_weight_learns_from_outputs_and_balance(rng):
    model, variables, z = start(rng)

    def loss(variables):
        value, gates = model(variables, z, keys(7))
        return jnp.sum(jnp.sin(value)) + load_balance_loss(gates.gates, gates.load)

    gradient = jax.jit(jax.grad(loss))(variables)["params"]
    chex.assert_tree_all_finite(gradient)
    assert all(jnp.abs(g).max() > 0 for g in gradient.values())


def test_gradients_are_those_of_finite_differences(x64, rng):
    model, variables, z = start(rng)
    assert z.dtype == jnp.float64
    value = jax.jit(lambda v, z: jnp.sum(jnp.sin(model(v, z)[0])))
    check_grads(value, (variables, z[:2]), order=1, modes=["rev"])


def test_half_precision_features_are_mixed_in_single(rng):
    model, variables, z = start(rng)
    half = z.astype(jnp.bfloat16)
    value, gates = model(variables, half)
    expected, _ = model(variables, half.astype(jnp.float32))
    assert value.dtype == gates.gates.dtype == jnp.float32
    np.testing.assert_array_equal(value, expected)


def test_open_set_heads_hold_a_point_and_an_autoencoder_per_class():
    key = jax.random.key(0)
    points = ClassPoints(classes=400, dim=30).init_with_output(key)[0]
    assert points["points"].shape == (400, 30) and points["radius"].shape == ()
    assert abs(float(jnp.std(points["points"])) - 0.1) < 2e-3 and points["radius"] == 0
    weights = ClassAutoencoders(classes=3, dim=500, latent=20).init_with_output(key)[0]
    x = jax.random.normal(key, (50, 500))
    latent = jnp.einsum("bd,cdl->bcl", x, weights["encode"])
    assert abs(float(jnp.std(latent)) - 1) < 0.1  # neither saturates the tanh nor vanishes
    assert jnp.einsum("bcl,cld->bcd", jnp.tanh(latent), weights["decode"]).shape == (50, 3, 500)
