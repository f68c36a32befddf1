"""The learner takes every shape of example, and its two halves are the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unirep_jax.models.learner import NETWORKS, Learner

SHAPES = {"convolution": [(7,), (6, 5), (3, 4, 4, 2)],
          "vision_transformer": [(6, 5), (8, 8, 3), (2, 8, 8, 1)]}  # fmt: skip


def learner(network):
    return Learner(5, network, 8, 1, heads=2, patch=(4, 4))


@pytest.mark.parametrize(("network", "shape"), [(n, s) for n in NETWORKS for s in SHAPES[n]])
def test_any_shape_becomes_a_vector_by_way_of_its_hidden_state(rng, network, shape):
    x = jnp.asarray(rng.normal(size=shape), jnp.float32)
    variables = learner(network).init(jax.random.key(0), x, train=False)
    apply = lambda *a, **k: learner(network).apply(variables, *a, train=False, **k)
    hidden = apply(x, method="hidden")
    z = apply(hidden, method="readout")
    assert z.shape == (5,) and z.std() > 0
    np.testing.assert_allclose(apply(x), z, rtol=1e-6)


def test_when_something_happens_matters_to_a_convolution(rng):
    x = jnp.asarray(rng.normal(size=(6, 5)), jnp.float32)
    variables = learner("convolution").init(jax.random.key(0), x, train=False)
    apply = lambda x: learner("convolution").apply(variables, x, train=False)
    assert np.abs(apply(x) - apply(x[::-1])).max() > 1e-3


def test_an_unknown_network_is_refused_by_name():
    with pytest.raises(ValueError, match="network='forest' is none of convolution"):
        learner("forest").init(jax.random.key(0), jnp.zeros(3), train=False)
