"""The bottleneck against NumPy, its size, and that a draw can be decoded."""

import jax
import jax.numpy as jnp
import numpy as np

from unirep_jax.losses import reparameterize
from unirep_jax.models.bottleneck import Bottleneck


def layers(params, part, x):
    for i in range(3):
        layer = params[f"{part}_{i}"]
        x = x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"])
        x = np.maximum(x, 0) if i < 2 else x
    return x


def test_it_is_two_perceptrons_around_a_mean_and_a_log_variance(rng):
    net, x = Bottleneck(3, hidden=7, latent=4), rng.normal(size=5)
    variables = net.init(jax.random.key(0), jnp.asarray(x, jnp.float32))
    params = variables["params"]
    code = layers(params, "encoder", x)
    mean, log_variance = net.apply(variables, jnp.asarray(x, jnp.float32), method="encode")
    np.testing.assert_allclose(mean, code[:4], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(log_variance, code[4:], rtol=1e-4, atol=1e-6)
    through_mean = net.apply(variables, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(
        through_mean, layers(params, "decoder", code[:4]), rtol=1e-4, atol=1e-6
    )


def test_the_default_has_the_parameters_of_the_authors_layers():
    shape = jax.ShapeDtypeStruct((1024,), jnp.float32)
    variables = jax.eval_shape(Bottleneck(192).init, jax.random.key(0), shape)
    widths = [(1024, 1024), (1024, 1024), (1024, 512), (256, 1024), (1024, 1024), (1024, 192)]
    count = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert count == sum(a * b + b for a, b in widths)


def test_a_draw_decodes_to_a_vector_and_both_moments_get_gradients(rng):
    net, x = Bottleneck(3, hidden=7, latent=4), jnp.asarray(rng.normal(size=(6, 5)), jnp.float32)
    variables = net.init(jax.random.key(0), x[0])

    def draw(variables, x, key):
        latent = reparameterize(*net.apply(variables, x, method="encode"), key=key)
        return net.apply(variables, latent, method="decode")

    keys = jax.random.split(jax.random.key(1), 6)
    total = lambda v: jnp.sum(jax.vmap(draw, (None, 0, 0))(v, x, keys) ** 2)
    value, gradient = jax.jit(jax.value_and_grad(total))(variables)
    assert np.isfinite(value)
    moments = gradient["params"]["encoder_2"]["bias"]
    assert np.all(moments != 0) and moments.shape == (8,)
