"""The learner takes every shape of example, and its two halves are the whole."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unirep_jax.models.encoders import Encoder
from unirep_jax.models.learner import NETWORKS, Learner

SHAPES = {
    "convolution": [(7,), (6, 5), (6, 5, 2), (3, 4, 4, 2)],
    "vision_transformer": [(6, 5), (8, 8, 3), (2, 8, 8, 1)],
}


def small(network, **fields):
    return Learner(5, network, 8, 2, **{"heads": 2, "patch": (4, 4)} | fields)


def start(model, x):
    """Parameters, and the learner with them."""
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(0), x)
    return variables, jax.jit(
        partial(model.apply, variables, train=False), static_argnames=("method", "depth")
    )


@pytest.mark.parametrize(("network", "shape"), [(n, s) for n in NETWORKS for s in SHAPES[n]])
def test_any_shape_becomes_a_vector_by_way_of_its_hidden_state(rng, network, shape):
    x = jnp.asarray(rng.normal(size=shape), jnp.float32)
    _, apply = start(small(network), x)
    for depth in range(3):
        z = apply(apply(x, method="hidden", depth=depth), method="readout", depth=depth)
        assert z.shape == (5,) and z.std() > 0
        np.testing.assert_allclose(apply(x), z, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("network", NETWORKS)
def test_mixing_hidden_states_is_not_mixing_vectors(rng, network):
    x = jnp.asarray(rng.normal(size=(2, 6, 5)), jnp.float32)
    _, apply = start(small(network), x[0])
    hidden = [apply(one, method="hidden", depth=1) for one in x]
    mixed = apply((hidden[0] + hidden[1]) / 2, method="readout", depth=1)
    assert np.abs(mixed - (apply(x[0]) + apply(x[1])) / 2).max() > 1e-3


def test_the_convolution_has_the_blocks_of_the_encoder(rng):
    """The same parameters under other names give the same sequence."""
    x = jnp.asarray(rng.normal(size=(6, 5)), jnp.float32)
    variables, apply = start(small("convolution"), x)
    body = variables["params"]["body"]
    names = {"Dense_0": "embedding", "LayerNorm_0": "norm"}
    names |= {f"ConvolutionBlock_{i}": f"blocks_{i}" for i in range(2)}
    params = {theirs: body[ours] for theirs, ours in names.items()}
    encoder = Encoder(8, 6, "convolution", 2, dropout=0.0)
    sequence = encoder.apply({"params": params}, x, train=False)
    projection = variables["params"]["projection"]
    expected = sequence.reshape(-1) @ projection["kernel"] + projection["bias"]
    np.testing.assert_allclose(apply(x), expected, rtol=1e-4, atol=1e-6)
    assert body.keys() == set(names.values())


@pytest.mark.parametrize(
    ("network", "patch"), [("convolution", (4, 4)), ("vision_transformer", (1, 5))]
)
def test_when_something_happens_matters(rng, network, patch):
    x = jnp.asarray(rng.normal(size=(6, 5)), jnp.float32)
    variables, apply = start(small(network, patch=patch), x)
    assert np.abs(apply(x) - apply(x[::-1])).max() > 1e-3
    if network == "vision_transformer":
        positions = variables["params"]["body"]["embedding"]["positions"]
        assert positions.shape == (1, 1 + 6, 8), "a token for each step and the class token"


@pytest.mark.parametrize("network", NETWORKS)
def test_both_halves_drop_in_training_by_the_key_alone(rng, network):
    x = jnp.asarray(rng.normal(size=(6, 5)), jnp.float32)
    model = small(network, dropout=0.5)
    variables, apply = start(model, x)
    for method, given in (("hidden", x), ("readout", apply(x, method="hidden", depth=1))):
        draw = lambda key, given=given, method=method: model.apply(
            variables, given, train=True, rngs={"dropout": key}, method=method, depth=1
        )
        once, again, other = jax.jit(jax.vmap(draw))(jax.vmap(jax.random.key)(jnp.array([1, 1, 2])))
        np.testing.assert_array_equal(once, again)
        assert np.abs(once - other).max() > 1e-3


def test_an_unknown_network_is_refused_by_name():
    with pytest.raises(ValueError, match="network='forest' is none of convolution"):
        small("forest").init(jax.random.key(0), jnp.zeros(3), train=False)
