"""MLA's kernels: recursive least squares by hand, several devices, and fusion by certainty."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from unirep_jax.losses.alternating import fuse_by_certainty, project_gradient, update_projector


def loop_projector(projector, features, damping):
    """One update with one number at a time, in float64."""
    projector, features = np.asarray(projector, float), np.asarray(features, float)
    dim = len(projector)
    mean = [sum(z[i] for z in features) / len(features) for i in range(dim)]
    gain = [sum(projector[i, j] * mean[j] for j in range(dim)) for i in range(dim)]
    divisor = damping + sum(mean[i] * gain[i] for i in range(dim))
    updated = np.array(
        [[projector[i, j] - gain[i] * gain[j] / divisor for j in range(dim)] for i in range(dim)]
    )
    return updated / np.sqrt((updated**2).sum())


def loop_fusion(logits, present):
    """Weights and fused logits of each example in turn, by the equation."""
    logits = np.asarray(logits, float)
    modality, batch, classes = logits.shape
    fused, weights = np.zeros((batch, classes)), np.zeros((modality, batch))
    for i in range(batch):
        entropy = {}
        for m in np.flatnonzero(present[:, i]):
            p = np.exp(logits[m, i] - logits[m, i].max())
            p /= p.sum()
            entropy[m] = -sum(x * np.log(x) for x in p)
        scale = {m: np.exp(max(entropy.values()) - h) for m, h in entropy.items()}
        for m in entropy:
            weights[m, i] = scale[m] / sum(scale.values())
            fused[i] += weights[m, i] * logits[m, i]
    return fused, weights


# --- the projector ------------------------------------------------------------------------------


def test_two_updates_are_those_of_the_loop(rng):
    projector = expected = jnp.eye(4)
    for damping in (0.1, 0.01):
        features = jnp.asarray(rng.normal(size=(3, 4)) + 1, jnp.float32)
        projector = update_projector(projector, features, damping=damping)
        expected = loop_projector(expected, features, damping)
        np.testing.assert_allclose(projector, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(projector, projector.T, atol=1e-7)
    np.testing.assert_allclose(jnp.sum(projector**2), 1, rtol=1e-6)


def test_it_is_the_inverse_of_what_was_seen_by_least_squares(x64, rng):
    """Woodbury: without the norms, P after r is (P⁻¹ + rrᵀ/α)⁻¹."""
    root = rng.normal(size=(5, 5))
    before, mean = root @ root.T + np.eye(5), rng.normal(size=5)
    after = np.linalg.inv(np.linalg.inv(before) + np.outer(mean, mean) / 0.3)
    ours = update_projector(jnp.asarray(before), jnp.asarray(mean)[None], damping=0.3)
    np.testing.assert_allclose(ours, after / np.linalg.norm(after), rtol=1e-9)


def test_a_projected_gradient_leaves_the_head_as_it_was_on_what_was_seen(rng):
    seen = jnp.asarray([[3.0, -1, 2, 0.5]])
    projector = update_projector(jnp.eye(4), seen, damping=1e-4)
    gradient = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
    projected = project_gradient(projector, gradient)
    np.testing.assert_allclose(projected, projector @ gradient, rtol=1e-5)
    assert jnp.abs(seen @ gradient).max() > 1
    np.testing.assert_allclose(seen @ projected, 0, atol=1e-3)
    other = jnp.array([[1.0, 3, 0, 0]])  # orthogonal to what was seen: free to move
    np.testing.assert_allclose(other @ projected, other @ gradient / 3**0.5, rtol=1e-4)


def test_no_example_and_a_zero_mean_leave_the_projector_its_direction(rng):
    root = jnp.asarray(rng.normal(size=(3, 3)), jnp.float32)
    projector = root @ root.T
    nan = jnp.full((2, 3), jnp.nan)
    kept = update_projector(projector, nan, damping=0.1, where=jnp.zeros(2, bool))
    np.testing.assert_array_equal(kept, projector)
    np.testing.assert_array_equal(update_projector(projector, nan[:0], damping=0.1), projector)
    unit = update_projector(projector, jnp.zeros((2, 3)), damping=0.1)
    np.testing.assert_allclose(unit, projector / jnp.linalg.norm(projector), rtol=1e-5)
    nothing = update_projector(jnp.zeros((3, 3)), jnp.ones((2, 3)), damping=0.1)
    np.testing.assert_array_equal(nothing, 0)


def test_removed_examples_are_as_if_absent_and_no_gradient_flows(rng):
    features = jnp.asarray(rng.normal(size=(5, 3)), jnp.float32)
    where = jnp.array([True, False, True, False, False])
    holes = jnp.where(where[:, None], features, jnp.inf)
    function = lambda p, z: update_projector(p, z, damping=0.2, where=where)
    alone = update_projector(jnp.eye(3), features[where], damping=0.2)
    np.testing.assert_allclose(function(jnp.eye(3), holes), alone, rtol=1e-5, atol=1e-7)
    for gradient in jax.grad(lambda *x: function(*x).sum(), (0, 1))(jnp.eye(3), features):
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("engine", ["shard_map", "pmap"])
@pytest.mark.parametrize("devices", [2, 8])
def test_several_devices_update_the_projector_of_one(engine, devices, rng):
    features = jnp.asarray(rng.normal(size=(16, 4)) + 0.5, jnp.float32)
    where = jnp.arange(16) < 7  # of eight devices, some hold none
    expected = update_projector(jnp.eye(4), features[:7], damping=0.05)
    function = lambda p, z, w: update_projector(p, z, damping=0.05, where=w, axis_name="device")
    if engine == "pmap":
        split = [x.reshape(devices, -1, *x.shape[1:]) for x in (features, where)]
        mapped = jax.pmap(function, "device", in_axes=(None, 0, 0), devices=jax.devices()[:devices])
        result = mapped(jnp.eye(4), *split)
    else:
        mesh = Mesh(np.array(jax.devices()[:devices]), ("device",), axis_types=(AxisType.Auto,))
        stacked = lambda *x: function(*x)[None]
        specs = {"in_specs": (P(), P("device"), P("device")), "out_specs": P("device")}
        mapped = jax.shard_map(stacked, mesh=mesh, check_vma=False, **specs)
        result = jax.jit(mapped)(jnp.eye(4), features, where)
    assert result.shape == (devices, 4, 4)
    for ours in np.asarray(jax.block_until_ready(result)):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)


# --- fusion -------------------------------------------------------------------------------------


def test_the_worked_example_of_a_certain_and_an_undecided_modality():
    fused = fuse_by_certainty(jnp.array([[[2.0, 0]], [[0, 0]]]))
    np.testing.assert_allclose(fused.weights[:, 0], [0.581227, 0.418773], atol=1e-6)
    np.testing.assert_allclose(fused.logits[0], [1.162454, 0], atol=2e-6)


def test_fusion_is_the_loop_and_each_example_is_on_its_own(rng):
    logits = jnp.asarray(2 * rng.normal(size=(3, 4, 5)), jnp.float32)
    where = np.array([[True, True, False, False], [True, False, True, False], [True] * 3 + [False]])
    for present in (np.ones((3, 4), bool), where):
        ours = fuse_by_certainty(logits, jnp.asarray(present))
        for value, expected in zip(ours, loop_fusion(logits, present), strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)
    one = fuse_by_certainty(logits[:, 1:2])
    np.testing.assert_allclose(one.logits[0], fuse_by_certainty(logits).logits[1], rtol=1e-5)


def test_gradients_are_those_of_finite_differences(x64, rng):
    logits, gradient = (jnp.asarray(rng.normal(size=s)) for s in ((3, 2, 4), (4, 2)))
    where = jnp.array([[True, False], [True, True], [False, True]])
    options = {"order": 1, "modes": ["fwd", "rev"], "rtol": 1e-6, "atol": 1e-6}
    check_grads(lambda x: fuse_by_certainty(x, where), (logits,), **options)
    check_grads(project_gradient, (jnp.eye(4) + 0.1, gradient), **options)


def test_an_absent_modality_may_hold_anything(rng):
    logits = jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.float32)
    where = jnp.array([[True, True, False], [True, False, False]])
    holes = jnp.where(where[..., None], logits, jnp.nan)
    fused = fuse_by_certainty(holes, where)
    np.testing.assert_allclose(fused.logits[1], logits[0, 1], rtol=1e-6)
    np.testing.assert_array_equal(fused.weights[:, 1:], [[1, 0], [0, 0]])
    np.testing.assert_array_equal(fused.logits[2], 0)
    total = lambda x: sum(jnp.sum(v * v) for v in fuse_by_certainty(x, where))
    gradient = jax.grad(total)(holes)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[~where], 0)


@pytest.mark.parametrize("size", [0.0, 1e4])
def test_equal_modalities_and_one_class_weigh_alike_at_any_scale(size):
    for classes in (1, 3):
        logits = size * jnp.ones((2, 1, classes)).at[..., 0].set(2)
        np.testing.assert_allclose(fuse_by_certainty(logits).weights, 0.5, rtol=1e-6)
        gradient = jax.grad(lambda x: fuse_by_certainty(x).logits[0, 0])(logits)
        assert np.isfinite(gradient).all()
        np.testing.assert_allclose(gradient[:, 0, 0], 0.5, rtol=1e-5)


def test_half_precision_is_read_and_a_sweep_over_the_damping_compiles_once(rng):
    features = jnp.asarray(rng.normal(size=(3, 4)), jnp.bfloat16)
    update_projector.clear_cache()
    for damping in (0.1, 0.01, 1.0):
        half = update_projector(jnp.eye(4, dtype=jnp.bfloat16), features, damping=damping)
    assert update_projector._cache_size() == 1
    full = update_projector(jnp.eye(4), features.astype(jnp.float32), damping=1.0)
    np.testing.assert_allclose(half, full, rtol=1e-6)
    logits = jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.bfloat16)
    fused = fuse_by_certainty(logits)
    projected = project_gradient(half.astype(jnp.bfloat16), features.T)
    assert half.dtype == projected.dtype == fused.logits.dtype == jnp.float32
    exact = fuse_by_certainty(logits.astype(jnp.float32))
    np.testing.assert_allclose(fused.logits, exact.logits, rtol=1e-6)


def test_a_batch_of_batches_is_mapped_over(rng):
    logits = jnp.asarray(rng.normal(size=(2, 3, 2, 4)), jnp.float32)
    mapped = jax.vmap(lambda x: fuse_by_certainty(x))(logits)
    for i in range(2):
        alone = fuse_by_certainty(logits[i])
        np.testing.assert_allclose(mapped.weights[i], alone.weights, rtol=1e-5)
    features = logits[0]
    means = jax.vmap(lambda z: update_projector(jnp.eye(4), z, damping=0.5))(features)
    alone = [update_projector(jnp.eye(4), z, damping=0.5) for z in features]
    np.testing.assert_allclose(means, alone, rtol=1e-5, atol=1e-7)


def test_a_projector_of_another_dimension_is_refused():
    with pytest.raises(Exception, match="features"):
        update_projector(jnp.eye(3), jnp.ones((2, 4)), damping=0.1)
    with pytest.raises(Exception, match="gradient"):
        project_gradient(jnp.eye(3), jnp.ones((4, 2)))


def test_a_hundred_updates_in_float32_keep_the_projector_positive(rng):
    """Long training on nearly one direction, at the least damping of the authors' schedule."""
    projector, expected = jnp.eye(32), np.eye(32)
    direction = rng.normal(size=32)
    for _ in range(100):
        mean = direction + 0.3 * rng.normal(size=32)
        projector = update_projector(projector, jnp.asarray(mean[None], jnp.float32), damping=0.01)
        gain = expected @ mean
        expected = expected - np.outer(gain, gain) / (0.01 + mean @ gain)
        expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(projector, expected, atol=2e-5)
    assert np.linalg.eigvalsh(np.asarray(projector, float)).min() > -1e-6


def test_a_class_that_is_masked_out_of_all_modalities_does_not_count(rng):
    logits = rng.normal(size=(2, 3, 4)).astype(np.float32)
    masked = np.concatenate([logits, np.full((2, 3, 1), -np.inf, np.float32)], axis=-1)
    expected, actual = fuse_by_certainty(logits), fuse_by_certainty(masked)
    np.testing.assert_allclose(actual.weights, expected.weights, rtol=1e-6)
    np.testing.assert_allclose(actual.logits[:, :4], expected.logits, rtol=1e-6)
