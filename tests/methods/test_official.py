"""MICU as its authors' code optimises it: the same terms, gradients and ten steps as in PyTorch."""

import dataclasses
import importlib.util
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conformance import assert_devices_agree
from official_names import as_torch, leaves

from unirep_jax import losses
from unirep_jax.data.published_shapes import SHAPES
from unirep_jax.methods import MICU
from unirep_jax.methods.batch import example_keys
from unirep_jax.methods.micu import STEP_DRAW
from unirep_jax.models.published import clipped_part
from unirep_jax.models.published_weights import released_tensors, start_from
from unirep_jax.models.released_weights import load_weights
from unirep_jax.train.optimizer import clip_parts, make_optimizer
from unirep_jax.train.step import TrainState, train_step

TORCH = importlib.util.find_spec("torch") is not None
SIZE = {
    "dim": 16,
    "heads": 2,
    "layers": 2,
    "permutations": 2,
    "steps": 10,
    "audio": 6,
    "video": 8,
    "text": 5,
}
TIME, BATCH, CODES = 4, 6, 9
METHOD = dataclasses.replace(MICU.official(), dim=16, heads=2, codes=CODES, dropout=0.0, time=TIME)
TINY = {"audio": (TIME, 6), "text": (TIME, 5), "video": (TIME, 7, 7, 8)}


def test_the_published_network_has_the_authors_numbers_of_parameters():
    method = MICU.official().for_data(SHAPES, 0)
    params, _ = jax.eval_shape(lambda k: method.init(k, SHAPES, {}), jax.random.key(0))
    count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
    network = params["network"]
    assert count(network["decoders_video"]) == 36_768_000
    # Less the part of the published encoder that only DCID's bound reads.
    assert count(network["specifics_video"]) == 72_358_400 - (2048 * 1024 + 1024 + 1024 * 512 + 512)
    assert count(network["words"]) == 1_314_816
    assert count(network["encoders_video"]["AttentionPool_0"]) == 328_449
    assert count(network["decoders_audio"]) == 131_456
    assert count(network["decoders_text"]) == 197_120
    assert count(network["specifics_audio"]) == 33_024
    assert count(network["specifics_text"]) == 65_792
    assert count(params["jigsaw"]) == 132_610


@pytest.fixture(scope="module")
def start():
    """Parameters and codebook before the first step, a codebook that is used, and batches."""
    params, state = METHOD.init(jax.random.key(3), TINY, {})
    rng = np.random.default_rng(0)
    codebook = state["codebook"]
    codes = jnp.asarray(rng.normal(size=(CODES, 16)), jnp.float32)
    state["codebook"] = codebook._replace(codebook=codes, weight=jnp.array(codes))
    features = [
        {m: rng.normal(size=(BATCH, *shape)).astype(np.float32) for m, shape in TINY.items()}
        for _ in range(SIZE["steps"])
    ]
    present = {m: np.ones(BATCH, bool) for m in TINY}
    return params, state, [{"features": x, "present": present} for x in features]


def drawn(step):
    """Mask and draw of a step, as the method makes them of the key."""
    key = jax.random.fold_in(jax.random.key(np.uint32(0)), step + 1)
    purposes = ("augment", "dropout", "mask", "jigsaw")
    keys = example_keys(key, BATCH, purposes, None)["mask"]
    mask = METHOD._mask(keys, jnp.zeros((3, BATCH, TIME, 16)))[0]
    draw = jax.random.randint(jax.random.fold_in(key, STEP_DRAW), (METHOD.pieces,), 0, 3)
    return np.asarray(mask, np.float64), np.asarray(draw)


@pytest.mark.skipif(not TORCH, reason="PyTorch is not installed")
def test_terms_gradients_and_ten_steps_are_those_of_pytorch(start, tmp_path, standard_promotion):
    params, state, batches = start
    ranks = losses.sample_ranks(0, METHOD.permutations, METHOD.pieces)
    content = {f"size/{name}": value for name, value in SIZE.items()}
    content |= {f"p/{name}": x for name, x in as_torch(params, SIZE).items()}
    content["codebook"] = np.float64(state["codebook"].codebook)
    content["orders"] = np.asarray(losses.permutations_from_ranks(ranks, METHOD.pieces))
    for step, batch in enumerate(batches):
        content |= {f"{m}/{step}": np.float64(x) for m, x in batch["features"].items()}
        content[f"mask/{step}"], content[f"draw/{step}"] = drawn(step)
    np.savez(tmp_path / "start.npz", **content)
    script = Path(__file__).with_name("official_torch.py")
    result = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr
    after = np.load(tmp_path / "after.npz")
    assert {int(after[f"term/{s}/fine"] > 0) for s in range(10)} == {1}

    optimizer = make_optimizer(
        steps=10,
        lr=4e-4,
        schedule="constant",
        warmup=0,
        weight_decay=0.0,
        clip=0.5,
        part_of=METHOD.part_of,
    )
    now = TrainState(jnp.int32(0), jnp.uint32(0), params, optimizer.init(params), state)
    key = jax.random.fold_in(jax.random.key(now.seed), 1)
    with jax.default_matmul_precision("highest"):
        gradient, _ = jax.jit(jax.grad(METHOD.loss, has_aux=True))(
            params, state, batches[0], key=key
        )
        step = jax.jit(partial(train_step, method=METHOD, optimizer=optimizer, axis_name=None))
        for number, batch in enumerate(batches):
            now, metrics = step(now, batch)
            for name in ("fine", "coarse", "jigsaw", "reconstruction", "commitment"):
                expected = after[f"term/{number}/{name}"]
                np.testing.assert_allclose(
                    metrics[name], expected, rtol=1e-4, err_msg=f"{name} of step {number}"
                )
    for name, ours in as_torch(gradient, SIZE).items():
        theirs = after[f"g/{name}"]
        np.testing.assert_allclose(
            ours, theirs, atol=1e-4 * np.abs(theirs).max() + 1e-7, err_msg=name
        )
    for name, ours in as_torch(now.params, SIZE).items():
        theirs, before = after[f"p/{name}"], content[f"p/{name}"]
        np.testing.assert_allclose(ours, theirs, atol=1e-4, err_msg=name)
        assert np.abs(theirs - before).max() > 1e-4, f"{name} has moved"
    np.testing.assert_allclose(now.state["codebook"].codebook, after["codebook"], rtol=1e-4)


def test_every_part_is_clipped_by_its_own_norm_and_the_classifier_not_at_all(start):
    params, _, _ = start
    gradient = jax.tree.map(jnp.ones_like, params)
    clipped, _ = clip_parts(0.5, clipped_part).update(gradient, None)
    squares = {}
    for path, x in leaves(clipped).items():
        part = clipped_part(tuple(path.split("/")))
        squares[part] = squares.get(part, 0.0) + float((x**2).sum())
    assert {*squares} == {"lstm", "encoder", "decoder", ""}
    for part in ("lstm", "encoder", "decoder"):
        np.testing.assert_allclose(squares[part] ** 0.5, 0.5, rtol=1e-5)
    assert squares[""] > 100


def test_a_part_whose_gradient_is_shorter_than_the_clip_is_left_as_it_is():
    gradient = {"a": jnp.array([0.3, 0.0]), "b": jnp.array([3.0, 4.0])}
    clipped, _ = clip_parts(0.5, lambda path: path[0]).update(gradient, None)
    np.testing.assert_array_equal(clipped["a"], gradient["a"])
    np.testing.assert_allclose(clipped["b"], [0.3, 0.4], rtol=1e-5)


def test_features_are_read_as_they_are_and_two_passes_move_the_codebook_twice(start):
    params, state, batches = start
    twice = {m: 2 * x for m, x in batches[0]["features"].items()}
    assert METHOD.inputs(twice, state)["audio"] is not None
    np.testing.assert_array_equal(METHOD.inputs(twice, state)["audio"], twice["audio"])
    _, (after, _) = jax.jit(METHOD.loss)(params, state, batches[0], key=jax.random.key(0))
    assert set(np.asarray(after["codebook"].age)) <= {0, 1}, "from −1, two updates"
    total = float(after["codebook"].count.sum())
    # Six moving averages of a step's tokens from none: tokens · (1 − 0.99⁶).
    np.testing.assert_allclose(total, BATCH * TIME * (1 - 0.99**6), rtol=1e-4)


def test_the_fresh_network_is_drawn_by_the_rules_of_pytorch():
    params, _ = METHOD.init(jax.random.key(0), TINY, {})
    network = params["network"]
    first, second = (network["encoders_audio"][f"TransformerBlock_{i}"] for i in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    for place, inputs in (("Dense_0", 6), ("TransformerBlock_0/Dense_1", 64)):
        layer = network["encoders_audio"]
        for name in place.split("/"):
            layer = layer[name]
        for x in layer.values():
            assert np.abs(x).max() <= inputs**-0.5 and np.abs(x).max() > 0.6 * inputs**-0.5
    assert not np.asarray(first["MultiHeadDotProductAttention_0"]["query"]["bias"]).any()
    bound = (9 * 16) ** -0.5  # 3 × 3 positions, 16 outputs
    assert (
        0.9 * bound < np.abs(network["decoders_video"]["ConvTranspose_0"]["kernel"]).max() < bound
    )


def test_dead_codes_restart_on_codes_in_use_and_the_next_update_takes_it_back():
    method = METHOD
    params, state = method.init(jax.random.key(3), TINY, {})
    far = jnp.full((CODES, 16), 1e3).at[0].set(0)
    state["codebook"] = state["codebook"]._replace(
        codebook=far, weight=far, age=jnp.full(CODES, 300, jnp.int32)
    )
    rng = np.random.default_rng(0)
    z = {m: rng.normal(size=(BATCH, *shape)).astype(np.float32) for m, shape in TINY.items()}
    batch = {"features": z, "present": {m: np.ones(BATCH, bool) for m in TINY}}
    encoded = method.encode(params, state, batch, jax.random.key(0), None)
    moved, _ = method.next_state(state, encoded, jax.random.key(0), None)
    codes = np.asarray(moved["codebook"].codebook)
    np.testing.assert_allclose(codes[1:], np.broadcast_to(codes[0] - 1 / 1024, codes[1:].shape))
    assert not np.asarray(moved["codebook"].age).any()
    again, _ = method.next_state(moved, encoded, jax.random.key(0), None)
    assert np.abs(np.asarray(again["codebook"].codebook)[1:]).max() > 10


def test_weights_go_out_under_the_authors_names_and_come_back(tmp_path):
    from safetensors.numpy import save_file

    method = MICU.official().for_data(SHAPES, 0)
    shapes = jax.eval_shape(lambda k: method.init(k, SHAPES, {}), jax.random.key(0))[0]["network"]
    rng = np.random.default_rng(0)
    names = ("encoders_audio", "encoders_text", "encoders_video", "words")
    network = jax.tree.map(
        lambda x: rng.normal(size=x.shape).astype(np.float32), {n: shapes[n] for n in names}
    )
    codebook = method.init_codebook(jax.random.key(1))
    save_file(released_tensors(network, codebook), tmp_path / "made.safetensors")
    back, codes = start_from(str(tmp_path / "made.safetensors"), network)
    for layer in network["words"].values():  # of two biases their sum goes through
        layer["bias"] = layer["bias"] + layer["recurrent_bias"]
        layer["recurrent_bias"] = np.zeros_like(layer["bias"])
    jax.tree.map(np.testing.assert_array_equal, back, network)
    jax.tree.map(np.testing.assert_array_equal, codes._asdict(), codebook._asdict())
    read = load_weights(tmp_path / "made.safetensors").params["video"]["Encoder_0"]
    np.testing.assert_array_equal(
        read["Dense_0"]["kernel"], network["encoders_video"]["Dense_0"]["kernel"]
    )
    with pytest.raises(ValueError, match="lacks"):
        released_tensors({"encoders_audio": network["encoders_audio"]}, codebook)


@pytest.mark.parametrize(
    ("settings", "shapes", "message"),
    [
        ({}, {"video": (4, 3, 3, 8)}, "5 × 5"),
        ({"weights": "x.safetensors", "dim": 128}, SHAPES, "dim=128"),
        ({"weights": "x.safetensors"}, {"audio": (10, 64)}, r"audio \[10, 64\]"),
    ],
)
def test_what_a_published_network_cannot_read_is_refused(settings, shapes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(MICU.official(), **settings).for_data(shapes, 0)
    with pytest.raises(ValueError, match="published"):
        MICU(weights="x.safetensors")


def test_two_devices_give_the_losses_gradients_and_codebook_of_one(start):
    params, state, batches = start
    kept = state | {"statistics": {}}
    made = TrainState(jnp.int32(0), jnp.uint32(0), params, (), kept)
    assert_devices_agree(
        METHOD,
        made,
        batches[0],
        parallel="shard_map",
        counts=(2,),
        metrics_rtol=1e-4,
        state_rtol=1e-3,
    )
