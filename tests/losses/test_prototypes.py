"""GCPL, RPL and ARPL: worked examples, loops, gradients, and features far from zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from unirep_jax.losses import prototypes

POINTS = jnp.array([[0.0, 0], [1, 1]])
FEATURES = jnp.array([[1.0, 2], [1, 2]])
LABELS = jnp.array([0, 1])
RADIUS = jnp.float32(0)


def losses_of(features, points, radius, labels, **options):
    """All three, by name."""
    return {
        "gcpl": prototypes.gcpl_loss(features, points, labels, **options),
        "rpl": prototypes.rpl_loss(features, points, radius, labels, **options),
        "arpl": prototypes.arpl_loss(features, points, radius, labels, **options),
    }


def loop_losses(features, points, radius, labels, temperature=1.0, weight=0.1):
    features, points = np.asarray(features, float), np.asarray(points, float)
    result = {"gcpl": [], "rpl": [], "arpl": []}
    for z, y in zip(features, labels, strict=True):
        distance = np.array([np.mean((z - c) ** 2) for c in points])
        inner = np.array([np.dot(z, c) for c in points])
        excess = max(0, distance[y] - radius + 1)
        terms = {
            "gcpl": (-distance, 0.5 * distance[y]),
            "rpl": (distance, (distance[y] - radius) ** 2),
            "arpl": (distance - inner, excess),
        }
        for name, (logits, bound) in terms.items():
            scaled = logits / temperature
            entropy = np.logaddexp.reduce(scaled) - scaled[y]
            result[name].append(entropy + weight * bound)
    return {name: np.array(values) for name, values in result.items()}


def test_the_worked_example_of_two_points():
    np.testing.assert_allclose(prototypes.rpl_logits(FEATURES, POINTS)[0], [2.5, 0.5], rtol=1e-6)
    np.testing.assert_allclose(prototypes.gcpl_logits(FEATURES, POINTS)[0], [-2.5, -0.5], rtol=1e-6)
    np.testing.assert_allclose(prototypes.arpl_logits(FEATURES, POINTS)[0], [2.5, -2.5], rtol=1e-6)
    belongs = jax.nn.softmax(prototypes.rpl_logits(FEATURES, POINTS))[0]
    np.testing.assert_allclose(belongs, [0.880797, 0.119203], atol=1e-6)
    belongs = jax.nn.softmax(prototypes.gcpl_logits(FEATURES, POINTS))[0]
    np.testing.assert_allclose(belongs, [0.119203, 0.880797], atol=1e-6)
    ours = losses_of(FEATURES, POINTS, RADIUS, LABELS)
    np.testing.assert_allclose(ours["arpl"], [0.356715, 5.156715], atol=1e-6)
    np.testing.assert_allclose(ours["rpl"], [0.751928, 2.151928], atol=1e-6)
    np.testing.assert_allclose(ours["gcpl"], [2.251928, 0.151928], atol=1e-6)
    confusion = jnp.exp(-jnp.mean(prototypes.reciprocal_entropy(FEATURES, POINTS)))
    np.testing.assert_allclose(confusion, 0.693965, atol=1e-6)


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(0, 999))
def test_losses_are_the_loops_for_any_shape(batch, classes, dim, seed):
    rng = np.random.default_rng(seed)
    features = jnp.asarray(rng.normal(size=(batch, dim)), jnp.float32)
    points = jnp.asarray(rng.normal(size=(classes, dim)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, classes, batch), jnp.int32)
    options = {"temperature": 0.7, "weight": 0.3}
    expected = loop_losses(features, points, 1.4, labels, **options)
    for name, values in losses_of(features, points, 1.4, labels, **options).items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_gradients_are_those_of_finite_differences(x64, rng):
    features, points = (jnp.asarray(rng.normal(size=s)) for s in ((4, 3), (3, 3)))
    labels = jnp.array([0, 2, 1, 1])

    def values(features, points, radius, temperature):
        return losses_of(features, points, radius, labels, temperature=temperature)

    arguments = (features, points, jnp.float64(0.3), jnp.float64(0.8))
    check_grads(values, arguments, order=1, modes=["fwd", "rev"], rtol=1e-6)
    entropy = prototypes.reciprocal_entropy
    check_grads(entropy, arguments[:2], order=1, modes=["rev"], rtol=1e-6)


def test_features_far_from_zero_keep_their_distances(rng):
    features, points = rng.normal(size=(6, 16)) + 300, rng.normal(size=(4, 16)) + 300
    expected = ((features[:, None] - points[None]) ** 2).mean(-1)
    ours = prototypes.rpl_logits(*(jnp.asarray(x, jnp.float32) for x in (features, points)))
    np.testing.assert_allclose(ours, expected, rtol=1e-4)


def test_a_feature_on_its_point_and_equal_points_have_finite_gradients():
    points = jnp.ones((3, 4))
    labels = jnp.array([0, 2])
    total = lambda *x: sum(v.sum() for v in losses_of(*x, labels).values())
    gradient = jax.grad(total, (0, 1, 2))(jnp.ones((2, 4)), points, RADIUS)
    assert all(np.isfinite(g).all() for g in gradient)
    np.testing.assert_allclose(
        losses_of(jnp.ones((2, 4)), points, RADIUS, labels)["gcpl"], np.log(3), rtol=1e-6
    )
    np.testing.assert_allclose(
        prototypes.reciprocal_entropy(jnp.ones((2, 4)), points), np.log(3), rtol=1e-6
    )


def test_one_class_leaves_the_bounding_term_alone():
    ours = losses_of(FEATURES, POINTS[:1], jnp.float32(2), jnp.zeros(2, int))
    np.testing.assert_allclose(ours["gcpl"], 0.05 * 2.5, rtol=1e-6)
    np.testing.assert_allclose(ours["rpl"], 0.1 * 0.25, rtol=1e-6)
    np.testing.assert_allclose(ours["arpl"], 0.1 * 1.5, rtol=1e-6)
    inside = jax.grad(lambda z: prototypes.arpl_loss(z, POINTS[:1], 9.0, jnp.zeros(2, int)).sum())
    np.testing.assert_array_equal(inside(FEATURES), 0)


def test_removed_examples_give_zero_whatever_they_hold(rng):
    features = jnp.asarray(rng.normal(size=(4, 2)), jnp.float32)
    where = jnp.array([True, False, True, False])
    labels = jnp.array([0, 7, 1, -1])
    holes = jnp.where(where[:, None], features, jnp.nan)
    ours = losses_of(holes, POINTS, RADIUS, labels, where=where)
    alone = losses_of(features[where], POINTS, RADIUS, labels[where])
    for name, values in ours.items():
        np.testing.assert_allclose(values[where], alone[name], rtol=1e-6)
        np.testing.assert_array_equal(values[~where], 0)
    total = lambda z, p: sum(v.sum() for v in losses_of(z, p, RADIUS, labels, where=where).values())
    assert all(np.isfinite(g).all() for g in jax.grad(total, (0, 1))(holes, POINTS))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_read_and_never_accumulated_in(dtype, rng):
    features, points = (jnp.asarray(rng.normal(size=s), dtype) for s in ((5, 8), (3, 8)))
    labels = jnp.array([0, 1, 2, 0, 1])
    half = losses_of(features, points, dtype(0.5), labels)
    full = losses_of(*(x.astype(jnp.float32) for x in (features, points)), 0.5, labels)
    for name, values in half.items():
        assert values.dtype == jnp.float32
        np.testing.assert_allclose(values, full[name], rtol=1e-4)


def test_a_sweep_over_temperature_weight_and_radius_compiles_once():
    for loss in (prototypes.arpl_loss, prototypes.rpl_loss):
        loss.clear_cache()  # another test may have compiled this shape
        for value in (0.2, 0.5, 3.0):
            loss(FEATURES, POINTS, value, LABELS, temperature=value, weight=value)
        assert loss._cache_size() == 1


def test_a_batch_of_batches_is_mapped_over_and_one_without_examples_is_empty(rng):
    features = jnp.asarray(rng.normal(size=(3, 2, 2)), jnp.float32)
    mapped = jax.vmap(lambda z: losses_of(z, POINTS, RADIUS, LABELS))(features)
    for name, values in mapped.items():
        alone = [losses_of(z, POINTS, RADIUS, LABELS)[name] for z in features]
        np.testing.assert_allclose(values, alone, rtol=1e-5, atol=1e-6, err_msg=name)
    for values in losses_of(features[0, :0], POINTS, RADIUS, LABELS[:0]).values():
        assert values.shape == (0,)


def test_points_of_another_dimension_are_refused():
    for loss in (prototypes.gcpl_logits, prototypes.rpl_logits, prototypes.arpl_logits):
        with pytest.raises(Exception, match="dim"):
            loss(FEATURES, jnp.ones((2, 1)))
