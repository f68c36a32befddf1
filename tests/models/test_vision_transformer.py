"""The vision transformer: its size, its patches, padding and frames."""

import jax
import jax.numpy as jnp
import numpy as np

from unirep_jax.models.vision_transformer import VisionTransformer, patches

SMALL = {"patch": (4, 3), "width": 8, "depth": 1, "heads": 2}


def test_the_defaults_have_the_size_of_vit_tiny():
    init = lambda x: VisionTransformer().init(jax.random.key(0), x, train=False)
    shapes = jax.eval_shape(init, jnp.zeros((224, 224, 3)))
    d, tokens = 192, 14 * 14 + 1
    block = 4 * d * d + 4 * d + 8 * d * d + 5 * d + 4 * d
    expected = (16 * 16 * 3 + 1) * d + d + tokens * d + 12 * block + 2 * d
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == expected
    assert 5.4e6 < expected < 5.6e6


def test_patches_are_read_row_by_row_and_padded_with_zeros(rng):
    x = rng.normal(size=(2, 6, 7, 3)).astype(np.float32)
    found = patches(jnp.asarray(x), (4, 3))
    padded = np.pad(x, ((0, 0), (0, 2), (0, 2), (0, 0)))
    assert found.shape == (2, 2 * 3, 4 * 3 * 3)
    for p, (i, j) in enumerate((i, j) for i in range(2) for j in range(3)):
        part = padded[:, 4 * i : 4 * i + 4, 3 * j : 3 * j + 3]
        np.testing.assert_array_equal(found[:, p], part.reshape(2, -1))


def test_frames_are_averaged_and_a_map_has_one_channel(rng):
    network = VisionTransformer(**SMALL)
    x = jnp.asarray(rng.normal(size=(3, 6, 7, 1)), jnp.float32)
    variables = network.init(jax.random.key(1), x, train=False)
    apply = lambda x: network.apply(variables, x, train=False)
    np.testing.assert_allclose(apply(x), np.mean([apply(f) for f in x], axis=0), atol=1e-5)
    np.testing.assert_allclose(apply(x[0]), apply(x[0, ..., 0]), atol=1e-6)
    assert apply(x).shape == (8,)


def test_where_a_patch_stands_matters(rng):
    network = VisionTransformer(**SMALL)
    x = jnp.asarray(rng.normal(size=(8, 3, 2)), jnp.float32)
    variables = network.init(jax.random.key(1), x, train=False)
    apply = lambda x: network.apply(variables, x, train=False)
    assert np.abs(apply(x) - apply(jnp.roll(x, 4, axis=0))).max() > 1e-4
