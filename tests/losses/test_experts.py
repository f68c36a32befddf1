"""Expert gates and their balance loss: worked example, loops, gradients, ties, several devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads
from scipy.stats import norm

from unirep_jax.losses.experts import load_balance_loss, noisy_top_k_gates, top_k_gates

LOGITS = jnp.array([[1.0, 0, -1], [0, 2, 1]])
NOISE_LOGITS = jnp.array([[0.0, 0, 0], [1, -1, 0]])
NOISE = jnp.array([[-2.0, 1, 0], [1, 0, -1]])


def loop_gates(logits, noise_logits, noise, count, epsilon):
    """Gates and load one number at a time, in float64."""
    logits, noise_logits, noise = (np.asarray(x, float) for x in (logits, noise_logits, noise))
    batch, experts = logits.shape
    scale = np.log1p(np.exp(noise_logits)) + epsilon
    noisy = logits + noise * scale
    gates, load = np.zeros_like(noisy), np.ones_like(noisy)
    for i in range(batch):
        chosen = sorted(range(experts), key=lambda e: (-noisy[i, e], e))[:count]
        total = sum(np.exp(noisy[i, e]) for e in chosen)
        for e in chosen:
            gates[i, e] = np.exp(noisy[i, e]) / total
        for e in range(experts):
            others = sorted((noisy[i, j] for j in range(experts) if j != e), reverse=True)
            if count < experts:
                load[i, e] = norm.cdf((logits[i, e] - others[count - 1]) / scale[i, e])
    return gates, load


def loop_balance(*totals):
    return sum(np.var(x) / np.mean(x) ** 2 for x in totals)


@pytest.mark.parametrize(
    ("epsilon", "gates", "load", "balance"),
    [
        (
            0.0,
            [[0.253612, 0.746388, 0], [0.334759, 0.665241, 0]],
            [1.405671, 1.925447, 0.513629],
            0.961107,
        ),
        (
            1e-2,
            [[0.247975, 0.752025, 0], [0.33699, 0.66301, 0]],
            [1.409024, 1.922513, 0.522089],
            0.961171,
        ),
    ],
)
def test_the_worked_example_of_two_examples_and_three_experts(epsilon, gates, load, balance):
    result = top_k_gates(LOGITS, NOISE_LOGITS, NOISE, count=2, noise_epsilon=epsilon)
    np.testing.assert_allclose(result.gates, gates, atol=2e-6)
    np.testing.assert_allclose(result.load.sum(0), load, atol=2e-6)
    np.testing.assert_allclose(load_balance_loss(*result), balance, atol=2e-6)
    if epsilon == 0:
        expected = [[0.998045, 0.925447, 0.187973], [0.407626, 1.0, 0.325656]]
        np.testing.assert_allclose(result.load, expected, atol=2e-6)
        np.testing.assert_allclose(result.gates.sum(0), [0.588371, 1.411629, 0], atol=2e-6)


def test_without_a_key_the_clean_logits_decide():
    result = noisy_top_k_gates(LOGITS, NOISE_LOGITS, key=None, count=2)
    expected = [[0.731059, 0.268941, 0], [0, 0.731059, 0.268941]]
    np.testing.assert_allclose(result.gates, expected, atol=1e-6)
    np.testing.assert_array_equal(result.load, [[1, 1, 0], [0, 1, 1]])
    pulled = jax.grad(
        lambda n: sum(x.sum() for x in noisy_top_k_gates(LOGITS, n, key=None, count=2))
    )(NOISE_LOGITS)
    np.testing.assert_array_equal(pulled, 0)


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.data())
def test_gates_and_load_are_the_loop_for_any_shape(batch, experts, data):
    count = data.draw(st.integers(1, experts))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    inputs = [jnp.asarray(2 * rng.normal(size=(batch, experts)), jnp.float32) for _ in range(3)]
    result = top_k_gates(*inputs, count=count, noise_epsilon=0.05)
    gates, load = loop_gates(*inputs, count, 0.05)
    np.testing.assert_allclose(result.gates, gates, atol=1e-5)
    np.testing.assert_allclose(result.load, load, atol=1e-5)
    expected = loop_balance(gates.sum(0), load.sum(0))
    np.testing.assert_allclose(load_balance_loss(*result), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [2, 4])
def test_gradients_are_those_of_finite_differences_away_from_ties(x64, rng, count):
    inputs = tuple(jnp.asarray(rng.normal(size=(3, 4))) for _ in range(3))

    def values(logits, noise_logits, noise):
        gates = top_k_gates(logits, noise_logits, noise, count=count, noise_epsilon=0.1)
        return jnp.sin(gates.gates).sum() + jnp.cos(gates.load).sum(), load_balance_loss(*gates)

    check_grads(values, inputs, order=1, modes=["fwd", "rev"], rtol=1e-6, atol=1e-6)


def test_the_load_is_how_often_fresh_noise_of_one_expert_would_choose_it(rng):
    logits = jnp.asarray(rng.normal(size=(1, 4)), jnp.float32)
    noise = np.repeat(rng.normal(size=(1, 4)), 4000, axis=0)
    many = [jnp.repeat(x, 4000, axis=0) for x in (logits, jnp.zeros((1, 4)))]
    load = top_k_gates(*many, jnp.asarray(noise, jnp.float32), count=2).load[0]
    for expert in range(4):
        fresh = noise.copy()
        fresh[:, expert] = rng.normal(size=4000)
        gates = top_k_gates(*many, jnp.asarray(fresh, jnp.float32), count=2).gates
        assert abs((gates[:, expert] > 0).mean() - load[expert]) < 0.03


def test_an_examples_noise_depends_on_its_key_alone(rng):
    logits = jnp.asarray(rng.normal(size=(4, 5)), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 4)
    whole = noisy_top_k_gates(logits, logits, key=keys, count=2)
    part = noisy_top_k_gates(logits[2:], logits[2:], key=keys[2:], count=2)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[2:], b, rtol=1e-6), whole, part)
    other = noisy_top_k_gates(logits, logits, key=keys[::-1], count=2)
    assert not np.allclose(whole.gates, other.gates)


# --- degenerate ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("experts", "count"), [(3, 3), (3, 1)])
@pytest.mark.parametrize("keyed", [True, False])
def test_few_experts_and_ties_have_finite_values_and_gradients(experts, count, keyed):
    keys = jax.random.split(jax.random.key(1), 2) if keyed else None

    def loss(logits, noise_logits):
        gates = noisy_top_k_gates(logits, noise_logits, key=keys, count=count)
        return load_balance_loss(*gates) + gates.gates[0, 0], gates

    zeros = jnp.zeros((2, experts))
    (_, gates), gradient = jax.value_and_grad(loss, (0, 1), has_aux=True)(zeros, zeros)[:2]
    assert all(np.isfinite(g).all() for g in gradient)
    np.testing.assert_allclose(gates.gates.sum(1), 1, rtol=1e-6)
    if count == experts:
        np.testing.assert_array_equal(gates.load, 1)
    elif not keyed:
        np.testing.assert_array_equal(gates.gates, [[1, 0, 0]] * 2)  # the first of equals


def test_one_expert_is_always_balanced():
    gates = noisy_top_k_gates(jnp.ones((5, 1)), jnp.ones((5, 1)), key=None, count=1)
    value, gradient = jax.value_and_grad(load_balance_loss)(*gates)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_balance_is_zero_for_even_use_and_largest_for_one_expert_alone():
    assert load_balance_loss(jnp.eye(4), jnp.eye(4)) == 0
    alone = jnp.zeros((3, 4)).at[:, 2].set(1)
    np.testing.assert_allclose(load_balance_loss(alone, alone), 6, rtol=1e-6)


def test_noise_whose_scale_underflows_has_finite_gradients():
    silent = jnp.full((2, 3), -1e4)

    def loss(logits, noise_logits):
        gates = top_k_gates(logits, noise_logits, NOISE, count=2, noise_epsilon=0.0)
        return load_balance_loss(*gates), gates

    for logits in (LOGITS, jnp.zeros((2, 3)), 1e20 * LOGITS):
        gradient, gates = jax.grad(loss, (0, 1), has_aux=True)(logits, silent)
        assert all(np.isfinite(g).all() for g in gradient)
        assert np.isfinite(gates.load).all()


@pytest.mark.parametrize("count", [0, 4])
def test_a_count_that_is_no_number_of_experts_is_refused(count):
    for key in (None, jax.random.split(jax.random.key(0), 2)):
        with pytest.raises(ValueError, match="count must be from 1 to the 3 experts"):
            noisy_top_k_gates(LOGITS, NOISE_LOGITS, key=key, count=count)


def test_masked_examples_of_the_balance_are_as_if_removed(rng):
    gates, load = (jnp.asarray(rng.random((5, 3)), jnp.float32) for _ in range(2))
    where = jnp.array([True, False, True, True, False])
    loss = lambda g, w: load_balance_loss(g, jnp.where(w[:, None], load, jnp.nan), where=w)
    value, gradient = jax.value_and_grad(loss)(jnp.where(where[:, None], gates, jnp.nan), where)
    np.testing.assert_allclose(value, load_balance_loss(gates[where], load[where]), rtol=1e-6)
    assert np.isfinite(gradient).all()
    value, gradient = jax.value_and_grad(loss)(gates, jnp.zeros(5, bool))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_read_and_never_accumulated_in(dtype):
    half = top_k_gates(*(x.astype(dtype) for x in (LOGITS, NOISE_LOGITS, NOISE)), count=2)
    full = top_k_gates(LOGITS, NOISE_LOGITS, NOISE, count=2)
    for ours, theirs in zip(half, full, strict=True):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)  # these numbers are exact in half
    ones = jnp.ones((5000, 2), dtype)
    assert load_balance_loss(ones, ones).dtype == jnp.float32
    assert load_balance_loss(ones, ones) == 0


def test_a_sweep_over_the_least_noise_compiles_once():
    top_k_gates.clear_cache()  # another test may have compiled this shape
    for epsilon in (0.013, 0.17, 0.5):
        top_k_gates(
            LOGITS[:, :2], NOISE_LOGITS[:, :2], NOISE[:, :2], count=1, noise_epsilon=epsilon
        )
    assert top_k_gates._cache_size() == 1


def test_a_batch_of_batches_is_mapped_over(rng):
    inputs = [jnp.asarray(rng.normal(size=(2, 3, 4)), jnp.float32) for _ in range(3)]
    mapped = jax.vmap(lambda *x: top_k_gates(*x, count=2))(*inputs)
    for i in range(2):
        alone = top_k_gates(*(x[i] for x in inputs), count=2)
        np.testing.assert_allclose(mapped.gates[i], alone.gates, rtol=1e-5)
        np.testing.assert_allclose(mapped.load[i], alone.load, rtol=1e-5, atol=1e-6)


# --- several devices ----------------------------------------------------------------------------


def gate_gradient(weights, batch, axis_name):
    """The training idiom: loss and gradient on each device, averaged over all."""

    def loss(weights):
        features, where, keys = batch
        logits, noise_logits = (features @ w for w in weights)
        gates = noisy_top_k_gates(logits, noise_logits, key=keys, count=2)
        return load_balance_loss(*gates, where=where, axis_name=axis_name)

    result = jax.value_and_grad(loss)(weights)
    return result if axis_name is None else jax.lax.pmean(result, axis_name)


@pytest.mark.parametrize("devices", [8])
@pytest.mark.parametrize("engine", ["shard_map", "pmap"])
def test_balance_and_its_gradient_are_those_of_one_device(engine, devices, rng):
    weights = jnp.asarray(rng.normal(size=(2, 6, 4)), jnp.float32)
    features = jnp.asarray(rng.normal(size=(16, 6)), jnp.float32)
    batch = (features, jnp.arange(16) < 11, jax.random.split(jax.random.key(0), 16))
    expected = gate_gradient(weights, batch, None)
    assert np.abs(expected[1]).max() > 1e-2
    function = functools.partial(gate_gradient, axis_name="device")
    if engine == "pmap":
        split = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)
        mapped = jax.pmap(
            function, "device", in_axes=(None, 0), devices=jax.devices()[:devices], out_axes=None
        )
        result = mapped(weights, split)
    else:
        mesh = Mesh(np.array(jax.devices()[:devices]), ("device",), axis_types=(AxisType.Auto,))
        specs = {"in_specs": (P(), P("device")), "out_specs": P(), "check_vma": False}
        result = jax.jit(jax.shard_map(function, mesh=mesh, **specs))(weights, batch)
    result = jax.block_until_ready(result)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), result, expected
    )
