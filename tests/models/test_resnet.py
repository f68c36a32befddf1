"""The residual network against loops, and its statistics over masks and devices."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from unirep_jax.models.resnet import BatchNorm, ResNet
from unirep_jax.train.parallel import AXIS, make_engine

TINY = {"stages": (1, 1), "width": 4}


def evaluate(model):
    """Tokens and masks of a batch by the running statistics."""
    return jax.jit(jax.vmap(partial(model.apply, train=False), (None, 0, 0)))


def train(model):
    """The module's output for a batch by its own statistics, and the statistics updated."""

    def one(variables, x, present):
        return model.apply(variables, x, present, train=True, mutable=["batch_stats"])

    return jax.vmap(one, (None, 0, 0), (0, None), axis_name="example")


def everyone(x):
    return jnp.ones(x.shape[0], bool)


def randomize(tree, rng):
    """Kernels of unit gain; scales, biases and statistics around 1, so that none is trivial."""

    def draw(x):
        if x.ndim == 4:
            return jnp.asarray(rng.normal(size=x.shape) / np.prod(x.shape[:3]) ** 0.5, x.dtype)
        return jnp.asarray(rng.uniform(0.5, 1.5, x.shape), x.dtype)

    return jax.tree.map(draw, tree)


def tiny(rng, shape=(6, 12, 10, 2), **fields):
    x = jnp.asarray(rng.normal(size=shape), jnp.float32)
    model = ResNet(**TINY | fields)
    start = partial(model.init, train=False)
    start = jax.eval_shape(start, jax.random.key(0), x[0], jnp.bool_(True))
    variables = randomize(start, rng)
    return model, variables, x


# -- the network -----------------------------------------------------------------------------------


def test_resnet34_has_the_published_number_of_parameters_and_49_tokens():
    x = jax.ShapeDtypeStruct((224, 224, 3), jnp.float32)
    present = jax.ShapeDtypeStruct((), bool)
    model = partial(ResNet().init_with_output, train=False)
    (tokens, mask), variables = jax.eval_shape(model, jax.random.key(0), x, present)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert count == 21_284_672
    assert tokens.shape == (49, 512) and mask.shape == (49,)


@pytest.mark.parametrize(
    ("shape", "small", "tokens"),
    [
        ((28, 28, 1), None, 16),  # digits: full resolution until the second stage
        ((64, 64, 3), None, 64),
        ((28, 28, 1), False, 1),
        ((96, 96, 3), None, 9),
        ((96, 96, 3), True, 144),
        ((257, 188, 1), None, 54),  # a log spectrogram of three seconds
        ((3, 64, 64, 1), None, 3 * 64),  # three frames
    ],
)
def test_positions_follow_the_size_of_the_input(shape, small, tokens):
    model = partial(ResNet(small_inputs=small, width=2).init_with_output, train=False)
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    (out, mask), _ = jax.eval_shape(model, jax.random.key(0), x, jax.ShapeDtypeStruct((), bool))
    assert out.shape == (tokens, 16) and mask.shape == (tokens,)


def convolution(x, kernel, stride):
    """Cross-correlation of [batch, height, width, channel] padded by half a kernel, in loops."""
    size = kernel.shape[0]
    margin = size // 2
    x = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    rows, columns = ((n - size) // stride + 1 for n in x.shape[1:3])
    out = np.zeros((x.shape[0], rows, columns, kernel.shape[-1]))
    for r in range(rows):
        for c in range(columns):
            patch = x[:, r * stride : r * stride + size, c * stride : c * stride + size]
            out[:, r, c] = np.einsum("bhwc,hwco->bo", patch, kernel)
    return out


def pool(x):
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    rows, columns = ((n - 3) // 2 + 1 for n in x.shape[1:3])
    return np.stack(
        [
            np.stack(
                [x[:, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3].max((1, 2)) for c in range(columns)], 1
            )
            for r in range(rows)
        ],
        1,
    )


def normalize(x, params, stats):
    centred = (x - stats["mean"]) / np.sqrt(stats["variance"] + 1e-5)
    return centred * params["scale"] + params["bias"]


@pytest.mark.parametrize("small", [True, False])
def test_it_is_the_network_written_in_loops(small, rng):
    model, variables, x = tiny(rng, (2, 13, 18, 2), small_inputs=small)
    tokens, _ = evaluate(model)(variables, x, everyone(x))

    to_double = lambda tree: jax.tree.map(lambda a: np.asarray(a, np.float64), tree)
    params, stats = to_double(variables["params"]), to_double(variables["batch_stats"])
    y = convolution(np.asarray(x, np.float64), params["Conv_0"]["kernel"], 1 if small else 2)
    y = np.maximum(normalize(y, params["BatchNorm_0"], stats["BatchNorm_0"]), 0)
    y = y if small else pool(y)
    for block, stride in (("BasicBlock_0", 1), ("BasicBlock_1", 2)):
        p, s = params[block], stats[block]
        layer = lambda h, i, by, p=p, s=s: normalize(
            convolution(h, p[f"Conv_{i}"]["kernel"], by), p[f"BatchNorm_{i}"], s[f"BatchNorm_{i}"]
        )
        main = layer(np.maximum(layer(y, 0, stride), 0), 1, 1)
        y = np.maximum(main + (layer(y, 2, stride) if stride == 2 else y), 0)
    expected = y.reshape(2, -1, 8)
    np.testing.assert_allclose(tokens, expected, rtol=1e-5, atol=1e-5 * expected.max())


def test_frames_of_a_video_are_images_of_their_own(rng):
    model, variables, x = tiny(rng, (3, 2, 8, 8, 1))
    apply = partial(evaluate(model), variables)
    tokens, mask = apply(x, jnp.array([True, False, True]))
    frames = jnp.concatenate([apply(x[:, i], everyone(x))[0] for i in range(2)], axis=1)
    np.testing.assert_allclose(tokens[::2], frames[::2], atol=1e-6)
    np.testing.assert_array_equal(mask.all(1), [True, False, True])
    np.testing.assert_array_equal(mask.any(1), [True, False, True])


def test_half_precision_convolutions_leave_parameters_and_statistics_in_single(rng):
    model, variables, x = tiny(rng)
    half = ResNet(**TINY, dtype=jnp.bfloat16)
    (tokens, _), updated = jax.jit(train(half))(variables, x, everyone(x))
    (expected, _), _ = jax.jit(train(model))(variables, x, everyone(x))
    assert {leaf.dtype for leaf in jax.tree.leaves([variables, updated])} == {jnp.dtype("float32")}
    assert tokens.dtype == jnp.float32
    error = jnp.linalg.norm(tokens - expected) / jnp.linalg.norm(expected)
    assert 0 < error < 0.03


def test_evaluation_looks_at_one_example_at_a_time(rng):
    model, variables, x = tiny(rng)
    apply = partial(evaluate(model), variables)
    together, _ = apply(x, everyone(x))
    np.testing.assert_allclose(apply(x[:1], everyone(x[:1]))[0], together[:1], rtol=1e-5)


# -- statistics ------------------------------------------------------------------------------------


def test_moments_are_those_of_the_examples_that_count(rng):
    x = rng.normal(3.0, 2.0, size=(7, 2, 1, 3, 4)).astype(np.float32)  # two frames each
    where = np.array([1, 0, 1, 1, 0, 1, 1], bool)
    norm = BatchNorm()
    start = norm.init(jax.random.key(0), x[0], where[0], train=False)
    variables = randomize(start, rng)
    y, updated = train(norm)(variables, x, where)

    kept = x[where].astype(np.float64).reshape(-1, 4)
    params, stats = jax.tree.map(np.asarray, (variables["params"], variables["batch_stats"]))
    expected = (x - kept.mean(0)) / np.sqrt(kept.var(0) + 1e-5) * params["scale"] + params["bias"]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    new = updated["batch_stats"]
    np.testing.assert_allclose(new["mean"], 0.9 * stats["mean"] + 0.1 * kept.mean(0), rtol=1e-5)
    np.testing.assert_allclose(
        new["variance"], 0.9 * stats["variance"] + 0.1 * kept.var(0), rtol=1e-5
    )


def test_gradients_of_the_normalisation_are_those_of_finite_differences(x64, rng):
    x = jnp.asarray(rng.normal(size=(3, 1, 2, 1, 2)))
    where = jnp.array([True, False, True])
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), x[0], where[0], train=False)

    def value(params, x):
        y, _ = train(norm)(variables | {"params": params}, x, where)
        return jnp.sum(jnp.sin(y))

    check_grads(value, (randomize(variables["params"], rng), x), order=1, modes=["rev"])


def objective(model, variables, x, present):
    """A loss whose mean over devices is that of the batch, its gradient, and the statistics."""

    def loss(params):
        (tokens, mask), updated = train(model)(variables | {"params": params}, x, present)
        return jnp.mean(jnp.where(mask[..., None], jnp.sin(tokens), 0)), updated["batch_stats"]

    (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    return value, gradient, stats


@pytest.mark.parametrize("parallel", ["shard_map", "pmap"])
def test_eight_devices_give_the_loss_gradient_and_statistics_of_one(parallel, rng):
    # The first device has no example that counts.
    present = np.arange(16) % 3 > 0
    present[:2] = False
    model, variables, x = tiny(rng, (16, 6, 6, 1), axes=("example", AXIS))
    value, gradient, stats = jax.jit(partial(objective, ResNet(**TINY)))(variables, x, present)

    def step(variables, batch):
        value, gradient, stats = objective(model, variables, batch["x"], batch["present"])
        value, gradient = jax.lax.pmean((value, gradient), AXIS)
        return {"params": gradient, "batch_stats": stats}, value

    engine = make_engine(step, parallel=parallel)
    assert engine.devices == 8
    batch = engine.place_batch({"x": np.asarray(x), "present": present})
    result, value8 = jax.block_until_ready(engine.step(engine.place_state(variables), batch))
    np.testing.assert_allclose(value8, value, rtol=1e-5)
    result = jax.tree.map(np.asarray, engine.fetch_state(result))
    chex.assert_trees_all_close(result["batch_stats"], stats, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(result["params"], gradient, rtol=1e-3, atol=1e-6)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(gradient)) > 1e-3


def test_what_an_absent_example_holds_does_not_matter(rng):
    model, variables, x = tiny(rng)
    present = jnp.array([True, False, True, True, False, True])
    spoiled = jnp.where(present[:, None, None, None], x, jnp.nan)
    run = jax.jit(partial(objective, model))
    expected = run(variables, x, present)
    chex.assert_tree_all_finite(expected)
    chex.assert_trees_all_equal(run(variables, spoiled, present), expected)


def test_a_batch_without_examples_keeps_the_statistics_and_stays_finite(rng):
    model, variables, x = tiny(rng)
    run = jax.jit(partial(objective, model))
    value, gradient, stats = run(variables, x, jnp.zeros(6, bool))
    chex.assert_tree_all_finite((value, gradient))
    chex.assert_trees_all_equal(stats, variables["batch_stats"])
