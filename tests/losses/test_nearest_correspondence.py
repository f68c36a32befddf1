"""The nearest counterpart against loops, in blocks of any size, under a mask, in bounded memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unirep_jax.losses import nearest_correspondence


def reference(z, mapped):
    distance = np.stack([np.linalg.norm(z[:, None] - v[None], axis=2) for v in mapped]).mean(0)
    return distance.min(1), distance.argmin(1)


@pytest.mark.parametrize("block_size", [3, 8, 1000])
@pytest.mark.parametrize("heads", [1, 2])
def test_it_is_the_least_mean_distance_whatever_the_blocks(rng, heads, block_size):
    z, mapped = rng.normal(size=(23, 5)), rng.normal(size=(heads, 17, 5))
    found = nearest_correspondence(
        jnp.asarray(z, jnp.float32), jnp.asarray(mapped, jnp.float32), block_size=block_size
    )
    distance, index = reference(z, mapped)
    np.testing.assert_array_equal(found.index, index)
    np.testing.assert_allclose(found.distance, distance, rtol=1e-5)


def test_norms_are_averaged_and_not_their_squares():
    """Squares would prefer the second item: 2 · 5² < 0² + 8²; norms the first: 0 + 8 < 5 + 5."""
    mapped = jnp.array([[[0.0], [5.0]], [[8.0], [5.0]]])
    found = nearest_correspondence(jnp.zeros((1, 1)), mapped)
    assert found.index.tolist() == [0] and found.distance.tolist() == [4.0]


def test_items_that_do_not_count_are_never_chosen(rng):
    z, mapped = rng.normal(size=(9, 3)), rng.normal(size=(2, 11, 3))
    where = np.arange(11) % 3 == 1
    found = nearest_correspondence(
        jnp.asarray(z, jnp.float32),
        jnp.asarray(mapped, jnp.float32),
        where=jnp.asarray(where),
        block_size=4,
    )
    distance, index = reference(z, mapped[:, where])
    np.testing.assert_array_equal(found.index, np.flatnonzero(where)[index])
    np.testing.assert_allclose(found.distance, distance, rtol=1e-5)
    nobody = nearest_correspondence(jnp.ones((2, 3)), jnp.ones((1, 4, 3)), where=jnp.zeros(4, bool))
    assert np.isinf(nobody.distance).all()


def test_queries_that_do_not_count_may_hold_anything(rng):
    z = jnp.asarray(rng.normal(size=(9, 3)), jnp.float32)
    mapped = jnp.asarray(rng.normal(size=(2, 11, 3)), jnp.float32)
    counts = jnp.arange(9) % 3 > 0
    spoiled = jnp.where(counts[:, None], z, jnp.nan)
    found = nearest_correspondence(spoiled, mapped, query_where=counts, block_size=4)
    expected = nearest_correspondence(z[counts], mapped)
    np.testing.assert_array_equal(found.index[counts], expected.index)
    np.testing.assert_allclose(found.distance[counts], expected.distance, rtol=1e-5)
    assert np.isinf(found.distance[~counts]).all() and not np.any(found.index[~counts])
    everyone = nearest_correspondence(spoiled, mapped, block_size=4)
    assert np.isnan(everyone.distance).any(), "NaN of a query that counts is not hidden"


def test_half_precision_is_read_and_distances_are_single(rng):
    z, mapped = (jnp.asarray(rng.normal(size=s), jnp.bfloat16) for s in ((4, 3), (2, 5, 3)))
    found = nearest_correspondence(z, mapped)
    expected = nearest_correspondence(z.astype(jnp.float32), mapped.astype(jnp.float32))
    assert found.distance.dtype == jnp.float32
    np.testing.assert_array_equal(found.distance, expected.distance)


def test_in_double_precision_winner_and_distance_are_exact(x64, rng):
    z, mapped = rng.normal(size=(40, 6)), rng.normal(size=(2, 50, 6))
    found = nearest_correspondence(jnp.asarray(z), jnp.asarray(mapped), block_size=16)
    distance, index = reference(z, mapped)
    np.testing.assert_array_equal(found.index, index)
    np.testing.assert_allclose(found.distance, distance, rtol=1e-12)


def test_coinciding_points_far_from_the_origin_have_their_exact_distance(rng):
    mapped = 1000 + jnp.asarray(rng.normal(size=(1, 6, 4)), jnp.float32)
    found = nearest_correspondence(mapped[0], mapped)
    np.testing.assert_array_equal(found.distance, 0)
    np.testing.assert_array_equal(found.index, np.arange(6))


def test_of_equally_near_items_the_first_is_chosen_and_no_gradient_flows():
    mapped = jnp.ones((2, 5, 3))
    assert nearest_correspondence(jnp.zeros((2, 3)), mapped, block_size=2).index.tolist() == [0, 0]
    loss = lambda z: nearest_correspondence(z, mapped).distance.sum()
    np.testing.assert_array_equal(jax.grad(loss)(jnp.zeros((2, 3))), 0)


def test_no_matrix_of_all_pairs_is_made():
    count, dim = 4096, 8
    shapes = (
        jax.ShapeDtypeStruct((count, dim), jnp.float32),
        jax.ShapeDtypeStruct((2, count, dim), jnp.float32),
    )
    compiled = nearest_correspondence.lower(*shapes, block_size=128).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < count * count * 4 / 16
