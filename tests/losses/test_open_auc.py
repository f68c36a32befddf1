"""OpenAUC: the worked example, loops, empty denominators, and one draw on any number of devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from unirep_jax import losses
from unirep_jax.losses.open_auc import mix_classes, open_auc_loss


def test_the_worked_example_counts_the_example_that_is_classified_right():
    result = open_auc_loss(
        jnp.array([[2.0, 0], [0, 1]]), jnp.array([[1.5, 0], [0.2, 0.1]]), jnp.array([0, 0])
    )
    np.testing.assert_array_equal(result.counted, [True, False])
    np.testing.assert_allclose(result.loss, [0.25, 0], rtol=1e-6)
    np.testing.assert_allclose(losses.masked_mean(*result), 0.25, rtol=1e-6)


def test_the_loss_is_the_loop_and_its_gradient_that_of_finite_differences(x64, rng):
    real, mixed = (jnp.asarray(rng.normal(size=(12, 3))) for _ in range(2))
    labels, where = jnp.asarray(rng.integers(0, 3, 12)), jnp.arange(12) % 4 > 0
    result = open_auc_loss(real, mixed, labels, margin=0.7, where=where)
    assert 0 < result.counted.sum() < where.sum()
    for i in range(12):
        right = bool(where[i]) and int(np.argmax(real[i])) == int(labels[i])
        expected = (max(mixed[i]) - max(real[i]) + 0.7) ** 2 if right else 0
        np.testing.assert_allclose(result.loss[i], expected, rtol=1e-12)
    function = lambda *x: open_auc_loss(*x, labels, margin=0.7, where=where).loss
    check_grads(function, (real, mixed), order=1, modes=["fwd", "rev"], rtol=1e-6)


def test_no_counted_pair_gives_zero_with_zero_gradient():
    wrong = jnp.array([[0.0, 1], [jnp.nan, jnp.nan]])
    where = jnp.array([True, False])

    def loss(real, mixed):
        return losses.masked_mean(*open_auc_loss(real, mixed, jnp.zeros(2, int), where=where))

    value, gradient = jax.value_and_grad(loss, (0, 1))(wrong, jnp.full((2, 2), jnp.inf))
    assert value == 0
    for pulled in gradient:
        np.testing.assert_array_equal(pulled, 0)


def test_removed_pairs_may_hold_anything(rng):
    real, mixed = (jnp.asarray(rng.normal(size=(6, 3)), jnp.float32) for _ in range(2))
    labels, where = jnp.argmax(real, axis=-1), jnp.arange(6) < 4
    holes = [jnp.where(where[:, None], x, jnp.nan) for x in (real, mixed)]
    ours = open_auc_loss(*holes, labels, where=where)
    alone = open_auc_loss(real[:4], mixed[:4], labels[:4])
    np.testing.assert_allclose(ours.loss, [*alone.loss, 0, 0], rtol=1e-6)
    function = lambda *x: open_auc_loss(*x, labels, where=where).loss.sum()
    assert all(np.isfinite(g).all() for g in jax.grad(function, (0, 1))(*holes))


def test_half_precision_is_read_and_a_sweep_over_margins_compiles_once(rng):
    real, mixed = (jnp.asarray(rng.normal(size=(5, 3)), jnp.bfloat16) for _ in range(2))
    labels = jnp.argmax(real, axis=-1)
    full = [x.astype(jnp.float32) for x in (real, mixed)]
    before = open_auc_loss._cache_size()
    for margin in (0.1, 0.9, 2.0):
        half = open_auc_loss(real, mixed, labels, margin=margin).loss
        assert half.dtype == jnp.float32
    assert open_auc_loss._cache_size() == before + 1
    np.testing.assert_allclose(half, open_auc_loss(*full, labels, margin=2.0).loss, rtol=1e-6)


def test_the_gradient_survives_the_compiler_that_fuses_the_mixing_with_the_largest_logit(rng):
    """Whatever is computed twice may differ in its last digit, and then equals no maximum."""
    features, head = rng.normal(size=(12, 5)), rng.normal(size=(5, 3))
    labels = np.argmax(features[:6] @ head, axis=-1)

    def reference(head):
        z = np.tanh(features @ head)
        mixed = 0.3 * z[:6] + 0.7 * z[6:]
        return np.sum((mixed.max(-1) - z[:6].max(-1) + 1) ** 2)

    expected = np.zeros(head.shape)
    for place in np.ndindex(head.shape):
        step = np.zeros(head.shape)
        step[place] = 1e-6
        expected[place] = (reference(head + step) - reference(head - step)) / 2e-6

    def loss(head, share):
        z = jnp.tanh(jnp.asarray(features, jnp.float32) @ head)
        mixed = share * z[:6] + (1 - share) * z[6:]
        return open_auc_loss(z[:6], mixed, jnp.asarray(labels)).loss.sum()

    gradient = jax.jit(jax.grad(loss))(jnp.asarray(head, jnp.float32), 0.3)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


def test_equal_logits_and_one_class_have_finite_gradients():
    function = lambda z: open_auc_loss(z, z, jnp.zeros(2, int), margin=1.5).loss
    for classes in (1, 3):
        value, pull = jax.vjp(function, jnp.ones((2, classes)))
        np.testing.assert_allclose(value, 1.5**2, rtol=1e-6)
        np.testing.assert_array_equal(pull(value)[0], 0)  # known and mixed move together
    largest = jax.grad(lambda z: open_auc_loss(jnp.eye(2), z, jnp.arange(2)).loss.sum())
    np.testing.assert_allclose(largest(jnp.ones((2, 3))[:, :2]), [[2, 0], [2, 0]], rtol=1e-6)


# --- mixing -------------------------------------------------------------------------------------


def test_mixed_features_lie_between_two_examples_of_different_classes(rng):
    features = jnp.asarray(rng.normal(size=(40, 3)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 3, 40), jnp.int32)
    mixed = mix_classes(features, labels, key=jax.random.key(0))
    assert 15 < mixed.where.sum() < 40
    shares = set()
    for i in np.flatnonzero(mixed.where):
        fits = []
        for j in np.flatnonzero(labels != labels[i]):
            direction = features[i] - features[j]
            share = float((mixed.features[i] - features[j]) @ direction / (direction @ direction))
            point = share * features[i] + (1 - share) * features[j]
            if np.allclose(point, mixed.features[i], atol=1e-5) and 0 < share < 1:
                fits.append(round(share, 4))
        assert fits
        shares.update(fits)
    assert len(shares) <= 2  # one share for the whole call, up to rounding
    np.testing.assert_array_equal(mixed.features[~mixed.where], 0)


def test_the_gradient_of_mixing_reaches_both_features(x64, rng):
    features, labels = jnp.asarray(rng.normal(size=(6, 3))), jnp.array([0, 1, 2, 0, 1, 2])
    function = lambda z: mix_classes(z, labels, key=jax.random.key(2)).features
    check_grads(function, (features,), order=1, modes=["fwd", "rev"], rtol=1e-6)
    mixed = mix_classes(features, labels, key=jax.random.key(2)).where
    assert 0 < mixed.sum() < 6
    pulled = jax.jacobian(lambda z: function(z)[:, 0])(features)[:, :, 0]
    np.testing.assert_array_equal((pulled > 0).sum(1), np.where(mixed, 2, 0))
    np.testing.assert_allclose(pulled.sum(1), mixed, rtol=1e-9)  # the shares sum to 1


def test_mixing_reads_half_precision_and_a_sweep_over_concentrations_compiles_once(rng):
    features, labels = jnp.asarray(rng.normal(size=(6, 3)), jnp.bfloat16), jnp.arange(6)
    mix_classes.clear_cache()
    for concentration in (0.5, 2.0, 9.0):
        half = mix_classes(features, labels, key=jax.random.key(0), concentration=concentration)
    assert mix_classes._cache_size() == 1
    full = mix_classes(
        features.astype(jnp.float32), labels, key=jax.random.key(0), concentration=9.0
    )
    assert half.features.dtype == jnp.float32
    np.testing.assert_allclose(half.features, full.features, rtol=1e-6)


def test_one_class_and_one_example_mix_nothing_with_zero_gradient():
    for batch in (1, 5):
        function = lambda z, n=batch: mix_classes(z, jnp.zeros(n, int), key=jax.random.key(0))
        value, pull = jax.vjp(lambda z, f=function: f(z).features, jnp.ones((batch, 2)))
        assert not function(jnp.ones((batch, 2))).where.any()
        np.testing.assert_array_equal(value, 0)
        np.testing.assert_array_equal(pull(value + 1)[0], 0)


def test_removed_examples_are_mixed_with_nothing(rng):
    where = jnp.arange(20) % 2 == 0
    features = jnp.where(where[:, None], 1.0, jnp.nan) * jnp.ones((20, 3))
    function = lambda z: mix_classes(z, jnp.arange(20), key=jax.random.key(0), where=where)
    mixed = function(features)
    assert 0 < mixed.where.sum() < 10  # both partners must be there
    assert not (mixed.where & ~where).any()
    assert np.isfinite(mixed.features).all()
    assert np.isfinite(jax.grad(lambda z: function(z).features.sum())(features)).all()


def test_the_share_follows_its_concentration():
    """λ ~ Beta(a, a) has variance 1 / (4(2a + 1))."""
    features, labels = jnp.array([[1.0], [0]]), jnp.array([0, 1])
    draw = jax.jit(
        jax.vmap(lambda k, a: mix_classes(features, labels, key=k, concentration=a), (0, None))
    )
    for a in (2.0, 20.0):
        mixed = draw(jax.random.split(jax.random.key(1), 3000), a)
        share = np.asarray(mixed.features[:, 0, 0])[np.asarray(mixed.where[:, 0])]
        assert 1200 < len(share) < 1800  # half of the permutations are the identity
        assert abs(share.mean() - 0.5) < 0.02
        np.testing.assert_allclose(share.var(), 1 / (4 * (2 * a + 1)), rtol=0.15)


def training_gradient(head, batch, axis_name):
    features, labels = batch
    mixed = mix_classes(
        jnp.tanh(features[1::2] @ head), labels[1::2], key=jax.random.key(5), axis_name=axis_name
    )

    def loss(head):
        z = jnp.tanh(features @ head)
        mixed = mix_classes(z[1::2], labels[1::2], key=jax.random.key(5), axis_name=axis_name)
        result = open_auc_loss(z[::2], mixed.features, labels[::2], where=mixed.where)
        return losses.masked_mean(*result, axis_name=axis_name)

    result = jax.value_and_grad(loss)(head)
    result = result if axis_name is None else jax.lax.pmean(result, axis_name)
    return result, mixed


@pytest.mark.parametrize("devices", [2, 8])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_several_devices_mix_and_rank_as_one_does(devices, dtype, rng):
    with jax.enable_x64(dtype == jnp.float64):
        check_several_devices(devices, dtype, rng)


def check_several_devices(devices, dtype, rng):
    features = jnp.asarray(rng.normal(size=(16, 5)), dtype)
    head = jnp.asarray(rng.normal(size=(5, 3)), dtype)
    labels = jnp.argmax(features @ head + rng.normal(size=(16, 3)).astype(dtype), axis=-1)
    expected, expected_mix = training_gradient(head, (features, labels), None)
    assert np.abs(expected[1]).max() > 1e-2
    mesh = Mesh(np.array(jax.devices()[:devices]), ("device",), axis_types=(AxisType.Auto,))
    mapped = jax.shard_map(
        functools.partial(training_gradient, axis_name="device"),
        mesh=mesh,
        in_specs=(P(), P("device")),
        out_specs=(P(), P("device")),
        check_vma=False,
    )
    ours, mix = jax.block_until_ready(jax.jit(mapped)(head, (features, labels)))
    for a, b in zip((*ours, *mix), (*expected, *expected_mix), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
