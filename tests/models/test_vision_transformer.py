"""The vision transformer against NumPy, its size, its patches, padding and frames."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf, softmax

from unirep_jax.models.vision_transformer import VisionTransformer, patches

SMALL = {"patch": (4, 3), "width": 8, "depth": 2, "heads": 2}


def small(x, **fields):
    """Random parameters, none trivial, and the network with them."""
    network = VisionTransformer(**SMALL | fields)
    start = jax.eval_shape(partial(network.init, train=False), jax.random.key(0), x)
    rng = np.random.default_rng(1)
    draw = lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 2, jnp.float32)
    variables = jax.tree.map(draw, start)
    return variables, jax.jit(partial(network.apply, variables, train=False))


def normalize(x, params):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * params["scale"] + params["bias"]


def attend(x, params):
    """Every head of every token by itself."""
    head = lambda name: np.einsum("td,dhe->the", x, params[name]["kernel"]) + params[name]["bias"]
    query, key, value = head("query"), head("key"), head("value")
    out = np.zeros_like(query)
    for h in range(query.shape[1]):
        for t in range(len(x)):
            weights = softmax(key[:, h] @ query[t, h] / np.sqrt(query.shape[2]))
            out[t, h] = weights @ value[:, h]
    return np.einsum("the,hed->td", out, params["out"]["kernel"]) + params["out"]["bias"]


def test_it_is_the_network_written_in_numpy(rng):
    x = rng.normal(size=(6, 7, 2))
    variables, apply = small(jnp.asarray(x, jnp.float32))
    params = jax.tree.map(partial(np.asarray, dtype=np.float64), variables["params"])
    padded = np.pad(x, ((0, 2), (0, 2), (0, 0)))
    tiles = [padded[i : i + 4, j : j + 3].ravel() for i in (0, 4) for j in (0, 3, 6)]
    embed = params["embedding"]
    y = np.stack(tiles) @ embed["Dense_0"]["kernel"] + embed["Dense_0"]["bias"]
    y = np.concatenate([embed["class_token"][0], y]) + embed["positions"][0]
    for i in range(2):
        p = params[f"blocks_{i}"]
        y = y + attend(normalize(y, p["LayerNorm_0"]), p["MultiHeadDotProductAttention_0"])
        h = normalize(y, p["LayerNorm_1"]) @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"]
        h = h * (1 + erf(h / np.sqrt(2))) / 2
        y = y + h @ p["Dense_1"]["kernel"] + p["Dense_1"]["bias"]
    expected = normalize(y[0], params["norm"])
    np.testing.assert_allclose(apply(jnp.asarray(x, jnp.float32)), expected, rtol=1e-4, atol=1e-4)


def test_the_defaults_have_the_size_of_vit_tiny():
    init = lambda x: VisionTransformer().init(jax.random.key(0), x, train=False)
    shapes = jax.eval_shape(init, jnp.zeros((224, 224, 3)))
    d, tokens = 192, 14 * 14 + 1
    block = 4 * (d * d + d) + (d * 4 * d + 4 * d) + (4 * d * d + d) + 4 * d
    expected = (16 * 16 * 3 + 1) * d + d + tokens * d + 12 * block + 2 * d
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert count == expected == 5_524_416


def test_patches_are_read_row_by_row_and_padded_with_zeros(rng):
    x = rng.normal(size=(2, 6, 7, 3)).astype(np.float32)
    found = patches(jnp.asarray(x), (4, 3))
    padded = np.pad(x, ((0, 0), (0, 2), (0, 2), (0, 0)))
    assert found.shape == (2, 2 * 3, 4 * 3 * 3)
    for p, (i, j) in enumerate((i, j) for i in range(2) for j in range(3)):
        part = padded[:, 4 * i : 4 * i + 4, 3 * j : 3 * j + 3]
        np.testing.assert_array_equal(found[:, p], part.reshape(2, -1))


def test_frames_are_averaged_and_a_map_has_one_channel(rng):
    x = jnp.asarray(rng.normal(size=(3, 6, 7, 1)), jnp.float32)
    _, apply = small(x)
    np.testing.assert_allclose(apply(x), np.mean([apply(f) for f in x], axis=0), atol=1e-5)
    np.testing.assert_allclose(apply(x[0]), apply(x[0, ..., 0]), atol=1e-6)
    assert apply(x).shape == (8,)


def test_where_a_patch_stands_matters(rng):
    x = jnp.asarray(rng.normal(size=(8, 3, 2)), jnp.float32)
    _, apply = small(x)
    assert np.abs(apply(x) - apply(jnp.roll(x, 4, axis=0))).max() > 1e-4


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_its_two_parts_are_the_whole_wherever_it_is_cut(rng, depth):
    x = jnp.asarray(rng.normal(size=(4, 6, 1)), jnp.float32)
    variables, apply = small(x, depth=depth)
    part = partial(VisionTransformer(**SMALL | {"depth": depth}).apply, variables, train=False)
    for cut in range(depth + 1):
        tokens = part(x, method="hidden", depth=cut)
        assert tokens.shape == (1, 1 + 2, 8)
        whole = part(tokens, method="readout", depth=cut)
        np.testing.assert_allclose(whole, apply(x), rtol=1e-4, atol=1e-5)
